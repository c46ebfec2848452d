"""How the weights lie on the processes of a run: whole on each (`replicated.py`), or divided among them (`sharded.py`)."""

from __future__ import annotations

from accelerate import Accelerator

from dyme.config import Config
from dyme.model.policy import Policy
from dyme.model.precision import DTYPES
from dyme.training.placement.placement import Build, Placement
from dyme.training.placement.replicated import Replicated
from dyme.training.placement.sharded import Sharded


def placement_of(policy: Policy, config: Config, accelerator: Accelerator, build: Build) -> Placement:
    """Return the placement that `train.shard` asks for; one process keeps all weights. The precision must be a definite one."""
    dtype, by = DTYPES[config.train.precision], config.train.shard
    if by != "off" and accelerator.num_processes > 1:
        return Sharded(policy, dtype, accelerator, build, by)
    placement = Replicated(policy, dtype, accelerator, build)
    if by != "off":
        placement.about = f"train.shard = {by} has no effect on one process, which has all weights; start several with torchrun"
    return placement
