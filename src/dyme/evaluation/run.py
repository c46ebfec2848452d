"""Evaluation: ask a model each item of a split, and judge its answers by the verifier of training.

Accuracy with the instruction to think and accuracy with the instruction to answer at once are both reported, unless one is chosen:
a small model often does better without thinking. Batches are filled in the order of the items up to a budget of tokens, so they do
not depend on where an evaluation was stopped; all completions of a batch share one pass of its images through the vision tower.
Several processes take every n-th item each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from dyme.checks import check_config
from dyme.config import Config
from dyme.errors import ModelError
from dyme.evaluation.items import BATCH_ITEMS, STYLES, Drawn, Item, ItemFolder, Key, Plan, picture_of
from dyme.evaluation.metrics import figures
from dyme.model import precision
from dyme.model.checks import check_placeholders
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout.engine import Engine, Local, engine_of
from dyme.rollout.hf import seed_of
from dyme.system.ahead import Ahead
from dyme.system.processes import from_main, state, together
from dyme.tasks.rules import rules_of
from dyme.types import Completion, PromptStyle, Sample
from dyme.verify.rules import Rules, judge_direct, verify
from dyme.verify.thinking import true_statements
from dyme.verify.verifier import FAILED

AHEAD = 8
"""Items that are encoded at a time, and as many while the model answers others."""
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An item with its encoded prompts, one per style still to be asked."""

    index: int
    sample: Sample
    prompts: dict[PromptStyle, Prompt]

    @property
    def longest(self) -> int:
        """Return the tokens of its longest prompt."""
        return max(len(prompt.token_ids) for prompt in self.prompts.values())


def evaluate(
    policy: Policy, samples: Sequence[Sample], config: Config, rules: Rules, *, plan: Plan | None = None, progress: Progress | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a model on `samples` and return `metrics.figures`; each process of the launch evaluates its share and gets all figures.

    `engine` samples for the policy, by default that of the config.
    """
    together(lambda: check_config(config))
    plan, launch = plan or Plan(), state()
    share = range(launch.process_index, len(samples), launch.num_processes)
    wanted = {(index, style) for index in share for style in plan.prompts}
    engine = engine or engine_of(policy, config, saved(policy), lambda: 0, lambda line: None)
    refresh(engine, samples, config)
    with engine.sampling():
        items = together(lambda: [item for batch in ask(engine, samples, config, rules, plan, wanted, progress) for item in batch])
    return figures(sorted(gather_object(items), key=lambda item: (item.index, STYLES.index(item.prompt))))


def run_evaluation(
    config: Config,
    samples: Sequence[Sample],
    plan: Plan,
    *,
    folder: ItemFolder | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Evaluate the checkpoint `config.model.path` by all processes of the launch, and return `evaluate`'s figures on each.

    With a `folder`, items that it holds are not asked again, and new ones are written to it batch by batch. The model is only
    loaded if there are items to ask; `note` gets lines for the user on how the model was read. Raises ModelError if a batch does not fit
    in the device's memory.
    """
    together(lambda: check_config(config))
    launch = state()
    keys = [(index, style) for index in range(len(samples)) for style in plan.prompts]
    held = from_main(folder.items) if folder else {}
    share = {key for key in keys if key[0] % launch.num_processes == launch.process_index}

    wanted, new = share - held.keys(), list[Item]()

    def work(engine: Engine) -> None:
        what = "completions" if launch.num_processes == 1 else f"completions, process 1 of {launch.num_processes}"
        done = sum(1 + plan.draws(*key) for key in share & held.keys())
        try:
            for batch in ask(engine, samples, config, rules_of(config), plan, wanted, progress, what, done):
                new.extend(batch)
                if folder:
                    folder.append(batch, None if launch.num_processes == 1 else launch.process_index)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{launch.device} is out of memory at {plan.batch_tokens} tokens a batch; add --batch-tokens {plan.batch_tokens // 2}"
            ) from error

    if any(gather_object([bool(wanted)])):
        engine = _engine(config, samples, note or (lambda line: None))
        together(partial(work, engine))
    known = held | {item.key: item for item in gather_object(new)}
    if note and (failed := [item.reason for item in known.values() if item.reason.startswith(FAILED)]):
        note(f"{failed[0]}; so it did on {len(failed)} of {len(known)} answers, which count as wrong")
    return figures([known[key] for key in keys])


def load(config: Config, note: Callable[[str], None]) -> Policy:
    """Return the checkpoint at `config.model.path`, in the config's precision, on this process's device; nothing of it trains."""
    chosen = precision.settled(config, state().device).train.precision
    policy = Policy.load(config.model, precision.DTYPES[chosen]).requires_grad_(False).to(state().device)
    for line in policy.notes:
        note(line)
    return policy


def _engine(config: Config, samples: Sequence[Sample], note: Callable[[str], None]) -> Engine:
    """Return the engine that samples for the checkpoint at `config.model.path`, with its weights; all processes must call it."""

    def checked() -> Policy:
        policy = load(config, note)
        check_placeholders(policy, samples)
        return policy

    policy = together(checked)
    engine = engine_of(policy, config, saved(policy), lambda: 0, note)
    refresh(engine, samples, config)
    return engine


def saved(policy: Policy) -> Callable[[Path], object]:
    """Return what writes the weights of a loaded policy for an engine: the main process does."""
    return lambda folder: policy.save(folder) if state().is_main_process else None


def refresh(engine: Engine, samples: Sequence[Sample], config: Config) -> None:
    """Bring an engine's weights up to date before an evaluation; all processes must call it."""
    engine.refresh(lambda: engine.policy.encode(samples[0], config.task.think_prompt))


def ask(
    engine: Engine, samples: Sequence[Sample], config: Config, rules: Rules, plan: Plan, wanted: Collection[Key],
    progress: Progress | None = None, what: str = "completions", done: int = 0,
) -> Iterator[list[Item]]:  # fmt: skip
    """Yield the wanted items, a batch at a time; progress counts completions, `done` of which existed before."""
    total = done + sum(1 + plan.draws(*key) for key in wanted)
    if progress:
        progress(what, done, total)
    for batch in batches(engine.policy, samples, config, plan, wanted):
        items = ask_batch(engine, batch, config, rules, plan)
        yield items
        done += sum(1 + plan.draws(*item.key) for item in items)
        if progress:
            progress(what, done, total)


def batches(
    policy: Policy, samples: Sequence[Sample], config: Config, plan: Plan, wanted: Collection[Key]
) -> Iterator[list[Asked]]:  # fmt: skip
    """Yield the items in order, as many at a time as fit in the plan's tokens with one completion each; at least one."""
    instructions = {"think": config.task.think_prompt, "direct": config.task.direct_prompt}
    own = [(k, styles) for k in range(len(samples)) if (styles := [style for style in plan.prompts if (k, style) in wanted])]

    def encode(item: tuple[int, list[PromptStyle]]) -> Asked:
        index, styles = item
        return Asked(index, samples[index], {style: policy.encode(samples[index], instructions[style]) for style in styles})

    batch: list[Asked] = []
    longest = 0
    with Ahead(encode) as encoder:
        for start in range(0, len(own), AHEAD):
            for asked in encoder.take(own[start : start + AHEAD], own[start + AHEAD : start + 2 * AHEAD]):
                longest = max(longest, asked.longest)
                full = (
                    len(batch) == plan.batch_items
                    or (len(batch) + 1) * (longest + config.rollout.max_completion_length) > plan.batch_tokens
                )
                if batch and full:
                    yield batch
                    batch, longest = [], asked.longest
                batch.append(asked)
    if batch:
        yield batch


def ask_batch(engine: Engine, batch: Sequence[Asked], config: Config, rules: Rules, plan: Plan) -> list[Item]:
    """Return a batch's items: the greedy completions of both styles, then the sampled ones."""
    greedy = {
        style: _complete(engine, own, config, style, greedy=True, rows=BATCH_ITEMS)
        for style in plan.prompts
        if (own := [asked for asked in batch if style in asked.prompts])
    }
    several = [asked for asked in batch if "think" in asked.prompts and plan.draws(asked.index, "think")]
    drawn: dict[int, Drawn] = {}
    if several:
        more = replace(config, rollout=replace(config.rollout, num_generations=plan.k))
        rows = plan.batch_tokens // (max(asked.longest for asked in several) + config.rollout.max_completion_length)
        found = _complete(engine, several, more, "think", greedy=False, rows=max(plan.k, rows))
        drawn = {a.index: _drawn(found[a.index], a.sample, rules) for a in several}
    items = []
    for asked in batch:
        for style in asked.prompts:
            [completion] = greedy[style][asked.index]
            item = judged(asked.index, asked.sample, completion, style, rules)
            items.append(replace(item, sampled=drawn.get(asked.index)) if style == "think" else item)
    return items


def answer(policy: Policy, samples: Sequence[Sample], config: Config, instruction: str) -> list[Completion]:
    """Return one greedy completion for each sample, with `instruction` as the instruction."""
    told = replace(config, task=replace(config.task, direct_prompt=instruction))
    plan = Plan(prompts=("direct",))
    out: list[Completion] = []
    for batch in batches(policy, samples, told, plan, {(index, "direct") for index in range(len(samples))}):
        out += [found[0] for found in _complete(Local(policy), batch, told, "direct", greedy=True, rows=BATCH_ITEMS).values()]
    return out


def _complete(
    engine: Engine, batch: Sequence[Asked], config: Config, style: PromptStyle, *, greedy: bool, rows: int
) -> dict[int, tuple[Completion, ...]]:
    """Return completions by place; each sampled one has its own seed."""
    prompts = [asked.prompts[style] for asked in batch]
    seeds = [seed_of("evaluation", config.run.seed, asked.sample.id) for asked in batch]
    found = engine.sample(prompts, seeds, config.rollout, greedy=greedy, batch_rows=rows)
    return {asked.index: own for asked, own in zip(batch, found, strict=True)}


def judged(index: int, sample: Sample, completion: Completion, style: PromptStyle, rules: Rules) -> Item:
    """Return the item of a greedy completion to a prompt of this style, with its verdict."""
    return (_thought if style == "think" else _direct)(index, sample, completion, rules)


def _thought(index: int, sample: Sample, completion: Completion, rules: Rules) -> Item:
    verdict = verify(completion, sample, rules)
    return replace(
        _item(index, sample, completion, "think"),
        answer=verdict.answer, parsed=verdict.parsed, correct=verdict.correct, score=verdict.score, reason=verdict.reason,
        statements=true_statements(verdict.thinking, sample.facts) if sample.facts else None,
    )  # fmt: skip


def _direct(index: int, sample: Sample, completion: Completion, rules: Rules) -> Item:
    """Return the item of a direct answer, which counts unless it was cut off; it may open with the marker."""
    item = _item(index, sample, completion, "direct")
    if not completion.finished:
        return replace(item, reason="cut off")
    text, judgement = completion.text.strip().removeprefix(rules.marker).strip(), judge_direct(completion.text, sample, rules)
    reason = "" if judgement.correct else judgement.reason if judgement.failed else "wrong answer"
    return replace(item, answer=text, parsed=True, correct=judgement.correct, score=judgement.score, reason=reason)


def _item(index: int, sample: Sample, completion: Completion, style: PromptStyle) -> Item:
    """Return an item that is not judged yet."""
    return Item(
        index=index, id=sample.id, prompt=style, question=sample.question, gold=sample.answer, kind=sample.kind,
        answer_kind=sample.answer_kind, completion=completion.text, answer=None, parsed=False, correct=False, score=0.0, reason="",
        tokens=len(completion.token_ids), finished=completion.finished, picture=picture_of(sample),
    )  # fmt: skip


def _drawn(completions: Sequence[Completion], sample: Sample, rules: Rules) -> Drawn:
    verdicts = [verify(completion, sample, rules) for completion in completions]
    return Drawn(
        samples=len(verdicts), correct=sum(v.correct for v in verdicts), parsed=sum(v.parsed for v in verdicts),
        finished=sum(c.finished for c in completions),
    )  # fmt: skip
