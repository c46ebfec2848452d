"""Readers of notation for the kinds of answer: numerals, words, scales, units, LaTeX, expressions."""
