"""How many gold answers are among the facts that OCR reads from ChartQA's images, and what that costs.

A gold answer is *verbatim* among an image's facts if the subject or the value of one of them is it: equal as `verify.answer.matches`
has it with tolerance 0, with or without the value's unit ("$7.5 million" holds 7.5), or, for an answer that is no number, part of
it as whole words. It is *paired* if that fact says what the value belongs to, i.e. its subject is not one of
`chart_pairs.ROLES`. Neither says that the fact is right or that the question is answered: "label 2015" counts as verbatim.

Items are drawn by a seed from all rows of the folder, so the two subsets come as they fall. Run it on one core as it does itself;
an image that fails counts as an item without its answer.

    python benchmarks/facts.py --data ../shared/data/chartqa --json facts.json
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import table, write

from dyme.errors import SupervisionError
from dyme.evaluation.metrics import Figure, share
from dyme.facts.chart_pairs import ROLES
from dyme.facts.chart_text import bare_number
from dyme.facts.ocr import OcrExtractor
from dyme.pictures import ImageFile
from dyme.types import Fact, Sample
from dyme.verify.answers import matches, number


@dataclass(frozen=True)
class Item:
    """One question with what was read for it."""

    sample: Sample
    facts: tuple[Fact, ...]
    seconds: float
    reason: str = ""

    @property
    def numeric(self) -> bool:
        return number(self.sample.answer) is not None

    @property
    def verbatim(self) -> bool:
        return any(says(fact.subject, self.sample.answer) or says(fact.value, self.sample.answer) for fact in self.facts)

    @property
    def paired(self) -> bool:
        return any(says(fact.value, self.sample.answer) for fact in self.facts if fact.subject not in ROLES)


def says(text: str, answer: str) -> bool:
    """Whether `text` is `answer` verbatim, as defined above."""
    if matches(text, answer) or matches(bare_number(text) or "", answer):
        return True
    return number(answer) is None and re.search(rf"(?<!\w){re.escape(answer.casefold())}(?!\w)", text.casefold()) is not None


def rows(folder: Path) -> list[Sample]:
    """All rows, `kind` being the subset; the files are in JSON lines."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(text)
            image = ImageFile(folder / row["image"], f"{file.name}:{line}")
            found.append(Sample(id=f"{file.stem}:{line}", question=row["question"], answer=str(row["answer"]), images=(image,),
                                kind=row.get("subset", "")))  # fmt: skip
    return found


def measure(samples: Sequence[Sample], extractor: OcrExtractor) -> list[Item]:
    """Read each sample's image, one after the other, again for each question about it."""
    items = []
    for sample in samples:
        started = time.perf_counter()
        try:
            facts, reason = extractor.extract(sample), ""
        except SupervisionError as error:
            facts, reason = (), str(error)
        items.append(Item(sample, facts, time.perf_counter() - started, reason))
    return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/chartqa"), help="folder of JSON lines with images/")
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each item that lacks its answer, or has it loose, with its facts")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    everything = rows(args.data)
    if not everything:
        parser.error(f"{args.data} holds no *.jsonl with rows; name the folder with --data")
    picked = random.Random(args.seed).sample(everything, min(args.items, len(everything)))
    extractor = OcrExtractor(threads=args.threads)
    extractor.extract(picked[0])  # loads the networks
    items = measure(picked, extractor)
    print(f"facts by OCR ({extractor.version}), {args.threads} thread(s), on {len(items)} items of {args.data.name}, seed {args.seed}\n")
    report(items, args.markdown, args.json)
    if args.show:
        show(items)


def report(items: Sequence[Item], markdown: bool, file: Path | None) -> None:
    """Print the shares with their 95 % intervals, overall and by subset, and write them with the costs."""
    figures: dict[str, float] = {}
    lines: list[list[object]] = []
    for name in ("all", *sorted({item.sample.kind for item in items} - {""})):
        part = [item for item in items if name in ("all", item.sample.kind)]
        numeric = [item for item in part if item.numeric]
        shares = {"verbatim": _share(part, [i.verbatim for i in part]),
                  "numeric_verbatim": _share(numeric, [i.verbatim for i in numeric]),
                  "numeric_paired": _share(numeric, [i.paired for i in numeric])}  # fmt: skip
        for what, found in shares.items():
            figures |= {f"{what}_{name}": found.value, f"{what}_{name}_low": found.low, f"{what}_{name}_high": found.high,
                        f"{what}_{name}_n": found.n}  # fmt: skip
        lines.append([name, *map(_shown, shares.values())])
    table(["subset", "answer verbatim", "numbers: verbatim", "numbers: in a pair"], lines, markdown)
    figures |= {
        "seconds_per_image": statistics.mean(item.seconds for item in items),
        "facts_per_image": statistics.mean(len(item.facts) for item in items),
        "pairs_per_image": statistics.mean(sum(fact.subject not in ROLES for fact in item.facts) for item in items),
        "failed": sum(bool(item.reason) for item in items),
    }
    costs = "{seconds_per_image:.2f} s, {facts_per_image:.1f} facts and {pairs_per_image:.1f} pairs an image; {failed} failed"
    print(costs.format(**figures))
    write(file, figures)


def _share(items: Sequence[Item], hits: Sequence[bool]) -> Figure:
    return share(hits, clusters=[item.sample.images[0].key for item in items])


def _shown(found: Figure) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] of {found.n}"


def show(items: Sequence[Item]) -> None:
    """Print what a reader would check by eye."""
    for item in items:
        if item.verbatim and (item.paired or not item.numeric):
            continue
        sample = item.sample
        print(f"\n{'loose' if item.verbatim else 'absent'} ({sample.kind}) {sample.images[0].path}\n  {sample.question} -> {sample.answer}")
        print("  " + (item.reason or " | ".join(f"{fact.subject} = {fact.value}" for fact in item.facts)))


if __name__ == "__main__":
    main()
