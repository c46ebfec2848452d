"""TRL's reward functions, f(prompts, completions, **columns) -> one number or None for each completion, asked once a step for all of them.

As in TRL, a reward of None is left out of its completion's sum, and a completion without any reward is left out of its group. One of the
rewards decides which completions are correct, and so the switch.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from accelerate.utils import gather_object

from dyme.errors import ConfigError, DataError, quoted
from dyme.plugins import failure
from dyme.types import Group, Verdict

Row = Callable[[Any], dict[str, Any]]
UNKNOWN = "the reward that decides what is correct gave no value"


class Rewards:
    """The reward functions of a trainer, their weights, and the one that decides."""

    def __init__(self, functions: Any, weights: Sequence[float] | None, correct: Any, threshold: float) -> None:
        """Take one function or several. Raises ConfigError for no function, a wrong number of weights, or an unknown decider."""
        self.functions = list(functions) if isinstance(functions, list | tuple) else [] if functions is None else [functions]
        if not self.functions:
            raise ConfigError("reward_funcs: give at least one function (prompts, completions, **columns) -> list of numbers")
        for function in self.functions:
            if not callable(function):
                raise ConfigError(f"reward_funcs: {quoted(function)} is no function")
        self.names = _names(self.functions)
        self.weights = [1.0] * len(self.functions) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(self.functions):
            raise ConfigError(f"GRPOConfig.reward_weights has {len(self.weights)} numbers for {len(self.functions)} reward functions")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or math.isnan(threshold):
            raise ConfigError(f"threshold: {quoted(threshold)} is no number")
        self.threshold, self.decider, self.extra = threshold, *self._decider(correct)
        self.logged: dict[str, list[float]] = defaultdict(list)
        """What functions gave to `log_metric` in a step."""

    @property
    def decider_name(self) -> str:
        """Return the name of the reward that decides."""
        return _names([self.extra])[0] if self.extra else self.names[self.decider]

    def _decider(self, correct: Any) -> tuple[int, Callable[..., Any] | None]:
        """Return the index of the reward that decides, or a function that is not one of the rewards."""
        if correct is None:
            return 0, None
        if isinstance(correct, bool) or not (isinstance(correct, int | str) or callable(correct)):
            raise ConfigError(f"correct: {quoted(correct)} names no reward; give a function, or the place or name of one of reward_funcs")
        if isinstance(correct, int) and 0 <= correct < len(self.functions):
            return correct, None
        if isinstance(correct, str) and correct in self.names:
            return self.names.index(correct), None
        if callable(correct):
            place = next((k for k, function in enumerate(self.functions) if function is correct), None)
            return (0, correct) if place is None else (place, None)
        raise ConfigError(f"correct: there is no reward {correct!r}; choose from {', '.join(self.names)}, or give a function")

    def ask(self, groups: Sequence[Group], row: Row, decode: Callable[[Sequence[int]], str], state: Any) -> list[Group]:
        """Return the groups with verdicts: each reward, their weighted sum, and whether the completion is correct.

        `row` gives a sample's prompt and columns, `decode` a completion's text from its tokens.
        """
        if not groups:
            return []
        given = self._arguments(groups, row, decode, state)
        asked = [*self.functions, *([self.extra] if self.extra else [])]
        values = self._values(asked, given, len(given["completions"]))
        decides = values[-1] if self.extra else values[self.decider]
        needed = any(group.sample.rationale for group in groups)  # without one, nothing depends on it
        verdicts = []
        for k, text in enumerate(completion.text for group in groups for completion in group.completions):
            own = {name: column[k] for name, column in zip(self.names, values, strict=False)}
            known = {name: value for name, value in own.items() if value is not None}
            total = sum(weight * known[name] for name, weight in zip(self.names, self.weights, strict=True) if name in known)
            verdict = self._verdict(text, known, total if known else math.nan, decides[k])
            verdicts.append(replace(verdict, failed=needed and decides[k] is None))
        out, start = [], 0
        for group in groups:
            out.append(replace(group, verdicts=tuple(verdicts[start : start + len(group.completions)])))
            start += len(group.completions)
        return out

    def _verdict(self, text: str, rewards: dict[str, float], total: float, decides: float | None) -> Verdict:
        correct = decides is not None and decides >= self.threshold
        reason = "" if correct else UNKNOWN if decides is None else f"{self.decider_name} is {decides:g}"
        return Verdict(
            parsed=True, correct=correct, answer=text, thinking=text, rewards=rewards, reward=total, reason=reason,
            score=min(1.0, max(0.0, decides or 0.0)),
        )  # fmt: skip

    def _arguments(self, groups: Sequence[Group], row: Row, decode: Callable[[Sequence[int]], str], state: Any) -> dict[str, Any]:
        """Return the arguments that TRL passes to a reward function: prompts, completions, tokens, columns, and its three helpers."""
        pairs = [(group.sample, completion) for group in groups for completion in group.completions]
        rows = {group.sample.id: row(group.sample) for group in groups}
        texts = [decode((*completion.prefix_ids, *completion.token_ids)) for _, completion in pairs]
        talk = not isinstance(groups[0].sample.prompt, str)
        given: dict[str, Any] = {
            "prompts": [rows[sample.id]["prompt"] for sample, _ in pairs],
            "completions": [[{"role": "assistant", "content": text}] if talk else text for text in texts],
            "completion_ids": [list(completion.token_ids) for _, completion in pairs],
            "trainer_state": state,
            "log_extra": lambda column, values: None,
            "log_metric": lambda name, value: self.logged[name].append(float(value)),
        }
        kept = [name for name in rows[groups[0].sample.id] if name not in ("prompt", "completion", "completion_ids")]
        return given | {name: [rows[sample.id][name] for sample, _ in pairs] for name in kept}

    def _values(self, functions: Sequence[Any], given: dict[str, Any], count: int) -> list[list[float | None]]:
        """Return each function's values; async functions run together."""
        results = [self._call(function, given) for function in functions]
        waiting = [one for one in results if inspect.isawaitable(one)]

        async def finish() -> list[Any]:
            return await asyncio.gather(*waiting, return_exceptions=True)

        done = iter(_run(finish()) if waiting else [])
        out = []
        for function, result in zip(functions, results, strict=True):
            found = next(done) if inspect.isawaitable(result) else result
            if isinstance(found, BaseException):
                raise _told(function, found) from found
            out.append(_read(function, found, count))
        return out

    def _call(self, function: Any, given: dict[str, Any]) -> Any:
        try:
            return function(**given)
        except Exception as error:  # the user's code
            raise _told(function, error) from error

    def metrics(self) -> dict[str, float]:
        """Return means over all processes of the values given to `log_metric` since the last call."""
        everyone = gather_object([dict(self.logged)])
        self.logged.clear()
        names = sorted({name for one in everyone for name in one})
        values = {name: [value for one in everyone for value in one.get(name, [])] for name in names}
        return {name: sum(own) / len(own) for name, own in values.items()}


def _run(coroutine: Any) -> list[Any]:
    """Return the result of a coroutine, also if an event loop runs already, as in a notebook."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        found: list[Any] = thread.submit(asyncio.run, coroutine).result()
    return found


def _names(functions: Sequence[Any]) -> list[str]:
    """Return names of functions, as TRL logs them; a second function of the same name gets a number."""
    seen: dict[str, int] = defaultdict(int)
    out = []
    for function in functions:
        inner = getattr(function, "func", function)  # of a functools.partial
        name = str(getattr(inner, "__name__", type(inner).__name__))
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def _told(function: Any, error: BaseException) -> DataError:
    return DataError(f"reward {_names([function])[0]} failed: {failure(error, function)}")


def _read(function: Any, found: Any, count: int) -> list[float | None]:
    """Return a function's numbers, of any type, as floats; nan becomes None, as in TRL. Raises DataError for a value that is no number."""
    name = _names([function])[0]
    try:
        values = list(found)
    except TypeError as error:
        raise DataError(f"reward {name} returned {quoted(found)}; it must return a number or None for each completion") from error
    if len(values) != count:
        raise DataError(f"reward {name} returned {len(values)} values for {count} completions; it must return one for each")
    out: list[float | None] = []
    for value in values:
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"reward {name} returned {quoted(value)} for a completion; give a number or None") from error
        if number is not None and math.isinf(number):
            raise DataError(f"reward {name} returned {number} for a completion; give a finite number or None")
        out.append(None if number is None or math.isnan(number) else number)
    return out
