"""Saving and resuming: a checkpoint is a standard model folder beside the optimizer's state and the position.

Order of writing: model, state, then the mark that it is complete; a run that is killed in between resumes from the one before.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from accelerate import Accelerator, DistributedType

from dyme import card
from dyme.config import Config
from dyme.errors import ConfigError, RunError
from dyme.processes import check_shared, from_main, together
from dyme.record import RunFolder, digest
from dyme.schedule import Position
from dyme.supervise.templates import TemplatePool
from dyme.types import Sample
from dyme.update import Updater


def open_run(config: Config, accelerator: Accelerator, samples: Sequence[Sample], resume: bool) -> RunFolder:
    """Create the run folder, or open it to resume; raises RunError for one that is not fit for it, or was trained on other samples.

    Raises ConfigError for processes that have nothing to do, that share the model's weights out between them, or that do not all see
    the run folder.
    """
    if accelerator.num_processes > config.train.prompts_per_step:
        raise ConfigError(f"train.prompts_per_step must be at least the number of processes, {accelerator.num_processes}")
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"{accelerator.distributed_type.value} is not supported: each process keeps the whole model; use plain data parallelism"
        )
    path = Path(config.run.output)
    check_shared(path, "--run.output")
    told = {"processes": accelerator.num_processes, "device": str(accelerator.device), "base": card.base_of(config.model.path)}

    def begin() -> None:
        rows = samples if config.supervision.facts == "data" else [replace(sample, facts=()) for sample in samples]
        data = {"samples": len(rows), "digest": digest(rows)}  # facts that are extracted may come later: a file or an endpoint failed
        if resume:
            _check_data(RunFolder.open(path), data)
        else:
            RunFolder.create(path, config, {**told, "data": data})

    from_main(begin)
    return RunFolder(path)


def _check_data(run: RunFolder, data: Mapping[str, Any]) -> None:
    """Raise RunError if the run began with other samples: with these it would not go on, but be another run."""
    began = run.versions().get("data")
    if began and began != data:
        changed = f"{began['samples']} then, {data['samples']} now" if began["samples"] != data["samples"] else "as many, of other content"
        raise RunError(
            f"{run.path} began with other training samples ({changed}); put the data back as it was, or begin a new run, from this one's "
            "last model if you like (--model.path)"
        )


def restore(run: RunFolder, updater: Updater, pool: TemplatePool) -> Position:
    """Load the last complete checkpoint and drop everything recorded after it; a run without one starts again."""

    def look() -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
        found = run.latest_checkpoint()
        run.truncate(found[0] if found else 0)
        if found is None:
            return None
        position, templates = (json.loads((found[1] / name).read_text(encoding="utf-8")) for name in ("position.json", "templates.json"))
        return found[1], position, templates

    found = from_main(look)
    if found is None:
        return Position()
    folder, position, templates = found
    together(lambda: updater.load(folder / "state"))
    pool.restore(templates)
    return Position(**position)


def due(config: Config, position: Position) -> bool:
    """Whether a checkpoint is to be written at this step."""
    return config.run.save_every > 0 and position.step % config.run.save_every == 0


def save(run: RunFolder, updater: Updater, position: Position, pool: TemplatePool, *, final: bool = False) -> Path:
    """Write a checkpoint and return its model folder; `final` also puts the model in the run's `model` folder."""
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights each time
    folder = run.checkpoint_dir(position.step)

    def clear() -> bool:
        """Whether there is none yet; what a killed process left is removed."""
        if (folder / "complete.json").exists():
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def complete() -> None:
        (folder / "templates.json").write_text(json.dumps(pool.state()), encoding="utf-8")
        (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
        run.mark_complete(position.step)
        _prune(run)

    if from_main(clear):
        together(lambda: updater.save(folder / "state", folder / "model"))
        from_main(complete)
    if not final:
        return folder / "model"
    from_main(lambda: _publish(run, folder / "model"))
    return run.path / "model"


def _publish(run: RunFolder, model: Path) -> None:
    """Copy a checkpoint's model to the run's `model` folder, with a card, unless there is one."""
    if not (run.path / "model").exists():
        shutil.rmtree(run.path / ".model.tmp", ignore_errors=True)
        shutil.copytree(model, run.path / ".model.tmp")
        card.write(run, run.path / ".model.tmp")
        (run.path / ".model.tmp").rename(run.path / "model")


def _prune(run: RunFolder) -> None:
    """Delete all but the last complete checkpoints, with what a killed process left half-written or half-deleted."""
    complete = sorted(f.parent for f in run.path.glob("checkpoints/step-*/complete.json"))
    kept = complete[-run.config().run.keep_checkpoints :]
    for folder in set(run.path.glob("checkpoints/step-*")) - set(kept):
        (folder / "complete.json").unlink(missing_ok=True)
        shutil.rmtree(folder)


class Interrupt:
    """While open, SIGINT and SIGTERM set `requested` instead of ending the process; another one, later, ends it at once.

    Signals less than GRACE seconds after the first count as one: launchers send on what the terminal has sent to all.
    """

    GRACE = 2.0

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        """Take over the signals (main thread only; elsewhere they stay as they are)."""
        try:
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            self._before = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > self.GRACE:
            raise KeyboardInterrupt("stopped at once; the last checkpoint is intact")
