"""Controls: DyME with one part changed, to see whether that part is what helps. They take DyME's settings, so that they can have its
tuned ones."""
