"""How fast answers are judged, kind by kind, on one core, and how long a comparison by algebra takes.

    python benchmarks/verify.py [--count 20000] [--algebra 40] [--json FILE] [--markdown]

Predictions and targets are made up at random, so that few repeat and the caches of parsed texts help little; "repeated" judges the first
twentieth of them again and again, as K completions of a prompt do. Processor time for the kinds, wall time for algebra, whose process
starts at the first comparison.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from measure import table, write

from dyme.types import AnswerKind, Sample
from dyme.verify.answers import judge
from dyme.verify.worker import Worker

WORDS = [
    "left",
    "right",
    "lung",
    "brain",
    "chest",
    "effusion",
    "the",
    "a",
    "of",
    "no",
    "yes",
    "pneumothorax",
    "liver",
    "kidney",
    "two",
    "small",
]
NUMBERS = ("{}", "${}", "{} apples", "{}%", "{:,}", "{}.5 cm", "{}/7", "{} to 99999", "{}e3")
MATHEMATICS = (r"\frac{{{}}}{{7}}", r"{}\sqrt{{3}}", "{}°", "x={}", r"{}\pi", "{}*sqrt(3)", "{} cm^2")
CHOICES = ("({})", "{}", "{}: 12 cm", "option {}", "it is {}", "the answer is {}.")
Answer = Callable[[random.Random], str]


def number(rng: random.Random) -> str:
    return rng.choice(NUMBERS).format(rng.randrange(10**6))


def words(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(2, 6)))


def mathematics(rng: random.Random) -> str:
    return rng.choice(MATHEMATICS).format(rng.randrange(10**6))


def items(rng: random.Random) -> str:
    return ", ".join(words(rng) for _ in range(3))


def choice(rng: random.Random) -> str:
    return f"{rng.choice(CHOICES).format(rng.choice('ABCDE'))} {words(rng) if rng.random() < 0.5 else ''}"


def yes_no(rng: random.Random) -> str:
    return f"{rng.choice(('yes', 'no', 'it is'))}, {words(rng)}"


KINDS: dict[AnswerKind, tuple[Answer, Answer]] = {
    "auto": (number, lambda rng: str(rng.randrange(10**6))),
    "number": (number, lambda rng: str(rng.randrange(10**6))),
    "text": (words, words),
    "yes_no": (yes_no, lambda rng: rng.choice(("yes", "no"))),
    "choice": (choice, lambda rng: rng.choice("ABCD")),
    "letter": (choice, lambda rng: rng.choice("ABCD")),
    "list": (items, items),
    "math": (mathematics, mathematics),
    "open": (words, words),
    "vqa": (words, words),
}
"""Kind -> how predictions and targets are made."""


def pairs(kind: AnswerKind, count: int) -> list[tuple[str, Sample]]:
    rng = random.Random(kind)
    prediction, target = KINDS[kind]
    made = []
    for index in range(count):
        answer = target(rng)
        answers = (answer,) * 4 + tuple(target(rng) for _ in range(6)) if kind == "vqa" else ()
        choices = ("10 cm", "12 cm", "14 cm", words(rng)) if kind == "choice" else ()
        sample = Sample(id=str(index), question="", answer=answer, answer_kind=kind, answers=answers, choices=choices)
        made.append((prediction(rng), sample))
    return made


def rate(work: list[tuple[str, Sample]]) -> float:
    """Judgements a second of processor time."""
    start = time.process_time()
    for prediction, sample in work:
        judge(prediction, sample, tolerance=0.0)
    return len(work) / max(time.process_time() - start, 1e-9)


def algebra(count: int) -> dict[str, float]:
    """Milliseconds to the first answer, and of later ones about expressions that were not seen before."""
    worker = Worker(seconds=60)
    times = []
    for k in range(count + 1):
        start = time.perf_counter()
        assert worker.same(f"{k + 2}x^2+x-{k}", f"x({k + 2}x+1)-{k}")
        times.append(1e3 * (time.perf_counter() - start))
    worker.stop()
    later = sorted(times[1:])
    return {"first": times[0], "median": statistics.median(later), "p90": later[int(0.9 * len(later))], "longest": later[-1]}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--algebra", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args(argv)
    figures: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        work = pairs(kind, args.count)
        figures[kind] = {"fresh": rate(work), "repeated": rate(work[: max(1, args.count // 20)] * 20)}
    print("Judgements a second on one core\n")
    table(
        ("kind", "fresh", "repeated"),
        [(kind, *(round(value) for value in rates.values())) for kind, rates in figures.items()],
        args.markdown,
    )
    figures["algebra"] = algebra(args.algebra)
    print("Algebra by math-verify in its process, milliseconds\n")
    table(tuple(figures["algebra"]), [tuple(figures["algebra"].values())], args.markdown)
    write(args.json, figures)


if __name__ == "__main__":
    main()
