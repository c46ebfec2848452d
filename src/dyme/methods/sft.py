"""SFT: imitate the reference trace of every prompt (paper, Eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dyme.config import Bounds
from dyme.methods.method import Method, Stage
from dyme.methods.routes import memorize


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The learning rate, which a comparison tunes."""

    sft_learning_rate: Annotated[float | None, Bounds(above=0)] = None
    """Peak learning rate of SFT; unset: train.learning_rate."""


def stage(rate: float | None, share: float = 1.0) -> Stage[Any]:
    """Return the SFT stage with a peak learning rate, for a share of the budget."""
    return Stage(name="sft", route=memorize, rolls_out=False, imitates=True, share=share, learning_rate=rate)


def outlook(figures: Mapping[str, float], k: int) -> list[str]:
    """Return sentences on what an untrained model's figures mean for SFT."""
    direct, think = figures["direct_accuracy"], figures["think_accuracy"]
    if direct <= think + 0.02:
        return []
    return [
        f"It answers better at once ({direct:.0%}) than thinking ({think:.0%}): SFT on traces tends to lower it further (paper, Table 1). "
        "Thinking pays only if it ends above the first figure."
    ]


METHOD = Method(
    name="sft",
    summary="imitate the reference trace of every prompt",
    source="paper, Eq. 1",
    settings=Settings(),
    outlook=outlook,
    stages=lambda settings: (stage(settings.sft_learning_rate),),
    follows={"sft_learning_rate": ""},
)
