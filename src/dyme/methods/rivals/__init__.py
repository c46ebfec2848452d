"""Rivals: other ways to mix imitation and exploration, each from its paper, and the rules of DyME's Table 1b."""
