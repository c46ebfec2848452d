"""The policy as a refiner: what it is asked, which of its texts become targets, what happens to the others, and flipped grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from routing import asked

from dyme.checks import check_config
from dyme.config import Config
from dyme.errors import ConfigError, RunError
from dyme.recipe import build
from dyme.supervise import flips
from dyme.supervise.build import build_supervisor, check_helpers
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.self_refiner import Asked, SelfRefiner
from dyme.supervise.supervisor import Supervisor
from dyme.tasks.rules import rules_of
from dyme.tracking.metrics import figures
from dyme.types import Assessment, Completion, Fact, Group, Route, Sample
from dyme.verify.rules import verify_group

FACTS = (Fact("fig", "82"), Fact("oat", "13"), Fact("ham", "47"))
SAMPLE = Sample(id="s", question="How much larger is fig than oat?", answer="69", facts=FACTS, rationale="I see fig at 80", kind="diff")
GOOD, BARE = "I see fig at 82 and oat at 13. Then 82 - 13 = 69.", "82 - 13 = 69."


def config(**supervision: Any) -> Config:
    return build({"supervision": {"refiner": "self", **supervision}})


def grouped(*texts: str, of: Config, sample: Sample = SAMPLE) -> tuple[Group, Route]:
    group = Group(sample=sample, completions=tuple(Completion(text=t, token_ids=(1,)) for t in texts))
    group = verify_group(group, rules_of(of))
    return group, asked(group, of)


class Pen:
    """Writes the given drafts for every prompt, and remembers what it was asked."""

    def __init__(self, *texts: str, finished: bool = True) -> None:
        self.texts = [Completion(text=text, token_ids=(1,) * len(text.split()), finished=finished) for text in texts]
        self.asked: list[Asked] = []

    def __call__(self, asked: Sequence[Asked], step: int) -> list[list[Completion]]:
        self.asked += asked
        return [self.texts for _ in asked]


def supervised(supervisor: Supervisor, pen: Pen, *groups: tuple[Group, Route], step: int = 0) -> list[Group]:
    routes = [route for _, route in groups]
    drafted = supervisor.drafted([group for group, _ in groups], routes, step, pen)
    return supervisor.finish(supervisor.start(drafted, routes, step))


def written(of: Config, pen: Pen, sample: Sample = SAMPLE) -> Group:
    with build_supervisor(of, Path(), print) as supervisor:
        [group] = supervised(supervisor, pen, grouped("no", "no", of=of, sample=sample))
    return group


def test_the_best_graded_draft_is_the_target() -> None:
    group = written(config(), Pen("82. Answer: 70", f"{BARE} Answer: 69", f"{GOOD} Answer: 69"))
    assert group.target == GOOD and not group.trouble
    assert [draft.fault for draft in group.drafts] == ["format", "", ""]
    assert figures([group]) == {
        "checked_groups": 0, "refined_targets": 1, "helper_failures": 0, "self_asked": 1, "self_accepted": 1, "self_reused": 0,
        "self_drafts": 3, "self_tokens": 27, "self_refused/format": 1, "self_refused/answer": 0, "self_refused/thinking": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault", "reason"),
    [
        (GOOD, "format", "no marker"),
        ("Answer: 69", "format", "thinking too short"),
        (f"{GOOD} Answer: 70", "answer", "wrong answer"),
        ("I see fig at 85 and oat at 13. Then 82 - 13 = 69. Answer: 69", "thinking", "says of fig what the facts do not"),
        ("I see fig at 82 and oat at 13. Then 82 - 13 = 68. Answer: 69", "thinking", "has a step that does not hold"),
        ("fig 82, oat 13, ham 47. So 69. Answer: 69", "thinking", "states facts but no step that leads to the answer"),
        (f"<|im_start|> {GOOD} Answer: 69", "format", "the thinking holds '<|im_start|>', a special token or part of a fence"),
        (f"answer: {GOOD} Answer: 69", "format", "the thinking holds the answer marker 'Answer:'"),
    ],
)
def test_what_is_refused_gives_way_to_the_local_refiner(text: str, fault: str, reason: str) -> None:
    group = written(config(), Pen(text))
    [draft] = group.drafts
    assert (draft.fault, draft.reason, draft.text) == (fault, reason, text)
    assert group.target == "Observation: fig 82, oat 13, ham 47. Reasoning: fig 82, oat 13, 82 - 13 = 69."
    assert group.trouble.startswith("the policy wrote no target: 1 ")
    found = figures([group])
    assert (found["self_accepted"], found[f"self_refused/{fault}"], found["refined_targets"], found["helper_failures"]) == (0, 1, 1, 1)


def test_a_draft_that_was_cut_off_is_no_target() -> None:
    assert written(config(), Pen(f"{GOOD} Answer: 69", finished=False)).drafts[0].reason == "cut off"


def test_where_the_local_refiner_has_nothing_either_the_row_speaks() -> None:
    bare = Sample(id="bare", question="Colour?", answer="red")
    group = written(config(), Pen("It is red. Answer: red"), bare)
    assert group.target is None and group.trouble.startswith(
        "the policy wrote no target: 1 with thinking that the local checker refuses; bare"
    )
    assert figures([group])["refined_targets"] == 0


def test_only_prompts_that_train_on_the_target_are_asked_about_all_at_once() -> None:
    of, pen = config(), Pen(f"{GOOD} Answer: 69")
    right = f"{GOOD} Answer: 69"
    groups = [grouped(*texts, of=of) for texts in ((right, "no"), ("no", "no"), (right, right))]
    other = grouped("no", "no", of=of, sample=replace(SAMPLE, id="t"))
    with build_supervisor(of, Path(), print) as supervisor:
        found = supervised(supervisor, pen, *groups, other)
    assert [sample.id for sample, _ in pen.asked] == ["s", "t"]
    assert [group.target for group in found] == [None, GOOD, None, GOOD] and found[0] == groups[0][0]


@pytest.mark.parametrize("reuse", [True, False])
def test_an_accepted_target_is_used_again(reuse: bool) -> None:
    of, pen = config(self_reuse=reuse), Pen(f"{BARE} Answer: 69", f"{GOOD} Answer: 69")
    with build_supervisor(of, Path(), print) as supervisor:
        first = supervised(supervisor, pen, grouped("no", "no", of=of))
        supervisor.learn(first)
        pen.texts = []
        [again] = supervised(supervisor, pen, grouped("no", "no", of=of), step=1)
        held = supervisor.kept["targets"].state()
    assert held == ({"s": GOOD} if reuse else {}) and len(pen.asked) == (1 if reuse else 2)
    assert (again.target == GOOD) is reuse and figures([again]).get("self_reused", 0) == reuse
    fresh = SelfRefiner(of)
    fresh.restore(held)
    assert fresh.state() == held
    with pytest.raises(RunError, match="targets"):
        fresh.restore([1])  # type: ignore[arg-type]


def test_the_prompt_holds_facts_answer_and_instruction() -> None:
    sample, opening = SelfRefiner(config()).asked(SAMPLE)
    assert sample.question == f"{SAMPLE.question} {Config().task.think_prompt}" and sample.id == "s"
    assert opening == f"Observation: fig 82, oat 13, ham 47. Answer: 69. {SAMPLE.question}"
    own = SelfRefiner(config(self_prompt="{facts} {question} It is {answer}. {think}\n"))
    tricky = replace(SAMPLE, question="Is {answer} it?", prompt="raw")
    sample, opening = own.asked(tricky)
    assert sample.question == f"fig 82, oat 13, ham 47. Is {{answer}} it? It is 69. {Config().task.think_prompt}"
    assert (opening, sample.prompt) == ("", None)
    told = own.asked(replace(SAMPLE, question=f"fig 82, oat 13, ham 47.\n{SAMPLE.question}"))[0]
    assert told.question.count("fig 82") == 1


@pytest.mark.parametrize("text", ["{facts} {answer}", "{question}\n---\n{facts}\n---\n{answer}"])
def test_a_prompt_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="supervision.self_prompt must hold"):
        check_helpers(config(self_prompt=text))


# Grades that are wrong on purpose


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_grades_are_flipped_at_the_rate_and_alike_everywhere(rate: float) -> None:
    of = build({"supervision": {"checker": "local", "flip": rate}})
    traces = [f"trace {k}" for k in range(2000)]
    fair = [Assessment(level="high", score=0.9, reason="good"), Assessment(level="medium", score=0.6)] * 1000
    found = flips.flipped(fair, SAMPLE, traces, of)
    assert sum(one.flipped for one in found) / 2000 == pytest.approx(rate, abs=0.03)
    turned = {(one.level, one.score) for one in found if one.flipped}
    assert turned == (set() if not rate else {("low", 0.1), ("medium", 0.4)})
    assert [one for one in found if not one.flipped] == [a for a, b in zip(fair, found, strict=True) if not b.flipped]
    backwards = flips.flipped(fair[::-1], SAMPLE, traces[::-1], of)[::-1]
    assert backwards == found, "neither the order nor the company of a trace counts"
    other = flips.flipped(fair, SAMPLE, traces, build({"supervision": {"checker": "local", "flip": rate}, "run": {"seed": 1}}))
    assert (other != found) is bool(rate)


def test_flipped_grades_are_the_reward_and_are_counted_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    of, notes = build({"supervision": {"checker": "local", "flip": 0.5}}), list[str]()
    texts = [f"{GOOD} Answer: 69", *(f"fig 82, oat {k}, 82 - 13 = 69. Answer: 69" for k in range(10, 20)), "no"]
    with build_supervisor(of, Path(), notes.append) as supervisor:
        group, route = grouped(*texts, of=of)
        [found] = supervisor.finish(supervisor.start([group], [route], 0))
    assert len(notes) == 1 and notes[0].startswith("FOR STUDIES ONLY: 50% of the checker's grades")
    fair = LocalChecker(marker=of.task.marker).check(SAMPLE, [verdict.thinking for verdict in group.verdicts[:-1]])
    pairs = [(a, b) for a, b in zip(found.assessments, fair, strict=False) if a is not None]
    assert all(a.score == pytest.approx(1 - b.score if a.flipped else b.score) for a, b in pairs)
    assert 0 < sum(a.flipped for a, _ in pairs) < len(pairs)
    assert [v.rewards["thinking"] for v in found.verdicts[:-1]] == [a.score for a, _ in pairs]
    counted = figures([found])
    assert (counted["flipped_grades"], counted["graded_traces"]) == (sum(a.flipped for a, _ in pairs), len(texts) - 1)


@pytest.mark.parametrize("supervision", [{"flip": 0.2}, {"checker": "local", "flip": 0.6}])
def test_a_flip_without_a_checker_or_beyond_a_half_is_refused(supervision: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="flip"):
        check_config(build({"supervision": supervision}))
