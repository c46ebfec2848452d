"""A method's state between steps: one value that JSON can hold, equal on all processes, saved in checkpoints.

The value goes through JSON after every step, so that a resumed run has the same state as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dyme.config import Config
from dyme.errors import ConfigError
from dyme.methods.method import Context, Method
from dyme.plugins import failure
from dyme.types import Group, Route


class MethodState:
    """A method in a run, with its state; the state is None for a method without one."""

    def __init__(self, method: Method[Any], config: Config) -> None:
        self.method = method
        self._context = method.context(config)
        first = method.first_state
        self._value = None if first is None else self._held(first, "first_state", lambda: first(self._context.settings))

    def context(self, step: int, progress: float) -> Context[Any]:
        """Return the method's context at a step, with its state."""
        return replace(self._context, step=step, progress=progress, state=self._value)

    def learn(self, everyone: Sequence[tuple[Group, Route]], context: Context[Any]) -> None:
        """Update the state by a step's groups and routes over all processes, and the context in which they were routed."""
        following = self.method.next_state
        if following is not None:
            groups, routes, own = [g for g, _ in everyone], [r for _, r in everyone], replace(context, state=self._value)
            self._value = self._held(following, "next_state", lambda: following(groups, routes, own))

    def state(self) -> Any:
        """Return the state, for a checkpoint."""
        return self._value

    def restore(self, value: Any) -> None:
        """Restore the state from a checkpoint."""
        self._value = value

    def _held(self, function: Any, name: str, work: Callable[[], Any]) -> Any:
        """Return the result of `work`, passed through JSON; raises ConfigError if that fails."""
        try:
            value = work()
        except Exception as error:
            raise ConfigError(f"method {self.method.name}, {name}: {failure(error, function)}") from error
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"method {self.method.name}, {name}: returned what JSON cannot hold ({error}); keep numbers, text, lists"
            ) from error
