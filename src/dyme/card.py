"""The model card: a README.md beside the weights, with what the hub wants to know and what the run measured.

It holds nothing that tells of the machine: no paths, no times, no addresses.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyme.config import Config
from dyme.record import RunFolder

_PRIVATE = ("run", "task.train", "task.validation", "task.test", "task.path", "supervision.url", "supervision.api_key_env",
            "supervision.cache", "supervision.facts_cache", "model.path")  # fmt: skip
"""Sections and settings that are left out: places, addresses."""
_LABELS = {
    "think_accuracy": "accuracy, thinking", "direct_accuracy": "accuracy, answering at once", "format_rate": "well-formed",
    "true_statements": "true statements in the thinking",
}  # fmt: skip
_PAPER = "Empowering Small VLMs to Think with Dynamic Memorization and Exploration (ICLR 2026)"


def write(run: RunFolder, folder: Path) -> Path:
    """Write the card of a run's model into its folder, with the evaluations that there are; an earlier one is replaced."""
    config, adapter = run.config(), (folder / "adapter_config.json").exists()
    sees = any((folder / name).exists() for name in ("processor_config.json", "preprocessor_config.json"))
    base = config.model.path if _public(config.model.path) else ""
    parts = [
        _front(base, adapter, sees),
        f"# {_title(config)}\n\n{_summary(config, base, adapter)}",
        _figures(run.evaluations()),
        f"## Use\n\n{_usage(base, adapter, sees)}\n\n{_prompt(config)}",
        f"## Settings\n\nThose that differ from dyme's defaults:\n\n```toml\n{_settings(config)}```",
        f"## Versions\n\n{_versions(run.versions(), adapter)}",
        "## Licence\n\nThe weights come under the licence of the base model, and what was trained on may add terms of its own. Add "
        "`license:` to the head of this file before you share it.\n",
    ]
    card = folder / "README.md"
    card.write_text("\n\n".join(part for part in parts if part), encoding="utf-8")
    return card


def _front(base: str, adapter: bool, sees: bool) -> str:
    """What the hub reads, in YAML."""
    lines = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "tags": ["dyme", "reinforcement-learning", *(["lora"] if adapter else [])],
    }
    if base:
        lines |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items()) + "---"


def _title(config: Config) -> str:
    return f"{Path(config.model.path).name}, {config.method.name} on {config.task.name}"


def _summary(config: Config, base: str, adapter: bool) -> str:
    what = f"A LoRA adapter of rank {config.model.lora_rank} for" if adapter else "A fine-tune of"
    of = f"[{base}](https://huggingface.co/{base})" if base else _local(config.model.path)
    rolled = f"{config.rollout.num_generations} completions a prompt, " if config.method.name != "sft" else ""
    return (
        f"{what} {of}, trained with dyme's method `{config.method.name}` on the task `{config.task.name}` ({rolled}"
        f"{config.train.prompts_per_step} prompts a step). The method is that of *{_PAPER}*."
    )


def _local(path: str) -> str:
    return "dyme's embedded model" if path == "embedded" else f"a local checkpoint, `{Path(path).name}`"


def _figures(evaluations: list[dict[str, Any]]) -> str:
    """The last evaluation of each split, base included, with intervals."""
    last = {row["name"]: row for row in evaluations}
    rows = [
        f"| {name} | {_label(figure)} | {_number(figure, value['value'])} | "
        f"{_number(figure, value['low'])} to {_number(figure, value['high'])} | {value['n']} |"
        for name, row in last.items()
        for figure, value in row["metrics"].items()
        if {"value", "low", "high", "n"} <= value.keys()
    ]
    if not rows:
        return "## Figures\n\nNot evaluated."
    return "## Figures\n\n| split | figure | value | 95 % interval | n |\n|---|---|---:|---:|---:|\n" + "\n".join(rows)


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("pass_at_", "pass@").replace("_", " "))


def _number(name: str, value: float) -> str:
    return f"{value:.1f}" if any(word in name for word in ("tokens", "length", "words")) else f"{100 * value:.1f} %"


def _usage(base: str, adapter: bool, sees: bool) -> str:
    kind, reader = ("AutoModelForImageTextToText", "AutoProcessor") if sees else ("AutoModelForCausalLM", "AutoTokenizer")
    here = '"path/or/id/of/this/folder"'
    load = f"{kind}.from_pretrained({json.dumps(base or 'the base model') if adapter else here})"
    lines = ["from peft import PeftModel"] if adapter else []
    lines += [f"from transformers import {', '.join(sorted([kind, reader]))}", ""]
    lines += [f"model = PeftModel.from_pretrained({load}, {here})" if adapter else f"model = {load}"]
    lines += [f"processor = {reader}.from_pretrained({here})"]
    return "```python\n" + "\n".join(lines) + "\n```"


def _prompt(config: Config) -> str:
    """How to ask, as it was trained."""
    own = f"the system prompt {config.model.system_prompt!r}" if config.model.system_prompt else "no system prompt but the template's own"
    return (
        f"Ask with one user turn of the chat template in this folder ({own}; `enable_thinking={config.model.enable_thinking}` where it "
        f"has that): the picture, if any, then\n\n```text\nQUESTION {config.task.think_prompt}\n```\n\nThe model thinks, writes "
        f"`{config.task.marker}` and then the answer. To have it answer at once, end with `{config.task.direct_prompt}`"
    )


def _settings(config: Config) -> str:
    """TOML of the settings that were changed."""
    default, out = Config(), []
    for section in dataclasses.fields(Config):
        own, plain = (dataclasses.asdict(getattr(c, section.name)) for c in (config, default))
        changed = [f"{k} = {json.dumps(v)}" for k, v in own.items() if v != plain[k] and not _private(section.name, k)]
        out += [f"[{section.name}]", *changed, ""] if changed else []
    return "\n".join(out) or "# none\n"


def _private(section: str, key: str) -> bool:
    return section in _PRIVATE or f"{section}.{key}" in _PRIVATE


def _versions(versions: Mapping[str, Any], adapter: bool) -> str:
    names = ("dyme", "python", "torch", "transformers", "accelerate", *(["peft"] if adapter else []))
    return ", ".join(f"{name} {versions[name]}" for name in names if versions.get(name))


def _public(path: str) -> bool:
    """Whether it is a hub id."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not Path(path).exists()
