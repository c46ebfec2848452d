"""How values are written: numerals, words, scales, units, LaTeX, expressions; what the kinds of answer read with."""
