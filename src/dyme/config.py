"""Settings: frozen keyword-only dataclasses, from a TOML recipe and the command line; named as in TRL where it has the setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

SEEDS = 2**32 - 1
"""Largest seed that every generator of random numbers takes."""


class Bounds:
    """The values that a number may have; `recipe.check_values` holds each setting to its own, and `dyme settings` shows them."""

    def __init__(self, least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf, below: float = math.inf) -> None:
        """`least` and `most` are included, `above` and `below` are not."""
        self.least, self.most, self.above, self.below = least, most, above, below

    def hold(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """In words: "from 1 to 65,536"."""
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"from {self.least:,} to {self.most:,}"
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {value:,}" for word, value in words.items() if math.isfinite(value))


Precision = Literal["auto", "bf16", "fp16", "fp32"]
"""Names of precisions to compute in."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run goes and how often it saves."""

    output: str = "runs/dyme"
    """Run folder; it must be new or empty unless you resume."""
    seed: Annotated[int, Bounds(0, SEEDS)] = 0
    """Seed of data order, sampling and initialisation."""
    save_every: Annotated[int, Bounds(0, 10**9)] = 50
    """Steps between checkpoints (the last step is always saved); 0: only the last."""
    keep_checkpoints: Annotated[int, Bounds(1, 10**6)] = 2
    """Checkpoints kept; older ones are deleted."""
    push_to_hub: bool = False
    """Upload the final model with its card to run.hub_model_id (`dyme push` does it later)."""
    hub_model_id: str = ""
    """Repository on the hub, e.g. "me/my-model"; made if it is new."""
    hub_private_repo: bool = False
    """Make that repository a private one."""
    report_to: tuple[str, ...] = ()
    """Trackers that get metrics, evaluations, samples and settings (docs/tracking.md), several at once: "tensorboard", "wandb", "trackio",
    another one that accelerate knows, or one of your own, "FILE.py:NAME" or "MODULE:NAME"."""
    project: str = ""
    """Project that W&B and trackio put the run into; empty: what WANDB_PROJECT or TRACKIO_PROJECT says, else "dyme"."""
    run_name: str = ""
    """The run's name there; empty: run.output."""
    report_samples_every: Annotated[int, Bounds(0, 10**9)] = 50
    """Steps between tables of samples, with pictures, that trackers get; 0: none."""
    eval_every: Annotated[int, Bounds(0, 10**9)] = 0
    """Steps between evaluations while training, on a part of the validation split, and one after the last step; 0: none."""
    eval_size: Annotated[int, Bounds(1, 10**7)] = 200
    """Validation samples that they ask, the same ones each time and in every run on this data."""
    best_metric: Literal["think_accuracy", "direct_accuracy", "think_score", "direct_score", "format_rate"] = "think_accuracy"
    """Which of their figures says which model is best; a score is the accuracy where answers have no soft metric."""
    keep_best: Literal["off", "checkpoint", "model"] = "off"
    """checkpoint: the best one is kept too, whatever its age (best.json names it), and the final model is still the last one; model: the
    best one also becomes the final model, as TRL's load_best_model_at_end has it."""
    patience: Annotated[int, Bounds(0, 10**9)] = 0
    """End the run after this many evaluations in a row without a better one; 0: never."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy to train."""

    path: str = "embedded"
    """A local folder or hub id of a Hugging Face image-text-to-text or causal model, or a GGUF file; "embedded" is the shipped tiny VLM."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights that a run writes for use; auto: that of train.precision, hence those that were sampled from."""
    freeze_vision: bool = True
    """Keep the vision tower as it is, as the paper does."""
    lora_rank: Annotated[int, Bounds(0, 65_536)] = 0
    """Train LoRA adapters of this rank instead of the weights (needs peft); 0: train the weights."""
    lora_alpha: Annotated[float, Bounds(0)] = 0.0
    """Scale of the adapters, over the rank; 0: twice the rank."""
    lora_dropout: Annotated[float, Bounds(0, below=1)] = 0.0
    """Share of an adapter's inputs that are dropped in the update."""
    lora_targets: str = "all-linear"
    """Layers that get one: all linear ones of the language model (of the tower too, if not frozen), or names, e.g. "q_proj,v_proj"."""
    trust_remote_code: bool = False
    """Run Python code that ships with the checkpoint; only for folders you trust."""
    image_longest_edge: Annotated[int, Bounds(0, 65_536)] = 0
    """SmolVLM: pixels of a picture's longer side before it is cut into tiles; 0: the checkpoint's own, as for the next three."""
    image_min_pixels: Annotated[int, Bounds(0, 10**9)] = 0
    """Qwen-VL: pixels of a picture at least."""
    image_max_pixels: Annotated[int, Bounds(0, 10**9)] = 0
    """Qwen-VL: pixels of a picture at most."""
    image_max_tiles: Annotated[int, Bounds(0, 1000)] = 0
    """InternVL: tiles that a picture is cut into at most, the thumbnail not counted; 1: it is not cut."""
    image_splitting: bool | None = None
    """SmolVLM: cut a picture into tiles, or (false) scale it into one; unset: the checkpoint's own."""
    system_prompt: str = ""
    """System message before each question; empty: what the chat template adds by itself, if anything."""
    enable_thinking: bool = False
    """Leave a model's own thinking (Qwen3's <think>) open; off: the template closes it, and DyME's thinking is all there is."""
    date: str = "2024-07-26"
    """What a chat template that writes today's date gets for it, so that a run reads the same prompt every day."""
    layout: Literal["auto", "tree", "rows", "reference"] = "auto"
    """How the update lays out a prompt's branches; auto: packed as a tree if that agrees with the model's own forward, else as rows."""
    attention: Literal["tree", "sdpa", "flex_attention", "eager"] = "tree"
    """The language model's attention; tree: SDPA kernels on the parts of a packed tree; the others get the tree as a mask."""
    vision_cache: Literal["off", "memory", "disk"] = "off"
    """Keep the frozen tower's outputs across steps; within a step they are always shared."""
    vision_cache_mib: Annotated[int, Bounds(1, 10**9)] = 4096
    """Size of that cache; the least recently used outputs leave first."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The questions, the prompts and what counts as right."""

    name: str = "charts"
    """A name that `dyme tasks` lists ("jsonl" reads your own rows), or a task of your own, "FILE.py:NAME" or "MODULE:NAME"
    (docs/rewards.md)."""
    path: str = ""
    """The data: a folder that `dyme prepare` made, or a folder in a published layout, a file of rows or a hub id, prepared once if need be.
    Relative paths start at the working directory; in a recipe, where nothing lies there, at the recipe's folder."""
    train: str = ""
    """File or folder to train on (JSON lines, JSON, CSV, parquet, imagefolder: docs/data.md), in our fields or the data set's; empty:
    task.path's."""
    validation: str = ""
    """File or folder for choosing settings; empty: task.path's, or the training file's last tenth."""
    test: str = ""
    """File or folder to report on; empty: task.path's, and where that has none, the validation rows are reported on."""
    prepared: str = "data"
    """Folder for what is prepared, one folder in it for each source; relative to the working directory."""
    language: str = "en"
    """Language of the questions to take from a data set that has several (slake: en, zh); all: every one."""
    form: Literal["direct", "choice"] = "direct"
    """How aokvqa asks: for a free answer, which ten annotators' answers judge, or for one of four choices."""
    train_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Training samples at most; 0: all (of the endless charts: 2000)."""
    validation_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Validation samples at most; 0: all (charts: 300)."""
    test_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Held-out samples at most; 0: all (charts: 1000)."""
    traces: Literal["low", "medium", "high"] = "low"
    """Quality of the embedded task's reference traces (paper, Table 1)."""
    seed: Annotated[int, Bounds(0, SEEDS)] = 0
    """Seed of the embedded task's generator."""
    input: Literal["image", "facts"] = "image"
    """What the model gets to see: the image, or its facts in words instead, for a text model or to tell seeing from thinking."""
    think_prompt: str = "Think step by step, then write Answer:"
    """Appended to the question when told to think; name the marker bare, an example after it would be copied."""
    direct_prompt: str = "Answer briefly."
    """Appended to the question when told to answer at once."""
    marker: str = "Answer:"
    """Separates thinking from the final answer; must occur exactly once in a completion. Empty: none does; the whole completion is the
    answer that a verifier judges, and a target is the row's rationale alone."""
    verifier: str = ""
    """A verifier of your own (docs/rewards.md), "FILE.py:NAME" or "MODULE:NAME": it decides which answers are correct, hence the switch, in
    training and evaluation. Empty: the task's own, if it has one, else that of each row's answer kind."""
    tolerance: Annotated[float | None, Bounds(0, below=1)] = None
    """Relative tolerance of numbers, in training and evaluation alike: of answers of kinds auto, number, list and math. Unset: the task's
    own for kind auto (jsonl and chartqa 0.05, else 0; years and fractions are met exactly), 0 for the others."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Which method decides, and its settings."""

    name: str = "dyme"
    """A name that `dyme methods` lists, or a method of your own (docs/methods.md), "FILE.py:NAME" or "MODULE:NAME"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings, as far as they are given; in a recipe they stand beside `name`. `dyme methods NAME` lists them."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How completions are sampled."""

    num_generations: Annotated[int, Bounds(2, 4096)] = 8
    """Completions per prompt, K."""
    max_completion_length: Annotated[int, Bounds(1, 10**6)] = 48
    """Longest completion in tokens."""
    temperature: Annotated[float, Bounds(0.001, 1000)] = 1.0
    """Sampling temperature."""
    top_p: Annotated[float, Bounds(above=0, most=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: Annotated[int, Bounds(0, 10**9)] = 0
    """Sample from the k likeliest tokens; 0 is off."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """The shaped reward r of Eq. 2. The switch between modes never looks at it: correctness alone decides."""

    accuracy_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of binary correctness, r_a."""
    thinking_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of the thinking reward, r_t."""
    format_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of the format reward, r_f (reference code; 0 is the paper's formula)."""
    thinking_against: Literal["facts", "reference"] = "facts"
    """F1 of the thinking against the facts of the image (the reference trace where a row has no facts), or always the latter."""
    thinking_gate: Literal["parsed", "correct"] = "parsed"
    """Which completions can earn the thinking reward."""
    min_thinking_words: Annotated[int, Bounds(0, 10**6)] = 3
    """Fewer words before the marker earn no format reward and do not parse, so "Answer: 5" farms nothing."""
    functions: tuple[str, ...] = ()
    """Rewards of your own (docs/rewards.md), each "FILE.py:NAME", "MODULE:NAME" or the name under which an installed package offers one;
    they join the shaped reward under NAME. Relative files start at the working directory; in a recipe, where nothing lies there, at the
    recipe's folder."""
    weights: tuple[float, ...] = ()
    """Weight of each of them, in order; a negative one punishes, with 0 the reward is only recorded. Empty: 1 each."""
    concurrency: Annotated[int, Bounds(1, 4096)] = 32
    """Calls of async rewards at a time, in each process."""
    timeout_seconds: Annotated[float, Bounds(above=0, most=10**6)] = 60.0
    """Longest time that one call of a reward or verifier of your own may take; after it the call has failed."""

    @property
    def own(self) -> dict[str, float]:
        """Name and weight of each of the user's rewards."""
        names = [name.rpartition(":")[2] for name in self.functions]
        return dict(zip(names, self.weights or [1.0] * len(names), strict=False))


@dataclass(frozen=True, kw_only=True)
class SupervisionConfig:
    """Visual supervision: who checks explored traces and writes memorized ones. All off is Pure DyME."""

    checker: Literal["off", "local", "llm"] = "off"
    """Grades the traces of explored groups, in place of reward.thinking_against; local needs no LLM."""
    refiner: Literal["off", "local", "llm"] = "off"
    """Writes the trace of a memorized target; off: the row's own rationale."""
    facts: Literal["data", "ocr", "llm"] = "data"
    """Where the facts of an image come from; ocr and llm are read once, before training (`dyme facts`)."""
    facts_cache: str = "facts"
    """Folder that keeps extracted facts, by the content of the images."""
    domain: Literal["chart", "medical", "geometry", "world", "text"] = "chart"
    """Which prompts an LLM gets."""
    url: str = ""
    """Base URL of an OpenAI-compatible endpoint, e.g. http://localhost:8000/v1."""
    model: str = ""
    """Its name at that endpoint."""
    api_key_env: str = ""
    """Environment variable that holds the key, e.g. OPENAI_API_KEY; empty: the server wants none."""
    overlap: bool = True
    """Let the LLM work while the next step is sampled: that step is then sampled one update early, and the importance ratio says so."""
    on_failure: Literal["without", "local", "wait"] = "without"
    """A group whose helper failed trains without its reward or with the row's own trace, with the local helper, or the run waits."""
    concurrency: Annotated[int, Bounds(1, 4096)] = 32
    """Requests at a time."""
    timeout_seconds: Annotated[float, Bounds(above=0, most=10**6)] = 60.0
    """Longest wait for one answer."""
    max_retries: Annotated[int, Bounds(0, 100)] = 3
    """Further attempts after a timeout, 429 or 5xx, with growing pauses."""
    max_tokens: Annotated[int, Bounds(1, 10**6)] = 512
    """Longest answer in tokens."""
    max_calls: Annotated[int, Bounds(0, 10**12)] = 0
    """Calls that a process may make; 0: no limit."""
    max_total_tokens: Annotated[int, Bounds(0, 10**15)] = 0
    """Tokens, prompts included, that a process may use; 0: no limit."""
    cache: str = ""
    """File that keeps answers by content; empty: in the run folder."""

    @property
    def remote(self) -> bool:
        """Whether a checker or refiner is behind an endpoint while training."""
        return "llm" in (self.checker, self.refiner)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The loss over branches (Eqs. 1, 7, 8)."""

    loss_type: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    """grpo: mean over a completion's tokens, then over completions; dapo: mean over all tokens; dr_grpo: constant divisor."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the group or of the batch, or not at all."""
    std: Literal["population", "sample"] = "population"
    """Standard deviation: population (paper) or sample (reference code, TRL)."""
    advantage_eps: Annotated[float, Bounds(0)] = 1e-4
    """Added to the standard deviation."""
    epsilon: Annotated[float, Bounds(0)] = 0.2
    """Clip range of the importance ratio; without effect while num_iterations is 1, where the ratio is 1."""
    epsilon_high: Annotated[float | None, Bounds(0)] = None
    """Upper clip range; unset: epsilon."""
    beta: Annotated[float, Bounds(0)] = 0.0
    """Weight of the KL term to the reference model (the model at the start of the RL stage); 0: no reference model is kept."""
    mask_truncated: bool = False
    """Leave completions that were cut off out of the loss; their rewards still count in the group's mean."""
    normalize: Literal["all", "active", "term"] = "all"
    """Prompts that a term is averaged over: all of the step (Eq. 8's expectation), those not skipped, or (HPT's) those in the term alone,
    under which a memorized prompt of 32 weighs 0.03 to 31 explored ones."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimizer and the budget."""

    prompts_per_step: Annotated[int, Bounds(1, 65_536)] = 32
    """Prompts per optimizer step, over all processes."""
    max_prompts: Annotated[int, Bounds(0, 10**12)] = 0
    """Stop after this many prompts; 0: num_train_epochs decides."""
    num_train_epochs: Annotated[float, Bounds(above=0, most=10**6)] = 3.0
    """Passes over the training samples, unless max_prompts or max_seconds is set."""
    shuffle: bool = True
    """Draw a new order of the training samples for each pass; false: the order that they have."""
    max_seconds: Annotated[float, Bounds(0)] = 0.0
    """Stop after this much training time; 0: no limit."""
    learning_rate: Annotated[float, Bounds(above=0)] = 8e-5
    """Peak learning rate of AdamW; the default is the paper's for models of 0.5 B parameters, the embedded model takes 1e-3."""
    weight_decay: Annotated[float, Bounds(0)] = 0.01
    """AdamW's weight decay."""
    adam_beta1: Annotated[float, Bounds(0, below=1)] = 0.9
    """AdamW's decay of the mean gradient."""
    adam_beta2: Annotated[float, Bounds(0, below=1)] = 0.999
    """AdamW's decay of the mean squared gradient."""
    adam_epsilon: Annotated[float, Bounds(0)] = 1e-8
    """AdamW's addition to the divisor."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """Decay over the budget, after warm-up."""
    warmup_steps: Annotated[int, Bounds(0, 10**9)] = 5
    """Steps of linear warm-up; a high learning rate without it can collapse a small model at step 1."""
    max_grad_norm: Annotated[float, Bounds(above=0)] = 1.0
    """Gradient norm is clipped to this."""
    num_iterations: Annotated[int, Bounds(1, 1000)] = 1
    """Updates per rollout; a step's loss and gradient norm are means over them."""
    max_tokens_per_batch: Annotated[int, Bounds(0, 10**9)] = 0
    """Tokens of a micro-batch, padding included; gradients accumulate over micro-batches. 0: as many as fit in memory."""
    precision: Precision = "auto"
    """What all computation is in (updates add up in float32); auto: bf16 on a GPU that has it, fp16 on one that has not, else fp32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more work."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole recipe."""

    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain nested dictionaries, as written to the run folder: the method's settings stand beside its name."""
        return {**dataclasses.asdict(self), "method": {"name": self.method.name, **self.method.settings}}
