"""Saving and resuming: a checkpoint is a standard model folder, the optimizer's state and the position.

Order of writing: model, state, then the mark of completeness; a run that is killed in between resumes from the checkpoint before.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from dyme.config import Config
from dyme.errors import ConfigError, Diverged, RunError, at, system_error, told
from dyme.methods import Method, method_of
from dyme.publishing import card
from dyme.rollout.vllm.server import ServerGone
from dyme.system.files import whole_folder
from dyme.system.processes import check_shared, from_main, together
from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder, digest
from dyme.training.schedule import Position
from dyme.training.update import Updater
from dyme.types import Sample


class Keeps(Protocol):
    """An object whose state is kept between steps, in a file of a checkpoint."""

    def state(self) -> Any:
        """Return the content of the file, as JSON."""
        ...

    def restore(self, state: Any) -> None:
        """Restore the state that a file holds."""
        ...


Kept = Mapping[str, Keeps]
"""Names of files, with what is kept in each."""
_ALWAYS = ("position", "templates")
"""Files that every checkpoint has; others came with later versions of dyme."""


def open_run(
    config: Config, accelerator: Accelerator, samples: Sequence[Sample], resume: bool, method: Method[Any] | None = None,
    validation: Sequence[Sample] = (),
) -> RunFolder:  # fmt: skip
    """Create the run folder, or open it to resume; raises RunError for an unusable folder or a run that began with other samples.

    Raises ConfigError for processes without a prompt, or that do not all see the run folder.
    """
    if accelerator.num_processes > config.train.prompts_per_step:
        raise ConfigError(f"train.prompts_per_step must be at least the number of processes, {accelerator.num_processes}")
    path = Path(config.run.output)
    check_shared(path, "--run.output")
    told = {"processes": accelerator.num_processes, "device": str(accelerator.device), "base": card.base_of(config.model.path)}
    told |= {"method": card.about(method or method_of(config))}

    def begin() -> None:
        data = {name: _named(rows, config) for name, rows in (("data", samples), ("validation", validation)) if rows}
        if resume:
            _check_data(RunFolder.open(path), data)
        else:
            RunFolder.create(path, config, told | data)

    from_main(begin)
    return RunFolder(path)


def _named(samples: Sequence[Sample], config: Config) -> dict[str, Any]:
    """Return the samples' number and digest; extracted facts are left out, because they may come later, after a file or endpoint failed."""
    rows = samples if config.supervision.facts == "data" else [replace(sample, facts=()) for sample in samples]
    return {"samples": len(rows), "digest": digest(rows)}


def _check_data(run: RunFolder, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RunError if the run began with other samples: with the present ones it would be another run."""
    for name, now in data.items():
        began, split = run.versions().get(name), "training" if name == "data" else name
        if began and began != now:
            changed = (
                f"{began['samples']} then, {now['samples']} now" if began["samples"] != now["samples"] else "as many, of other content"
            )
            raise RunError(
                f"{run.path} began with other {split} samples ({changed}); put the data back as it was, or begin a new run, from this "
                "one's last model if you like (--model.path)"
            )


class _Damaged(RunError):
    """A checkpoint that cannot be read."""


@contextmanager
def resumable(path: Path, resuming: str) -> Iterator[None]:
    """Turn an error of the operating system, such as a full disk, into one that says to resume the run in `path`, if it has begun, by
    `resuming`; so does a server that is gone.
    """
    try:
        yield
    except ServerGone as gone:
        if not (path / "config.json").exists():
            raise
        raise RunError(f"{gone}; the run is saved; go on with: {resuming}") from gone
    except Exception as error:
        if (found := system_error(error)) is None or not (path / "config.json").exists():
            raise
        raise RunError(f"{told(found)}; the run is saved up to its last checkpoint; go on with: {resuming}") from error


@contextmanager
def saving(run: RunFolder, updater: Updater, position: Callable[[], Position], kept: Kept) -> Iterator[None]:
    """Save the run if a rollout server is gone, at the position of then, unless it has made no step."""
    try:
        yield
    except ServerGone:
        if position().step:
            save(run, updater, position(), kept)
        raise


def restore(run: RunFolder, updater: Updater, kept: Kept, note: Callable[[str], None]) -> Position:
    """Load the last checkpoint that can be read, drop all records after it, and return its position; without a checkpoint, start again.

    All processes skip the same damaged checkpoints, note them, and take an earlier one. Raises RunError if none can be read.
    """
    position, damaged = Position(), []
    folders = from_main(lambda: [folder for _, folder in run.checkpoints()])
    for folder in folders:
        try:
            position = _load(folder, updater, kept, run)
            break
        except _Damaged as error:
            damaged.append((folder, str(error)))
    if damaged and len(damaged) == len(folders):
        raise RunError(f"{damaged[0][0]}: cannot be read ({damaged[0][1]}), nor can any before it; begin again in another folder")

    def go_back() -> None:
        for folder, trouble in damaged:
            (folder / "complete.json").unlink()
            note(f"checkpoint {folder.name} is damaged ({trouble}); going on from step {position.step}")
        run.truncate(position.step)

    from_main(go_back)
    return position


def _load(folder: Path, updater: Updater, kept: Kept, run: RunFolder) -> Position:
    def read() -> dict[str, Any]:
        with _damage():
            files = {name: folder / f"{name}.json" for name in ("position", *kept)}
            found = {name: json.loads(f.read_text(encoding="utf-8")) for name, f in files.items() if name in _ALWAYS or f.exists()}
            if "completions" not in found["position"]:  # an earlier version of dyme
                found["position"] = asdict(Position(**found["position"]).counted(run.steps()))
            return found

    def load() -> Position:
        with _damage():
            updater.load(folder / "state")
            for name in held.keys() & kept.keys():
                kept[name].restore(held[name])
            return Position(**held["position"])

    held = from_main(read)
    return together(load)


@contextmanager
def _damage() -> Iterator[None]:
    """Raise _Damaged for any error while reading a checkpoint, except for errors that may be the machine's fault."""
    try:
        yield
    except (MemoryError, PermissionError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _Damaged(f"{type(error).__name__}: {error}".strip().splitlines()[0]) from error


def due(config: Config, position: Position) -> bool:
    """Return whether a checkpoint is to be written at this step."""
    return config.run.save_every > 0 and position.step % config.run.save_every == 0


def possible(config: Config, position: Position) -> bool:
    """Return whether a checkpoint may be written at this step: it is due, or the evaluation after the step may find the best model."""
    evaluated = config.run.eval_every > 0 and position.step % config.run.eval_every == 0
    return due(config, position) or (evaluated and config.run.keep_best != "off")


def save(run: RunFolder, updater: Updater, position: Position, kept: Kept, *, final: bool = False) -> Path:
    """Write a checkpoint and return its model folder; `final` also puts the model in the run's `model` folder."""
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights each time
    folder = run.checkpoint_dir(position.step)

    def clear() -> bool:
        """Return whether there is no checkpoint yet; remove what a killed process left."""
        if (folder / "complete.json").exists():
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def complete() -> None:
        with _whole(folder):
            for name, one in kept.items():
                (folder / f"{name}.json").write_text(json.dumps(one.state()), encoding="utf-8")
            (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
            run.mark_complete(position.step)
            _prune(run)

    def write() -> None:
        with _whole(folder):
            updater.save(folder / "state", folder / "model")

    if from_main(clear):
        together(write)
        from_main(complete)
    if not final:
        return folder / "model"
    from_main(lambda: _publish(run, run.checkpoint_dir(run.model_step()) / "model"))
    return run.path / "model"


def name_best(run: RunFolder, best: Mapping[str, Any] | None) -> None:
    """Name the best checkpoint in best.json, so that the one named before may be deleted; without a best one, remove best.json."""

    def name() -> None:
        if best and (run.checkpoint_dir(best["step"]) / "complete.json").exists():
            run.mark_best(best)
            _prune(run)
        else:
            run.mark_best(None)

    from_main(name)


def _publish(run: RunFolder, model: Path) -> None:
    """Copy a checkpoint's model to the run's `model` folder, with a card, unless there is such a folder."""
    if not (run.path / "model").exists():
        with whole_folder(run.path / "model") as folder:
            shutil.copytree(model, folder, dirs_exist_ok=True)
            card.write(run, folder)


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Remove a checkpoint that could not be written: its disk may be full."""
    try:
        with at(folder):
            yield
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def after_step(
    run: RunFolder, updater: Updater, position: Position, kept: Kept, display: Display, best: Mapping[str, Any] | None = None
) -> None:
    """Report a step that was skipped because its loss or gradient was not finite, and write a checkpoint if one is due, or the `best`.

    Raises RunError for a run that `updater.guard` has ended; the error names a checkpoint of finite weights, the present ones if finite.
    """
    guard = updater.guard
    if guard.skipped == "nonfinite":
        from_main(lambda: run.log_event("nonfinite_step", step=position.step, in_a_row=guard.in_a_row))
        display.note(f"step {position.step}: the loss or the gradient is not finite; the step is skipped and changes no weight")
    found_best = best is not None and best["step"] == position.step
    if (due(updater.config, position) or guard.broken or found_best) and updater.placement.finite():
        save(run, updater, position, kept)
    if found_best:
        name_best(run, best)
    if not guard.broken:
        return
    found = from_main(run.latest_checkpoint)
    last = f"the last good checkpoint is {found[1]}" if found else "there is no earlier checkpoint"
    raise Diverged(f"step {position.step}: {guard.broken}; {last}; try a lower train.learning_rate, or train.precision fp32")


def _prune(run: RunFolder) -> None:
    """Delete all but the last complete checkpoints and the best, with what a killed process left half-written or half-deleted."""
    complete = sorted(f.parent for f in run.path.glob("checkpoints/step-*/complete.json"))
    best = run.best()
    kept = complete[-run.config().run.keep_checkpoints :] + ([run.checkpoint_dir(best["step"])] if best else [])
    for folder in set(run.path.glob("checkpoints/step-*")) - set(kept):
        (folder / "complete.json").unlink(missing_ok=True)
        shutil.rmtree(folder)
