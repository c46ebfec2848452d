"""A cell of a study: one training and its evaluation; and its file, OUT/cells/<id>.json, which alone says that the cell is done.

The id is a digest of all settings that differ from their defaults, so that a later version with further settings finds the same cells. A
file counts only if all settings that it records are those that are wanted: a default that changed since makes it another cell's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dyme import plugins
from dyme.comparison.design import BASE, Settings, budget_of
from dyme.config import Config, MethodConfig
from dyme.data.layouts import Split
from dyme.errors import DymeError
from dyme.evaluation.items import STYLES, Item, Plan
from dyme.methods import find
from dyme.recipe import PLUGINS, build_of_run
from dyme.system.files import write_whole
from dyme.tracking.json_lines import strict
from dyme.tracking.run_folder import RunFolder

Stage = Literal["trial", "test", "base"]
PLANS = {"trial": Plan(prompts=("think",), k=0), "test": Plan(), "base": Plan()}
"""What is asked of a cell's model."""
DIAGNOSIS = Plan(k=64, sampled=200)
"""What is asked of the untrained model besides, on the validation split."""
NOTHING = {"metrics": {"think_accuracy": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 0}}, "by_kind": {}}
"""Figures of a trial that diverged."""
_OF_RUN = ("seed", "eval_every", "eval_size", "best_metric", "keep_best", "patience")
"""Settings of [run] that the final model depends on; the last five only with keep_best "model" or patience."""
_SCRATCH = ("checkpoints", "items", "diagnosis")
"""What a run folder does not need once the cell is done."""
_SAMPLES = ("model", "rollouts.jsonl", "images")
"""What it keeps only if the study says so."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training and evaluation, or the evaluation of the base."""

    arm: str
    condition: str
    stage: Stage
    config: Config
    settings: Settings
    """What differs from the study's own settings."""
    split: Split

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Return all settings that the figures depend on, as JSON has them."""
        return identity(self.config, self.stage, self.split)

    @cached_property
    def id(self) -> str:
        """Return the name of the cell's file."""
        return hashlib.sha256(json.dumps(_changed(self.identity), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Return the cell's name in messages."""
        words = [self.arm, self.condition, *([] if self.stage == "base" else [f"seed {self.config.run.seed}"])]
        if self.stage == "trial":
            words += [", ".join(f"{key.partition('.')[2]} {value}" for key, value in self.settings.items()), budget_of(self.config)]
        return " / ".join(filter(None, words))


def identity(config: Config, stage: Stage, split: Split) -> dict[str, Any]:
    """Return the settings that a cell's figures depend on; plug-ins go by the name and content of their file, not by its place."""
    method = find(config.method.name)
    if stage != "base":
        config = method.settled(config)
        if not any(one.imitates or one.reads_traces or (one.rolls_out and _rewards_traces(config)) for one in method.plan(config)):
            config = replace(config, task=replace(config.task, **_traces()))
    tree: dict[str, Any] = json.loads(json.dumps(strict(config.to_dict())))
    run = tree["run"]
    watched = run["keep_best"] == "model" or run["patience"]
    tree["run"] = {key: run[key] for key in (_OF_RUN if watched else _OF_RUN[:1])}
    tree["task"].pop("prepared")
    names = [tree[section][key] for section, key in PLUGINS if section != "run"]
    texts = [name for value in names for name in (value if isinstance(value, list) else [value])]
    for section, key in PLUGINS:
        if section != "run":
            value = tree[section][key]
            tree[section][key] = [*map(plugins.label, value)] if isinstance(value, list) else plugins.label(value)
    code = {Path(place).name: digest for place, digest in plugins.digests(texts).items()}
    plan = PLANS[stage]
    asked = {"split": split, "prompts": [*plan.prompts], "k": plan.k, "sampled": plan.sampled if plan.k else 0}
    if stage == "base":
        tree = {section: tree[section] for section in ("run", "model", "task", "rollout", "supervision")}
        tree["rollout"].pop("num_generations")
    return tree | {"evaluation": asked} | ({"code": code} if code else {})


def _rewards_traces(config: Config) -> bool:
    return config.reward.thinking_against == "reference" and config.reward.thinking_weight != 0


def _traces() -> dict[str, Any]:
    """Return the defaults of the settings that change nothing but the traces."""
    plain = asdict(Config().task)
    return {key: plain[key] for key in ("traces", "misread") if key in plain}


def _changed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from their defaults."""
    plain = Config()
    if "method" in tree and not plugins.is_place(str(tree["method"]["name"])):
        own = find(tree["method"]["name"])
        plain = own.settled(replace(plain, method=MethodConfig(name=own.name)), " ")
    held = json.loads(json.dumps(strict(plain.to_dict())))
    return {
        name: {key: value for key, value in table.items() if name not in held or key not in held[name] or held[name][key] != value}
        for name, table in tree.items()
    }


class Cells:
    """The cell files of a study: those in OUT/cells, and those of another folder that count as well."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._known: dict[str, dict[str, Any] | None] = {}

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """Return the content of a cell's file; None if the cell is not done, or the file is another cell's."""
        if cell.id not in self._known or self._known[cell.id] is None:
            found = (read_cell(folder / f"{cell.id}.json", cell.identity) for folder in self.folders)
            self._known[cell.id] = next(filter(None, found), None)
        return self._known[cell.id]

    def adopt(self, cell: Cell) -> None:
        """Copy a cell's file into the study's own folder if it lies in another, so that the report finds all of them in one place."""
        own = self.folders[0] / f"{cell.id}.json"
        if (found := self.get(cell)) is not None and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            write_whole(own, (json.dumps(found) + "\n").encode())

    def files(self) -> list[Path]:
        """Return all files."""
        return [file for folder in self.folders for file in sorted(folder.glob("*.json"))]


def read_cell(file: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of a cell file; None if it is not there, or is another cell's."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict) or not isinstance(found.get("config"), dict):
        return None
    return found if agrees(found["config"], identity) else None


def agrees(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether all settings that both have are equal."""
    return all(
        agrees(value, wanted[key]) if isinstance(value, dict) and isinstance(wanted[key], dict) else value == wanted[key]
        for key, value in held.items()
        if key in wanted
    )


def write_job(cell: Cell, out: Path, command: str, *, keep: str = "figures", diagnose: bool = True, rerun: str = "") -> Path:
    """Write the file that `dyme cell` reads, OUT/runs/<id>.json, and return its path."""
    shown = f"{cell.config.run.run_name}, {cell.name}" if cell.config.run.run_name else ""
    run = replace(cell.config.run, output=str(out.absolute() / "runs" / cell.id), run_name=shown)
    job = {
        "id": cell.id, "arm": cell.arm, "condition": cell.condition, "stage": cell.stage, "settings": cell.settings, "split": cell.split,
        "out": str(out.absolute()), "keep": keep, "diagnose": diagnose, "command": command, "rerun": rerun, "identity": cell.identity,
        "config": replace(cell.config, run=run).to_dict(),
    }  # fmt: skip
    file = out / "runs" / f"{cell.id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(strict(job)).encode())
    return file


@dataclass(frozen=True, slots=True)
class Job:
    """A job file, read."""

    data: Mapping[str, Any]

    @property
    def config(self) -> Config:
        """Return the recipe of the cell."""
        return build_of_run(self.data["config"], where=f"cell {self.data['id']}")

    @property
    def run(self) -> Path:
        """Return the run folder, which is scratch."""
        return Path(self.data["config"]["run"]["output"])

    @property
    def file(self) -> Path:
        """Return the cell file to write."""
        return Path(self.data["out"]) / "cells" / f"{self.data['id']}.json"

    @property
    def plan(self) -> Plan:
        """Return what is asked of the model."""
        return PLANS[self.data["stage"]]

    def done(self) -> bool:
        """Return whether the cell file is there already, as a killed study's last process may have written it."""
        return read_cell(self.file, self.data["identity"]) is not None

    def begun(self) -> bool:
        """Return whether the run folder holds a run of these settings to resume; one of other settings is removed."""
        if not (self.run / "config.json").is_file():
            return False
        try:
            held = identity(RunFolder.open(self.run).config(), self.data["stage"], self.data["split"])
        except DymeError:
            held = {}
        for tree in (held, wanted := json.loads(json.dumps(self.data["identity"]))):
            tree.get("train", {}).pop("precision", None)  # a run records the definite precision
        if held == wanted:
            return True
        shutil.rmtree(self.run)
        return False

    def write(self, figures: Mapping[str, Any], items: Sequence[Item], more: Mapping[str, Any]) -> None:
        """Write the cell file from the evaluation's figures and items and from the run folder, then remove what is not kept."""
        held, run = self.data, RunFolder(self.run)
        steps = run.steps() if (self.run / "metrics.jsonl").exists() else []
        versions = run.versions()
        counts = _curve([step.metrics for step in steps], [step.prompts for step in steps])
        last = counts[-1] if counts else [0, 0, 0, 0, None]
        pictures = [i.picture for i in items if i.prompt == items[0].prompt]
        modes = ("memorize", "explore", "skip", "mixed")
        row = {key: held[key] for key in ("id", "arm", "condition", "stage", "settings", "split", "command")} | {
            "method": BASE if held["stage"] == "base" else held["config"]["method"]["name"],
            "seed": held["config"]["run"]["seed"], "budget": budget_of(self.config),
            "metrics": figures["metrics"], "by_kind": figures["by_kind"],
            "items": {style: "".join(str(int(i.correct)) for i in items if i.prompt == style) for style in STYLES
                      if any(i.prompt == style for i in items)},
            **({"pictures": pictures} if len(set(filter(None, pictures))) < sum(map(bool, pictures)) else {}),
            "curve": counts,
            "shares": {mode: _mean([step.metrics.get(f"share_{mode}") for step in steps]) for mode in modes} if steps else {},
            "prompts": last[0], "completions": last[1], "sampled_tokens": last[2], "trained_tokens": last[3],
            "seconds": round(steps[-1].seconds, 1) if steps else 0.0, "config": held["identity"],
            "versions": {key: value for key, value in versions.items() if key not in ("command", "commit", "cpus", "device")},
            "hardware": {key: versions.get(key) for key in ("platform", "cpus", "device")}, "commit": versions.get("commit"), **more,
        } | ({"rerun": held["rerun"]} if held["rerun"] else {})  # fmt: skip
        if held["stage"] == "base":  # the same for all cells of this task
            row["kinds"] = [i.kind for i in items if i.prompt == items[0].prompt]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, (json.dumps(strict(row)) + "\n").encode())
        self.clean()

    def clean(self) -> None:
        """Remove what a done cell does not need: checkpoints, the job, and, unless keep is "models", the model and its samples."""
        scratch = (*_SCRATCH, *(_SAMPLES if self.data["keep"] == "figures" else ()))
        for entry in self.run.iterdir() if self.run.is_dir() else ():
            if entry.name in scratch or entry.suffix == ".tmp":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.run.with_suffix(".json").unlink(missing_ok=True)


def read_job(file: Path) -> Job:
    """Return the job that a file holds."""
    return Job(json.loads(file.read_text(encoding="utf-8")))


def _mean(values: Sequence[float | None]) -> float:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else 0.0


def _curve(steps: Sequence[Mapping[str, float]], prompts: Sequence[int]) -> list[list[Any]]:
    """Return cumulative counts and the sampled accuracy per step: prompts, completions, sampled tokens, trained tokens, accuracy."""
    out: list[list[Any]] = []
    completions = sampled = trained = 0
    for metrics, seen in zip(steps, prompts, strict=True):
        tokens, length = metrics.get("rollout_tokens", 0.0), metrics.get("completion_length", 0.0)
        completions += round(metrics["completions"] if "completions" in metrics else tokens / length if length else 0)
        sampled += round(metrics.get("sampled_tokens", tokens))
        trained += round(metrics.get("trained_tokens", 0.0))
        accuracy = metrics.get("accuracy")
        out.append([seen, completions, sampled, trained, None if accuracy is None else round(accuracy, 5)])
    return out
