"""Facts are extracted once per image, whatever interrupts that; failures are counted and leave no half facts."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from dyme.errors import ConfigError, DataError, RunError, SupervisionError
from dyme.facts.store import FILE, FactStore, attach, gather, prepare
from dyme.pictures import ImageFile
from dyme.types import Fact, Sample


@dataclass(frozen=True)
class Plain:
    key: str

    def load(self) -> Image.Image:
        return Image.new("RGB", (4, 4))


@dataclass(frozen=True)
class Missing:
    path: str

    @property
    def key(self) -> str:
        raise DataError(f"{self.path} does not exist")

    def load(self) -> Image.Image:
        raise DataError(f"{self.path} does not exist")


@dataclass
class Fake:
    """Says the image's key; fails for the keys in `failing`, finds nothing in those of `blank`."""

    failing: set[str] = field(default_factory=set)
    blank: set[str] = field(default_factory=set)
    seen: list[Sample] = field(default_factory=list)

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        self.seen.append(sample)
        (image,) = sample.images
        if image.key in self.failing:
            raise SupervisionError("the endpoint\ndid not answer")
        return () if image.key in self.blank else (Fact("key", image.key), Fact("colour", "black"))

    @property
    def keys(self) -> list[str]:
        return [sample.images[0].key for sample in self.seen]


def sample(name: str, *keys: str, facts: tuple[Fact, ...] = ()) -> Sample:
    return Sample(id=name, question="what?", answer="42", images=tuple(Plain(key) for key in keys), facts=facts)


SAMPLES = [
    sample("1", "a"),
    sample("2", "b"),
    sample("3", "a"),
    sample("4", "b", "c"),
    sample("5"),
    sample("6", "d", facts=(Fact("x", "1"),)),
]


def test_once_per_image_and_never_again(tmp_path: Path) -> None:
    fake = Fake()
    out, counts = gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert sorted(fake.keys) == ["a", "b", "c"]
    assert (counts.samples, counts.given, counts.without_image) == (6, 1, 1)
    assert (counts.images, counts.cached, counts.done, counts.failures) == (3, 0, 3, ())
    assert out[0].facts == out[2].facts == (Fact("key", "a"), Fact("colour", "black"))
    assert out[3].facts == (Fact("key", "b"), Fact("colour", "black"), Fact("key", "c")), "all images, each fact once"
    assert (out[4].facts, out[5].facts) == ((), (Fact("x", "1"),))
    again, counts = gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert len(fake.seen) == 3 and again == out
    assert (counts.cached, counts.done) == (3, 0)


def test_the_extractor_sees_the_image_alone(tmp_path: Path) -> None:
    fake = Fake()
    gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert {(s.question, s.answer, s.rationale, s.kind, len(s.images)) for s in fake.seen} == {("", "", None, "", 1)}
    assert {s.id for s in fake.seen} == {"1", "2", "4"}, "named by the first sample, for messages"


def test_data_extracts_nothing(tmp_path: Path) -> None:
    out, counts = gather(SAMPLES, "data", tmp_path)
    assert out == SAMPLES
    assert (counts.samples, counts.given, counts.without_image, counts.images) == (6, 1, 1, 0)
    assert not list(tmp_path.iterdir())


def test_sources_and_versions_are_apart(tmp_path: Path) -> None:
    fake = Fake()
    gather(SAMPLES, "llm", tmp_path, extractor=fake, version="one")
    gather(SAMPLES, "llm", tmp_path, extractor=fake, version="two")
    gather(SAMPLES, "ocr", tmp_path, extractor=fake, version="one")
    assert len(fake.seen) == 9
    assert [len(FactStore(tmp_path, source, version)) for source, version in (("llm", "one"), ("llm", "two"), ("ocr", "two"))] == [3, 3, 0]


def test_failures_are_counted_recorded_and_tried_again(tmp_path: Path) -> None:
    fake = Fake(failing={"b"}, blank={"c"})
    out, counts = gather([*SAMPLES, Sample(id="7", question="", answer="1", images=(Missing("z.png"),))], "llm", tmp_path, extractor=fake)
    assert (counts.images, counts.cached, counts.done) == (4, 0, 1)
    assert sorted(counts.failures) == [
        ("2", "the endpoint did not answer"),
        ("4", "the extractor found no facts"),
        ("7", "z.png does not exist"),
    ]
    assert out[0].facts and not out[1].facts and not out[3].facts and not out[6].facts
    rows = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert {row["image"]: row.get("error") for row in rows} == {
        "a": None, "b": "the endpoint did not answer", "c": "the extractor found no facts",
    }  # fmt: skip
    fake = Fake(blank={"c"})
    out, counts = gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert sorted(fake.keys) == ["b", "c"]
    assert (counts.cached, counts.done, len(counts.failures)) == (1, 1, 1)
    assert out[1].facts
    assert not out[3].facts, "of its two images one has no facts"


def test_an_image_that_breaks_the_extractor_is_a_failure_among_others(tmp_path: Path) -> None:
    class Broken(Fake):
        def extract(self, sample: Sample) -> tuple[Fact, ...]:
            if sample.images[0].key == "b":
                raise ZeroDivisionError("division\nby zero")
            return super().extract(sample)

    out, counts = gather(SAMPLES, "llm", tmp_path, extractor=Broken())
    [(name, reason)] = counts.failures
    assert counts.done == 2 and reason == f"{name}: reading the image failed (ZeroDivisionError: division by zero)"
    assert gather(SAMPLES, "llm", tmp_path, extractor=Fake())[1].done == 1, "tried again by the next preparation"


def test_what_no_image_is_to_blame_for_ends_the_preparation(tmp_path: Path) -> None:
    class Missing(Fake):
        def extract(self, sample: Sample) -> tuple[Fact, ...]:
            raise ConfigError("pip install dyme[ocr]")

    with pytest.raises(ConfigError):
        gather(SAMPLES, "llm", tmp_path, extractor=Missing())


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_resume_after_a_kill_in_mid_line(tmp_path: Path, cut: int) -> None:
    fake = Fake()
    whole, _ = gather(SAMPLES, "llm", tmp_path, extractor=fake)
    file = tmp_path / FILE
    content = file.read_bytes()
    last = json.loads(content.splitlines()[-1])["image"]
    file.write_bytes(content[:-cut])
    assert FactStore(tmp_path, "llm").get(last) is None
    fake = Fake()
    resumed, counts = gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert fake.keys == [last]
    assert (counts.cached, counts.done) == (2, 1)
    assert resumed == whole
    assert file.read_bytes() == content, "nothing of the half line is left"


def test_an_interrupted_preparation_keeps_what_was_done(tmp_path: Path) -> None:
    class Interrupted(Fake):
        def extract(self, sample: Sample) -> tuple[Fact, ...]:
            if self.seen:
                raise KeyboardInterrupt
            return super().extract(sample)

    with pytest.raises(KeyboardInterrupt):
        gather(SAMPLES, "llm", tmp_path, extractor=Interrupted())
    fake = Fake()
    gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert fake.keys == ["b", "c"]


def test_an_interruption_keeps_extractions_that_ended_in_any_order(tmp_path: Path) -> None:
    third = threading.Event()

    class Slow(Fake):
        def extract(self, sample: Sample) -> tuple[Fact, ...]:
            if len(self.seen) == 2:
                third.set()
            return super().extract(sample)

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 1:  # one is stored, the second has ended unstored, the third is at work
            assert third.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(SAMPLES, "llm", tmp_path, extractor=Slow(), progress=interrupt)
    fake = Fake()
    gather(SAMPLES, "llm", tmp_path, extractor=fake)
    assert fake.keys == []
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 3, "each once"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    gather(SAMPLES, "llm", tmp_path, extractor=Fake())
    file = tmp_path / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    for damaged in (b"{}\n", b'{"image"\n', b"[1]\n", b'{"source": "llm", "version": "", "image": "a", "facts": [["x"]]}\n'):
        file.write_bytes(b"".join([lines[0], damaged, *lines[1:]]))
        with pytest.raises(RunError, match=r"facts\.jsonl, line 2: not a line of facts .*; remove it"):
            FactStore(tmp_path, "llm")


def _hold(folder: Path, ready: threading.Event, done: threading.Event) -> None:
    with FactStore(folder, "llm").writing():
        ready.set()
        done.wait(20)


def test_one_process_writes_at_a_time_and_any_reads(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(RunError, match=rf"another process \({other.pid} on .*\) is at work there; wait until it is done"):
            gather(SAMPLES, "llm", tmp_path, extractor=Fake())
        assert len(FactStore(tmp_path, "llm")) == 0
        other.kill()
        other.join(20)
        assert gather(SAMPLES, "llm", tmp_path, extractor=Fake())[1].done == 3, "death frees the lock"
    finally:
        other.kill()
        other.join(20)


def test_two_stores_see_each_others_facts(tmp_path: Path) -> None:
    first, second = FactStore(tmp_path, "llm"), FactStore(tmp_path, "llm")
    prepare(SAMPLES[:1], Fake(), first)
    assert second.get("a") is None, "read before"
    fake = Fake()
    counts = prepare(SAMPLES, fake, second)
    assert fake.keys == ["b", "c"] and counts.cached == 1
    assert attach(SAMPLES, FactStore(tmp_path, "llm")) == attach(SAMPLES, second)


def test_what_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="choose another folder for the facts"):
        gather(SAMPLES, "llm", tmp_path / "file", extractor=Fake())
    with pytest.raises(RuntimeError, match="writing"):
        FactStore(tmp_path, "llm").add("a", [Fact("x", "1")])


def test_progress_counts_images(tmp_path: Path) -> None:
    prepare(SAMPLES[:1], Fake(), FactStore(tmp_path, "llm"))
    seen: list[tuple[str, int, int]] = []
    prepare(SAMPLES, Fake(failing={"c"}), FactStore(tmp_path, "llm"), lambda *args: seen.append(args))
    assert seen == [("facts", 1, 3), ("facts", 2, 3), ("facts", 3, 3)]


def test_workers_run_at_a_time(tmp_path: Path) -> None:
    barrier = threading.Barrier(3, timeout=20)

    class Meeting(Fake):
        def extract(self, sample: Sample) -> tuple[Fact, ...]:
            barrier.wait()
            return super().extract(sample)

    assert gather(SAMPLES, "llm", tmp_path, extractor=Meeting(), workers=3)[1].done == 3


def test_equal_files_share_their_facts(tmp_path: Path) -> None:
    for name, colour in (("one.png", "red"), ("two.png", "red"), ("three.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    samples = [Sample(id=n, question="", answer="1", images=(ImageFile(tmp_path / n),)) for n in ("one.png", "two.png", "three.png")]
    fake = Fake()
    out, counts = gather(samples, "llm", tmp_path / "facts", extractor=fake)
    assert counts.images == len(fake.seen) == 2
    assert out[0].facts == out[1].facts != out[2].facts
