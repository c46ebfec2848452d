"""Statistics of paired comparisons over seeds and items."""
