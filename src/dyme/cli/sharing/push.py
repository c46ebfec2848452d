"""dyme push: upload a run's model, or any model folder, to the hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.errors import RunError
from dyme.publishing import hub
from dyme.tracking.display import new_display
from dyme.tracking.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", help="a run folder or a model folder")
    parser.add_argument("repository", help="repository on the hub, e.g. me/my-model; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="create the repository as a private one")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Upload a run's model, or any model folder, to the hub."""
    folder = Path(args.model)
    run = RunFolder.of_model(folder)
    if run and folder == run.path:
        folder = run.path / "model"
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; give a run folder or a model folder")
    new_display().note(f"pushed {hub.push(folder, args.repository, private=args.private)}")
    return 0
