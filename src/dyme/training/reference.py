"""The reference of the KL term (Eq. 1): the policy as it was at the start of a stage.

It keeps a copy of the weights that train; the frozen weights, such as a LoRA run's base, are the policy's own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from dyme.model.policy import Policy
from dyme.model.tree import TreeBatch


class Reference:
    """Scores batches as the policy did when the reference was made, without a gradient and without changing the policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.weights = {name: weight.detach().clone() for name, weight in policy.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def __call__(self, batch: TreeBatch, temperature: float = 1.0) -> torch.Tensor:
        """Return the log-probabilities [N] of a batch's target tokens, as `Policy.forward` does."""
        training = self.policy.training
        self.policy.eval()
        try:
            scored: torch.Tensor = functional_call(self.policy, self.weights, (batch, temperature))
        finally:
            self.policy.train(training)
        return scored

    def save(self, file: Path) -> None:
        """Write the reference's weights to a file."""
        save_file(self.weights, file)

    def load(self, file: Path) -> None:
        """Read the reference's weights from a file that `save` wrote for the same policy."""
        device = next(iter(self.weights.values())).device
        self.weights = load_file(file, device=str(device))
