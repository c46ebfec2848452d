"""From a study file (TOML) to a checked `Design`: a wrong key, name or value is an error of one line that says where it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyme.comparison.design import BASE, TUNING, Arm, Block, Design, Settings, Tuning, parse_budget
from dyme.config import SEEDS
from dyme.errors import ConfigError
from dyme.recipe import plugin_beside, read_recipe, tables_of
from dyme.settings import known

_STUDY = {"title": str, "recipe": str, "out": str, "budget": str, "jobs": int, "threads": int, "keep": str, "base": bool, "cells": str}
_SECTIONS = ("study", "settings", "arms", "tuning", "blocks", "predictions")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


def read_study(file: Path, overrides: Sequence[str] = (), **options: Any) -> Design:
    """Read a study file; overrides ("--section.key", "value") change its settings, and `options` ("out", "jobs") fields of the design.

    Raises ConfigError for what is wrong in the file itself; `Design.check` finds what is wrong in the settings of its cells.
    """
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the study ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    return design_of(tree, str(file), file, overrides, **options)


def design_of(tree: Mapping[str, Any], where: str, file: Path, overrides: Sequence[str] = (), **options: Any) -> Design:
    """Return the design that tables say; `file` is where a relative recipe may lie beside."""
    for name in tree:
        known(name, dict.fromkeys(_SECTIONS), f"{where}: section [{name}]", "section")
    study = _fields(tree.get("study", {}), _STUDY, f"{where}: [study]")
    if not study.get("recipe"):
        raise ConfigError(f"{where}: [study] needs a recipe, a file or a name that `dyme recipes` lists")
    recipe = _found(study["recipe"], file, Path.is_file)
    given = [section.split("=")[0].removeprefix("--") for section in overrides if section.startswith("--")]
    settings = {key: value for key, value in flat(tree.get("settings", {}), f"{where}: [settings]").items() if key not in given}
    keep = study.get("keep", "figures")
    if keep not in ("figures", "models"):
        raise ConfigError(f"{where}: [study] keep is {keep!r}; choose from figures, models")
    arms = {name: _arm(name, table, f"{where}: [arms.{name}]", file) for name, table in _tables(tree, "arms", where).items()}
    blocks = {name: _block(name, table, f"{where}: [blocks.{name}]") for name, table in _tables(tree, "blocks", where).items()}
    if not arms:
        raise ConfigError(f"{where}: a study needs at least one arm, [arms.NAME]")
    design = Design(
        title=study.get("title", file.stem), where=where, recipe=study["recipe"], settings=settings, arms=arms, blocks=blocks,
        tables=tables_of(read_recipe(recipe, overrides), overrides, recipe), out=Path(study.get("out", f"runs/{file.stem}")),
        budget=_budget(study.get("budget", ""), where), tuning=_tuning(tree["tuning"], f"{where}: [tuning]") if "tuning" in tree else None,
        jobs=study.get("jobs", 1), threads=study.get("threads", 1), keep=keep, base=study.get("base", True),
        cells=Path(_found(study["cells"], file, Path.is_dir)) if "cells" in study else None, predictions=tree.get("predictions", {}),
    )  # fmt: skip
    design = replace(design, **{key: value for key, value in options.items() if value is not None})
    check_names(design)
    return design


def _found(name: str, file: Path, there: Callable[[Path], bool]) -> str:
    """Return the path of a file or folder that a study names: from the working directory, or beside the study's file if only there."""
    return str(file.parent / name) if not Path(name).exists() and there(file.parent / name) else name


def flat(table: Any, where: str) -> dict[str, Any]:
    """Return settings by their full name, written "train.learning_rate" = 1, or train.learning_rate = 1, which TOML reads as nested."""
    if not isinstance(table, Mapping):
        raise ConfigError(f'{where} must be a table, {{"train.learning_rate" = 1e-3}}')
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            out |= {f"{key}.{inner}": one for inner, one in value.items()}
        elif "." in key:
            out[key] = value
        else:
            raise ConfigError(f'{where}: {key!r} is not a setting; write its section too, "train.learning_rate" = 1e-3')
    return out


def check_names(design: Design) -> None:
    """Raise ConfigError for arms, seeds and grids that cannot go together."""
    where, tuning = design.where, design.tuning
    if design.jobs < 1 or design.threads < 1:
        raise ConfigError(f"{where}: jobs and threads must be at least 1")
    if not (design.arms or design.base) or not (design.blocks or tuning):
        raise ConfigError(f"{where}: a study needs at least one arm, [arms.NAME], and one block, [blocks.NAME]")
    for arm in design.arms.values():
        here = f"{where}: [arms.{arm.name}]"
        for leader in arm.leaders:
            known(leader, design.arms, f"{here} tuned_as" if leader == arm.tuned_as else f"{here} takes", "arm")
        if arm.grid and tuning is None:
            raise ConfigError(f"{here} has a grid, and there is no [tuning] with seeds to choose by")
        if arm.grid and arm.tuned_as:
            raise ConfigError(f"{here} has a grid and tuned_as; an arm is tuned itself or takes what another one chose")
        if twice := arm.grid.keys() & {*arm.settings, *arm.takes}:
            raise ConfigError(f"{here}: {sorted(twice)[0]} is in the grid and given; remove one")
        _no_circle(design, arm)
    for block in design.blocks.values():
        here = f"{where}: [blocks.{block.name}]"
        for name in (*block.arms, *(one for pair in (*block.compare, *block.then) for one in pair)):
            known(name, design.arms, here, "arm")
        for pair in (*block.compare, *block.then):
            if lost := [name for name in pair if name not in block.arms]:
                raise ConfigError(f"{here}: compare names {lost[0]!r}, which is not among its arms")
        if tuning and (both := set(tuning.seeds) & set(block.seeds)):
            raise ConfigError(f"{here}: seed {min(both)} is a tuning seed; seeds that choose settings are never tested on")


def _no_circle(design: Design, arm: Arm) -> None:
    seen: set[str] = set()
    ahead = list(arm.leaders)
    while ahead:
        name = ahead.pop()
        if name == arm.name:
            way = f", by way of {', '.join(sorted(seen))}" if seen else ""
            raise ConfigError(f"{design.where}: [arms.{arm.name}] is tuned as itself{way}; name another arm")
        if name not in seen:
            seen.add(name)
            ahead += design.arms[name].leaders


def _fields(table: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """Return a table's values, each of its kind."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table")
    for key, value in table.items():
        known(key, kinds, where, "key")
        kind = kinds[key]
        fits = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
        if not fits:
            names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a table"}
            raise ConfigError(f"{where} {key}: {value!r} is not {names[kind]}")
    return dict(table)


def _tables(tree: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = tree.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: write [{name}.NAME]")
    for key in found:
        if not _NAME.fullmatch(key) or (name == "blocks" and key == TUNING) or (name == "arms" and key == BASE):
            raise ConfigError(f"{where}: [{name}.{key}]: choose another name, of letters, digits and _; {TUNING} and {BASE} are taken")
    return found


def _arm(name: str, table: Any, where: str, file: Path) -> Arm:
    kinds = {"method": str, "label": str, "settings": dict, "grid": dict, "tuned_as": str, "takes": dict}
    found = _fields(table, kinds, where)
    grid = flat(found.get("grid", {}), f"{where} grid")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where} grid: {key} needs a list of values")
        if len({repr(value) for value in values}) < len(values):
            raise ConfigError(f"{where} grid: {key} names a value twice")
    return Arm(
        name=name, method=plugin_beside(found.get("method", name), file, f"[arms.{name}] method"), label=found.get("label", ""),
        tuned_as=found.get("tuned_as", ""),
        settings=flat(found.get("settings", {}), f"{where} settings"), grid={key: tuple(values) for key, values in grid.items()},
        takes=flat(found.get("takes", {}), f"{where} takes"),
    )  # fmt: skip


def _block(name: str, table: Any, where: str) -> Block:
    kinds = {"question": str, "arms": list, "seeds": list, "conditions": dict, "compare": list, "then": list}
    found = _fields(table, kinds, where)
    arms, seeds = found.get("arms", []), _seeds(found.get("seeds", []), where)
    if not arms or not seeds:
        raise ConfigError(f"{where} needs arms and seeds")
    pairs = {key: tuple(tuple(pair) if isinstance(pair, list) else pair for pair in found.get(key, [])) for key in ("compare", "then")}
    if wrong := [pair for some in pairs.values() for pair in some if not (isinstance(pair, tuple) and len(pair) == 2)]:
        raise ConfigError(f'{where}: {wrong[0]!r} is no pair; write compare = [["dyme", "grpo"]]')
    conditions = {key: flat(value, f"{where} conditions.{key}") for key, value in found.get("conditions", {"": {}}).items()}
    return Block(
        name=name, question=found.get("question", ""), arms=tuple(dict.fromkeys(map(str, arms))), seeds=seeds,
        conditions=conditions, compare=pairs["compare"], then=pairs["then"],
    )  # fmt: skip


def _tuning(table: Any, where: str) -> Tuning:
    kinds = {"seeds": list, "settings": dict, "condition": dict, "halving": dict, "open_edges": int}
    found = _fields(table, kinds, where)
    halving = _fields(found.get("halving", {}), {"first": float, "keep": int}, f"{where} halving")
    settings = {key: value for name in ("condition", "settings") for key, value in flat(found.get(name, {}), f"{where} {name}").items()}
    rule = Tuning(
        seeds=_seeds(found.get("seeds", []), where), settings=settings, first=float(halving.get("first", 1.0)),
        keep=halving.get("keep", 2), open_edges=found.get("open_edges", 2),
    )  # fmt: skip
    if not rule.seeds:
        raise ConfigError(f"{where} needs seeds, which no block has")
    if not 0 < rule.first <= 1 or rule.keep < 1 or rule.open_edges < 0:
        raise ConfigError(f"{where}: halving.first must be above 0 and at most 1, keep at least 1, open_edges at least 0")
    return rule


def _seeds(values: Sequence[Any], where: str) -> tuple[int, ...]:
    if wrong := [value for value in values if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SEEDS]:
        raise ConfigError(f"{where} seeds: {wrong[0]!r} is no seed; give whole numbers from 0")
    return tuple(dict.fromkeys(values))


def _budget(text: str, where: str) -> dict[str, float]:
    try:
        return parse_budget(text) if text else {}
    except ConfigError as error:
        raise ConfigError(f"{where}: [study] {error}") from None


def settings_words(settings: Settings) -> str:
    """Return settings in words: "learning_rate 0.001, sft_share 0.5"."""
    return ", ".join(f"{key.partition('.')[2]} {value:g}" if isinstance(value, float) else f"{key.partition('.')[2]} {value}"
                     for key, value in settings.items())  # fmt: skip
