"""The start of a run: devices and precision, and the host of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator, DistributedType
from accelerate.utils import InitProcessGroupKwargs

from dyme.config import Config, TrainConfig
from dyme.errors import ConfigError
from dyme.model import precision
from dyme.model.policy import Policy
from dyme.system.launch import asks_to_shard
from dyme.system.processes import WAIT, from_main, on_cpu
from dyme.tracking.run_folder import RunFolder
from dyme.training.schedule import Position
from dyme.types import Group, Route, StepRecord

Grade = Callable[[Sequence[Group]], list[Group]]


class Host:
    """The host of the loop: the recipe alone, or a trainer of another library, which derives from this class and brings its model, its
    verdicts and its callbacks. All processes of a launch call the same methods, and a host must decide alike on all of them.
    """

    judges = False
    """Whether the host's verdicts replace those of the recipe's verifier, so that rows need no answer."""
    command = True
    """Whether `dyme train` can resume the run; it cannot get objects that were given in Python."""
    divides = True
    """Whether the weights may be divided among processes (`train.shard`)."""
    over = False
    """Whether training is to end after this step, as if its budget were used up."""

    def policy(self, config: Config) -> Policy:
        """Return the model to train, with float32 weights where they train; raises ModelError for one that cannot be used."""
        return Policy.load(config.model, precision.read(config))

    def grade(self, groups: Sequence[Group], usual: Grade) -> list[Group]:
        """Return a step's groups with their verdicts; `usual` returns them with those of the recipe's verifier and rewards."""
        return usual(groups)

    def begin(self, run: RunFolder, policy: Policy, position: Position) -> None:
        """Called when a run begins, or is resumed at a position, before anything is sampled."""

    def resuming(self, path: Path) -> str:
        """Return what a user calls to resume the run in `path`, for messages."""
        return f"dyme train --resume {path}" if self.command else "dyme.train(..., resume=True)"

    def before_step(self, position: Position) -> None:
        """Called when a step begins at a position."""

    def after_step(self, record: StepRecord, everyone: Sequence[tuple[Group, Route]], save: Callable[[], object]) -> None:
        """Called after a step, with its figures and all groups and routes; `save` writes a checkpoint, unless there is one."""


def begin(config: Config, resume: bool) -> tuple[Accelerator, Config]:
    """Return devices and processes, and the config with a definite precision and place of the weights: of a resumed run, as it began.

    Raises ConfigError for a precision that the device does not support, or if an Accelerator exists that does what dyme does itself.
    """
    launched = asks_to_shard()
    try:  # accelerate's mixed precision would cast within the model, and in the update alone
        accelerator = Accelerator(cpu=on_cpu(), mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)])
    except ValueError as error:
        raise ConfigError("an Accelerator with mixed precision was made in this process; leave it out and set train.precision") from error
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        kind = accelerator.distributed_type.value
        raise ConfigError(f'an Accelerator with {kind} was made in this process; leave it out and set train.shard = "full"')
    train = config.train
    if resume:
        held, began = from_main(lambda: _began(RunFolder.open(config.run.output)))
        if held.shard != "off" and (began > 1) != (accelerator.num_processes > 1):
            raise ConfigError(
                f"{config.run.output}: the run began with train.shard = {held.shard} on {began} processes, and there are "
                f"{accelerator.num_processes} now; its checkpoints need {'several: start them with torchrun' if began > 1 else 'one'}"
            )
        train = replace(train, precision=held.precision, shard=held.shard)
    elif launched and train.shard == "off":
        train = replace(train, shard="full")
    return accelerator, precision.settled(replace(config, train=train), accelerator.device)


def _began(run: RunFolder) -> tuple[TrainConfig, int]:
    """Return how a run was set up to train, and the number of its processes."""
    return run.config().train, int(run.versions().get("processes", 1))
