"""A prompt's trunk, computed once and kept as a cache with its gradient, for branches that are computed behind it."""
