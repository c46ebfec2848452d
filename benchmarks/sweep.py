"""How the cost of an update grows with K, the prompt and the completion: ours, TRL's and the floor, with a plot.

    python benchmarks/sweep.py [--shape small|reference] [--repeats 5] [--json FILE] [--plot docs/images/performance.png]
    python benchmarks/sweep.py --from FILE --plot ...     draw again from the figures of an earlier run

One prompt, every completion live (explore), the tower's output at hand from the rollout. FLOPs are counted on real forward and
backward passes. TRL's rows do not depend on each other, so two of them are counted and the rest is K / 2 times as much. Wall
time, if --repeats is not 0, is that of the whole update on both sides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from floor import floor
from measure import arguments, count_flops, opening, paired, shape_of, table, write
from shapes import Shape
from theirs import Theirs
from update import Ours

RANGES = {"num_generations": (2, 4, 8, 16, 32), "trunk": (1200, 1236, 1400, 1800, 2600), "new_tokens": (32, 64, 128, 256, 512)}
LABELS = {"num_generations": "completions per prompt, K", "trunk": "tokens of the prompt", "new_tokens": "tokens of a completion"}


def point(shape: Shape, args: argparse.Namespace) -> dict[str, float]:
    """FLOPs of ours, TRL's and the floor for one shape, and seconds if they are asked for."""
    ours = Ours(shape, args.device, args.attention, args.checkpointing)
    ours.settle()
    routes = ours.routes("explore")
    pair = shape.but(num_generations=2)
    two = Theirs(ours.policy, pair, ours.rows, args.device, args.checkpointing)
    halves = two.batches(Ours(pair, args.device).groups)
    theirs = count_flops(lambda: two.update(halves))
    own = count_flops(lambda: ours.update(routes))
    least, rows = floor(ours.policy.model, shape, ours.live("explore")), shape.num_generations / 2
    counts = {
        "ours": own.total, "ours_executed": own.executed, "floor": least.total,
        "trl": theirs.total * rows, "trl_executed": theirs.executed * rows,
    }  # fmt: skip
    out = {name: count / 1e9 for name, count in counts.items()}
    if args.repeats:
        full = Theirs(ours.policy, shape, ours.rows, args.device, args.checkpointing)
        batches = full.batches(ours.groups)
        times = paired(lambda: ours.update(routes), lambda: full.update(batches), args.repeats, args.device)
        out |= {"ours_seconds": times.medians[0], "trl_seconds": times.medians[1]}
    return out


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Points of each range, the other two dimensions as in the shape."""
    base = shape_of(args)
    ranges = {name: [v for v in values if name != "trunk" or v >= base.image_tokens + 16] for name, values in RANGES.items()}
    if args.quick:
        ranges = {name: values[:2] for name, values in ranges.items()}
    return {name: [{name: value, **point(base.but(**{name: value}), args)} for value in values] for name, values in ranges.items()}


def draw(found: dict[str, Any], file: Path) -> None:
    """A panel per range: FLOPs of TRL, ours and the floor, and below them seconds if they were measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = "ours_seconds" in found["num_generations"][0]
    figure, axes = pyplot.subplots(1 + timed, len(found), figsize=(11, 3.4 * (1 + timed)), squeeze=False)
    lines = [("trl", "TRL", "#b3402e"), ("ours", "ours", "#1f5c99"), ("floor", "floor", "#7a7a7a")]
    for column, (name, points) in enumerate(found.items()):
        for row, suffix in enumerate(("", "_seconds")[: 1 + timed]):
            plot = axes[row][column]
            for key, label, color in lines:
                if key + suffix in points[0]:
                    style = "--" if key == "floor" else "-"
                    plot.plot([p[name] for p in points], [p[key + suffix] for p in points], style, marker=".", color=color, label=label)
            plot.set_xlabel(LABELS[name])
            plot.set_ylim(bottom=0)
            plot.spines[["top", "right"]].set_visible(False)
            if column == 0:
                plot.set_ylabel("s per prompt" if suffix else "GFLOP per prompt")
                plot.legend(frameon=False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main() -> None:
    args = arguments(
        __doc__ or "", prompts=1, plot={"type": Path, "help": "draw the figures to this file"},
        **{"from": {"type": Path, "dest": "source", "help": "take the figures from this file"}},
        quick={"action": "store_true", "help": "two points of each range"},
    )  # fmt: skip
    if args.source:
        found = json.loads(args.source.read_text())
    else:
        opening("Sweep of the update, explore", shape_of(args), args)
        found = sweep(args)
        write(args.json, found)
    for name, points in found.items():
        timed = ["trl_seconds", "ours_seconds"] if "ours_seconds" in points[0] else []
        header = [name, "GFLOP TRL", "ours", "floor", "TRL / ours", "ours / floor", *timed]
        table(header, [
            [p[name], p["trl"], p["ours"], p["floor"], p["trl"] / p["ours"], p["ours"] / p["floor"], *(p[k] for k in timed)] for p in points
        ], args.markdown)  # fmt: skip
    if args.plot:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
