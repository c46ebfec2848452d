"""Read rows and pictures from files, published layouts and the hub, and return samples."""
