"""The published metrics and the reference code's matcher, in our own words, to hold ours against (docs/metrics.md).

`python tests/published_metrics.py docs/metrics.md` fills in the verdicts of its table; `test_metrics.py` recomputes every one.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data.rows import sample_of as loaded
from dyme.tasks import TASKS as LOADED
from dyme.types import Judgement, Sample
from dyme.verify.answers import judge

Outcome = bool | float | None
"""Right or wrong, a score of a soft metric, or nothing published."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of the table, before its verdicts."""

    task: str
    given: str
    target: str
    prediction: str


def relaxed(prediction: str, target: str, tolerance: float = 0.05) -> bool:
    """ChartQA's relaxed accuracy as its evaluation code has it (Masry et al., 2022; Pix2Struct's and lmms-eval's copies).

    Both are read by Python's `float`, a percentage as a hundredth; a target of zero counts as text.
    """
    said, wanted = _float(prediction), _float(target)
    if said is not None and wanted:
        return abs(said - wanted) / abs(wanted) <= tolerance
    return prediction.lower() == target.lower()


def _float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def gsm8k(prediction: str, target: str) -> bool:
    """GSM8K (Cobbe et al., 2021): the signs -, digits, period and comma right after "#### ", without commas, letter by letter."""

    def marked(answer: str) -> str | None:
        found = re.match(r"-?[0-9.,]+", answer)
        return found[0].replace(",", "") if found else None

    return marked(prediction) is not None and marked(prediction) == marked(target)


def tabmwp(prediction: str, target: str, unit: str) -> bool:
    """TabMWP's exact match (Lu et al., 2023): a leading dollar and a final sign go, numbers are rounded to three decimals.

    A text loses the unit wherever it stands; what remains is compared in lower case.
    """

    def normal(text: str) -> str:
        text = re.sub(r"[,./]$", "", text.removeprefix("$"))
        if not re.fullmatch(r"[-+]?[\d,./]+", text):
            return (text.replace(unit, "").strip() if unit else text).lower()
        text = text.replace(",", "")
        try:
            if re.fullmatch(r"[-+]?\d+", text):
                number: float = int(text)
            elif "/" in text:
                number = round(float(text.split("/")[0]) / float(text.split("/")[1]), 3)
            else:
                number = round(float(text), 3)
        except (ValueError, ZeroDivisionError):
            return text
        return re.sub(r"\.0+$", "", str(number))

    return normal(prediction) == normal(target)


_WORDS = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(value) for value, word in enumerate(_WORDS.split())} | {"none": "0"}


def _vqa_normal(text: str) -> str:
    """VQA's normalisation, as LLaVA-Med uses it: punctuation goes (or becomes a space within a word), number words become digits."""
    text = text.lower().replace("\n", " ").strip()
    for sign in ';/[]"{}()=+\\_-><@`,?!':
        text = text.replace(sign, "" if f"{sign} " in text or f" {sign}" in text or re.search(r"\d,\d", text) else " ")
    text = re.sub(r"(?<!\d)\.(?!\d)|(?<=\d)\.(?!\d)|(?<!\d)\.(?=\d)", "", text)
    return " ".join(_DIGITS.get(word, word) for word in text.split() if word not in ("a", "an", "the"))


def open_recall(prediction: str, target: str) -> float:
    """LLaVA-Med's recall of open answers (Li et al., 2023): a word found counts as often as the *prediction* says it."""
    said, wanted = Counter(_vqa_normal(prediction).split()), Counter(_vqa_normal(target).split())
    hits = sum(count for word, count in said.items() if word in wanted)
    missed = sum(count for word, count in wanted.items() if word not in said)
    return hits / (hits + missed) if hits else 0.0


def closed(prediction: str, target: str) -> bool:
    """LLaVA-Med's accuracy of closed answers: "yes" or "no" is somewhere in the prediction, and so is the target."""
    said = _vqa_normal(prediction)
    return ("yes" in said or "no" in said) and _vqa_normal(target) in said


def soft_vqa(prediction: str, answers: tuple[str, ...]) -> float:
    """A-OKVQA's direct answer accuracy (Schwenk et al., 2022): a third for each annotator of the same letters, at most 1."""
    return min(1.0, answers.count(prediction) / 3)


def equivalent(prediction: str, target: str) -> bool:
    """MathVerse's free form has GPT-4 as its judge (Zhang et al., 2024); here math-verify with its own defaults stands in."""
    from math_verify import parse, verify

    return verify(parse(target if "$" in target else f"${target}$"), parse(prediction if "$" in prediction else f"${prediction}$"))


def reference(prediction: str, sample: Sample) -> bool:
    """The reference code's reward for the answer, after SPEC section 6: relaxed accuracy at a tolerance of 0; any of ten for A-OKVQA."""
    if sample.answers:
        return prediction.lower().strip() in {answer.lower().strip() for answer in sample.answers}
    return relaxed(prediction.strip(), sample.answer, 0.0)


TASKS: dict[str, tuple[str, dict[str, Any], Callable[[str, Sample], Outcome]]] = {
    "chartqa": ("chartqa", {}, lambda p, s: relaxed(p, s.answer)),
    "gsm8k": ("gsm8k", {"rationale": ""}, lambda p, s: gsm8k(p, s.answer)),
    "tabmwp": ("tabmwp", {"ans_type": "decimal_number"}, lambda p, s: tabmwp(p, s.answer, s.unit)),
    "tabmwp text": ("tabmwp", {"ans_type": "extractive_text"}, lambda p, s: tabmwp(p, s.answer, s.unit)),
    "closed": ("vqa_rad", {"answer_type": "CLOSED"}, lambda p, s: closed(p, s.answer)),
    "open": ("vqa_rad", {"answer_type": "OPEN"}, lambda p, s: open_recall(p, s.answer)),
    "a-okvqa": ("aokvqa", {}, lambda p, s: soft_vqa(p, s.answers)),
    "choice": ("geometry", {"question_type": "multi-choice"}, lambda p, s: p == s.answer),
    "pictured": ("jsonl", {"answer_kind": "letter"}, lambda p, s: p == s.answer),
    "mathverse": ("geometry", {"question_type": "free-form"}, lambda p, s: equivalent(p, s.answer)),
    "list": ("jsonl", {"answer_kind": "list"}, lambda p, s: None),
}
"""Task as the table names it -> the task that loads it, what its row says of its answers, published metric."""


def sample_of(pair: Pair) -> Sample:
    """The row's target with what is given, as its task loads it: so the table's kinds are the tasks' own.

    Given are a unit, choices ("A: 10 cm; B: 12 cm") or annotators' answers ("6 dog; 4 cat").
    """
    task, row, _ = TASKS[pair.task]
    parts = [part.strip() for part in pair.given.split(";") if part.strip()]
    given: dict[str, Any] = {}
    if pair.task == "a-okvqa":
        given = {"direct_answers": [part.split(" ", 1)[1] for part in parts for _ in range(int(part.split(" ", 1)[0]))]}
    elif pair.given:
        given = {"choices": parts} if pair.task == "choice" else {"unit": pair.given}
    published = LOADED[task].published
    assert published is not None
    full = {"question": "?", "image": "0.png", "answer": pair.target} | row | given
    sample = loaded(published.normalise(full, "here", TaskConfig(name=task)), Path(), "here", "0")
    assert sample.answer == pair.target, f"{pair.task} loads {pair.target!r} as {sample.answer!r}"
    return sample


def verdicts(pair: Pair) -> tuple[str, str, str]:
    """(ours, published, reference) as the table writes them."""
    task, _, metric = TASKS[pair.task]
    sample = sample_of(pair)
    ours = judge(pair.prediction, sample, tolerance=LOADED[task].tolerance if sample.answer_kind == "auto" else 0.0)
    return _ours(ours, sample), _outcome(metric(pair.prediction, sample)), _outcome(reference(pair.prediction, sample))


def _ours(judged: Judgement, sample: Sample) -> str:
    verdict = "right" if judged.correct else "wrong"
    return f"{verdict}, {judged.score:.2f}" if sample.answer_kind in ("open", "vqa") or judged.score != judged.correct else verdict


def _outcome(outcome: Outcome) -> str:
    if outcome is None:
        return "-"
    return ("right" if outcome else "wrong") if isinstance(outcome, bool) else f"{outcome:.2f}"


def pairs(text: str) -> dict[int, tuple[Pair, list[str]]]:
    """The table's rows by line number: the pair and all cells."""
    found = {}
    for number, line in enumerate(text.split("\n")):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] in TASKS and len(cells) == 8:
            given, target, prediction = (_code(cell) for cell in cells[1:4])
            found[number] = Pair(cells[0], given, target, prediction), cells
    return found


def _code(cell: str) -> str:
    return cell.strip("`")


def fill(text: str) -> str:
    """The document with every verdict computed."""
    lines = text.split("\n")
    for number, (pair, cells) in pairs(text).items():
        lines[number] = "| " + " | ".join([*cells[:4], *verdicts(pair), cells[7]]) + " |"
    return "\n".join(lines)


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(fill(document.read_text(encoding="utf-8")), encoding="utf-8")
