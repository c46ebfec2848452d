"""Arguments that eval and diagnose share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the task, and the number of its samples."""
    parser.add_argument("model", help="a checkpoint folder, a run folder, a hub id, or embedded")
    parser.add_argument("--task", help="task (`dyme tasks` lists them); default: the run's own, or charts")
    parser.add_argument("--recipe", help="take the other settings from this recipe")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), help="split of the task's samples (default: test, else validation)"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=0,
        help="use the first N samples, whatever size the recipe sets (default: that size; diagnose: 200)",
    )
    parser.add_argument("--k", type=int, default=8, help="completions per prompt for pass@K (default: %(default)s; eval: 0 for none)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE")
