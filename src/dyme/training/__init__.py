"""The training loop and its parts: draw, schedule, update, loss, checkpoints, and what is checked before."""
