"""What a piece of work asks of the device, counted on the CPU: looks at its numbers, kernels, results as large as the vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


class Counts(TorchDispatchMode):
    """Counts by operator; a view is no kernel, and what is written in place is no result."""

    def __init__(self, vocabulary: int = 0) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.looks, self.kernels, self.full = Counter[str](), Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if func in _INDEXED:  # by numbers it waits for nothing; by truth values the host must know how many are true
            self.looks[name] += any(index is not None and index.dtype == torch.bool for index in args[1])
        elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.looks[name] += 1
        if not func.is_view:
            self.kernels[name] += 1
            given = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
            for result in out if isinstance(out, (tuple, list)) else (out,):
                large = isinstance(result, torch.Tensor) and result.ndim and result.shape[-1] == self.vocabulary
                self.full[name] += bool(large and result.untyped_storage().data_ptr() not in given)
        return out


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch, vocabulary: int = 0) -> Iterator[Counts]:
    """Count inside; lists and numbers made of tensors, which the dispatcher does not see, are looks too."""
    counts = Counts(vocabulary)

    def counted(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: torch.Tensor, *given: Any) -> Any:
            counts.looks[name] += 1
            return own(self, *given)

        return read

    with monkeypatch.context() as patch, counts:
        for name in ("tolist", "numpy"):
            patch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
        yield counts
