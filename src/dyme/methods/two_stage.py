"""Two-stage: SFT, then GRPO with a fresh optimizer (paper, Table 1; done as arXiv 2604.23747 recommends)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from dyme.config import Bounds
from dyme.methods import grpo, sft
from dyme.methods.method import Method, Stage


@dataclass(frozen=True, kw_only=True)
class Settings(sft.Settings):
    """How the budget is shared."""

    sft_share: Annotated[float, Bounds(0, 1)] = 0.5
    """Share of the budget for SFT; GRPO gets the rest."""


def _stages(settings: Settings) -> tuple[Stage[Any], ...]:
    return sft.stage(settings.sft_learning_rate, settings.sft_share), replace(grpo.STAGE, share=1 - settings.sft_share)


METHOD = Method(
    name="two_stage",
    summary="SFT, then GRPO with a fresh optimizer; objective.beta > 0 adds a KL term to the SFT model",
    source="paper, Table 1; arXiv 2604.23747 for how to do it right",
    settings=Settings(),
    stages=_stages,
    follows={"sft_learning_rate": sft.METHOD.name},
)
