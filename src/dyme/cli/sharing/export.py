"""dyme export: write a plain checkpoint: an adapter merged into its base, a GGUF file unpacked, weights in another precision."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme.config import Config
from dyme.errors import RunError
from dyme.publishing import card
from dyme.system.files import check_place
from dyme.tracking.display import new_display
from dyme.tracking.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", help="a run folder, a model or adapter folder, a GGUF file, a hub id, or embedded")
    parser.add_argument("--out", required=True, help="folder to write; it must be new or empty")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of the weights (default: the run's own)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write a plain checkpoint: an adapter merged into its base, a GGUF file unpacked, weights in another precision."""
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is not an empty folder; choose another --out")
    check_place(out, "--out")
    run = RunFolder.of_model(Path(args.model))
    config = run.config() if run else Config()
    config = replace(config, model=replace(config.model, path=args.model, dtype=args.dtype or config.model.dtype))
    from dyme.model.precision import written
    from dyme.publishing.export import write

    dtype = written(config)
    name = str(dtype).removeprefix("torch.")

    def finish(folder: Path) -> None:
        if run:
            card.write(run, folder, step=_step(run, Path(args.model)), dtype=name)

    merged = write(config.model, out, dtype, finish)
    new_display().note(f"model  {out} ({'adapter merged, ' if merged else ''}{name})")
    return 0


def _step(run: RunFolder, model: Path) -> int | None:
    """The step whose weights a model folder of a run holds; None: the last; -1: a folder that training did not make."""
    place = model.resolve().relative_to(run.path.resolve()).as_posix()
    found = re.match(r"checkpoints/step-(\d+)(?:/|$)", place)
    return int(found[1]) if found else None if place in (".", "model") else -1
