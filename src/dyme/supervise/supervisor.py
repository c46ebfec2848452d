"""Supervision of routed groups alone (paper, section 3.3): explored groups are checked, memorized ones refined.

`start` gives a step's groups to the helpers and `finish` takes their answers; helpers behind an endpoint work in threads, so
that the next step can be sampled in between. The paper's code asks its helper four times per completion; here one call grades a
group, one writes a target, and skipped prompts cost none. A failure is data: all of a group's completions are then treated alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dyme.config import Config
from dyme.errors import SupervisionError
from dyme.supervise.flips import flipped
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.local.refiner import LocalRefiner
from dyme.supervise.local.templates import TemplatePool
from dyme.supervise.patience import Patience
from dyme.supervise.roles import Checker, Refiner, Template
from dyme.supervise.self_refiner import SelfRefiner, Write
from dyme.targets import thinking_of
from dyme.types import Assessment, Group, Route
from dyme.verify.rules import with_thinking

if TYPE_CHECKING:
    from dyme.supervise.llm.client import Client

Role = TypeVar("Role", Checker, Refiner)
Answer = TypeVar("Answer")


class Supervisor:
    """The helpers of a run with the pool of templates that they share; close it, or use it as a context."""

    def __init__(self, config: Config, checker: Checker | None = None, refiner: Refiner | None = None, client: Client | None = None, *,
                 policy: SelfRefiner | None = None, note: Callable[[str], None] = lambda line: None,
                 interrupted: Callable[[], bool] = lambda: False) -> None:  # fmt: skip
        """Without helpers groups stay unchanged (Pure DyME), but for the trust in targets that a method asks for. Threads are used only for
        helpers behind the endpoint of `client`.

        `refiner` writes what `policy`, if there is one, did not. `note` gets lines for the user; `interrupted` says whether the run is to
        stop, which ends any wait for a helper.
        """
        self.config, self.checker, self.refiner, self.client, self.policy = config, checker, refiner, client, policy
        self.pool = TemplatePool()
        self.local = LocalChecker(marker=config.task.marker), LocalRefiner(marker=config.task.marker)
        self._threads = ThreadPoolExecutor(config.supervision.concurrency) if config.supervision.remote else None
        self._patience = Patience(note, interrupted)

    def __enter__(self) -> Supervisor:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancel requests that are not answered yet."""
        self._patience.closed.set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self.client is not None:
            self.client.close()

    @property
    def kept(self) -> dict[str, TemplatePool | SelfRefiner]:
        """Return what a checkpoint keeps, by the name of its file."""
        return {"templates": self.pool, **({"targets": self.policy} if self.policy else {})}

    def drafted(self, groups: Sequence[Group], routes: Sequence[Route], step: int, write: Write) -> list[Group]:
        """Return a step's groups with the targets that the policy wrote by `write`, if it is a refiner; to be called before `start`."""
        return self.policy.drafted(groups, routes, step, write) if self.policy else list(groups)

    def start(self, groups: Sequence[Group], routes: Sequence[Route], step: int) -> list[Future[Group]]:
        """Start the helpers on a step's groups; return futures. Templates are drawn now, so that answers do not depend on their order."""
        return [self._submit(group, route, self._template(group, step)) for group, route in zip(groups, routes, strict=True)]

    def finish(self, started: Sequence[Future[Group]]) -> list[Group]:
        """Return the groups with new thinking rewards or targets, in order; waits for the helpers."""
        return [future.result() for future in started]

    def learn(self, groups: Sequence[Group]) -> None:
        """Learn from a step: traces graded high, targets by the policy; all processes must offer the same groups in the same order."""
        if self.policy is not None:
            self.policy.learn(groups)
        for group in groups:
            for assessment, verdict in zip(group.assessments, group.verdicts, strict=bool(group.assessments)):
                if assessment is not None and assessment.level == "high":
                    self.pool.add(group.sample, verdict.thinking, assessment)

    def calls(self) -> dict[str, float]:
        """Return the counters of this process's client: calls, answers from the cache, tokens; empty without a client."""
        if self.client is None:
            return {}
        stats = self.client.stats
        tokens = stats.prompt_tokens + stats.completion_tokens
        return {"helper_calls": float(stats.calls), "helper_cached": float(stats.cache_hits), "helper_tokens": float(tokens)}

    def _template(self, group: Group, step: int) -> Template | None:
        if self.refiner is None:
            return None
        return self.pool.draw(group.sample, random.Random(f"{self.config.run.seed}:{step}:{group.sample.id}"))

    def _submit(self, group: Group, route: Route, template: Template | None) -> Future[Group]:
        if self._threads is not None:
            return self._threads.submit(self._sharpen, group, route, template)
        done: Future[Group] = Future()
        done.set_result(self._sharpen(group, route, template))
        return done

    def _sharpen(self, group: Group, route: Route, template: Template | None) -> Group:
        if self.checker is not None and any(branch.completion is not None for branch in route.branches):
            group = self._checked(group, self.checker)
        if self.refiner is not None and group.target is None and any(branch.completion is None for branch in route.branches):
            group = self._refined(group, self.refiner, template)
        if any(branch.trusted for branch in route.branches):
            text = thinking_of(group.sample) if group.target is None else group.target
            group = replace(group, trust=self.local[0].trust(group.sample, text))
        return group

    def _checked(self, group: Group, checker: Checker) -> Group:
        """Return the group with the checker's scores as thinking rewards; unchanged if there is nothing to compare."""
        gate, reward = self.config.reward.thinking_gate, self.config.reward
        earning = [k for k, v in enumerate(group.verdicts) if (v.correct if gate == "correct" else v.parsed)]
        traces = [group.verdicts[k].thinking for k in earning]
        if not traces or (len(traces) == len(group.verdicts) and len(set(traces)) == 1):
            return group
        found, trouble = self._ask(checker, self.local[0], lambda role: role.check(group.sample, traces))
        if found is None:
            verdicts = tuple(with_thinking(v, None, reward) for v in group.verdicts)
            return replace(group, verdicts=verdicts, trouble=trouble)
        found = flipped(found, group.sample, traces, self.config)
        by_index: dict[int, Assessment] = dict(zip(earning, found, strict=True))
        assessments = tuple(by_index.get(k) for k in range(len(group.verdicts)))
        verdicts = tuple(with_thinking(v, a.score if a else 0.0, reward) for v, a in zip(group.verdicts, assessments, strict=True))
        return replace(group, verdicts=verdicts, assessments=assessments, trouble=trouble)

    def _refined(self, group: Group, refiner: Refiner, template: Template | None) -> Group:
        """Return the group with the refiner's trace as target; the trace must not hold the answer marker."""

        def write(role: Refiner) -> str:
            text = role.refine(group.sample, template).strip()
            marker = self.config.task.marker
            if not text or (marker and marker in text):
                raise SupervisionError(f"{group.sample.id}: the refined trace is empty or contains {marker!r}")
            return text

        text, trouble = self._ask(refiner, self.local[1], write)
        return replace(group, target=text, trouble="; ".join(filter(None, (group.trouble, trouble))))

    def _ask(self, role: Role, local: Role, work: Callable[[Role], Answer]) -> tuple[Answer | None, str]:
        """Return the answer of `role`, or None with the reason; on failure follow the recipe: None, the local helper, or a retry."""
        choice = self.config.supervision.on_failure
        try:
            return (self._patience.answer(lambda: work(role)) if choice == "wait" else work(role)), ""
        except SupervisionError as error:
            trouble = str(error)
        if choice == "local" and type(role) is not type(local):
            try:
                return work(local), trouble
            except SupervisionError as error:
                trouble = f"{trouble}; nor can the local helper: {error}"
        return None, trouble
