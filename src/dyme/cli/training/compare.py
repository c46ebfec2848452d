"""dyme compare: a study of one block from flags: several methods from one base under one budget."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme import plugins
from dyme.cli.common import listed
from dyme.cli.training.study import begin
from dyme.comparison.design import BASE, Arm, Block, Design, Tuning, flat_values, parse_budget
from dyme.comparison.study_file import check_names
from dyme.errors import ConfigError
from dyme.methods import COMPARED, METHODS, find
from dyme.recipe import read_recipe, tables_of
from dyme.settings import nearest

RATE = "train.learning_rate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    parser.add_argument(
        "--methods",
        default=",".join([BASE, *COMPARED]),
        help="methods to compare, by name or your own (mine.py:METHOD); base is the untrained model; NAME+reward.thinking_weight=0 "
        "changes a setting for that method alone (default: %(default)s)",
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds, one training of each method for each (default: %(default)s)")
    parser.add_argument(
        "--budget",
        default="",
        help="budget of each training, e.g. 120s, 2000prompts, 16000completions or 500000tokens (default: the recipe's)",
    )
    parser.add_argument("--traces", default="", help="qualities of the charts' traces, e.g. low,high (default: the recipe's)")
    parser.add_argument("--learning-rates", default="", help=f"grid of rates for all methods, as --grid {RATE}=..., e.g. 1e-4,3e-4,1e-3")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="[METHOD:]SETTING=a,b",
        help="values to choose from on the validation split, for all methods or for one; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--tuning-seeds", default="100,101", help="seeds that choose from a grid; none of --seeds may be among them (default: %(default)s)"
    )
    parser.add_argument(
        "--halving", default="", metavar="SHARE,KEEP",
        help="try the grid at a share of the budget and only the best KEEP in full, e.g. 0.33,2 (default: all in full)",
    )  # fmt: skip
    parser.add_argument(
        "--open-edges",
        type=int,
        default=2,
        help="values to open beyond a winner at the edge of its grid; 0: refuse it (default: %(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of trainings that run at a time (default: %(default)s)")
    parser.add_argument(
        "--out", default="runs/compare", help="folder of the comparison; finished trainings in it are not repeated (default: %(default)s)"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a comparison and show it."""
    return begin(design_of(args, rest))


def design_of(args: argparse.Namespace, rest: Sequence[str]) -> Design:
    """Return the study that the flags say."""
    methods, seeds = listed(args.methods, str, "methods"), listed(args.seeds, int, "seeds")
    if not methods or not seeds:
        raise ConfigError("a comparison needs at least one method and one seed")
    traces = listed(args.traces, str, "traces")
    conditions: dict[str, dict[str, Any]] = {name: {"task.traces": name} for name in traces} if len(traces) > 1 else {"": {}}
    settings = {"task.traces": traces[0]} if len(traces) == 1 else {}
    arms = {text: _arm(text) for text in methods if text != BASE}
    grids, fixed = _grids(args, arms)
    settings |= fixed
    arms = {name: _following(arm, grids[name], arms) for name, arm in arms.items()}
    design = Design(
        title="Methods compared", where="dyme compare", recipe=args.recipe, settings=settings, arms=arms,
        tables=tables_of(read_recipe(args.recipe, rest), rest, args.recipe), out=Path(args.out),
        blocks={"comparison": Block(name="comparison", arms=tuple(arms), seeds=seeds, conditions=conditions)},
        budget=parse_budget(args.budget) if args.budget else {}, base=BASE in methods, diagnose=False, jobs=args.jobs,
        tuning=_tuning(args, next(iter(conditions.values()))) if any(grids.values()) else None,
        threads=int(os.environ.get("OMP_NUM_THREADS", "0")) or max(1, (os.cpu_count() or 1) // max(1, args.jobs)),
    )  # fmt: skip
    check_names(design)
    return design


def _arm(text: str) -> Arm:
    """Return the arm for a method as written: "dyme+method.memorize_weight=0.125" has a setting of its own."""
    name, *words = text.split("+")
    if not plugins.is_known(name, "methods") and name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; {nearest(name, (BASE, *METHODS))}; FILE.py:NAME is one of your own")
    pairs = [word.partition("=") for word in words]
    if wrong := next((key for key, equals, _ in pairs if not equals or "." not in key), None):
        raise ConfigError(f"--methods {text}: {wrong!r} is no setting; write {name}+reward.thinking_weight=0")
    return Arm(name=text, method=name, settings={key: value for key, _, value in pairs})


def _grids(args: argparse.Namespace, arms: Mapping[str, Arm]) -> tuple[dict[str, dict[str, tuple[Any, ...]]], dict[str, Any]]:
    """Return each arm's grid, and settings for all arms: those of which one value was given."""
    grids: dict[str, dict[str, tuple[Any, ...]]] = {name: {} for name in arms}
    fixed: dict[str, Any] = {}
    for text in [*([f"{RATE}={args.learning_rates}"] if args.learning_rates else []), *args.grid]:
        place, equals, values = text.rpartition("=")
        only, _, key = place.rpartition(":")
        if not equals or "." not in key or not (found := flat_values(values)):
            raise ConfigError(f"--grid {text!r} is not understood; write {RATE}=3e-4,1e-3 or dyme:{RATE}=3e-4,1e-3")
        chosen = [name for name, arm in arms.items() if only in ("", name, arm.method)]
        if not chosen:
            raise ConfigError(f"--grid {text}: {only!r} is not among --methods; {nearest(only, arms)}")
        if len(found) == 1 and not only:
            fixed[key] = found[0]
            continue
        for name in chosen:
            grids[name][key] = found
    return grids, fixed


def _following(arm: Arm, grid: Mapping[str, tuple[Any, ...]], arms: Mapping[str, Arm]) -> Arm:
    """Return the arm with its grid; its settings that are learning rates follow the method that they belong to (`Method.follows`)."""
    takes: dict[str, str] = {}
    settings = dict(arm.settings)
    for key, leader in find(arm.method).follows.items() if RATE in grid else ():
        name = f"method.{key}"
        if name in settings or name in grid:
            continue
        led = next((other.name for other in arms.values() if other.method == leader), None)
        if led is None:
            settings[name] = None  # the method's own rate
        else:
            takes[name] = led
    return Arm(name=arm.name, method=arm.method, settings=settings, grid=grid, takes=takes)


def _tuning(args: argparse.Namespace, condition: Mapping[str, Any]) -> Tuning:
    seeds, halving = listed(args.tuning_seeds, int, "tuning-seeds"), listed(args.halving, float, "halving")
    if not seeds:
        raise ConfigError("--tuning-seeds: a grid needs at least one seed that is not among --seeds")
    if halving and not (len(halving) == 2 and 0 < halving[0] <= 1 and halving[1] >= 1):
        raise ConfigError(f"--halving {args.halving!r} is not understood; write SHARE,KEEP, e.g. 0.33,2")
    if args.open_edges < 0:
        raise ConfigError("--open-edges must not be negative")
    first, keep = halving or (1.0, 2)
    return Tuning(seeds=seeds, settings=condition, first=first, keep=int(keep), open_edges=args.open_edges)
