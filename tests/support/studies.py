"""A made-up study folder: cells whose items are drawn at given accuracies, with a plan, choices and bases."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme.evaluation.metrics import wilson

KINDS = ("read", "sum", "max", "diff")
ITEMS = 120
ARMS = {
    "dyme": {"method": "dyme", "label": "DyME", "settings": {"train.learning_rate": 1e-3, "method.memorize_weight": "code"}},
    "grpo": {"method": "grpo", "label": "GRPO", "settings": {"train.learning_rate": 3e-4}},
    "two_stage": {"method": "two_stage", "label": "two-stage", "settings": {"method.sft_share": 0.5}},
    "yoked": {"method": "yoked_random", "label": "yoked random", "settings": {}, "tuned_as": "dyme"},
}
REGIME = {"task.misread": 0.3, "task.traces": "high"}
LEVELS = {"dyme": 0.85, "grpo": 0.5, "two_stage": 0.8, "yoked": 0.84}


def figure(right: Sequence[int]) -> dict[str, Any]:
    found = wilson(sum(right), len(right))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def cell(
    name: str, arm: str, seed: int, level: float, *, stage: str = "test", settings: Mapping[str, Any] = REGIME, **more: Any
) -> dict[str, Any]:
    """A cell with `level` accuracy; items of one seed are alike in difficulty over the arms, so that pairs correlate."""
    ease = random.Random(f"items {seed}")
    shift = 0.02 * random.Random(f"{arm} {seed}").gauss(0, 1)
    draws = [ease.random() * 0.9 + 0.1 * random.Random(f"{arm} {seed} {k}").random() for k in range(ITEMS)]
    right = [int(draw < level + shift) for draw in draws]
    kinds = [KINDS[k % len(KINDS)] for k in range(ITEMS)]
    curve = [[32 * s, 256 * s, 5000 * s, 900 * s, None if arm == "two_stage" and s < 6 else round(level * s / 12, 3)] for s in range(1, 13)]
    config: dict[str, Any] = {
        "task": {"name": "charts"},
        "rollout": {"num_generations": 8},
        "model": {"path": "embedded"},
        "objective": {"normalize": "all"},
    }
    for key, value in settings.items():
        config.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value
    return {
        "id": name, "arm": arm, "method": ARMS.get(arm, {"method": "base"})["method"], "condition": "", "seed": seed, "stage": stage,
        "split": "test", "settings": dict(settings), "config": config,
        "metrics": {"think_accuracy": figure(right), "direct_accuracy": figure(right[::-1]), "true_statements": figure(right[1:])},
        "by_kind": {kind: {"think_accuracy": figure([r for r, k in zip(right, kinds, strict=True) if k == kind])} for kind in KINDS},
        "items": {"think": "".join(map(str, right))}, "kinds": kinds, "pictures": [f"p{k}" for k in range(ITEMS)],
        "curve": [] if stage == "base" else curve, "shares": {"memorize": 0.25, "explore": 0.7, "skip": 0.05, "mixed": 0.0},
        "prompts": 384, "completions": 3072, "sampled_tokens": 60_000, "trained_tokens": 10_800, "seconds": 300.0,
        "versions": {"torch": "2.13"}, "hardware": {"cpus": 2}, "commit": "0123456789abcdef", **more,
    }  # fmt: skip


def diagnosis() -> dict[str, Any]:
    passed = {f"pass_at_{k}": {"value": value, "low": value, "high": value, "n": 200} for k, value in ((1, 0.1), (8, 0.4), (64, 0.7))}
    kinds = {
        kind: {"pass_at_64": {"value": value, "low": 0, "high": 1, "n": 50}}
        for kind, value in zip(KINDS, (0.9, 0.5, 0.2, 0.02), strict=True)
    }
    truth = {"value": 0.8, "low": 0.78, "high": 0.82, "n": 900}
    metrics = passed | {"sampled_format_rate": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 200}}
    return {"k": 64, "metrics": metrics, "by_kind": kinds, "trace_truth": truth, "traces": 1000, "facts": True, "pictures": True}


def make_study(
    out: Path,
    *,
    seeds: int = 6,
    levels: Mapping[str, float] = LEVELS,
    dose: bool = True,
    left_out: Sequence[tuple[str, int]] = (),
    label: str = "",
) -> Path:
    """Write a study folder: block "primary" of four arms, block "dose" of two arms at misread 0 and 0.5, without the cells `left_out`."""
    (out / "cells").mkdir(parents=True, exist_ok=True)
    arms, tests = {name: dict(arm) for name, arm in ARMS.items()}, [*range(1, seeds + 1)]
    if label:
        arms["dyme"]["label"] = label
    blocks: dict[str, Any] = {
        "primary": {"question": "Does the switch help?", "arms": list(arms), "seeds": tests, "conditions": {"regime": REGIME},
                    "compare": [["dyme", "grpo"], ["dyme", "two_stage"]], "then": [["dyme", "yoked"]]},
        "dose": {"question": "And with other noise?", "arms": ["dyme", "two_stage"], "seeds": [1, 2, 3, 4],
                 "conditions": {f"misread {m:g}": {**REGIME, "task.misread": m} for m in (0.0, 0.5)}},
    }  # fmt: skip
    if not dose:
        del blocks["dose"]
    for name, block in blocks.items():
        block |= {"cells": {}, "bases": {}}
        for condition, settings in block["conditions"].items():
            gain = 0.1 * (settings["task.misread"] - 0.3)
            key = f"base-{settings['task.misread']:g}"
            write(out, cell(key, "base", 0, 0.2, stage="base", settings=settings, diagnosis=diagnosis()))
            block["bases"][condition] = key
            for arm in block["arms"]:
                ids = block["cells"].setdefault(condition, {}).setdefault(arm, {})
                for seed in block["seeds"]:
                    ids[str(seed)] = f"{name}-{settings['task.misread']:g}-{arm}-{seed}"
                    if (arm, seed) not in left_out:
                        write(out, cell(ids[str(seed)], arm, seed, levels[arm] + gain * (arm == "dyme"), settings=settings))
    plan = {
        "title": "A made-up study", "recipe": "charts-dyme", "budget": "4800prompts", "command": "dyme study made-up.toml",
        "settings": {"objective.normalize": "all"},
        "tuning": {"seeds": [100]}, "arms": arms, "blocks": blocks,
        "predictions": {"D1": {"pair": ["dyme", "grpo"], "on": "pass_at_64", "expect": "falls"},
                        "D2": {"pair": ["dyme", "two_stage"], "on": "task.misread", "expect": "rises"}},
    }  # fmt: skip
    trials = [
        {"settings": {"train.learning_rate": rate}, "seed": 100, "round": number, "budget": budget, "accuracy": accuracy}
        for rate, number, budget, accuracy in (
            (3e-4, 1, "1600prompts", 0.6), (1e-3, 1, "1600prompts", 0.7), (1e-3, 2, "4800prompts", 0.8), (3e-3, 3, "4800prompts", 0.75),
        )
    ]  # fmt: skip
    choice = {
        "trials": trials,
        "winner": {"train.learning_rate": 1e-3},
        "opened": [{"setting": "train.learning_rate", "value": 3e-3}],
        "edges": [],
    }
    (out / "plan.json").write_text(json.dumps(plan))
    (out / "choices.json").write_text(json.dumps({"dyme": choice}))
    return out


def write(out: Path, one: Mapping[str, Any]) -> None:
    (out / f"cells/{one['id']}.json").write_text(json.dumps(one))
