"""Objects that a user names, without editing the package: a reward, a verifier, a task, a method, a tracker.

A name is "FILE.py:NAME", "package.module:NAME", or what an installed package offers as an entry point of the group "dyme.<kind>"
(dyme.rewards, dyme.verifiers, dyme.tasks, dyme.methods, dyme.trackers); an object that a caller gives in Python goes by its own name
(`offered`). The code runs with the rights of the user: name only files that you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from dyme.config import Config, MethodConfig
from dyme.errors import ConfigError, quoted

Kind = Literal["rewards", "verifiers", "tasks", "methods", "trackers"]
_LONGEST = 200
"""Characters of an error's text that are quoted."""
_offered: dict[tuple[Kind, str], Any] = {}


@contextmanager
def offered(kind: Kind, objects: Mapping[str, Any]) -> Iterator[None]:
    """Within it, these names stand for these objects in every config, so that a run names in its folder what it was given in Python."""
    before = dict(_offered)
    _offered.update({(kind, name): one for name, one in objects.items()})
    try:
        yield
    finally:
        _offered.clear()
        _offered.update(before)


@contextmanager
def given(config: Config, *, rewards: Mapping[str, Any] | None = None, verifier: Any = None, method: Any = None) -> Iterator[Config]:
    """`config` with objects that a caller gives in Python in place of those that it names; within it, their names stand for them.

    Raises ConfigError for rewards that are no mapping of plain names.
    """
    with ExitStack() as held:
        if not isinstance(config, Config):  # which `check_config` tells
            yield config
            return
        if rewards is not None:
            if not isinstance(rewards, Mapping) or not all(isinstance(name, str) and name.strip() and ":" not in name for name in rewards):
                raise ConfigError(f"rewards must be named, as in {{'brief': brief}}, by text without a colon, not {quoted(rewards)}")
            held.enter_context(offered("rewards", rewards))
            config = replace(config, reward=replace(config.reward, functions=tuple(rewards)))
        if verifier is not None:
            name = getattr(verifier, "__name__", type(verifier).__name__)
            held.enter_context(offered("verifiers", {name: verifier}))
            config = replace(config, task=replace(config.task, verifier=name))
        if method is not None:
            name = str(getattr(method, "name", type(method).__name__))
            held.enter_context(offered("methods", {name: method}))
            own = config.method.settings if config.method.name == name else {}
            config = replace(config, method=MethodConfig(name=name, settings=own))
        yield config


def is_place(name: str) -> bool:
    """Return whether a name is a place ("mine.py:brief") rather than a registered name."""
    return ":" in name


def label(name: str) -> str:
    """Return a name for headings: of a file's path the last part alone."""
    place, colon, attribute = name.rpartition(":")
    return f"{Path(place).name}{colon}{attribute}" if place.endswith(".py") else name


def is_known(name: str, kind: Kind) -> bool:
    """Whether `find` has something to look for: a place, what an installed package offers, or what a caller gave in Python."""
    return is_place(name) or (kind, name) in _offered or name in _installed(kind).names


def find(name: str, kind: Kind, option: str) -> Any:
    """Return the object that `name` stands for; `option` is the setting that named it, for messages.

    Raises ConfigError if the object cannot be found, or if importing its file or module fails.
    """
    if (kind, name) in _offered:
        return _offered[kind, name]
    if not is_place(name):
        provided = _installed(kind)
        if name not in provided.names:
            raise ConfigError(
                f"{option}: {name!r} is not known; give FILE.py:NAME or MODULE:NAME, install the package that offers it, or give the "
                "object itself in Python, as the run had it"
            )
        with _told(option, name):
            return provided[name].load()
    place, _, attribute = name.rpartition(":")
    if not attribute.isidentifier():
        raise ConfigError(f"{option}: {name!r} names nothing in {place}; write {place}:NAME")
    with _told(option, name):
        module = _from_file(Path(place), option) if place.endswith(".py") else importlib.import_module(place)
    if not hasattr(module, attribute):
        raise ConfigError(f"{option}: {place} has no {attribute!r}")
    return getattr(module, attribute)


def names(kind: Kind) -> list[str]:
    """Return the names that installed packages offer, in order."""
    return sorted(_installed(kind).names)


def _installed(kind: Kind) -> metadata.EntryPoints:
    """Return what installed packages offer."""
    return _entry_points(kind, tuple(sys.path))


@lru_cache(maxsize=64)
def _entry_points(kind: Kind, path: tuple[str, ...]) -> metadata.EntryPoints:
    """Return what packages on `path` offer, read once: a comparison asks thousands of times."""
    return metadata.entry_points(group=f"dyme.{kind}")


def function(name: str, kind: Kind, option: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """The function that `name` stands for. Raises ConfigError as `find` does, and unless it can be called with these arguments."""
    found = find(name, kind, option)
    wanted = f"a function ({', '.join(arguments)})"
    if not callable(found):
        raise ConfigError(f"{option}: {name} is {quoted(found)}, and {wanted} is needed")
    try:
        inspect.signature(found).bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"{option}: {name} ({place_of(found)}) cannot be called as {wanted} is: {error}") from error
    except ValueError:  # a function of C has no signature
        pass
    return found  # type: ignore[no-any-return]


def place_of(function: Any) -> str:
    """ "mine.py, line 3": where a function is written; its own name where that is not known."""
    code = _code(function)
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}" if code else getattr(function, "__name__", type(function).__name__)


def failure(error: BaseException, function: Any) -> str:
    """ "mine.py, line 4: ValueError: no number": an error of a user's function, at the last line of its own file that was at work."""
    code, trace, line = _code(function), error.__traceback__, 0
    while trace:
        if code and trace.tb_frame.f_code.co_filename == code.co_filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f"{Path(code.co_filename).name}, line {line}" if code and line else place_of(function)
    words = " ".join(str(error).split())
    return f"{place}: {type(error).__name__}{': ' if words else ''}{words if len(words) <= _LONGEST else words[:_LONGEST] + ' ...'}"


def digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the user's files among the places of these names."""
    files = {place for name in names if (place := name.rpartition(":")[0]).endswith(".py") and Path(place).is_file()}
    return {place: hashlib.sha256(Path(place).read_bytes()).hexdigest() for place in sorted(files)}


def _code(function: Any) -> CodeType | None:
    """The code of a function, of a partial one, or of an object that can be called."""
    function = inspect.unwrap(getattr(function, "func", function))
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", None)  # noqa: B004 (it is called as such)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


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
