"""From a TOML recipe and the command line to a checked `Config`: a wrong key or value is an error that names the nearest right one."""

from __future__ import annotations

import dataclasses
import logging
import operator
import shutil
import tomllib
import typing
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from dyme import methods, settings
from dyme.config import Config, MethodConfig
from dyme.errors import ConfigError
from dyme.methods import Method
from dyme.settings import known
from dyme.system.files import whole_folder, write_whole

PATHS = (("task", "path"), ("task", "train"), ("task", "validation"), ("task", "test"), ("model", "path"))
"""Settings that name what is there already. A relative path starts at the working directory; in a recipe, where nothing lies there,
at the recipe's own folder. Settings that name what will be made (run.output, task.prepared, caches) start at the working directory."""
PLUGINS = (("task", "name"), ("task", "verifier"), ("method", "name"), ("reward", "functions"), ("run", "report_to"))
"""Settings that may name objects in a user's file, "mine.py:brief"; its relative path starts where those of `PATHS` do, and is made
absolute, so that a run folder serves from any directory."""
BUILT_IN_REWARDS = ("accuracy", "format", "thinking")
"""Names of the parts of the shaped reward that are not the user's."""
_log = logging.getLogger(__name__)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe (a TOML file or the name of one that ships), apply overrides ("--section.key", "value", or "--section.key=value").

    Raises ConfigError for a missing file, broken TOML, an unknown key (naming the nearest right one) or a wrong value.
    """
    return build(read_recipe(path, overrides), overrides, where=str(find(path)))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe says, its relative paths resolved but for those that `overrides` take the place of."""
    file = find(path)
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the recipe ({error.strerror}); `dyme recipes` lists those that ship") from error
    except (ValueError, RecursionError) as error:  # broken TOML or UTF-8, a number of thousands of digits, brackets in thousands of others
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    return _beside(tree, file, overrides)


def _beside(tree: dict[str, Any], file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """`tree` with the relative paths of `PATHS` that lead nowhere from the working directory, but somewhere from the recipe's folder.

    Raises ConfigError, which names both places, for a file or folder that is in neither, unless an override takes its place.
    """
    given = {(section, key) for section, key, _ in _overrides(overrides)}
    for section, key in PATHS:
        table = tree.get(section)
        if not isinstance(table, dict):
            continue
        value = table.get(key)
        if not isinstance(value, str) or not value or Path(value).is_absolute() or (section, key) in given:
            continue
        here, there = Path(value), file.parent / value
        if _exists(here):
            if _exists(there) and not here.samefile(there):
                _log.warning("%s: %s is taken from the working directory; there is another one beside the recipe", file, value)
        elif _exists(there):
            table[key] = str(there)
        elif section == "task" and not (key == "path" and value.count("/") == 1):  # owner/name may be on the hub
            raise ConfigError(
                f"{file}: [{section}] {key}: {value} is neither in the working directory, {Path.cwd()}, nor beside the recipe, in "
                f"{file.parent.absolute()}; correct it, or give --{section}.{key}"
            )
    for section, key in PLUGINS:
        table = tree.get(section)
        if isinstance(table, dict) and (section, key) not in given:
            value = table.get(key)
            if isinstance(value, str):
                table[key] = plugin_beside(value, file, f"[{section}] {key}")
            elif isinstance(value, list):
                table[key] = [plugin_beside(one, file, f"[{section}] {key}") if isinstance(one, str) else one for one in value]
    return tree


def plugin_beside(name: str, file: Path, where: str) -> str:
    """The name of a plug-in with the path of its file, if that is not in the working directory but beside the recipe."""
    place, _, attribute = name.rpartition(":")
    if not place.endswith(".py") or _exists(Path(place)):
        return name
    if not _exists(file.parent / place):
        raise ConfigError(
            f"{file}: {where}: {place} is neither in the working directory, {Path.cwd()}, nor beside the recipe, in "
            f"{file.parent.absolute()}"
        )
    return f"{file.parent / place}:{attribute}"


def anchored(config: Config) -> Config:
    """`config` with absolute paths of the files of plug-ins that lie in the working directory."""
    for section, key in PLUGINS:
        held = getattr(config, section)
        value = getattr(held, key)
        found = tuple(map(_absolute, value)) if isinstance(value, tuple) else _absolute(value)
        if found != value:
            config = dataclasses.replace(config, **{section: dataclasses.replace(held, **{key: found})})
    return config


def _absolute(name: str) -> str:
    place, _, attribute = name.rpartition(":")
    return f"{Path(place).absolute()}:{attribute}" if place.endswith(".py") and _exists(Path(place)) else name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a NUL byte
        return False


def shipped() -> dict[str, Path]:
    """Return the recipes in the package: name -> TOML file."""
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
    known(name, recipes, "dyme recipes", "recipe")
    file = out if out.suffix == ".toml" else out / f"{name}.toml"
    rows = recipes[name].with_suffix("")
    written = [file, file.parent / rows.name] if rows.is_dir() else [file]
    if taken := [path for path in written if path.exists()]:
        raise ConfigError(f"{taken[0]} exists already; choose another --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as both:  # written, or neither, as a disk may be full
        if rows.is_dir():
            _copy(rows, both.enter_context(whole_folder(written[-1])))
        write_whole(file, recipes[name].read_bytes())
    return written


def _copy(source: Path, target: Path) -> None:
    """Copy what is in a folder to another, with no permissions of where the package lies."""
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            (target / entry.name).mkdir()
            _copy(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)


def build(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "recipe") -> Config:
    """Return a checked Config from nested mappings and command-line overrides."""
    tables = tables_of(tree, overrides, where)
    name, rest = _method_table(tables, where)
    method = methods.find(name)
    for key, _ in [(key, text) for section, key, text in _overrides(overrides) if section == "method" and key != "name"]:
        _own_key(key, method, f"--method.{key}")
    own, others = _own_settings(rest, method, where)
    for key in others:
        _log.warning("%s: [method] %s is left out: %s has no such setting", where, key, method.name)
    for setting, value in method.defaults.items():
        section, _, key = setting.partition(".")
        tables.setdefault(section, {}).setdefault(key, value)
    return _checked(tables, MethodConfig(name=name, settings=own), where)


def build_of_run(tree: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str) -> Config:
    """Return a checked Config from a run folder's settings. The method's settings stay as written: its file may be gone."""
    tables = tables_of(tree, overrides, where)
    name, rest = _method_table(tables, where)
    own = _own_settings(rest, methods.METHODS[name], where)[0] if name in methods.METHODS else rest
    return _checked(tables, MethodConfig(name=name, settings=own), where)


def tables_of(tree: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, dict[str, Any]]:
    """The values of each section as they are given, those of `overrides` last; ConfigError for an unknown section or key."""
    merged: dict[str, dict[str, Any]] = {}
    classes = typing.get_type_hints(Config)
    sections = {f.name: f for f in dataclasses.fields(Config)}
    for name, table in tree.items():
        known(name, sections, f"{where}: section [{name}]", "section")
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: {name} must be a section, written [{name}]")
        merged[name] = dict(table)
    for section, key, text in _overrides(overrides):
        known(section, sections, f"--{section}.{key}", "section")
        if section != "method":
            known(key, typing.get_type_hints(classes[section]), f"--{section}.{key}", "key")
        merged.setdefault(section, {})[key] = text
    return merged


def _method_table(tables: dict[str, dict[str, Any]], where: str) -> tuple[str, dict[str, Any]]:
    """The method's name, and its settings as given; [method] is taken out of `tables`."""
    rest = tables.pop("method", {})
    name = rest.pop("name", MethodConfig.name)
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where}: method.name must be text, and not be empty")
    return name, rest


def _own_settings(table: Mapping[str, Any], method: Method[Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """What a table of [method] says of the method's own settings, read; and keys of other methods that ship, which say nothing here.

    Those stand in recipes whose method is changed on the command line, and in run folders of earlier versions.
    """
    others = [key for key in table if not hasattr(method.settings, key) and methods.known_elsewhere(key)]
    given = {key: value for key, value in table.items() if key not in others}
    for key in given:
        _own_key(key, method, f"{where}: [method]")
    found = settings.read(type(method.settings), given, f"{where}: [method]")
    method.read({key: getattr(found, key) for key in given})
    changed = [key for key in others if str(table[key]) not in _plain_values(key)]
    return {key: getattr(found, key) for key in given}, changed


def _plain_values(key: str) -> set[str]:
    """The defaults that a setting has in the methods that ship."""
    return {str(getattr(methods.METHODS[name].settings, key)) for name in methods.known_elsewhere(key)}


def _own_key(key: str, method: Method[Any], where: str) -> None:
    """Raise ConfigError for a key that is none of the method's settings."""
    names = {field.name: field for field in dataclasses.fields(method.settings)}
    if key not in names and (others := methods.known_elsewhere(key)):
        owners = f"{', '.join(others[:-1])} and {others[-1]} have" if len(others) > 1 else f"{others[0]} has"
        raise ConfigError(f"{where}: {method.name} has no setting {key!r}; {owners}")
    known(key, {"name": None, **names}, where, "key")


def _checked(tables: Mapping[str, Mapping[str, Any]], method: MethodConfig, where: str) -> Config:
    classes = typing.get_type_hints(Config)
    sections = {name: settings.read(classes[name], table, f"{where}: [{name}]") for name, table in tables.items()}
    config = Config(**sections, method=method)
    check_values(config)
    return anchored(config)


_NEVER_EMPTY = ("run.output", "model.path", "model.lora_targets", "task.name", "method.name")


def check_values(config: Config) -> None:
    """Raise ConfigError for a Config with values of a wrong type, out of their bounds, or that cannot go together.

    Names of tasks, methods and plug-ins are checked by `checks`.
    """
    if not isinstance(config, Config):
        raise ConfigError(f"a dyme.config.Config is needed, not {type(config).__name__}; load_recipe reads one from a file")
    for name, cls in typing.get_type_hints(Config).items():
        section = getattr(config, name)
        if not isinstance(section, cls):
            raise ConfigError(f"{name} must be a {cls.__name__}, not {type(section).__name__}")
        if name != "method":
            settings.check(section, name)
    method = config.method
    settings.check_value(method.name, str, "method.name")
    if not isinstance(method.settings, Mapping):
        raise ConfigError(f"method.settings must be a mapping of settings, not {type(method.settings).__name__}")
    if method.name in methods.METHODS:
        methods.METHODS[method.name].settings_of(config)
    model, reward, asks = config.model, config.reward, config.supervision.remote or config.supervision.facts == "llm"
    rules = {f"{name} must not be empty": bool(operator.attrgetter(name)(config).strip()) for name in _NEVER_EMPTY} | {
        "task.marker must hold more than blanks, or nothing": not config.task.marker or bool(config.task.marker.strip()),
        "run.push_to_hub needs run.hub_model_id, e.g. me/my-model": not config.run.push_to_hub or bool(config.run.hub_model_id),
        "model.image_min_pixels must be at most model.image_max_pixels": not model.image_max_pixels
        or model.image_min_pixels <= model.image_max_pixels,
        "reward.weights must have one number for each of reward.functions": not (reward.functions and reward.weights)
        or len(reward.weights) == len(reward.functions),
        "reward.functions has two rewards of one name; give one of the functions another": len(reward.own) == len(reward.functions),
        f"reward.functions: {', '.join(BUILT_IN_REWARDS)} are names of dyme's own rewards; give the function another": not (
            reward.own.keys() & set(BUILT_IN_REWARDS)
        ),
        "model.date must be a day such as 2024-07-26": _is_day(model.date),
        "an LLM needs --supervision.url, e.g. http://localhost:8000/v1, and --supervision.model, its name there": not asks
        or bool(config.supervision.url and config.supervision.model),
    }
    if broken := [message for message, holds in rules.items() if not holds]:
        raise ConfigError(broken[0])


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def documentation() -> dict[str, dict[str, tuple[str, str]]]:
    """Return section -> key -> (default, docstring under the field, with the bounds of a number), for help texts."""
    plain = Config()
    found = {section.name: settings.documentation(getattr(plain, section.name)) for section in dataclasses.fields(plain)}
    found["method"] = {"name": found["method"]["name"]}
    for method in methods.METHODS.values():
        for key, (default, text) in settings.documentation(method.settings).items():
            found["method"].setdefault(key, (default, f"{', '.join(methods.known_elsewhere(key))}: {text}"))
    return found


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
