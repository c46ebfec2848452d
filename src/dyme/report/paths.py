"""The path of single prompts over a run: at each visit the mode and the share right, and what came before a prompt was first right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from dyme.report.plots import Line, Plot, areas
from dyme.report.render import MODE_COLOURS
from dyme.report.series import MODES, unaided

SHOWN = 36
"""Prompts whose visits are shown, at most."""
VISITS = 10
"""Visits of a prompt that are shown, at most."""
_LONGEST = 160
_T = TypeVar("_T")
ORIGINS = {
    "first": ("right at the first visit", "the model could do it already, or had learnt it from other prompts"),
    "memorize": ("first right after being memorized", "its reference was imitated at an earlier visit: DyME's way to exploring"),
    "explore": ("first right after exploring", "at an earlier visit its wrong completions were trained on, never its reference"),
    "skip": ("first right after being skipped only", "nothing had been trained on it; other prompts taught it"),
    "never": ("never right", "no completion at any visit"),
}  # fmt: skip
"""By what came before a prompt was first right: the words of the page, and what they mean."""


class Visit(NamedTuple):
    """A prompt at a step: its mode, and how many of its completions are right."""

    step: int
    mode: str
    right: int
    of: int


@dataclass
class Path:
    """A prompt's visits, in the order of steps."""

    id: str
    question: str
    visits: list[Visit] = field(default_factory=list)

    @property
    def first(self) -> int | None:
        """Return the index of the first visit with a right completion; None if there is none."""
        return next((k for k, visit in enumerate(self.visits) if visit.right), None)

    @property
    def origin(self) -> str:
        """Return the key in ORIGINS."""
        if self.first is None:
            return "never"
        before = {visit.mode for visit in self.visits[: self.first]}
        if not before:
            return "first"
        return "memorize" if before & {"memorize", "mixed"} else "explore" if "explore" in before else "skip"

    @property
    def lost(self) -> bool:
        """Return whether the prompt was right once, and no completion is at its last visit."""
        return self.first is not None and not self.visits[-1].right


class Paths(dict[str, Path]):
    """The paths of a run by the names of the prompts."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one line of rollouts.jsonl."""
        path = self.setdefault(row["id"], Path(row["id"], row["question"][:_LONGEST]))
        path.visits.append(Visit(row["step"], row["mode"], *unaided(row)))

    def chosen(self) -> list[Path]:
        """Return the paths that the page shows: at most SHOWN of those with several visits."""
        return choose([path for path in self.values() if len(path.visits) > 1])

    def section(self, linked: Iterable[str]) -> dict[str, Any] | None:
        """Return what the page shows; None if the run sampled nothing. `linked` are the prompts among the page's samples."""
        sampled = [path for path in self.values() if any(visit.of for visit in path.visits)]
        if not sampled:
            return None
        again = [path for path in sampled if len(path.visits) > 1]
        chosen, columns = self.chosen(), spread(range(max((len(path.visits) for path in again), default=0)), VISITS)
        counts, known = Counter(path.origin for path in sampled), set(linked)
        return {
            "prompts": len(sampled),
            "again": len(again),
            "once": sum(path.origin == "never" and len(path.visits) == 1 for path in sampled),
            "lost": sum(path.lost for path in again),
            "origins": [(*ORIGINS[name], counts[name], counts[name] / len(sampled)) for name in ORIGINS if counts[name]],
            "columns": columns,
            "rows": [(path, path.id in known, [path.visits[k] if k < len(path.visits) else None for k in columns]) for path in chosen],
            "plot": _by_visit(again),
        }


def choose(paths: Sequence[Path]) -> list[Path]:
    """Return at most SHOWN paths, sorted by when they were first right: of each origin a share, at least three, spread over the steps."""
    ordered = sorted(paths, key=lambda path: (path.first is None, path.visits[path.first or 0].step, path.id))
    by_origin = {name: [path for path in ordered if path.origin == name] for name in ORIGINS}
    if len(ordered) <= SHOWN:
        return ordered
    few = {name: min(3, len(found)) for name, found in by_origin.items()}
    rest = SHOWN - sum(few.values())
    more = {name: rest * (len(found) - few[name]) // max(1, len(ordered) - sum(few.values())) for name, found in by_origin.items()}
    names = {path.id for name, found in by_origin.items() for path in spread(found, few[name] + more[name])}
    return [path for path in ordered if path.id in names]


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most `most` items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / max(1, most - 1))] for k in range(most)]


def _by_visit(paths: Sequence[Path]) -> Plot | None:
    """Return a plot of the modes by visit, of prompts that were seen more than once; None without any."""
    most = max((len(path.visits) for path in paths), default=0)
    at = [Counter(path.visits[k].mode for path in paths if k < len(path.visits)) for k in range(most)]
    shares = [Line(mode, [count[mode] / count.total() for count in at], MODE_COLOURS[mode]) for mode in MODES]
    present = [line for line in shares if any(line.y)]
    note = "What became of prompts at each return. Good: memorize makes way for explore, and explore for skip, where all are right."
    x = [float(k + 1) for k in range(most)]
    return areas("visits", "Mode by visit", x, present, xlabel="visit", note=note) if most else None
