"""Functions of `import dyme`: train, evaluate and report, as `dyme train`, `dyme eval` and `dyme report` do, with objects for names.

An object given in Python replaces what the config names: samples replace its data, a verifier replaces its task's verifier, a method
replaces its method. The commands call these functions and add a parser and an exit status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyme import plugins, recipe
from dyme import samples as sample_lists
from dyme.checks import check_config, check_training
from dyme.config import Config
from dyme.data.layouts import Split
from dyme.errors import ConfigError, ModelError, quoted
from dyme.evaluation.items import STYLES, ItemFolder, Plan
from dyme.publishing import card, hub
from dyme.report import beside as pairs
from dyme.report import page
from dyme.system import tuning
from dyme.system.launch import is_main
from dyme.system.processes import alone, check_shared, from_main, main_first, together
from dyme.tasks import TASKS, held_out
from dyme.tracking.display import Display, new_display, progress_bars, show_evaluation, show_results
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports, Tracker
from dyme.tracking.trackers import check as check_trackers
from dyme.types import PromptStyle, Sample
from dyme.verify.rewards import find_rewards

if TYPE_CHECKING:
    from dyme.methods import Method
    from dyme.model.policy import Policy
    from dyme.training.setup import Host
    from dyme.verify.rewards import Reward
    from dyme.verify.verifier import Verifier

Rows = Iterable[Sample | Mapping[str, Any]]
"""Samples, or dicts with the fields of a row of your own data (docs/data.md)."""


class Stopped(KeyboardInterrupt):
    """Raised when Ctrl-C, or a notebook's stop button, ended a training after a step; the run is saved."""


def load_recipe(path: str | Path, *overrides: str) -> Config:
    """Read a recipe (a TOML file, or the name of a recipe that ships), change settings ("train.learning_rate=1e-4"), return the Config.

    Raises ConfigError for a missing file, an unknown setting (the message names the nearest known one) or a wrong value.
    """
    if strange := next((word for word in overrides if not isinstance(word, str)), None):
        raise ConfigError(
            f"{quoted(strange)} is not an override; give each as text of its own: load_recipe(path, 'train.learning_rate=1e-4')"
        )
    words = [word if word.startswith("--") else f"--{word}" for word in overrides]
    if wrong := next((word for word in words if "=" not in word), None):
        raise ConfigError(f"{wrong.removeprefix('--')!r} is not an override; write section.key=value, e.g. train.learning_rate=1e-4")
    config = recipe.load_recipe(path, words)
    check_config(config)
    return config


def train(
    config: Config,
    *,
    samples: Rows | None = None,
    validation: Rows | None = None,
    rewards: Mapping[str, Reward] | None = None,
    verifier: Verifier | None = None,
    method: Method[Any] | None = None,
    trackers: Sequence[Tracker] = (),
    resume: bool = False,
    display: Display | None = None,
) -> RunFolder:
    """Train, evaluate on held-out samples, write the model card and the page, and return the run; `run.model` is the final model's folder.

    `samples` and `validation` replace the data of the config. The evaluation after training uses the config's test split, else its
    validation split; if `samples` are given, it uses `validation`, and without `validation` there is no evaluation.

    `rewards` (by name) and `verifier` are functions (docs/rewards.md); rewards have the weights in reward.weights, in order, or 1 each.
    `method` is a Method (docs/methods.md). `trackers` get the run's figures and samples, in place of the trackers that `run.report_to`
    names (docs/tracking.md). `display` shows progress, by default on the terminal or in the notebook's cell; Display.quiet() shows nothing.
    `resume=True` resumes the run in config.run.output from its last checkpoint: give the same arguments as before.

    Raises a DymeError, one line that says what to do, before any long work if the input cannot work. Raises Stopped, a KeyboardInterrupt,
    after Ctrl-C; the run is saved.
    """
    tuning.tune()
    with plugins.given(config, rewards=rewards, verifier=verifier, method=method) as config:
        command = not trackers and all(given is None for given in (samples, validation, rewards, verifier, method))
        return _begin(config, samples, validation, trackers, resume, _display(display), command)


def _begin(
    config: Config,
    samples: Rows | None,
    validation: Rows | None,
    trackers: Sequence[Tracker],
    resume: bool,
    display: Display,
    command: bool,
) -> RunFolder:
    """Check all arguments of `train` and train; `config` names the functions that were given; `command`: no objects were given."""
    chosen = together(lambda: check_training(config))
    find_rewards(config.reward)
    config = recipe.anchored(config if samples is None else _for_samples(config, display))
    place = Path(config.run.output)
    check_shared(place, "--run.output")
    if resume:
        from_main(lambda: _check_resumed(chosen.settled(config), chosen))
    else:
        from_main(lambda: RunFolder.check_new(place))
    if config.run.push_to_hub:
        hub.need_token()
    if not isinstance(trackers, list | tuple):
        raise ConfigError(f"trackers is {type(trackers).__name__}; give a list of dyme.Tracker")
    reporting = reports_of(config, trackers)
    with alone(place), reporting as reports:
        return _train(config, samples, validation, reports, resume, display, command)


def _train(
    config: Config, samples: Rows | None, validation: Rows | None, reports: Reports, resume: bool, display: Display, command: bool
) -> RunFolder:
    held = samples_of(config, "validation", display, validation) if validation is not None else None
    split, rows = _held_out(config, samples is not None, held, display)
    if split == "validation" and held is None:
        display.note(f"no test data: the evaluation at the end is on the validation split, {len(rows)} rows that are not trained on")
    run = RunFolder(config.run.output)
    folder = train_model(config, resume, display, samples=samples, validation=held, trackers=reports, command=command)
    if folder != run.path / "model":
        step = next(iter(from_main(run.checkpoints)), (0,))[0]
        raise Stopped(f"stopped after step {step}; the run is saved in {run.path}; resume it with dyme.train(..., resume=True)")
    done = {e["name"]: e for e in from_main(run.evaluations)}
    fresh = split is not None and split not in done
    if split and fresh:
        try:
            done[split] = evaluate_model(config, str(folder), rows, display)
        except KeyboardInterrupt as stop:
            again = _host(command).resuming(run.path)
            raise KeyboardInterrupt(f"stopped in the evaluation; the trained model is saved in {folder}; {again} evaluates it") from stop
    if is_main():
        try:
            if split and fresh:
                step = run.model_step()
                run.log_evaluation(step, split, done[split])
                reports.log_evaluation(step, split, done[split])
            card.write(run, folder)
        finally:
            if split:
                show_results(display.console, {f"{plugins.label(config.method.name)}, {split}": done[split]})
        if best := run.best():
            display.note(f"best   {run.path / best['model']} (step {best['step']}, {best['metric']} {best['value']:.1%})")
        display.note(f"model  {folder}\npage   {page.write_page(run.path)}")
        if config.run.push_to_hub:
            display.note(f"pushed {hub.push(folder, config.run.hub_model_id, config.run.hub_private_repo)}")
    return run


def evaluate(
    model: str | Path | RunFolder | Policy,
    config: Config | None = None,
    *,
    samples: Rows | None = None,
    split: Split | None = None,
    prompts: Sequence[PromptStyle] = STYLES,
    k: int = 8,
    verifier: Verifier | None = None,
    display: Display | None = None,
) -> dict[str, Any]:
    """Evaluate a model and return its figures: "metrics" (name -> value, low, high, n), "by_kind", "by_answer_kind", "examples".

    `model` is a folder, a hub id, "embedded", a run (its final model) or a Policy. `config` defaults to the config of the model's run, else
    to the default settings. Without `samples`, the samples of `split` of the config's task are used, by default test, else validation.
    `prompts` are the instructions that each sample is asked with; `k` is the number of completions sampled for pass@K of each of the first
    300 samples (0: none). Raises the errors of `train`.
    """
    tuning.tune()
    display = _display(display)
    if isinstance(model, str | Path | RunFolder):
        path = model.model if isinstance(model, RunFolder) else model
        run = RunFolder.of_model(Path(path))
        config = config or (run.config() if run else Config())
    plan = _plan(prompts, k)
    with plugins.given(config or Config(), verifier=verifier) as config:
        together(partial(check_config, config))
        figures = _figures(model, config, samples, split, plan, display)
    if is_main():
        show_evaluation(display, str(path) if isinstance(model, str | Path | RunFolder) else type(model.model).__name__, figures)
    return figures


def _figures(
    model: str | Path | RunFolder | Policy, config: Config, samples: Rows | None, split: Split | None, plan: Plan, display: Display
) -> dict[str, Any]:
    """Return the figures of a model on a split, or on given samples."""
    if samples is None:
        split = split or from_main(lambda: held_out(config.task)) or "test"
        rows = samples_of(config, split, display)
    elif split is not None:
        raise ConfigError("give samples or a split, not both")
    else:
        rows = samples_of(config, "test", display, samples)
    if isinstance(model, str | Path | RunFolder):
        return evaluate_model(config, str(model.model if isinstance(model, RunFolder) else model), rows, display, plan=plan)
    return _evaluate_policy(model, config, rows, display, plan)


def write_page(run: RunFolder | str | Path, out: str | Path | None = None, *, beside: RunFolder | str | Path | None = None) -> Path:
    """Write the HTML page of a run to `out`, by default report.html in its folder, and return the path; the run need not have ended.

    With `beside`, another run, the page shows both side by side; by default it is beside-NAME.html. Raises RunError if either is not a run
    folder.
    """
    file = None if out is None else Path(out)
    return page.write_page(_folder(run), file) if beside is None else pairs.write_page(_folder(run), _folder(beside), file)


def _folder(run: RunFolder | str | Path) -> Path:
    return run.path if isinstance(run, RunFolder) else Path(run)


# -- used by the commands


def samples_of(config: Config, split: Split, display: Display, rows: Rows | None = None) -> list[Sample]:
    """Return a split's samples, or the given `rows` as samples; they are read before torch is imported, so bad rows are found at once.

    Of several processes the main one reads first, as reading may prepare data or extract facts, which the others then find.
    """
    name = "samples" if split != "validation" else split
    with progress_bars(display) as progress:
        if rows is None:
            found, trouble = main_first(lambda: sample_lists.load(config, split, progress))
        else:
            found, trouble = main_first(lambda: sample_lists.given(rows, config, name, progress))
    if trouble:
        display.note(trouble)
    return found


def reports_of(config: Config, trackers: Sequence[Tracker] = ()) -> Reports:
    """Return the reports of a run to these trackers, else to those that `run.report_to` names; they are created when training starts.

    Raises ConfigError for trackers that are unknown or not installed.
    """
    together(lambda: check_trackers(config, trackers))

    def make() -> Mapping[str, Tracker | type[Tracker]]:
        from dyme.tracking.services import trackers_of

        return trackers_of(config, trackers)

    return Reports(make)


def train_model(
    config: Config,
    resume: bool,
    display: Display,
    *,
    samples: Rows | None = None,
    validation: Rows | None = None,
    command: bool = True,
    **doors: Any,
) -> Path:
    """Train by `config`, or resume the run that it names, and return the folder of the model; `command`: `dyme train` can resume it."""
    if not resume:
        from_main(lambda: RunFolder.check_new(Path(config.run.output)))
    found = samples_of(config, "train", display, samples)
    evaluates = config.run.eval_every and (validation is not None or samples is None)
    held = samples_of(config, "validation", display, validation) if evaluates else None
    from dyme.training.loop import train as run_training

    return run_training(config, samples=found, validation=held, resume=resume, display=display, host=_host(command), **doors)


def evaluate_model(
    config: Config, model: str, samples: Sequence[Sample], display: Display, *, plan: Plan | None = None, folder: ItemFolder | None = None
) -> dict[str, Any]:
    """Evaluate the checkpoint at `model` in all processes of the launch and return its figures (`evaluation.run.run_evaluation`)."""
    from dyme.evaluation.run import run_evaluation

    config = replace(config, model=replace(config.model, path=model))
    with progress_bars(display) as progress:
        return run_evaluation(config, samples, plan or Plan(), folder=folder, progress=progress, note=display.note)


# -- inside


def _host(command: bool) -> Host:
    """Return the host of a training that is its own; `command`: `dyme train` can resume it."""
    from dyme.training.setup import Host

    host = Host()
    host.command = command
    return host


def _evaluate_policy(policy: Policy, config: Config, samples: Sequence[Sample], display: Display, plan: Plan) -> dict[str, Any]:
    """Evaluate a loaded policy on its own device and return its figures."""
    from dyme.evaluation.run import evaluate as ask
    from dyme.model.policy import Policy
    from dyme.tasks.rules import rules_of

    if not isinstance(policy, Policy):
        raise ModelError(f"a model is a folder, a hub id, a RunFolder or a Policy, not {type(policy).__name__}")
    with progress_bars(display) as progress:
        return ask(policy, samples, config, rules_of(config), plan=plan, progress=progress)


def _plan(prompts: Sequence[PromptStyle], k: int) -> Plan:
    """Return the plan of an evaluation. Raises ConfigError for unknown prompts and impossible numbers."""
    asked = tuple(style for style in STYLES if style in prompts)
    if not asked or isinstance(prompts, str) or len(asked) != len(prompts):
        raise ConfigError(f"prompts is {prompts!r}; give ('think', 'direct'), or one of them in a tuple")
    if isinstance(k, bool) or not isinstance(k, int) or k < 0 or k == 1:
        raise ConfigError("k must be a whole number of at least 2, or 0 for no sampling")
    return Plan(prompts=asked, k=k)


def _held_out(config: Config, given: bool, validation: list[Sample] | None, display: Display) -> tuple[Split | None, list[Sample]]:
    """Return the split to report on and its samples, or (None, []) if nothing is held out; `given`: training samples were given."""
    split = None if given else from_main(lambda: held_out(config.task))
    if split in (None, "validation") and validation is not None:
        return "validation", validation
    return (split, samples_of(config, split, display)) if split else (None, [])


def _for_samples(config: Config, display: Display) -> Config:
    """Return `config` for samples given in Python: without other data, and with task jsonl if its task draws its own samples."""
    task = TASKS.get(config.task.name)
    name = config.task.name
    if task is not None and task.published is None:
        name = "jsonl"
        display.note(
            f"the samples given take the place of task {task.name}: their answers are judged as those of task jsonl, {TASKS[name].metric}; "
            "task.tolerance sets another share"
        )
    return replace(config, task=replace(config.task, name=name, path="", train="", validation="", test=""))


def _display(display: Display | None) -> Display:
    """Return the display that shows progress. Raises ConfigError for an object of another kind."""
    if display is not None and not isinstance(display, Display):
        raise ConfigError(f"display is {type(display).__name__}; give a dyme.Display, e.g. dyme.Display.quiet(), or none")
    return display or new_display()


def _check_resumed(config: Config, method: Method[Any]) -> None:
    """Raise ConfigError unless the run in config.run.output began with the settings of `config`; those of its method have defaults."""
    run = RunFolder.open(config.run.output)
    held = run.config()
    began, now = (method.settled(held) if held.method.name == config.method.name else held).to_dict(), config.to_dict()
    names = [(section, key) for section, keys in now.items() for key in keys]
    apart = [
        f"{section}.{key}" for section, key in names
        if (section, key) not in (("run", "output"), ("train", "precision")) and began[section].get(key) != now[section][key]
    ]  # fmt: skip
    if apart:
        raise ConfigError(f"{run.path}: a resumed run keeps its settings, and {apart[0]} differs; take dyme.RunFolder(...).config()")
