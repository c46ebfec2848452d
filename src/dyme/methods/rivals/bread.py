"""BREAD: rollouts that branch off a reference trace where the policy can finish it (arXiv 2506.17211); GRPO on the continuations.

If all completions are wrong, a binary search looks for the shortest beginning of the trace, in sentences, behind which one is right; its
draw is trained on. Where it departs: the reference trace alone is cut, without the answer, and a longer beginning is taken to be easier. If
none of the beginnings helps, the first draw stays.
"""

from __future__ import annotations

import re
from typing import Any

from dyme.methods.method import Context, Method, NoSettings, Stage
from dyme.methods.routes import explore
from dyme.types import Group

_END = re.compile(r"[.!?;](?=\s)|(?<=\S)(?=\s*\n)")


def beginnings(trace: str) -> list[str]:
    """Return the beginnings of a trace that end with one of its sentences or lines; the last one is the whole trace."""
    whole = trace.strip()
    ends = [found.end() for found in _END.finditer(whole)]
    return [whole[:end] for end in dict.fromkeys((*ends, len(whole))) if end]


def anchor(group: Group, context: Context[Any]) -> str | None:
    """Return the beginning to try next, or at the end of the search the one to train on; None without a need or a trace."""
    if group.unaided.solved:
        return None
    known = ["", *beginnings(group.sample.rationale or "")]
    tried = {draw.prefix: draw.solved > 0 for draw in (*group.draws, group)}
    fails, works = 0, len(known)
    for place, prefix in enumerate(known):
        if prefix in tried:
            fails, works = (fails, min(works, place)) if tried[prefix] else (max(fails, place), works)
    if works - fails > 1:
        return known[(fails + works) // 2]
    best = known[works] if works < len(known) else ""
    return None if best == group.prefix else best


STAGE: Stage[Any] = Stage(name="bread", route=explore, rolls_out=True, imitates=False, reads_traces=True, redraw=anchor)
METHOD = Method(
    name="bread",
    summary="GRPO; an all-wrong prompt branches off the shortest beginning of its trace that helps",
    source="BREAD (arXiv 2506.17211)",
    settings=NoSettings(),
    defaults={"objective.scale_rewards": "group", "objective.normalize": "all"},
    stages=lambda settings: (STAGE,),
)
