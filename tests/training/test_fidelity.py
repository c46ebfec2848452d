"""The table of docs/paper.md, where we follow the paper and where not: each of its rows is held here, by its first column."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from routing import route

from dyme.config import Config, MethodConfig, ObjectiveConfig, RewardConfig, TaskConfig
from dyme.methods.advantages import advantages
from dyme.recipe import load_recipe
from dyme.tasks import TASKS
from dyme.tasks.rules import rules_of
from dyme.types import Completion, Group, Route, Sample, Verdict
from dyme.verify.rules import judge_direct, verify

ROOT = Path(__file__).parents[2]
SAMPLE = Sample(id="a", question="How many?", answer="14", rationale="Nine and five make 14.")


def verdict(text: str, *, finished: bool = True, **settings: object) -> Verdict:
    config = Config(reward=RewardConfig(**settings))  # type: ignore[arg-type]
    return verify(Completion(text=text, token_ids=(1,), finished=finished), SAMPLE, rules_of(config))


def routed(*right: bool, **method: object) -> Route:
    config = Config(method=MethodConfig(settings=method))
    verdicts = tuple(Verdict(parsed=True, correct=c, answer="", thinking="", reward=c + k / 9) for k, c in enumerate(right))
    group = Group(sample=SAMPLE, completions=tuple(Completion(text="", token_ids=(1,)) for _ in right), verdicts=verdicts)
    return route(group, config)


def correct_means() -> None:
    assert verdict("Nine and five make 14. Answer: 14").correct
    for text in ("14", "Nine and five make 14.", "Nine and five make 14. Answer: 14 Answer: 14"):
        assert not verdict(text).correct and not verdict(text).reward, "right, and does not parse"
    assert not verdict("Nine and five make 14. Answer: 14", finished=False).correct


def weight_of_the_memorize_term() -> None:
    """Gradients and the table of weights: test_invariances.py, test_objective.py."""
    for weight, value in (("paper", 1.0), ("code", 1 / 8), (0.5, 0.5)):
        assert routed(False, False, memorize_weight=weight).branches[0].weight == value
    assert routed(False, False).branches[0].weight == 1
    recipes = {name: load_recipe(name).method.settings["memorize_weight"] for name in ("charts-dyme", "full-dyme")}
    assert recipes == {"charts-dyme": "code", "full-dyme": "paper"}


def all_correct_group() -> None:
    assert routed(True, True).mode == "skip"
    assert routed(True, True, all_correct="explore").mode == "explore"


def prompts_that_a_term_is_averaged_over() -> None:
    assert ObjectiveConfig().normalize == "all"


def standard_deviation() -> None:
    eps = 1e-4
    assert advantages([1.0, 0.0], ObjectiveConfig()) == pytest.approx([0.5 / (0.5 + eps), -0.5 / (0.5 + eps)])
    assert advantages([1.0, 0.0], ObjectiveConfig(std="sample"))[0] == pytest.approx(0.5 / (0.5**0.5 + eps))


def thinking_reward_of_a_wrong_completion() -> None:
    wrong, unparsed = "Nine and five make 14. Answer: 15", "Nine and five make 14."
    assert verdict(wrong).rewards["thinking"] > 0 and verdict(unparsed).rewards["thinking"] == 0
    assert verdict(wrong, thinking_gate="correct").rewards["thinking"] == 0


def answer_tolerance() -> None:
    """What trains and what evaluates, with thinking or without, is one set of rules."""
    for name, task in TASKS.items():
        for config in (Config(task=TaskConfig(name=name)), Config(task=TaskConfig(name=name, tolerance=0.02))):
            rules = rules_of(config)
            assert rules.tolerance == (task.tolerance if config.task.tolerance is None else 0.02)
    loose, strict = (rules_of(Config(task=TaskConfig(tolerance=t))) for t in (0.1, 0.0))
    completion = Completion(text="Nine and five make 14. Answer: 15", token_ids=(1,))
    for rules, right in ((loose, True), (strict, False)):
        assert verify(completion, SAMPLE, rules).correct == judge_direct("15", SAMPLE, rules).correct == right


def shortest_thinking() -> None:
    assert not verdict("Answer: 14").parsed and not verdict("It is Answer: 14").parsed
    assert verdict("It is so. Answer: 14").parsed and verdict("Answer: 14", min_thinking_words=0).parsed


HELD: dict[str, Callable[[], None]] = {
    "correct means": correct_means,
    "weight of the memorize term": weight_of_the_memorize_term,
    "all-correct group": all_correct_group,
    "prompts that a term is averaged over": prompts_that_a_term_is_averaged_over,
    "standard deviation": standard_deviation,
    "thinking reward of a wrong completion": thinking_reward_of_a_wrong_completion,
    "answer tolerance": answer_tolerance,
    "shortest thinking": shortest_thinking,
}


@pytest.mark.parametrize("row", HELD)
def test_a_row_of_the_table(row: str) -> None:
    HELD[row]()


def test_every_row_is_held() -> None:
    table = (ROOT / "docs/paper.md").read_text(encoding="utf-8").partition("| point | paper | reference code | here |")[2]
    rows = re.findall(r"^\| ([^|-][^|]*) \|", table, re.MULTILINE)
    assert rows == list(HELD)
