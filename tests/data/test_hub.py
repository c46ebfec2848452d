"""Data sets of the datasets library: parquet as the hub has it, saved to disk, and ids; pictures as their own bytes."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from published import aokvqa, geo170k_rows, picture

from dyme.config import TaskConfig
from dyme.data import hub as hub_rows
from dyme.data.prepare import Report
from dyme.data.prepare import prepare as run
from dyme.errors import DataError
from dyme.tasks import TASKS
from dyme.types import Sample

IMAGE, TEXT, TEXTS = datasets.Image(), datasets.Value("string"), datasets.List(datasets.Value("string"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(features: dict[str, Any], *rows: dict[str, Any]) -> datasets.Dataset:
    columns = {name: [row[name] for row in rows] for name in features}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def images(folder: Path, *numbers: int, ending: str = "jpg") -> list[str]:
    return [str(picture(folder / f"{number}.{ending}", number)) for number in numbers]


def prepare(task: str, source: Path | str, out: Path, limit: int = 0) -> Report:
    published = TASKS[task].published
    assert published is not None
    return run(published, TaskConfig(name=task), str(source), out, limit=limit)


def loaded(task: str, folder: Path, split: Any = "train") -> list[Sample]:
    return TASKS[task].load(TaskConfig(name=task, path=str(folder)), split)


def shards(folder: Path, **splits: datasets.Dataset) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, data in splits.items():
        data.to_parquet(folder / f"data/{name}-00000-of-00001-49492f364babfa44.parquet")
    return folder


def chartqa(folder: Path) -> datasets.Dataset:
    """HuggingFaceM4/ChartQA's columns; two rows share a chart."""
    one, two = images(folder, 1, 2)
    features = {"image": IMAGE, "query": TEXT, "label": TEXTS, "human_or_machine": datasets.ClassLabel(names=["human", "machine"])}
    rows = [(one, "How tall is it?", ["14"], 0), (one, "What was it?", ["Left", "Right"], 1), (two, "How tall is it?", ["3"], 1)]
    return table(features, *(dict(zip(features, row, strict=True)) for row in rows))


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    data = chartqa(tmp_path / "raw")
    source = shards(tmp_path / "src", train=data, val=data, test=data)
    report = prepare("chartqa", source, tmp_path / "out")
    assert (report.rows, report.images) == ({"train": 3, "validation": 3, "test": 3}, 2)
    first, second, third = loaded("chartqa", tmp_path / "out")
    assert (first.question, first.answer, first.kind) == ("How tall is it?", "14", "human")
    assert (second.answer, second.kind) == ("Left, Right", "augmented")
    assert first.images == second.images != third.images
    kept = {file.read_bytes() for file in (tmp_path / "out/images").iterdir()}
    assert kept == {file.read_bytes() for file in (tmp_path / "raw").iterdir()}, "not encoded again"
    assert all(file.suffix == ".jpg" for file in (tmp_path / "out/images").iterdir())
    assert prepare("chartqa", source, tmp_path / "out").already


def test_the_folder_of_parquet_files_is_named(tmp_path: Path) -> None:
    shards(tmp_path / "src/charts", test=chartqa(tmp_path / "raw"))
    told = f"the rows are those of the folder charts/data in {tmp_path / 'src'}"
    assert told in prepare("chartqa", tmp_path / "src", tmp_path / "out").notes
    assert prepare("chartqa", tmp_path / "src/charts", tmp_path / "direct").notes == ["there are no train and no validation rows"]


def test_saved_to_disk(tmp_path: Path) -> None:
    data = chartqa(tmp_path / "raw")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "both")
    assert prepare("chartqa", tmp_path / "both", tmp_path / "a").rows == {"train": 2, "validation": 1, "test": 3}
    data.save_to_disk(tmp_path / "single")
    assert prepare("chartqa", tmp_path / "single", tmp_path / "b").rows == {"train": 2, "validation": 1}
    assert loaded("chartqa", tmp_path / "b")[0].images[0].load().size == (48, 32)


def test_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = table({"question": TEXT, "answer": TEXT}, *[{"question": "How many?", "answer": f"It is {k}.\n#### {k}"} for k in range(20)])
    asked: list[Any] = []

    def load_dataset(name: str, configuration: str | None, *, streaming: bool) -> Any:
        asked.append((name, configuration, streaming))
        return {"train": data.to_iterable_dataset() if streaming else data, "socratic_train": data}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    report = prepare("gsm8k", "openai/gsm8k", tmp_path / "out")
    assert report.rows == {"train": 18, "validation": 2}
    assert report.notes[0] == "split socratic_train is left out: it is neither for training nor for validation nor a test"
    assert prepare("gsm8k", "openai/gsm8k", tmp_path / "out").already
    assert prepare("gsm8k", "openai/gsm8k:socratic", tmp_path / "few", limit=4).rows == {"train": 3, "validation": 1}
    assert asked == [("openai/gsm8k", "main", False), ("openai/gsm8k", "socratic", True)]
    config = TaskConfig(name="gsm8k", path="openai/gsm8k", prepared=str(tmp_path / "data"))
    assert len(TASKS["gsm8k"].load(config, "train")) == 18
    assert len(TASKS["gsm8k"].load(config, "validation")) == 2
    assert len(asked) == 3, "once"


def test_the_hub_is_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="openai/gsm8k: the datasets library cannot load it .*; check the id, or give a folder") as caught:
        prepare("gsm8k", "openai/gsm8k", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"need the datasets library; pip install 'dyme\[data\]'"):
        prepare("gsm8k", "openai/gsm8k", tmp_path / "out")


def test_vqa_rad_without_answer_types(tmp_path: Path) -> None:
    one, two = images(tmp_path / "raw", 1, 2)
    rows = [{"image": one, "question": "Is it?", "answer": "yes"}, {"image": two, "question": "Where is it?", "answer": "in the left lobe"}]
    source = shards(tmp_path / "src", train=table({"image": IMAGE, "question": TEXT, "answer": TEXT}, *rows, *rows))
    prepare("vqa_rad", source, tmp_path / "out")
    samples = [*loaded("vqa_rad", tmp_path / "out"), *loaded("vqa_rad", tmp_path / "out", "validation")]
    assert {(sample.answer, sample.answer_kind, sample.kind) for sample in samples} == {
        ("yes", "yes_no", "closed"),
        ("in the left lobe", "open", "open"),
    }


def test_aokvqa_with_answers_as_text(tmp_path: Path) -> None:
    """HuggingFaceM4/A-OKVQA holds direct_answers as the text of a list."""
    (one,) = images(tmp_path / "raw", 1)
    rows = json.loads((aokvqa(tmp_path / "published") / "aokvqa_v1p0_train.json").read_text(encoding="utf-8"))
    for row in rows:
        row |= {"image": one, "direct_answers": str(row["direct_answers"])}
    rows[2]["direct_answers"] = "__import__('os').getcwd()"
    features = {"image": IMAGE, "question_id": TEXT, "question": TEXT, "choices": TEXTS, "correct_choice_idx": datasets.Value("int8")}
    features |= {"direct_answers": TEXT, "difficult_direct_answer": datasets.Value("bool"), "rationales": TEXTS}
    report = prepare("aokvqa", shards(tmp_path / "src", validation=table(features, *rows)), tmp_path / "out")
    assert {reason: one.count for reason, one in report.dropped.items()} == {
        "is marked difficult_direct_answer": 1,
        "direct_answers is text that is no list": 1,
    }
    (line,) = (tmp_path / "out/validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["answers"].count("nap") == 3


def test_geometry3k_with_lists_of_pictures(tmp_path: Path) -> None:
    """hiyouga/geometry3k: images, problem, answer."""
    one, two = images(tmp_path / "raw", 1, 2, ending="png")
    features = {"images": datasets.List(IMAGE), "problem": TEXT, "answer": TEXT}
    rows = [
        {"images": [one], "problem": "<image>Find x.", "answer": "3"},
        {"images": [one, two], "problem": "<image>Find y.", "answer": "4"},
    ]
    assert prepare("geometry", shards(tmp_path / "src", test=table(features, *rows)), tmp_path / "out").kinds == {"math": 2}
    single, double = loaded("geometry", tmp_path / "out", "test")
    assert (single.question, len(single.images), len(double.images)) == ("Find x.", 1, 2)


def test_geometry3k_with_choices_and_letters(tmp_path: Path) -> None:
    """hiyouga/geometry3k as it is now: the choices and the right one's letter are what the free answer was made from."""
    (one,) = images(tmp_path / "raw", 1)
    features = {"images": datasets.List(IMAGE), "problem": TEXT, "answer": TEXT, "choices": TEXTS, "ground_truth": TEXT}
    row = {"images": [one], "problem": "<image>Find x.", "answer": "5", "choices": ["3", "5", "6", "7"], "ground_truth": "B"}
    rows = [row, row | {"answer": None}, row | {"answer": None, "ground_truth": "2 \\sqrt 5"}, row | {"answer": "B"}]
    assert prepare("geometry", shards(tmp_path / "src", test=table(features, *rows)), tmp_path / "out").kinds == {"math": 3, "choice": 1}
    assert [(s.answer, s.choices) for s in loaded("geometry", tmp_path / "out", "test")] == [
        ("5", ()), ("5", ()), ("2 \\sqrt 5", ()), ("B", ("3", "5", "6", "7")),
    ]  # fmt: skip


def test_chartqa_with_types(tmp_path: Path) -> None:
    """lmms-lab/ChartQA."""
    (one,) = images(tmp_path / "raw", 1)
    features = {"type": TEXT, "question": TEXT, "answer": TEXT, "image": IMAGE}
    rows = [{"type": name, "question": "How tall?", "answer": "14", "image": one} for name in ("human_test", "augmented_test")]
    prepare("chartqa", shards(tmp_path / "src", test=table(features, *rows)), tmp_path / "out")
    assert [sample.kind for sample in loaded("chartqa", tmp_path / "out", "test")] == ["human", "augmented"]


def test_parquet_beside_annotations_whose_pictures_are_in_an_archive(tmp_path: Path) -> None:
    (one,) = images(tmp_path / "raw", 1)
    row = {"qid": 1, "img_name": "a/source.jpg", "question": "Is it?", "answer": "Yes", "q_lang": "en", "answer_type": "CLOSED"}
    (tmp_path / "src").mkdir()
    (tmp_path / "src/test.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "src/imgs.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"does not exist; if it is in .*imgs\.zip, unpack that there first"):
        prepare("slake", tmp_path / "src", tmp_path / "out")
    features = {"image": IMAGE, "question": TEXT, "answer": TEXT, "answer_type": TEXT}
    shards(tmp_path / "src", test=table(features, {"image": one, "question": "Is it?", "answer": "Yes", "answer_type": "CLOSED"}))
    report = prepare("slake", tmp_path / "src", tmp_path / "out")
    assert report.rows == {"test": 1}
    assert any("the parquet files are taken" in note for note in report.notes)


def test_the_total_of_parquet_rows_is_known(tmp_path: Path) -> None:
    source = shards(tmp_path / "src", test=table({"question": TEXT, "answer": TEXT}, *[{"question": "How many?", "answer": "5"}] * 7))
    told: list[tuple[str, int, int]] = []
    published = TASKS["jsonl"].published
    assert published is not None
    run(published, TaskConfig(name="jsonl"), str(source), tmp_path / "out", progress=lambda *words: told.append(words))
    assert told == [("rows", 7, 7)]
    run(published, TaskConfig(name="jsonl"), str(source), tmp_path / "few", limit=3, progress=lambda *words: told.append(words))
    assert all(total == 0 for _, _, total in told[1:]), "how many of them will be read is not known"


def test_geo170k_with_pictures_beside_the_parquet(tmp_path: Path) -> None:
    """Luckyjhg/Geo170K: paths in the rows, pictures in images.zip; the split of captions is not used."""
    turns = datasets.List({"from": TEXT, "value": TEXT})
    data = table({"image": TEXT, "conversations": turns}, *geo170k_rows())
    source = shards(tmp_path / "src", qa_tuning=data, alignment=data)
    for k in (1, 2):
        picture(source / f"images/geoqa_plus/{k}.png", k)
    report = prepare("geometry", source, tmp_path / "out")
    assert report.rows == {"train": 1, "validation": 1}
    assert report.notes[0].startswith("split alignment is left out")


def test_pictures_that_the_hub_has_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = datasets.List({"from": TEXT, "value": TEXT})
    data = table({"image": TEXT, "conversations": turns}, *geo170k_rows())
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"qa_tuning": data})
    with pytest.raises(DataError, match="image is not part of the data set on the hub"):
        prepare("geometry", "Luckyjhg/Geo170K", tmp_path / "out")


def test_columns_that_no_task_reads(tmp_path: Path) -> None:
    """A time, which is no JSON, and a second picture."""
    (one,) = images(tmp_path / "raw", 1)
    features = {"image": IMAGE, "question": TEXT, "answer": TEXT, "created": datasets.Value("timestamp[s]"), "thumb": IMAGE}
    rows = [dict(zip(features, (one, f"Is it {k}?", "yes", datetime(2024, 1, 1), one), strict=True)) for k in range(3)]
    prepare("jsonl", shards(tmp_path / "src", test=table(features, *rows)), tmp_path / "out")
    assert len(loaded("jsonl", tmp_path / "out", "test")) == 3
    bare = {name: feature for name, feature in features.items() if name != "image"}
    with pytest.raises(DataError, match=r"no row can be used for task jsonl \(3 rows: has no image, but its field looks like one\)"):
        prepare("jsonl", shards(tmp_path / "bare", test=table(bare, *rows)), tmp_path / "none")


def test_bytes_that_are_no_picture(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    pictures = [{"bytes": b, "path": None} for b in (b"<svg/>", content[: len(content) // 2], content, content)]
    rows = [{"image": image, "question": "Is it?", "answer": "yes"} for image in pictures]
    source = shards(tmp_path / "src", test=table({"image": IMAGE, "question": TEXT, "answer": TEXT}, *rows))
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert {reason: one.count for reason, one in report.dropped.items()} == {
        "image is not a picture that can be read": 1,
        "image is cut off or damaged": 1,
    }
    assert (report.rows, report.images) == ({"test": 2}, 1)
    assert len(list((tmp_path / "out/images").iterdir())) == 1


def test_files_of_splits(tmp_path: Path) -> None:
    names = ["data/train-00000-of-00003.parquet", "data/train-00001-of-00003-ab12.parquet", "validation/0000.parquet", "testmini.parquet"]
    for name in [*names, "testmini_text_only.parquet"]:
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    found = {split: len(files) for split, files in hub_rows.parquet_files(tmp_path / "a").items()}
    assert found == {"train": 2, "validation": 1, "testmini": 1, "testmini_text_only": 1}
    for name in ("main/train-00000-of-00001.parquet", "socratic/train-00000-of-00001.parquet"):
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).touch()
    assert [files[0].parent.name for files in hub_rows.parquet_files(tmp_path / "b", "main").values()] == ["main"]
    with pytest.raises(DataError, match="several configurations"):
        hub_rows.parquet_files(tmp_path / "b")


@pytest.mark.parametrize(("source", "is_id"), [("openai/gsm8k", True), ("openai/gsm8k:main", True), ("gsm8k", False), ("a/b/c", False)])
def test_ids(source: str, is_id: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_rows.is_id(source) == is_id
    (tmp_path / source).mkdir(parents=True)
    assert not hub_rows.is_id(source)
