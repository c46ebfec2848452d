"""From a TOML recipe and the command line to a checked `Config`: a wrong key or value is an error that names the nearest right one."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import operator
import shutil
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dyme.config import Config
from dyme.errors import ConfigError


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe, a TOML file or the name of one that ships, and apply overrides ("--section.key", "value", or "--section.key=value").

    Raises ConfigError for a missing file, broken TOML, an unknown key (naming the nearest right one) or a wrong value.
    """
    file = find(path)
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the recipe ({error.strerror}); `dyme recipes` lists those that ship") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    return build(tree, overrides, where=str(file))


def shipped() -> dict[str, Path]:
    """The recipes in the package: name -> TOML file."""
    return {file.name.removesuffix(".toml"): file for file in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def find(recipe: str | Path) -> Path:
    """The file of a recipe: the path itself, else NAME.toml in the working directory, else the recipe of this name that ships."""
    path = Path(recipe)
    if path.is_file() or str(recipe) not in (recipes := shipped()):
        return path
    own = Path(f"{recipe}.toml")
    return own if own.is_file() else recipes[str(recipe)]


def write_copy(name: str, out: Path = Path()) -> list[Path]:
    """Copy the recipe `name` to `out`, a .toml file or a folder, and its rows, if it has any, beside it.

    Returns the recipe's and the rows' new paths. Raises ConfigError for an unknown name and where something is already.
    """
    recipes = shipped()
    _known(name, recipes, "dyme recipes", "recipe")
    file = out if out.suffix == ".toml" else out / f"{name}.toml"
    rows = recipes[name].with_suffix("")
    copies = {source: file.parent / source.relative_to(rows.parent) for source in rows.rglob("*") if source.is_file()}
    copies[recipes[name]] = file
    if taken := [path for path in copies.values() if path.exists()]:
        raise ConfigError(f"{taken[0]} exists already; choose another --out")
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return [file, file.parent / rows.name] if rows.is_dir() else [file]


def build(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe") -> Config:
    """A checked Config from nested mappings and command-line overrides."""
    merged: dict[str, dict[str, Any]] = {}
    classes = typing.get_type_hints(Config)
    sections = {f.name: f for f in dataclasses.fields(Config)}
    for name, table in tree.items():
        _known(name, sections, f"{where}: section [{name}]", "section")
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: {name} must be a section, written [{name}]")
        merged[name] = dict(table)
    for section, key, text in _overrides(overrides):
        _known(section, sections, f"--{section}.{key}", "section")
        _known(key, typing.get_type_hints(classes[section]), f"--{section}.{key}", "key")
        merged.setdefault(section, {})[key] = text
    config = Config(**{name: _section(classes[name], table, f"{where}: [{name}]") for name, table in merged.items()})
    check(config)
    return config


_ABOVE_ZERO = (
    "rollout.temperature", "train.num_train_epochs", "train.learning_rate", "train.max_grad_norm", "method.sft_learning_rate",
    "supervision.timeout_seconds",
)  # fmt: skip
_AT_LEAST_ONE = (
    "rollout.max_completion_length", "train.prompts_per_step", "train.num_iterations", "run.keep_checkpoints", "model.vision_cache_mib",
    "supervision.concurrency", "supervision.max_tokens",
)  # fmt: skip
_NOT_NEGATIVE = (
    "rollout.top_k", "train.max_prompts", "train.max_seconds", "train.weight_decay", "train.warmup_steps", "train.max_tokens_per_batch",
    "run.save_every", "task.tolerance", "task.train_size", "task.validation_size", "task.test_size",
    "objective.beta", "supervision.max_retries", "supervision.max_calls", "supervision.max_total_tokens", "model.lora_rank",
    "model.lora_alpha", "model.image_longest_edge", "model.image_min_pixels", "model.image_max_pixels", "model.image_max_tiles",
)  # fmt: skip


def check(config: Config) -> None:
    """Raise ConfigError for values that cannot work; None, an unset value, always can."""
    value, asks = operator.attrgetter, config.supervision.remote or config.supervision.facts == "llm"
    rules = {
        "rollout.num_generations must be at least 2: one completion has no group to be compared with": config.rollout.num_generations >= 2,
        "rollout.top_p must be in (0, 1]": 0 < config.rollout.top_p <= 1,
        "method.memorize_weight must not be negative": isinstance(config.method.memorize_weight, str) or config.method.memorize_weight >= 0,
        "method.sft_share must be in [0, 1]": 0 <= config.method.sft_share <= 1,
        "model.lora_dropout must be in [0, 1)": 0 <= config.model.lora_dropout < 1,
        "run.push_to_hub needs run.hub_model_id, e.g. me/my-model": not config.run.push_to_hub or bool(config.run.hub_model_id),
        "task.marker must not be empty": bool(config.task.marker.strip()),
        "an LLM needs --supervision.url, e.g. http://localhost:8000/v1, and --supervision.model, its name there": not asks
        or bool(config.supervision.url and config.supervision.model),
    }
    rules |= {f"{name} must be above 0": (v := value(name)(config)) is None or v > 0 for name in _ABOVE_ZERO}
    rules |= {f"{name} must be at least 1": value(name)(config) >= 1 for name in _AT_LEAST_ONE}
    rules |= {f"{name} must not be negative": (v := value(name)(config)) is None or v >= 0 for name in _NOT_NEGATIVE}
    if broken := [message for message, holds in rules.items() if not holds]:
        raise ConfigError(broken[0])


def documentation() -> dict[str, dict[str, tuple[str, str]]]:
    """section -> key -> (default, docstring under the field), for help texts."""
    out: dict[str, dict[str, tuple[str, str]]] = {}
    tree = ast.parse(inspect.getsource(inspect.getmodule(Config)))  # type: ignore[arg-type]
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    for section, cls in typing.get_type_hints(Config).items():
        body = bodies[cls.__name__]
        out[section] = {
            a.target.id: (ast.unparse(a.value) if a.value else "", " ".join(str(b.value.value).split()))
            for a, b in zip(body, body[1:], strict=False)
            if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)
            if isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
        }
    return out


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest right one, or all of them."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"


def _overrides(words: Sequence[str]) -> list[tuple[str, str, str]]:
    out, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        section, dot, key = name.partition(".")
        if not word.startswith("--") or not dot:
            raise ConfigError(f"{word!r} is not an override; write --section.key value, e.g. --train.learning_rate 1e-4")
        if not equals:
            if not rest:
                raise ConfigError(f"--{name} needs a value")
            value = rest.pop(0)
        out.append((section, key, value))
    return out


def _known(name: str, names: Mapping[str, Any], what: str, noun: str) -> None:
    if name not in names:
        raise ConfigError(f"{what}: unknown {noun} {name!r}; {nearest(name, names)}")


def _section(cls: type, table: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    for key in table:
        _known(key, hints, where, "key")
    return cls(**{key: _value(value, hints[key], f"{where} {key}") for key, value in table.items()})


def _value(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, choices))}")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value in (None, "none"):
            return None
        first, *rest = (a for a in typing.get_args(hint) if a is not type(None))
        if not rest or value in typing.get_args(first):
            return _value(value, first, where)
        try:
            return _value(value, rest[0], where)
        except ConfigError as error:
            raise ConfigError(f"{error}, nor one of {', '.join(typing.get_args(first))}") from None
    if hint is bool:
        if isinstance(value, bool) or value in ("true", "false"):
            return value in (True, "true")
        raise ConfigError(f"{where}: {value!r} is not true or false")
    if hint in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
            if math.isfinite(number) and (hint is float or number.is_integer()):
                return hint(number)
        except (TypeError, ValueError, OverflowError):
            pass
        raise ConfigError(f"{where}: {value!r} is not {'a whole number' if hint is int else 'a number'}")
    if hint is str and isinstance(value, str):
        return value
    raise ConfigError(f"{where}: {value!r} is not {'a number' if hint in (int, float) else 'text; put it in quotes'}")
