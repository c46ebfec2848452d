"""GRPO: reinforce what beats the group's mean reward (Shao et al., 2024, arXiv 2402.03300; paper, Eqs. 2 and 7)."""

from __future__ import annotations

from dyme.methods.method import Method, Stage
from dyme.methods.routes import explore

METHOD = Method(
    name="grpo",
    summary="reinforce what beats the group's mean reward",
    source="Shao et al., 2024 (arXiv 2402.03300); paper, Eqs. 2 and 7",
    stages=lambda config: (Stage(name="grpo", route=explore, rolls_out=True),),
)
