"""GHPO: a prompt that no completion solves is asked again with a growing part of its reference trace (arXiv 2507.10628); GRPO otherwise.

Trained on the hinted prompt. Where it departs: the hint is the beginning of the answer, which the policy continues, not a sentence in the
question; all completions of a group come from one hint; the paper's start with a fixed hint for hard prompts is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore
from dyme.types import Group


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hints."""

    hint_shares: Annotated[tuple[float, ...], Bounds(above=0, most=1)] = (0.25, 0.5, 0.75)
    """Shares of the trace that a hint holds, in whole words, in the order in which they are tried; each may be tried once."""

    def __post_init__(self) -> None:
        """Raise ValueError unless the shares grow."""
        if any(later <= earlier for earlier, later in pairwise(self.hint_shares)):
            raise ValueError(f"hint_shares must grow, and are {', '.join(map(str, self.hint_shares))}")


def hint(group: Group, context: Context[Settings]) -> str | None:
    """Return the next hint for a group without a correct completion; None after the last one, and for a prompt without a trace."""
    trace, shares = group.sample.rationale or "", context.settings.hint_shares
    ends = [word.end() for word in re.finditer(r"\S+", trace)]
    if group.solved or not ends or len(group.draws) >= len(shares):
        return None
    return trace[: ends[max(1, round(shares[len(group.draws)] * len(ends))) - 1]].lstrip()


STAGE: Stage[Any] = Stage(name="ghpo", route=explore, rolls_out=True, imitates=False, reads_traces=True, redraw=hint)
METHOD = Method(
    name="ghpo",
    summary="GRPO; an all-wrong prompt is drawn again behind a growing part of its trace",
    source="GHPO (arXiv 2507.10628)",
    settings=Settings(),
    defaults={"objective.beta": 0.0, "objective.scale_rewards": "group", "objective.normalize": "all"},
    stages=lambda settings: (STAGE,),
)
