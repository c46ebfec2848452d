"""Publishing a model: its card, a plain checkpoint, an upload to the hub."""
