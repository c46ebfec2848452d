"""The self-refiner: the policy writes the targets that it memorizes (`supervision.refiner = "self"`), so that they stay in its own style.

The policy gets question, facts and gold answer and writes a few drafts. A draft is accepted if the verifier accepts its answer and the
local checker its thinking: no objection, and not graded low. The best-graded one is the target. Without one the local refiner writes
the target, and if it cannot, the target is the row's rationale. No LLM and no new loss: the target is memorized as any other, by the prompt
without facts and answer. Against the dependence on a strong LLM that reviewers of the paper objected to; ViSurf's first control
(arXiv 2510.10606) and arXiv 2604.13016 ask for targets in the policy's style.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources

from dyme.config import Config
from dyme.errors import ConfigError, RunError
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.written import fault
from dyme.targets import in_words
from dyme.tasks.rules import rules_of
from dyme.types import Completion, Draft, Group, Route, Sample
from dyme.verify.rules import verify

Asked = tuple[Sample, str]
"""A sample whose question is the whole prompt, and the beginning of the answer that the policy continues."""
Write = Callable[[Sequence[Asked], int], Sequence[Sequence[Completion]]]
"""Function from prompts and the step to the policy's completions of each."""
_SLOT = re.compile(r"\{(question|facts|answer|marker|think)\}")
_TURNS = re.compile(r"^---[ \t]*$", re.MULTILINE)
_FAULTS = {"format": "in the wrong format", "answer": "with a wrong answer", "thinking": "with thinking that the local checker refuses"}


class SelfRefiner:
    """Has the policy write targets, and keeps those that were accepted (`supervision.self_reuse`)."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError for a prompt that cannot be used."""
        own = resources.files("dyme.supervise") / "prompts" / "self.txt"
        turns = _TURNS.split(config.supervision.self_prompt or own.read_text(encoding="utf-8"))
        if len(turns) > 2 or "{question}" not in turns[0]:
            raise ConfigError(
                "supervision.self_prompt must hold {question}, and at most one line of three dashes, after which the policy's turn begins"
            )
        self._turns = [turn.strip() for turn in (*turns, "")[:2]]
        self._config, self._rules, self._checker = config, rules_of(config), LocalChecker(marker=config.task.marker)
        self._accepted: dict[str, str] = {}

    def asked(self, sample: Sample) -> Asked:
        """Return the prompt by which the policy writes a target for `sample`; facts that the question holds already are not repeated."""
        task, known = self._config.task, in_words(sample.facts) if sample.facts else ""
        texts = {
            "question": sample.question, "facts": "" if known in sample.question else known, "answer": sample.answer, "marker": task.marker,
            "think": task.think_prompt,
        }  # fmt: skip
        turn, opening = (_SLOT.sub(lambda slot: texts[slot[1]], text).strip() for text in self._turns)
        return replace(sample, question=turn, prompt=None), opening

    def drafted(self, groups: Sequence[Group], routes: Sequence[Route], step: int, write: Write) -> list[Group]:
        """Return a step's groups, those whose routes train on the target with the policy's drafts of it, and with the target if one was
        accepted; else with the reason why there is none. All prompts are written for at once.
        """
        memorized = (any(branch.completion is None for branch in route.branches) for route in routes)
        wanted = [group for group, imitates in zip(groups, memorized, strict=True) if imitates]
        fresh = [group for group in wanted if group.sample.id not in self._accepted]
        texts = write([self.asked(group.sample) for group in fresh], step) if fresh else []
        done = {id(group): self._judged(group, own) for group, own in zip(fresh, texts, strict=True)}
        done |= {id(group): self._again(group) for group in wanted if id(group) not in done}
        return [done.get(id(group), group) for group in groups]

    def learn(self, groups: Sequence[Group]) -> None:
        """Keep the targets that were accepted; all processes must offer the same groups in the same order."""
        if self._config.supervision.self_reuse:
            own = [group for group in groups if any(not draft.fault for draft in group.drafts)]
            self._accepted |= {group.sample.id: group.target for group in own if group.target is not None}

    def state(self) -> dict[str, str]:
        """Return the accepted targets by the samples' names, for a checkpoint."""
        return dict(self._accepted)

    def restore(self, state: Mapping[str, str]) -> None:
        """Restore the accepted targets. Raises RunError if `state` is none."""
        if not isinstance(state, Mapping) or not all(isinstance(text, str) for text in state.values()):
            raise RunError("the targets that the policy wrote in this run cannot be read")
        self._accepted = dict(state)

    def _again(self, group: Group) -> Group:
        text = self._accepted[group.sample.id]
        return replace(group, target=text, drafts=(Draft(text=text),))

    def _judged(self, group: Group, texts: Sequence[Completion]) -> Group:
        """Return the group with its drafts and the best accepted one as target, or with the reason why there is none."""
        drafts = [self._draft(group.sample, text) for text in texts]
        if accepted := [draft for draft in drafts if not draft.fault]:
            grades = self._checker.check(group.sample, [draft.text for draft in accepted])
            best = max(range(len(accepted)), key=lambda k: grades[k].score)
            return replace(group, target=accepted[best].text, drafts=tuple(drafts))
        counts = Counter(str(draft.fault) for draft in drafts)
        why = ", ".join(f"{counts[name]} {words}" for name, words in _FAULTS.items() if counts[name])
        return replace(group, drafts=tuple(drafts), trouble=f"the policy wrote no target: {why}")

    def _draft(self, sample: Sample, text: Completion) -> Draft:
        """Return a text as a draft of the thinking of a target, with the reason if it is refused."""
        verdict, tokens = verify(text, sample, self._rules), len(text.token_ids)
        if not verdict.correct:
            return Draft(text=text.text, tokens=tokens, fault="answer" if verdict.parsed else "format", reason=verdict.reason)
        thinking = verdict.thinking.strip()
        if trouble := fault(thinking, self._rules.marker):
            return Draft(text=text.text, tokens=tokens, fault="format", reason=f"the thinking {trouble}")
        objection = self._checker.objection(sample, thinking)
        if not objection and (grade := self._checker.check(sample, [thinking])[0]).level == "low":
            objection = grade.reason
        return Draft(text=text.text if objection else thinking, tokens=tokens, fault="thinking" if objection else "", reason=objection)
