"""DyMETrainer: takes the arguments of TRL's GRPOTrainer and runs dyme's loop."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages

from dyme.config import Config
from dyme.errors import ConfigError, ModelError, RunError
from dyme.integrations.trl import fields, models
from dyme.integrations.trl.events import Events
from dyme.integrations.trl.figures import figures
from dyme.integrations.trl.reward_models import with_models
from dyme.integrations.trl.rewards import Rewards
from dyme.integrations.trl.rows import Rows, place_of, read
from dyme.methods import dyme as switching
from dyme.methods import grpo as exploring
from dyme.methods import method_of
from dyme.model.policy import Policy
from dyme.publishing import hub
from dyme.recipe import build
from dyme.rollout import hf
from dyme.system.processes import from_main, state, together
from dyme.tracking.display import Display
from dyme.training.loop import train
from dyme.training.setup import Grade, Host
from dyme.types import Group, Sample

_REFUSED = {
    "quantization_config": "dyme trains float32 masters of the weights; load the model without it",
    "tools": "completions call no tools",
    "rollout_func": "completions are sampled by the model itself",
    "environment_factory": "there are no environments",
}
"""Arguments of GRPOTrainer that cannot be honoured, and why."""


class DyMETrainer(Host):
    """Train a model with DyME, with the arguments of TRL's GRPOTrainer and four more.

    `correct` is the reward that decides whether a completion is right, and so whether DyME memorizes or explores: a function of the same
    signature, or the index or name of one of `reward_funcs` (default: the first); a completion is right if it gets `threshold` or more.
    `trace` is the column to memorize if all completions of a prompt are wrong; without it nothing can be memorized, and training is plain
    GRPO. `dyme` holds further settings, {"method.all_correct": "explore"}.
    """

    judges, divides = True, False

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
        *,
        trace: str | None = None,
        correct: Any = None,
        threshold: float = 1.0,
        dyme: Mapping[str, Any] | None = None,
    ) -> None:
        """Check everything that can be checked before training. Raises ConfigError, DataError or ModelError in one line."""
        self._policy: Policy | None = None
        refused = {"quantization_config": quantization_config, "tools": tools, "rollout_func": rollout_func,
                   "environment_factory": environment_factory}  # fmt: skip
        for name, value in refused.items():
            if value:
                raise ConfigError(f"{name} cannot be honoured: {_REFUSED[name]}; leave it out")
        if tuple(optimizers) != (None, None):
            raise ConfigError("optimizers cannot be honoured: dyme trains with its own AdamW and schedule; leave them out")
        if not isinstance(model, str) and not hasattr(model, "config"):
            raise ModelError(f"model: {type(model).__name__} is no model; give a hub id, a folder, or a transformers model")
        if not isinstance(args, GRPOConfig | None):
            raise ConfigError(f"args is {type(args).__name__}, and TRL's GRPOConfig is needed")
        name = model if isinstance(model, str) else str(getattr(model.config, "_name_or_path", "") or "model")
        self.args = args if args is not None else GRPOConfig(f"{name.rstrip('/').rpartition('/')[2]}-DyME")
        notes = fields.check(self.args)
        if self.args.use_cpu:
            os.environ["ACCELERATE_USE_CPU"] = "true"
        asked = with_models(reward_funcs, reward_processing_classes, self.args)
        self.reward = Rewards(asked, self.args.reward_weights, correct, threshold)
        self.rows = read(train_dataset, "train_dataset", trace)
        self.held_out = _held_out(eval_dataset)
        if (self.args.eval_strategy != "no" or self.args.eval_on_start) and not self.held_out:
            raise ConfigError("GRPOConfig.eval_strategy and eval_on_start need an eval_dataset; give one, or leave them out")
        launch = state()
        self.budget = fields.budget_of(self.args, len(self.rows.samples), launch.num_processes)
        self.spec = models.spec_of(model, processing_class, peft_config, self.args, name)
        self.config = self._config(trace, dyme or {})
        self.notes = [*notes, self._switch(trace)]
        self.display = Display.quiet() if self.args.disable_tqdm else Display()
        self.events = Events(self, list(callbacks or []))

    def _config(self, trace: str | None, dyme: Mapping[str, Any]) -> Config:
        """Return dyme's settings for TRL's, overridden by those in `dyme`, checked."""
        tree = fields.settings_of(self.args, self.budget)
        tree["model"] = self.spec.settings | {"date": datetime.now(UTC).date().isoformat(), "freeze_vision": False}
        tree["task"] = {"name": "jsonl", "marker": "", "think_prompt": "", "direct_prompt": ""}
        tree["method"] = {"name": (switching if trace else exploring).METHOD.name}
        for key, value in dyme.items():
            section, dot, setting = key.partition(".")
            if not dot:
                raise ConfigError(f"dyme: {key!r} is no setting; write section.key, e.g. method.all_correct")
            tree.setdefault(section, {})[setting] = value
        config = build(tree, where="DyMETrainer")
        if config.supervision.checker != "off":
            raise ConfigError("supervision.checker grades dyme's own thinking reward, and the rewards are yours; leave it off")
        if config.supervision.refiner == "self":
            raise ConfigError("supervision.refiner self asks dyme's own verifier, and here a reward decides; take local, or leave it off")
        if config.run.eval_every:
            raise ConfigError("run.eval_every asks dyme's own verifier; set eval_strategy and eval_steps of GRPOConfig")
        if not trace and any("traces" in stage.needs for stage in method_of(config).plan(config)):
            raise ConfigError(f"method {config.method.name} memorizes; name the column to memorize, e.g. trace='solution'")
        return config

    def _switch(self, trace: str | None) -> str:
        """Return one line that names the deciding reward and the memorized column."""
        decides = f"a completion is correct if {self.reward.decider_name} gives it {self.reward.threshold:g} or more (correct=, threshold=)"
        if trace:
            return f"{decides}; where none is, column {trace!r} is memorized"
        return f"no trace= column, so nothing can be memorized: this run is plain GRPO; {decides}, which is only recorded"

    # What callers of TRL's trainers use

    @property
    def model(self) -> Any:
        """Return the model: the given one until training begins, then the one that trains."""
        return self._policy.model if self._policy else self.spec.model

    @property
    def processing_class(self) -> Any:
        """Return the processor or tokenizer, once the model is loaded."""
        return self._policy.processor if self._policy else self.spec.processor

    @property
    def state(self) -> Any:
        """Return transformers' TrainerState, with log_history."""
        return self.events.state

    def train(self, resume_from_checkpoint: bool | str | None = None) -> Any:
        """Train and return transformers' TrainOutput; with True, or a folder of this run, resume it from its last checkpoint."""
        from transformers.trainer_utils import TrainOutput

        place = Path(self.config.run.output)
        if isinstance(resume_from_checkpoint, str | Path) and place.absolute() not in (
            (own := Path(resume_from_checkpoint).absolute()), own / fields.FOLDER, *own.parents
        ):  # fmt: skip
            raise RunError(f"resume_from_checkpoint: {resume_from_checkpoint} is not of this run, {place}; give True, or its output_dir")
        resume = bool(resume_from_checkpoint)
        if not resume and (place / "config.json").exists():
            raise RunError(f"{place} holds a run already; give another output_dir, or train(resume_from_checkpoint=True)")
        self.over, began, config = False, time.perf_counter(), self.config
        if resume and (place / "config.json").exists():
            held = from_main(lambda: models.held(place))
            config = replace(config, model=replace(config.model, date=held.model.date))
        train(config, samples=self.rows.samples, host=self, resume=resume, display=self.display)
        self.events.end()
        if self.args.push_to_hub and (place / "model").exists():
            self.push_to_hub()
        losses = [row["loss"] for row in self.state.log_history if "loss" in row]
        loss = sum(losses) / len(losses) if losses else 0.0
        found = {"train_runtime": time.perf_counter() - began, "train_loss": loss, "epoch": self.state.epoch}
        return TrainOutput(self.state.global_step, loss, found)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model with its processor to a folder, by default output_dir, as save_pretrained of transformers or peft does."""
        folder = Path(output_dir or self.args.output_dir)
        done = Path(self.config.run.output) / "model"

        def copy() -> None:
            shutil.copytree(done, folder, dirs_exist_ok=True)

        if done.exists():
            from_main(copy)
        else:
            policy = self._loaded()
            from_main(lambda: policy.save(folder, dict(policy.model.state_dict()), policy.model.dtype))

    def push_to_hub(self, commit_message: str | None = None, **kwargs: Any) -> Any:
        """Upload the final model with its card to hub_model_id, else to output_dir's name; return the address."""
        done = Path(self.config.run.output) / "model"
        if not done.exists():
            raise RunError("push_to_hub: there is no final model yet; train first")
        repository = self.args.hub_model_id or Path(self.args.output_dir).resolve().name
        return from_main(lambda: hub.push(done, repository, bool(self.args.hub_private_repo)))

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Sample num_generations_eval completions for each prompt, ask the rewards, log and return their means as TRL names them."""
        sets = self.held_out if eval_dataset is None else _held_out(eval_dataset)
        if not sets:
            raise ConfigError("evaluate: there is no eval_dataset; give one to the trainer or here")
        found: dict[str, float] = {}
        for key, rows in sets.items():
            prefix = f"{metric_key_prefix}_{key}" if key else metric_key_prefix
            found |= {f"{prefix}_{name}": value for name, value in self._evaluated(rows).items()}
        self.events.evaluated(found)
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add a row to state.log_history and call the callbacks."""
        self.events.log(logs)

    def add_callback(self, callback: Any) -> None:
        """Add a TrainerCallback."""
        self.events.handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a TrainerCallback and return it."""
        return self.events.handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Remove a TrainerCallback."""
        self.events.handler.remove_callback(callback)

    @property
    def accelerator(self) -> Any:
        """Return accelerate's PartialState: device, processes, print and wait_for_everyone."""
        return state()

    def save_state(self) -> None:
        """Write state, with log_history, to output_dir/trainer_state.json; a resume needs none of it."""
        from_main(lambda: self._written("trainer_state.json", vars(self.state)))

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Show metrics, one a line."""
        for name, value in metrics.items():
            self.display.note(f"{split} {name}: {value}")

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Write metrics to output_dir/SPLIT_results.json."""
        from_main(lambda: self._written(f"{split}_results.json", metrics))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: dyme writes its own card beside the model."""

    def _written(self, name: str, content: Mapping[str, Any]) -> None:
        (Path(self.args.output_dir) / name).write_text(json.dumps(dict(content), indent=2, default=str) + "\n", encoding="utf-8")

    def is_world_process_zero(self) -> bool:
        """Return whether this is the main process."""
        return bool(state().is_main_process)

    # What the loop asks of its host

    def policy(self, config: Config) -> Policy:
        """Load the model, or wrap the one that was given."""
        self._policy = self.spec.policy(config)
        if self.args.disable_dropout:
            for module in self._policy.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        return self._policy

    def grade(self, groups: Sequence[Group], usual: Grade) -> list[Group]:
        """Ask the reward functions, once for all completions of a step."""
        if groups and not groups[0].completions:
            return list(groups)
        return together(lambda: self._graded(groups, self.rows))

    def begin(self, run: Any, policy: Policy, position: Any) -> None:
        """Show which reward decides and which settings have no meaning here; then start the callbacks."""
        for line in self.notes:
            self.display.note(line)
            from_main(partial(run.log_event, "note", message=line))
        self.events.begin(run, position)

    def resuming(self, path: Path) -> str:
        """Return the call that resumes the run."""
        return "train(resume_from_checkpoint=True)"

    def before_step(self, position: Any) -> None:
        """Call the callbacks for the beginning of a step."""
        self.events.before_step()

    def after_step(self, record: Any, everyone: Any, save: Any) -> None:
        """Log, evaluate, save and stop as GRPOConfig and the callbacks say."""
        self.events.after_step(record, [group for group, _ in everyone], save)

    # Inside

    def _loaded(self) -> Policy:
        return self._policy or self.policy(self.config).to(state().device)

    def _graded(self, groups: Sequence[Group], rows: Rows) -> list[Group]:
        policy = self._loaded()

        def row(sample: Sample) -> dict[str, Any]:
            found = rows.row(sample)
            pictures = found.get("images") if "images" in found else [found["image"]] if found.get("image") is not None else None
            prompt = found["prompt"]
            if ("images" in found or "image" in found) and not isinstance(prompt, str):
                prompt = prepare_multimodal_messages(prompt, images=pictures or None)
            return {"prompt": prompt} if self.args.remove_unused_columns else found | {"prompt": prompt}

        return self.reward.ask(groups, row, policy.decode, self.state)

    def _evaluated(self, rows: Rows) -> dict[str, float]:
        """Return means over all completions of an evaluation."""
        from accelerate.utils import gather_object

        policy, launch, count = self._loaded(), state(), self.args.num_generations_eval or self.args.num_generations
        share = rows.samples[launch.process_index :: launch.num_processes]
        asked = replace(self.config.rollout, num_generations=max(2, count))

        def work() -> list[Group]:
            groups: list[Group] = []
            for start in range(0, len(share), self.budget.prompts):  # a rollout's worth of pictures in memory
                part = share[start : start + self.budget.prompts]
                prompts = [policy.encode(sample, "") for sample in part]
                seeds = [hf.seed_of("evaluation", self.config.run.seed, place_of(sample)) for sample in part]
                drawn = zip(part, hf.sample(policy, prompts, seeds, asked), strict=True)
                groups += self._graded([Group(sample=sample, completions=own[:count]) for sample, own in drawn], rows)
            return groups

        return figures(gather_object(together(work)), self.reward.names) | self.reward.metrics()


def _held_out(data: Any) -> dict[str, Rows]:
    """Return evaluation sets by name; a single set has the name ""."""
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return {str(name): read(one, f"eval_dataset[{name!r}]", None) for name, one in data.items()}
    return {"": read(data, "eval_dataset", None)}
