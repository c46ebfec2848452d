"""A section of settings: a frozen dataclass whose fields have types, bounds, and a docstring each.

Values are read from TOML or the command line, checked, and documented by the sentence under their field. The sections of `Config` are of
this kind, and so are the settings of a method.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from dyme.errors import ConfigError


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"


def known(name: str, names: Mapping[str, Any], what: str, noun: str) -> None:
    """Raise ConfigError for a name that is not in `names`; the message names the nearest one."""
    if name not in names:
        raise ConfigError(f"{what}: unknown {noun} {name!r}; {nearest(name, names)}")


def read(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """Return a section of class `cls` from a table of values. Raises ConfigError for an unknown key, a wrong value, or values that the
    class itself refuses.
    """
    hints = typing.get_type_hints(cls)
    for key in table:
        known(key, hints, where, "key")
    values = {key: _value(value, hints[key], f"{where} {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a class may check combinations of its values in __post_init__
        raise ConfigError(f"{where}: {error}") from error


def check(section: Any, where: str) -> None:
    """Raise ConfigError for a section with a value of a wrong type or out of its bounds; `where` is the section's name."""
    for key, hint in typing.get_type_hints(type(section), include_extras=True).items():
        check_value(getattr(section, key), hint, f"{where}.{key}")


def check_value(value: Any, hint: Any, where: str) -> None:
    """Raise ConfigError for a value that is not what a recipe's value is read as, or is out of its bounds."""
    plain, *bounds = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    right = _value(value, plain, where)
    if right != value or (type(right) is not type(value) and not (type(right) is float and type(value) is int)):
        kinds = f"{type(value).__name__}, not {type(right).__name__}" if type(value) is not type(right) else "not of the right types"
        raise ConfigError(f"{where}: {shown(value)} is {kinds}; give {shown(right)}")
    for bound in bounds:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not bound.hold(number):
                why = ": one completion has no group to be compared with" if where == "rollout.num_generations" and number == 1 else ""
                raise ConfigError(f"{where} must be {bound}, not {shown(number)}{why}")


def documentation(section: Any) -> dict[str, tuple[str, str]]:
    """Return key -> (default, docstring under the field, with the bounds of a number), for help texts; defaults are those of `section`."""
    cls = type(section)
    hints, found = typing.get_type_hints(cls, include_extras=True), _docstrings(cls)
    return {key: (repr(getattr(section, key)), " ".join([*found.get(key, "").split(), *_bounds(hint)])) for key, hint in hints.items()}


def _docstrings(cls: type) -> dict[str, str]:
    """The docstring under each field of a class and of those that it inherits from."""
    return {name: text for base in reversed(cls.__mro__[:-1]) for name, text in _own_docstrings(base).items()}


def _own_docstrings(cls: type) -> dict[str, str]:
    """The docstring under each field of a class; empty where its source cannot be had, as that of a class typed into a console."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(body, ast.ClassDef)
    return {
        a.target.id: str(b.value.value)
        for a, b in zip(body.body, body.body[1:], strict=False)
        if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)
        if isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
    }


def _bounds(hint: Any) -> list[str]:
    """A sentence on the bounds of a setting, if it has any: "From 1 to 65,536."."""
    words = [str(bound) for bound in getattr(hint, "__metadata__", ())]
    return [f"{text[0].upper()}{text[1:]}." for text in words]


def shown(value: Any) -> str:
    """A value in a message, cut after 60 characters; Python writes no number of thousands of digits."""
    try:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _parts(value: Any, where: str) -> Sequence[Any]:
    """The parts of a list: TOML's, or on the command line "a,b", or as TOML has it, '["a", "b"]', for parts with a comma in them."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = tomllib.loads(f"parts = {value}")["parts"]
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: {shown(value)} is not a list: {error}") from error
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple):
        return value
    raise ConfigError(f"{where}: {shown(value)} is not a list; write [...], or a,b on the command line")


def _value(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        return tuple(_value(part, typing.get_args(hint)[0], where) for part in _parts(value, where))
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{where}: {shown(value)} is not one of {', '.join(map(str, choices))}")
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
        raise ConfigError(f"{where}: {shown(value)} is not true or false")
    if hint in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
            if math.isfinite(number) and (hint is float or number.is_integer()):
                return hint(number)
        except (TypeError, ValueError, OverflowError):
            pass
        raise ConfigError(f"{where}: {shown(value)} is not {'a whole number' if hint is int else 'a number'}")
    if hint is str and isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{where}: {value!r} holds a NUL character; remove it")
        return value
    raise ConfigError(f"{where}: {shown(value)} is not {'a number' if hint in (int, float) else 'text; put it in quotes'}")
