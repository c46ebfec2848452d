"""The plan of a comparison: methods, trace qualities, seeds, learning rates, under one budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyme import plugins
from dyme.checks import check_config, check_training
from dyme.config import Config
from dyme.data.layouts import Split
from dyme.errors import ConfigError
from dyme.methods import METHODS, Method, asking, find
from dyme.recipe import build
from dyme.settings import nearest
from dyme.types import Sample

BASE = "base"
"""Stands among methods for the model as it is, untrained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The plan of a comparison, and its options."""

    config: Config
    methods: tuple[str, ...]
    traces: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    out: Path
    jobs: int = 1
    split: Split = "test"
    """The split that is reported on."""
    given: Mapping[str, Mapping[str, Any]] | None = None
    """Settings from the recipe and the command line; a method's defaults fill in the others. None: all settings of `config` are given."""

    def check(self) -> None:
        """Raise ConfigError for unknown methods or qualities, empty lists, impossible numbers, or a folder of another comparison."""
        check_config(self.config)
        for method in self.methods:
            if self.method_of(method) is not None:
                check_training(self.config_of(method))
        if not (self.methods and self.traces and self.seeds and self.rates):
            raise ConfigError("a comparison needs at least one method, trace quality, seed and learning rate")
        if self.jobs < 1:
            raise ConfigError("--jobs must be at least 1")
        for traces in self.traces:
            for rate in self.rates:
                build(self.config.to_dict(), [f"--task.traces={traces}", f"--train.learning_rate={rate}"], where="compare")

    def try_out(self, sample: Sample) -> None:
        """Raise ConfigError for a method that gives no route for made-up groups of a sample."""
        for text in self.methods:
            if (method := self.method_of(text)) is not None:
                asking.try_out(method, self.config_of(text), sample)

    def method_of(self, text: str) -> Method[Any] | None:
        """Return the method for one of `methods` as written; None for the base, which is not trained."""
        name = parse_method(text)[0]
        if name == BASE:
            return None
        try:
            return find(name, "--methods")
        except ConfigError as error:
            if plugins.is_known(name, "methods"):
                raise
            raise ConfigError(f"unknown method {name!r}; {nearest(name, (BASE, *METHODS))}; FILE.py:NAME is one of your own") from error

    def config_of(self, text: str) -> Config:
        """Return the recipe for one of `methods` as written: with its own settings, and the settings of [method] that it has."""
        (name, overrides), method = parse_method(text), self.method_of(text)
        tree = {section: dict(table) for section, table in (self.given or self.config.to_dict()).items()}
        if method is not None:
            tree["method"] = {key: value for key, value in tree.get("method", {}).items() if hasattr(method.settings, key)} | {"name": name}
        return build(tree, overrides, where=f"method {text}")


def parse_method(text: str) -> tuple[str, list[str]]:
    """Return the method's name and its own settings as overrides: "dyme+method.memorize_weight=0.125" has one."""
    name, *settings = text.split("+")
    return name, [f"--{setting}" for setting in settings]


def parse_budget(text: str) -> dict[str, Any]:
    """Return the settings of [train] for "120s", "2000prompts", "16000completions" or "500000tokens"; raises ConfigError for anything
    else.
    """
    found = re.fullmatch(r"(\d+)(prompts|completions|tokens)|(\d+(?:\.\d+)?)s", text.strip(), re.ASCII)
    if found and float(found[1] or found[3]) > 0:
        counts = {f"max_{name}": int(found[1]) if found[2] == name else 0 for name in ("prompts", "completions", "tokens")}
        return counts | {"max_seconds": float(found[3] or 0)}
    raise ConfigError(f"budget {text!r} is not understood; write 120s, 2000prompts, 16000completions or 500000tokens")


def traces_of(study: Study, method: str) -> tuple[str, ...]:
    """Return the trace qualities to run a method with; a method that never reads a trace is run once, and reported so."""
    found = study.method_of(method)
    if found is None:
        return ("any",)
    config = study.config_of(method)
    stages = found.plan(config)
    rewarded = config.reward.thinking_against == "reference" and config.reward.thinking_weight != 0
    read = any(s.imitates or s.reads_traces or (s.rolls_out and rewarded) for s in stages)
    return study.traces if read else ("any",)
