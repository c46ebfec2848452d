"""Saving and resuming: a checkpoint is a standard model folder beside the optimizer's state and the position.

Order of writing: model, state, then the mark that it is complete; a run that is killed in between resumes from the one before.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType

from accelerate import Accelerator, DistributedType

from dyme import card
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.record import RunFolder
from dyme.schedule import Position
from dyme.supervise.templates import TemplatePool
from dyme.update import Updater


def open_run(config: Config, accelerator: Accelerator, resume: bool) -> RunFolder:
    """Create the run folder, or open it to resume; raises RunError for one that is not fit for it.

    Raises ConfigError for processes that have nothing to do, or that share the model's weights out between them.
    """
    if accelerator.num_processes > config.train.prompts_per_step:
        raise ConfigError(f"train.prompts_per_step must be at least the number of processes, {accelerator.num_processes}")
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"{accelerator.distributed_type.value} is not supported: each process keeps the whole model; use plain data parallelism"
        )
    path = Path(config.run.output)
    if accelerator.is_main_process and not resume:
        told = {"processes": accelerator.num_processes, "device": str(accelerator.device), "base": card.base_of(config.model.path)}
        RunFolder.create(path, config, told)
    accelerator.wait_for_everyone()
    return RunFolder.open(path)


def restore(run: RunFolder, updater: Updater, pool: TemplatePool) -> Position:
    """Load the last complete checkpoint and drop everything recorded after it; a run without one starts again."""
    found = run.latest_checkpoint()
    accelerator = updater.accelerator
    if accelerator.is_main_process:
        run.truncate(found[0] if found else 0)
    accelerator.wait_for_everyone()
    if found is None:
        return Position()
    state = json.loads((found[1] / "position.json").read_text(encoding="utf-8"))
    updater.load(found[1] / "state")
    pool.restore(json.loads((found[1] / "templates.json").read_text(encoding="utf-8")))
    return Position(**state)


def due(config: Config, position: Position) -> bool:
    """Whether a checkpoint is to be written at this step."""
    return config.run.save_every > 0 and position.step % config.run.save_every == 0


def save(run: RunFolder, updater: Updater, position: Position, pool: TemplatePool, *, final: bool = False) -> Path:
    """Write a checkpoint and return its model folder; `final` also puts the model in the run's `model` folder."""
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights each time
    folder, main = run.checkpoint_dir(position.step), updater.accelerator.is_main_process
    if main and not (folder / "complete.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
    updater.accelerator.wait_for_everyone()
    if not (folder / "complete.json").exists():
        updater.save(folder / "state", folder / "model")
        if main:
            (folder / "templates.json").write_text(json.dumps(pool.state()), encoding="utf-8")
            (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
            run.mark_complete(position.step)
            _prune(run)
    updater.accelerator.wait_for_everyone()
    if not final:
        return folder / "model"
    if main and not (run.path / "model").exists():
        shutil.rmtree(run.path / ".model.tmp", ignore_errors=True)
        shutil.copytree(folder / "model", run.path / ".model.tmp")
        card.write(run, run.path / ".model.tmp")
        (run.path / ".model.tmp").rename(run.path / "model")
    updater.accelerator.wait_for_everyone()
    return run.path / "model"


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
