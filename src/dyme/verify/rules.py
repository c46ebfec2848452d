"""From completions to verdicts: parse, compare, weigh (paper, section 3.2 and Eq. 2).

Correct means parsed *and* right. The reference code also takes a right answer without a marker, and lets wrong completions earn
more than right ones; here a completion that does not parse is wrong and earns nothing, whatever it contains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dyme.config import RewardConfig, TaskConfig
from dyme.errors import DataError
from dyme.types import Completion, Group, Judgement, Sample, Verdict
from dyme.verify import worker
from dyme.verify.answers import fault, judge
from dyme.verify.format import parse
from dyme.verify.thinking import fact_f1, token_f1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What counts as right, in training and evaluation alike."""

    marker: str
    """Separates thinking from the final answer."""
    tolerance: float
    """Relative tolerance of answers of kind auto."""
    reward: RewardConfig
    """Weights and gates of the shaped reward."""
    other_tolerance: float = 0.0
    """Relative tolerance of answers of kinds number, list and math."""

    def judge(self, answer: str, sample: Sample) -> Judgement:
        """Whether `answer` is right, by the tolerance of its kind."""
        return judge(answer, sample, tolerance=self.tolerance if sample.answer_kind == "auto" else self.other_tolerance)


def verify(completion: Completion, sample: Sample, rules: Rules) -> Verdict:
    """The verdict on one completion of `sample`; a completion that was cut off does not parse, even if an answer is there."""
    found = parse(completion.text, marker=rules.marker, min_thinking_words=rules.reward.min_thinking_words)
    parsed = found.formatted and completion.finished
    answer = found.answer if parsed else None
    judgement = Judgement(False, 0.0) if answer is None else rules.judge(answer, sample)
    correct = judgement.correct
    counts = correct if rules.reward.thinking_gate == "correct" else parsed
    rewards = {
        "accuracy": float(correct),
        "format": float(parsed),
        "thinking": _thinking_reward(found.thinking, sample, rules.reward) if counts else 0.0,
    }
    wrong = "" if correct else judgement.reason or "wrong answer"
    return Verdict(
        parsed=parsed,
        correct=correct,
        answer=answer,
        thinking=found.thinking,
        rewards=rewards,
        reward=_weighted(rewards, rules.reward),
        score=judgement.score,
        reason=(found.reason or wrong) if completion.finished else "cut off",
    )


def verify_group(group: Group, rules: Rules) -> Group:
    """`group` with one verdict per completion, in their order."""
    return replace(group, verdicts=tuple(verify(completion, group.sample, rules) for completion in group.completions))


def judge_direct(text: str, sample: Sample, rules: Rules) -> Judgement:
    """The judgement on `text`, an answer given without thinking; it may open with the marker."""
    return rules.judge(text.strip().removeprefix(rules.marker), sample)


def _thinking_reward(thinking: str, sample: Sample, reward: RewardConfig) -> float:
    """r_t in [0, 1]: F1 against the facts or the reference trace; 0 for a sample that has neither."""
    if reward.thinking_against == "facts" and sample.facts:
        return fact_f1(thinking, sample.facts)
    return token_f1(thinking, sample.rationale) if sample.rationale else 0.0


def with_thinking(verdict: Verdict, score: float | None, reward: RewardConfig) -> Verdict:
    """`verdict` with a checker's score as its thinking reward; None takes that part out."""
    rewards = {name: value for name, value in verdict.rewards.items() if name != "thinking"}
    rewards |= {} if score is None else {"thinking": score}
    return replace(verdict, rewards=rewards, reward=_weighted(rewards, reward))


def check_answers(samples: Iterable[Sample], marker: str = TaskConfig.marker) -> None:
    """Raise DataError, naming the row, unless every sample's answer can be judged, is right by its own kind and can be given.

    It can be given if it parses behind `marker`, as the target has it. ConfigError if there are math answers and math-verify is not
    installed. To be called before anything long.
    """
    ready = False
    for sample in samples:
        if sample.answer_kind == "math" and not ready:
            worker.check_installed()
            ready = True
        if trouble := fault(sample) or _unwritable(sample, marker):
            raise DataError(f"row {sample.id}: {trouble}")


def _unwritable(sample: Sample, marker: str) -> str:
    """Why the format never lets the sample's answer be right, and what to do about it; "" if it does."""
    reason = parse(f"{marker} {sample.answer}", marker=marker, min_thinking_words=0).reason if marker else ""
    if not reason:
        return ""
    return (
        f"answer {sample.answer!r} cannot be given after {marker!r} ({reason}); write it on one line, in words or signs, without the marker"
    )


def _weighted(rewards: dict[str, float], reward: RewardConfig) -> float:
    """r of Eq. 2 with the format reward of the reference code."""
    return (
        reward.accuracy_weight * rewards["accuracy"]
        + reward.thinking_weight * rewards.get("thinking", 0.0)
        + reward.format_weight * rewards["format"]
    )
