"""What samples completions: the model in this process, or vLLM servers that get its weights (`rollout.engine`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from dyme.config import Config, RolloutConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout import hf
from dyme.rollout.vllm.served import Served
from dyme.types import Completion


class Engine(Protocol):
    """What samples the completions of a policy."""

    policy: Policy

    def refresh(self, example: Callable[[], Prompt]) -> None:
        """Bring the policy's weights to where completions are sampled, and check that they are there, on an example of the prompts.

        All processes must call it, before they sample with new weights.
        """
        ...

    def sampling(self) -> AbstractContextManager[None]:
        """Return the context in which each process may call `sample`, as often as it likes; all processes enter it together."""
        ...

    def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        config: RolloutConfig,
        *,
        greedy: bool = False,
        batch_rows: int = hf.BATCH_ROWS,
        keep: Sequence[Prompt] = (),
    ) -> list[tuple[Completion, ...]]:
        """Return K completions for each prompt (one if greedy), in order, with their log-probabilities (`hf.sample`)."""
        ...


class Local:
    """The model in this process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def refresh(self, example: Callable[[], Prompt]) -> None:
        """Do nothing: the weights that sample are those that train."""

    def sampling(self) -> AbstractContextManager[None]:
        """Return the context in which this process has all of the policy's weights."""
        return self.policy.whole()

    def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        config: RolloutConfig,
        *,
        greedy: bool = False,
        batch_rows: int = hf.BATCH_ROWS,
        keep: Sequence[Prompt] = (),
    ) -> list[tuple[Completion, ...]]:
        """Return K completions for each prompt (one if greedy), in order (`hf.sample`)."""
        if not prompts:
            return []
        return hf.sample(self.policy, prompts, seeds, config, greedy=greedy, batch_rows=batch_rows, keep=keep)


def engine_of(
    policy: Policy, config: Config, export: Callable[[Path], object], version: Callable[[], int], note: Callable[[str], object]
) -> Engine:
    """Return the engine that the recipe names.

    `export` writes the weights as a model folder and is called by all processes; `version` counts their changes; `note` gets lines for
    the user. Raises ConfigError or RunError, in one line, if a server cannot serve this run.
    """
    if config.rollout.engine == "hf":
        return Local(policy)
    return Served(policy, config, export, version, note)
