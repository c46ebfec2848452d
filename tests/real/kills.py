"""SIGTERM and SIGKILL at random moments of `study`, `compare`, `export` and `train`: `make test-faults`, or this file alone.

After each, no process of the command is left; in the end the same command gives what an uninterrupted one gives, and leaves nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults import TOY, Ended, own_recipe, run_forked

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from runs import recipe, snapshot

PATIENCE = 120.0
"""Seconds in which the processes of a killed command must have ended."""
BETWEEN = 5
"""Kills of one folder before the command is left to end."""


def words(command: str, folder: Path, file: Path) -> list[str]:
    """The command that is killed; of a training that has begun, the one that resumes it."""
    if command == "export":
        return ["export", "embedded", "--dtype", "bfloat16", "--out", str(folder / "out")]
    if command == "train":
        out = folder / "out"
        begun = (out / "config.json").exists()
        return ["train", "--resume", str(out)] if begun else ["train", str(file.with_name("own.toml")), "--run.output", str(out)]
    if command == "study":
        return ["study", str(file.with_name("study.toml")), "--out", str(folder / "out")]
    return ["compare", str(file), "--methods", "base,sft", "--seeds", "0", "--out", str(folder / "out")]


STUDY = """
[study]
recipe = "r.toml"
jobs = 2
[arms.sft]
grid = { "train.learning_rate" = [3e-4, 1e-3] }
[arms.dyme]
tuned_as = "sft"
[tuning]
seeds = [100]
halving = { first = 0.5, keep = 1 }
open_edges = 1
[blocks.one]
arms = ["dyme", "sft"]
seeds = [1, 2]
compare = [["dyme", "sft"]]
"""


def outcome(command: str, folder: Path) -> Any:
    """What a finished command left that does not depend on the time it took."""
    if command == "export":
        return snapshot(folder / "out")
    if command == "train":
        kept = ("rollouts.jsonl", "evaluations.jsonl", "best.json")
        own = ("/model.safetensors", "method.json")
        return {name: digest for name, digest in snapshot(folder / "out").items() if name in kept or name.endswith(own)}
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "out/cells").glob("*.json"))]
    choices = (folder / "out/choices.json").read_text(encoding="utf-8")
    return untimed([cells, json.loads((folder / "out/study.json").read_text(encoding="utf-8"))]), choices


APART = ("seconds", "wall_seconds", "command", "started", "rerun", "commit", "commits")
"""What two runs of one study may differ in: times, and the checkout's commit, which may be made meanwhile."""


def untimed(tree: Any) -> Any:
    """The tree without what is `APART`."""
    if isinstance(tree, dict):
        return {key: untimed(value) for key, value in tree.items() if key not in APART}
    return [untimed(value) for value in tree] if isinstance(tree, list) else tree


def left(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(place.name) != os.getpid() and str(folder).encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def killed(command: list[str], cwd: Path, number: int, delay: float) -> bool:
    """Start the command and send the signal after `delay` seconds; whether it was still at work."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.chdir(cwd)
        from dyme.cli.main import main

        os._exit(main(command))
    time.sleep(delay)
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (130, -signal.SIGKILL)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=15, help="kills by each signal of each command")
    parser.add_argument("--only", choices=("export", "compare", "study", "train"), help="kill this command alone")
    args = parser.parse_args(given)
    kills, chosen = args.kills, [args.only] if args.only else ["export", "compare", "study", "train"]
    import dyme.cli.sharing.export
    import dyme.cli.training.cell
    import dyme.cli.training.compare
    import dyme.cli.training.study
    import dyme.evaluation.run
    import dyme.publishing.export
    import dyme.training.loop  # noqa: F401

    rng, wrong, hits = random.Random(0), [], 0
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        home = Path(temporary)
        file = recipe(home / "r.toml", TOY)
        (home / "study.toml").write_text(STUDY, encoding="utf-8")
        own_recipe(home / "own.toml")
        for command in chosen:
            (home / command).mkdir()
            started = time.monotonic()
            assert run_forked(words(command, home / command, file), home).status == 0
            takes, expected = time.monotonic() - started, outcome(command, home / command)
            for number in (signal.SIGTERM, signal.SIGKILL):
                for first in range(0, kills, BETWEEN):
                    folder = home / f"{command}-{number}-{first}"
                    folder.mkdir()
                    for _ in range(min(BETWEEN, kills - first)):
                        if command == "export" and (folder / "out").exists():
                            break  # it was done before the signal came: the same command would be refused
                        share = (
                            0.9 if command == "export" else 0.3
                        )  # the others go on from where they were, and are to be met at work again
                        hits += killed(words(command, folder, file), home, number, rng.uniform(0, share * takes))
                        until = time.monotonic() + PATIENCE
                        while left(folder) and time.monotonic() < until:
                            time.sleep(0.1)
                        wrong += [f"{command}, {number.name}: process {process} is left" for process in left(folder)]
                    done = command == "export" and (folder / "out").exists()
                    ended = Ended(0) if done else run_forked(words(command, folder, file), home)
                    if ended.status or outcome(command, folder) != expected:
                        wrong.append(f"{command}, {number.name}: not the same in the end: {ended}")
                    wrong += [f"{command}, {number.name}: litter {name}" for name in litter(folder)]
                print(f"{command}, {number.name}: {kills} kills, {len(wrong)} wrong so far", flush=True)
    print("\n".join(wrong))
    print(f"{2 * kills * len(chosen)} kills, {hits} of a command at work, {len(wrong)} wrong")
    return min(1, len(wrong))


def litter(folder: Path) -> list[str]:
    """What only a killed process leaves."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith((".part", ".tmp")) or path.name == ".lock"]


if __name__ == "__main__":
    sys.exit(main())
