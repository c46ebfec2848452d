"""The skills of the base: `python -m dyme.embedded.profile [MODEL] [--items 1000]`, on fresh charts of the test split.

Figures of captions (all names and values right, in chart order), short answers and sampled thinking, each with its 95 % interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from dyme.config import Config, ModelConfig, TaskConfig
from dyme.embedded import curriculum
from dyme.evaluation.items import Plan
from dyme.evaluation.metrics import Figure, clustered, wilson
from dyme.evaluation.run import answer, evaluate
from dyme.model.policy import Policy
from dyme.tasks import charts
from dyme.tasks.rules import rules_of
from dyme.types import Sample

FRESH = 1
"""Seed of the items; the test split that comparisons report on has seed 0."""


def captions(policy: Policy, samples: Sequence[Sample], config: Config) -> tuple[Figure, Figure]:
    """Return the share of captions that are wholly right, and the share of right values."""
    asked = [replace(s, question=curriculum.CAPTION) for s in samples]
    said = [c.text for c in answer(policy, asked, config, "")]
    right = [[f"{f.subject} {f.value}" for f in s.facts] for s in samples]
    whole = sum(text == ", ".join(facts) + "." for text, facts in zip(said, right, strict=True))
    values = [sum(fact in text for fact in facts) for text, facts in zip(said, right, strict=True)]
    return wilson(whole, len(samples)), clustered(values, list(map(len, right)))


def profile(model: str, items: int) -> dict[str, Figure]:
    """Return all figures of a model on `items` fresh charts."""
    config = Config(model=ModelConfig(path=model), task=TaskConfig(seed=FRESH, test_size=items))
    samples, policy = charts.load(config.task, "test"), Policy.load(config.model)
    whole, values = captions(policy, samples, config)
    metrics = evaluate(policy, samples, config, rules_of(config), plan=Plan(sampled=items))["metrics"]
    names = ("direct_accuracy", "pass_at_1", "pass_at_8", "sampled_format_rate")
    return {"captions": whole, "caption_values": values} | {name: Figure(**metrics[name]) for name in names}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="embedded", help="a checkpoint folder (default: %(default)s)")
    parser.add_argument("--items", type=int, default=1000, help="charts (default: %(default)s)")
    args = parser.parse_args()
    for name, figure in profile(args.model, args.items).items():
        print(f"{name:20} {figure.value:6.1%}  [{figure.low:.1%}, {figure.high:.1%}]  n = {figure.n}")


if __name__ == "__main__":
    main()
