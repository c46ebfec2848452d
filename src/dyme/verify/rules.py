"""From completions to verdicts: parse, compare, weigh (paper, section 3.2 and Eq. 2).

Correct means parsed *and* right. The reference code also takes a right answer without a marker, and lets wrong completions earn
more than right ones; here a completion that does not parse is wrong and earns nothing, whatever it contains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dyme.config import RewardConfig, TaskConfig
from dyme.errors import ConfigError, DataError, quoted
from dyme.types import Completion, Group, Judgement, Sample, Verdict
from dyme.verify import worker
from dyme.verify.answers import fault, judge
from dyme.verify.format import parse
from dyme.verify.thinking import fact_f1, token_f1
from dyme.verify.verifier import OwnVerifier

SWAPPED = 200
"""Number of answers that are tried on a sample with another answer, to check that a user's verifier can refuse an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules by which completions are judged, the same in training and evaluation."""

    marker: str
    """Separates thinking from the final answer."""
    tolerance: float
    """Relative tolerance of answers of kind auto."""
    reward: RewardConfig
    """Weights and gates of the shaped reward."""
    other_tolerance: float = 0.0
    """Relative tolerance of answers of kinds number, list and math."""
    verifier: OwnVerifier | None = None
    """Verifier of the user or the task, in place of that of the sample's answer kind."""

    def judge(self, answer: str, sample: Sample) -> Judgement:
        """Return the judgement on `answer`, by the user's verifier, or by the verifier of its kind with its tolerance."""
        if self.verifier is not None:
            return self.verifier.judge(answer, sample)
        return judge(answer, sample, tolerance=self.tolerance if sample.answer_kind == "auto" else self.other_tolerance)


def verify(completion: Completion, sample: Sample, rules: Rules) -> Verdict:
    """Return the verdict on one completion of `sample`; a completion that was cut off does not parse, even if it has an answer."""
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
        reward=weighted(rewards, rules.reward),
        score=judgement.score,
        failed=judgement.failed,
        reason=(found.reason or wrong) if completion.finished else "cut off",
    )


def verify_group(group: Group, rules: Rules) -> Group:
    """Return `group` with one verdict per completion, in their order."""
    return replace(group, verdicts=tuple(verify(completion, group.sample, rules) for completion in group.completions))


def judge_direct(text: str, sample: Sample, rules: Rules) -> Judgement:
    """Return the judgement on `text`, an answer given without thinking; it may open with the marker."""
    return rules.judge(text.strip().removeprefix(rules.marker), sample)


def _thinking_reward(thinking: str, sample: Sample, reward: RewardConfig) -> float:
    """Return r_t in [0, 1]: F1 against the facts or the reference trace; 0 for a sample that has neither."""
    if reward.thinking_against == "facts" and sample.facts:
        return fact_f1(thinking, sample.facts)
    return token_f1(thinking, sample.rationale) if sample.rationale else 0.0


def with_thinking(verdict: Verdict, score: float | None, reward: RewardConfig) -> Verdict:
    """Return `verdict` with a checker's score as its thinking reward; None removes that part."""
    rewards = {name: value for name, value in verdict.rewards.items() if name != "thinking"}
    rewards |= {} if score is None else {"thinking": score}
    return replace(verdict, rewards=rewards, reward=weighted(rewards, reward))


def check_answers(samples: Sequence[Sample], marker: str = TaskConfig.marker, verifier: OwnVerifier | None = None) -> None:
    """Raise DataError, naming the row, unless every sample's answer can be judged, is right by its kind and can be given.

    An answer can be given if it parses after `marker`, as in the target. A user's `verifier` must accept each answer instead, and refuse
    some answer for a sample with another one. Raises ConfigError if it does not refuse any, and for math answers without math-verify.
    To be called before any long work.
    """
    ready = False
    for sample in samples:
        if verifier is None and sample.answer_kind == "math" and not ready:
            worker.check_installed()
            ready = True
        if trouble := (fault(sample) if verifier is None else _refused(sample, verifier)) or _unwritable(sample, marker):
            raise DataError(f"row {sample.id}: {trouble}")
    if verifier is not None:
        _check_says_no(samples, verifier)


def _refused(sample: Sample, verifier: OwnVerifier) -> str:
    """Return why a user's verifier does not accept a sample's gold answer; "" if it does."""
    judgement = verifier.judge(sample.answer, sample)
    if judgement.correct:
        return ""
    why = f" ({judgement.reason})" if judgement.reason else ""
    return f"answer {quoted(sample.answer)} is not right by {verifier.name}{why}; correct the row or the verifier"


def _check_says_no(samples: Sequence[Sample], verifier: OwnVerifier) -> None:
    """Raise ConfigError for a verifier that accepts every answer for every sample."""
    answers = list(dict.fromkeys(sample.answer for sample in samples))
    following = dict(zip(answers, [*answers[1:], *answers[:1]], strict=True))
    others = [(sample, other) for sample in samples if (other := following[sample.answer]) != sample.answer][:SWAPPED]
    if others and all(verifier.judge(other, sample).correct for sample, other in others):
        sample, other = others[0]
        raise ConfigError(
            f"{verifier.name} says that every answer is right, even {quoted(other)} to row {sample.id}, whose answer is "
            f"{quoted(sample.answer)}; it must return False for a wrong one"
        )


def _unwritable(sample: Sample, marker: str) -> str:
    """Return why no completion in the format can give the sample's answer, and what to do about it; "" if one can."""
    reason = parse(f"{marker} {sample.answer}", marker=marker, min_thinking_words=0).reason if marker else ""
    if not reason:
        return ""
    return (
        f"answer {sample.answer!r} cannot be given after {marker!r} ({reason}); write it on one line, in words or signs, without the marker"
    )


def weighted(rewards: Mapping[str, float], reward: RewardConfig) -> float:
    """Return r of Eq. 2 with the format reward of the reference code, and the user's rewards where they count."""
    total = (
        reward.accuracy_weight * rewards["accuracy"]
        + reward.thinking_weight * rewards.get("thinking", 0.0)
        + reward.format_weight * rewards["format"]
    )
    for name, weight in reward.own.items():
        if name in rewards:
            total += weight * rewards[name]
    return total
