"""The questions and answers of an evaluation, item by item, and the folder that keeps them; free of torch.

    settings.json    everything that the items depend on: model files, prompts, rollout, task, seed, split (see `fingerprint`)
    items.jsonl      one line per item and prompt style, flushed as written
    items-2.jsonl    the items of process 2 of several, until the main process has merged them
    figures.json     the figures, after the last item

The same command continues a stopped evaluation: items in the folder are not asked again. Figures are always computed from items, so
a stopped, sharded or repeated evaluation has the figures of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dyme import plugins
from dyme.config import Config
from dyme.errors import RunError, at
from dyme.system import lock
from dyme.system.files import write_whole
from dyme.tracking import schema
from dyme.tracking.json_lines import json_line, read_rows, strict, write_rows
from dyme.tracking.run_folder import digest
from dyme.types import PromptStyle, Sample

STYLES: tuple[PromptStyle, ...] = ("think", "direct")
"""The ways to ask, in the order of the lines of an item."""
BATCH_TOKENS = 65_536
"""Tokens of a batch (prompts and completions, padding included): some 5 GB of keys and values in a 0.5 B model in float32."""
BATCH_ITEMS = 64
"""Items of a batch at most, so that little is lost by a kill."""
Key = tuple[int, PromptStyle]
"""An item's place in its split, and how it was asked."""
_MODEL_FILES = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")
_HARMLESS = ("path", "dtype", "freeze_vision", "layout", "vision_cache", "vision_cache_mib")
"""Settings of a model that no completion depends on, or that are known otherwise."""
_PACKAGES = ("dyme", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of an evaluation: each item is asked once in each style, the first `sampled` items k more times with thinking."""

    prompts: tuple[PromptStyle, ...] = STYLES
    k: int = 8
    sampled: int = 300
    batch_tokens: int = BATCH_TOKENS
    batch_items: int = BATCH_ITEMS

    def draws(self, index: int, style: PromptStyle) -> int:
        """Return the number of completions to sample for an item, besides the greedy one."""
        return self.k if style == "think" and index < self.sampled else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Counts of one item's sampled completions: all, right, in the format, and not cut off."""

    samples: int
    correct: int
    parsed: int
    finished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a split, asked in one style: the greedy completion and its verdict."""

    index: int
    id: str
    prompt: PromptStyle
    question: str
    gold: str
    kind: str
    answer_kind: str
    completion: str
    answer: str | None
    """The answer that was compared; None if the completion does not parse or was cut off."""
    parsed: bool
    """Whether it is in the asked format; a direct answer is, unless it was cut off."""
    correct: bool
    score: float
    """The task's metric, in [0, 1]."""
    reason: str
    """Reason why it is not correct: wrong answer, cut off, no marker, ..."""
    tokens: int
    finished: bool
    statements: tuple[int, int] | None = None
    """Statements in the thinking: (true of the facts, all); None without thinking or facts."""
    sampled: Drawn | None = None
    picture: str = ""
    """Name of the pictures or facts that it may share with other questions (`picture_of`); "" without any."""

    @property
    def key(self) -> Key:
        """Return index and style."""
        return self.index, self.prompt


def picture_of(sample: Sample) -> str:
    """Return a name for the content of a question's pictures, or of the facts in their place; "" if it has neither."""
    content: list[object] = [source.key for source in sample.images] or [(fact.subject, fact.value) for fact in sample.facts]
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16] if content else ""


class ItemFolder:
    """The folder of one evaluation. Several processes may write to it, each to its own file."""

    def __init__(self, path: Path) -> None:
        """Wrap `path` without looking at it; use `open`."""
        self.path = path

    @staticmethod
    def check_place(path: Path) -> None:
        """Raise RunError if `path` holds anything but an evaluation, or cannot be a folder."""
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another --out")
        if (path / "settings.json").is_file() or not path.exists():
            return
        if any(entry.name not in (lock.NAME, ".settings.json.tmp") for entry in path.iterdir()):  # the latter is left by a killed process
            raise RunError(f"{path} holds files that are not an evaluation; choose another --out")

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any], *, make: bool = True) -> ItemFolder:
        """Return the folder of an evaluation with these settings, created if it is absent and `make` is True.

        Raises RunError, naming the differences, if it holds an evaluation with other settings.
        """
        cls.check_place(path)
        file = path / "settings.json"
        wanted = json.loads(json.dumps(strict(settings)))
        if file.exists():
            try:
                held = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise RunError(f"{file}: cannot be read ({error}); choose another --out") from error
            if changed := _differences(held, wanted):
                raise RunError(f"{path} holds an evaluation with other settings ({', '.join(changed)}); choose another --out")
        elif make:
            try:
                path.mkdir(parents=True, exist_ok=True)
                write_whole(file, (json.dumps(wanted, indent=1) + "\n").encode())
            except OSError as error:
                raise RunError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
        return cls(path)

    def items(self) -> dict[Key, Item]:
        """Return the items so far, of all processes, in order; raises RunError for a damaged line."""
        found = [_item(row, file) for file in self._files() for row in read_rows(file, schema.LINES["items.jsonl"])]
        return dict(sorted({item.key: item for item in found}.items(), key=lambda pair: (pair[0][0], STYLES.index(pair[0][1]))))

    def append(self, items: Iterable[Item], process: int | None = None) -> None:
        """Write a batch of items at once, to the file of `process` if there are several; a half-written last line is dropped first."""
        file = self.path / ("items.jsonl" if process is None else f"items-{process}.jsonl")
        _drop_half_line(file)
        with at(file), file.open("a", encoding="ascii", newline="\n") as out:
            out.write("".join(map(json_line, map(_row, items))))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Merge the items of all processes into items.jsonl and write figures.json; one process calls it, after the last item."""
        write_rows(self.path / "items.jsonl", map(_row, self.items().values()))
        for file in self._files()[1:]:
            file.unlink()
        write_whole(self.path / "figures.json", json.dumps(result, indent=1).encode())

    def _files(self) -> list[Path]:
        return [self.path / "items.jsonl", *sorted(self.path.glob("items-*.jsonl"))]


def fingerprint(config: Config, model: str, samples: Sequence[Sample], split: str, plan: Plan) -> dict[str, Any]:
    """Return everything that the items of an evaluation depend on, for settings.json; `model` is a checkpoint folder or a hub id.

    A folder's files are known by size and time. A hub id is known by its name alone.
    """
    folder = Path(model)
    code = plugins.digests((config.task.name, config.task.verifier))
    files = sorted(file for file in folder.iterdir() if file.suffix in _MODEL_FILES) if folder.is_dir() else []
    return {
        "model": {"path": str(folder.resolve()) if files else model, "files": {f.name: _size_and_time(f) for f in files}},
        "loading": {key: value for key, value in asdict(config.model).items() if key not in _HARMLESS},
        "precision": config.train.precision,
        "task": asdict(config.task),
        "facts": config.supervision.facts,
        "min_thinking_words": config.reward.min_thinking_words,
        "rollout": asdict(config.rollout),
        "seed": config.run.seed,
        "split": split,
        "items": {"count": len(samples), "digest": digest(samples)},
        "sampled": {"k": plan.k, "items": plan.sampled if plan.k else 0},
        "versions": {name: _version(name) for name in _PACKAGES},
        **({"code": code} if code else {}),
    }  # fmt: skip


def _size_and_time(file: Path) -> list[int]:
    return [file.stat().st_size, file.stat().st_mtime_ns]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _differences(held: Any, wanted: Any, name: str = "") -> list[str]:
    """Return names of the settings that differ; of a model's files and of the items, only the fact that they differ."""
    if isinstance(held, dict) and isinstance(wanted, dict) and name not in ("model", "items"):
        keys = sorted(held.keys() | wanted.keys())
        return [d for key in keys for d in _differences(held.get(key), wanted.get(key), f"{name}.{key}" if name else key)]
    return [] if held == wanted else [name]


def _row(item: Item) -> dict[str, Any]:
    """Return an item as a line, without fields that have no value."""
    lacking = () if item.picture else ("picture",)
    return {name: value for name, value in asdict(item).items() if name == "answer" or (value is not None and name not in lacking)}


def _item(row: Mapping[str, Any], file: Path) -> Item:
    if row["prompt"] not in STYLES:
        raise RunError(f"{file}: a line asks in no known style ({row['prompt']}); choose another --out")
    try:
        statements, drawn = row.get("statements"), row.get("sampled")
        more = {"statements": tuple(statements) if statements else None, "sampled": Drawn(**drawn) if drawn else None}
        return Item(**{**row, **more})
    except TypeError as error:
        raise RunError(f"{file}: a line is not an item ({error}); choose another --out") from error


def _drop_half_line(file: Path) -> None:
    """Remove the half-written line that a killed process left after the last line end."""
    if not file.exists():
        return
    with file.open("rb+") as out:
        end = out.seek(0, 2)
        while end:
            start = max(0, end - 65_536)
            out.seek(start)
            found = out.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        out.truncate(end)
