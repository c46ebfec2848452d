"""The reference of the KL term (Eq. 1): the policy as it was at the start of a stage.

It keeps a copy of the weights that train; the frozen weights, such as a LoRA run's base, are the policy's own.
"""

from __future__ import annotations

import torch

from dyme.model.tree import TreeBatch
from dyme.training.placement.placement import Placement


class Reference:
    """Scores batches as the policy did when the reference was made, without a gradient and without changing the policy."""

    def __init__(self, placement: Placement) -> None:
        self.placement, self.weights = placement, placement.copied()

    @torch.no_grad()
    def __call__(self, batch: TreeBatch, temperature: float = 1.0) -> torch.Tensor:
        """Return the log-probabilities [N] of a batch's target tokens, as `Policy.forward` does; call it before the policy's own pass."""
        policy = self.placement.policy
        training = policy.training
        policy.eval()
        try:
            return self.placement.score(self.weights, batch, temperature)
        finally:
            policy.train(training)
