"""The interface between a run and the place of its weights: what an optimizer step, a rollout and a checkpoint ask of a placement.

All processes call the methods of a placement in the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import reduce

from dyme.model.policy import Policy
from dyme.model.tree import TreeBatch
from dyme.training.precision.masters import Masters

Build = Callable[[Sequence[torch.Tensor]], torch.optim.Optimizer]
"""Returns the optimizer of some weights."""
Sections = Mapping[str, Mapping[str, torch.Tensor]]
"""Tensors of a checkpoint by their names, in sections: "trained", the masters; "reference", the reference model's weights."""


class Placement(ABC):
    """The policy on the device, the masters of its weights that train, and their optimizer."""

    policy: Policy
    masters: Masters
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    about: str = ""
    """One line for the user on where the weights lie and what memory they take, if `train.shard` is set."""

    def whole(self) -> AbstractContextManager[None]:
        """Return a context in which each process may call any part of the policy, alone and as often as it likes, without gradients
        that are kept.
        """
        return nullcontext()

    @abstractmethod
    def gather_ends(self) -> None:
        """Make the weights outside the decoder's layers whole, up to the end of the next backward pass: the projector is called alone."""

    def backward(self, value: torch.Tensor) -> None:
        """Add the gradients of a micro-batch's loss, by this process's share of the step, to those so far."""
        torch.autograd.backward(value)

    @torch.no_grad()
    def collect(self, scale: float) -> None:
        """Give the masters the gradients, summed over all processes and divided by the `scale` of the loss.

        A weight that no process used has none, so that the optimizer does not move it.
        """
        masters, used = self.masters.weights, self._used()
        if self.accelerator.num_processes > 1:
            given = torch.tensor([int(name in used) for name in masters], device=self.accelerator.device)
            used = {name for name, processes in zip(masters, reduce(given, "sum").tolist(), strict=True) if processes}
        self._sum(used)
        if scale != 1.0:
            for master in masters.values():
                if master.grad is not None:
                    master.grad /= scale

    @abstractmethod
    def clip(self, limit: float) -> torch.Tensor:
        """Clip the masters' gradients to a norm of `limit`, and return the norm that they had, equal on all processes."""

    @abstractmethod
    def finite(self) -> bool:
        """Return whether all weights that train are finite, on all processes."""

    @abstractmethod
    def copied(self) -> dict[str, torch.Tensor]:
        """Return copies of the policy's weights that train, for `score`."""

    @abstractmethod
    def score(self, weights: Mapping[str, torch.Tensor], batch: TreeBatch, temperature: float) -> torch.Tensor:
        """Return what the policy would return for a batch if it had these weights; call it while no backward pass is pending."""

    @abstractmethod
    def written(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the policy's weights in `dtype` by their `state_dict` names, on the main process: in the type that it computes with, its
        own; else the masters.
        """

    @abstractmethod
    def save(self, folder: Path, sections: Sections) -> None:
        """Write sections of tensors, the optimizer's state and the state of random numbers to a folder; an error that stops a process
        while others wait for it is raised on all.
        """

    @abstractmethod
    def load(self, folder: Path, sections: Sections) -> None:
        """Read a folder that `save` wrote, into the tensors of `sections`; errors are raised as `save` raises them."""

    @abstractmethod
    def _used(self) -> set[str]:
        """Return the names of the masters' weights that had a gradient on this process since the last step."""

    @abstractmethod
    def _sum(self, used: set[str]) -> None:
        """Sum the gradients of the weights that were used on any process, and put them on the masters; the others get none."""


def tied(named: Mapping[str, Any], key: Callable[[Any], int], make: Callable[[Any], torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what `make` returns for each value, called once for all values of one `key`, so that tied weights stay tied."""
    made: dict[int, torch.Tensor] = {}
    for value in named.values():
        if key(value) not in made:
            made[key(value)] = make(value)
    return {name: made[key(value)] for name, value in named.items()}
