"""A user's rewards, (completion, sample, verdict) -> float or None, sync or async: parts of Eq. 2's r, computed before the method decides.

A reward without a value for one completion of a group (None, or a failed call: an error, no finite number, no result in time) counts for
none of them, so that no completion gains or loses by it. The verifier alone decides correctness. Sync functions are
called in the main thread, one after another; async ones run together, in one event loop that lasts as long as the run. Values are taken in
the order of the completions, whenever they come.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from dyme import plugins
from dyme.config import RewardConfig
from dyme.errors import ConfigError, RunError
from dyme.types import NO_VALUE, Completion, Group, Sample, Verdict
from dyme.verify.calls import Failed, call, number, overdue
from dyme.verify.rules import weighted

Reward = Callable[[Completion, Sample, Verdict], float | None | Awaitable[float | None]]
_GRACE = 10.0
"""Seconds that an event loop may be late before it counts as blocked."""


def find_rewards(config: RewardConfig) -> dict[str, Reward]:
    """Return the user's rewards by name. Raises ConfigError if one cannot be found or called, and for weights without rewards."""
    if config.weights and not config.functions:
        raise ConfigError("reward.weights are those of reward.functions, and there are none; name some, or give rewards= in Python")
    arguments = ("completion", "sample", "verdict")
    found = [plugins.function(name, "rewards", "reward.functions", arguments) for name in config.functions]
    return dict(zip(config.own, found, strict=True))


@dataclass(frozen=True, slots=True)
class Asked:
    """Number of calls of a function, number of failed ones, and the first failure."""

    calls: int = 0
    failures: int = 0
    why: str = ""

    def add(self, given: Sequence[object]) -> Asked:
        """Return the counts with more calls added, by their results."""
        failed = [one.why for one in given if isinstance(one, Failed)]
        return Asked(self.calls + len(given), self.failures + len(failed), self.why or next(iter(failed), ""))


class Rewards:
    """The user's rewards in a run; close it, or use it as a context."""

    def __init__(self, config: RewardConfig) -> None:
        """Find the functions that a recipe names; without any, groups stay unchanged. Raises ConfigError as `find_rewards` does."""
        self.config = config
        self.functions = find_rewards(config)
        self.first = True
        """Whether no function was called yet."""
        self._loop: _Loop | None = None
        self._seen: set[str] = set()
        self._asked = dict.fromkeys(self.functions, Asked())

    def __enter__(self) -> Rewards:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancel calls that have not returned yet."""
        if self._loop is not None:
            self._loop.close()

    def earn(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with the user's rewards in their verdicts, or with the reason why one is left out."""
        if not self.functions:
            return list(groups)
        begun = [self._begin(group) if group.judged else {} for group in groups]
        awaited = sum(isinstance(one, Future) for values in begun for own in values.values() for one in own)
        longest = math.ceil(awaited / self.config.concurrency) * self.config.timeout_seconds + _GRACE
        return [self._credited(group, values, longest) if values else group for group, values in zip(groups, begun, strict=True)]

    def asked(self, groups: Sequence[Group]) -> dict[str, Asked]:
        """Return, for the groups of a first step, the numbers of calls and of failures of each function and of the verifier."""
        answers = [verdict for group in groups for verdict in group.verdicts if verdict.parsed]
        failed = [verdict.reason for verdict in answers if verdict.failed]
        rewards = {f"reward {name}": one for name, one in self._asked.items()}
        return rewards | {"task.verifier": Asked(len(answers), len(failed), failed[0] if failed else "")}

    def tell(self, groups: Sequence[Group], note: Callable[[str], None]) -> None:
        """Report, for each function that failed for the first time since the run was started or resumed, the place and the error."""
        found = {f"reward {name}": why for group in groups for name, why in group.left_out.items() if why != NO_VALUE}
        found |= dict([("verifier", v.reason) for group in groups for v in group.verdicts if v.failed][:1])
        new = {name: why for name, why in found.items() if name not in self._seen}
        self._seen |= new.keys()
        for name, why in new.items():
            what = "the group is skipped" if name == "verifier" else "it counts for no completion of the group"
            note(f"{name}: {why}; {what}, here and whenever it fails (the metrics count that)")

    def _begin(self, group: Group) -> dict[str, list[float | None | Failed | Future[Any]]]:
        """Return each function's result for each completion, as a value or a future."""
        pairs = list(zip(group.completions, group.verdicts, strict=True))
        return {
            name: [self._ask(function, completion, group.sample, verdict) for completion, verdict in pairs]
            for name, function in self.functions.items()
        }

    def _ask(self, function: Reward, *arguments: Any) -> float | None | Failed | Future[Any]:
        given = call(function, self.config.timeout_seconds, *arguments)
        if not inspect.isawaitable(given):
            return _read(given, function)
        self._loop = self._loop or _Loop(self.config)
        return self._loop.submit(function, given)

    def _credited(self, group: Group, begun: Mapping[str, Sequence[float | None | Failed | Future[Any]]], longest: float) -> Group:
        """Return the group with the results of each function, after waiting for all of them."""
        values: dict[str, list[float]] = {}
        left_out: dict[str, str] = {}
        for name, own in begun.items():
            given = [self._wait(name, one, longest) if isinstance(one, Future) else one for one in own]
            self._asked[name] = self._asked[name].add(given)
            failed = next((one for one in given if isinstance(one, Failed)), None)
            if failed or None in given:
                left_out[name] = failed.why if failed else NO_VALUE
            else:
                values[name] = [one for one in given if isinstance(one, float)]
        parts = [{name: own[k] for name, own in values.items()} for k in range(len(group.verdicts))]
        verdicts = tuple(_with(verdict, own, self.config) for verdict, own in zip(group.verdicts, parts, strict=True))
        return replace(group, verdicts=verdicts, left_out=left_out)

    def _wait(self, name: str, future: Future[Any], longest: float) -> float | None | Failed:
        try:
            return future.result(longest)  # type: ignore[no-any-return]
        except TimeoutError as error:
            place = plugins.place_of(self.functions[name])
            raise RunError(f"reward {name} ({place}) blocks its event loop; await what takes time, or make it a plain function") from error


def check_first(counts: Sequence[Mapping[str, Asked]], run: str) -> None:
    """Raise RunError if a function failed in every call of a first step; `counts` are those of each process."""
    for name in counts[0]:
        own = [one[name] for one in counts]
        calls, failures = sum(one.calls for one in own), sum(one.failures for one in own)
        if calls and failures == calls:
            why = next(one.why for one in own if one.why)
            raise RunError(f"{name} failed each of {calls} times in the first step: {why}; mend it, then: dyme train --resume {run}")


def _with(verdict: Verdict, own: Mapping[str, float], config: RewardConfig) -> Verdict:
    rewards = {**verdict.rewards, **own}
    return replace(verdict, rewards=rewards, reward=weighted(rewards, config))


def _read(given: Any, function: Reward) -> float | None | Failed:
    return given if given is None or isinstance(given, Failed) else number(given, function)


class _Loop:
    """An event loop in a separate thread, so that clients that an async function keeps stay usable from step to step."""

    def __init__(self, config: RewardConfig) -> None:
        self._loop = asyncio.new_event_loop()
        self._seconds, self._free = config.timeout_seconds, asyncio.Semaphore(config.concurrency)
        self._thread = threading.Thread(target=self._loop.run_forever, name="dyme-rewards", daemon=True)
        self._thread.start()

    def submit(self, function: Reward, waiting: Awaitable[Any]) -> Future[Any]:
        """Await a function's result when fewer than the allowed number are running; return a future."""
        return asyncio.run_coroutine_threadsafe(self._result(function, waiting), self._loop)

    async def _result(self, function: Reward, waiting: Awaitable[Any]) -> float | None | Failed:
        async with self._free:
            try:
                async with asyncio.timeout(self._seconds) as limit:
                    given = await waiting
            except TimeoutError as error:
                if limit.expired():
                    return overdue(error.__cause__ or error, function, self._seconds)  # the cause holds the line at which it was cancelled
                return Failed(plugins.failure(error, function))
            except (Exception, SystemExit) as error:
                return Failed(plugins.failure(error, function))
        return _read(given, function)

    def close(self) -> None:
        """Cancel running calls, and end the thread unless a function blocks it."""
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop)
        self._loop.call_soon_threadsafe(self._loop.call_soon, self._loop.stop)
        self._thread.join(timeout=2.0)


async def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
