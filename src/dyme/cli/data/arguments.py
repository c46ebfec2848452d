"""Arguments that facts and judge share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the task, its recipe and its split, and a file for the figures."""
    parser.add_argument("--task", help="task (`dyme tasks` lists them); default: the recipe's, or charts")
    parser.add_argument("--recipe", help="take the other settings from this recipe")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="split of the samples (default: test, else validation)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE")
