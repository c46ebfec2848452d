"""The folder of an evaluation: what it keeps, when it refuses, what a kill or another process may leave in it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from items import item

from dyme.config import Config
from dyme.errors import RunError
from dyme.evaluation.items import Drawn, ItemFolder, Plan, fingerprint
from dyme.recipe import build
from dyme.types import Fact, Sample

SETTINGS = {"seed": 0, "task": {"name": "charts", "seed": 1}, "files": (1, 2)}


@pytest.fixture
def folder(tmp_path: Path) -> ItemFolder:
    return ItemFolder.open(tmp_path / "eval", SETTINGS)


def test_items_come_back_as_they_were(folder: ItemFolder) -> None:
    items = [
        item(1, "direct", 0.5, completion='"\u2028\x00\ud800', answer=None, finished=False),
        item(0, "think", 1 / 3, statements=(2, 3), sampled=Drawn(samples=8, correct=3, parsed=7, finished=8)),
        item(1, "think", statements=(0, 0)),
    ]
    folder.append(items[:2])
    folder.append(items[2:])
    found = ItemFolder.open(folder.path, SETTINGS).items()
    assert found == {i.key: i for i in items}
    assert list(found) == [(0, "think"), (1, "think"), (1, "direct")]
    assert (folder.path / "items.jsonl").read_bytes().isascii()


def test_processes_write_side_by_side_and_are_merged(folder: ItemFolder) -> None:
    for index in range(23):
        folder.append([item(index)], process=index % 11)
    folder.append([item(2, "direct")])
    folder.finish({"metrics": {"a": 0.5}})
    assert sorted(f.name for f in folder.path.iterdir()) == ["figures.json", "items.jsonl", "settings.json"]
    assert list(folder.items()) == [(0, "think"), (1, "think"), (2, "think"), (2, "direct"), *((k, "think") for k in range(3, 23))]
    assert json.loads((folder.path / "figures.json").read_text(encoding="utf-8")) == {"metrics": {"a": 0.5}}


@pytest.mark.parametrize("cut", [1, 20, 10**6])
def test_a_half_written_line_is_dropped(folder: ItemFolder, cut: int) -> None:
    """Also one longer than what is read at a time."""
    folder.append([item(0)])
    file = folder.path / "items.jsonl"
    kept = file.read_bytes()
    folder.append([item(1, completion="x" * 200_000)])
    file.write_bytes(file.read_bytes()[: len(kept) + cut].rstrip(b"\n"))
    assert list(folder.items()) == [(0, "think")]
    folder.append([item(2)])
    assert file.read_bytes().startswith(kept)
    assert list(folder.items()) == [(0, "think"), (2, "think")]


def test_a_half_written_only_line_is_dropped(folder: ItemFolder) -> None:
    (folder.path / "items.jsonl").write_bytes(b'{"index": 0')
    assert folder.items() == {}
    folder.append([item(0)])
    assert list(folder.items()) == [(0, "think")]


@pytest.mark.parametrize("line", ['{"index": 0', '{"index": 0, "surprise": 1}'])
def test_a_damaged_line_is_named(folder: ItemFolder, line: str) -> None:
    (folder.path / "items.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"items\.jsonl"):
        folder.items()


def test_other_settings_are_named_and_nothing_is_changed(folder: ItemFolder) -> None:
    before = (folder.path / "settings.json").read_bytes()
    other = SETTINGS | {"seed": 1, "task": {"name": "charts", "seed": 2}, "new": None, "split": "test"}
    with pytest.raises(RunError, match=r"other settings \(seed, split, task.seed\); choose another --out"):
        ItemFolder.open(folder.path, other)
    assert (folder.path / "settings.json").read_bytes() == before


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    for path, words in ((tmp_path, "not an evaluation"), (tmp_path / "file", "is a file"), (tmp_path / "file/x", "cannot be written")):
        with pytest.raises(RunError, match=words):
            ItemFolder.open(path, SETTINGS)
    assert not (tmp_path / "settings.json").exists()
    assert not ItemFolder.open(tmp_path / "later", SETTINGS, make=False).path.exists(), "only the main process makes it"


# What makes an evaluation another one

SAMPLES = [Sample(id=str(k), question="q", answer="5", facts=(Fact("a", "1"),)) for k in range(2)]


def settings(model: Path, config: Config | None = None, samples: Any = SAMPLES, split: str = "test", **plan: Any) -> dict[str, Any]:
    return fingerprint(config or Config(), str(model), samples, split, Plan(**plan))


def model(folder: Path) -> Path:
    (folder / "nested").mkdir()
    for name in ("config.json", "model.safetensors", "README.md", "nested/model.safetensors"):
        (folder / name).write_text(name)
    return folder


def test_fingerprints_of_the_same_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model(tmp_path)
    plain = settings(path)
    assert list(plain["model"]["files"]) == ["config.json", "model.safetensors"]
    (path / "README.md").write_text("a card with figures")
    assert settings(path) == plain
    assert settings(path, prompts=("direct",), batch_tokens=9) == plain, "neither changes an item"
    assert settings(path, build({"train": {"learning_rate": 1.0}, "run": {"output": "x"}, "model": {"vision_cache": "memory"}})) == plain
    monkeypatch.chdir(path.parent)
    assert settings(Path(path.name)) == plain


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("task", "think_prompt", "Hm."), ("task", "marker", "So:"), ("rollout", "temperature", 0.5), ("run", "seed", 1)]
    + [("train", "precision", "bf16"), ("reward", "min_thinking_words", 1), ("supervision", "facts", "ocr")],
)
def test_fingerprints_of_other_settings(section: str, key: str, value: Any, tmp_path: Path) -> None:
    path = model(tmp_path)
    assert settings(path, build({section: {key: value}})) != settings(path)


def test_fingerprints_of_other_data_and_weights(tmp_path: Path) -> None:
    path = model(tmp_path)
    plain = settings(path)
    changes: list[dict[str, Any]] = [{"answer": "6"}, {"facts": ()}, {"answer_kind": "open"}, {"choices": ("a", "b")}, {"question": "w"}]
    others = [settings(path, samples=[SAMPLES[0], replace(SAMPLES[1], **change)]) for change in changes]
    others += [settings(path, samples=SAMPLES[::-1]), settings(path, samples=SAMPLES[:1]), settings(path, split="validation")]
    others += [settings(path, k=4), settings(path, sampled=1)]
    os.utime(path / "model.safetensors", ns=(1, 1))
    others.append(settings(path))
    (path / "model.safetensors").write_text("longer weights")
    others.append(settings(path))
    assert len({json.dumps(s) for s in [plain, *others]}) == len(others) + 1
