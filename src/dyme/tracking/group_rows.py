"""The lines of rollouts.jsonl: written from groups, and read for use in Python as rows with types, which a notebook shows with their
pictures.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from dyme.system.terminal import one_line
from dyme.types import Group, Route

_SHOWN = 1000
"""Characters of a text that a notebook shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRow:
    """One completion with its verdict; docs/schema.md describes the fields."""

    text: str
    tokens: int
    finished: bool
    parsed: bool
    correct: bool
    answer: str | None
    reward: float | None
    rewards: Mapping[str, float | None]
    reason: str
    assessment: str | None = None
    advantage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One prompt at one step, with its completions and its route; docs/schema.md describes the fields."""

    step: int
    id: str
    question: str
    answer: str
    kind: str
    mode: str
    reason: str
    rationale: str | None
    target: str | None
    trust: float | None
    trouble: str
    facts: tuple[tuple[str, str], ...]
    completions: tuple[CompletionRow, ...]
    pictures: tuple[Path, ...]
    """Small copies of its images, if the step kept them."""
    prefix: str = ""
    """Hint that the completions continue, if the method had the group drawn again."""

    @classmethod
    def of(cls, row: Mapping[str, Any], pictures: tuple[Path, ...]) -> GroupRow:
        """Return the row of a line of rollouts.jsonl, without fields that this version does not know."""
        known = {field.name for field in fields(CompletionRow)}
        lacking: dict[str, Any] = {"answer": None, "rewards": {}}
        completions = tuple(CompletionRow(**lacking | {k: v for k, v in one.items() if k in known}) for one in row["completions"])
        plain = ("step", "id", "question", "answer", "kind", "mode", "reason", "rationale")
        return cls(
            **{name: row[name] for name in plain}, target=row.get("target"), trust=row.get("trust"), trouble=row.get("trouble") or "",
            prefix=row.get("prefix") or "",
            facts=tuple((subject, value) for subject, value in row["facts"]), completions=completions, pictures=pictures,
        )  # fmt: skip

    def __str__(self) -> str:
        """Return question and completions, one a line."""
        return "\n".join([self._head(), *(f"    {_mark(one)} {one_line(one.text)}" for one in self.completions)])

    def _head(self) -> str:
        return f"step {self.step}, {self.mode} ({self.reason}): {self.question} -> {self.answer}"

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img style="max-width:160px;max-height:160px;margin:0 12px 0 0" src="data:image/png;base64,{_encoded(file)}">'
            for file in self.pictures
        )
        lines = "".join(f"<li><code>{_mark(one)}</code> {escape(one.text[:_SHOWN])}</li>" for one in self.completions)
        text = f'<b>{escape(self._head()[:_SHOWN])}</b><ul style="margin:4px 0;list-style:none;padding:0">{lines}</ul>'
        return f'<div style="display:flex;margin:8px 0">{images}<div>{text}</div></div>'


class GroupRows(list[GroupRow]):
    """A list of groups."""

    def __repr__(self) -> str:
        """Return all groups as text, with a blank line between two."""
        return "\n\n".join(map(str, self))

    def _repr_html_(self) -> str:
        return "".join(row._repr_html_() for row in self)


def _mark(one: CompletionRow) -> str:
    """Return verdict and reward: "right 2.31" or "wrong 0.00"."""
    return ("right" if one.correct else "wrong") + (f" {one.reward:.2f}" if one.reward is not None else "")


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def line_of(step: int, group: Group, route: Route) -> dict[str, Any]:
    """Return the line of rollouts.jsonl for a group and its route at a step."""
    sample = group.sample
    advantages = {b.completion: b.advantage for b in route.branches if b.completion is not None}
    pairs = zip(group.completions, group.verdicts, strict=True)
    completions = [
        {
            "text": completion.text,
            "tokens": len(completion.token_ids),
            "finished": completion.finished,
            "parsed": verdict.parsed,
            "correct": verdict.correct,
            "answer": verdict.answer,
            "reward": verdict.reward,
            "rewards": verdict.rewards,
            "reason": verdict.reason,
            **({"failed": True} if verdict.failed else {}),
            "assessment": _assessment(group, k),
            "advantage": advantages.get(k),
        }
        for k, (completion, verdict) in enumerate(pairs)
    ]
    return {
        "step": step,
        "id": sample.id,
        "question": sample.question,
        "answer": sample.answer,
        "kind": sample.kind,
        "images": [source.key for source in sample.images],
        "facts": [(fact.subject, fact.value) for fact in sample.facts],
        "rationale": sample.rationale,
        "target": group.target,
        "trouble": group.trouble,
        **({} if group.trust is None else {"trust": group.trust}),
        **({"drafts": [asdict(draft) for draft in group.drafts]} if group.drafts else {}),
        **({"left_out": group.left_out} if group.left_out else {}),
        **({"prefix": group.prefix, "draws": [_draw(draw) for draw in group.draws]} if group.draws else {}),
        "mode": route.mode,
        "reason": route.reason,
        "completions": completions,
    }


def _draw(draw: Group) -> dict[str, Any]:
    """Return what is kept of a draw that was not trained on."""
    return {"prefix": draw.prefix, "completions": len(draw.completions), "correct": draw.solved}


def _assessment(group: Group, k: int) -> str | None:
    """Return "medium 0.62: one value is wrong", or None if the completion was not assessed."""
    found = group.assessments[k] if group.assessments else None
    return None if found is None else f"{found.level} {found.score:.2f}: {found.reason}"
