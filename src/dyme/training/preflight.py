"""The checks before a run trains: `preflight` is the list. A run that cannot work ends here, in one line, before any long work.

Context and memory are checked on a few samples, those with the longest questions, the most pictures and the longest targets.
Memory is an estimate: weights, gradients and AdamW's moments by size, activations by what a short sequence keeps for its backward
pass, and the cache of a rollout by the model's shape. Eager attention keeps more than that for long sequences. A weight that trains
takes 16 bytes (its float32 master, gradient and two moments), and 2 more where the model computes in half precision.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from dyme import targets
from dyme.checks import check_training
from dyme.config import Config
from dyme.errors import ConfigError, DataError, quoted
from dyme.methods import Method, Stage, asking, method_of
from dyme.model import adapters
from dyme.model.chat import texts_of
from dyme.model.checks import check_adapter, check_pictures, check_placeholders
from dyme.model.policy import Policy
from dyme.model.precision import DTYPES, check_trainable, settle
from dyme.model.resolution import taken
from dyme.model.tree import Limb, Prompt, Tree, collate
from dyme.model.vision import tower_of
from dyme.plugins import failure, place_of
from dyme.rollout.hf import BATCH_ROWS
from dyme.rollout.rows import can_share
from dyme.supervise.build import check_helpers
from dyme.supervise.self_refiner import SelfRefiner
from dyme.system.launch import local_count
from dyme.targets import check_rationales, target_text
from dyme.tasks.rules import own_verifier
from dyme.training import memory
from dyme.training.placement import sharded
from dyme.training.setup import Host
from dyme.types import Sample
from dyme.verify.rewards import find_rewards
from dyme.verify.rules import check_answers

PROBED = 4
"""Samples that are looked at for each reason."""
FILLER = 64
"""Tokens that a prompt is made longer by, to see what each takes."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """The longest prompt, with its hint, and target among the probed samples, in tokens, and the shortest of their prompts."""

    prompt: int
    target: int
    shortest: Prompt


def preflight(config: Config, samples: Sequence[Sample], accelerator: Accelerator, host: Host) -> tuple[Policy, Sizes]:
    """Check, in this order, all that can be checked before weights go to the device; return the policy and the sizes for the memory check.

    Each check raises an error of one line that says what to do. `check_step` is the last one, once the weights are on the device.
    """
    method = check_training(config)  # types, bounds, settings that go together, names of task and method, the method itself
    check_method(method, config, samples[0])  # routes that can be trained on
    find_rewards(config.reward)  # rewards that can be found and called
    check_trainable(config)  # a precision that can be trained in
    if not host.judges:
        check_answers(samples, config.task.marker, own_verifier(config))  # answers that can be judged, are right, and can be given
    check_rationales(samples, config.task.marker)  # targets with one answer
    check_helpers(config)  # the LLM's package and key
    check_host(host, config)  # weights that may be divided among processes
    policy = host.policy(config)
    return policy, check_model(policy, samples, config, accelerator)


def check_model(policy: Policy, samples: Sequence[Sample], config: Config, accelerator: Accelerator) -> Sizes:
    """Check the limits of the model, its context and the device's memory, the second half of `preflight`; return the sizes."""
    check_pictures(policy, samples)  # no pictures for a model that reads text
    check_placeholders(policy, samples)  # no text that the model takes for a picture
    check_adapter(policy, config)  # an adapter of the rank that the recipe asks for
    if parts_of(config, accelerator) > 1:
        sharded.check(policy)  # layers that can be divided, by what is installed
    sizes = check_context(policy, samples, config)  # prompts and answers within the model's context
    if config.supervision.refiner == "self":
        check_drafts(policy, samples, config)  # prompts with facts and answer within the context too
    check_weights(policy, config, accelerator)  # weights, gradients and moments within the device's memory
    return sizes


def check_host(host: Host, config: Config) -> None:
    """Raise ConfigError if the host keeps a model of its own and the weights are to be divided among processes."""
    if config.train.shard != "off" and not host.divides:
        raise ConfigError(
            f"train.shard = {config.train.shard} divides the weights among processes, and {type(host).__name__} keeps the whole model on "
            "each; train by a recipe (dyme train), or start the processes without FSDP"
        )


def parts_of(config: Config, accelerator: Accelerator) -> int:
    """Return the number of processes that share the weights, their gradients and moments; 1 if each has all of them."""
    return {"off": 1, "full": accelerator.num_processes, "node": local_count()}[config.train.shard] if accelerator.num_processes > 1 else 1


def check_context(policy: Policy, samples: Sequence[Sample], config: Config) -> Sizes:
    """Raise DataError or ConfigError for prompts and answers longer than the model's context; return the sizes of the probed samples.

    A method that draws groups again may put a hint as long as the target behind a prompt.
    """
    hints = any(stage.redraw for stage in method_of(config).plan(config))
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    prompts, longest, widest = [], 0, 0
    for sample in probed(samples, config):
        prompt = policy.encode(sample, config.task.think_prompt)
        target = len(policy.target(target_text(sample, config.task.marker)))
        hint = target if hints else 0
        _check_fits(policy, sample, len(prompt.token_ids), target, hint, limit, config)
        prompts.append(prompt)
        longest, widest = max(longest, target), max(widest, len(prompt.token_ids) + hint)
    return Sizes(widest, longest, min(prompts, key=lambda prompt: len(prompt.token_ids)))


def check_drafts(policy: Policy, samples: Sequence[Sample], config: Config) -> None:
    """Raise DataError for a prompt of the self-refiner, with the facts in words, that leaves no room for a draft in the model's context."""
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    refiner = SelfRefiner(config)
    for sample, opening in sorted(map(refiner.asked, samples), key=lambda asked: -len(asked[0].question + asked[1]))[:PROBED]:
        size = len(policy.encode(sample, "").token_ids) + len(policy.beginning(opening))
        if size + config.rollout.max_completion_length > limit:
            raise DataError(
                f"{sample.id}: supervision.refiner self asks with a prompt of {size:,} tokens, facts included, and the model's context is "
                f"{limit:,}; drop facts or the row, shorten rollout.max_completion_length, or take refiner local"
            )


def check_method(method: Method[Any], config: Config, sample: Sample) -> None:
    """Raise ConfigError for a method whose routes for made-up groups cannot be trained on, or whose shapes are not functions."""
    routes = asking.try_out(method, config, sample)
    for shape in {branch.shape for route in routes for branch in route.branches if branch.shape is not None}:
        chance = torch.tensor([0.01, 0.5, 0.99], requires_grad=True)
        try:
            found = shape.of(chance if shape.through else chance.detach())
        except Exception as error:
            raise ConfigError(f"method {method.name}, shape of a branch: {failure(error, shape.of)}") from error
        if not isinstance(found, torch.Tensor) or found.shape != chance.shape or not found.isfinite().all():
            raise ConfigError(
                f"method {method.name}, shape of a branch ({place_of(shape.of)}): for the probabilities 0.01, 0.5 and 0.99 it returned "
                f"{quoted(found)}, and a tensor of three finite numbers is needed"
            )


def doubts(policy: Policy, samples: Sequence[Sample], sizes: Sizes, config: Config, stages: Sequence[Stage[Any]]) -> list[str | None]:
    """Return lines about targets that may not be worth imitating; None for each doubt that there is not."""
    return [long_targets(policy, samples, sizes, config, stages), targets.warning(samples, stages, config.supervision.refiner)]


def long_targets(policy: Policy, samples: Sequence[Sample], sizes: Sizes, config: Config, stages: Sequence[Stage[Any]]) -> str | None:
    """Return one line if a method imitates targets longer than answers may be, with their share and the setting to change; else None.

    This is no error: a short trial may cut its targets. The targets are the rows' own; a refiner's may differ.
    """
    limit = config.rollout.max_completion_length
    if sizes.target <= limit or not any(stage.imitates for stage in stages):
        return None
    lengths = sorted(len(policy.target(target_text(sample, config.task.marker))) for sample in samples)
    long, most = sum(length > limit for length in lengths), lengths[int(0.95 * len(lengths))]
    return (
        f"{long} of {len(lengths)} targets ({long / len(lengths):.0%}) are longer than rollout.max_completion_length, {limit:,} tokens: "
        "what is imitated there can never be written in full, and is cut off and wrong; "
        f"set it to {lengths[-1]:,} for all of them, {most:,} for 95 % of them"
    )


def probed(samples: Sequence[Sample], config: Config) -> list[Sample]:
    """Return the first sample, and those with the longest questions, the most pictures and the longest targets."""
    chosen = [samples[0]]
    for size in (
        lambda s: len(texts_of(s.prompt) or s.question), lambda s: len(s.images), lambda s: len(target_text(s, config.task.marker)),
    ):  # fmt: skip
        chosen += sorted(samples, key=size, reverse=True)[:PROBED]
    return list({id(sample): sample for sample in chosen}.values())


def _check_fits(policy: Policy, sample: Sample, prompt: int, target: int, hint: int, limit: int, config: Config) -> None:
    """Raise an error with the numbers if a prompt and an answer are longer than the model's context."""
    room = limit - prompt
    smaller = [f"model.{name}" for name in taken(getattr(policy.processor, "image_processor", None))] if sample.images else []
    if room < 1 or target > room:
        what = f"a prompt of {prompt:,} tokens" + (f" and a target of {target:,}" if room >= 1 else "")
        remedy = f"; make pictures smaller ({', '.join(smaller)})" if smaller else "; shorten or drop such rows"
        raise DataError(f"{sample.id}: has {what}, and the model's context is {limit:,}{remedy}")
    room -= hint
    if config.rollout.max_completion_length > room:
        led = f" and a hint of up to {hint:,}" if hint else ""
        raise ConfigError(
            f"rollout.max_completion_length is {config.rollout.max_completion_length:,}, but the model's context of {limit:,} tokens "
            f"leaves {room:,} after the prompt of {sample.id}, {prompt:,} tokens{led}; set it to at most {room:,}"
        )


def check_weights(policy: Policy, config: Config, accelerator: Accelerator) -> None:
    """Raise ConfigError if weights, gradients and moments alone do not fit on the device; call it before they go to the device.

    If they are divided among processes, a device also holds the weights whole, in the run's precision, while it samples.
    """
    dtype = DTYPES[settle(config.train.precision, accelerator.device)]
    free, adapted, parts = memory.free_bytes(accelerator.device), adapters.attached(policy.model), parts_of(config, accelerator)
    weights = sum(weight.numel() for weight in policy.parameters()) * dtype.itemsize
    held = _held(policy, dtype, parts) + (weights if parts > 1 else 0)
    there = sum(p.nbytes for p in policy.parameters() if p.device.type == accelerator.device.type)
    need = max(0, held - there) + _state(policy, config) // parts
    if need <= free:
        return
    helps = [] if adapted else [f"model.lora_rank = 16 (little more than {_gib(weights)})"]
    helps += ['train.shard = "full"'] if parts == 1 < accelerator.num_processes else []
    raise ConfigError(
        f"weights, gradients and AdamW's moments take about {_gib(need)}, and {accelerator.device} has {_gib(free)} free; "
        + (f"what helps: {'; '.join(helps)}" if helps else "take a smaller model or a larger device")
    )


def _held(policy: Policy, dtype: torch.dtype, parts: int) -> int:
    """Return the bytes of the weights on a device, float32 masters included, if the model computes in `dtype` and `parts` devices share
    them; a frozen tower is not shared, and shared weights that are rounded to bfloat16 are held in float32 (`placement/sharded.py`).
    """
    plain = adapters.attached(policy.model) or dtype == torch.float32
    own = dtype.itemsize if parts == 1 else 4 if dtype == torch.bfloat16 else 0
    tower = tower_of(policy.model) if policy.tower.frozen else None
    alone = set(tower.parameters()) if tower is not None else set()
    total = 0
    for weight in policy.parameters():
        size = dtype.itemsize if not weight.requires_grad else 4 if plain else own + 4
        total += weight.numel() * size // (1 if weight in alone else parts)
    return total


def check_step(policy: Policy, sizes: Sizes, config: Config, accelerator: Accelerator, stages: Sequence[Stage[Any]]) -> str | None:
    """Raise ConfigError if one prompt with its K completions does not fit; return one line if a whole rollout may not fit, else None.

    Call it once the weights are on the device.
    """
    parts, rollout = parts_of(config, accelerator), config.rollout
    free = memory.free_bytes(accelerator.device) - _state(policy, config) // parts
    rolls = any(stage.rolls_out for stage in stages)
    completions = rollout.num_generations if rolls else 1
    longest = rollout.max_completion_length if rolls else sizes.target
    trunks = completions if config.model.layout in ("rows", "reference") else 1
    with policy.whole():
        fixed, per_token = activation_bytes(policy, sizes.shortest, accelerator.device)
        once, each = sampling_bytes(policy, sizes.prompt, rollout.max_completion_length, completions)
        gathered = sum(weight.nbytes for weight in policy.parameters()) if parts > 1 else 0
    tokens = max(completions * longest, sizes.target) + trunks * sizes.prompt
    update = fixed + per_token * tokens
    if update > free:
        remedies = _remedies((free - fixed) / per_token - trunks * sizes.prompt, config) if rolls else _leaner(config)
        raise ConfigError(
            f"one prompt of {sizes.prompt:,} tokens with {completions} answers of {longest:,} takes about {_gib(update)} in "
            f"the update, and {accelerator.device} has {_gib(max(0.0, free))} free besides the optimizer; "
            f"what helps: {'; '.join(remedies) or 'a smaller model or a larger device'}"
        )
    prompts = min(math.ceil(config.train.prompts_per_step / accelerator.num_processes), max(1, BATCH_ROWS // completions))
    need = prompts * (once + completions * each) + gathered if rolls and rollout.engine == "hf" else 0
    if need <= free:
        return None
    fits = int(free / need * config.train.prompts_per_step)
    return (
        f"{prompts * completions} completions at a time may not fit: about {_gib(need)}, and {accelerator.device} has {_gib(free)} free; "
        f"if memory runs out, set train.prompts_per_step to {max(1, fits)} or less"
    )


def activation_bytes(policy: Policy, prompt: Prompt, device: torch.device) -> tuple[float, float]:
    """Return the bytes that an update keeps for its backward pass: fixed, and per token; measured on a short and a longer prompt."""
    short, long = (_kept(policy, one, device) for one in (prompt, _longer(prompt)))
    per_token = (long - short) / FILLER
    return max(0.0, short - per_token * (len(prompt.token_ids) + 1)), per_token


def _kept(policy: Policy, prompt: Prompt, device: torch.device) -> int:
    limb = Limb(tokens=(policy.eos,) * 2, term="imitate", advantage=1.0, token_weight=1.0)
    batch = collate([Tree(trunk=prompt, limbs=(limb,))], policy.pad, "rows", policy.answer_types).to(device)
    training = policy.training
    policy.train()
    kept = memory.saved_bytes(lambda: policy(batch), policy.parameters())
    policy.train(training)
    return kept


def _longer(prompt: Prompt) -> Prompt:
    """Return the prompt with its last token, which is text, repeated FILLER more times."""
    return prompt.extended(prompt.token_ids[-1:] * FILLER)


def sampling_bytes(policy: Policy, prompt: int, answer: int, completions: int) -> tuple[int, int]:
    """Return the bytes of a prompt while its completions are sampled, and of each completion, by their lengths in tokens.

    They are caches of keys and values, which have the prompt once if completions can share it, and scores over the vocabulary.
    """
    text = policy.model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    cache = 2 * text.num_hidden_layers * heads * width * policy.model.dtype.itemsize
    return (1 if can_share(policy) else completions) * prompt * cache, answer * cache + 4 * 4 * text.vocab_size


def _remedies(room: float, config: Config) -> list[str]:
    """Return settings, with their numbers, that would make one prompt's completions fit in `room` tokens."""
    rollout = config.rollout
    fewer, shorter = int(room / rollout.max_completion_length), int(room / rollout.num_generations)
    out = [f"rollout.num_generations = {fewer}"] if fewer >= 2 else []
    return out + ([f"rollout.max_completion_length = {shorter}"] if shorter >= 16 else []) + _leaner(config)


def _leaner(config: Config) -> list[str]:
    """Return settings that make each token or weight take less memory."""
    out = [] if config.train.gradient_checkpointing else ["train.gradient_checkpointing = true"]
    out += [] if config.model.lora_rank else ["model.lora_rank = 16"]
    return out + (['train.precision = "bf16"'] if config.train.precision == "fp32" else [])


def _state(policy: Policy, config: Config) -> int:
    """Return the bytes of float32 gradients and two moments, and of a reference if there is one."""
    return sum(3 * 4 * p.numel() + (p.nbytes if config.objective.beta else 0) for p in policy.parameters() if p.requires_grad)


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"
