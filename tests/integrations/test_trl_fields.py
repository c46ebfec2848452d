"""Every field of GRPOConfig: in the table, and what is honoured shows in our settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT
from trl import GRPOConfig

from dyme.errors import ConfigError
from dyme.integrations.trl import fields

FIELDS = [field.name for field in dataclasses.fields(GRPOConfig)]
OTHERS: dict[str, Any] = {
    "seed": 7, "save_strategy": "no", "save_steps": 3, "save_total_limit": 2, "report_to": "tensorboard", "run_name": "mine",
    "project": "ours", "max_steps": 5, "num_train_epochs": 1.0, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2,
    "generation_batch_size": 8, "steps_per_generation": 1, "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 4,
    "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "max_grad_norm": 0.5, "bf16": True,
    "gradient_checkpointing": False, "shuffle_dataset": False, "num_generations": 4, "max_completion_length": 64, "temperature": 0.7,
    "top_p": 0.9, "top_k": 20, "beta": 0.1, "num_iterations": 2, "epsilon": 0.1, "epsilon_high": 0.3, "loss_type": "grpo",
    "scale_rewards": "none", "mask_truncated_completions": True, "hub_private_repo": True, "fp16": True,
}  # fmt: skip
"""Another value than the default, for each field that goes to a setting."""
TOGETHER: dict[str, dict[str, Any]] = {
    "generation_batch_size": {"gradient_accumulation_steps": 2}, "steps_per_generation": {"gradient_accumulation_steps": 2},
    "scale_rewards": {}, "fp16": {"bf16": False}, "activation_checkpointing": {},
}  # fmt: skip
ELSEWHERE = {
    "output_dir", "push_to_hub", "hub_model_id", "logging_strategy", "logging_steps", "logging_first_step", "disable_tqdm", "eval_strategy",
    "eval_steps", "eval_delay", "eval_on_start", "num_generations_eval", "metric_for_best_model", "greater_is_better", "use_cpu",
    "remove_unused_columns", "chat_template_kwargs", "model_init_kwargs", "trust_remote_code", "disable_dropout", "reward_weights", "optim",
    "warmup_ratio", "activation_checkpointing",
}  # fmt: skip
"""Honoured by the trainer itself: test_trl_trainer.py shows them."""


def arguments(**given: Any) -> GRPOConfig:
    return GRPOConfig(**({"output_dir": "out", "use_cpu": True, "bf16": False} | given))


def settings(**given: Any) -> fields.Settings:
    args = arguments(**given)
    fields.check(args)
    return fields.settings_of(args, fields.budget_of(args, 100, 1))


def test_every_field_is_in_the_table_once() -> None:
    tables = [fields.HONOURED, fields.WITHOUT_MEANING, fields.REFUSED]
    assert [name for name in FIELDS if sum(name in table for table in tables) != 1] == []
    known = {name for table in tables for name in table}
    assert known - set(FIELDS) <= {"warmup_ratio", "vllm_importance_sampling_cap", "use_transformers_paged"}, "fields of other versions"


@pytest.mark.parametrize("name", [name for name in fields.HONOURED if name not in ELSEWHERE])
def test_what_is_honoured_changes_our_settings(name: str) -> None:
    beside = TOGETHER.get(name, {})
    if name == "generation_batch_size":
        assert settings(generation_batch_size=8, **beside) == settings(steps_per_generation=1, **beside)
        return
    if name == "steps_per_generation":  # two rollouts for an update: as many prompts, of the same weights
        assert settings(steps_per_generation=1, **beside)["train"] == settings(**beside)["train"]
        return
    assert settings(**beside | {name: OTHERS[name]}) != settings(**{k: v for k, v in beside.items() if k != name})


@pytest.mark.parametrize("name", [name for name in fields.REFUSED if name in FIELDS])
def test_what_is_refused_is_named(name: str) -> None:
    args = arguments()
    setattr(args, name, {"multi_objective_aggregation": "normalize_then_sum", "importance_sampling_level": "sequence"}.get(name, 0.5))
    if name == "use_bias_correction_kl":
        args.use_bias_correction_kl = False
    with pytest.raises(ConfigError, match=rf"GRPOConfig\.{name}=.* cannot be honoured: "):
        fields.check(args)


@pytest.mark.parametrize("name", [name for name in fields.WITHOUT_MEANING if name in FIELDS])
def test_what_is_without_meaning_is_told(name: str) -> None:
    args = arguments()
    assert fields.check(args) == []
    setattr(args, name, "other")
    assert fields.check(args) == [f"GRPOConfig.{name} is without meaning here: {fields.WITHOUT_MEANING[name]}"]


def test_a_field_of_a_later_trl_is_refused_unless_it_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Later(GRPOConfig):
        novelty: float = 0.0

    given = {"output_dir": "out", "use_cpu": True, "bf16": False}
    assert fields.check(Later(**given, novelty=0.5)) == [], "of a script's own"
    monkeypatch.setattr(fields, "GRPOConfig", Later)
    assert fields.check(Later(**given)) == []
    with pytest.raises(ConfigError, match=r"GRPOConfig\.novelty=0\.5 is not known to dyme"):
        fields.check(Later(**given, novelty=0.5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss_type": "cispo"}, "loss_type='cispo' cannot be honoured; choose from grpo, dr_grpo, dapo"),
        ({"loss_type": "bnpo"}, "loss_type='bnpo'"),
        ({"lr_scheduler_type": "polynomial"}, "lr_scheduler_type='polynomial'"),
        ({"optim": "adafactor"}, "optim='adafactor'"),
        ({"steps_per_generation": 4}, "steps_per_generation=4 cannot be honoured with gradient_accumulation_steps=1"),
        ({"max_steps": 3, "num_iterations": 2}, "max_steps=3 must be a multiple of num_iterations=2"),
        ({"max_completion_length": None}, "max_completion_length=None"),
        ({"save_strategy": "best", "load_best_model_at_end": False, "metric_for_best_model": "eval_reward"}, "save_strategy='best'"),
        ({"use_vllm": True}, "use_vllm=True cannot be honoured: set use_vllm=False"),
        ({"beta": 0.1, "use_bias_correction_kl": False}, "use_bias_correction_kl=False"),
        ({"min_p": 0.1}, "min_p=0.1 cannot be honoured: take top_p or top_k"),
    ],
)
def test_values_that_cannot_be_honoured_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_budgets_are_trls() -> None:
    """Against what TRL's own Trainer counts: prompts that fill no batch are left out of an epoch, updates are counted, not rollouts."""

    def budget(rows: int, **given: Any) -> tuple[int, int, int]:
        found = fields.budget_of(arguments(**given), rows, 1)
        return found.prompts, found.rollouts, found.updates

    assert budget(10, per_device_train_batch_size=8, num_generations=4, num_train_epochs=3) == (2, 15, 15)
    assert budget(11, per_device_train_batch_size=8, num_generations=4, num_train_epochs=3) == (2, 15, 15)
    assert budget(8, per_device_train_batch_size=4, gradient_accumulation_steps=4, num_generations=4, num_train_epochs=1) == (4, 2, 2)
    assert budget(8, per_device_train_batch_size=8, num_generations=4, num_iterations=3, num_train_epochs=1) == (2, 4, 12)
    assert budget(1, per_device_train_batch_size=8, num_generations=4, max_steps=5) == (2, 5, 5)


def test_shares_of_steps_are_counted_as_transformers_does(tmp_path: Path) -> None:
    found = settings(max_steps=20, warmup_steps=0.1, save_steps=0.25)
    assert (found["train"]["warmup_steps"], found["run"]["save_every"]) == (2, 5)
    assert settings(max_steps=20, num_iterations=2, save_steps=6)["run"]["save_every"] == 3
    assert settings(save_strategy="epoch", per_device_train_batch_size=8, num_generations=4)["run"]["save_every"] == 50
    assert settings(lr_scheduler_type="constant", warmup_steps=3)["train"]["warmup_steps"] == 0


def test_docs_show_the_table() -> None:
    page = (ROOT / "docs/trl.md").read_text(encoding="utf-8")
    lines = [f"| `{name}` | {what} |" for name, what in fields.HONOURED.items()]
    lines += [f"| `{name}` | no meaning: {why} |" for name, why in fields.WITHOUT_MEANING.items()]
    lines += [f"| `{name}` | refused unless it has its default: {what} |" for name, what in fields.REFUSED.items()]
    assert page.endswith("\n".join(["| field | here |", "|---|---|", *lines]) + "\n")
