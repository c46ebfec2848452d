"""Rows and pictures on their way in: from files, published layouts and the hub to samples."""
