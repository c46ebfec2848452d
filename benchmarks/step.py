"""A whole optimizer step, rollout and update, side by side with TRL's: wall time as paired ratios, and FLOPs.

    python benchmarks/step.py [--shape small|reference] [--device cuda] [--repeats 5] [--prompts 8] [--json FILE]

Both sides sample K completions per prompt (end token suppressed: all of the same length) and then update. Rewards would be
noise with random weights, so the routes are those of a recorded DyME run (routes.json), the same at every step: TRL computes
all K rows of every prompt, ours the live branches. Verification takes no time on either side. The tower runs once per image
and step on ours, without a cache across steps.
"""

from __future__ import annotations

from dataclasses import replace

from measure import arguments, conclude, count_flops, opening, paired, shape_of
from theirs import Theirs
from update import Ours

from dyme.rollout import hf


def our_step(ours: Ours) -> float:
    """Sample, attach the completions to the groups, take the recorded routes, update; the loss."""
    ours.policy.tower.prepare([])
    sampled = hf.sample(ours.policy, ours.prompts, list(range(len(ours.prompts))), ours.config.rollout)
    groups = [replace(group, completions=own) for group, own in zip(ours.groups, sampled, strict=True)]
    return ours.update(ours.routes("mix"), groups)


def main() -> None:
    args = arguments(__doc__ or "", prompts=8)
    shape = shape_of(args)
    opening("Step", shape, args)
    ours = Ours(shape, args.device, args.attention, args.checkpointing)
    ours.policy.forbidden[ours.policy.eos] = True
    theirs = Theirs(ours.policy, shape, ours.rows, args.device, args.checkpointing)
    rewards = [verdict.reward for group in ours.groups for verdict in group.verdicts]

    def their_step() -> float:
        return theirs.update(theirs.roll_out(rewards))

    ours.settle()
    hf.sample(ours.policy, ours.prompts[:1], [0], replace(ours.config.rollout, max_completion_length=2))  # chooses the cache's kind
    counted = count_flops(lambda: our_step(ours)), count_flops(their_step)
    times = paired(lambda: our_step(ours), their_step, args.repeats, args.device)
    print(f"live branches of the prompts: {', '.join(map(str, ours.live('mix')))} of {shape.num_generations}\n")
    conclude("step", [], {}, counted, times, args)


if __name__ == "__main__":
    main()
