"""The view of a run for a TRL script: TrainerState with its log history, and the events of TrainerCallbacks.

transformers' own flow callback reads GRPOConfig and decides when to log, evaluate and save. `global_step` counts updates, as in TRL: a step
of dyme has `num_iterations` updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from dyme.integrations.trl.figures import figures
from dyme.system.processes import from_main
from dyme.system.processes import state as launch
from dyme.types import Group, StepRecord

if TYPE_CHECKING:
    from dyme.training.schedule import Position

_OURS = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "kl": "kl"}
"""TRL's names for those of dyme's figures that mean the same."""
_SHARES = ("share_memorize", "share_explore", "share_skip")


class Events:
    """The callbacks of a trainer and the state that they get."""

    def __init__(self, trainer: Any, callbacks: Sequence[Any]) -> None:
        """Create the state of `trainer`, a DyMETrainer, and call the callbacks' on_init_end."""
        self.trainer, self.args = trainer, trainer.args
        self.state, self.control = TrainerState(), TrainerControl()
        self.state.is_world_process_zero = self.state.is_local_process_zero = bool(launch().is_main_process)
        self.handler = CallbackHandler([DefaultFlowCallback, *callbacks], trainer.model, trainer.processing_class, None, None)
        self._run: Any = None
        self._waiting: list[dict[str, float]] = []
        """Figures of the steps since the last log."""
        self._tell("on_init_end")

    def begin(self, run: Any, position: Position) -> None:
        """Set the state to the run's position and call the callbacks."""
        self._run = run
        budget = self.trainer.budget
        self.state.max_steps, self.state.num_train_epochs = budget.updates, int(self.args.num_train_epochs)
        self.state.compute_steps(self.args, budget.updates)
        self.state.global_step, self.state.log_history, self._waiting = position.step * budget.iterations, [], []
        self.state.epoch = position.prompts / len(self.trainer.rows.samples)
        self.handler.model, self.handler.processing_class = self.trainer.model, self.trainer.processing_class
        self._tell("on_train_begin")
        if self.args.eval_on_start and not position.step:
            self.trainer.evaluate()

    def before_step(self) -> None:
        """Call the callbacks at the beginning of a step, and of an epoch."""
        if not self.state.global_step or self.state.epoch == int(self.state.epoch):
            self._tell("on_epoch_begin")
        self._tell("on_step_begin")

    def after_step(self, record: StepRecord, groups: Sequence[Group], save: Callable[[], Any]) -> None:
        """Call the callbacks after a step, and do what they ask for."""
        before, iterations = int(self.state.epoch), self.trainer.budget.iterations
        self.state.global_step, self.state.epoch = record.step * iterations, record.epoch
        ours = {theirs: record.metrics[own] for own, theirs in _OURS.items() if own in record.metrics}
        shares = {name: record.metrics[name] for name in _SHARES if name in record.metrics}
        self._waiting.append(ours | figures(groups, self.trainer.reward.names) | shares | self.trainer.reward.metrics())
        self._tell("on_step_end")
        self._obey(save)
        if int(self.state.epoch) > before:
            self._tell("on_epoch_end")
            self._obey(save)
        self.trainer.over = self.trainer.over or self.control.should_training_stop

    def end(self) -> None:
        """Log the remaining figures and call the callbacks at the end of training."""
        if self._waiting and self.args.logging_strategy != "no":
            self._log_waiting()
        self._tell("on_train_end")

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Log an evaluation, in the run folder too, keep the best metric, and call the callbacks."""
        if self._run is not None:
            step = self.state.global_step // self.trainer.budget.iterations
            from_main(lambda: self._run.log_event("evaluation", step=step, metrics=metrics))
        self.log(dict(metrics))
        self._keep_best(metrics)
        self._tell("on_evaluate", metrics=metrics)

    def log(self, logs: dict[str, float]) -> None:
        """Add a row to the history and call the callbacks."""
        logs["epoch"] = round(self.state.epoch, 6)
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._tell("on_log", logs=logs)

    def _log_waiting(self) -> None:
        """Log means over the steps since the last log; unknown values are left out of them."""
        names = dict.fromkeys(name for row in self._waiting for name in row)
        values = {name: [row[name] for row in self._waiting if name in row and row[name] == row[name]] for name in names}
        self._waiting = []
        self.log({name: sum(own) / len(own) for name, own in values.items() if own})

    def _obey(self, save: Callable[[], Any]) -> None:
        """Do what the callbacks asked for."""
        control = self.control
        if control.should_log:
            self._log_waiting()
        if control.should_evaluate and self.trainer.held_out:
            self.trainer.evaluate()
        if control.should_save:
            save()
            self._tell("on_save")
        control.should_log = control.should_evaluate = control.should_save = False

    def _keep_best(self, metrics: dict[str, float]) -> None:
        name = self.args.metric_for_best_model
        if name is None:
            return
        value = metrics.get(name, metrics.get(f"eval_{name}"))
        best = self.state.best_metric
        if value is not None and (best is None or (value > best if self.args.greater_is_better else value < best)):
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step

    def _tell(self, event: str, **given: Any) -> None:
        """Call an event of all callbacks; they may change the control."""
        self.control = getattr(self.handler, event)(self.args, self.state, self.control, *given.values())
