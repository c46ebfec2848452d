"""Which routes a real DyME run took: counts of prompts by mode and live branches, recorded in routes.json.

    python benchmarks/routes.py RUN_FOLDER [COMMIT]     write routes.json from a run's rollouts.jsonl

COMMIT names the source of a run that was started outside its repository, which cannot know it.

A branch is live if it carries gradient: the target of a memorized prompt, the completions of an explored one whose advantage
is not zero. `mix` turns the counts into a few prompts with the same shares.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dyme.config import ObjectiveConfig
from dyme.methods.advantages import advantages
from dyme.types import Branch, Group, Route

FILE = Path(__file__).with_name("routes.json")


def record(run: Path, commit: str | None = None) -> dict[str, object]:
    """Counts of a run's prompts by number of live branches, and where they come from."""
    config, versions = (json.loads((run / name).read_text()) for name in ("config.json", "versions.json"))
    counts: Counter[tuple[str, int]] = Counter()
    with (run / "rollouts.jsonl").open() as lines:
        for row in map(json.loads, lines):
            live = sum(bool(c["advantage"]) for c in row["completions"]) if row["mode"] == "explore" else int(row["mode"] == "memorize")
            counts[row["mode"], live] += 1
    return {
        "command": " ".join(["dyme", *versions["command"][1:]]),
        "seed": config["run"]["seed"],
        "commit": versions["commit"] or commit,
        "started": versions["started"],
        "num_generations": config["rollout"]["num_generations"],
        "prompts": sum(counts.values()),
        "modes": [{"mode": mode, "live": live, "prompts": n} for (mode, live), n in sorted(counts.items(), key=_cost)],
    }


def _cost(item: tuple[tuple[str, int], int]) -> tuple[int, str]:
    (mode, live), _ = item
    return live, mode


def mix(count: int) -> list[tuple[str, int]]:
    """(mode, live branches) of `count` prompts at evenly spaced ranks of the recorded ones, ordered by live branches."""
    recorded = json.loads(FILE.read_text())
    ranks = [(k + 0.5) / count * recorded["prompts"] for k in range(count)]
    out, seen = [], 0
    for entry in recorded["modes"]:
        seen += entry["prompts"]
        while ranks and ranks[0] < seen:
            ranks.pop(0)
            out.append((entry["mode"], entry["live"]))
    return out


def explore(groups: Sequence[Group], objective: ObjectiveConfig) -> list[Route]:
    """Every completion of every group, with the advantages of its rewards."""
    scores = [advantages([v.reward for v in group.verdicts], objective) for group in groups]
    return [Route(mode="explore", branches=_scored(row)) for row in scores]


def memorize(groups: Sequence[Group]) -> list[Route]:
    """The target of every group."""
    return [Route(mode="memorize", branches=(Branch(term="imitate"),)) for _ in groups]


def recorded(groups: Sequence[Group]) -> list[Route]:
    """The mixture of routes of the recorded run: its numbers of live branches, with advantages of 1 and -1."""
    out = []
    for (mode, live), group in zip(mix(len(groups)), groups, strict=True):
        signs = [(-1.0) ** k if k < live else 0.0 for k in range(len(group.completions))]
        branches = {"memorize": (Branch(term="imitate"),), "explore": _scored(signs), "skip": ()}[mode]
        out.append(Route(mode=mode, branches=branches))  # type: ignore[arg-type]
    return out


def _scored(advantages: Sequence[float]) -> tuple[Branch, ...]:
    return tuple(Branch(term="policy", completion=k, advantage=a) for k, a in enumerate(advantages))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    FILE.write_text(json.dumps(record(Path(sys.argv[1]), *sys.argv[2:]), indent=2) + "\n")
    print(FILE.read_text())
