"""SFT: imitate the reference trace of every prompt (paper, Eq. 1)."""

from __future__ import annotations

from dyme.methods.method import Method, Stage
from dyme.methods.routes import memorize

METHOD = Method(
    name="sft",
    summary="imitate the reference trace of every prompt; no rollouts",
    source="paper, Eq. 1",
    stages=lambda config: (Stage(name="sft", route=memorize, rolls_out=False),),
)
