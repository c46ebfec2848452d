"""The type of a method: a sequence of stages, each a part of the budget with one function (group, context) -> Route.

A method declares its settings, the needs of each stage, and its state. A stage's function is called once for each group, before the
helpers work. The switch depends on binary correctness alone; the shaped reward only enters the advantages (paper, Eq. 2), which
`routes.settle` computes after a checker has graded.
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
"""Type variable: the class of a method's settings."""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The settings of a method that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[S]):
    """A method's input besides the group; the same on all processes except for `place`."""

    config: Config
    settings: S
    """The method's own settings."""
    step: int = 1
    """Number of the step; the first is 1."""
    progress: float = 0.0
    """Share of the budget that was used before the step, in [0, 1]."""
    state: Any = None
    """State that the method keeps between steps (`Method.first_state`); do not modify it, `Method.next_state` returns a new one."""
    batch: tuple[tuple[Verdict, ...], ...] = ()
    """Verdicts of each group of the step, over all processes, in the order of the step's prompts."""
    place: int = 0
    """Index of this group in `batch`; -1 for a prompt that is trained on again (`Stage.replay`)."""
    target: Verdict | None = None
    """For `Stage.advantages`: the verdict of the target, if it is one of the branches whose advantages are computed."""
    batch_std: float = 0.0
    """For `Stage.advantages`: the standard deviation of all rewards of the step, over all processes, with scale_rewards = "batch"."""


RoutingFunction = Callable[[Group, Context[S]], Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Generic[S]):
    """A part of the training budget with one routing rule; each stage has its own optimizer state and schedule."""

    name: str
    route: RoutingFunction[S]
    rolls_out: bool
    """Whether the stage needs completions; if not, groups are empty and nothing is sampled."""
    imitates: bool
    """Whether the stage may train on the target y* (a branch without a completion)."""
    reads_traces: bool = False
    """Whether the stage uses reference traces in another way, e.g. as hints; a stage that imitates uses them in any case."""
    share: float = 1.0
    """Part of the budget; the shares of a method's stages add up to 1."""
    learning_rate: float | None = None
    """Peak learning rate; None: train.learning_rate."""
    advantages: Callable[[Sequence[float], Sequence[Branch], Context[S]], Sequence[float]] | None = None
    """Function from the rewards of a route's policy branches to their advantages, in order; None: the recipe's, (r - mean) / std."""
    replay: Callable[[Context[S]], Sequence[str]] | None = None
    """Function that returns the ids of training samples to train on again at a step, beside its own; it is called before the step is
    routed. Nothing is sampled for them: the route of each is that of a group without completions. None: no sample is trained on again."""
    redraw: Callable[[Group, Context[S]], str | None] | None = None
    """Function that may ask for another draw of a graded group, before it is routed: it returns a hint, the beginning of an answer that
    the policy is to continue, or None to keep the draw. It is called again with the new draw, whose `draws` are those before; a hint that
    was drawn before takes that draw back, "" the first one. Its context has no `batch` yet."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return what the stage needs, in words: "rollouts", "traces"."""
        declared = {"rollouts": self.rolls_out, "traces": self.imitates or self.reads_traces}
        return tuple(word for word, needed in declared.items() if needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[S]):
    """A training algorithm: its name, source, settings, stages and state."""

    name: str
    summary: str
    source: str
    """Paper and equation."""
    stages: Callable[[S], tuple[Stage[S], ...]]
    """Function from the settings to the stages."""
    settings: S = field(default_factory=NoSettings)  # type: ignore[assignment]
    """The method's own settings with their defaults: a frozen dataclass with a docstring, and bounds, under each field (as in config.py).
    In a recipe they are keys of [method]."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of other sections that the method's paper uses, unless the recipe sets them: {"objective.loss_type": "dr_grpo"}."""
    first_state: Callable[[S], Any] | None = None
    """Function from the settings to the first state, a value that JSON can hold; None: the method has no state."""
    next_state: Callable[[Sequence[Group], Sequence[Route], Context[S]], Any] | None = None
    """Function that returns the state after a step, from the step's groups and routes over all processes, in the order of the step's
    prompts, and the state that the step was routed with (`context.state`). The state is saved in checkpoints."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """Settings that are learning rates of stages, each with the method whose rate it takes in a comparison, or "": under a grid of rates
    such a setting is the rate that was chosen for that method, or, with "", unset."""

    outlook: Callable[[Mapping[str, float], int], Sequence[str]] | None = None
    """Function that returns sentences on what the figures of an untrained model (`dyme diagnose`, shares in [0, 1]) mean for this method;
    its second argument is the number of completions per prompt."""

    def settings_of(self, config: Config) -> S:
        """Return the method's settings under a config; raises ConfigError for an unknown key or a wrong value."""
        return self.read(config.method.settings)

    def read(self, table: Mapping[str, Any]) -> S:
        """Return the method's settings from a table that holds some of them; lists may be lists or tuples."""
        names = {one.name: one for one in fields(self.settings)}  # type: ignore[arg-type]
        for key in table:
            settings.known(key, names, f"method {self.name}", "key")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        try:
            found = replace(self.settings, **given)  # type: ignore[type-var]
        except (TypeError, ValueError) as error:  # a class may check combinations of its settings in __post_init__
            raise ConfigError(f"method {self.name}: {error}") from error
        settings.check(found, "method")
        return found

    def plan(self, config: Config) -> tuple[Stage[S], ...]:
        """Return the stages under a config."""
        return self.stages(self.settings_of(config))

    def context(self, config: Config, **known: Any) -> Context[S]:
        """Return the context of this method under a config; `known` are its fields that belong to the step."""
        return Context(config=config, settings=self.settings_of(config), **known)

    def settled(self, config: Config, name: str = "") -> Config:
        """Return `config` with all of this method's settings, as a run records them; `name` is the method's name in it."""
        own = asdict(self.settings_of(config))  # type: ignore[call-overload]
        return replace(config, method=MethodConfig(name=name or config.method.name, settings=own))
