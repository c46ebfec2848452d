"""The recipe that `dyme new` writes: the settings that fit a user's rows and model, each with its reason beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dyme.config import Config
from dyme.data.prepare import Report
from dyme.recipe import load_recipe, shipped

EMBEDDED = "embedded"
CHARACTERS = 3
"""Characters of a text that a token has at least, in most tokenizers."""
LENGTHS = (48, 64, 96, 128, 192, 256, 384, 512)
"""Lengths of completions to choose from, in tokens."""


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to learn from."""

    report: Report
    longest: int
    """Characters of the longest target: trace, marker and answer."""

    @property
    def train(self) -> int:
        """Return the number of training rows."""
        return self.report.rows.get("train", 0)

    def share(self, count: int) -> float:
        """Return a count of rows as a share of all rows."""
        return count / max(1, sum(self.report.rows.values()))


def models(seeing: bool) -> dict[str, tuple[str, Config]]:
    """Return the models for which recipes ship: model -> the recipe's name and its settings; for text alone, those that read text."""
    found: dict[str, tuple[str, Config]] = {}
    for name, path in shipped().items():
        config = load_recipe(path)
        text = config.task.name == "gsm8k" or config.task.input == "facts"
        if config.model.path == EMBEDDED or text != seeing:
            found.setdefault(config.model.path, (name, config))
    return dict(sorted(found.items(), key=lambda one: one[0] != EMBEDDED))


def text_of(source: str, name: str, rows: str, model: str, budget: str, material: Material) -> str:
    """Return the recipe's text, TOML; `rows` is the folder of the prepared rows beside it, `budget` a value such as "800prompts", or ""."""
    report, known = material.report, models(material.report.images > 0).get(model)
    counts = ", ".join(f"{count} {split}" for split, count in report.rows.items())
    lines = [
        f"# dyme train {name}/recipe.toml",
        "#",
        f"# Written by `dyme new` from {_one_line(source)}: {counts} rows, {report.images} pictures, {report.rationales} with a rationale,",
        f"# {report.facts} with facts. Any setting may be changed or added; `dyme settings` explains each.",
        "",
        "[run]",
        f"output = {_text(f'runs/{name}')}",
        "",
        "[task]",
        'name = "jsonl"',
        f"path = {_text(rows)}" + _note("the prepared rows, beside this file"),
        "",
        "[model]",
        f"path = {_text(model)}" + _note("a folder, a hub id, or embedded, the tiny model that ships"),
        *_settings(known, "model"),
        "",
        "[method]",
        *_method(material),
        "",
        "[rollout]",
        "num_generations = 8" + _note("completions that are sampled for each prompt"),
        f"max_completion_length = {_length(material)}" + _note(f"the longest target has {material.longest:,} characters"),
        "",
        "[train]",
        *_training(model, budget, known, material),
    ]
    return "\n".join(lines + _supervision(material)) + "\n"


def _method(material: Material) -> list[str]:
    """Return the method that the rows allow, and why."""
    report = material.report
    if material.share(report.rationales) >= 0.5 or material.share(report.facts) >= 0.5:
        return ['name = "dyme"' + _note("memorizes a trace where all completions fail, else explores")]
    return [
        'name = "dyme"' + _note("memorizes the answer where all completions fail, as few rows have a trace; else explores"),
        "# `dyme methods` lists others, some of which read no traces",
    ]


def _supervision(material: Material) -> list[str]:
    """Return the settings of the local helpers: on, if the rows have facts; else as a proposal for pictures."""
    report = material.report
    if material.share(report.facts) >= 0.5:
        return [
            "", "[supervision]",
            'checker = "local"' + _note("grades thinking by the rows' facts"),
            *(['refiner = "local"' + _note("writes traces from the facts")] if material.share(report.rationales) < 0.5 else []),
        ]  # fmt: skip
    if report.images and material.share(report.rationales) < 0.5:
        return [
            "", "# [supervision]" + _note("for charts and documents: OCR reads facts once, from which traces are written"),
            '# facts = "ocr"' + _note("first: dyme facts --recipe THIS FILE --source ocr"),
            '# checker = "local"', '# refiner = "local"',
        ]  # fmt: skip
    return []


def _training(model: str, budget: str, known: tuple[str, Config] | None, material: Material) -> list[str]:
    """Return the settings of the optimizer and the budget."""
    step = min(32, max(4, 2 ** (max(1, material.train // 8).bit_length() - 1)))
    lines = [f"prompts_per_step = {step}"]
    if budget:
        count = budget.removesuffix("prompts").removesuffix("completions").removesuffix("tokens").removesuffix("s")
        unit = budget.removeprefix(count)
        lines.append(f"max_{'seconds' if unit == 's' else unit} = {count}")
    else:
        lines.append("num_train_epochs = 3" + _note(f"passes over the {material.train} training rows"))
    if model == EMBEDDED:
        return [*lines, "learning_rate = 1e-3" + _note("for the embedded model; 8e-5 for a model of 0.5 B parameters")]
    rate = known[1].train.learning_rate if known else 8e-5
    source = f"that of recipe {known[0]}" if known else "the paper's for models of 0.5 B parameters"
    return [*lines, f"learning_rate = {rate:g}" + _note(source), *_settings(known, "train")]


def _settings(known: tuple[str, Config] | None, section: str) -> list[str]:
    """Return the settings of a section that the shipped recipe of the model has beside those that are written anyway."""
    if known is None or known[1].model.path == EMBEDDED:
        return []
    names = {"model": ("lora_rank", "image_longest_edge", "image_max_pixels", "image_max_tiles"), "train": ("gradient_checkpointing",)}
    own = getattr(known[1], section)
    given = [(name, getattr(own, name)) for name in names[section] if getattr(own, name)]
    return [f"{name} = {json.dumps(value)}" for name, value in given]


def _length(material: Material) -> int:
    """Return a length of completions that the longest target fits into."""
    need = material.longest // CHARACTERS + 8
    return next((length for length in LENGTHS if length >= need), LENGTHS[-1])


def longest_target(folder: Path, marker: str) -> int:
    """Return the characters of the longest target among the prepared training rows."""
    longest = 0
    with (folder / "train.jsonl").open(encoding="utf-8") as rows:
        for line in rows:
            row = json.loads(line)
            longest = max(longest, len(str(row.get("rationale") or "")) + len(marker) + len(str(row["answer"])) + 2)
    return longest


def _note(text: str) -> str:
    return f"   # {text}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())
