"""The update, side by side with TRL's: FLOPs against the analytic floor, and wall time as paired ratios.

    python benchmarks/update.py [--shape small|reference] [--family qwen3_5|lfm3_vl|gemma3] [--layout cached|rows] [--device cuda]
                                [--repeats 5] [--json FILE] [--markdown]

Both sides have the same weights, pictures, prompt tokens, completion tokens and rewards; before anything is counted, loss and
gradients of the explored prompts are compared. Three cases:

explore     every completion of every prompt carries gradient
memorize    one target per prompt is imitated; TRL has no such thing and pays for the K rows
mix         the routes of a recorded DyME run (routes.json): some prompts memorized, some explored, some skipped

The rollout of the same step has encoded the images, and our update takes them from there; TRL encodes them once more per row.
The last table adds the tower to ours, as it is where nothing was rolled out (for LLaVA-OneVision).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import floor as floor_module
import routes as routing
import torch
from accelerate import Accelerator
from floor import Floor, floor
from measure import Flops, Paired, arguments, count_flops, opening, paired, shape_of, table, write
from shapes import Shape, build_policy, groups, prompts, samples
from theirs import Theirs

from dyme.config import Config, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.methods.routes import live_branches
from dyme.model.policy import Policy
from dyme.training.update import Updater
from dyme.types import Group, Route

CASES = ("explore", "memorize", "mix")


class Ours:
    """The policy, its updater and the prompts, tokens and rewards that both sides train on."""

    def __init__(
        self, shape: Shape, device: str, attention: str = "tree", checkpointing: bool = False, budget: int = 0, layout: Any = "auto"
    ) -> None:
        """`budget`: tokens of a micro-batch; 0, the recipe's default: chosen from memory."""
        self.shape = shape
        self.policy: Policy = build_policy(shape, device, attention)
        self.config = Config(
            model=ModelConfig(layout=layout),
            objective=ObjectiveConfig(std="sample"),
            rollout=RolloutConfig(num_generations=shape.num_generations, max_completion_length=shape.new_tokens),
            train=TrainConfig(gradient_checkpointing=checkpointing, max_tokens_per_batch=budget),
        )
        self.updater = Updater(self.policy, self.config, Accelerator(cpu=device == "cpu"))
        self.rows = samples(self.policy, shape)
        self.prompts = prompts(self.policy, self.rows)
        self.groups = groups(self.policy, self.rows, shape)
        self.policy.tower.prepare(self.prompts)

    def routes(self, case: str) -> list[Route]:
        """Routes of the groups in one of `CASES`."""
        if case == "explore":
            return routing.explore(self.groups, self.config.objective)
        return routing.memorize(self.groups) if case == "memorize" else routing.recorded(self.groups)

    def live(self, case: str) -> list[int]:
        """Live branches of each prompt."""
        return [len(live_branches(route, self.config.objective)) for route in self.routes(case)]

    def update(self, routes: Sequence[Route], groups: Sequence[Group] | None = None) -> float:
        """A whole optimizer step at learning rate 0; the loss."""
        return self.updater.step(self.prompts, groups or self.groups, routes, 0.0)["loss"]

    def settle(self) -> None:
        """A first update: it chooses the layout and makes the optimizer's moments, which are no part of what is measured."""
        self.update(self.routes("memorize"))

    def gradients(self, routes: Sequence[Route]) -> tuple[float, dict[str, torch.Tensor]]:
        """Loss and gradients of an update, before they are clipped."""
        kept: dict[str, torch.Tensor] = {}
        step = self.updater.optimizer.step

        def keep() -> None:
            kept.update({n: p.grad.clone() for n, p in self.policy.named_parameters() if p.grad is not None})

        limit = self.updater.accelerator.clip_grad_norm_
        self.updater.accelerator.clip_grad_norm_ = lambda parameters, norm: torch.zeros(())  # type: ignore[method-assign]
        self.updater.optimizer.step = keep
        try:
            return self.update(routes), kept
        finally:
            self.updater.optimizer.step, self.updater.accelerator.clip_grad_norm_ = step, limit  # type: ignore[method-assign]


def same_update(ours: Ours, theirs: Theirs, batches: Sequence[dict[str, object]]) -> tuple[float, Flops, Flops]:
    """Relative distance of both sides' gradients where every prompt is explored, and the FLOPs of both.

    Ends the program if the distance is above 1e-4 (bf16: 5e-2).
    """
    ours.settle()
    found: list[tuple[float, dict[str, torch.Tensor]]] = []
    own_flops = count_flops(lambda: found.append(ours.gradients(ours.routes("explore"))))
    their_flops = count_flops(lambda: found.append((theirs.update(batches, move=False), theirs.gradients())))
    (loss, own), (other_loss, other) = found
    if own.keys() != other.keys():
        raise SystemExit(f"different parameters have gradients: {sorted(own.keys() ^ other.keys())}")
    apart = sum(float((own[n].float() - g.float()).double().square().sum()) for n, g in other.items())
    distance = float((apart / sum(float(g.double().square().sum()) for g in other.values())) ** 0.5)
    print(f"explore: loss {loss:.6f} ours, {other_loss:.6f} TRL; relative distance of the gradients {distance:.1e}")
    if distance > (1e-4 if ours.shape.dtype == torch.float32 else 5e-2):
        raise SystemExit("these are not the same update")
    assert ours.updater.layout is not None
    print(f"layout: {ours.updater.layout.reason}; micro-batches of at most {ours.updater.budget:,} tokens\n")
    return distance, own_flops, their_flops


def case_work(ours: Ours, case: str) -> Callable[[], float]:
    """Our update in a case."""
    routes = ours.routes(case)
    return lambda: ours.update(routes)


def tower_flops(ours: Ours, case: str) -> Flops:
    """FLOPs of encoding the images of a case's live prompts once."""
    live = [prompt for prompt, branches in zip(ours.prompts, ours.live(case), strict=True) if branches]

    def encode() -> None:
        ours.policy.tower.step.clear()
        ours.policy.tower.prepare(live)

    return count_flops(encode)


def report(counts: dict[str, Flops], theirs: Flops, floors: dict[str, Floor], walls: dict[str, Paired], markdown: bool) -> None:
    """Print FLOPs, what they consist of, and wall times."""
    giga = 1e9
    header = ["GFLOP", "TRL", "ours", "floor", "TRL / ours", "TRL / ours, executed", "ours / floor", "executed / floor"]
    table(header, [
        [case, theirs.total / giga, counts[case].total / giga, floors[case].total / giga, theirs.total / counts[case].total,
         theirs.executed / counts[case].executed, counts[case].total / floors[case].total, counts[case].executed / floors[case].total]
        for case in counts
    ], markdown)  # fmt: skip
    print("executed: causal kernels counted at the half that they compute; the other columns are torch's convention.\n")
    rows: list[list[object]] = [["TRL", theirs.total / giga, (theirs.total - theirs.attention) / giga, theirs.attention / giga]]
    for case in counts:
        own, least = counts[case], floors[case]
        rows.append([f"ours, {case}", own.total / giga, (own.total - own.attention) / giga, own.attention / giga])
        rows.append([f"floor, {case}", least.total / giga, least.products / giga, (least.total - least.products) / giga])
    table(["GFLOP", "total", "matrix products", "attention"], rows, markdown)
    if any(pair.ours for pair in walls.values()):
        table(["wall, s (median)", "TRL", "ours", "TRL / ours", "least", "most"], [
            [case, p.medians[1], p.medians[0], p.ratio, *p.span] for case, p in walls.items()
        ], markdown)  # fmt: skip


def explain(floors: dict[str, Floor], markdown: bool) -> None:
    """Print what the floor consists of, and how it is computed."""
    names = list(Floor.__dataclass_fields__)
    table(["floor, GFLOP", *names], [[case, *(getattr(least, name) / 1e9 for name in names)] for case, least in floors.items()], markdown)
    print((floor_module.__doc__ or "").partition("\n\n")[2])


def main() -> None:
    args = arguments(__doc__ or "", prompts=8)
    shape = shape_of(args)
    opening("Update", shape, args)
    ours = Ours(shape, args.device, args.attention, args.checkpointing, layout=args.layout)
    theirs = Theirs(ours.policy, shape, ours.rows, args.device, args.checkpointing)
    batches = theirs.batches(ours.groups)
    distance, explored, their_flops = same_update(ours, theirs, batches)
    counts = {"explore": explored} | {case: count_flops(case_work(ours, case)) for case in CASES[1:]}
    floors = {case: floor(ours.policy.model, shape, ours.live(case)) for case in CASES}
    with_tower = {case: counts[case] + tower_flops(ours, case) for case in CASES}
    ours.policy.tower.prepare(ours.prompts)
    walls = {case: paired(case_work(ours, case), lambda: theirs.update(batches), args.repeats, args.device) for case in CASES}
    explain(floors, args.markdown)
    print("After a rollout (its images are at hand: tower 0 FLOPs):")
    report(counts, their_flops, floors, walls, args.markdown)
    if shape.family == "llava_onevision":
        print("Without a rollout (each image once through the tower):")
        whole = {case: floor(ours.policy.model, shape, ours.live(case), tower=True) for case in CASES}
        report(with_tower, their_flops, whole, {}, args.markdown)
    figures = {"gradient_distance": distance}
    for case in CASES:
        figures |= {
            f"flops_ratio_{case}": their_flops.total / counts[case].total,
            f"flops_ratio_{case}_executed": their_flops.executed / counts[case].executed,
            f"flops_ratio_{case}_with_tower": their_flops.total / with_tower[case].total,
            f"floor_ratio_{case}": counts[case].total / floors[case].total,
            f"floor_ratio_{case}_executed": counts[case].executed / floors[case].total,
        }
        if args.repeats:
            figures[f"wall_ratio_{case}"] = walls[case].ratio
    for suffix in ("", "_executed"):
        figures[f"floor_ratio{suffix}"] = max(figures[f"floor_ratio_{case}{suffix}"] for case in CASES)
    write(args.json, figures)


if __name__ == "__main__":
    main()
