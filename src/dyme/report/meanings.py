"""What each figure of a page means, and which way is good, in a sentence: by the names of metrics.jsonl and evaluations.jsonl."""

from __future__ import annotations

import re

HIGHER, LOWER, NEITHER = "higher is better", "lower is better", "neither way is good in itself"
EVALUATED = {
    "think_accuracy": ("of questions: right when told to think first", HIGHER),
    "direct_accuracy": ("of questions: right when told to answer at once; if more than with thinking, thinking does not help", HIGHER),
    "think_score": ("mean published metric of answers when told to think first", HIGHER),
    "direct_score": ("mean published metric of answers when told to answer at once", HIGHER),
    "format_rate": ("of completions: thinking, marker and one answer, as asked", HIGHER),
    "truncated": ("of completions: cut off at the longest length", LOWER),
    "unparsed": ("of completions: ended by the model, and not in the asked format", LOWER),
    "true_statements": ("of values and equations that the thinking states: true by the facts", HIGHER),
    "mean_length": ("mean length of a completion, in tokens; shorter is cheaper, at the same accuracy", NEITHER),
    "direct_truncated": ("of answers given at once: cut off at the longest length", LOWER),
    "sampled_format_rate": ("of sampled completions: in the asked format", HIGHER),
    "all_wrong": ("of questions: no sample is right; exploring learns nothing there, memorizing can", LOWER),
    "mixed": ("of questions: some samples are right and some wrong; exploring learns from these", NEITHER),
    "all_right": ("of questions: every sample is right; nothing is left to learn there", HIGHER),
    "accuracy": ("of questions: right", HIGHER),
}  # fmt: skip
RECORDED = {
    "loss": ("what the update minimizes; its parts change with the modes, so that it need not fall", NEITHER),
    "learning_rate": ("size of the update, as scheduled", NEITHER),
    "grad_norm": ("norm of the gradient before it is clipped; sudden peaks are a warning", NEITHER),
    "progress": ("of the budget: used so far", NEITHER),
    "completions": ("sampled in the step", NEITHER),
    "sampled_tokens": ("sampled in the step", NEITHER),
    "trained_tokens": ("read by the update", NEITHER),
    "total_completions": ("sampled so far: the cost of the run", NEITHER),
    "total_sampled_tokens": ("sampled so far: the cost of the run", NEITHER),
    "total_trained_tokens": ("read by updates so far: the cost of the run", NEITHER),
    "gradient_explore": ("of the gradient: by explored completions", NEITHER),
    "gradient_memorize": ("of the gradient: by memorized targets", NEITHER),
    "kl": ("distance from the model at the start, in nats; a sudden rise is a warning", NEITHER),
    "sampling_gap": ("mean difference in log-probability between the model and the server that sampled, in nats", LOWER),
    "sampling_gap_max": ("largest difference in log-probability between the model and the server that sampled, in nats", LOWER),
    "sampling_clipped": ("of tokens: weighed less, as the server's arithmetic differs too much", LOWER),
    "steps_skipped_nonfinite": ("1 if the update was left out, as loss or gradient was not finite", LOWER),
    "steps_skipped_overflow": ("1 if the update was left out, as a gradient overflowed; a few at first are usual in float16", LOWER),
    "loss_scale": ("what the loss is multiplied by, for float16", NEITHER),
    "seconds_rollout": ("spent on sampling and judging the step", LOWER),
    "seconds_update": ("spent on the update", LOWER),
    "share_memorize": ("of prompts: their reference is imitated; it falls as more prompts are solved", NEITHER),
    "share_explore": ("of prompts: learnt from their own completions", NEITHER),
    "share_mixed": ("of prompts: both memorized and explored", NEITHER),
    "share_skip": ("of prompts: nothing to learn, mostly as all completions are right", NEITHER),
    "accuracy": ("of sampled completions: right", HIGHER),
    "pass_at_k": ("of prompts: at least one of the sampled completions is right", HIGHER),
    "format_rate": ("of sampled completions: in the asked format", HIGHER),
    "reward": ("mean weighted reward of a completion", HIGHER),
    "thinking_reward": ("mean reward of the thinking, before weighting", HIGHER),
    "completion_length": ("mean length in tokens", NEITHER),
    "truncated": ("of sampled completions: cut off at the longest length", LOWER),
    "redrawn_groups": ("prompts that were sampled again behind a hint", NEITHER),
    "redrawn_accuracy": ("of completions behind a hint: right", HIGHER),
    "checked_groups": ("prompts whose completions a checker graded", NEITHER),
    "refined_targets": ("targets that a refiner wrote", NEITHER),
    "helper_failures": ("prompts for which a helper gave nothing, or was replaced by a local one", LOWER),
    "helper_score": ("mean grade of the thinking that a checker graded, from 0 to 1", HIGHER),
    "graded_traces": ("traces that were graded", NEITHER),
    "trusted_targets": ("targets whose weight is multiplied by the trust in them", NEITHER),
    "target_trust": ("mean trust in a target by the local checker, from 0 to 1", HIGHER),
    "flipped_grades": ("grades turned into their opposite on purpose", NEITHER),
    "self_asked": ("memorized prompts for which the model wrote drafts of a target", NEITHER),
    "self_accepted": ("of these prompts, those with an accepted draft", HIGHER),
    "self_reused": ("targets accepted at an earlier step and used again", NEITHER),
    "self_drafts": ("drafts that the model wrote", NEITHER),
    "self_tokens": ("sampled for drafts", NEITHER),
    "helper_calls": ("requests to the LLM so far", NEITHER),
    "helper_cached": ("answers from the cache so far, without a request", NEITHER),
    "helper_tokens": ("sent to and received from the LLM so far", NEITHER),
    "verifier_failures": ("completions on which your verifier failed", LOWER),
    "trackers_failed": ("trackers that failed and were left out", LOWER),
}  # fmt: skip
_PATTERNS = (
    (re.compile(r"pass_at_1"), "of questions: a sample is right", HIGHER),
    (re.compile(r"pass_at_(\d+)"), r"of questions: at least one of \1 samples is right", HIGHER),
    (re.compile(r"self_refused/(\w+)"), r"drafts of the model's that were refused for their \1", LOWER),
    (re.compile(r"rewards/([^/]+)/mean"), r"mean of your reward \1, before weighting", HIGHER),
    (re.compile(r"rewards/([^/]+)/left_out"), r"prompts for which your reward \1 gave no value", LOWER),
    (re.compile(r"rewards/([^/]+)/failed"), r"prompts on which your reward \1 failed", LOWER),
)


def evaluated(name: str) -> str:
    """Return what a figure of an evaluation means, in a sentence; "" for a name that is not known."""
    return _sentence(name, EVALUATED)


def recorded(name: str) -> str:
    """Return what a figure of a step means, in a sentence."""
    return _sentence(name, RECORDED) or "Recorded by the method, or by another version of dyme."


def _sentence(name: str, known: dict[str, tuple[str, str]]) -> str:
    matched = ((one.expand(words), way) for pattern, words, way in _PATTERNS if (one := pattern.fullmatch(name)))
    found = known.get(name) or next(matched, None)
    if found is None:
        return ""
    words, way = found
    start = f"Share {words}" if words.startswith("of ") else words[0].upper() + words[1:]
    return f"{start}; {way}."
