"""The model card: a README.md beside the weights, with the hub's metadata and the run's figures.

It holds nothing about the machine: no paths, no times, no addresses. A setting that is text is shown only if it cannot be one of
these; the figures were measured on the weights beside the card.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme.config import Config
from dyme.methods import METHODS, Method
from dyme.plugins import label
from dyme.supervise import flips
from dyme.tracking.run_folder import RunFolder

_TEXTS = (
    "model.lora_targets", "model.system_prompt", "task.name", "task.language", "task.think_prompt", "task.direct_prompt", "task.marker",
    "task.verifier", "supervision.self_prompt",
)  # fmt: skip
"""Settings of free text that are no place; a number, a switch or one of a few words tells nothing of the machine."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_SERVED = re.compile(r"\w[\w.:-]*(?:/[\w.:-]+)?")
"""A model's name at an endpoint, unless it is a path, as vLLM has it."""
_LABELS = {
    "think_accuracy": "accuracy, thinking", "direct_accuracy": "accuracy, answering at once", "format_rate": "well-formed",
    "true_statements": "true statements in the thinking",
}  # fmt: skip


def about(method: Method[Any]) -> dict[str, Any]:
    """Return a run's record of its method, for card and page: the method's file may be gone by then."""
    stages = method.stages(method.settings)
    return {"name": method.name, "source": method.source, "rolls_out": any(stage.rolls_out for stage in stages)}


def _method(run: RunFolder, config: Config) -> dict[str, Any]:
    """Return the run's record of its method; without a record, one made from the method's name."""
    name = config.method.name
    known = about(METHODS[name]) if name in METHODS else {"name": label(name), "source": "", "rolls_out": True}
    return {**known, **(run.versions().get("method") or {})}


def write(run: RunFolder, folder: Path, *, step: int | None = None, dtype: str = "") -> Path:
    """Write the card of a run's model into its folder, with the evaluations of that model; an earlier card is replaced.

    The weights are those after `step` (by default those of the final model) in precision `dtype` (by default the run's).
    """
    config, adapter = run.config(), (folder / "adapter_config.json").exists()
    sees = any((folder / name).exists() for name in ("processor_config.json", "preprocessor_config.json"))
    base, method = _base(run, config), _method(run, config)
    last = max((record.step for record in run.steps()), default=0)
    step = run.model_step() if step is None else step
    computed = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "auto": config.model.dtype}[config.train.precision]
    rounded = f"Measured in {computed}; these weights are in {dtype}." if dtype not in ("", computed) else ""
    part = f" These are the weights after step {step} of {last}." if 0 <= step < last else ""
    parts = [
        _front(base, adapter, sees),
        f"# {_title(config, method)}\n\n{_summary(config, method, base, adapter)}{part}",
        f"**{told}.**" if (told := flips.warning(config.supervision.flip)) else "",
        _figures(run.evaluations(), step, rounded),
        f"## Use\n\n{_usage(base, adapter, sees)}\n\n{_prompt(config)}",
        f"## Settings\n\nThose that differ from dyme's defaults:\n\n```toml\n{_settings(config)}```",
        f"## Versions\n\n{_versions(run.versions(), adapter)}",
        "## Licence\n\nThe weights come under the licence of the base model, and what was trained on may add terms of its own. Add "
        "`license:` to the head of this file before you share it.\n",
    ]
    card = folder / "README.md"
    card.write_text("\n\n".join(part for part in parts if part), encoding="utf-8")
    return card


def base_of(path: str, places: Sequence[Path] = (Path(),)) -> str:
    """Return `path` if it is a hub id, else "": for a folder in one of `places`, and for a text that is no id."""
    return path if _HUB_ID.fullmatch(path) and not any((place / path).exists() for place in places) else ""


def _base(run: RunFolder, config: Config) -> str:
    """Return the recorded base; without a record, the hub id in `model.path`, if it is no folder beside or above the run, else ""."""
    recorded = run.versions().get("base")
    return str(recorded) if recorded is not None else base_of(config.model.path, (Path(), *run.path.absolute().parents))


def _front(base: str, adapter: bool, sees: bool) -> str:
    """Return the hub's metadata, in YAML."""
    lines = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "tags": ["dyme", "reinforcement-learning", *(["lora"] if adapter else [])],
    }
    if base:
        lines |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items()) + "---"


def _title(config: Config, method: Mapping[str, Any]) -> str:
    return f"{Path(config.model.path).name}, {method['name']} on {label(config.task.name)}"


def _summary(config: Config, method: Mapping[str, Any], base: str, adapter: bool) -> str:
    what = f"A LoRA adapter of rank {config.model.lora_rank} for" if adapter else "A fine-tune of"
    of = f"[{base}](https://huggingface.co/{base})" if base else _local(config.model.path)
    rolled = f"{config.rollout.num_generations} completions a prompt, " if method["rolls_out"] else ""
    source = f" The method's source: {method['source']}." if method["source"] else ""
    return (
        f"{what} {of}, trained with dyme by the method `{method['name']}` on the task `{label(config.task.name)}` ({rolled}"
        f"{config.train.prompts_per_step} prompts a step).{source}"
    )


def _local(path: str) -> str:
    return "dyme's embedded model" if path == "embedded" else f"a local checkpoint, `{Path(path).name}`"


def _figures(evaluations: list[dict[str, Any]], step: int, rounded: str) -> str:
    """Return a table of the last evaluation of each split after `step`, with intervals, beside the base's."""
    last = {row["name"]: row for row in evaluations if row["name"] == "base" or row["step"] == step}
    if not last.keys() - {"base"}:
        return "## Figures\n\nNot evaluated."
    rows = [
        f"| {name} | {_label(figure)} | {_number(figure, value['value'])} | "
        f"{_number(figure, value['low'])} to {_number(figure, value['high'])} | {value['n']} |"
        for name, row in last.items()
        for figure, value in row["metrics"].items()
        if isinstance(value, dict) and {"value", "low", "high", "n"} <= value.keys()
    ]
    table = "| split | figure | value | 95 % interval | n |\n|---|---|---:|---:|---:|\n" + "\n".join(rows)
    return "\n\n".join(part for part in ("## Figures", rounded, table) if part)


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
    """Return the section on how to prompt the model, as in training."""
    own = f"the system prompt {config.model.system_prompt!r}" if config.model.system_prompt else "no system prompt but the template's own"
    return (
        f"Ask with one user turn of the chat template in this folder ({own}; `enable_thinking={config.model.enable_thinking}` where it "
        f"has that): the picture, if any, then\n\n```text\nQUESTION {config.task.think_prompt}\n```\n\nThe model thinks, writes "
        f"`{config.task.marker}` and then the answer. To have it answer at once, end with `{config.task.direct_prompt}`"
    )


def _settings(config: Config) -> str:
    """Return TOML of the settings that were changed and may be shown."""
    default, out = Config(), []
    for section in dataclasses.fields(Config):
        own, plain, hints = _tables(section.name, config, default)
        changed = [
            f"{k} = {json.dumps(_labelled(v))}" for k, v in own.items() if v != plain.get(k) and _shown(section.name, k, v, hints.get(k))
        ]
        out += [f"[{section.name}]", *changed, ""] if changed else []
    return "\n".join(out) or "# none\n"


def _tables(section: str, config: Config, default: Config) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a section's values, defaults and types; those of a user's method are unknown, and its name is a path."""
    if section != "method":
        own, plain = (dataclasses.asdict(getattr(c, section)) for c in (config, default))
        return own, plain, typing.get_type_hints(type(getattr(default, section)))
    if config.method.name not in METHODS:
        return dict(config.method.settings), {}, {}
    found = METHODS[config.method.name].settings
    names = {"name": config.method.name} if config.method.name != default.method.name else {}
    hints = typing.get_type_hints(type(found)) | {"name": typing.Literal[config.method.name]}
    return names | dict(config.method.settings), dataclasses.asdict(found), hints


def _labelled(value: Any) -> Any:
    """Return a value without the folders of the user's files in it."""
    if isinstance(value, tuple):
        return [_labelled(part) for part in value]
    return label(value) if isinstance(value, str) else value


def _shown(section: str, key: str, value: Any, hint: Any) -> bool:
    """Return whether a setting may be shown: a number, one of a few words, or a text that is no path; never one of section run."""
    if section == "run":
        return False
    if f"{section}.{key}" == "supervision.model":
        return bool(_SERVED.fullmatch(value)) and not Path(value).exists()
    return not isinstance(value, str) or typing.get_origin(hint) is typing.Literal or f"{section}.{key}" in _TEXTS


def _versions(versions: Mapping[str, Any], adapter: bool) -> str:
    names = ("dyme", "python", "torch", "transformers", "accelerate", *(["peft"] if adapter else []))
    return ", ".join(f"{name} {versions[name]}" for name in names if versions.get(name))
