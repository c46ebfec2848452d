"""The training loop. It reads as the sentence that the project is built on:

A task gives **samples**; the policy **rolls out** a group of answers for each; rules **verify** them; the router decides per
prompt to **memorize**, **explore** or **skip**; supervision sharpens only what was chosen; each prompt and its chosen answers
become one **tree**; one **objective** scores its branches; we **update**, and **record** everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object, set_seed

from dyme import checkpoint, schedule
from dyme.config import Config
from dyme.display import Display
from dyme.errors import ConfigError
from dyme.policy import Policy
from dyme.rollout import hf
from dyme.route import ROUTERS, Context, Stage, standard_deviation
from dyme.schedule import Position
from dyme.supervise import target
from dyme.tasks import TASKS
from dyme.tree import Prompt
from dyme.types import Group, Sample, StepRecord, mode_shares
from dyme.update import Updater
from dyme.verify.rules import Rules, verify_group


def train(config: Config, *, samples: Sequence[Sample] | None = None, resume: bool = False, display: Display | None = None) -> Path:
    """Train by a recipe and return the folder of the final model; `samples` are the training split's, if they are loaded already.

    With `resume`, continue the run in `config.run.output` from its last checkpoint; on one CPU process the final weights are
    bit-identical to those of an uninterrupted run. Ctrl-C and SIGTERM end the step, save a checkpoint and return its folder.
    Raises DataError, ModelError, ConfigError or RunError before any training for input that cannot work.
    """
    display = display or Display.quiet()
    samples = samples or TASKS[config.task.name].load(config.task, "train")
    target.check(samples, config.task.marker)
    stages = ROUTERS[config.method.name].stages(config)
    partial = not config.model.freeze_vision or not all(s.images for s in samples)  # some parameters may get no gradient
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=partial)])
    set_seed(config.run.seed)
    policy = Policy.load(config.model)
    policy.encode(samples[0], config.task.think_prompt)  # what the model cannot read shows before the run folder is made
    if accelerator.num_processes > config.train.prompts_per_step:
        raise ConfigError(f"train.prompts_per_step must be at least the number of processes, {accelerator.num_processes}")
    run = checkpoint.open_run(config, accelerator, resume)

    def note(line: str) -> None:
        if accelerator.is_main_process:
            display.note(line)
            run.log_event("note", message=line)

    updater = Updater(policy, config, accelerator, note)
    position = checkpoint.restore(run, updater) if resume else Position()
    if warning := target.warning(samples):
        note(warning)
    rules, total = rules_of(config), schedule.budget(config, len(samples))
    stopped = False
    with checkpoint.Interrupt() as interrupt, display.training(config, total):
        while position.progress(config, total) < 1 and not stopped:
            started = time.perf_counter()
            stage, position = enter_stage(stages, position, config, total, updater)
            batch = list(schedule.next_samples(samples, position, config))
            share = batch[accelerator.process_index :: accelerator.num_processes]
            prompts = [policy.encode(sample, config.task.think_prompt) for sample in share]
            groups = roll_out(policy, updater, prompts, share, stage, config, position.step)
            sampled = time.perf_counter()
            groups = [verify_group(group, rules) for group in groups]
            context = Context(config=config, batch_std=spread(groups, config))
            routes = [stage.route(group, context) for group in groups]
            rate = schedule.learning_rate(config, position, total, stages)
            metrics = updater.step(prompts, groups, routes, rate)
            seconds = {"seconds_rollout": sampled - started, "seconds_update": time.perf_counter() - sampled}
            everyone = list(zip(gather_object(groups), gather_object(routes), strict=True))
            clocks = gather_object([(time.perf_counter() - started, interrupt.requested)])  # all processes go on or stop together
            position, stopped = position.advance(len(batch), max(s for s, _ in clocks)), any(r for _, r in clocks)
            if accelerator.is_main_process:
                record = summarize(position, everyone, metrics | seconds | {"learning_rate": rate}, len(samples))
                run.log_step(record)
                run.log_rollouts(position.step, *map(list, zip(*everyone, strict=True)))
                display.step(record, stage.name)
            if checkpoint.due(config, position):
                checkpoint.save(run, updater, position)
        final = checkpoint.save(run, updater, position, final=not stopped)
    if stopped:
        display.note(f"stopped after step {position.step}; go on with: dyme train --resume {run.path}")
    return final


def rules_of(config: Config) -> Rules:
    """The one verifier of a recipe, for training and evaluation alike."""
    own = TASKS[config.task.name].tolerance if config.task.tolerance is None else config.task.tolerance
    return Rules(marker=config.task.marker, tolerance=own, reward=config.reward)


def enter_stage(stages: Sequence[Stage], position: Position, config: Config, total: int, updater: Updater) -> tuple[Stage, Position]:
    """The stage at this position; entering one resets the optimizer's moments and, under a KL term, the reference model."""
    index = schedule.stage_index(position.progress(config, total), stages)
    if index != position.stage:
        position = position.enter(index)
        updater.begin_stage(stages[index].rolls_out)
    return stages[index], position


def roll_out(
    policy: Policy, updater: Updater, prompts: Sequence[Prompt], samples: Sequence[Sample], stage: Stage, config: Config, step: int
) -> list[Group]:
    """A group per sample; empty groups for a stage that does not roll out."""
    if not stage.rolls_out:
        return [Group(sample=sample) for sample in samples]
    seeds = [hf.seed_of(config.run.seed, step, sample.id) for sample in samples]
    completions = hf.sample(policy, prompts, seeds, config.rollout)
    return [Group(sample=sample, completions=own) for sample, own in zip(samples, completions, strict=True)]


def spread(groups: Sequence[Group], config: Config) -> float:
    """Standard deviation of the rewards of all processes' groups, where advantages are scaled by it."""
    if config.objective.scale_rewards != "batch":
        return 0.0
    return standard_deviation(gather_object([v.reward for g in groups for v in g.verdicts]), config.objective.std)


def summarize(position: Position, everyone: Sequence[tuple[Group, object]], metrics: dict[str, float], size: int) -> StepRecord:
    """The step's figures over all processes."""
    groups, routes = [g for g, _ in everyone], [r for _, r in everyone]
    figures = dict(metrics) | {f"share_{mode}": share for mode, share in mode_shares(routes).items()}  # type: ignore[arg-type]
    figures |= dict(_completion_figures(groups))
    return StepRecord(
        step=position.step, prompts=position.prompts, epoch=position.prompts / size, seconds=position.seconds, metrics=figures
    )


def _completion_figures(groups: Sequence[Group]) -> Iterator[tuple[str, float]]:
    pairs = [(c, v) for g in groups for c, v in zip(g.completions, g.verdicts, strict=True)]
    if not pairs:
        return
    yield "accuracy", sum(v.correct for _, v in pairs) / len(pairs)
    yield "pass_at_k", sum(g.solved > 0 for g in groups) / len(groups)
    yield "format_rate", sum(v.parsed for _, v in pairs) / len(pairs)
    yield "reward", sum(v.reward for _, v in pairs) / len(pairs)
    yield "thinking_reward", sum(v.rewards["thinking"] for _, v in pairs) / len(pairs)
    yield "completion_length", sum(len(c.token_ids) for c, _ in pairs) / len(pairs)
    yield "truncated", sum(not c.finished for c, _ in pairs) / len(pairs)
    yield "rollout_tokens", float(sum(len(c.token_ids) for c, _ in pairs))
