"""Commands that look at a model or a run."""
