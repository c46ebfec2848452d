"""Visual facts I_c (paper, section 3.3): extracted once per image before training, stored by content, added to the samples.

The reference code asks for the facts of an image anew with every completion. Here a picture that several rows, tasks or runs share
is read once: `<folder>/facts.jsonl` holds one line per extraction,

    {"image": key, "source": "ocr", "version": "...", "facts": [["Ontario", "25545"], ...]}
    {"image": key, "source": "ocr", "version": "...", "error": "no legible text in the image"}

found again by the key of the image's content, the source and its version (engine and settings, or model and prompt). Lines are only
ever appended, each flushed as it is done, so a killed preparation continues where it stopped; a half-written last line is cut off.
One process writes at a time, under a lock that its death releases; any number may read. An extraction that failed is recorded and
tried again by the next preparation, as an endpoint that was down may be up; its samples keep no facts, and are counted. Any error of
an extractor on one image is recorded as that image's failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from dyme.errors import DataError, DymeError, RunError, SupervisionError
from dyme.facts.extractor import Extractor
from dyme.facts.ocr import OcrExtractor
from dyme.pictures import ImageSource
from dyme.system import lock
from dyme.types import Fact, Sample

Source = Literal["data", "ocr", "llm"]
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
FILE = "facts.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactCounts:
    """The counts of a preparation: of samples, then of distinct images of the samples that need facts."""

    samples: int
    given: int
    """Samples whose facts came with the data; these are unchanged."""
    without_image: int
    """Samples with neither facts nor an image."""
    images: int = 0
    cached: int = 0
    """Images whose facts were in the store."""
    done: int = 0
    """Images whose facts were extracted now."""
    failures: tuple[tuple[str, str], ...] = ()
    """(id of the image's first sample, reason) for each image that has none."""


class FactStore:
    """The facts of one source and version in a folder. Reading needs no lock; `writing` takes it."""

    def __init__(self, folder: Path, source: Source, version: str = "") -> None:
        """Read the stored facts. Raises RunError if the file cannot be read or a line before the last one is damaged."""
        self.path = folder / FILE
        self.source, self.version = source, version
        self._known: dict[str, tuple[Fact, ...]] = {}
        self._file: IO[bytes] | None = None
        self._load()

    def get(self, key: str) -> tuple[Fact, ...] | None:
        """Return the facts of the image with this key; None if none are stored."""
        return self._known.get(key)

    def __len__(self) -> int:
        """Number of images with facts."""
        return len(self._known)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the store, so that `add` and `add_failure` may be called within this context.

        Raises RunError if another process is writing, or the folder cannot be used.
        """
        try:
            with lock.hold(self.path.parent), self.path.open("ab") as file:
                file.truncate(_whole_lines(self.path))
                self._load()  # lines that others wrote since
                self._file = file
                yield
        except RunError:
            raise
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}); choose another folder for the facts") from error
        finally:
            self._file = None

    def add(self, key: str, facts: Sequence[Fact]) -> None:
        """Store the facts of an image."""
        self._append({"image": key, "facts": [[fact.subject, fact.value] for fact in facts]})
        self._known[key] = tuple(facts)

    def add_failure(self, key: str, reason: str) -> None:
        """Record that an image's facts could not be extracted."""
        self._append({"image": key, "error": reason})

    def _append(self, row: dict[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("facts are stored within `with store.writing():`")
        self._file.write((json.dumps({"source": self.source, "version": self.version, **row}) + "\n").encode("ascii"))
        self._file.flush()

    def _load(self) -> None:
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror}); choose another folder for the facts") from error
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if (row["source"], row["version"]) == (self.source, self.version) and "facts" in row:
                    self._known[row["image"]] = tuple(Fact(str(subject), str(value)) for subject, value in row["facts"])
            except (ValueError, TypeError, KeyError) as error:
                raise RunError(f"{self.path}, line {number}: not a line of facts ({error}); remove it to read the rest") from error


def gather(samples: Sequence[Sample], source: Source, folder: Path, *, extractor: Extractor | None = None, version: str = "",
           workers: int = 1, progress: Progress | None = None) -> tuple[list[Sample], FactCounts]:  # fmt: skip
    """Return `samples` with facts from `source`, and the counts: everything that `dyme facts` does.

    `data` extracts nothing. `ocr` makes an extractor unless one is given. `llm` needs an `extractor`, and a `version` that
    changes whenever its answers may change (model, prompt); up to `workers` of its calls run at a time.
    Raises ConfigError if the OCR engine is not installed, RunError if the folder cannot be used.
    """
    if source == "data":
        return list(samples), _counts(samples)
    if extractor is None:
        if source == "llm":
            raise ValueError("source llm needs an extractor")
        ocr = OcrExtractor()
        extractor, version = ocr, ocr.version
    store = FactStore(folder, source, version)
    counts = prepare(samples, extractor, store, progress, workers=workers)
    return attach(samples, store), counts


def prepare(samples: Sequence[Sample], extractor: Extractor, store: FactStore, progress: Progress | None = None, *,
            workers: int = 1) -> FactCounts:  # fmt: skip
    """Extract the facts of every image of samples without facts that `store` lacks, up to `workers` at a time; return counts.

    The extractor sees the image alone: neither question nor answer, so that the facts fit every sample that shares it and cannot
    leak the answer. A failure is recorded and counted; so is an extraction without any fact.
    Raises RunError if another process is preparing in the same folder, or the folder cannot be used.
    """
    images, failures = _images([s for s in samples if not s.facts])
    total = len(images) + len(failures)
    with store.writing():
        todo = {key: entry for key, entry in images.items() if store.get(key) is None}
        cached = done = len(images) - len(todo)
        if progress:
            progress("facts", done, len(images))
        futures: dict[Future[tuple[Fact, ...]], tuple[str, str]] = {}
        try:
            with ThreadPoolExecutor(workers) as pool:
                futures = {pool.submit(_extract, extractor, name, image): (key, name) for key, (name, image) in todo.items()}
                try:
                    for done, future in enumerate(as_completed(futures), start=cached + 1):
                        key, name = futures[future]
                        if reason := _settle(key, future, store):
                            failures.append((name, reason))
                        if progress:
                            progress("facts", done, len(images))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        except BaseException:
            _keep(futures, store)
            raise
    return replace(_counts(samples), images=total, cached=cached, done=total - cached - len(failures), failures=tuple(failures))


def attach(samples: Sequence[Sample], store: FactStore) -> list[Sample]:
    """Return `samples`; those without facts get the stored facts of all their images, in order, each once.

    If any image of a sample has no facts, the sample gets none: otherwise a true statement about that image would count as made up.
    """
    return [sample if sample.facts else replace(sample, facts=_stored(sample, store)) for sample in samples]


def _counts(samples: Sequence[Sample]) -> FactCounts:
    bare = [sample for sample in samples if not sample.facts]
    without_image = sum(not sample.images for sample in bare)
    return FactCounts(samples=len(samples), given=len(samples) - len(bare), without_image=without_image)


def _images(samples: Sequence[Sample]) -> tuple[dict[str, tuple[str, ImageSource]], list[tuple[str, str]]]:
    """Return the distinct images by key, each with the id of the first sample that shows it, and (id, reason) of those without a key."""
    found: dict[str, tuple[str, ImageSource]] = {}
    failures: dict[ImageSource, tuple[str, str]] = {}
    for sample in samples:
        for image in sample.images:
            try:
                found.setdefault(image.key, (sample.id, image))
            except DataError as error:
                failures.setdefault(image, (sample.id, str(error)))
    return found, list(failures.values())


def _extract(extractor: Extractor, name: str, image: ImageSource) -> tuple[Fact, ...]:
    try:
        facts = extractor.extract(Sample(id=name, question="", answer="", images=(image,)))
    except DymeError:
        raise
    except Exception as error:  # no error on one picture may end the preparation of the others
        raise SupervisionError(f"{name}: reading the image failed ({type(error).__name__}: {error})") from error
    if not facts:
        raise SupervisionError("the extractor found no facts")
    return facts


def _settle(key: str, future: Future[tuple[Fact, ...]], store: FactStore) -> str:
    """Store the outcome of an extraction; return the reason if it failed, else ""."""
    try:
        store.add(key, future.result())
    except (SupervisionError, DataError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        store.add_failure(key, reason)
        return reason
    return ""


def _keep(futures: dict[Future[tuple[Fact, ...]], tuple[str, str]], store: FactStore) -> None:
    """Store the facts of extractions that ended before an interruption, or while it waited for them."""
    for future, (key, _) in futures.items():
        if store.get(key) is None and not future.cancelled() and future.done() and future.exception() is None:
            store.add(key, future.result())


def _stored(sample: Sample, store: FactStore) -> tuple[Fact, ...]:
    found: dict[Fact, None] = {}
    for image in sample.images:
        try:
            facts = store.get(image.key)
        except DataError:  # counted by `prepare`
            facts = None
        if facts is None:
            return ()
        found |= dict.fromkeys(facts)
    return tuple(found)


def _whole_lines(path: Path) -> int:
    """Return the number of bytes of a file up to the end of its last whole line."""
    return path.read_bytes().rfind(b"\n") + 1
