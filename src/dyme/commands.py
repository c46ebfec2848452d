"""What each command does, with torch imported only where a model is needed."""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from dyme import study
from dyme.advice import advice
from dyme.config import Config, build, check, documentation, load_recipe, nearest
from dyme.display import Display, open_console, show_kinds, show_listing, show_results
from dyme.errors import ConfigError, ModelError, RunError
from dyme.record import RunFolder
from dyme.report.comparison import write_comparison, write_table
from dyme.report.page import write_page
from dyme.route import ROUTERS
from dyme.supervise import judge as judging
from dyme.supervise.build import gather_facts, judge_endpoint, load
from dyme.supervise.checker import LocalChecker
from dyme.tasks import TASKS
from dyme.tasks.task import Split
from dyme.types import Sample
from dyme.verify.rules import rules_of

DEMO_PROMPTS = 2560
"""Prompts that `dyme demo` trains on."""


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it; what was trained is saved."""


def demo(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """The embedded base, then DyME from it, then both side by side."""
    recipe = {
        "run": {"output": args.out, "save_every": 0},
        "task": {"traces": "high", "test_size": 300},
        "train": {"max_prompts": DEMO_PROMPTS, "learning_rate": 1e-3},
    }
    config = build(recipe, rest)
    _check(config)
    display = _display()
    _fresh(config)
    test = _samples(config, "test")
    display.note("The embedded model (SmolVLM's architecture, 2.7 M parameters) before training:")
    before = _evaluate(config, config.model.path, test, display)
    show_results(display.console, {"base": before})
    size = f"{config.train.max_prompts} prompts x {config.rollout.num_generations} completions"
    display.note(f"\nDyME on {config.task.traces} quality traces: {size}. Ctrl-C saves and stops.")
    folder = _train(config, None, display)
    run = RunFolder.open(config.run.output)
    if folder != run.path / "model":
        return INTERRUPTED
    after = _evaluate(config, str(folder), test, display)
    last = run.steps()[-1].step
    run.log_evaluation(0, "base", before)
    run.log_evaluation(last, "test", after)
    show_results(display.console, {"base": before, "DyME": after})
    display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0


def train(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train, evaluate on the held-out split if there is one, write the page; a run that was stopped has status 130."""
    if bool(args.recipe) == bool(args.resume):
        raise ConfigError("give a recipe (dyme train recipes/charts-dyme.toml) or --resume RUN, not both")
    if args.resume and rest:
        raise ConfigError(f"a resumed run keeps its recipe; remove {rest[0]!r}")
    config = RunFolder.open(args.resume).config() if args.resume else load_recipe(args.recipe, rest)
    config = replace(config, run=replace(config.run, output=args.resume)) if args.resume else config
    _check(config)
    display = _display()
    if not args.resume:
        _fresh(config)
    test = _samples(config, "test") if config.task.name != "jsonl" or config.task.test else []
    folder = _train(config, args.resume, display)
    run = RunFolder.open(config.run.output)
    if folder != run.path / "model":
        return INTERRUPTED
    if _main_process():
        done = {e["name"]: e for e in run.evaluations()}
        if test and "test" not in done:
            done["test"] = _evaluate(config, str(folder), test, display)
            run.log_evaluation(run.steps()[-1].step, "test", done["test"])
        if "test" in done:
            show_results(display.console, {config.method.name: done["test"]})
        display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0


def eval(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a model."""
    config = _eval_config(args, rest)
    display = _display()
    chosen = _samples(config, args.split)[: args.samples or None]
    result = _evaluate(config, args.model, chosen, display, k=args.k)
    show_results(display.console, {args.model: result})
    if result["by_kind"]:
        show_kinds(display.console, result["by_kind"])
    _write_json(args.json, {"model": args.model, "task": config.task.name, "split": args.split, **result})
    return 0


def diagnose(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for SFT, GRPO and DyME."""
    config = _eval_config(args, rest)
    display = _display()
    chosen = _samples(config, args.split)[: args.samples or 200]
    result = _evaluate(config, args.model, chosen, display, k=args.k, sampled=len(chosen))
    show_results(display.console, {args.model: result}, every=True)
    lines = advice({name: figure["value"] for name, figure in result["metrics"].items()}, args.k)
    for line in lines:
        display.note(f"- {line}")
    _write_json(args.json, {"model": args.model, "task": config.task.name, "advice": lines, **result})
    return 0


def facts(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Extract the facts of a split's images, and say what that gave."""
    config = _helper_config(args, rest)
    config = replace(config, supervision=replace(config.supervision, facts=args.source or config.supervision.facts))
    check(config)
    display = _display()
    loaded = TASKS[config.task.name].load(config.task, args.split)
    with _progress(display) as progress:
        samples, counts = gather_facts(loaded, config, progress)
    figures = {**asdict(counts), "facts": sum(len(s.facts) for s in samples)}
    rows = [(name.replace("_", " "), str(value)) for name, value in figures.items() if name != "failures"]
    show_listing(display.console, (f"facts: {config.supervision.facts}", ""), [*rows, ("failures", str(len(counts.failures)))])
    for name, reason in counts.failures[:10]:
        display.note(f"- {name}: {reason}")
    _write_json(args.json, figures)
    return 0


def judge(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Grade labelled traces with a checker, and with the local one beside it."""
    if args.checker != "local" and "://" not in args.checker:
        raise ConfigError(f"{args.checker!r} is no checker; give local, or an endpoint's URL such as http://localhost:8000/v1")
    if args.traces < 2:
        raise ConfigError("--traces must be at least 2")
    config = _helper_config(args, rest)
    if args.checker != "local":
        config = replace(config, supervision=replace(config.supervision, checker="llm", url=args.checker))
        check(config)
    display = _display()
    items = judging.labelled(judging.material(config.task, args.split, args.traces), random.Random(config.run.seed), args.traces)
    reports = {"local": judging.evaluate(LocalChecker(marker=config.task.marker), items)}
    if args.checker != "local":
        reports = {config.supervision.model: judge_endpoint(config, items, display.note)} | reports
    show_listing(display.console, ("", *reports), judging.rows(list(reports.values())))
    chosen = next(iter(reports.values()))
    for line in judging.advice(chosen):
        display.note(f"- {line}")
    missed = [{"kind": i.kind, "question": i.sample.question, "trace": i.trace} for i in chosen.missed]
    figures = {**asdict(replace(chosen, missed=[])), "missed": missed}
    _write_json(args.json, {"checker": args.checker, "task": config.task.name, "split": args.split, **figures})
    return 0


def compare(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a comparison and show it."""
    config = load_recipe(args.recipe, rest)
    if args.budget:
        config = replace(config, train=replace(config.train, **study.parse_budget(args.budget)))
    _check(config)
    plan = study.Study(
        config=config,
        methods=_list(args.methods, str, "methods"),
        traces=_list(args.traces, str, "traces") or (config.task.traces,),
        seeds=_list(args.seeds, int, "seeds"),
        rates=_list(args.learning_rates, float, "learning-rates") or (config.train.learning_rate,),
        out=Path(args.out),
        jobs=args.jobs,
    )
    plan.check()
    for split in ("train", "test", "validation") if len(plan.rates) > 1 else ("train", "test"):
        _samples(config, split)
    display = _display()
    try:
        result = study.run_study(plan, display.note, "dyme " + shlex.join(sys.argv[1:]))
    except KeyboardInterrupt:
        display.note("stopped; the same command goes on from here")
        return INTERRUPTED
    show_results(display.console, {f"{row['method']} / {row['traces']}": row for row in result["summary"]})
    file = plan.out / "comparison.json"
    display.note(f"table  {write_table(file, plan.out / 'comparison.md')}\npage   {write_comparison(file, plan.out / 'comparison.html')}")
    return 0


def cell(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """One training of a comparison: train unless it is the base, evaluate on a split."""
    config = study.read_cell(args.recipe)
    display = _display()
    path = Path(config.run.output)
    samples = _samples(config, args.split)
    if args.base:
        run, model, step = (RunFolder.open(path) if args.resume else RunFolder.create(path, config, {})), config.model.path, 0
    else:
        finished = path / "model"
        if not finished.exists() and _train(config, str(path) if args.resume else None, display) != finished:
            return INTERRUPTED
        run, model = RunFolder.open(path), str(finished)
        step = run.steps()[-1].step
    run.log_evaluation(step, args.split, _evaluate(config, model, samples, display))
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
    show_listing(open_console(), heads, rows)
    return 0


def _display() -> Display:
    return Display(open_console(quiet=not _main_process()))


def _main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _check(config: Config) -> None:
    """Whether names exist, before anything slow."""
    if config.task.name not in TASKS:
        raise ConfigError(f"unknown task {config.task.name!r}; {nearest(config.task.name, TASKS)}")
    if config.method.name not in ROUTERS:
        raise ConfigError(f"unknown method {config.method.name!r}; {nearest(config.method.name, ROUTERS)}")


def _fresh(config: Config) -> None:
    """Raise RunError unless the run folder is new and can be made."""
    path = Path(config.run.output)
    RunFolder.check_new(path)
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise RunError(f"{path}: no folder can be made in {above}; choose another --run.output")


def _samples(config: Config, split: Split) -> list[Sample]:
    """A split's samples; read before torch is imported, so that bad rows are found at once."""
    display = _display()
    with _progress(display) as progress:
        samples, trouble = load(config, split, progress)
    if trouble:
        display.note(trouble)
    return samples


def _train(config: Config, resume: str | None, display: Display) -> Path:
    if not resume:
        _fresh(config)
    samples = _samples(config, "train")
    from dyme.train import train as run_training

    return run_training(config, samples=samples, resume=bool(resume), display=display)


def _evaluate(config: Config, model: str, samples: Sequence[Sample], display: Display, *, k: int = 8, sampled: int = 300) -> dict[str, Any]:
    from dyme.evaluate import evaluate
    from dyme.policy import Policy

    policy = Policy.load(replace(config.model, path=model))
    with _progress(display) as progress:
        return evaluate(policy, samples, config, rules_of(config), k=k, sampled=sampled, progress=progress)


@contextmanager
def _progress(display: Display) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is counted; none where nobody watches."""
    with Progress(console=display.console, transient=True, disable=not display.console.is_terminal) as bar:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = bar.add_task(what, total=total)
            bar.update(bars[what], completed=done)

        yield progress


def _helper_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for facts and judge: a recipe's or the defaults."""
    if args.json:
        _writable(args.json)
    config = load_recipe(args.recipe, rest) if args.recipe else build({}, rest)
    config = replace(config, task=replace(config.task, name=args.task)) if args.task else config
    _check(config)
    return config


def _eval_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for eval and diagnose: a recipe's, the run's own if the model is a run folder, or the defaults."""
    if args.k < 2 or args.samples < 0:
        raise ConfigError("--k must be at least 2" if args.k < 2 else "--samples must not be negative")
    if args.json:
        _writable(args.json)
    run = _run_of(Path(args.model))
    if args.recipe:
        config = load_recipe(args.recipe, rest)
    elif run:
        config = build(run.settings(), rest, where=str(run.path))
    else:
        config = build({}, rest)
    if args.task:
        config = replace(config, task=replace(config.task, name=args.task))
    _check(config)
    return config


def _run_of(model: Path) -> RunFolder | None:
    """The run that a model folder belongs to: RUN, RUN/model or RUN/checkpoints/step-N/model."""
    for folder in (model, *model.parents[:3]):
        if (folder / "config.json").exists() and (folder / "metrics.jsonl").exists():
            run = RunFolder.open(folder)
            last = run.latest_checkpoint()
            if folder == model and not (run.path / "model").exists():
                hint = f"give {last[1] / 'model'}, or go on" if last else "go on"
                raise ModelError(f"{model}: this run has no final model yet; {hint} with dyme train --resume {model}")
            return run
    return None


def _list(text: str, kind: type, name: str) -> tuple[Any, ...]:
    """The distinct values of a comma-separated list, in order."""
    try:
        return tuple(dict.fromkeys(kind(word.strip()) for word in text.split(",") if word.strip()))
    except ValueError as error:
        raise ConfigError(f"--{name}: {text!r} is not a list of numbers separated by commas") from error


def _writable(path: Path) -> None:
    """Make the file's folder, so that a long evaluation does not end in an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error.strerror})") from error


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
