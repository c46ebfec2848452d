"""Pictures on their way in: files, pictures within rows, and checked copies."""
