"""How often the intervals and tests of `dyme.comparison.statistics` hold the truth, for trainings at a few seeds on shared items.

Correctness of two methods is drawn from logits: each item has an ease, each seed an effect on each method (shared in part, as both see
the same data in the same order), and each method an effect on each item. The truth is the mean difference over infinitely many seeds and
items. Beside the coverage of the two-way bootstrap stand those of the t interval over seeds and of plain percentiles over seeds and
items, and the size of the t test, the sign-flip test, and the two one-sided tests where the true difference is the margin.

    python benchmarks/coverage.py --json coverage.json
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from measure import table, write

from dyme.comparison.statistics import paired, resampling, trends
from dyme.comparison.statistics.resampling import Floats

SEEDS = (2, 4, 10)
SHAPES = {"seeds alike": (0.05, 0.0), "seeds differ": (0.3, 0.0), "seeds differ, items too": (0.3, 1.0), "items alone": (0.0, 1.0)}
"""Spread in logits over seeds of a method's effect, and over items of the difference between the methods."""


def drawn(rng: np.random.Generator, seeds: int, items: int, shape: tuple[float, float], shift: float) -> Floats:
    """Differences of correctness, seeds x items, of two methods `shift` logits apart."""
    over_seeds, over_items = shape
    ease, own = rng.normal(0, 1.5, items), rng.normal(0, over_items, items)
    effect = rng.normal(0, over_seeds, (2, seeds))
    ours = rng.random((seeds, items)) < 1 / (1 + np.exp(-(ease + own / 2 + shift + effect[0][:, None])))
    theirs = rng.random((seeds, items)) < 1 / (1 + np.exp(-(ease - own / 2 + effect[1][:, None])))
    return ours.astype(float) - theirs


def truth(shape: tuple[float, float], shift: float) -> float:
    """The mean difference over many seeds and items."""
    rng = np.random.default_rng(12345)
    a, b = (rng.normal(0, math.sqrt(1.5**2 + shape[1] ** 2 / 4 + shape[0] ** 2), 4_000_000) for _ in range(2))
    return float((1 / (1 + np.exp(-a - shift))).mean() - (1 / (1 + np.exp(-b))).mean())


def held(shape: tuple[float, float], seeds: int, items: int, draws: int, seed: int) -> dict[str, float]:
    """Shares of draws: of intervals that hold the truth, and of tests that reject where they should not."""
    rng = np.random.default_rng([seed, seeds, round(100 * shape[0]), round(100 * shape[1])])
    shift = 0.3
    difference, counts = truth(shape, shift), dict.fromkeys(("two-way", "plain", "t", "t test", "sign flip", "equal"), 0)
    for k in range(draws):
        matrix = drawn(rng, seeds, items, shape, shift)
        means = matrix.mean(axis=1)
        low, high = resampling.two_way(matrix, draws=1000, seed=k)
        counts["two-way"] += low <= difference <= high
        squeezed = matrix - (1 - 1 / resampling.widening(seeds)) * (means - means.mean())[:, None]
        low, high = resampling.two_way(squeezed, draws=1000, seed=k)
        counts["plain"] += low <= difference <= high
        test, none = paired.paired_t(means.tolist()), paired.paired_t((means - difference).tolist())
        assert test and none
        counts["t"] += test.low <= difference <= test.high
        counts["t test"] += none.p <= 0.05
        counts["sign flip"] += paired.sign_flip((means - difference).tolist()) <= 0.05
        margin = paired.equivalence((means - difference + 0.01).tolist(), 0.01)
        counts["equal"] += margin is not None and margin <= 0.05
    return {name: count / draws for name, count in counts.items()}


def slopes_held(seeds: int, draws: int, seed: int) -> float:
    """Share of slopes over four strata whose interval holds the true one; gains of a seed share a shift and a tilt."""
    rng, kept = np.random.default_rng([seed, seeds]), 0
    for _ in range(draws):
        points = {}
        for s in range(seeds):
            shift, tilt = rng.normal(0, 0.02), rng.normal(0, 0.01)
            points[s] = [(float(x), float(0.1 - (0.03 + tilt) * x + shift + rng.normal(0, 0.02))) for x in (-3, -1, 0, 2)]
        found = trends.slope(points, draws=500)
        kept += found is not None and found.low <= -0.03 <= found.high
    return kept / draws


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500, help="studies a line (default: %(default)s)")
    parser.add_argument("--items", type=int, default=400, help="items of a study (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    found = {(name, n): held(shape, n, args.items, args.draws, args.seed) for name, shape in SHAPES.items() for n in SEEDS}
    names = list(next(iter(found.values())))
    lines: list[list[object]] = [[name, n, *(f"{100 * figures[key]:.1f}" for key in names)] for (name, n), figures in found.items()]
    table(["trainings", "seeds", *names], lines, args.markdown)
    slopes = {n: slopes_held(n, args.draws, args.seed) for n in SEEDS}
    print("slopes: " + ", ".join(f"{n} seeds {100 * value:.1f}" for n, value in slopes.items()))
    figures = {f"{name}, {n}: {key}": value for (name, n), row in found.items() for key, value in row.items()}
    write(args.json, figures | {f"slope, {n}": value for n, value in slopes.items()})


if __name__ == "__main__":
    main()
