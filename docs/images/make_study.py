"""Make docs/images/study.png: the first block of a study; accuracy, every seed a point, and the course of the training.

python docs/images/make_study.py STUDY.json        STUDY.json is what `dyme study PLAN --report` writes
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import PercentFormatter

OUT = Path(__file__).parent / "study.png"
COLOURS = {
    "DyME": "#c0392b", "yoked random": "#8e5aa8", "two-stage": "#2471a3", "constant mix": "#7f8c8d", "SFT": "#b9770e", "GRPO": "#1e8449",
}  # fmt: skip
WINDOW = 10
"""Steps over which the accuracy of sampled completions is averaged."""


def main(study: str) -> None:
    """Draw both panels and write the picture."""
    block = json.loads(Path(study).read_text())["blocks"][0]
    base = block["conditions"][0]["base"]["metrics"]["think_accuracy"]["value"]
    arms = sorted(block["arms"], key=lambda arm: -arm["metrics"]["think_accuracy"]["value"])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained", width_ratios=[1.1, 1])
    for place, arm in enumerate(arms):
        found = arm["metrics"]["think_accuracy"]
        colour = COLOURS.get(arm["label"], "#333333")
        left.plot([*arm["values"].values()], [place] * len(arm["values"]), "o", color=colour, markersize=4.5, alpha=0.65, markeredgewidth=0)
        left.plot([found["low"], found["high"]], [place + 0.28] * 2, color="#222222", linewidth=1.4)
        left.plot([found["value"]], [place + 0.28], "|", color="#222222", markersize=9, markeredgewidth=1.8)
        at = (found["value"], place + 0.3)
        left.annotate(f"{100 * found['value']:.1f}", at, (0, -13), textcoords="offset points", ha="center", fontsize=8)
        sampled = [(row[0], row[4]) for row in arm["curve"] if row[4] is not None]
        if sampled:
            ends = range(WINDOW, len(sampled) + 1)
            means = [sum(value for _, value in sampled[end - WINDOW : end]) / WINDOW for end in ends]
            right.plot([sampled[end - 1][0] for end in ends], means, color=colour, linewidth=1.6, label=arm["label"])
    left.axvline(base, color="#888888", linestyle=":", linewidth=1.2)
    left.annotate("untrained", (base, -0.5), (4, 0), textcoords="offset points", fontsize=8, color="#666666")
    left.set_yticks(range(len(arms)), [arm["label"] for arm in arms])
    left.set_ylim(len(arms) - 0.2, -0.7)
    left.set_title(f"accuracy told to think, 1,000 test charts; a point is a seed ({len(arms[0]['values'])})", fontsize=9, loc="left")
    right.set_title("accuracy of sampled completions, mean over seeds", fontsize=9, loc="left")
    right.set_xlabel("prompts", fontsize=9)
    right.set_ylim(0, None)
    right.legend(frameon=False, fontsize=8)
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x" if axes is left else "y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
