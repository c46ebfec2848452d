"""Visual supervision (paper, section 3.3): facts of images, graded explorations, written targets, and how far to trust who does it."""
