"""Commands about rows, facts and checkers, before training."""
