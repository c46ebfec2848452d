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
    """Bounds of a number: `recipe.check_values` checks each setting against its bounds, and `dyme settings` shows them."""

    def __init__(self, least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf, below: float = math.inf) -> None:
        """`least` and `most` are included, `above` and `below` are not."""
        self.least, self.most, self.above, self.below = least, most, above, below

    def hold(self, value: float) -> bool:
        """Return whether a value lies within the bounds."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """Return the bounds in words: "from 1 to 65,536"."""
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"from {self.least:,} to {self.most:,}"
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {value:,}" for word, value in words.items() if math.isfinite(value))


Precision = Literal["auto", "bf16", "fp16", "fp32"]
"""Precisions that a model can compute in."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run is written, how often it is saved and evaluated, and who gets its figures."""

    output: str = "runs/dyme"
    """Run folder; it must be new or empty unless you resume."""
    seed: Annotated[int, Bounds(0, SEEDS)] = 0
    """Seed of data order, sampling and initialisation."""
    save_every: Annotated[int, Bounds(0, 10**9)] = 50
    """Steps between checkpoints (the last step is always saved); 0: only the last."""
    keep_checkpoints: Annotated[int, Bounds(1, 10**6)] = 2
    """Checkpoints kept; older ones are deleted."""
    push_to_hub: bool = False
    """Upload the final model with its card to run.hub_model_id after training (`dyme push` uploads it later)."""
    hub_model_id: str = ""
    """Repository on the hub, e.g. "me/my-model"; created if it does not exist."""
    hub_private_repo: bool = False
    """Create that repository as a private one."""
    report_to: tuple[str, ...] = ()
    """Trackers that get metrics, evaluations, samples and settings (docs/tracking.md); several are allowed: "tensorboard", "wandb",
    "trackio", another tracker that accelerate knows, or your own, "FILE.py:NAME" or "MODULE:NAME"."""
    project: str = ""
    """Project that W&B and trackio put the run into; empty: the value of WANDB_PROJECT or TRACKIO_PROJECT, else "dyme"."""
    run_name: str = ""
    """The run's name in trackers; empty: run.output."""
    report_samples_every: Annotated[int, Bounds(0, 10**9)] = 50
    """Steps between the tables of samples, with pictures, that trackers get; 0: no tables."""
    eval_every: Annotated[int, Bounds(0, 10**9)] = 0
    """Steps between evaluations on a part of the validation split while training; the last step is evaluated too. 0: no evaluations."""
    eval_size: Annotated[int, Bounds(1, 10**7)] = 200
    """Validation samples in each of these evaluations; they are the same in every evaluation and every run on this data."""
    best_metric: Literal["think_accuracy", "direct_accuracy", "think_score", "direct_score", "format_rate"] = "think_accuracy"
    """Metric of these evaluations by which models are compared; a score equals the accuracy where answers have no soft metric."""
    keep_best: Literal["off", "checkpoint", "model"] = "off"
    """checkpoint: the best checkpoint is kept too, however old (best.json names it), and the final model is that of the last step; model:
    the best checkpoint also becomes the final model, as with TRL's load_best_model_at_end."""
    patience: Annotated[int, Bounds(0, 10**9)] = 0
    """End the run after this many evaluations in a row without a new best value of run.best_metric; 0: never."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy to train."""

    path: str = "embedded"
    """A local folder or hub id of a Hugging Face image-text-to-text or causal model, or a GGUF file; "embedded" is the shipped tiny VLM."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights in the final model; auto: that of train.precision, so that they are the weights that sampled."""
    freeze_vision: bool = True
    """Do not train the vision tower, as in the paper."""
    lora_rank: Annotated[int, Bounds(0, 65_536)] = 0
    """Train LoRA adapters of this rank instead of the weights (needs peft); 0: train the weights."""
    lora_alpha: Annotated[float, Bounds(0)] = 0.0
    """LoRA's alpha: adapters are scaled by alpha / rank; 0: twice the rank."""
    lora_dropout: Annotated[float, Bounds(0, below=1)] = 0.0
    """Dropout probability of an adapter's inputs in the update."""
    lora_targets: str = "all-linear"
    """Layers that get an adapter: all linear layers of the language model (and of an unfrozen vision tower), or names: "q_proj,v_proj"."""
    trust_remote_code: bool = False
    """Run Python code that ships with the checkpoint; only for folders you trust."""
    image_longest_edge: Annotated[int, Bounds(0, 65_536)] = 0
    """SmolVLM: pixels of a picture's longer side before it is cut into tiles; 0: the checkpoint's own, also in the next three settings."""
    image_min_pixels: Annotated[int, Bounds(0, 10**9)] = 0
    """Qwen-VL: minimum number of pixels of a picture."""
    image_max_pixels: Annotated[int, Bounds(0, 10**9)] = 0
    """Qwen-VL: maximum number of pixels of a picture."""
    image_max_tiles: Annotated[int, Bounds(0, 1000)] = 0
    """InternVL: maximum number of tiles that a picture is cut into, without the thumbnail; 1: a picture is not cut."""
    image_splitting: bool | None = None
    """SmolVLM: cut a picture into tiles, or (false) scale it into one; unset: the checkpoint's own."""
    system_prompt: str = ""
    """System message before each question; empty: the chat template's own, if it has one."""
    enable_thinking: bool = False
    """Let a model use its own thinking block (Qwen3's <think>); off: the template closes the block, and the model thinks in plain text."""
    date: str = "2024-07-26"
    """Date for chat templates that write today's date, so that a run has the same prompts every day."""
    layout: Literal["auto", "tree", "cached", "rows", "reference"] = "auto"
    """How the update lays out a prompt's branches; auto: the first of a packed tree, branches behind the prompt's cache and plain rows that
    agrees with the model's own forward pass."""
    attention: Literal["tree", "sdpa", "flex_attention", "eager"] = "tree"
    """Attention of the language model; tree: SDPA kernels on the parts of a packed tree; the others take the tree as a mask."""
    vision_cache: Literal["off", "memory", "disk"] = "off"
    """Keep the frozen vision tower's outputs across steps; within a step they are always shared."""
    vision_cache_mib: Annotated[int, Bounds(1, 10**9)] = 4096
    """Size of that cache in MiB; the least recently used outputs are dropped first."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The questions, the prompts and the verifier."""

    name: str = "charts"
    """A name that `dyme tasks` lists ("jsonl" reads your own rows), or your own task, "FILE.py:NAME" or "MODULE:NAME" (docs/rewards.md)."""
    path: str = ""
    """The data: a folder that `dyme prepare` wrote, or a folder in a published layout, a file of rows or a hub id, which are prepared once.
    A relative path starts at the working directory, or, if a recipe names it and it does not exist there, at the recipe's folder."""
    train: str = ""
    """File or folder to train on (JSON lines, JSON, CSV, parquet, imagefolder: docs/data.md), in dyme's fields or the data set's; empty:
    task.path's."""
    validation: str = ""
    """File or folder for choosing settings; empty: task.path's, or the training file's last tenth."""
    test: str = ""
    """File or folder to report on; empty: task.path's, and if task.path has no test rows, the validation rows."""
    prepared: str = "data"
    """Folder for prepared data, with one folder for each source; relative to the working directory."""
    language: str = "en"
    """Language of the questions that are taken from a data set with several languages (slake: en, zh); all: every language."""
    form: Literal["direct", "choice"] = "direct"
    """How aokvqa asks: for a free answer, compared with ten annotators' answers, or for one of four choices."""
    train_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Maximum number of training samples; 0: all (charts, which are drawn without end: 2000)."""
    validation_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Maximum number of validation samples; 0: all (charts: 300)."""
    test_size: Annotated[int, Bounds(0, 10**7)] = 0
    """Maximum number of test samples; 0: all (charts: 1000)."""
    traces: Literal["low", "medium", "high"] = "low"
    """Quality of the embedded task's reference traces (paper, Table 1)."""
    misread: Annotated[float | None, Bounds(0, 0.5)] = None
    """Probability that a value in the embedded task's traces is misread. Unset: that of the quality (low 0.3, medium 0.08, high 0)."""
    seed: Annotated[int, Bounds(0, SEEDS)] = 0
    """Seed of the embedded task's generator."""
    input: Literal["image", "facts"] = "image"
    """Input of the model: the image, or its facts in words instead, for a text model or to measure thinking without seeing."""
    think_prompt: str = "Think step by step, then write Answer:"
    """Instruction to think, appended to the question; write the marker without an example after it, which a model would copy."""
    direct_prompt: str = "Answer briefly."
    """Instruction to answer at once, appended to the question."""
    marker: str = "Answer:"
    """Text that separates thinking from the final answer; it must occur exactly once in a completion. Empty: no marker; the verifier judges
    the whole completion, and a target is the row's rationale alone."""
    verifier: str = ""
    """Your own verifier (docs/rewards.md), "FILE.py:NAME" or "MODULE:NAME": it decides which answers are correct, and so the switch, in
    training and evaluation. Empty: the task's own verifier, if it has one, else that of each row's answer kind."""
    tolerance: Annotated[float | None, Bounds(0, below=1)] = None
    """Relative tolerance of numbers, in training and in evaluation, for answer kinds auto, number, list and math. Unset: the task's own for
    kind auto (jsonl and chartqa 0.05, else 0; years and fractions must be exact), 0 for the others."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The method that routes each prompt, and its settings."""

    name: str = "dyme"
    """A name that `dyme methods` lists, or your own method (docs/methods.md), "FILE.py:NAME" or "MODULE:NAME"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own settings that are given; in a recipe they are keys beside `name`. `dyme methods NAME` lists them."""


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
    engine: Literal["hf", "vllm"] = "hf"
    """What samples: hf, the model in the process that trains it; vllm, a server, which `dyme serve RECIPE` starts (docs/scale.md)."""
    url: tuple[str, ...] = ()
    """Addresses of vLLM servers of the same checkpoint; several processes take them in turn. Empty: port 8000 of this computer. Whoever
    reaches a server can replace its model: loopback or a private network only."""
    sync_folder: str = ""
    """Folder that the servers see too, through which they get the weights; empty: in memory (/dev/shm) if all of them are on this computer,
    else the run's folder."""
    wait_seconds: Annotated[float, Bounds(0, 10**7)] = 0.0
    """Time to wait for a server that is gone, in seconds, such as one that is started again; 0, or after that time: the run is saved and
    ends."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """The shaped reward r of Eq. 2. It never decides between modes: correctness alone does."""

    accuracy_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of binary correctness, r_a."""
    thinking_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of the thinking reward, r_t."""
    format_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of the format reward, r_f (reference code; 0 is the paper's formula)."""
    thinking_against: Literal["facts", "reference"] = "facts"
    """Text that the thinking is compared with, by F1: the image's facts (without facts, the reference trace), or always the trace."""
    thinking_gate: Literal["parsed", "correct"] = "parsed"
    """Completions that can earn the thinking reward: those in the format, or only the correct ones."""
    min_thinking_words: Annotated[int, Bounds(0, 10**6)] = 3
    """Minimum number of words before the marker; a completion with fewer does not parse and earns no format reward."""
    functions: tuple[str, ...] = ()
    """Your own rewards (docs/rewards.md), each "FILE.py:NAME", "MODULE:NAME" or the entry point of an installed package; they are added to
    the shaped reward under NAME. A relative path starts at the working directory, or, if a recipe names it and it does not exist there, at
    the recipe's folder."""
    weights: tuple[float, ...] = ()
    """Weight of each of these rewards, in order; a negative weight punishes, 0 only records the reward. Empty: 1 each."""
    concurrency: Annotated[int, Bounds(1, 4096)] = 32
    """Maximum number of calls of async rewards at a time, in each process."""
    timeout_seconds: Annotated[float, Bounds(above=0, most=10**6)] = 60.0
    """Time limit of one call of your own reward or verifier, in seconds; a longer call counts as failed."""

    @property
    def own(self) -> dict[str, float]:
        """Return the weight of each of the user's rewards, by name."""
        names = [name.rpartition(":")[2] for name in self.functions]
        return dict(zip(names, self.weights or [1.0] * len(names), strict=False))


@dataclass(frozen=True, kw_only=True)
class SupervisionConfig:
    """Visual supervision: the checker of explored traces and the refiner of memorized ones. With both off it is Pure DyME."""

    checker: Literal["off", "local", "llm"] = "off"
    """Helper that grades the traces of explored groups, in place of reward.thinking_against; local needs no LLM."""
    refiner: Literal["off", "local", "llm", "self"] = "off"
    """Helper that writes the trace of a memorized target; off: the row's own rationale; self: the policy itself, which sees facts and
    answer. Its text is the target if the verifier accepts its answer and the local checker its thinking; else the local refiner's is."""
    self_samples: Annotated[int, Bounds(1, 4096)] = 4
    """Texts that the policy writes for each memorized prompt with refiner self; of those that are accepted, the one that the local checker
    grades best is the target."""
    self_reuse: bool = True
    """With refiner self: when a prompt is memorized again, use the text that was accepted before; false: have the present weights write
    another one."""
    self_prompt: str = ""
    """Prompt of refiner self, in which {question}, {facts}, {answer} and {think} (task.think_prompt) are filled in; what follows a line of
    three dashes is the beginning of the policy's own turn, which it continues. Empty: dyme's own."""
    flip: Annotated[float, Bounds(0, 0.5)] = 0.0
    """For studies only: probability that a grade of the checker is turned into its opposite (low and high are exchanged, a score s becomes
    1 - s), to see how reliable a checker must be."""
    facts: Literal["data", "ocr", "llm"] = "data"
    """Source of an image's facts; with ocr and llm they are extracted once, before training (`dyme facts`)."""
    facts_cache: str = "facts"
    """Folder that keeps extracted facts, by the content of the images."""
    domain: Literal["chart", "medical", "geometry", "world", "text"] = "chart"
    """Domain of the prompts that an LLM gets."""
    url: str = ""
    """Base URL of an OpenAI-compatible endpoint, e.g. http://localhost:8000/v1."""
    model: str = ""
    """Name of the model at that endpoint."""
    api_key_env: str = ""
    """Environment variable that holds the key, e.g. OPENAI_API_KEY; empty: the server needs no key."""
    overlap: bool = True
    """Sample the next step while the LLM works: that step is sampled one update early, and the importance ratio corrects for it."""
    on_failure: Literal["without", "local", "wait"] = "without"
    """What happens to a group whose helper failed: without: no thinking reward, or the row's own trace; local: the local helper takes
    over; wait: the run waits."""
    concurrency: Annotated[int, Bounds(1, 4096)] = 32
    """Maximum number of requests at a time."""
    timeout_seconds: Annotated[float, Bounds(above=0, most=10**6)] = 60.0
    """Time limit of one request, in seconds."""
    max_retries: Annotated[int, Bounds(0, 100)] = 3
    """Maximum number of further attempts after a timeout, status 429 or 5xx, with growing pauses."""
    max_tokens: Annotated[int, Bounds(1, 10**6)] = 512
    """Longest answer in tokens."""
    max_calls: Annotated[int, Bounds(0, 10**12)] = 0
    """Maximum number of requests of a process; 0: no limit."""
    max_total_tokens: Annotated[int, Bounds(0, 10**15)] = 0
    """Maximum number of tokens of a process, prompts included; 0: no limit."""
    cache: str = ""
    """File that keeps the LLM's answers by the content of the request; empty: a file in the run folder."""

    @property
    def remote(self) -> bool:
        """Return whether the checker or the refiner is an LLM."""
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
    """Clip range of the importance ratio; without effect if train.num_iterations is 1, where the ratio is 1."""
    epsilon_high: Annotated[float | None, Bounds(0)] = None
    """Upper clip range; unset: epsilon."""
    beta: Annotated[float, Bounds(0)] = 0.0
    """Weight of the KL term to the reference model (the model at the start of the RL stage); 0: no reference model is kept."""
    sampling_clip: Annotated[float, Bounds(0, 10**6)] = 2.0
    """Limit of the importance weights that correct for a vLLM server's arithmetic: a token's gradient is multiplied by its probability
    under the model over that under the server, at most this (truncated importance sampling); 0: no correction."""
    mask_truncated: bool = False
    """Leave truncated completions out of the loss; their rewards still count in the group's mean."""
    normalize: Literal["all", "active", "term"] = "all"
    """Prompts that a term is averaged over: all of the step (Eq. 8's expectation), those not skipped, or (HPT's) those in the term alone,
    under which a memorized prompt of 32 weighs 0.03 to 31 explored ones."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimizer and the budget."""

    prompts_per_step: Annotated[int, Bounds(1, 65_536)] = 32
    """Prompts per optimizer step, over all processes."""
    max_prompts: Annotated[int, Bounds(0, 10**12)] = 0
    """Stop after this many prompts. At most one of max_prompts, max_completions and max_tokens is set; all 0, and max_seconds too:
    num_train_epochs decides."""
    max_completions: Annotated[int, Bounds(0, 10**15)] = 0
    """Stop after this many sampled completions, those that a method draws again included; a prompt of a stage that samples nothing, such as
    SFT, counts as rollout.num_generations."""
    max_tokens: Annotated[int, Bounds(0, 10**15)] = 0
    """Stop after this many tokens: sampled ones, and those that updates read (each prompt that is trained on and its branches)."""
    num_train_epochs: Annotated[float, Bounds(above=0, most=10**6)] = 3.0
    """Passes over the training samples, unless another budget is set."""
    shuffle: bool = True
    """Draw a new order of the training samples for each pass; false: keep their order."""
    max_seconds: Annotated[float, Bounds(0)] = 0.0
    """Stop after this training time, in seconds, whichever budget is set; 0: no limit."""
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
    """Largest norm of the gradient; a larger one is clipped to it."""
    num_iterations: Annotated[int, Bounds(1, 1000)] = 1
    """Updates per rollout; a step's loss and gradient norm are means over them."""
    max_tokens_per_batch: Annotated[int, Bounds(0, 10**9)] = 0
    """Maximum number of tokens of a micro-batch, padding included; gradients accumulate over micro-batches. 0: as many as fit in memory."""
    precision: Precision = "auto"
    """Precision of all computation (masters of the weights are float32); auto: bf16 on a GPU that has it, fp16 on other GPUs, else fp32."""
    shard: Literal["off", "full", "node"] = "off"
    """Divide weights, gradients and optimizer state among processes (FSDP2): full: among all of them; node: among those of each computer,
    with a copy on every computer. Rollouts and evaluations gather the weights (docs/scale.md). off: each process keeps all of them."""
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
        """Return plain nested dictionaries, as written to the run folder: the method's settings are keys beside its name."""
        return {**dataclasses.asdict(self), "method": {"name": self.method.name, **self.method.settings}}
