"""A model asked the items of a split: items, their metrics with intervals, and what these mean for a method."""
