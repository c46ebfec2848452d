"""One process of two on "computers" of their own, run by test_processes.py: two_nodes.py FOLDER, with torch.distributed's variables.

Each scenario leaves what it gave, or its error in words, in FOLDER/RANK.json.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from runs import SMALL, small
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.fsdp import FSDPModule

from dyme.cli import main as cli
from dyme.config import Config
from dyme.errors import DataError, DymeError, RunError
from dyme.pictures import ImageSource
from dyme.system import processes
from dyme.system.launch import is_main, local_count, node, several
from dyme.tasks import charts
from dyme.training import checkpoint, loop, update
from dyme.types import Sample

RANK = int(os.environ.get("RANK", "0"))
PROMPTS = SMALL["train"]["prompts_per_step"]


@dataclass
class Picture:
    """A picture that can be read a few times on one process, like one whose file is deleted during a run."""

    source: ImageSource
    left: int

    @property
    def key(self) -> str:
        return self.source.key

    def load(self) -> Image.Image:
        self.left -= 1
        if self.left < 0:
            raise DataError(f"rows.jsonl:3: image {self.key[:4]!r} does not exist")
        return self.source.load()


def failing() -> str:
    if RANK == 1:
        raise DataError("row 7 cannot be read")
    return "done"


def broken() -> str:
    if RANK == 1:
        raise ZeroDivisionError("nothing to divide by")
    return "done"


def only_main() -> str:
    if not is_main():
        raise AssertionError("another process looked")
    return "what main sees"


def settings(folder: Path) -> Config:
    return small(folder / "shared" / "run", "run.save_every=1", "train.max_prompts=12")


def training(folder: Path, resume: bool, reads: int) -> str:
    """Train where the second process can read its pictures `reads` times."""
    own = charts.samples("train", 16)
    rows: list[Sample] = [replace(s, images=tuple(Picture(i, reads if RANK else 10**6) for i in s.images)) for s in own]
    return str(loop.train(settings(folder), samples=rows, resume=resume).relative_to(folder))


def other_data(folder: Path) -> str:
    return str(loop.train(settings(folder), samples=charts.samples("train", 15), resume=True))


def looks(folder: Path) -> str:
    """The checkpoint of the last step is there for the main process alone, as where a network file system remembers its absence."""
    exists = Path.exists
    Path.exists = lambda self: exists(self) and (is_main() or self.name != "complete.json")  # type: ignore[method-assign]
    try:
        return training(folder, True, 10**6)
    finally:
        Path.exists = exists  # type: ignore[method-assign]


@contextlib.contextmanager
def poisoned(*calls: int) -> Iterator[None]:
    """The second process's loss is nan at these calls, counted from 1, or at all of them."""
    plain, count = update.loss, itertools.count(1)

    def loss(*given: Any) -> torch.Tensor:
        here = RANK == 1 and (next(count) in calls or not calls)
        return plain(*given) * (math.nan if here else 1.0)

    update.loss = loss
    try:
        yield
    finally:
        update.loss = plain


def one_nan(folder: Path) -> str:
    with poisoned(2):
        words = ["method.name=sft", "run.save_every=1", "run.keep_checkpoints=3"]
        return str(loop.train(small(folder / "shared" / "once", *words)).relative_to(folder))


def only_nan(folder: Path) -> list[Any]:
    """Status and last words of the command, which leaves the group of processes: it comes last."""
    words = [f"--{name}={value}" for name, value in {
        "run.output": folder / "shared" / "always", "run.save_every": 1, "task.train_size": 8, "task.test_size": 1,
        "train.prompts_per_step": 2, "train.max_prompts": 16,
    }.items()]  # fmt: skip
    with poisoned(), contextlib.redirect_stderr(io.StringIO()) as said:
        return [cli.main(["train", "charts-sft", *words]), said.getvalue()]


DIVIDES = hasattr(FSDPModule, "set_reduce_scatter_unused_params")
"""Whether torch can divide weights: 2.13 or newer."""
DIVIDED = ["run.save_every=1", "run.eval_every=2", "run.eval_size=3", "objective.beta=0.1", "method.name=grpo", "train.shard=full"]


def divided(folder: Path) -> str:
    return str(loop.train(small(folder / "shared" / "divided", *DIVIDED), validation=charts.samples("validation", 3), samples=rows()))


def cut_off(folder: Path) -> str:
    """The same run without its last step, resumed; on the second process no space is left for its part of the first checkpoint, once."""
    run = folder / "shared" / "divided"
    again = run.with_name("divided-again")
    processes.from_main(lambda: shutil.copytree(run, again))
    processes.from_main(lambda: [shutil.rmtree(part) for part in (again / "model", again / "checkpoints/step-000003")])
    settings, own = small(again, *DIVIDED), rows()

    def go_on() -> str:
        return str(loop.train(settings, samples=own, validation=charts.samples("validation", 3), resume=True))

    write = FileSystemWriter.write_data
    if RANK == 1:
        FileSystemWriter.write_data = full  # type: ignore[method-assign]
    try:
        return go_on()
    except RunError as error:
        kept = processes.from_main(lambda: sorted(part.name for part in (again / "checkpoints").iterdir()))
        FileSystemWriter.write_data = write  # type: ignore[method-assign]
        return f"{error} | {kept} | {go_on()}"


def full(*given: Any, **named: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "shards/__1_0.distcp")


def rows() -> list[Sample]:
    return charts.samples("train", 16)


SCENARIOS: dict[str, Callable[[Path], Any]] = {
    "place": lambda folder: [several(), local_count(), node()],
    "error": lambda folder: processes.together(failing),
    "unforeseen": lambda folder: processes.together(broken),
    "main": lambda folder: processes.from_main(only_main),
    "main fails": lambda folder: processes.from_main(lambda: 1 // 0),
    "shared": lambda folder: processes.check_shared(folder / "new" / "run", "--run.output"),
    "not shared": lambda folder: processes.check_shared(folder / f"disk-{RANK}" / "run", "--run.output"),
    "patience": lambda folder: str(torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout),  # type: ignore[union-attr]
    "picture": lambda folder: training(folder, False, 1),
    "other data": other_data,
    "resumed": looks,
    "again": lambda folder: checkpoint.RunFolder(folder / "shared/run").latest_checkpoint()[0],  # type: ignore[index]
    **({"divided": divided, "cut off": cut_off} if DIVIDES else {}),
    "one nan": one_nan,
    "only nan": only_nan,
}


def main(folder: Path) -> None:
    processes.PATIENCE = 0.5
    found = {}
    for name, scenario in SCENARIOS.items():
        started = time.monotonic()
        try:
            given = scenario(folder)
        except (DymeError, ArithmeticError) as error:
            given = f"{type(error).__name__}: {error}"
        found[name] = given
        assert time.monotonic() - started < 60, name
    (folder / f"{RANK}.json").write_text(json.dumps(found), encoding="utf-8")
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
