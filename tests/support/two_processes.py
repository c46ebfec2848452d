"""One rank of a data-parallel update, run by test_invariances.py: two_processes.py CHECKPOINT OUT, with torch.distributed's variables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from routing import route
from tiny import groups, prompts, step

from dyme.config import Config, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.model.policy import Policy, Prompt
from dyme.rollout import hf
from dyme.training import update
from dyme.training.update import Updater
from dyme.types import Group

REWARDS = [[0.9, 0.0], [1.5, 0.0], [0.0, 0.3], [2.0, 0.5], [0.0, 0.0], [0.2, 1.2], [1.0, 0.9], [1.1, 0.3]]
"""dyme memorizes three of them and explores five."""
RIGHT = [1.0, 2.0]
SCENARIOS: dict[str, tuple[dict[str, Any], list[list[float]]]] = {
    "all": ({}, REWARDS),
    "dapo with a KL term": ({"loss_type": "dapo", "beta": 0.1}, REWARDS),
    "first rank skips": ({}, [RIGHT, REWARDS[1]] * 4),
    "second rank skips": ({}, [REWARDS[0], RIGHT] * 4),
    "all skip": ({}, [RIGHT] * 8),
    "uneven": ({"normalize": "term"}, REWARDS[:5]),
}
"""Objective and rewards; ranks take every second prompt."""


def work(policy: Policy) -> tuple[list[Prompt], list[Group]]:
    """Eight prompts and their groups."""
    return prompts(policy, 8), groups(policy, REWARDS)


def run(checkpoint: Path, accelerator: Accelerator) -> dict[str, Any]:
    """Completions by sample, per scenario the metrics, gradients and movement of the weights of one step, and what a step does whose
    loss is nan on the last process alone, with the numbers that it sums over processes, call by call.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    policy = Policy.load(ModelConfig(path=str(checkpoint)))
    start = {n: t.clone() for n, t in policy.state_dict().items()}

    def share(items: Sequence[Any]) -> list[Any]:
        return list(items[rank::world])

    asked, answered = map(share, work(policy))
    ids = [g.sample.id for g in answered]
    sampled = hf.sample(policy, asked, [hf.seed_of(0, i) for i in ids], RolloutConfig(num_generations=3, max_completion_length=5))
    steps = {}
    for name, (objective, rewards) in SCENARIOS.items():
        config = Config(objective=ObjectiveConfig(**objective), train=TrainConfig(max_tokens_per_batch=250, max_grad_norm=1e9))
        policy.load_state_dict(start)
        updater = Updater(policy, config, accelerator)
        updater.begin_stage(rolls_out=True)
        own = share(groups(policy, rewards))
        done = step(updater, share(prompts(policy, len(rewards))), own, [route(g, config) for g in own], lr=1e-3)
        moved = {n: t - start[n] for n, t in policy.state_dict().items()}
        steps[name] = {"metrics": done.metrics, "gradients": done.gradients, "moved": moved}
    updater, held = Updater(policy, Config(), accelerator), {n: t.clone() for n, t in policy.state_dict().items()}
    own = share(groups(policy, REWARDS))
    plain, summed = update.loss, torch.distributed.all_reduce
    calls: list[int] = []
    torch.distributed.all_reduce = lambda *given, **named: (calls.append(given[0].numel()), summed(*given, **named))[1]
    if rank == world - 1:
        update.loss = lambda *given: plain(*given) * float("nan")
    metrics = updater.step(share(prompts(policy, 8)), own, [route(g, Config()) for g in own], 1e-3)
    update.loss, torch.distributed.all_reduce = plain, summed
    still = all(torch.equal(t, held[n]) for n, t in policy.state_dict().items())
    poisoned = {"skipped": metrics["steps_skipped_nonfinite"], "guard": updater.guard.skipped, "still": still}
    completions = dict(zip(ids, [[c.token_ids for c in g] for g in sampled], strict=True))
    return {"completions": completions, "steps": steps, "poisoned": poisoned, "calls": calls}


if __name__ == "__main__":
    accelerator = Accelerator()
    assert accelerator.num_processes == 2
    torch.save(run(Path(sys.argv[1]), accelerator), Path(sys.argv[2]) / f"{accelerator.process_index}.pt")
    torch.distributed.destroy_process_group()
