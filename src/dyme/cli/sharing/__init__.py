"""Commands that export or upload a model."""
