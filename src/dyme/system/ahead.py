"""Work on samples that is begun ahead in threads, while the device is busy with those before: pictures of large models take seconds."""

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
    """Does `work` on items, those to come in threads; the results are those of a plain loop. Close it, or use it as a context."""

    def __init__(self, work: Callable[[Item], Value]) -> None:
        """`work` may be called from several threads."""
        self._work = work
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dyme-ahead")
        self._begun: dict[int, Future[Value]] = {}

    def take(self, items: Sequence[Item], following: Sequence[Item] = ()) -> list[Value]:
        """The results for `items`, in order, an item that comes twice worked on once; work on the `following` ones is begun.

        Items are known by identity, so they must outlive the call. What was begun and is not taken next is forgotten, so that no
        more than two calls' results are in memory.
        """
        taken = self._all(items, self._begun)
        self._begun = {}
        results = [taken[id(item)].result() for item in items]
        self._begun = self._all(following, taken)
        return results

    def _all(self, items: Sequence[Item], begun: Mapping[int, Future[Value]]) -> dict[int, Future[Value]]:
        """What is begun, or begins now, for each of the items."""
        distinct = {id(item): item for item in items}
        return {key: begun.get(key) or self._threads.submit(self._work, item) for key, item in distinct.items()}

    def __enter__(self) -> Ahead[Item, Value]:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give up what is not begun yet."""
        self._threads.shutdown(wait=False, cancel_futures=True)
