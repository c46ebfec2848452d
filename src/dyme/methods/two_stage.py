"""Two-stage: SFT, then GRPO with a fresh optimizer (paper, Table 1; arXiv 2604.23747 for how to do it right)."""

from __future__ import annotations

from dyme.config import Config
from dyme.methods.method import Method, Stage
from dyme.methods.routes import explore, memorize


def _two_stages(config: Config) -> tuple[Stage, ...]:
    share = config.method.sft_share
    return (
        Stage(name="sft", route=memorize, rolls_out=False, share=share),
        Stage(name="grpo", route=explore, rolls_out=True, share=1 - share),
    )


METHOD = Method(
    name="two_stage",
    summary="SFT, then GRPO with a fresh optimizer; objective.beta > 0 adds a KL term to the SFT model",
    source="paper, Table 1; arXiv 2604.23747 for how to do it right",
    stages=_two_stages,
)
