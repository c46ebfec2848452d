"""How often the 95 % intervals of `dyme.evaluation.metrics` hold the truth, where several questions are asked about a picture.

Each picture has a chance of a right answer of its own, drawn from a beta distribution around the accuracy, so that the answers to two
questions about it correlate as said; intervals that take all questions as independent are shown beside. Of 2,000 draws a true coverage
of 95 % is seen as 94 to 96 %. No interval for counts is exact: the plain one's coverage, where each question has a picture of its own,
says by how much it differs from 95 % for the steps of a count alone.

    python benchmarks/intervals.py --json intervals.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measure import table, write

from dyme.evaluation.metrics import Figure, clustered, wilson

CORRELATIONS = (0.0, 0.2, 0.4)
ACCURACIES = (0.03, 0.1, 0.3, 0.5, 0.8, 0.97)
SHAPES = {
    "1000 pictures, 1 to 3 questions": (1000, 1, 3), "300, 10": (300, 10, 10), "100, 1 to 8": (100, 1, 8), "50, 2": (50, 2, 2),
    "40, 5": (40, 5, 5), "20, 5": (20, 5, 5), "10, 50": (10, 50, 50), "200, 1": (200, 1, 1), "30, 1": (30, 1, 1),
}  # fmt: skip
"""Pictures, and the fewest and the most questions about one."""


def coverage(shape: tuple[int, int, int], accuracy: float, correlation: float, draws: int, seed: int) -> tuple[float, float]:
    """Share of draws whose interval holds the accuracy: the clustered one, and that of independent questions."""
    rng = np.random.default_rng([seed, *shape, round(1000 * accuracy), round(1000 * correlation)])
    pictures, fewest, most = shape
    sizes = rng.integers(fewest, most + 1, pictures)
    held = np.zeros(2)
    for _ in range(draws):
        spread = (1 - correlation) / correlation if correlation else 0.0
        chances = rng.beta(accuracy * spread, (1 - accuracy) * spread, pictures) if correlation else accuracy
        right = rng.binomial(sizes, chances)
        found = (clustered(right.tolist(), sizes.tolist()), wilson(int(right.sum()), int(sizes.sum())))
        held += [_holds(figure, accuracy) for figure in found]
    return float(held[0]) / draws, float(held[1]) / draws


def _holds(figure: Figure, value: float) -> bool:
    return figure.low <= value <= figure.high


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="samples a cell (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    cells = {
        (name, accuracy, correlation): coverage(shape, accuracy, correlation, args.draws, args.seed)
        for name, shape in SHAPES.items() for accuracy in ACCURACIES for correlation in CORRELATIONS
    }  # fmt: skip
    shown = {cell: f"{100 * ours:.1f} ({100 * plain:.1f})" for cell, (ours, plain) in cells.items()}
    lines: list[list[object]] = [
        [name, f"{accuracy:.0%}", *(shown[name, accuracy, c] for c in CORRELATIONS)] for name in SHAPES for accuracy in ACCURACIES
    ]
    table(["pictures, questions a picture", "accuracy", *(f"correlation {c:g}" for c in CORRELATIONS)], lines, args.markdown)
    figures = {}
    for c in CORRELATIONS:
        own = [cells[name, accuracy, c] for name in SHAPES for accuracy in ACCURACIES]
        for kind, values in (("clustered", [a for a, _ in own]), ("independent", [b for _, b in own])):
            inside = sum(0.93 <= value <= 0.97 for value in values) / len(values)
            figures |= {f"{kind}_{c:g}_mean": float(np.mean(values)), f"{kind}_{c:g}_inside": inside}
            print(f"correlation {c:g}, {kind}: mean {np.mean(values):.1%}, between 93 and 97 % in {inside:.0%} of cells")
    write(args.json, figures)


if __name__ == "__main__":
    main()
