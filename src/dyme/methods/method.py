"""What a method is: a sequence of stages, each a part of the budget with one small function (group, context) -> Route.

A method says by itself all that the rest of the package must know of it: its settings, what each stage needs, what it remembers. A stage
is asked once about each group, before the helpers work. The switch looks at binary correctness alone; shaped reward only enters the
advantages (paper, Eq. 2), which `routes.settle` computes after a checker has graded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from dyme import settings
from dyme.config import Config, MethodConfig
from dyme.errors import ConfigError
from dyme.types import Branch, Group, Route, Verdict

S = TypeVar("S")
"""The class of a method's settings."""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The settings of a method that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[S]):
    """What a method may know besides the group; alike on all processes but for `place`."""

    config: Config
    settings: S
    """The method's own settings."""
    step: int = 1
    """Number of the step, from 1 on."""
    progress: float = 0.0
    """Share of the budget that is used before the step, in [0, 1]."""
    state: Any = None
    """What the method remembers of earlier steps (`Method.first_state`); do not change it, return another one."""
    batch: tuple[tuple[Verdict, ...], ...] = ()
    """The verdicts of each group of the step, over all processes, in the order of the step's prompts."""
    place: int = 0
    """Index of this group in `batch`."""


RoutingFunction = Callable[[Group, Context[S]], Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Generic[S]):
    """A part of the training budget with one routing rule; each stage has its own optimizer state and schedule."""

    name: str
    route: RoutingFunction[S]
    rolls_out: bool
    """Whether it needs completions; without them groups are empty, and no time goes into sampling."""
    imitates: bool
    """Whether it may train on the target y* (a branch without a completion)."""
    reads_traces: bool = False
    """Whether reference traces matter to it in another way, as hints do; what imitates them reads them."""
    share: float = 1.0
    """Part of the budget; the shares of a method's stages add up to 1."""
    learning_rate: float | None = None
    """Peak learning rate; None: train.learning_rate."""
    advantages: Callable[[Sequence[float], Sequence[Branch], Context[S]], Sequence[float]] | None = None
    """From the rewards of a route's policy branches, in their order, to an advantage for each; None: the recipe's, (r - mean) / std."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, in words."""
        declared = {"rollouts": self.rolls_out, "traces": self.imitates or self.reads_traces}
        return tuple(word for word, needed in declared.items() if needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[S]):
    """A method: what it is, where it comes from, its settings, its stages, and what it remembers."""

    name: str
    summary: str
    source: str
    """Paper and equation."""
    stages: Callable[[S], tuple[Stage[S], ...]]
    """The stages under given settings."""
    settings: S = field(default_factory=NoSettings)  # type: ignore[assignment]
    """The method's own settings with their defaults: a frozen dataclass with a docstring, and bounds, under each field (as in config.py).
    In a recipe they are keys of [method]."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of other sections that its paper uses, where the recipe is silent: {"objective.loss_type": "dr_grpo"}."""
    first_state: Callable[[S], Any] | None = None
    """What it remembers at the start, if it remembers anything: a value that JSON can hold."""
    next_state: Callable[[Sequence[Group], Sequence[Route], Context[S]], Any] | None = None
    """What it remembers after a step: from the step's groups and routes over all processes, in the order of the step's prompts, and the
    state that the step was routed with (`context.state`). It is saved in checkpoints."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """Its settings that are learning rates of stages, with the method that each is tuned with in a comparison, or "" for none: under a grid
    of rates such a setting is the rate that was chosen for that method, or unset."""

    outlook: Callable[[Mapping[str, float], int], Sequence[str]] | None = None
    """Sentences on what the figures of an untrained model (`dyme diagnose`, shares in [0, 1]) mean for this method; the second argument is
    the number of completions a prompt."""

    def settings_of(self, config: Config) -> S:
        """The method's settings under a config; raises ConfigError for a key that it does not have, or a wrong value."""
        return self.read(config.method.settings)

    def read(self, table: Mapping[str, Any]) -> S:
        """The method's settings from a table that holds some of them, lists as JSON has them or as tuples."""
        names = {one.name: one for one in fields(self.settings)}  # type: ignore[arg-type]
        for key in table:
            settings.known(key, names, f"method {self.name}", "key")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        try:
            found = replace(self.settings, **given)  # type: ignore[type-var]
        except (TypeError, ValueError) as error:  # a class may check in __post_init__ what its settings have to do with each other
            raise ConfigError(f"method {self.name}: {error}") from error
        settings.check(found, "method")
        return found

    def plan(self, config: Config) -> tuple[Stage[S], ...]:
        """The stages under a config."""
        return self.stages(self.settings_of(config))

    def context(self, config: Config, **known: Any) -> Context[S]:
        """What a route of this method may know under a config, with what is `known` of the step."""
        return Context(config=config, settings=self.settings_of(config), **known)

    def settled(self, config: Config, name: str = "") -> Config:
        """`config` with all of this method's settings written out, as a run records them; `name` is what stands for the method there."""
        own = asdict(self.settings_of(config))  # type: ignore[call-overload]
        return replace(config, method=MethodConfig(name=name or config.method.name, settings=own))
