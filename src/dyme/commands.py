"""What each command does, with torch imported only where a model is needed."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dyme import study
from dyme.advice import advice
from dyme.config import Config, build, documentation, load_recipe
from dyme.errors import ConfigError
from dyme.record import RunFolder
from dyme.report.comparison import write_comparison
from dyme.report.page import write_page
from dyme.route import ROUTERS
from dyme.tasks import TASKS
from dyme.types import Sample

if TYPE_CHECKING:
    from dyme.display import Display

_LABELS = {
    "think_accuracy": "accuracy, told to think",
    "direct_accuracy": "accuracy, told to answer at once",
    "pass_at_1": "pass@1, sampled",
    "format_rate": "format rate",
    "true_statements": "true statements in the thinking",
    "mean_length": "mean length, tokens",
}
DEMO_PROMPTS = 2560
"""Prompts that `dyme demo` trains on."""


def demo(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """The embedded base, then DyME from it, then both side by side."""
    config = build({"run": {"output": args.out, "save_every": 0}, "task": {"test_size": 300}, "train": {"max_prompts": DEMO_PROMPTS}}, rest)
    _check(config)
    display = _display()
    _fresh(config)
    display.note("The embedded model (SmolVLM's architecture, 2.7 M parameters) before training:")
    before = _evaluate(config, config.model.path, "test", display)
    _show(display.console, {"base": before})
    display.note(f"\nDyME: {config.train.max_prompts} prompts x {config.rollout.num_generations} completions. Ctrl-C saves and stops.")
    folder = _train(config, None, display)
    after = _evaluate(config, str(folder), "test", display)
    run = RunFolder.open(config.run.output)
    last = run.steps()[-1].step
    run.log_evaluation(0, "base", before)
    run.log_evaluation(last, "test", after)
    _show(display.console, {"base": before, "DyME": after})
    display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0


def train(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train, evaluate on the held-out split if there is one, write the page."""
    if bool(args.recipe) == bool(args.resume):
        raise ConfigError("give a recipe (dyme train recipes/charts-dyme.toml) or --resume RUN, not both")
    if args.resume and rest:
        raise ConfigError(f"a resumed run keeps its recipe; remove {rest[0]!r}")
    config = RunFolder.open(args.resume).config() if args.resume else load_recipe(args.recipe, rest)
    config = replace(config, run=replace(config.run, output=args.resume)) if args.resume else config
    _check(config)
    display = _display()
    folder = _train(config, args.resume, display)
    run = RunFolder.open(config.run.output)
    if folder == run.path / "model" and _main_process():
        if config.task.name == "charts" or config.task.test:
            result = _evaluate(config, str(folder), "test", display)
            run.log_evaluation(run.steps()[-1].step, "test", result)
            _show(display.console, {config.method.name: result})
        display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0


def eval(args: argparse.Namespace, rest: Sequence[str]) -> int:  # noqa: A001 - named after the command
    """Evaluate a model."""
    config = _eval_config(args, rest)
    display = _display()
    result = _evaluate(config, args.model, args.split, display, samples=args.samples, k=args.k)
    _show(display.console, {args.model: result})
    if result["by_kind"]:
        _show_kinds(display.console, result["by_kind"])
    _write_json(args.json, {"model": args.model, "task": config.task.name, "split": args.split, **result})
    return 0


def diagnose(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for SFT, GRPO and DyME."""
    config = _eval_config(args, rest)
    display = _display()
    result = _evaluate(config, args.model, args.split, display, samples=args.samples or 200, k=args.k, sampled=args.samples or 200)
    _show(display.console, {args.model: result}, every=True)
    lines = advice({name: figure["value"] for name, figure in result["metrics"].items()}, args.k)
    for line in lines:
        display.note(f"- {line}")
    _write_json(args.json, {"model": args.model, "task": config.task.name, "advice": lines, **result})
    return 0


def compare(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a comparison and show it."""
    config = load_recipe(args.recipe, rest)
    if args.budget:
        config = replace(config, train=replace(config.train, **{k: type(getattr(config.train, k))(v) for k, v in study.parse_budget(args.budget).items()}))
    _check(config)
    numbers = {"seeds": int, "learning_rates": float}
    seeds, rates = (_list(getattr(args, name), kind, name) for name, kind in numbers.items())
    plan = study.Study(
        config=config, methods=tuple(_list(args.methods, str, "methods")), traces=tuple(_list(args.traces, str, "traces") or [config.task.traces]),
        seeds=tuple(seeds), rates=tuple(rates or [config.train.learning_rate]), out=Path(args.out), jobs=args.jobs,
    )  # fmt: skip
    console = Console()
    result = study.run_study(plan, lambda line: console.print(line, highlight=False, markup=False), "dyme " + shlex.join(sys.argv[1:]))
    _show(console, {f"{row['method']} / {row['traces']}": row for row in result["summary"]})
    console.print(f"page   {write_comparison(plan.out / 'comparison.json', plan.out / 'comparison.html')}", soft_wrap=True)
    return 0


def cell(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """One training of a comparison: train unless it is the base, evaluate on a split."""
    config = study.read_cell(args.recipe)
    display = _display()
    path = Path(config.run.output)
    if args.base:
        run, model, step = (RunFolder.open(path) if args.resume else RunFolder.create(path, config, {})), config.model.path, 0
    else:
        finished = path / "model"
        model = str(finished if finished.exists() else _train(config, str(path) if args.resume else None, display))
        run = RunFolder.open(path)
        step = run.steps()[-1].step
    run.log_evaluation(step, args.split, _evaluate(config, model, args.split, display))
    return 0


def report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write a run's page."""
    print(write_page(args.run))
    return 0


def tasks(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the tasks."""
    return _listing(("task", "what it is", "metric"), [(t.name, t.summary, t.metric) for t in TASKS.values()])


def methods(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the methods."""
    return _listing(("method", "what it does", "source"), [(r.name, r.summary, r.source) for r in ROUTERS.values()])


def settings(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List all settings."""
    rows = [(f"--{section}.{key}", default, text) for section, keys in documentation().items() for key, (default, text) in keys.items()]
    return _listing(("setting", "default", "meaning"), rows)


def _listing(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)
    return 0


def _display() -> Display:
    from dyme.display import Display

    return Display(Console() if _main_process() else Console(quiet=True))


def _main_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


def _check(config: Config) -> None:
    """Whether names exist and the model can be found, before anything slow."""
    if config.task.name not in TASKS:
        raise ConfigError(f"unknown task {config.task.name!r}; choose from {', '.join(TASKS)}")
    if config.method.name not in ROUTERS:
        raise ConfigError(f"unknown method {config.method.name!r}; choose from {', '.join(ROUTERS)}")


def _fresh(config: Config) -> None:
    RunFolder.check_new(Path(config.run.output))


def _train(config: Config, resume: str | None, display: Display) -> Path:
    if not resume:
        _fresh(config)
    from dyme.train import train as run_training

    return run_training(config, resume=bool(resume), display=display)


def _evaluate(
    config: Config, model: str, split: str, display: Display, *, samples: int = 0, k: int = 8, sampled: int = 300
) -> dict[str, Any]:
    chosen: list[Sample] = TASKS[config.task.name].load(config.task, split)  # type: ignore[arg-type]
    from dyme.evaluate import evaluate
    from dyme.policy import Policy
    from dyme.train import rules_of

    policy = Policy.load(replace(config.model, path=model))
    chosen = chosen[: samples or None]
    with Progress(console=display.console, transient=True, disable=not display.console.is_terminal) as bar:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            bars.setdefault(what, bar.add_task(what, total=total) if what not in bars else bars[what])
            bar.update(bars[what], completed=done)

        return evaluate(policy, chosen, config, rules_of(config), k=k, sampled=sampled, progress=progress)


def _eval_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for eval and diagnose: a recipe's, the run's own if the model is a run folder, or the defaults."""
    run = Path(args.model)
    if args.recipe:
        config = load_recipe(args.recipe, rest)
    elif (run / "config.json").exists() and (run / "metrics.jsonl").exists():
        config = build(RunFolder.open(run).settings(), rest, where=args.model)
    else:
        config = build({}, rest)
    if args.task:
        config = replace(config, task=replace(config.task, name=args.task))
    if args.k < 2:
        raise ConfigError("--k must be at least 2")
    _check(config)
    return config


def _show(console: Console, results: dict[str, dict[str, Any]], *, every: bool = False) -> None:
    """Models side by side, a line per figure with its interval."""
    names = list(_LABELS)
    present = [n for r in results.values() for n in r["metrics"]]
    names += [n for n in dict.fromkeys(present) if n not in _LABELS and (every or n.startswith("pass_at_"))]
    counts = {f["n"] for r in results.values() for n, f in r["metrics"].items() if n == "think_accuracy"}
    table = Table("", *results, title=f"95 % intervals, n = {', '.join(map(str, sorted(counts)))}", title_justify="left")
    for name in names:
        if name in present:
            table.add_row(_LABELS.get(name, name.replace("pass_at_", "pass@").replace("_", " ")),
                          *(_cell(name, r["metrics"].get(name)) for r in results.values()))  # fmt: skip
    console.print(table)


def _cell(name: str, figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    if name == "mean_length":
        return f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"
    return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def _show_kinds(console: Console, by_kind: dict[str, dict[str, dict[str, Any]]]) -> None:
    table = Table("question type", "n", "told to think", "told to answer at once")
    for kind, figures in by_kind.items():
        table.add_row(kind, str(figures["think_accuracy"]["n"]), *(f"{figures[k]['value']:.1%}" for k in ("think_accuracy", "direct_accuracy")))
    console.print(table)


def _list(text: str, kind: type, name: str) -> list[Any]:
    try:
        return [kind(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise ConfigError(f"--{name.replace('_', '-')}: {text!r} is not a list of numbers separated by commas") from error


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
