"""The design of a study: arms, how they are tuned, blocks of cells; and the recipe of any of its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from dyme import plugins
from dyme.checks import check_config, check_training
from dyme.config import Config, MethodConfig, TrainConfig
from dyme.data.layouts import Split
from dyme.errors import ConfigError
from dyme.methods import METHODS, Method, asking, find
from dyme.recipe import build
from dyme.settings import known, nearest
from dyme.types import Sample

BASE = "base"
"""Stands among methods for the model as it is, untrained."""
TUNING = "tuning"
"""Stands among blocks for the trials."""
_KEYS = {one.name for one in fields(TrainConfig)}
LIMITS = {unit: f"max_{unit}" for unit in ("prompts", "completions", "tokens", "seconds") if f"max_{unit}" in _KEYS}
"""Units of a budget, each with its setting of [train]."""
Settings = Mapping[str, Any]
"""Values by the name of their setting: {"train.learning_rate": 1e-3}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train: a method with settings, some of which may be tuned."""

    name: str
    method: str
    label: str = ""
    settings: Settings = field(default_factory=dict)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values to choose from, by setting."""
    tuned_as: str = ""
    """Arm whose chosen settings this arm takes, as far as its method has them."""
    takes: Mapping[str, str] = field(default_factory=dict)
    """Settings, each with the arm whose chosen learning rate it takes."""

    @property
    def leaders(self) -> tuple[str, ...]:
        """Return the arms that must be tuned before this one."""
        return (*([self.tuned_as] if self.tuned_as else []), *self.takes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The choice of each arm's settings, by accuracy on the validation split, at seeds that no test uses."""

    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    first: float = 1.0
    """Share of the budget in the first round; 1: there is one round, in full."""
    keep: int = 2
    """Configurations that the first round leaves for the second."""
    open_edges: int = 2
    """Values that may be opened for a setting, beyond a winner at the edge of its grid; 0: such a winner is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Arms x conditions x seeds that answer a question."""

    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    question: str = ""
    conditions: Mapping[str, Settings] = field(default_factory=lambda: {"": {}})
    compare: tuple[tuple[str, str], ...] = ()
    then: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A whole study."""

    title: str
    where: str
    """The file, for messages."""
    recipe: str
    tables: Mapping[str, Mapping[str, Any]]
    """Settings that the recipe gives, by section; a method's defaults fill in others."""
    settings: Settings
    arms: Mapping[str, Arm]
    blocks: Mapping[str, Block]
    out: Path
    budget: Mapping[str, float] = field(default_factory=dict)
    """Settings of [train] that limit a cell; empty: the recipe's."""
    tuning: Tuning | None = None
    jobs: int = 1
    threads: int = 1
    """Threads of each cell; figures do not depend on the number of jobs."""
    keep: Literal["figures", "models"] = "figures"
    base: bool = True
    """Whether the untrained model is evaluated, in each condition."""
    diagnose: bool = True
    """Whether it is diagnosed too, for the map of regimes: 64 samples of 200 validation questions."""
    split: Split = "test"
    """The split that is reported on."""
    cells: Path | None = None
    """Another folder of cell files that count as done."""
    predictions: Mapping[str, Any] = field(default_factory=dict)

    def method_of(self, arm: Arm) -> Method[Any]:
        """Return the arm's method; raises ConfigError for an unknown one."""
        where = f"{self.where}: [arms.{arm.name}] method"
        if arm.method not in METHODS and not plugins.is_known(arm.method, "methods"):
            raise ConfigError(f"{where}: unknown method {arm.method!r}; {nearest(arm.method, METHODS)}; FILE.py:NAME is one of your own")
        return find(arm.method, where)

    def configure(self, arm: Arm, seed: int, *layers: Settings, share: float = 1.0) -> Config:
        """Return the recipe of a cell: the study's settings, then the layers (a condition, ...), then the arm's own, then what was chosen.

        The last layer is what was chosen. `share` is the part of the budget. Settings of [method] that the arm's method does not have are
        left out, unless the arm itself gives them. Raises ConfigError for wrong settings, naming the place.
        """
        *conditions, chosen = layers
        tree = {section: dict(table) for section, table in self.tables.items()}
        for layer in (self.settings, *conditions):
            put(tree, layer)
        own = self.method_of(arm).settings
        tree["method"] = {key: value for key, value in tree.get("method", {}).items() if hasattr(own, key)}
        for layer in (arm.settings, chosen, {"method.name": arm.method, "run.seed": seed}):
            put(tree, layer)
        where = f"{self.where}: [arms.{arm.name}]"
        config = build(tree, where=where)
        limits: dict[str, Any] = part_of(config, self.budget, share)
        return replace(config, train=replace(config.train, **limits))

    def base_config(self, condition: Settings) -> Config:
        """Return the settings under which the untrained model is evaluated in a condition."""
        tree = {section: dict(table) for section, table in self.tables.items()}
        for layer in (self.settings, condition, {"run.seed": 0}):
            put(tree, layer)
        asked = ("run", "model", "task", "reward", "supervision", "rollout")
        kept = {section: table for section, table in tree.items() if section in asked}
        kept.get("rollout", {}).pop("num_generations", None)
        return build(kept, where=self.where)

    def plain(self) -> Config:
        """Return the recipe with the study's settings, for what all cells share."""
        tree = {section: dict(table) for section, table in self.tables.items()}
        put(tree, self.settings)
        own = find(str(tree.get("method", {}).get("name", MethodConfig.name))).settings
        tree["method"] = {key: value for key, value in tree.get("method", {}).items() if key == "name" or hasattr(own, key)}
        return build(tree, where=self.where)

    def variants(self) -> Iterator[tuple[Arm, Config]]:
        """Yield a recipe for each arm in each condition and for each value of its grid: all that can be wrong in one of them."""
        for arm in self.arms.values():
            conditions = [c for block in self.blocks.values() if arm.name in block.arms for c in block.conditions.values()]
            first = {key: values[0] for key, values in arm.grid.items()}
            taken = dict.fromkeys(arm.takes, 0.0001)
            for condition in conditions:
                yield arm, self.configure(arm, 0, condition, first | taken)
            for key, values in arm.grid.items() if self.tuning else ():
                for value in values:
                    yield arm, self.configure(arm, 0, self.tuning.settings if self.tuning else {}, first | taken | {key: value})

    def check(self) -> None:
        """Raise ConfigError for settings, values or names that cannot work, before any work."""
        for arm in self.arms.values():
            own = {one.name: one for one in fields(self.method_of(arm).settings)}
            for key in (*arm.settings, *arm.grid, *arm.takes):
                if key.startswith("method."):
                    known(key.partition(".")[2], own, f"{self.where}: [arms.{arm.name}]: {arm.method}", "setting")
        check_config(self.plain())
        for _, config in self.variants():
            check_training(config)
        named = {key.partition(".")[2] for key in self.settings if key.startswith("method.")}
        for key in sorted(named - {"name"}):
            if not any(hasattr(self.method_of(arm).settings, key) for arm in self.arms.values()):
                raise ConfigError(f"{self.where}: [settings] method.{key}: no arm's method has this setting")

    def try_out(self, sample: Sample) -> None:
        """Raise ConfigError for an arm whose method gives no route for made-up groups of a sample."""
        seen = set()
        for arm, config in self.variants():
            if arm.name not in seen:
                seen.add(arm.name)
                asking.try_out(self.method_of(arm), config, sample)


def put(tree: dict[str, dict[str, Any]], settings: Settings) -> None:
    """Put settings into tables by section."""
    for name, value in settings.items():
        section, _, key = name.partition(".")
        tree.setdefault(section, {})[key] = value


def flat_values(text: str) -> tuple[Any, ...]:
    """Return the distinct values of a list such as "1e-4,3e-4": numbers where all are numbers, else words."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for kind in (int, float):
        try:
            return tuple(dict.fromkeys(kind(word) for word in words))
        except ValueError:
            continue
    return tuple(dict.fromkeys(words))


def parse_budget(text: str) -> dict[str, float]:
    """Return the settings of [train] for "120s", "2000prompts", "38400completions"; raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+)([a-z]{2,})|(\d+(?:\.\d+)?)s", text.strip(), re.ASCII)
    if found and found[3] and float(found[3]) > 0:
        return {"max_seconds": float(found[3])}
    if found and found[2] in LIMITS and found[2] != "seconds" and int(found[1]) > 0:
        return {LIMITS[found[2]]: int(found[1])}
    units = [f"2000{unit}" for unit in LIMITS if unit != "seconds"]
    raise ConfigError(f"budget {text!r} is not understood; write 120s or {' or '.join(units)}")


def part_of(config: Config, budget: Settings, share: float) -> dict[str, Any]:
    """Return the settings of [train] for a share of a budget, in whole steps where it counts prompts; {} budget: the recipe's."""
    if not budget:
        budget = {key: getattr(config.train, key) for key in LIMITS.values() if getattr(config.train, key)}
    if not budget:
        return {"num_train_epochs": config.train.num_train_epochs * share}
    limits: dict[str, float] = dict.fromkeys(LIMITS.values(), 0)
    limits["max_seconds"] = 0.0
    for key, value in budget.items():
        found = value * share
        if share < 1 and key == "max_prompts":
            step = config.train.prompts_per_step
            found = max(1, round(found / step)) * step
        limits[key] = float(found) if key == "max_seconds" else round(found)
    return limits


def budget_of(config: Config) -> str:
    """Return a recipe's budget in words: "4800prompts"."""
    held = {unit: getattr(config.train, key) for unit, key in LIMITS.items()}
    words = [f"{value:g}s" if unit == "seconds" else f"{value}{unit}" for unit, value in held.items() if value]
    return " ".join(words) or f"{config.train.num_train_epochs:g}epochs"


def named(design: Design, only: Sequence[str]) -> tuple[list[Block], list[Arm]]:
    """Return the blocks of these names (none: all), and the arms whose trials they need; TUNING alone needs the trials of all arms."""
    for name in only:
        if name not in (TUNING, *design.blocks):
            raise ConfigError(f"--only {name}: no such block; choose from {', '.join((TUNING, *design.blocks))}")
    blocks = [block for name, block in design.blocks.items() if not only or name in only]
    if not only or TUNING in only:
        return blocks, list(design.arms.values())
    needed = {arm for block in blocks for arm in block.arms}
    while more := {leader for name in needed for leader in design.arms[name].leaders} - needed:
        needed |= more
    return blocks, [arm for arm in design.arms.values() if arm.name in needed]
