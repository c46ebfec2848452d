"""The training loop. Its steps follow this sentence:

A task gives **samples**; the policy **rolls out** a group of answers for each; rules **verify** them; the method decides per
prompt to **memorize**, **explore** or **skip**; supervision sharpens only what was chosen; each prompt and its chosen answers
become one **tree**; one **objective** scores its branches; we **update**, and **record** everything.

A resumed run ends in the weights of an uninterrupted one, bit by bit: on one CPU process, under a budget of prompts, if its helpers give
the same answers. With an LLM and `supervision.overlap` that holds from a checkpoint of `run.save_every` or of the best model, before which
no step is sampled early; not from one of Ctrl-C: the next step, sampled with the weights before the last update, is drawn again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object, set_seed

from dyme.checks import check_training
from dyme.config import Config
from dyme.methods import Method, Stage
from dyme.methods.state import MethodState
from dyme.plugins import given
from dyme.rollout.engine import engine_of
from dyme.samples import load
from dyme.supervise.build import build_supervisor
from dyme.supervise.build import warning as supervise_warning
from dyme.system.ahead import Ahead
from dyme.system.processes import alone, from_main, main_first, together
from dyme.system.signals import Interrupt
from dyme.tracking.display import Display
from dyme.tracking.notes import Notes
from dyme.tracking.recorder import Recorder
from dyme.tracking.services import reports_of
from dyme.tracking.trackers import Reports, Tracker
from dyme.training import checkpoint, schedule, validate
from dyme.training.draw import Sampler, Work, of_all, recorded
from dyme.training.preflight import check_step, doubts, preflight
from dyme.training.schedule import Position
from dyme.training.setup import Host, begin
from dyme.training.update import Updater
from dyme.types import Sample
from dyme.verify.rewards import Rewards


def train(
    config: Config,
    *,
    samples: Sequence[Sample] | None = None,
    validation: Sequence[Sample] | None = None,
    method: Method[Any] | None = None,
    trackers: Sequence[Tracker] | Reports = (),
    host: Host | None = None,
    resume: bool = False,
    display: Display | None = None,
) -> Path:
    """Train by a recipe and return the folder of the final model; `samples` are those of the training split, if they are loaded already;
    `method` replaces the method that the recipe names.

    Evaluations while training use a part of `validation`; `trackers` replace those that the recipe names. A `host` provides the model, the
    verdicts and the callbacks of another library's trainer.

    With `resume`, resume the run in `config.run.output` from its last checkpoint; the file's head says when that is bit-identical.
    Ctrl-C, SIGTERM and SIGHUP end the training after the current step, save a checkpoint and return its folder.
    Raises DataError, ModelError, ConfigError or RunError before any training for input that cannot work; RunError, which says how to
    resume, for an error of the system such as a full disk.
    """
    place, host = Path(config.run.output), host or Host()
    with given(config, method=method) as config:
        chosen, reporting = together(lambda: check_training(config)), reports_of(config, trackers)
        with alone(place), checkpoint.resumable(place, host.resuming(place)), reporting as reports:
            held_out = validate.part_of(config, validation, own=samples is not None)
            samples = samples or main_first(lambda: load(config, "train")[0])
            return _train(chosen.settled(config), chosen, samples, held_out, reports, host, resume, display or Display.quiet())


def _train(
    config: Config, method: Method[Any], samples: Sequence[Sample], held_out: Sequence[Sample], reports: Reports, host: Host,
    resume: bool, display: Display,
) -> Path:  # fmt: skip
    stages, mind = method.plan(config), together(lambda: MethodState(method, config))
    accelerator, config = begin(config, resume)
    set_seed(config.run.seed)
    policy, sizes = together(lambda: preflight(config, samples, accelerator, host))
    notes, interrupt = Notes(display, active=accelerator.is_main_process), Interrupt()
    updater = Updater(policy, config, accelerator, notes)
    engine = engine_of(policy, config, updater.export, lambda: updater.updates, notes)
    tight = together(lambda: check_step(policy, sizes, config, accelerator, stages))
    run = checkpoint.open_run(config, accelerator, samples, resume, method, held_out)
    notes.begin(run)
    supervisor = together(lambda: build_supervisor(config, run.path, notes, lambda: interrupt.requested))
    total = schedule.budget(config, len(samples))
    encoder, own = Ahead(partial(policy.encode, instruction=config.task.think_prompt)), Rewards(config.reward)
    sampler = Sampler(engine, supervisor, mind, config, samples, accelerator, encoder, host, own)
    kept: checkpoint.Kept = {**supervisor.kept, "method": mind}
    position = checkpoint.restore(run, updater, kept, notes) if resume else Position()
    beforehand = (*policy.notes, tight, *doubts(policy, samples, sizes, config, stages))
    for warning in (*beforehand, supervise_warning(config, run.path) if accelerator.is_main_process else None):
        if warning:
            notes(warning)
    recorder = Recorder(run, display, reports)
    from_main(lambda: recorder.start(config))
    validation = validate.Validation(engine, config, held_out, recorder)
    host.begin(run, policy, position)
    ahead: Work | None = None
    stopped = False
    with interrupt, display.training(config), supervisor, encoder, own, checkpoint.saving(run, updater, lambda: position, kept):
        validation.after_step(position, total)
        checkpoint.name_best(run, validation.best_kept)
        while position.progress(config, total) < 1 and not (stopped or validation.exhausted or host.over):
            started = time.perf_counter()
            host.before_step(position)
            stage, position = enter_stage(stages, position, config, total, updater)
            work = ahead if ahead and ahead.stage is stage else sampler.draw(position, stage)
            ahead = sampler.ahead(work.after(position), work, stages, total)
            groups = supervisor.finish(work.helped)
            routes = sampler.settled(work, groups)
            rate = schedule.learning_rate(config, position, total, stages)
            updating = time.perf_counter()
            metrics = updater.step(work.prompts, groups, routes, rate, keep=ahead.prompts if ahead else ())
            seconds = {"seconds_rollout": work.seconds, "seconds_update": time.perf_counter() - updating}
            everyone = of_all(list(zip(groups, recorded(routes), strict=True)))
            supervisor.learn([group for group, _ in everyone])
            together(partial(mind.learn, everyone, work.context))
            clocks = gather_object([(time.perf_counter() - started, interrupt.requested)])  # all processes continue or stop together
            position, stopped = work.after(position, max(s for s, _ in clocks), metrics["trained_tokens"]), any(r for _, r in clocks)
            record = sampler.summary(position, work, everyone, metrics | seconds | supervisor.calls() | {"learning_rate": rate})
            from_main(partial(recorder.step, record, everyone, stage.name))
            own.tell([group for group, _ in everyone], notes)
            validation.after_step(position, total, stopped=stopped)
            checkpoint.after_step(run, updater, position, kept, display, validation.best_kept)
            host.after_step(record, everyone, partial(checkpoint.save, run, updater, position, kept))
        final = checkpoint.save(run, updater, position, kept, final=not stopped)
    if stopped:
        display.note(f"stopped after step {position.step}; go on with: {host.resuming(run.path)}")
    return final


def enter_stage(
    stages: Sequence[Stage[Any]], position: Position, config: Config, total: int, updater: Updater
) -> tuple[Stage[Any], Position]:
    """Return the stage at a position, and the position; entering a stage resets the optimizer's moments and the reference of a KL term."""
    index = schedule.stage_index(position.progress(config, total), stages)
    if index != position.stage:
        position = position.enter(index)
        updater.begin_stage(stages[index].rolls_out)
    return stages[index], position
