"""One optimizer step: routed groups become trees, trees become micro-batches, gradients accumulate, the weights move.

All ranks do the same number of forward passes whatever their routes: a rank with less work repeats a tree at weight zero. If
no process has a live branch, nothing is computed and the weights stay bit-identical.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, reduce

from dyme.config import Config
from dyme.errors import RunError
from dyme.methods.routes import live_branches
from dyme.model import precision
from dyme.model.policy import Policy
from dyme.model.tree import Layout, Limb, Prompt, Tree, TreeBatch, collate
from dyme.system.processes import from_main
from dyme.targets import target_text
from dyme.training import layout, memory
from dyme.training.loss import Totals, add_up_gradient, correction, count, divergence, loss, mismatch, token_weight
from dyme.training.placement import placement_of
from dyme.training.precision.guard import Guard
from dyme.training.reference import Reference
from dyme.types import Branch, Group, Route

_CHOSEN, _REFERENCE = "chosen.json", "reference.safetensors"


class Updater:
    """Owns the optimizer and, while a KL term asks for one, the reference model."""

    def __init__(self, policy: Policy, config: Config, accelerator: Accelerator, note: Callable[[str], None] = lambda line: None) -> None:
        self.config, self.accelerator, self.policy, self.note = precision.settled(config, accelerator.device), accelerator, policy, note
        self.reference: Reference | None = None
        self.layout: layout.Choice | None = None
        """How branches are laid out; decided on the first batch unless the recipe says."""
        self.updates = 0
        """Number of changes of the weights in this process: one at the beginning, and one by each update that was taken."""
        self.budget = 0
        """Tokens of a micro-batch; decided on the first batch unless the recipe says."""
        if config.train.gradient_checkpointing:
            policy.checkpoint_activations()
        self.placement = placement_of(policy, self.config, accelerator, partial(build_optimizer, config=config))
        self.masters, self.optimizer = self.placement.masters, self.placement.optimizer
        self.guard = Guard.of(self.config.train.precision)
        if self.placement.about:
            note(self.placement.about)

    def begin_stage(self, rolls_out: bool) -> None:
        """Reset the optimizer's moments; copy the policy as the reference if the stage has a KL term."""
        self.optimizer.state.clear()
        self.reference = Reference(self.placement) if rolls_out and self.config.objective.beta else None

    def step(self, prompts: Sequence[Prompt], groups: Sequence[Group], routes: Sequence[Route], lr: float, *,
             keep: Sequence[Prompt] = ()) -> dict[str, float]:  # fmt: skip
        """Update once per `num_iterations` on this process's share of the step's prompts; return loss, gradient norm and token counts.

        `keep` are the prompts of a step that was sampled early: the tower's outputs for their images stay.

        An update whose loss or gradient is not finite is not taken, nor are the later updates of the step (see `guard`).
        """
        tokens = [[self._tokens(group, branch) for branch in route.branches] for group, route in zip(groups, routes, strict=True)]
        totals = self._global(count(routes, [[len(t) for t in row] for row in tokens]))
        trees = [t for p, g, r, row in zip(prompts, groups, routes, tokens, strict=True) if (t := self._tree(p, g, r, row, totals)).limbs]
        counts = [len(trees), sum(map(len, trees)), sum(bool(tree.trunk.vision) for tree in trees)]
        work = reduce(torch.tensor(counts, device=self.accelerator.device), "sum")
        if not int(work[0]):
            return {"loss": 0.0, "grad_norm": 0.0, "trained_tokens": 0.0}
        self.placement.gather_ends()
        self.policy.tower.prepare([tree.trunk for tree in trees] or prompts[:1], keep)
        if self.layout is None or (int(work[2]) and not self.layout.pictured):
            self.layout = self._choose(trees, prompts[0], pictured=bool(work[2]))
            self.budget = self.config.train.max_tokens_per_batch or self._fit(trees, prompts[0])
        kind = self._kind(trees)
        batches = self._batches(trees, prompts[0], kind)
        metrics = {"trained_tokens": float(work[1])}
        old: list[torch.Tensor | None] = [None] * len(batches)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        passes: list[dict[str, float]] = []
        while len(passes) < self.config.train.num_iterations and not (passes and self.guard.skipped):
            passes.append(self._pass(batches, kind, old))
        means = {name: fmean(one[name] for one in passes if name in one) for one in passes for name in one}
        return metrics | means | self.guard.metrics()

    def save(self, state: Path, model: Path) -> None:
        """Write the resume's files to `state` and a standard model folder to `model`; all processes must call it.

        A resume needs the masters of the weights that train; it reads the other weights from the base, as the run did.
        """
        dtype = precision.written(self.config)
        weights = self.placement.written(dtype)
        self.placement.save(state, self._sections())
        if self.accelerator.is_main_process:
            self.policy.save(model, weights, dtype)
            chosen = {"layout": self.layout and asdict(self.layout), "budget": self.budget, "guard": self.guard.state()}
            (state / _CHOSEN).write_text(json.dumps(chosen | {"reference": self.reference is not None}), encoding="utf-8")

    def export(self, model: Path) -> None:
        """Write the weights of now as a standard model folder; all processes must call it."""
        dtype = precision.written(self.config)
        weights = self.placement.written(dtype)
        from_main(lambda: self.policy.save(model, weights, dtype))

    def load(self, state: Path) -> None:
        """Restore weights, optimizer, the reference model if there is one, and the choices of the first batch: the layout and
        the size of micro-batches, which would change with the free memory, and with it the order of sums.
        """
        chosen = from_main(lambda: _chosen(state))
        self.reference = Reference(self.placement) if chosen["reference"] else None
        self.placement.load(state, self._sections())
        self.masters.round()
        if not self.placement.finite():
            raise RunError(f"{state}: weights are not finite, as training that diverged leaves them; train anew")
        if "budget" in chosen:
            self.layout, self.budget = chosen["layout"] and layout.Choice(**chosen["layout"]), chosen["budget"]
            self.guard.restore(chosen["guard"])

    def _sections(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """Return the tensors of a checkpoint."""
        return {"trained": self.masters.weights} | ({"reference": self.reference.weights} if self.reference else {})

    def _pass(self, batches: Sequence[Sequence[Tree]], kind: Layout, old: list[torch.Tensor | None]) -> dict[str, float]:
        """Run forward and backward over all micro-batches, one on the device at a time, then step; fill `old` at the first pass."""
        temperature, objective = self.config.rollout.temperature, self.config.objective
        self.policy.train()
        total, gradient_T, apart_T, gap_T = (torch.zeros(size, device=self.accelerator.device) for size in ((), 2, 2, 3))
        served = self.config.rollout.engine == "vllm" and not self._late
        widest = torch.zeros((), device=self.accelerator.device)
        for k, trees in enumerate(batches):
            batch = self._collate(trees, kind)
            reference_N = self.reference(batch, temperature) if self.reference else None
            logprob_N = self.policy(batch, temperature)
            if (before_N := old[k]) is None:
                before_N = logprob_N.detach() if served else torch.where(batch.sampled_N.isnan(), logprob_N.detach(), batch.sampled_N)
                old[k] = before_N
            correction_N = None
            if served:
                correction_N = correction(before_N, batch.sampled_N, objective.sampling_clip)
                *sums, most = mismatch(before_N, batch.sampled_N, objective.sampling_clip)
                gap_T += torch.stack(sums)
                widest = torch.maximum(widest, most)
            if reference_N is not None:
                apart_T += divergence(logprob_N.detach(), reference_N, batch.imitate_N)
            add_up_gradient(gradient_T, logprob_N, batch.imitate_N, temperature)
            value = loss(logprob_N, batch, objective, before_N, reference_N, correction_N)
            self.placement.backward(value * self.guard.scale)
            total += value.detach()
        self.placement.collect(self.guard.scale)
        norm = self.placement.clip(self.config.train.max_grad_norm)
        sums = reduce(torch.stack([total, norm, *gradient_T, *apart_T, *gap_T]), "sum").tolist()
        value, norms, explored, memorized, apart, tokens, gaps, compared, cut = sums
        if self.guard.allows(value, norms):
            self.optimizer.step()
            self.masters.round()
            self.updates += 1
            if not self.placement.finite():
                self.guard.broken = f"the update at learning rate {self.optimizer.param_groups[0]['lr']:g} left weights that are not finite"
        self.optimizer.zero_grad()
        pull = explored + memorized
        shares = {"gradient_explore": explored / pull, "gradient_memorize": memorized / pull} if pull else {}
        figures = {"loss": value, "grad_norm": norms / self.accelerator.num_processes} | shares | ({"kl": apart / tokens} if tokens else {})
        if compared:
            most = float(self.accelerator.gather(widest[None]).max())
            figures |= {"sampling_gap": gaps / compared, "sampling_gap_max": most, "sampling_clipped": cut / compared}
        return figures

    @property
    def _late(self) -> bool:
        """Whether a step may have been sampled before the last update, so that its log-probabilities then are the ratio's."""
        return self.config.supervision.remote and self.config.supervision.overlap

    def _tokens(self, group: Group, branch: Branch) -> tuple[int, ...]:
        if branch.completion is not None:
            return group.completions[branch.completion].token_ids
        return self.policy.target(target_text(group.sample, self.config.task.marker, group.target))

    def _tree(self, prompt: Prompt, group: Group, route: Route, tokens: Sequence[tuple[int, ...]], totals: Totals) -> Tree:
        """Return the prompt's live branches as limbs; each average is taken over all of the route's branches, live or not."""
        live = set(map(id, live_branches(route, self.config.objective)))
        limbs = []
        for branch, ids in zip(route.branches, tokens, strict=True):
            if id(branch) in live:
                siblings = sum(b.term == branch.term for b in route.branches)
                weight = token_weight(branch, len(ids), siblings, totals, self.config.objective, self.config.rollout.max_completion_length)
                known = self._late or self.config.rollout.engine == "vllm"
                sampled = group.completions[branch.completion].logprobs if known and branch.completion is not None else ()
                limbs.append(
                    Limb(
                        tokens=ids,
                        term=branch.term,
                        advantage=_advantage(branch),
                        token_weight=weight,
                        logprobs=sampled,
                        shape=branch.shape,
                        prefix=() if branch.completion is None else group.completions[branch.completion].prefix_ids,
                    )
                )
        return Tree(trunk=prompt, limbs=tuple(limbs))

    def _batches(self, trees: Sequence[Tree], spare: Prompt, kind: Layout) -> list[list[Tree]]:
        """Return equally many micro-batches on each process; missing ones are filled with one token of a prompt at weight zero."""
        batches = list(layout.micro_batches(trees, self.budget, kind))
        most = int(self.accelerator.gather(torch.tensor([len(batches)], device=self.accelerator.device)).max())
        return batches + [[self._idle(spare)]] * (most - len(batches))

    def _kind(self, trees: Sequence[Tree]) -> Layout:
        """Return the chosen layout; if some row of the step is longer than a sliding window, which trees do not support, the next one."""
        assert self.layout is not None
        beyond = self.policy.window is not None and any(tree.longest > self.policy.window for tree in trees)
        if beyond and self.layout.layout == "tree" and self.config.model.layout == "auto":
            return layout.agreeing({kind: value for kind, value in self.layout.differences.items() if kind != "tree"})
        return self.layout.layout

    def _idle(self, spare: Prompt) -> Tree:
        """Return a tree that costs a forward pass and has weight zero."""
        return Tree(trunk=spare, limbs=(Limb(tokens=(self.policy.eos,), term="imitate", advantage=0.0, token_weight=0.0),))

    def _collate(self, trees: Sequence[Tree], kind: Layout) -> TreeBatch:
        """Return the trees on the device, without pixels whose tower outputs are kept."""
        trunks = self.policy.tower.thin([tree.trunk for tree in trees])
        thin = [replace(tree, trunk=trunk) for tree, trunk in zip(trees, trunks, strict=True)]
        return collate(thin, self.policy.pad, kind, self.policy.answer_types).to(self.accelerator.device)

    @torch.no_grad()
    def _choose(self, trees: Sequence[Tree], spare: Prompt, pictured: bool) -> layout.Choice:
        """Compare the layouts in float32 on a few of the first trees; all processes decide alike.

        A first comparison without pictures is repeated once they come; the larger difference counts.
        """

        def score(few: Sequence[Tree], kind: Layout) -> torch.Tensor:
            scored: torch.Tensor = self.policy(self._collate(few, kind))
            return scored

        self.policy.eval()
        with self.placement.whole(), precision.in_float32(self.policy.model):
            found = [layout.compare(partial(score, few)) for few in layout.probes(trees) or [[self._idle(spare)]]]
        own = torch.tensor([[max(one[kind] for one in found) for kind in layout.COMPARED]], device=self.accelerator.device)
        worst = zip(layout.COMPARED, self.accelerator.gather(own).amax(0).tolist(), strict=True)
        before = self.layout.differences if self.layout else {}
        differences = {kind: max(value, before.get(kind, 0.0)) for kind, value in worst}
        choice = layout.choose(differences, self.config.model.layout, pictured)
        self.note(f"layout: {choice.reason}")
        return choice

    def _fit(self, trees: Sequence[Tree], spare: Prompt) -> int:
        """Return the tokens of a micro-batch that fit in memory, measured on a small one's backward pass; equal on all processes."""
        assert self.layout is not None
        few = (layout.probes(trees) or [[self._idle(spare)]])[0]
        device, batch = self.accelerator.device, self._collate(few, self.layout.layout)
        self.policy.train()
        with self.placement.whole():
            per_token = memory.saved_bytes(lambda: self.policy(batch), self.policy.parameters()) / batch.tokens
        reserved = 3 * self.masters.nbytes  # gradient and two moments
        own = memory.token_budget(per_token, memory.free_bytes(device), reserved, device)
        budget = int(self.accelerator.gather(torch.tensor([own], device=device)).min())
        self.note(f"micro-batches: at most {budget:,} tokens, at {per_token / 1024:.0f} KiB a token")
        return budget

    def _global(self, totals: Totals) -> Totals:
        """Return counts over all processes, summed on the CPU, because not every accelerator has float64."""
        counts = zip(*gather_object([astuple(totals)]), strict=True)
        return Totals(**{field.name: sum(column) for field, column in zip(fields(Totals), counts, strict=True)})


def _chosen(state: Path) -> dict[str, Any]:
    """Return the choices that a checkpoint holds; one of an earlier version of dyme may hold fewer."""
    file = state / _CHOSEN
    held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {"reference": (state / _REFERENCE).exists(), **held}


def _advantage(branch: Branch) -> float:
    """Return the advantage of a branch; a target's is 1."""
    if branch.advantage is None:
        assert branch.term == "imitate", "routes are settled before they train"
        return 1.0
    return branch.advantage


def build_optimizer(weights: Sequence[torch.Tensor], config: Config) -> torch.optim.Optimizer:
    """Return AdamW over `weights`; biases and norms are not decayed."""
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": config.train.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.train.learning_rate,
        betas=(config.train.adam_beta1, config.train.adam_beta2),
        eps=config.train.adam_epsilon,
        fused=True,
    )
