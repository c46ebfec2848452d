"""How the weights lie on the processes of a run: whole on each (`replicated.py`), or divided among them (`sharded.py`)."""

from __future__ import annotations

from accelerate import Accelerator

from dyme.config import Config
from dyme.model.policy import Policy
from dyme.model.precision import DTYPES
from dyme.training.engines.engine import Build, Engine
from dyme.training.engines.replicated import Replicated
from dyme.training.engines.sharded import Sharded


def engine_of(policy: Policy, config: Config, accelerator: Accelerator, build: Build) -> Engine:
    """Return the engine that `train.shard` asks for; one process keeps all weights. The precision must be a definite one."""
    dtype, by = DTYPES[config.train.precision], config.train.shard
    if by != "off" and accelerator.num_processes > 1:
        return Sharded(policy, dtype, accelerator, build, by)
    engine = Replicated(policy, dtype, accelerator, build)
    if by != "off":
        engine.about = f"train.shard = {by} has no effect on one process, which has all weights; start several with torchrun"
    return engine
