"""Tiny random-weight models of real architectures, with prompts, groups and a plain reference to hold the update against."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from families import PICTURE_NEEDED
from PIL import Image

from dyme.config import Config
from dyme.model.policy import Policy, Prompt
from dyme.model.tree import Limb, Tree
from dyme.training.update import Updater
from dyme.types import Branch, Completion, Group, Route, Sample, Verdict

SHAPES = ((6, 3, 1), (4,), (1,), (2, 2, 5, 1))
"""Lengths of the limbs, per tree."""
HINTS = ((0, 3, 3), (2,), (0,), (4, 4, 0, 1))
"""Lengths of the prefixes before them; equal ones of a tree are one prefix."""


@dataclass(frozen=True)
class Picture:
    """Coloured noise from a seed, of a size."""

    seed: int
    size: tuple[int, int] = (16, 16)

    @property
    def key(self) -> str:
        return f"{self.seed}:{self.size}"

    def load(self) -> Image.Image:
        width, height = self.size
        return Image.frombytes("RGB", self.size, random.Random(self.seed).randbytes(3 * width * height))


SIZES = ((16, 16), (40, 20), (20, 44), (34, 34), (9, 30))


def samples(policy: Policy, count: int) -> list[Sample]:
    """Questions of different lengths, each with a picture of another size if the model sees."""
    return [
        Sample(
            id=f"s{k}", question="What is " + "the height of " * (k % 3) + f"bar {k}?",
            answer=str(k), rationale="It is " + "tall " * (k % 4) + ".",
            images=(Picture(k, SIZES[k % len(SIZES)]),) if policy.takes_images else (),
        )
        for k in range(count)
    ]  # fmt: skip


def prompts(policy: Policy, count: int) -> list[Prompt]:
    return [policy.encode(sample, "Think.") for sample in samples(policy, count)]


def awkward(policy: Policy) -> list[Prompt]:
    """Prompts with pictures of different sizes, one with two pictures and, where the family allows it, one without."""
    out = prompts(policy, 4)
    bare = Sample(id="bare", question="How many?", answer="1")
    pair = replace(bare, images=(Picture(7, (16, 16)), Picture(8, (30, 12))) if policy.takes_images else ())
    blind = [] if policy.model.config.model_type in PICTURE_NEEDED else [policy.encode(bare, "Think.")]
    return [*out[:2], *blind, *out[2:], policy.encode(pair, "Think.")]


def words(policy: Policy, length: int, rng: random.Random) -> tuple[int, ...]:
    """Random tokens that may be sampled, the last of them the end token."""
    allowed = [token for token in (~policy.forbidden).nonzero()[:, 0].tolist() if token != policy.eos]
    return (*rng.choices(allowed, k=length - 1), policy.eos)


def group(sample: Sample, completions: Sequence[Sequence[int]], rewards: Sequence[float]) -> Group:
    """A group with these tokens and rewards; a reward of at least 1 is a correct answer."""
    return Group(
        sample=sample,
        completions=tuple(Completion(text="", token_ids=tuple(ids)) for ids in completions),
        verdicts=tuple(Verdict(parsed=True, correct=r >= 1, answer="", thinking="", reward=r) for r in rewards),
    )


def groups(policy: Policy, rewards: Sequence[Sequence[float]], seed: int = 0) -> list[Group]:
    """One group per row of rewards, with random completions of 1 to 6 tokens."""
    rng = random.Random(seed)
    return [
        group(sample, [words(policy, rng.randint(1, 6), rng) for _ in row], row)
        for sample, row in zip(samples(policy, len(rewards)), rewards, strict=True)
    ]


def inputs(model: Any, prompt: Prompt, tokens: Sequence[int] = ()) -> dict[str, torch.Tensor]:
    """What the family's own processor would hand to the model for a prompt and an answer, batch size 1."""
    answer = torch.full((len(tokens),), int(model.config.model_type == "paligemma"))  # PaliGemma: 0 for the prompt, 1 for what is causal
    types = {name: torch.cat([values, answer])[None] for name, values in prompt.types.items()}
    return {"input_ids": torch.tensor([[*prompt.token_ids, *tokens]]), **types, **prompt.vision}


def row_logprobs(model: Any, prompt: Prompt, tokens: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of an answer by a plain causal forward over prompt and answer, one row, no mask, no positions."""
    logits = model(**inputs(model, prompt, tokens)).logits[0, len(prompt.token_ids) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@dataclass(frozen=True)
class Step:
    """What an optimizer step did."""

    metrics: dict[str, float]
    gradients: dict[str, torch.Tensor]


def step(updater: Updater, prompts: Sequence[Prompt], groups: Sequence[Group], routes: Sequence[Route], lr: float = 0.0) -> Step:
    """`Updater.step`, with the gradients as they were before clipping; at `lr` 0 the weights stay."""
    gradients: dict[str, torch.Tensor] = {}

    def clip(parameters: Any, limit: float) -> torch.Tensor:
        gradients.update({n: p.grad.clone() for n, p in updater.masters.weights.items() if p.grad is not None})
        return Accelerator.clip_grad_norm_(updater.accelerator, parameters, limit)

    updater.accelerator.clip_grad_norm_ = clip  # type: ignore[method-assign]
    try:
        return Step(updater.step(prompts, groups, routes, lr), gradients)
    finally:
        del updater.accelerator.clip_grad_norm_


def gradients_of(policy: Policy, config: Config, prompts: Sequence[Prompt], groups: Sequence[Group], routes: Sequence[Route]) -> Step:
    """Loss and gradients of one step from a fresh updater; the policy's weights stay."""
    return step(Updater(policy, config, Accelerator(cpu=True)), prompts, groups, routes)


def gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative distance of two sets of gradients: the norm of the difference over the norm; a missing one counts as zero."""
    zero = torch.zeros(())
    names = one.keys() | other.keys()
    apart = sum(float((one.get(n, zero) - other.get(n, zero)).double().square().sum()) for n in names)
    size = sum(float(g.double().square().sum()) for g in other.values())
    return (apart / size) ** 0.5


def grads(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's gradients by name; they are cleared."""
    out = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return out


def explore_all(route_groups: Sequence[Group], config: Config) -> list[Route]:
    """Every completion of every group, zero advantages included."""
    from dyme.methods.advantages import advantages

    return [
        Route(mode="explore", branches=tuple(
            Branch(term="policy", completion=k, advantage=a)
            for k, a in enumerate(advantages([v.reward for v in g.verdicts], config.objective))
        ))
        for g in route_groups
    ]  # fmt: skip


def trees(policy: Policy, trunks: Sequence[Prompt], shapes: Sequence[Sequence[int]] = SHAPES) -> list[Tree]:
    rng, hint = random.Random(0), words(policy, 9, random.Random(1))

    def grown(length: int, led: int) -> Limb:
        tokens, term = words(policy, length, rng), rng.choice(("policy", "imitate"))
        return Limb(tokens=tokens, term=term, advantage=rng.gauss(0, 1), token_weight=1.0, prefix=hint[:led])

    return [
        Tree(trunk=trunk, limbs=tuple(grown(length, led) for length, led in zip(lengths, itertools.cycle(hints), strict=False)))
        for trunk, lengths, hints in zip(trunks, itertools.cycle(shapes), itertools.cycle(HINTS), strict=False)
    ]


def limb_logprobs(policy: Policy, trunk: Prompt, limb: Limb, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of a limb by a plain causal forward over prompt, hint and answer, one row."""
    return row_logprobs(policy.model, trunk.extended(limb.prefix), limb.tokens, temperature)
