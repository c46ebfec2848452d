"""Faults of the operating system at every command: `make test-faults`, or `python tests/real/faults.py [--every N]` for each N-th of them.

Each case runs in a fork of this process, which has imported all there is to import: a path that cannot be used, a user without
permissions, a call of the system that fails, a disk that is full, a standard stream that is gone. What must hold: no traceback; status 2
with one line, or 141 for a reader that went away; what was there before is untouched; and once the fault is mended, the command (or
`train --resume`) ends well.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from runs import ROOT, SMALL, recipe, snapshot

NOBODY = 65534
READER_GONE = 141
TOY: dict[str, dict[str, Any]] = SMALL | {
    "run": {"save_every": 1}, "task": {"train_size": 8, "test_size": 2, "validation_size": 2},
    "rollout": {"num_generations": 2, "max_completion_length": 8}, "train": {"prompts_per_step": 2, "max_prompts": 4},
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = TOY | {
    "run": {"save_every": 1, "eval_every": 1, "eval_size": 1, "keep_best": "checkpoint", "report_to": ["tracker.py:TextFile"]},
    "method": {"name": "patient.py:METHOD"}, "task": {"train_size": 2, "test_size": 2, "validation_size": 2},
    "train": {"prompts_per_step": 2, "max_prompts": 6},
}  # fmt: skip
"""A method with a state, a tracker and evaluations while training; each prompt comes three times."""
QUICK = ["--task.test_size=2", "--rollout.max_completion_length=8"]
ROWS = [{"id": f"r{k}", "question": f"What is {k} + 1?", "answer": str(k + 1), "rationale": f"{k} and one more."} for k in range(20)]


class Stage:
    """A folder with all that commands need; made once, copied for each case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe, self.own, self.rows, self.run, self.begun = (folder / name for name in ("r.toml", "own.toml", "rows", "run", "begun"))

    def make(self) -> None:
        """Rows, a recipe, a finished run and one that was stopped."""
        self.rows.mkdir(parents=True)
        for split in ("train", "test"):
            lines = "".join(json.dumps(row | {"id": f"{split}-{row['id']}"}) + "\n" for row in ROWS)
            (self.rows / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        recipe(self.recipe, TOY)
        own_recipe(self.own)
        done = run_forked(["train", str(self.recipe), "--run.output", str(self.run)], self.folder)
        assert done.status == 0, done
        shutil.copytree(self.run, self.begun)
        shutil.rmtree(self.begun / "model")
        shutil.rmtree(self.begun / "checkpoints/step-000002")


def own_recipe(file: Path) -> Path:
    """Write the recipe of OWN with the examples that it names beside it."""
    for name in ("patient.py", "tracker.py"):
        shutil.copyfile(ROOT / "examples" / name, file.parent / name)
    return recipe(file, OWN)


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str = ""
    err: str = ""


@dataclass
class Case:
    """A command under a fault."""

    command: str
    fault: str
    words: list[str]
    inject: Callable[[], None] = lambda: None
    """In the forked process, before the command."""
    stdout: str = "file"
    """file, full (/dev/full), gone (a pipe without a reader), one (a reader of one line), closed."""
    allowed: tuple[int, ...] = (2,)
    after: list[str] = field(default_factory=list)
    """The command that must end well once the fault is mended; none: not tried."""
    mend: Callable[[], None] = lambda: None
    expect: Callable[[], bool] = lambda: True
    """What must hold in the end."""


def run_forked(words: Sequence[str], cwd: Path, inject: Callable[[], None] = lambda: None, stdout: str = "file") -> Ended:
    """`dyme WORDS` in a fork."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            target = {"full": os.open("/dev/full", os.O_WRONLY), "gone": writer, "one": writer}.get(stdout, out.fileno())
            _child(words, cwd, inject, target, err.fileno(), closed=stdout == "closed")
        os.close(writer)
        if stdout == "one":
            os.read(reader, 1)
        os.close(reader)
        _, code = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return Ended(os.waitstatus_to_exitcode(code), *texts)


def _child(words: Sequence[str], cwd: Path, inject: Callable[[], None], out: int, err: int, *, closed: bool) -> NoReturn:
    """In the fork: streams and fault in place, then the command as the interpreter would run it."""
    from dyme.cli.main import main

    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(cwd)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if closed:
            os.close(1)
            sys.stdout = None  # type: ignore[assignment]
        inject()
        status = main([str(word) for word in words])
    except BaseException:
        with suppress(Exception):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def as_nobody() -> None:
    """Give up root's rights."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def failing(number: int, nth: int, below: Path) -> Callable[[], None]:
    """Let the nth call that changes something below a folder fail with an error number, and all that follow, as on a full disk."""
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            changes = isinstance(args[0], str | bytes) and bool((args[2] or 0) & writes)
        else:
            changes = event in ("os.mkdir", "os.rename", "os.link", "os.truncate")
        if changes and os.fsdecode(args[1 if event == "os.rename" else 0]).startswith(str(below)):
            count += 1
            if count >= nth:
                raise OSError(number, os.strerror(number), os.fsdecode(args[0]))

    return lambda: sys.addaudithook(hook)


def limited(size: int) -> Callable[[], None]:
    """No file of more than `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def paths(stage: Stage) -> dict[str, Callable[[str], list[str]]]:
    """Every place where a command takes a path."""
    r, run = str(stage.recipe), str(stage.run)
    text = [r, "--task.name", "jsonl"]
    out = str(stage.folder / "o")
    return {
        "train RECIPE": lambda p: ["train", p, "--run.output", out],
        "train --run.output": lambda p: ["train", r, "--run.output", p],
        "train --task.train": lambda p: ["train", *text, "--task.train", p, "--run.output", out],
        "train --task.path": lambda p: ["train", *text, "--task.path", p, "--run.output", out],
        "train --model.path": lambda p: ["train", r, "--model.path", p, "--run.output", out],
        "train --resume": lambda p: ["train", "--resume", p],
        "report": lambda p: ["report", p],
        "eval MODEL": lambda p: ["eval", p, *QUICK],
        "eval --out": lambda p: ["eval", "embedded", *QUICK, "--k=0", "--out", p],
        "eval --json": lambda p: ["eval", "embedded", *QUICK, "--k=0", "--json", p],
        "eval --recipe": lambda p: ["eval", "embedded", "--recipe", p],
        "diagnose MODEL": lambda p: ["diagnose", p, *QUICK],
        "diagnose --json": lambda p: ["diagnose", "embedded", *QUICK, "--json", p],
        "facts --json": lambda p: ["facts", "--task.test_size=2", "--json", p],
        "facts cache": lambda p: ["facts", "--source", "ocr", "--task.test_size=1", "--supervision.facts_cache", p],
        "judge --json": lambda p: ["judge", "local", "--traces=4", "--json", p],
        "prepare --from": lambda p: ["prepare", "jsonl", "--from", p, "--out", out],
        "prepare --out": lambda p: ["prepare", "jsonl", "--from", str(stage.rows), "--out", p],
        "prepare --task.prepared": lambda p: ["prepare", "jsonl", "--from", str(stage.rows), "--task.prepared", p],
        "compare RECIPE": lambda p: ["compare", p, "--out", out],
        "compare --out": lambda p: ["compare", r, "--methods=base", "--seeds=0", "--out", p],
        "export MODEL": lambda p: ["export", p, "--out", out],
        "export --out": lambda p: ["export", "embedded", "--out", p],
        "demo --out": lambda p: ["demo", *QUICK, "--train.max_prompts=4", "--train.prompts_per_step=2", "--out", p],
        "push": lambda p: ["push", p, "me/model"],
        "recipes --out": lambda p: ["recipes", "charts-dyme", "--out", p],
        "run with facts": lambda p: ["train", r, "--supervision.facts_cache", p, "--supervision.facts=ocr", "--run.output", run],
    }  # fmt: skip


WRITES = ("--run.output", "--out", "--json", "--task.prepared", "facts cache")


def bad_paths(stage: Stage) -> Iterator[Case]:
    """Paths that no system takes, things of the other kind, and permissions."""
    folder = stage.folder
    for name, words in paths(stage).items():
        writes = name.endswith(WRITES)
        locked, secret, loop = folder / "locked", folder / "secret", folder / "loop"
        odd = {
            "name too long": "n" * 300,
            "path too long": str(folder / "/".join(["d" * 200] * 30)),
            "NUL": "a\0b",
            "below a file": str(stage.recipe / "x"),
            "a loop of links": str(loop / "x"),
            "half a character": "\udcff/x" if not writes else str(stage.recipe / "\udcff"),
        }
        for fault, path in odd.items():
            yield Case(name, fault, words(path))
        if os.getuid() == 0:
            yield Case(name, "no permission", words(str(locked / "x" if writes else secret)), inject=as_nobody)


def failing_calls(stage: Stage, rng: random.Random) -> Iterator[Case]:
    """Commands whose nth change of the disk fails, with what must be done when it is mended."""
    s, f = stage, stage.folder
    base = {
        "train": (["train", str(s.recipe), "--run.output", str(f / "o")], 24),
        "train own": (["train", str(s.own), "--run.output", str(f / "o")], 24),
        "train --resume": (["train", "--resume", str(s.begun)], 16),
        "eval --out --json": (["eval", str(s.run), *QUICK, "--k=2", "--out", str(f / "o"), "--json", str(f / "j.json")], 9),
        "export": (["export", str(s.run), "--out", str(f / "o")], 8),
        "prepare": (["prepare", "jsonl", "--from", str(s.rows), "--out", str(f / "o")], 10),
        "report": (["report", str(s.run)], 2),
        "judge --json": (["judge", "local", "--traces=4", "--json", str(f / "j.json")], 2),
        "demo": (["demo", *QUICK, "--train.max_prompts=4", "--train.prompts_per_step=2", "--rollout.num_generations=2",
                  "--out", str(f / "o")], 12),
        "recipes --out": (["recipes", "own-data", "--out", str(f / "o")], 4),
        "compare": (["compare", str(s.recipe), "--methods=base", "--seeds=0", "--out", str(f / "o")], 5),
    }  # fmt: skip
    resumed = {"train": 61, "train own": 101}
    numbers = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT)
    for command, (words, most) in base.items():
        cases = range(1, most + 1) if command not in resumed else sorted({*range(1, 9), *rng.sample(range(9, resumed[command]), most - 8)})
        for nth in cases:
            number = rng.choice(numbers)
            resume = ["train", "--resume", str(f / "o")]
            yield Case(command, f"call {nth}: {errno.errorcode[number]}", words, inject=failing(number, nth, f), allowed=(0, 2),
                       after=[*words, "--", *resume] if command in ("train", "train own", "demo") else words)  # fmt: skip


def full_disks(stage: Stage) -> Iterator[Case]:
    """Real full disks: a small file system, and a limit of a file's size."""
    s, f = stage, stage.folder
    disk = f / "disk"
    sized = {
        "train": (["train", str(s.recipe), "--run.output", str(disk / "o")], (0, 16, 4000, 12000, 30000, 44000, 58000, 80000)),
        "train own": (["train", str(s.own), "--run.output", str(disk / "o")], (16, 4000, 12000, 30000, 44000, 58000, 72000, 80000)),
        "export": (["export", str(s.run), "--out", str(disk / "o")], (0, 16, 2000, 8000)),
        "eval --out": (["eval", str(s.run), *QUICK, "--k=0", "--out", str(disk / "o")], (0, 4)),
        "eval --json": (["eval", str(s.run), *QUICK, "--k=0", "--json", str(disk / "j.json")], (0, 8)),
        "prepare": (["prepare", "jsonl", "--from", str(s.rows), "--out", str(disk / "o")], (0, 4, 8)),
        "compare": (["compare", str(s.recipe), "--methods=base", "--seeds=0", "--out", str(disk / "o")], (0, 8)),
    }
    for command, (words, sizes) in sized.items():
        for size in sizes:
            if os.getuid() == 0:
                resume = ["train", "--resume", str(disk / "o")]
                yield Case(command, f"disk of {size} KiB", words, mend=lambda: mount(disk, 400_000, again=True), allowed=(0, 2),
                           after=[*words, "--", *resume] if command.startswith("train") else words)  # fmt: skip
            if size:
                there = [word.replace(str(disk), str(f)) for word in words]
                yield Case(command, f"files of {size} KiB", there, inject=limited(size * 1024), allowed=(0, 2),
                           after=[*there, "--", "train", "--resume", str(f / "o")] if command.startswith("train") else there)  # fmt: skip


def streams(stage: Stage) -> Iterator[Case]:
    """Standard output that is full, closed, or whose reader is gone from the start or after a line."""
    s, f = stage, stage.folder
    long = {
        "train": ["train", str(s.recipe), "--run.output", str(f / "o")],
        "train --resume": ["train", "--resume", str(s.begun)],
        "eval": ["eval", str(s.run), *QUICK, "--k=0"],
        "eval --json": ["eval", str(s.run), *QUICK, "--k=0", "--json", str(f / "j.json")],
        "diagnose": ["diagnose", str(s.run), *QUICK, "--samples=2", "--k=2"],
        "export": ["export", str(s.run), "--out", str(f / "o")],
        "prepare": ["prepare", "jsonl", "--from", str(s.rows), "--out", str(f / "o")],
        "report": ["report", str(s.run)],
        "facts": ["facts", "--task.test_size=2"],
        "judge": ["judge", "local", "--traces=4"],
        "tasks": ["tasks"], "methods": ["methods"], "settings": ["settings"], "recipes": ["recipes"], "help": ["--help"],
    }  # fmt: skip
    left = {"train": f / "o/model", "train --resume": s.begun / "model", "export": f / "o/config.json", "eval --json": f / "j.json"}
    for command, words in long.items():
        for stdout, status in {"full": 2, "gone": READER_GONE, "one": READER_GONE, "closed": 0}.items():
            place = left.get(command, f)
            allowed = (status, 0) if stdout == "one" else (status,)  # a pipe may take all before the reader is seen to be gone
            yield Case(command, f"stdout {stdout}", words, stdout=stdout, allowed=allowed, expect=place.exists)


def mount(place: Path, kib: int, *, again: bool = False) -> None:
    """A file system of that size at a place."""
    size = f"size={max(kib, 4)}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"remount,{size}" if again else size, "tmpfs", str(place)], check=True)
    if kib == 0 and not again:
        (place / "filler").write_bytes(bytes(4096))


def play(case: Case, stage: Stage) -> str:
    """Run a case on a stage of its own; what is wrong, or ""."""
    f = stage.folder
    kept = {name: snapshot(f / name) for name in ("run", "rows")}
    disk = case.fault.removeprefix("disk of ").partition(" ")[0] if case.fault.startswith("disk") else ""
    if disk:
        (f / "disk").mkdir()
        mount(f / "disk", int(disk))
    try:
        ended = run_forked(case.words, f, case.inject, case.stdout)
        if wrong := judged(case, ended):
            return f"{wrong}\n{ended}"
        if not case.expect():
            return "what was to be left is not there"
        if disk:
            (f / "disk/filler").unlink(missing_ok=True)
        case.mend()
        if case.after and ended.status:
            words, _, resume = ("\x1f".join(case.after)).partition("\x1f--\x1f")
            later = resume.split("\x1f") if resume and (Path(resume.split("\x1f")[-1]) / "config.json").exists() else words.split("\x1f")
            again = run_forked(later, f)
            if again.status:
                return f"after the fault: {later} ended with {again}\nbefore: {ended}"
            litter = [p.name for p in f.rglob("*") if p.name.endswith((".part", ".tmp")) or p.name == ".lock"]
            if litter:
                return f"litter: {litter}"
        now = {name: snapshot(f / name) for name in ("run", "rows")}
        changed = [n for n in kept if any(now[n].get(file) != digest for file, digest in kept[n].items() if file != "report.html")]
        return f"changed: {changed}" if changed else ""
    finally:
        if disk:
            subprocess.run(["umount", "-l", str(f / "disk")], check=True)


def judged(case: Case, ended: Ended) -> str:
    """What is wrong with how a command ended."""
    if "Traceback" in ended.err or ended.status not in case.allowed:
        return f"status {ended.status}, not {case.allowed}"
    lines = [line for line in ended.err.splitlines() if line.startswith("dyme: ")]
    if ended.status == 2 and len(lines) != 1:
        return "not one line"
    if ended.status != 2 and ended.err:
        return "something on stderr"
    return ""


def prepared(parent: Path, whole: Stage) -> Stage:
    """A copy of the stage, with what an ordinary user may and may not do."""
    shutil.copytree(whole.folder, parent, dirs_exist_ok=True, symlinks=True)
    stage = Stage(parent)
    (parent / "locked").mkdir(mode=0o555)
    (parent / "secret").mkdir(mode=0o700)
    (parent / "loop").symlink_to(parent / "loop")
    parent.chmod(0o755)
    return stage


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="only each N-th case")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    args = parser.parse_args(words)
    import dyme.evaluation.run
    import dyme.training.loop  # noqa: F401
    from dyme.cli.main import COMMANDS, module_of

    for command in COMMANDS.values():
        module_of(command)

    os.umask(0o022)
    "".encode("utf-8-sig")  # a codec is a module too, and an ordinary user may not be able to read root's Python
    counts: Counter[tuple[str, str]] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        home = Path(temporary)
        home.chmod(0o755)
        whole = Stage(home / "whole")
        whole.make()
        stage = Stage(home / "case")
        cases = [*bad_paths(stage), *failing_calls(stage, random.Random(0)), *full_disks(stage), *streams(stage)]
        random.Random(0).shuffle(cases)
        chosen = [case for case in cases[:: args.every] if args.only in f"{case.command}: {case.fault}"]
        for case in chosen:
            stage = prepared(home / "case", whole)
            wrong = play(case, stage)
            print(f"{'FAILED' if wrong else 'held'} {case.command}: {case.fault}", flush=True)
            counts[case.command, case.fault.partition(":")[0].rstrip("0123456789 ").partition(" of ")[0]] += 1
            if wrong:
                failed += 1
                print(wrong, flush=True)
            shutil.rmtree(home / "case")
    for (command, fault), count in counts.items():
        print(f"{command:28} {fault:20} {count}")
    print(f"{sum(counts.values())} cases, {failed} failed")
    return min(1, failed)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main())
