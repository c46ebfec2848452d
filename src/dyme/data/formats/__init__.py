"""Readers of the file formats of rows."""
