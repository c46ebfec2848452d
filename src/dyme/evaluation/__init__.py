"""Evaluation of a model on the items of a split: items, their metrics with intervals, and advice for each method."""
