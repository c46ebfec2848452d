"""Which prompts of a step a control memorizes: drawn at random, alike on all processes, from the run's seed and the step."""

from __future__ import annotations

import random
from typing import Any

from dyme.methods.method import Context


def judged(context: Context[Any]) -> list[int]:
    """Return the places of the step's groups, over all processes, that the verifier judged; the others are skipped."""
    return [place for place, verdicts in enumerate(context.batch) if not any(verdict.failed for verdict in verdicts)]


def generator(context: Context[Any], name: str) -> random.Random:
    """Return the random numbers of a step: the same on all processes and for each of its groups."""
    return random.Random(f"{name}:{context.config.run.seed}:{context.step}")
