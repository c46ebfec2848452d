"""Verdicts by hand. Traps of SPEC sections 2 and 6: bare answers, empty thinking, wrong completions that earn more than right ones."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.config import Config, RewardConfig, TaskConfig
from dyme.errors import ConfigError, DataError
from dyme.tasks.rules import rules_of
from dyme.types import AnswerKind, Completion, Fact, Group, Sample, Verdict
from dyme.verify import worker
from dyme.verify.rules import Rules, check_answers, judge_direct, verify, verify_group

SAMPLE = Sample(
    id="0",
    question="How much larger is fig than oat?",
    answer="69",
    facts=(Fact("fig", "82"), Fact("oat", "13")),
    rationale="fig 82, oat 13. 82 - 13 = 69",
)
GOLD = f"{SAMPLE.rationale}. Answer: 69"


def rules(tolerance: float = 0.0, **reward: Any) -> Rules:
    return Rules(marker="Answer:", tolerance=tolerance, reward=dataclasses.replace(RewardConfig(), **reward))


RULES = rules()


def judge(text: str, rules: Rules = RULES, *, sample: Sample = SAMPLE, finished: bool = True) -> Verdict:
    return verify(Completion(text=text, token_ids=(), finished=finished), sample, rules)


def test_a_gold_completion_earns_everything() -> None:
    assert judge(GOLD) == Verdict(
        parsed=True,
        correct=True,
        answer="69",
        thinking="fig 82, oat 13. 82 - 13 = 69.",
        rewards={"accuracy": 1.0, "format": 1.0, "thinking": 1.0},
        reward=3.0,
        reason="",
        score=1.0,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("69", "no marker"),
        ("fig 82, oat 13. So it is 69", "no marker"),
        ("Answer: 69", "thinking too short"),
        ("fig 82, oat 13 Answer: 69. Answer: 69", "marker repeated"),
        ("fig 82, oat 13 Answer: )", "empty answer"),
        ("fig 82, oat 13 Answer: 69\n70\n71", "answer runs on"),
    ],
)
def test_what_does_not_parse_is_wrong_and_earns_nothing(text: str, reason: str) -> None:
    verdict = judge(text)
    assert (verdict.parsed, verdict.correct, verdict.answer, verdict.reward, verdict.reason) == (False, False, None, 0.0, reason)
    assert set(verdict.rewards.values()) == {0.0}


@pytest.mark.parametrize("end", ["**Answer:** 69", "**Answer: 69**", "Answer: **69**", r"Answer: \boxed{69}", "**Answer:**\n69"])
def test_an_answer_in_bold_or_boxed_is_right(end: str) -> None:
    assert judge(f"fig 82, oat 13.\n\n{end}").correct and not judge(f"fig 82, oat 13.\n\n{end.replace('69', '70')}").correct
    yes = dataclasses.replace(SAMPLE, answer="Yes")
    assert judge(f"fig 82, oat 13.\n\n{end.replace('69', 'Yes')}", sample=yes).correct


def test_a_direct_answer_may_open_with_the_marker_in_bold() -> None:
    for text in ("69", "Answer: 69", "**Answer:** 69", "**69**"):
        assert judge_direct(text, SAMPLE, RULES).correct, text


def test_a_cut_off_completion_is_wrong() -> None:
    verdict = judge(GOLD, finished=False)  # what follows might have been 690
    assert (verdict.parsed, verdict.correct, verdict.answer, verdict.reward, verdict.reason) == (False, False, None, 0.0, "cut off")
    assert judge("fig 82, oat", finished=False).reason == "cut off"


def test_a_wrong_answer_earns_format_and_thinking() -> None:
    verdict = judge("fig 82, oat 13 Answer: 70")
    assert (verdict.parsed, verdict.correct, verdict.answer, verdict.reason) == (True, False, "70", "wrong answer")
    assert verdict.rewards == {"accuracy": 0.0, "format": 1.0, "thinking": 1.0}


def test_the_thinking_gate() -> None:
    gated = rules(thinking_gate="correct")
    assert judge("fig 82, oat 13 Answer: 70", gated).rewards["thinking"] == 0.0
    assert judge(GOLD, gated).rewards["thinking"] == 1.0


def test_what_the_thinking_is_held_against() -> None:
    text = "oat 13, fig 82 and nothing else Answer: 69"
    reference = judge(text, rules(thinking_against="reference")).rewards["thinking"]
    assert judge(text).rewards["thinking"] == 1.0
    assert reference == pytest.approx(2 * 4 / (7 + 7))
    assert judge(text, sample=dataclasses.replace(SAMPLE, facts=())).rewards["thinking"] == reference
    assert judge(text, sample=dataclasses.replace(SAMPLE, facts=(), rationale=None)).rewards["thinking"] == 0.0
    unreferenced = dataclasses.replace(SAMPLE, rationale=None)
    assert judge(text, rules(thinking_against="reference"), sample=unreferenced).rewards["thinking"] == 0.0


def test_weights() -> None:
    weighted = rules(accuracy_weight=4.0, thinking_weight=2.0, format_weight=0.5)
    assert judge("fig 82, oat 12 Answer: 69", weighted).reward == pytest.approx(4 + 2 * 0.5 + 0.5)


@pytest.mark.parametrize(
    ("kind", "target", "prediction"), [("number", "64", "63"), ("math", "64", "63"), ("list", "20, 40", "21, 39"), ("auto", "64", "63")]
)
def test_a_task_s_own_tolerance_is_for_kind_auto_and_a_recipe_s_for_all(kind: AnswerKind, target: str, prediction: str) -> None:
    sample = Sample(id="0", question="", answer=target, answer_kind=kind)
    own, given = rules_of(Config(task=TaskConfig(name="jsonl"))), rules_of(Config(task=TaskConfig(name="jsonl", tolerance=0.05)))
    assert judge_direct(prediction, sample, own).correct is (kind == "auto") and judge_direct(prediction, sample, given).correct


def test_tolerance_is_that_of_the_rules() -> None:
    assert not judge("fig 82, oat 13 Answer: 70").correct
    assert judge("fig 82, oat 13 Answer: 70", rules(0.05)).correct
    assert judge_direct("70", SAMPLE, rules(0.05)).correct
    assert not judge_direct("70", SAMPLE, RULES).correct


def test_text_answers_are_rewarded() -> None:
    sample = dataclasses.replace(SAMPLE, answer="yes")
    for answer in (" yes", "Yes.", '"yes"'):
        assert judge(f"fig 82, oat 13 Answer: {answer}", sample=sample).correct
        assert judge_direct(answer, sample, RULES).correct


@pytest.mark.parametrize(("text", "right"), [("69", True), (" Answer: 69.", True), ("69 Answer:", False), (GOLD, False), ("", False)])
def test_direct_answers(text: str, right: bool) -> None:
    assert judge_direct(text, SAMPLE, RULES).correct is right


def test_a_group_gets_its_verdicts_in_order() -> None:
    completions = tuple(Completion(text=text, token_ids=()) for text in (GOLD, "69", "fig 82, oat 13 Answer: 70"))
    group = Group(sample=SAMPLE, completions=completions)
    verified = verify_group(group, RULES)
    assert (verified.sample, verified.completions, group.verdicts) == (SAMPLE, completions, ())
    assert [(v.parsed, v.correct) for v in verified.verdicts] == [(True, True), (False, False), (True, False)]
    assert verified.solved == 1
    assert verify_group(Group(sample=SAMPLE), RULES).verdicts == ()


def test_a_soft_score_is_the_verdicts() -> None:
    sample = dataclasses.replace(SAMPLE, answer="right upper lobe", answer_kind="open")
    verdict = judge("I look at it Answer: right lobe", sample=sample)
    assert (verdict.correct, verdict.score, verdict.reason, verdict.rewards["accuracy"]) == (
        False,
        pytest.approx(2 / 3),
        "wrong answer",
        0.0,
    )
    assert judge("I look at it Answer: right upper lobe", sample=sample).score == 1.0


def test_a_judgements_reason_is_the_verdicts() -> None:
    sample = dataclasses.replace(SAMPLE, answer_kind="text")
    assert judge(f"I look at it Answer: {'y' * 5000}", sample=sample).reason == "answer too long"


def test_rows_are_checked_before_anything_long(monkeypatch: pytest.MonkeyPatch) -> None:
    check_answers([SAMPLE, dataclasses.replace(SAMPLE, answer_kind="math")])
    with pytest.raises(DataError, match=r"^row b:7: its answers are compared with choices, but it has none"):
        check_answers([SAMPLE, dataclasses.replace(SAMPLE, id="b:7", answer_kind="choice")])
    monkeypatch.setattr(worker.importlib.util, "find_spec", lambda name: None)
    check_answers([SAMPLE])
    with pytest.raises(ConfigError, match=r"pip install 'dyme\[math\]'"):
        check_answers([SAMPLE, dataclasses.replace(SAMPLE, answer_kind="math")])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("a\nb", "answer runs on"), ("Answer: 5", "marker repeated"), ("...", "empty answer"), ("**", "empty answer")],
)
def test_an_answer_that_its_own_format_never_lets_be_right_is_refused(answer: str, reason: str) -> None:
    row = dataclasses.replace(SAMPLE, id="rows.jsonl:7", answer=answer, answer_kind="text")
    with pytest.raises(DataError) as caught:
        check_answers([SAMPLE, row])
    assert str(caught.value).startswith(f"row rows.jsonl:7: answer {answer!r} cannot be given after 'Answer:' ({reason}); ")
    assert "\n" not in str(caught.value)


def test_the_marker_is_the_recipes() -> None:
    row = dataclasses.replace(SAMPLE, answer="Answer: 5")
    check_answers([row], marker="####")
    with pytest.raises(DataError, match="cannot be given after '####'"):
        check_answers([dataclasses.replace(SAMPLE, answer="#### 5")], marker="####")


words = st.lists(st.sampled_from(["Answer:", "69", "70", "fig 82", "oat 13", "82 - 13 = 69", ".", "\n"]), max_size=8).map(" ".join)


@given(words | st.text(), st.booleans(), st.sampled_from(["parsed", "correct"]))
def test_parts_are_bounded_and_right_beats_wrong(text: str, finished: bool, gate: str) -> None:
    verdict = judge(text, rules(thinking_gate=gate), finished=finished)
    assert all(0.0 <= part <= 1.0 for part in verdict.rewards.values())
    assert verdict.reward == pytest.approx(sum(verdict.rewards.values()))
    assert verdict.correct <= verdict.parsed
    assert verdict.parsed or verdict.reward == 0.0
    assert verdict.correct == (verdict.reason == "")
    if verdict.parsed and not verdict.correct:
        put_right = judge(f"{verdict.thinking} Answer: 69", rules(thinking_gate=gate))
        assert put_right.reward > verdict.reward
