"""Handing a model on: its card, a plain checkpoint, an upload to the hub."""
