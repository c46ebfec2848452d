"""How far the verifier agrees with the tests of other answer checkers: a table, and every answer that only one of them calls right.

    python benchmarks/peers.py [SUITE ...] [--write docs/metrics.md]

A case (`peers/SUITE.jsonl`, one a line) is a prediction, a gold answer and the suite's own verdict (`right`), typed as facts, with the kind
of answer that fits it here (`kind`), its `choices` or its annotators' `answers`, and a `note` where the verdict depends on an option of
the suite's grader. `part` marks the answer of a longer text: to find it there is not the verifier's part. `defended` says why an
answer that the suite calls wrong is right here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dyme.types import AnswerKind, Sample
from dyme.verify.answers import judge

FOLDER = Path(__file__).parent / "peers"
BEGIN, END = "<!-- peers -->", "<!-- end of peers -->"
"""Around the table in a document."""


@dataclass(frozen=True)
class Case:
    """One verdict of a suite."""

    prediction: str
    gold: str
    right: bool
    kind: AnswerKind
    choices: Sequence[str] = ()
    answers: Sequence[str] = ()
    tolerance: float = 0.0
    part: bool = False
    note: str = ""
    defended: str = ""

    @property
    def ours(self) -> bool:
        """The verifier's verdict."""
        sample = Sample(
            id="", question="", answer=self.gold, answer_kind=self.kind, choices=tuple(self.choices), answers=tuple(self.answers)
        )  # fmt: skip
        return judge(self.prediction, sample, tolerance=self.tolerance).correct


@dataclass
class Suite:
    """The cases of one suite, by what the verifier says of them."""

    name: str
    cases: list[Case]
    false_accepts: list[Case] = field(default_factory=list)
    """Right here, wrong there."""
    false_rejects: list[Case] = field(default_factory=list)
    """Wrong here, right there."""

    def __post_init__(self) -> None:
        for case in self.cases:
            if (ours := case.ours) != case.right:
                (self.false_accepts if ours else self.false_rejects).append(case)

    @property
    def agree(self) -> int:
        """Cases with one verdict."""
        return len(self.cases) - len(self.false_accepts) - len(self.false_rejects)


def suites(names: Sequence[str] = ()) -> Iterator[Suite]:
    """The suites of these names, or all, judged."""
    for file in sorted(FOLDER.glob("*.jsonl")):
        if not names or file.stem in names:
            yield Suite(file.stem, [Case(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()])


def table(judged: Sequence[Suite]) -> list[str]:
    """Lines of Markdown: the figures of each suite, and the false accepts with their reasons."""
    figures = [(len(s.cases), s.agree, len(s.false_accepts), len(s.false_rejects)) for s in judged]
    rows = dict(zip([*(s.name for s in judged), "all"], [*figures, tuple(map(sum, zip(*figures, strict=True)))], strict=True))
    lines = ["| suite | cases | agree | false accepts | false rejects |", "|:---|---:|---:|---:|---:|"]
    lines += [f"| {' | '.join([name, *map(str, row)])} |" for name, row in rows.items()]
    lines += ["", "Right here and wrong there:", "", "| suite | gold | prediction | why it is right here |", "|---|---|---|---|"]
    for suite in judged:
        for case in suite.false_accepts:
            cells = (suite.name, _code(case.gold), _code(case.prediction), case.defended or "**not defended**")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _code(text: str) -> str:
    shown = text.replace("\n", "⏎").replace("|", "\\|")
    return f"`{shown}`"


def fill(document: str, lines: Sequence[str]) -> str:
    """`document` with `lines` between the marks."""
    before, _, rest = document.partition(BEGIN)
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{rest.partition(END)[2]}"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="*", help="names of suites (default: all)")
    parser.add_argument("--write", type=Path, help="put the table of all suites into this document")
    args = parser.parse_args(argv)
    judged = list(suites(args.suite))
    print("\n".join(table(judged)))
    print("\nWrong here and right there:")
    for suite in judged:
        for case in suite.false_rejects:
            print(f"  {suite.name} ({case.kind}): {case.gold!r} <- {case.prediction!r} {case.note}")
    if args.write:
        args.write.write_text(fill(args.write.read_text(encoding="utf-8"), table(judged)), encoding="utf-8")


if __name__ == "__main__":
    main()
