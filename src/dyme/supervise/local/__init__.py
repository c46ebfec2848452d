"""Helpers without a model: they derive answers from facts, grade statements and write traces."""
