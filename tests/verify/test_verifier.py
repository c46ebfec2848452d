"""A verifier of one's own decides what is correct, in training and in direct answers; where it fails, nothing is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from dyme import plugins
from dyme.config import Config, RewardConfig
from dyme.errors import ConfigError, DataError
from dyme.evaluation.items import Plan, fingerprint
from dyme.methods import Context
from dyme.publishing import card
from dyme.tasks.rules import rules_of
from dyme.tracking.metrics import completion_figures
from dyme.training.draw import Sampler
from dyme.types import Completion, Group, Judgement, Sample
from dyme.verify.rewards import Rewards
from dyme.verify.rules import check_answers, judge_direct, verify, verify_group
from dyme.verify.verifier import OwnVerifier

HERE = Path(__file__).name
SAMPLE = Sample(id="rows:7", question="How many?", answer="7", rationale="I see seven.")


def own(function: Callable[..., Any], seconds: float = 5.0) -> OwnVerifier:
    return OwnVerifier("task.verifier mine.py:judge", function, seconds)


@pytest.mark.parametrize(
    ("value", "correct", "score"),
    [
        (True, True, 1.0), (False, False, 0.0), (0.5, True, 0.5), (0.49, False, 0.49), (1, True, 1.0), (numpy.bool_(True), True, 1.0),
        (numpy.float32(0.25), False, 0.25), (Judgement(True, 0.25), True, 0.25), (Judgement(False, 0.9, "odd"), False, 0.9),
    ],
)  # fmt: skip
def test_what_it_may_return(value: Any, correct: bool, score: float) -> None:
    found = own(lambda prediction, sample: value).judge("7", SAMPLE)
    assert (found.correct, found.score, found.failed) == (correct, score, False)
    assert found.reason == getattr(value, "reason", "")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, s: None, "returned None, which is no finite number"), (lambda p, s: "yes", "returned 'yes', which is no finite number"),
        (lambda p, s: 1.5, "returned 1.5, which is not in [0, 1]"), (lambda p, s: -1, "returned -1, which is not in [0, 1]"),
        (lambda p, s: float("nan"), "no finite number"), (lambda p, s: int(p), "ValueError: invalid literal for int"),
        (lambda p, s: time.sleep(60), "no answer within 0.2 s"), (lambda p, s: Judgement(True, 2.0), "not in [0, 1]"),
    ],
)  # fmt: skip
def test_what_it_may_not(function: Callable[..., Any], words: str) -> None:
    found = own(function, 0.2).judge("seven", SAMPLE)
    assert (found.correct, found.score, found.failed) == (False, 0.0, True)
    assert found.reason.startswith(f"the verifier failed: {HERE}, line {function.__code__.co_firstlineno}: ") and words in found.reason


def test_it_decides_verdicts_and_direct_answers() -> None:
    with plugins.given(Config(), verifier=lambda prediction, sample: prediction == "seven") as config:
        rules = rules_of(config)
    seven, digit = (verify(Completion(text=f"I see it all Answer: {text}", token_ids=(1,)), SAMPLE, rules) for text in ("seven", "7"))
    assert (seven.correct, seven.rewards["accuracy"], digit.correct, digit.rewards["accuracy"]) == (True, 1.0, False, 0.0)
    assert judge_direct("Answer: seven", SAMPLE, rules).correct is False, "the marker alone is taken away"
    assert judge_direct("Answer:seven", SAMPLE, rules).correct and not judge_direct("", SAMPLE, rules).correct


def test_rows_are_held_to_it_before_training() -> None:
    rows = [replace(SAMPLE, id=str(k), answer=str(k), answer_kind="choice") for k in range(3)]  # no choices: its own kind does not count
    check_answers(rows, verifier=own(lambda p, s: p == s.answer))
    with pytest.raises(
        DataError, match=r"^row 1: answer '1' is not right by task.verifier mine.py:judge; correct the row or the verifier$"
    ):
        check_answers(rows, verifier=own(lambda p, s: p == s.answer and p != "1"))
    with pytest.raises(
        DataError, match=rf"^row 0: answer '0' is not right by .* \(the verifier failed: {HERE}, line \d+: ZeroDivisionError"
    ):
        check_answers(rows, verifier=own(lambda p, s: 1 / 0))
    with pytest.raises(ConfigError, match=r"says that every answer is right, even '1' to row 0, whose answer is '0'"):
        check_answers(rows, verifier=own(lambda p, s: True))
    check_answers([SAMPLE, SAMPLE], verifier=own(lambda p, s: True))  # nothing to tell apart


def test_a_group_it_failed_on_is_skipped_and_counted() -> None:
    with plugins.given(Config(), verifier=lambda prediction, sample: float(prediction) == 7) as config:
        rules = rules_of(config)
        texts = ("I see it all Answer: 7", "I see it all Answer: seven", "no marker")
        group = verify_group(Group(sample=SAMPLE, completions=tuple(Completion(text=t, token_ids=(1,)) for t in texts)), rules)
        assert [v.failed for v in group.verdicts] == [False, True, False] and not group.judged
        rewards = Rewards(config.reward)
        sampler: Any = SimpleNamespace(mind=SimpleNamespace(method=None), _contexts=lambda context, count: [context] * count)
        [route] = Sampler._routes(sampler, [group], None, Context(config=config, settings=None, batch=(group.verdicts,)))  # type: ignore[arg-type]
        assert (route.mode, route.branches, route.reason) == ("skip", (), "the verifier failed"), "no method is asked"
        assert completion_figures([group])["verifier_failures"] == 1.0
        assert "verifier_failures" not in completion_figures(
            [replace(group, verdicts=group.verdicts[:1], completions=group.completions[:1])]
        )
        said: list[str] = []
        rewards.tell([group], said.append)
        assert said[0].startswith(f"verifier: the verifier failed: {HERE}, line ") and "the group is skipped" in said[0]
        assert rewards.asked([group])["task.verifier"].calls == 2, "what did not parse was not asked about"


def test_no_reward_is_asked_for_a_group_without_verdicts() -> None:
    asked: list[str] = []
    with plugins.given(Config(reward=RewardConfig()), rewards={"seen": lambda c, s, v: asked.append(s.id) or 1.0}) as config:
        rules = replace(rules_of(config), verifier=own(lambda p, s: 1 / 0))
        group = verify_group(Group(sample=SAMPLE, completions=(Completion(text="I see it all Answer: 7", token_ids=(1,)),)), rules)
        assert Rewards(config.reward).earn([group]) == [group] and asked == []


def test_wrong_functions_are_refused_in_one_line() -> None:
    with (
        plugins.given(Config(), verifier=lambda prediction: True) as config,
        pytest.raises(
            ConfigError,
            match=rf"^task.verifier: <lambda> \({HERE}, line \d+\) cannot be called as a function \(prediction, sample\) is: too many",
        ),
    ):
        rules_of(config)


def test_an_evaluation_depends_on_the_verifiers_file_and_a_card_shows_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def judge(prediction, sample):\n    return prediction == sample.answer\n")
    config = replace(Config(), task=replace(Config().task, verifier=f"{file}:judge", name=f"{file}:TASK"))
    config = replace(config, reward=replace(config.reward, functions=(f"{file}:judge",)))
    before = fingerprint(config, "model", [SAMPLE], "test", Plan())
    file.write_text("def judge(prediction, sample):\n    return False\n")
    changed = fingerprint(config, "model", [SAMPLE], "test", Plan())
    assert before["code"] != changed["code"] and {**before, "code": 0} == {**changed, "code": 0}
    assert "code" not in fingerprint(Config(), "model", [SAMPLE], "test", Plan())
    shown = card._settings(config)
    assert str(tmp_path) not in shown and 'functions = ["mine.py:judge"]' in shown and 'name = "mine.py:TASK"' in shown
