"""The rollout, side by side with TRL's generation: images through the vision tower, FLOPs, and wall time as paired ratios.

    python benchmarks/rollout.py [--shape small|reference] [--device cuda] [--repeats 5] [--prompts 4] [--json FILE]

Both sample K completions per prompt with plain sampling at temperature 1, and the end token is suppressed on both sides, so
that each completion has exactly --new_tokens tokens (64). TRL runs its own `_generate`, with HF generation on K rows per prompt.
Images are counted where pixels enter the tower. Each of our timed runs encodes its images anew; the second epoch is counted
with the cache of tower outputs across steps switched on.

The floor of FLOPs is what the mathematics needs (`floor.py`). The floor of time is that of the forward passes alone, by the same model in
the same library: the images, the prompts, then one token of each row at a time without any token before it and without drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from floor import rollout_floor
from measure import arguments, conclude, count_flops, opening, paired, shape_of
from shapes import Shape, build_policy, prompts, samples
from theirs import Theirs

from dyme.config import RolloutConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.model.vision import Shelf
from dyme.rollout import hf
from dyme.rollout.rows import prefill


def images_through(model: torch.nn.Module, work: Callable[[], object], tiles: int = 2) -> int:
    """Images that go through the model's tower during `work`; each has `tiles` tiles."""
    seen = [0]

    def count(module: torch.nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        seen[0] += len(given[0])

    hook = model.model.vision_tower.embeddings.patch_embedding.register_forward_hook(count)  # type: ignore[union-attr, operator]
    try:
        work()
    finally:
        hook.remove()
    return seen[0] // tiles


def sampler(policy: Policy, asked: list[Prompt], shape: Shape, forget: bool = True) -> Callable[[], list[int]]:
    """Our rollout of these prompts without an end token; returns the lengths. With `forget`, no image is at hand."""
    config = RolloutConfig(num_generations=shape.num_generations, max_completion_length=shape.new_tokens)
    policy.forbidden[policy.eos] = True

    def work() -> list[int]:
        if forget:
            policy.tower.prepare([])
        return [len(c.token_ids) for group in hf.sample(policy, asked, list(range(len(asked))), config) for c in group]

    return work


def passes(policy: Policy, asked: list[Prompt], shape: Shape) -> Callable[[], None]:
    """The forward passes of our rollout: the images and prompts, then a token of each row at a time, which sees only itself."""
    tokens = torch.full((shape.prompts * shape.num_generations, 1), policy.eos, device=next(policy.parameters()).device)

    @torch.no_grad()
    def work() -> None:
        policy.eval()
        policy.tower.prepare([])
        policy.tower.prepare(asked)
        start = prefill(policy, asked, tokens.device)
        for _ in range(shape.new_tokens - 1):
            policy.model(input_ids=tokens, position_ids=torch.full_like(tokens, int(start.position_B[0])), use_cache=False)

    return work


def second_epoch(policy: Policy, work: Callable[[], object]) -> int:
    """Images encoded when the same prompts come again and the cache across steps is on."""
    policy.tower.shelf = Shelf(2**30)
    work()
    try:
        return images_through(policy.model, work)
    finally:
        policy.tower.shelf = None


def main() -> None:
    args = arguments(__doc__ or "", prompts=4, new_tokens=64)
    shape = shape_of(args)
    opening("Rollout", shape, args)
    policy = build_policy(shape, args.device, args.attention)
    rows = samples(policy, shape)
    asked = prompts(policy, rows)
    ours, theirs = sampler(policy, asked, shape), Theirs(policy, shape, rows, args.device, args.checkpointing)
    ours()  # a first rollout chooses the cache's kind, which is no part of what is measured
    lengths: list[int] = []
    counted = count_flops(lambda: lengths.extend(ours())), count_flops(lambda: lengths.extend(map(len, theirs.generate())))
    if set(lengths) != {shape.new_tokens}:
        raise SystemExit(f"completions of {min(lengths)} to {max(lengths)} tokens, where all should have {shape.new_tokens}")
    encoded, theirs_encoded = images_through(policy.model, ours), images_through(theirs.model, theirs.generate)
    again = second_epoch(policy, ours)
    unique = len({prompt.images for prompt in asked})
    times = paired(ours, theirs.generate, args.repeats, args.device)
    least = paired(passes(policy, asked, shape), ours, args.repeats, args.device)
    least_flops = rollout_floor(policy.model, shape)
    floor, executed = counted[0].total / least_flops, counted[0].executed / least_flops
    rows_of_images = [
        ["images through the tower", theirs_encoded, encoded, theirs_encoded / encoded],
        ["the same, second epoch with cache", theirs_encoded, again, "-"],
        ["unique images", unique, unique, "-"],
    ]
    figures = {
        "images_encoded": encoded, "images_encoded_trl": theirs_encoded, "images_encoded_second_epoch": again, "unique_images": unique,
        "flops_floor_ratio": floor, "executed_floor_ratio": executed,
    }  # fmt: skip
    print(f"FLOPs: {floor:.3g} x the floor, executed {executed:.3g} x")
    if args.repeats:
        figures |= {"wall_floor_ratio": least.ratio, "cpu_floor_ratio": (least.busy or least).ratio}
        print(f"time: {least.ratio:.3g} x that of the forward passes alone; CPU time {figures['cpu_floor_ratio']:.3g} x\n")
    conclude("rollout", rows_of_images, figures, counted, times, args)


if __name__ == "__main__":
    main()
