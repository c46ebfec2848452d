"""The training loop and its parts: draw, schedule, update, loss, checkpoints, and the checks before training."""
