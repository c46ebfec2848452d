"""Work on samples that starts early, in threads, while the device is busy with earlier samples: pictures of large models take seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")
THREADS = min(4, os.cpu_count() or 1)


class Ahead(Generic[Item, Value]):
    """Calls `work` on items, on later ones early in threads, with the results of a plain loop. Close it, or use it as a context."""

    def __init__(self, work: Callable[[Item], Value]) -> None:
        """`work` may be called from several threads."""
        self._work = work
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dyme-ahead")
        self._begun: dict[int, Future[Value]] = {}

    def take(self, items: Sequence[Item], following: Sequence[Item] = ()) -> list[Value]:
        """Return the results for `items`, in order, each distinct item worked on once, and start the work on the `following` items.

        Items are known by identity, so they must outlive the call. Started work that the next call does not take is dropped, so that no
        more than two calls' results are in memory.
        """
        taken = self._all(items, self._begun)
        self._begun = {}
        results = [taken[id(item)].result() for item in items]
        self._begun = self._all(following, taken)
        return results

    def _all(self, items: Sequence[Item], begun: Mapping[int, Future[Value]]) -> dict[int, Future[Value]]:
        """Return the started work for each of the items; start it if necessary."""
        distinct = {id(item): item for item in items}
        return {key: begun.get(key) or self._threads.submit(self._work, item) for key, item in distinct.items()}

    def __enter__(self) -> Ahead[Item, Value]:
        """Return this object."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancel the work that has not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)
