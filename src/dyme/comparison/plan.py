"""What a comparison compares: methods, trace qualities, seeds, learning rates, under one budget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyme.checks import check_config
from dyme.config import Config
from dyme.data.layouts import Split
from dyme.errors import ConfigError
from dyme.methods import METHODS
from dyme.recipe import build
from dyme.settings import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to compare and how."""

    config: Config
    methods: tuple[str, ...]
    traces: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    out: Path
    jobs: int = 1
    split: Split = "test"
    """What is reported on."""

    def check(self) -> None:
        """Raise ConfigError for unknown methods or qualities, empty lists, impossible numbers, or a folder of another comparison."""
        check_config(self.config)
        for method in self.methods:
            name, settings = parse_method(method)
            if name != "base" and name not in METHODS:
                raise ConfigError(f"unknown method {name!r}; {nearest(name, ('base', *METHODS))}")
            build(self.config.to_dict(), settings, where=f"method {method}")
        if not (self.methods and self.traces and self.seeds and self.rates):
            raise ConfigError("a comparison needs at least one method, trace quality, seed and learning rate")
        if self.jobs < 1:
            raise ConfigError("--jobs must be at least 1")
        for traces in self.traces:
            for rate in self.rates:
                build(self.config.to_dict(), [f"--task.traces={traces}", f"--train.learning_rate={rate}"], where="compare")


def parse_method(text: str) -> tuple[str, list[str]]:
    """The method's name and its own settings as overrides: "dyme+method.memorize_weight=0.125" has one."""
    name, *settings = text.split("+")
    return name, [f"--{setting}" for setting in settings]


def parse_budget(text: str) -> dict[str, Any]:
    """Settings of [train] for "120s" or "2000prompts"; raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+)prompts|(\d+(?:\.\d+)?)s", text.strip(), re.ASCII)
    if found and float(found[1] or found[2]) > 0:
        return {"max_prompts": int(found[1] or 0), "max_seconds": float(found[2] or 0)}
    raise ConfigError(f"budget {text!r} is not understood; write 120s or 2000prompts")


def traces_of(study: Study, method: str) -> tuple[str, ...]:
    """Methods that never read a trace are run once, and reported as such."""
    name, settings = parse_method(method)
    reward = build(study.config.to_dict(), settings).reward
    compared = reward.thinking_against == "reference" and reward.thinking_weight != 0
    return study.traces if name not in ("base", "grpo") or (name == "grpo" and compared) else ("any",)
