"""Every field of TRL's GRPOConfig: honoured, without meaning here, or refused by name (docs/trl.md shows the table).

A field that is not in the table, as one of a later TRL may be, is refused unless it has its default.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trl import GRPOConfig

from dyme.errors import ConfigError, quoted

FOLDER = "dyme"
"""The run folder within `output_dir`, which is left to what TRL's scripts put there."""
Settings = dict[str, dict[str, Any]]

HONOURED: dict[str, str] = {
    "output_dir": "run.output, the folder dyme in it",
    "seed": "run.seed",
    "save_strategy": "run.save_every (no, steps, epoch)",
    "save_steps": "run.save_every",
    "save_total_limit": "run.keep_checkpoints",
    "push_to_hub": "at the end of training",
    "hub_model_id": "where push_to_hub goes; unset: output_dir's name",
    "hub_private_repo": "run.hub_private_repo",
    "report_to": "run.report_to",
    "run_name": "run.run_name",
    "project": "run.project",
    "logging_strategy": "state.log_history, on_log (no, steps, epoch)",
    "logging_steps": "state.log_history, on_log",
    "logging_first_step": "state.log_history, on_log",
    "disable_tqdm": "whether the display is quiet",
    "eval_strategy": "evaluations on eval_dataset (no, steps, epoch)",
    "eval_steps": "evaluations on eval_dataset",
    "eval_delay": "evaluations on eval_dataset",
    "eval_on_start": "an evaluation before the first step",
    "num_generations_eval": "completions per prompt of an evaluation",
    "metric_for_best_model": "state.best_metric, for callbacks",
    "greater_is_better": "state.best_metric, for callbacks",
    "max_steps": "train.max_prompts",
    "num_train_epochs": "train.max_prompts",
    "per_device_train_batch_size": "train.prompts_per_step",
    "gradient_accumulation_steps": "train.prompts_per_step; micro-batches are as large as memory allows",
    "generation_batch_size": "train.prompts_per_step",
    "steps_per_generation": "train.prompts_per_step; at most gradient_accumulation_steps",
    "learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.lr_scheduler_type (linear, cosine, constant, constant_with_warmup)",
    "warmup_steps": "train.warmup_steps; the first step has a part of the rate, where TRL's has none",
    "warmup_ratio": "train.warmup_steps",
    "weight_decay": "train.weight_decay",
    "adam_beta1": "train.adam_beta1",
    "adam_beta2": "train.adam_beta2",
    "adam_epsilon": "train.adam_epsilon",
    "optim": "AdamW (adamw_torch, adamw_torch_fused)",
    "max_grad_norm": "train.max_grad_norm",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "activation_checkpointing": "train.gradient_checkpointing",
    "use_cpu": "the device",
    "shuffle_dataset": "train.shuffle",
    "remove_unused_columns": "whether rewards get columns",
    "num_generations": "rollout.num_generations",
    "max_completion_length": "rollout.max_completion_length",
    "temperature": "rollout.temperature",
    "top_p": "rollout.top_p",
    "top_k": "rollout.top_k",
    "chat_template_kwargs": "variables of the chat template",
    "model_init_kwargs": "dtype, revision, trust_remote_code and attn_implementation",
    "trust_remote_code": "model.trust_remote_code",
    "disable_dropout": "the model's dropout",
    "beta": "objective.beta",
    "num_iterations": "train.num_iterations",
    "epsilon": "objective.epsilon",
    "epsilon_high": "objective.epsilon_high",
    "loss_type": "objective.loss_type (grpo, dr_grpo, dapo)",
    "scale_rewards": "objective.scale_rewards",
    "mask_truncated_completions": "objective.mask_truncated",
    "reward_weights": "weights of the reward functions",
}
"""Fields with a setting of ours, or a part of the trainer, that does what they say."""

_SPEED = "it concerns speed or memory alone"
_LOADER = "there is no data loader; pictures are prepared ahead in threads"
_PROCESSES = "processes sum gradients by dyme's own means"
_VLLM = "completions are sampled by the model itself"
_EVALUATION = "evaluations fill batches by tokens"
_FLAG = "it is for the script, not for the trainer"
_RECORD = "the run folder keeps all completions with their pictures, and its page shows them"
_UNUSED = "GRPO does not use it"
WITHOUT_MEANING: dict[str, str] = {
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "tf32",
                     "torch_empty_cache_steps", "use_cache", "pad_to_multiple_of", "cache_implementation",
                     "activation_checkpointing_kwargs",
                     "gradient_checkpointing_kwargs", "skip_memory_metrics", "auto_find_batch_size", "enable_jit_checkpoint"), _SPEED),
    **dict.fromkeys(("dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
                     "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order", "ignore_data_skip",
                     "train_sampling_strategy", "length_column_name", "accelerator_config"), _LOADER),
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
                     "ddp_timeout", "local_rank", "ds3_gather_for_generation", "average_tokens_across_devices", "log_on_each_node",
                     "save_on_each_node"), _PROCESSES),
    **dict.fromkeys(("vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode", "vllm_server_base_url", "vllm_server_host",
                     "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization", "vllm_max_model_length",
                     "vllm_tensor_parallel_size", "vllm_importance_sampling_correction", "vllm_importance_sampling_mode",
                     "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min", "vllm_importance_sampling_cap",
                     "transformers_continuous_batching_config"), _VLLM),
    **dict.fromkeys(("per_device_eval_batch_size", "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object",
                     "prediction_loss_only", "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval"), _EVALUATION),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "resume_from_checkpoint", "debug"), _FLAG),
    **dict.fromkeys(("log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts", "log_level",
                     "log_level_replica", "logging_nan_inf_filter", "include_num_input_tokens_seen"), _RECORD),
    **dict.fromkeys(("label_names", "label_smoothing_factor", "data_seed", "optim_target_modules"), _UNUSED),
    "full_determinism": "on one CPU process a run is exact in any case",
    "save_only_model": "a checkpoint always holds what a resume needs",
    "hub_strategy": "the model is pushed once, at the end",
    "hub_always_push": "the model is pushed once, at the end",
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
                    "it belongs to a loss_type that is refused"),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), "it belongs to sync_ref_model, which is refused"),
    **dict.fromkeys(("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
                    "it belongs to use_adaptive_entropy, which is refused"),
    "max_tool_calling_iterations": "it belongs to tools, which are refused",
}  # fmt: skip
"""Fields that change nothing that is learned here; a line says so once if one has another value than its default."""

_OWN_UPDATE = "dyme's update has no such term; leave it out"
REFUSED: dict[str, str] = {
    "lr_scheduler_kwargs": "dyme's schedules have no further settings; leave it out",
    "optim_args": "leave it out",
    "neftune_noise_alpha": _OWN_UPDATE,
    "use_vllm": "set use_vllm=False: completions are sampled by the model itself",
    "use_transformers_continuous_batching": "leave it out: completions are sampled by the model itself",
    "use_transformers_paged": "leave it out: completions are sampled by the model itself",
    "vllm_structured_outputs_regex": "completions are sampled freely; leave it out",
    "min_p": "take top_p or top_k",
    "repetition_penalty": "completions are sampled without one; leave it out",
    "generation_kwargs": "take temperature, top_p and top_k",
    "delta": _OWN_UPDATE,
    "importance_sampling_level": "the ratio is taken token by token; leave it out",
    "multi_objective_aggregation": "rewards are summed, then normalized; leave it out",
    "sync_ref_model": "the reference model is that of the start; leave it out",
    "top_entropy_quantile": _OWN_UPDATE,
    "entropy_coef": _OWN_UPDATE,
    "use_adaptive_entropy": _OWN_UPDATE,
    "off_policy_mask_threshold": _OWN_UPDATE,
    "use_bias_correction_kl": "the KL term is multiplied by the ratio, as by TRL's default; leave it out",
    "cast_lm_head_to_fp32": "log-probabilities are summed in float32 in any case; leave it out",
    "router_aux_loss_coef": _OWN_UPDATE,
    "load_best_model_at_end": "the final model is the last one, and state.log_history says which checkpoint was best",
    "restore_callback_states_from_checkpoint": "callbacks begin anew; leave it out",
    "log_completions_hub_repo": "completions are in the run folder; leave it out",
    "hub_token": "log in with `hf auth login`, or set HF_TOKEN",
    "hub_revision": "the model is pushed to the main branch; leave it out",
    "trackio_space_id": "set the environment variable TRACKIO_SPACE_ID",
    "trackio_bucket_id": "leave it out",
    "trackio_static_space_id": "leave it out",
    "fsdp": "each process keeps the whole model; leave it out",
    "fsdp_config": "each process keeps the whole model; leave it out",
    "deepspeed": "each process keeps the whole model; leave it out",
    "parallelism_config": "each process keeps the whole model; leave it out",
}
"""Fields that would change what is learned, or where, and cannot be honoured, with what to do."""


def changed(args: GRPOConfig) -> dict[str, Any]:
    """Return the fields of GRPOConfig whose value in `args` differs from their default after TRL's own initialisation.

    Fields that a script's own subclass adds are left out.
    """
    plain = type(args)(output_dir=args.output_dir, use_cpu=args.use_cpu, bf16=args.bf16, fp16=args.fp16)
    own = {field.name: (getattr(args, field.name), getattr(plain, field.name)) for field in dataclasses.fields(GRPOConfig)}
    return {name: value for name, (value, default) in own.items() if not _same(value, default)}


def _same(value: Any, default: Any) -> bool:
    return bool(value == default) or (not value and not default and not isinstance(value, bool | int | float))


def check(args: GRPOConfig) -> list[str]:
    """Return a line for each changed field without meaning here. Raises ConfigError, naming the field, for one that is refused."""
    found = changed(args)
    if args.eval_strategy != "no":
        found.pop("do_eval", None)  # which transformers sets then
    for name, value in found.items():
        if name in REFUSED:
            raise ConfigError(f"GRPOConfig.{name}={quoted(value)} cannot be honoured: {REFUSED[name]}")
        if name not in HONOURED and name not in WITHOUT_MEANING:
            raise ConfigError(f"GRPOConfig.{name}={quoted(value)} is not known to dyme, and could change what is learned; leave it out")
    return [f"GRPOConfig.{name} is without meaning here: {WITHOUT_MEANING[name]}" for name in found if name in WITHOUT_MEANING]


def choice(args: GRPOConfig, name: str, known: Mapping[str, Any]) -> Any:
    """Return the meaning of a field's value. Raises ConfigError, naming field and choices, for one that is not known."""
    value = getattr(args, name)
    word = str(getattr(value, "value", value))
    if word not in known:
        raise ConfigError(f"GRPOConfig.{name}={word!r} cannot be honoured; choose from {', '.join(known)}")
    return known[word]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The budget in TRL's counts: updates in all and in an epoch; dyme's steps are rollouts, each with `iterations` updates."""

    prompts: int
    """Prompts of a rollout, over all processes."""
    iterations: int
    rollouts: int
    rollouts_per_epoch: int

    @property
    def updates(self) -> int:
        """Return the number of updates in all, TRL's max_steps."""
        return self.rollouts * self.iterations


def budget_of(args: GRPOConfig, rows: int, processes: int) -> Budget:
    """Return the budget of a run on `rows` samples. Raises ConfigError for numbers that contradict each other here."""
    accumulated, generated, iterations = args.gradient_accumulation_steps, args.steps_per_generation, args.num_iterations
    if generated > accumulated or accumulated % generated or (iterations > 1 and generated != accumulated):
        raise ConfigError(
            f"GRPOConfig.steps_per_generation={generated} cannot be honoured with gradient_accumulation_steps={accumulated} and "
            f"num_iterations={iterations}: a rollout is updated on as a whole; leave it out"
        )
    if args.scale_rewards == "batch" and generated != accumulated:
        raise ConfigError("GRPOConfig.scale_rewards='batch' takes one rollout for each update; leave steps_per_generation out")
    completions = args.per_device_train_batch_size * processes * accumulated
    prompts = completions // args.num_generations
    per_epoch = max(1, rows // prompts)
    if args.max_steps <= 0:
        return Budget(prompts, iterations, math.ceil(args.num_train_epochs * per_epoch), per_epoch)
    if args.max_steps % iterations:
        raise ConfigError(f"GRPOConfig.max_steps={args.max_steps} must be a multiple of num_iterations={iterations}")
    return Budget(prompts, iterations, args.max_steps // iterations, per_epoch)


def settings_of(args: GRPOConfig, budget: Budget) -> Settings:
    """Return dyme's settings, by section, for the fields that are honoured. Raises ConfigError for values that cannot be honoured."""
    if args.max_completion_length is None:
        raise ConfigError("GRPOConfig.max_completion_length=None cannot be honoured; give a number of tokens")
    objective = {
        "loss_type": choice(args, "loss_type", {name: name for name in ("grpo", "dr_grpo", "dapo")}),
        "scale_rewards": args.scale_rewards, "std": "sample", "advantage_eps": 1e-4, "epsilon": args.epsilon,
        "epsilon_high": args.epsilon_high, "beta": args.beta, "mask_truncated": args.mask_truncated_completions, "normalize": "all",
    }  # fmt: skip
    rates = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
    choice(args, "optim", dict.fromkeys(("adamw_torch", "adamw_torch_fused")))
    constant = str(args.lr_scheduler_type.value) == "constant"  # without warm-up, whatever warmup_steps says
    train = {
        "prompts_per_step": budget.prompts, "max_prompts": budget.rollouts * budget.prompts, "num_iterations": budget.iterations,
        "shuffle": bool(args.shuffle_dataset), "learning_rate": args.learning_rate,
        "lr_scheduler_type": choice(args, "lr_scheduler_type", rates),
        "warmup_steps": 0 if constant else math.ceil(args.get_warmup_steps(budget.updates) / budget.iterations),
        "weight_decay": args.weight_decay, "adam_beta1": args.adam_beta1, "adam_beta2": args.adam_beta2, "adam_epsilon": args.adam_epsilon,
        "max_grad_norm": args.max_grad_norm or 1e12, "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "gradient_checkpointing": bool(args.gradient_checkpointing),
    }  # fmt: skip
    rollout = {
        "num_generations": args.num_generations, "max_completion_length": args.max_completion_length, "temperature": args.temperature,
        "top_p": args.top_p, "top_k": args.top_k,
    }  # fmt: skip
    return {"run": _run(args, budget), "train": train, "rollout": rollout, "objective": objective}


def _run(args: GRPOConfig, budget: Budget) -> dict[str, Any]:
    """Return the settings of the run folder."""
    saves: dict[str, Callable[[], int]] = {"no": lambda: 0, "steps": lambda: _every(args.save_steps, budget),
                                           "epoch": lambda: budget.rollouts_per_epoch}  # fmt: skip
    return {
        "output": str(Path(args.output_dir) / FOLDER), "seed": args.seed, "save_every": choice(args, "save_strategy", saves)(),
        "keep_checkpoints": args.save_total_limit or 10**6, "hub_private_repo": bool(args.hub_private_repo),
        "report_to": tuple(args.report_to), "run_name": args.run_name or "", "project": args.project if "project" in changed(args) else "",
    }  # fmt: skip


def _every(steps: float, budget: Budget) -> int:
    """Return dyme's steps for a number of TRL's steps, or for a share of all steps."""
    updates = math.ceil(steps * budget.updates) if 0 < steps < 1 else int(steps)
    return math.ceil(updates / budget.iterations)
