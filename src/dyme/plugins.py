"""What a user plugs in by name, without editing the package: a reward, a verifier, a task, a method, a tracker.

A name is "FILE.py:NAME", "package.module:NAME", or what an installed package offers as an entry point of the group "dyme.<kind>"
(dyme.rewards, dyme.verifiers, dyme.tasks, dyme.methods, dyme.trackers). The code runs with the rights of the user: name only files
that you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from dyme.errors import ConfigError

Kind = Literal["rewards", "verifiers", "tasks", "methods", "trackers"]


def is_place(name: str) -> bool:
    """Whether a name says where the object lies ("mine.py:brief"), rather than being one of a registry."""
    return ":" in name


def find(name: str, kind: Kind, option: str) -> Any:
    """The object that `name` stands for; `option` is the setting that named it, for messages.

    Raises ConfigError if it cannot be found, or if its file or module fails as it is imported.
    """
    if not is_place(name):
        offered = metadata.entry_points(group=f"dyme.{kind}")
        if name not in offered.names:
            raise ConfigError(f"{option}: {name!r} is not known; give FILE.py:NAME or MODULE:NAME, or install a package that offers it")
        with _told(option, name):
            return offered[name].load()
    place, _, attribute = name.rpartition(":")
    if not attribute.isidentifier():
        raise ConfigError(f"{option}: {name!r} names nothing in {place}; write {place}:NAME")
    with _told(option, name):
        module = _from_file(Path(place), option) if place.endswith(".py") else importlib.import_module(place)
    if not hasattr(module, attribute):
        raise ConfigError(f"{option}: {place} has no {attribute!r}")
    return getattr(module, attribute)


def names(kind: Kind) -> list[str]:
    """Names that installed packages offer, in order."""
    return sorted(metadata.entry_points(group=f"dyme.{kind}").names)


def _from_file(file: Path, option: str) -> ModuleType:
    """The module in a file, imported once a process; it may import its neighbours."""
    if not file.is_file():
        raise ConfigError(f"{option}: {file}: no such file; relative paths start at the working directory, or at the recipe's folder")
    file = file.resolve()
    name = f"_dyme_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader  # a .py file has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


@contextmanager
def _told(option: str, name: str) -> Iterator[None]:
    """An error of a user's file or module as a ConfigError that names it and its line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else _line(error)
        raise ConfigError(f"{option}: {name} cannot be imported{where}: {type(error).__name__}: {error}") from error


def _line(error: BaseException) -> str:
    """The last line of the traceback outside the import machinery, in words."""
    trace, found = error.__traceback__, ""
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__:
            found = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
