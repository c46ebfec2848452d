"""The run folder: its files are append-only, and the report reads nothing else.

    config.json      the settings                      metrics.jsonl      one line per optimizer step
    versions.json    software, machine, command line   rollouts.jsonl     one line per group: question, route, completions
    checkpoints/     step-000050/, ...                 evaluations.jsonl  one line per evaluation
    images/          small copies for the report       events.jsonl       anything else worth a line, with its time
    best.json        the best checkpoint, if kept      trackers/          what trackers need to resume their runs

Every line is strict JSON (nan and inf become null) and is flushed as soon as it is written, so a killed run loses at most a
half-written last line: readers skip it and `truncate` removes it. Only one process may write: its commands hold `lock.hold`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from dyme.config import Config
from dyme.errors import ModelError, RunError, at
from dyme.pictures import ImageSource
from dyme.recipe import build_of_run
from dyme.system import lock
from dyme.system.files import check_place, write_whole
from dyme.tracking import schema
from dyme.tracking.group_rows import GroupRow, GroupRows, line_of
from dyme.tracking.json_lines import _pretty, json_line, read_rows, write_rows
from dyme.types import Group, Route, Sample, StepRecord

IMAGE_EDGE = 384
"""Longest edge of a stored image in pixels."""
IMAGE_LIMIT = 400
"""Images that the rollouts of a run may leave in its folder."""
_IMAGES_PER_STEP = IMAGE_LIMIT // 16
_BEGINNING = (lock.NAME, "versions.json", ".versions.json.tmp", ".config.json.tmp")
"""Files of a folder that is not a run yet."""
_PACKAGES = ("dyme", "torch", "transformers", "accelerate", "peft", "pillow")


class RunFolder:
    """One run on disk. `create` makes a new run folder; `open` opens an existing one, to read or resume it."""

    def __init__(self, path: str | Path) -> None:
        """Wrap `path` without looking at it; use `create` or `open`."""
        self.path = Path(path)
        self._shown: list[tuple[int, str]] | None = None
        self._stride = 1

    def __repr__(self) -> str:
        """Return RunFolder('runs/mine')."""
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | Path, config: Config, extra: Mapping[str, Any] | None = None) -> RunFolder:
        """Create the folder, write config.json and versions.json, and return the run; `extra` (hardware, ...) is added to versions.json.

        Raises RunError if the folder holds other files than those of a process that was killed as it began, or cannot be made.
        """
        run = cls(path)
        cls.check_new(run.path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{run.path}: cannot make the run folder ({error.strerror}); choose another --run.output") from error
        run.clear()
        write_whole(run.path / "versions.json", _pretty({**_versions(), **(extra or {})}))
        write_whole(run.path / "config.json", _pretty(config.to_dict()))  # written last: with it the folder is a run
        return run

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise RunError unless a run can begin in `path`: it can be made, or holds only the files of a run that was killed as it began."""
        if path.exists() and (not path.is_dir() or any(entry.name not in _BEGINNING for entry in path.iterdir())):
            raise RunError(
                f"{path} already holds files; choose another --run.output, or continue a run with --resume {path} (in Python resume=True)"
            )
        check_place(path, "--run.output")

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return an existing run, to read or resume it; changes nothing. Raises RunError if `path` is not a run folder."""
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise RunError(f"{run.path} is not a run folder: it holds no config.json; give the folder that --run.output named")
        return run

    @classmethod
    def of_model(cls, model: Path) -> RunFolder | None:
        """Return the run that a model folder (RUN, RUN/model or RUN/checkpoints/step-N/model) belongs to, or None.

        Raises ModelError for RUN if it has no final model yet.
        """
        for folder in (model, *model.parents[:3]):
            if (folder / "config.json").exists() and (folder / "metrics.jsonl").exists():
                run = cls.open(folder)
                if folder == model:
                    _ = run.model
                return run
        return None

    @property
    def model(self) -> Path:
        """Return the folder of the final model, which plain transformers loads (or peft, for an adapter).

        Raises ModelError, which names the last checkpoint's model, if there is no final model yet.
        """
        final = self.path / "model"
        if not final.exists():
            last = self.latest_checkpoint()
            hint = f"give {last[1] / 'model'}, or go on" if last else "go on"
            raise ModelError(f"{self.path}: this run has no final model yet; {hint} with dyme train --resume {self.path}")
        return final

    # -- writing

    def log_step(self, record: StepRecord) -> None:
        """Append the figures of one optimizer step to metrics.jsonl."""
        row = {"step": record.step, "prompts": record.prompts, "epoch": record.epoch, "seconds": record.seconds}
        self._append("metrics.jsonl", [{**row, "metrics": record.metrics}])

    def log_rollouts(self, step: int, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Append one line per group to rollouts.jsonl, and keep images of some steps for the report (see `_keep_images`)."""
        self._append("rollouts.jsonl", [line_of(step, g, r) for g, r in zip(groups, routes, strict=True)])
        self._keep_images(step, groups)

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Append an evaluation of the model after `step` to evaluations.jsonl; `result` holds metrics, examples, by_kind."""
        self._append("evaluations.jsonl", [{**result, "step": step, "name": name}])

    def log_event(self, kind: str, **fields: Any) -> None:
        """Append an event with its time to events.jsonl."""
        self._append("events.jsonl", [{"time": _now(), "kind": kind, **fields}])

    def store_image(self, source: ImageSource) -> str:
        """Save a small PNG of the image unless it is there, and return its path relative to the run folder."""
        name = image_name(source.key)
        file = self.path / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            picture = source.load().convert("RGB")
            picture.thumbnail((IMAGE_EDGE, IMAGE_EDGE))
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            write_whole(file, buffer.getvalue())
        return name

    def clear(self) -> None:
        """Remove the half-written files of a killed process."""
        for file in (*self.path.glob(".*.tmp"), *self.path.glob("images/.*.tmp")):
            if file.is_file():
                file.unlink()

    def truncate(self, step: int) -> None:
        """Go back to the checkpoint taken after `step`: drop later lines and half-written ones, before training is resumed."""
        self.clear()
        for name in ("metrics.jsonl", "rollouts.jsonl", "evaluations.jsonl", "events.jsonl"):
            file = self.path / name
            if file.exists():
                rows = self._read(name)
                kept = rows if name == "events.jsonl" else (row for row in rows if row["step"] <= step)
                write_rows(file, kept)
        self._shown = None

    # -- checkpoints

    def checkpoint_dir(self, step: int) -> Path:
        """Return the folder for the checkpoint taken after `step`, without creating it."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def mark_complete(self, step: int) -> None:
        """Mark a checkpoint as complete; `latest_checkpoint` ignores it until then."""
        write_whole(self.checkpoint_dir(step) / "complete.json", _pretty({"step": step, "time": _now()}))

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return step and folder of each complete checkpoint, the last one first."""
        found = (file.parent for file in self.path.glob("checkpoints/step-*/complete.json"))
        return sorted(((int(folder.name[5:]), folder) for folder in found if folder.name[5:].isdecimal()), reverse=True)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return step and folder of the last complete checkpoint, or None."""
        return next(iter(self.checkpoints()), None)

    def mark_best(self, best: Mapping[str, Any] | None) -> None:
        """Write best.json: step, metric and value of the best checkpoint, and where its model is; without one, remove the file."""
        if best is None:
            (self.path / "best.json").unlink(missing_ok=True)
        else:
            model = self.checkpoint_dir(best["step"]).relative_to(self.path) / "model"
            write_whole(self.path / "best.json", _pretty({**best, "model": model.as_posix()}))

    # -- reading

    def config(self) -> Config:
        """Return the settings, checked again. Raises ConfigError if this version of dyme does not know one of them."""
        return build_of_run(self.settings(), where=str(self.path / "config.json"))

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings as written, by whichever version of dyme."""
        found = self._object("config.json")
        if wrong := schema.fault(found, {"*": {}}):
            raise RunError(f"{self.path / 'config.json'}: cannot be read ({wrong})")
        return found

    def versions(self) -> dict[str, Any]:
        """Return software, machine, command line and start time; empty if not recorded."""
        return self._object("versions.json") if (self.path / "versions.json").exists() else {}

    def best(self) -> dict[str, Any] | None:
        """Return the content of best.json, or None if no best checkpoint is kept."""
        return self._object("best.json") if (self.path / "best.json").exists() else None

    def model_step(self) -> int:
        """Return the step of the final model: with `run.keep_best` "model" the best step, else the last step so far."""
        best = self.best() if self.settings()["run"].get("keep_best") == "model" else None
        return int(best["step"]) if best else max((record.step for record in self.steps()), default=0)

    def steps(self) -> list[StepRecord]:
        """Return the records of the optimizer steps so far; a null metric is read as nan."""
        rows = self._read("metrics.jsonl")
        return [
            StepRecord(
                step=row["step"], prompts=row["prompts"], epoch=row["epoch"], seconds=row["seconds"],
                metrics={name: math.nan if value is None else value for name, value in row["metrics"].items()},
            )
            for row in rows
        ]  # fmt: skip

    def rollouts(self) -> Iterator[dict[str, Any]]:
        """Iterate over the groups so far, reading one at a time."""
        return self._read("rollouts.jsonl")

    def groups(self, *, step: int | None = None, mode: str | None = None, most: int | None = None) -> GroupRows:
        """Return at most `most` groups, of one step (-1: the last) and of one mode (memorize, explore, ...) if these are given.

        A notebook shows them with the pictures that the run kept.
        """
        if step == -1:
            step = max((row["step"] for row in self.rollouts()), default=0)
        chosen = (row for row in self.rollouts() if step in (None, row["step"]) and mode in (None, row["mode"]))
        found = GroupRows()
        for row in islice(chosen, most):
            files = (self.path / image_name(key) for key in row["images"])
            found.append(GroupRow.of(row, tuple(file for file in files if file.is_file())))
        return found

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations so far."""
        return list(self._read("evaluations.jsonl"))

    def events(self) -> list[dict[str, Any]]:
        """Return the events so far."""
        return list(self._read("events.jsonl"))

    # -- inside

    def _append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        path = self.path / name
        with at(path), path.open("a", encoding="ascii", newline="\n") as file:
            for row in rows:
                file.write(json_line(row))
                file.flush()

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        return read_rows(self.path / name, schema.LINES[name])

    def _object(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / name}: cannot be read ({error})") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.path / name}: cannot be read (it holds no settings)")
        return found

    def _keep_images(self, step: int, groups: Sequence[Group]) -> None:
        """Keep images of evenly spaced steps, however long the run: beyond IMAGE_LIMIT, every second such step is given up."""
        if self._shown is None:  # after a resume: the images kept by the steps so far
            rows = ((row["step"], image_name(key)) for row in self.rollouts() for key in row["images"])
            self._shown = [(at, name) for at, name in rows if at < step and (self.path / name).exists()]
        if (step - 1) % self._stride:
            return
        sources = [source for group in groups for source in group.sample.images][:_IMAGES_PER_STEP]
        self._shown += [(step, self.store_image(source)) for source in sources]
        while len({name for _, name in self._shown}) > IMAGE_LIMIT:
            self._stride *= 2
            kept = [(at, name) for at, name in self._shown if (at - 1) % self._stride == 0]
            for name in {name for _, name in self._shown} - {name for _, name in kept}:
                (self.path / name).unlink(missing_ok=True)
            self._shown = kept


def image_name(key: str) -> str:
    """Return the path, relative to the run folder, to which `RunFolder.store_image` saves the image with this key."""
    return f"images/{hashlib.sha1(key.encode('utf-8', 'surrogatepass'), usedforsecurity=False).hexdigest()}.png"


def digest(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 of everything in these samples that training and judging depend on, pictures included."""
    found = hashlib.sha256()
    for s in samples:
        known = (s.id, s.question, s.answer, s.answers, s.choices, s.unit, s.kind, s.answer_kind, [image.key for image in s.images])
        own = () if s.prompt is None else (s.prompt,)
        found.update(repr((known, [(f.subject, f.value) for f in s.facts], s.rationale, *own)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _versions() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        **packages,
        "commit": _commit(),
        "command": sys.argv,
        "started": _now(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that holds this file; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
