"""Preparing: what is written, what is dropped and why, nothing done twice, interrupted calls, folders that are refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import published
import pytest
from published import lines, picture
from runs import snapshot

from dyme import targets
from dyme.config import TaskConfig
from dyme.data import splits as loading
from dyme.data.pictures import copies as pictures
from dyme.data.prepare import MARK, Report, default_folder, read_manifest
from dyme.data.prepare import prepare as run
from dyme.data.rows import MANIFEST
from dyme.errors import DataError
from dyme.pictures import ImageFile
from dyme.tasks import TASKS, held_out
from dyme.verify import rules


def prepare(task: str, source: Path | str, out: Path, limit: int = 0, **settings: Any) -> Report:
    published_set = TASKS[task].published
    assert published_set is not None
    return run(published_set, TaskConfig(name=task, **settings), str(source), out, limit=limit)


def counts(report: Report) -> dict[str, int]:
    return {reason: one.count for reason, one in report.dropped.items()}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are decoded from now on."""
    seen: list[str] = []
    plain = ImageFile.check
    monkeypatch.setattr(ImageFile, "check", lambda self: seen.append(self.path.name) or plain(self))
    return seen


def rows(folder: Path, count: int, **fields: Any) -> Path:
    """`count` rows of VQA-RAD's kind, two about each picture."""
    for k in range((count + 1) // 2):
        picture(folder / f"images/{k}.png", k)
    common = [{"image": f"images/{k // 2}.png", "question": f"Is it {k}?", "answer": "yes", "answer_type": "CLOSED"} for k in range(count)]
    lines(folder / "train.jsonl", [row | fields for row in common])
    return folder


# What is written


def test_a_prepared_folder_loads(tmp_path: Path) -> None:
    report = prepare("slake", published.slake(tmp_path / "src"), tmp_path / "out")
    assert report.rows == {"train": 3, "validation": 1, "test": 1}
    config = TaskConfig(name="slake", path=str(tmp_path / "out"))
    for split in ("train", "validation", "test"):
        samples = TASKS["slake"].load(config, split)
        assert len(samples) == report.rows[split]
        assert all(sample.images[0].load().size == (48, 32) for sample in samples)
    assert held_out(config) == "test"


def test_pictures_are_the_very_files(tmp_path: Path) -> None:
    prepare("vqa_rad", rows(tmp_path / "src", 4), tmp_path / "out")
    for k in range(2):
        source, copy = tmp_path / f"src/images/{k}.png", tmp_path / f"out/images/{k}.png"
        assert source.read_bytes() == copy.read_bytes()
        assert source.samefile(copy)


def test_pictures_are_copied_where_they_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    prepare("vqa_rad", rows(tmp_path / "src", 2), tmp_path / "out")
    assert (tmp_path / "out/images/0.png").read_bytes() == (tmp_path / "src/images/0.png").read_bytes()


def test_pictures_outside_the_folder_have_names_of_their_own(tmp_path: Path) -> None:
    picture(tmp_path / "a/x.png", 1)
    picture(tmp_path / "b/x.png", 2)
    row = {"question": "Is it?", "answer": "yes"}
    lines(tmp_path / "src/train.jsonl", [row | {"image": str(tmp_path / f"{name}/x.png")} for name in "ab"])
    report = prepare("vqa_rad", tmp_path / "src", tmp_path / "out")
    assert report.images == 2
    (one,) = TASKS["vqa_rad"].load(TaskConfig(name="vqa_rad", path=str(tmp_path / "out")), "train")
    assert one.images[0].load().getpixel((3, 10)) == (10, 41, 160)


def colours(folder: Path, split: str = "train") -> list[tuple[int, ...]]:
    """What the pictures of a prepared folder's rows look like, row by row."""
    files = [folder / json.loads(line)["image"] for line in (folder / f"{split}.jsonl").open(encoding="utf-8")]
    assert all(file.resolve().is_relative_to(folder.resolve()) for file in files)
    return [pixel(file) for file in files]


def pixel(file: Path) -> tuple[int, ...]:
    found = ImageFile(file).load().getpixel((3, 10))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("link", [True, False])
def test_nothing_is_written_outside_the_folder(link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`..` leads out of the source to a picture whose name below --out is someone else's file."""
    if not link:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
    evil, kept = picture(tmp_path / "evil.png", 1), picture(tmp_path / "data/evil.png", 2)
    before = kept.read_bytes()
    row = {"question": "What?", "answer": "1"}
    lines(tmp_path / "data/src/train.jsonl", [row | {"image": name} for name in ("../../evil.png", "../evil.png", "x/../../src/x.png")])
    picture(tmp_path / "data/src/x.png", 3)
    (tmp_path / "data/src/x").mkdir()
    report = prepare("jsonl", tmp_path / "data/src", tmp_path / "data/out")
    assert kept.read_bytes() == before
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == ["evil.png", "out", "src"]
    assert report.images == 3
    shown = colours(tmp_path / "data/out") + colours(tmp_path / "data/out", "validation")
    assert shown == [pixel(evil), pixel(kept), pixel(tmp_path / "data/src/x.png")]


def test_two_pictures_never_share_a_name(tmp_path: Path) -> None:
    source = tmp_path / "src"
    files = [picture(source / "a.png", 1), picture(source / "images/a.png", 2), picture(source / "images/images/a.png", 3)]
    row = {"question": "What?", "answer": "1"}
    lines(source / "test.jsonl", [row | {"image": str(file.relative_to(source))} for file in files] + [row | {"image": str(files[0])}])
    report = prepare("jsonl", source, tmp_path / "out")
    assert report.images == 3
    assert colours(tmp_path / "out", "test") == [pixel(file) for file in (*files, files[0])]
    (source / "test.jsonl").touch()
    lines(source / "test.jsonl", [row | {"image": str(file.relative_to(source))} for file in reversed(files)])
    prepare("jsonl", source, tmp_path / "out")
    assert colours(tmp_path / "out", "test") == [pixel(file) for file in reversed(files)], "the first to come has the name, now as then"


def test_symbolic_links_are_pictures_too(tmp_path: Path) -> None:
    """As the hub's cache has them; a hard link to one would lead nowhere."""
    store = picture(tmp_path / "blobs/1.png", 1)
    (tmp_path / "src/images").mkdir(parents=True)
    (tmp_path / "src/images/a.png").symlink_to(Path("../../blobs/1.png"))
    lines(tmp_path / "src/test.jsonl", [{"question": "What?", "answer": "1", "image": "a.png"}])
    prepare("jsonl", tmp_path / "src", tmp_path / "out")
    assert pixel(tmp_path / "out/images/a.png") == pixel(store)


def test_no_parts_are_left_where_another_process_was_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = rows(tmp_path / "src", 4)
    plain = ImageFile.check

    def check(self: ImageFile) -> None:
        plain(self)
        (tmp_path / "out/images").mkdir(exist_ok=True)
        if not (tmp_path / "out/images" / self.path.name).exists():
            os.link(self.path, tmp_path / "out/images" / self.path.name)

    monkeypatch.setattr(ImageFile, "check", check)
    prepare("vqa_rad", source, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out/images").iterdir()) == ["0.png", "1.png"]


def test_last_tenth_of_the_pictures_is_validation(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 40)
    written = published.lines(source / "train.jsonl", sorted(map(json.loads, (source / "train.jsonl").open()), key=lambda r: r["question"]))
    assert written.is_file()
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert report.rows == {"train": 36, "validation": 4}
    seen = {
        split: {json.loads(line)["image"] for line in (tmp_path / f"out/{split}.jsonl").open(encoding="utf-8")}
        for split in ("train", "validation")
    }
    assert len(seen["validation"]) == 2
    assert not seen["train"] & seen["validation"]
    assert "the last tenth of the training pictures" in report.notes[0]
    assert report.notes[1] == "there are no test rows"


def test_a_picture_with_two_names_is_one(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 40)
    for k in (18, 19):
        (source / f"images/{k}.png").write_bytes((source / "images/0.png").read_bytes())
    assert prepare("vqa_rad", source, tmp_path / "out").rows == {"train": 38, "validation": 2}


def test_one_picture_cannot_be_split(tmp_path: Path) -> None:
    report = prepare("vqa_rad", rows(tmp_path / "src", 2), tmp_path / "out")
    assert report.rows == {"train": 2}
    assert "one picture" in report.notes[0]
    config = TaskConfig(name="vqa_rad", path=str(tmp_path / "out"))
    assert len(TASKS["vqa_rad"].load(config, "train")) == 2
    with pytest.raises(DataError, match="was prepared without validation rows; set task.validation"):
        TASKS["vqa_rad"].load(config, "validation")


@pytest.mark.parametrize("limit", [1, 3, 200])
def test_limit(tmp_path: Path, limit: int) -> None:
    source = rows(tmp_path / "src", 150)
    assert sum(prepare("vqa_rad", source, tmp_path / "out", limit).rows.values()) == min(limit, 150)


def test_limit_holds_for_each_split_of_a_mixed_file(tmp_path: Path) -> None:
    report = prepare("vqa_rad", published.vqa_rad(tmp_path / "src"), tmp_path / "out", limit=1)
    assert report.rows == {"train": 1, "test": 1}


def test_settings_choose_rows(tmp_path: Path) -> None:
    slake, aokvqa = published.slake(tmp_path / "slake"), published.aokvqa(tmp_path / "aokvqa")
    assert prepare("slake", slake, tmp_path / "all", language="all").rows["train"] == 4
    assert counts(prepare("slake", slake, tmp_path / "zh", language="zh"))["the question is in language en, not zh"] == 6
    report = prepare("aokvqa", aokvqa, tmp_path / "choice", form="choice")
    assert report.kinds == {"choice": 4}
    assert counts(report) == {"has no correct_choice_idx among its choices, as in the test split": 1}


# What is dropped


def test_bad_pictures_are_dropped_and_named(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 12)
    (source / "images/0.png").unlink()
    (source / "images/1.png").write_bytes(b"")
    whole = (source / "images/2.png").read_bytes()
    (source / "images/2.png").write_bytes(whole[: len(whole) // 2])
    (source / "images/3.png").write_bytes(b"<svg/>")
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert counts(report) == {
        "image does not exist": 2,
        "image is empty": 2,
        "image is cut off or damaged": 2,
        "image is not a picture that can be read": 2,
    }
    assert sum(report.rows.values()) == 4
    assert report.images == 2
    first = report.dropped["image does not exist"].examples
    assert first[0].startswith("train.jsonl, row 1: image ")
    assert sorted(file.name for file in (tmp_path / "out/images").iterdir()) == ["4.png", "5.png"]


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 6)
    good = {"image": "images/0.png", "question": "Is it?", "answer": "yes"}
    bad = [good | {"answer": None}, good | {"question": " "}, good | {"image": None}, good | {"image": 5}, good | {"image": "a\0b"}]
    bad += [good | {"image": "data:image/png;base64," + "A" * 5000}]
    lines(source / "test.jsonl", [*bad, good | {"qid": 7}, good | {"qid": 7}, *[good | {"answer": ["yes"]}] * 5])
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert counts(report) == {
        "answer is missing": 1,
        "question is empty": 1,
        "has no picture, and vqa_rad asks about pictures": 1,
        "image is neither a file's name nor a picture": 2,
        "image is not a picture that can be read": 1,
        "repeats the id of an earlier row": 1,
        "answer is a list": 5,
    }
    assert len(report.dropped["answer is a list"].examples) == 3
    assert report.rows["test"] == 1


def test_rows_that_no_run_could_use_are_dropped(tmp_path: Path) -> None:
    """Each would stop `dyme train` on the whole data set."""
    gold = "He has 3.\n#### {}".format
    bad = [gold("5 or 6"), "Answer: he has 3.\n#### 3"]
    lines(tmp_path / "src/train.jsonl", [{"question": "How many?", "answer": text} for text in [*bad, *[gold(3)] * 10]])
    lines(tmp_path / "src/test.jsonl", [{"question": "How many?", "answer": text} for text in bad])
    report = prepare("gsm8k", tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"answer is no number": 2, "the rationale holds the marker": 1}
    assert report.dropped["answer is no number"].examples[0] == (
        "train.jsonl, row 1: answer '5 or 6' is no number; write one, or use another answer kind"
    )
    assert report.rows == {"train": 9, "validation": 1, "test": 1}, "no one trains on a test row's rationale"
    config = TaskConfig(name="gsm8k", path=str(tmp_path / "out"))
    rules.check_answers([sample for split in ("train", "validation", "test") for sample in TASKS["gsm8k"].load(config, split)])
    targets.check_rationales(TASKS["gsm8k"].load(config, "train"), config.marker)
    assert prepare("gsm8k", tmp_path / "src", tmp_path / "other", marker="He has").rows == {"train": 1, "test": 1}
    with pytest.raises(DataError, match="was prepared with another marker"):
        prepare("gsm8k", tmp_path / "src", tmp_path / "out", marker="So:")


def test_answers_that_cannot_be_given_are_dropped(tmp_path: Path) -> None:
    answers = ("5", "two\nlines", "Answer: 5")
    lines(tmp_path / "src/test.jsonl", [{"question": "How many?", "answer": one, "answer_kind": "text"} for one in answers])
    report = prepare("jsonl", tmp_path / "src", tmp_path / "out")
    assert report.rows == {"test": 1}
    assert counts(report) == {
        "answer cannot be given after the marker: answer runs on": 1, "answer cannot be given after the marker: marker repeated": 1,
    }  # fmt: skip
    rules.check_answers(TASKS["jsonl"].load(TaskConfig(name="jsonl", path=str(tmp_path / "out")), "test"))


def test_a_folder_of_an_earlier_version_is_prepared_again(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 4)
    prepare("vqa_rad", source, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text(encoding="utf-8"))
    del manifest["key"]["marker"]
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest | {"fingerprint": "older"}), encoding="utf-8")
    assert not prepare("vqa_rad", source, tmp_path / "out").already
    assert prepare("vqa_rad", source, tmp_path / "out").already


def test_only_known_fields_are_written(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": 5, "kind": "count", "facts": {"a": 1}, "unit": None}
    lines(tmp_path / "src/test.jsonl", [row | {"table": [1], "level": 3}])
    with (tmp_path / "src/test.jsonl").open("a", encoding="ascii") as file:
        file.write('{"question": "q", "answer": "1", "note": "\\ud800"}\n')
    prepare("jsonl", tmp_path / "src", tmp_path / "out")
    one, other = map(json.loads, (tmp_path / "out/test.jsonl").open(encoding="utf-8"))
    assert one == {"id": "test-1", "question": "How many?", "answer": 5, "facts": {"a": 1}, "answer_kind": "auto", "kind": "count"}
    assert other == {"id": "test-2", "question": "q", "answer": "1", "answer_kind": "auto"}


def test_placeholders_are_left_out_and_told(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 4, question="<image>\nWhat is it?", id=None)
    report = prepare("jsonl", source, tmp_path / "out")
    assert "4 questions begin or end in <image>, which is left out: pictures precede the question anyway" in report.notes
    samples = TASKS["jsonl"].load(TaskConfig(name="jsonl", path=str(tmp_path / "out")), "train")
    assert {sample.question for sample in samples} == {"What is it?"}


def test_a_picture_in_a_field_that_is_not_read(tmp_path: Path) -> None:
    row = {"question": "What?", "answer": "1"}
    lines(tmp_path / "src/test.jsonl", [row | {"thumb_image": "images/1.png"}, row])
    report = prepare("jsonl", tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"has no image, but its field looks like one": 1}


def test_no_row_can_be_used(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 4)
    with pytest.raises(DataError, match=r"no row can be used for task gsm8k \(4 rows: answer has no ####\), e\.g\. train\.jsonl, row 1: "):
        prepare("gsm8k", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    text = published.gsm8k(tmp_path / "text")
    with pytest.raises(DataError, match="has no picture, and vqa_rad asks about pictures"):
        prepare("vqa_rad", text, tmp_path / "out")


def test_pictures_for_a_task_of_text(tmp_path: Path) -> None:
    lines(tmp_path / "src/train.jsonl", [{"question": "How many?", "answer": "5", "rationale": "Five."}] * 2)
    assert prepare("gsm8k", tmp_path / "src", tmp_path / "out").rows == {"train": 1, "validation": 1}


# Nothing twice


def test_second_call_reads_nothing(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = published.slake(tmp_path / "src")
    first = prepare("slake", source, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    assert len(decoded) == 3, "each picture once, whoever asks about it"
    monkeypatch.setattr(type(TASKS["slake"].published.layouts[0]), "rows", None)  # type: ignore[union-attr]
    second = prepare("slake", source, tmp_path / "out")
    assert second == replace(first, already=True, folder=second.folder)
    assert snapshot(tmp_path / "out") == before
    assert len(decoded) == 3


def test_changed_annotations_are_read_again_and_pictures_are_not(tmp_path: Path, decoded: list[str]) -> None:
    source = rows(tmp_path / "src", 8)
    prepare("vqa_rad", source, tmp_path / "out")
    decoded.clear()
    rows(tmp_path / "more", 10)
    for name in ("train.jsonl", "images/4.png"):
        (tmp_path / "more" / name).replace(source / name)
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert not report.already
    assert sum(report.rows.values()) == 10
    assert decoded == ["4.png"]


def test_changed_picture_is_looked_at_again(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
    source = rows(tmp_path / "src", 8)
    prepare("vqa_rad", source, tmp_path / "out")
    decoded.clear()
    picture(source / "images/1.png", 30)
    later = (tmp_path / "out/images/1.png").stat().st_mtime_ns + 10**9
    os.utime(source / "images/1.png", ns=(later, later))
    os.utime(source / "train.jsonl", ns=(later, later))
    prepare("vqa_rad", source, tmp_path / "out")
    assert decoded == ["1.png"]
    assert (tmp_path / "out/images/1.png").read_bytes() == (source / "images/1.png").read_bytes()


def test_interrupted_call_goes_on(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = rows(tmp_path / "src", 300)
    plain = pictures.Pictures.place
    calls = []

    def interrupted(self: pictures.Pictures, wanted: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        plain(self, wanted)

    monkeypatch.setattr(pictures.Pictures, "place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("vqa_rad", source, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["images", MARK]
    done = set(decoded)
    decoded.clear()
    report = prepare("vqa_rad", source, tmp_path / "out")
    assert sum(report.rows.values()) == 300
    assert len(done) == 64
    assert not done & set(decoded)
    assert len(decoded) == 150 - 64
    assert not (tmp_path / "out" / MARK).exists()


# Where task.path points


def test_a_published_folder_is_prepared_once_for_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = published.slake(tmp_path / "src")
    config = TaskConfig(name="slake", path=str(source), prepared=str(tmp_path / "data"))
    assert [len(TASKS["slake"].load(config, split)) for split in ("train", "validation", "test")] == [3, 1, 1]
    folder = default_folder(config, str(source))
    assert [file.name for file in (tmp_path / "data").iterdir()] == [folder.name]
    assert caplog.messages[0] == f"task slake: {source} is prepared in {folder}: 3 train, 1 validation, 1 test rows, 2 dropped"
    assert "- 1 rows: answer is empty, e.g. train.json, row 5: answer is empty" in "\n".join(caplog.messages)
    assert len(caplog.messages) == 3, "once"
    assert prepare("slake", source, folder).already
    assert default_folder(replace(config, language="zh"), str(source)) != folder


def test_named_files_win(tmp_path: Path) -> None:
    prepare("slake", published.slake(tmp_path / "src"), tmp_path / "out")
    own = {"image": str(tmp_path / "src/imgs/xmlab1/source.jpg"), "question": "Is it?", "answer": "yes"}
    file = lines(tmp_path / "own.jsonl", [own] * 10)
    config = TaskConfig(name="slake", path=str(tmp_path / "out"), train=str(file))
    assert [len(TASKS["slake"].load(config, split)) for split in ("train", "validation", "test")] == [9, 1, 1]
    config = TaskConfig(name="slake", train=str(tmp_path / "out/train.jsonl"))
    assert [len(TASKS["slake"].load(config, split)) for split in ("train", "validation")] == [3, 1]
    config = TaskConfig(name="slake", path=str(tmp_path / "out"), test=str(file))
    assert [len(TASKS["slake"].load(config, split)) for split in ("train", "validation", "test")] == [3, 1, 10]


def test_own_rows_are_used_where_they_lie(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", [{"question": "How many?", "answer": "5"}] * 10)
    config = TaskConfig(name="jsonl", path=str(tmp_path))
    assert len(TASKS["jsonl"].load(config, "train")) == 9
    assert held_out(config) == "validation"
    assert [file.name for file in tmp_path.iterdir()] == ["train.jsonl"]
    with pytest.raises(DataError, match="no test data"):
        TASKS["jsonl"].load(config, "test")


def test_a_folder_of_another_task(tmp_path: Path) -> None:
    prepare("slake", published.slake(tmp_path / "src"), tmp_path / "out")
    with pytest.raises(DataError, match="was prepared for task slake, not for vqa_rad; set task.name"):
        TASKS["vqa_rad"].load(TaskConfig(name="vqa_rad", path=str(tmp_path / "out")), "train")
    assert len(TASKS["jsonl"].load(TaskConfig(name="jsonl", path=str(tmp_path / "out")), "train")) == 3
    assert loading.with_path(TASKS["slake"].published, TaskConfig(name="slake")) == TaskConfig(name="slake")  # type: ignore[arg-type]


# Folders that are refused


def test_a_folder_with_other_files(tmp_path: Path) -> None:
    source = rows(tmp_path / "src", 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").touch()
    for folder, name in ((tmp_path / "out", "notes.txt"), (source, "images")):
        with pytest.raises(DataError, match=rf"holds other files \({name}\); choose another folder"):
            prepare("vqa_rad", source, folder)
    with pytest.raises(DataError, match="is not a folder"):
        prepare("vqa_rad", source, tmp_path / "out/notes.txt")
    with pytest.raises(NotADirectoryError, match=r"notes.txt/x"):
        prepare("vqa_rad", source, tmp_path / "out/notes.txt/x")
    assert sorted(file.name for file in source.iterdir()) == ["images", "train.jsonl"]


def test_a_folder_prepared_from_something_else(tmp_path: Path) -> None:
    prepare("vqa_rad", rows(tmp_path / "one", 4), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(DataError, match="was prepared with another source; choose another folder"):
        prepare("vqa_rad", rows(tmp_path / "two", 4), tmp_path / "out")
    with pytest.raises(DataError, match="was prepared with another limit"):
        prepare("vqa_rad", tmp_path / "one", tmp_path / "out", limit=3)
    assert snapshot(tmp_path / "out") == before


def test_prepared_folders_are_not_prepared(tmp_path: Path) -> None:
    prepare("vqa_rad", rows(tmp_path / "src", 4), tmp_path / "out")
    with pytest.raises(DataError, match="is prepared already; name it as task.path"):
        prepare("vqa_rad", tmp_path / "out", tmp_path / "again")


def test_the_folder_that_is_used_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows(tmp_path / "src/Archive", 4)
    (tmp_path / "src/notes").mkdir()
    told = f"the rows are those of the folder Archive in {tmp_path / 'src'}"
    assert told in prepare("vqa_rad", tmp_path / "src", tmp_path / "out").notes
    assert told not in prepare("vqa_rad", tmp_path / "src/Archive", tmp_path / "direct").notes
    TASKS["vqa_rad"].load(TaskConfig(name="vqa_rad", path=str(tmp_path / "src"), prepared=str(tmp_path / "data")), "train")
    assert f"- {told}" in caplog.messages


def test_a_folder_of_several_data_sets(tmp_path: Path) -> None:
    """As /data with a folder for each: none of them is taken for another task's."""
    rows(tmp_path / "src/one", 4)
    published.geo170k(tmp_path / "src/two")
    published.gsm8k(tmp_path / "src/three")
    with pytest.raises(DataError, match=r"src: one, three in it could each be meant; name one, e.g. .*src/one"):
        prepare("slake", tmp_path / "src", tmp_path / "out")
    with pytest.raises(DataError, match="one, three, two in it could each be meant"):
        prepare("geometry", tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prepared_folders_in_a_folder(tmp_path: Path) -> None:
    rows(tmp_path / "raw", 4)
    prepare("vqa_rad", tmp_path / "raw", tmp_path / "src/vqa_rad-prepared")
    with pytest.raises(DataError, match=r"src/vqa_rad-prepared: is prepared already; name it as task.path, e.g. --task.name slake"):
        prepare("slake", tmp_path / "src", tmp_path / "out")
    published.gsm8k(tmp_path / "src/gsm8k")
    assert prepare("gsm8k", tmp_path / "src", tmp_path / "out").notes[0].startswith("the rows are those of the folder gsm8k in")


def test_a_broken_manifest(tmp_path: Path) -> None:
    prepare("vqa_rad", rows(tmp_path / "src", 4), tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"prepared\.json: cannot be read; remove the folder"):
        read_manifest(tmp_path / "out")
