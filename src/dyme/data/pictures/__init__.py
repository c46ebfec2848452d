"""Pictures of a data set: as files, within rows, and as checked copies."""
