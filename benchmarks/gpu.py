"""What the script `gpu.sh` measures on one GPU, a part at a time; each part adds its figures to one JSON file.

    python benchmarks/gpu.py correct|step|largest --json FILE [--shape reference|smolvlm] [--device cuda]
    python benchmarks/gpu.py export --shape smolvlm --folder FOLDER
    python benchmarks/gpu.py vllm --json FILE --shape smolvlm --folder FOLDER --seconds SECONDS

correct   log-probabilities and gradients of trees with K answers: each layout, FlexAttention and SDPA, in the shape's type (bf16 on a
          GPU), against rows in float32; and the answers' log-probabilities as the rollout recorded them
step      seconds, FLOPs and MFU of a step, rollout and update, ours and TRL's with HF generation; FLOPs of MFU are those that a side's
          kernels execute, over the peak that the maker names for the device's bf16 without sparsity (`--peak`, in TFLOP/s, names another)
largest   the K that fits one prompt's update, from the peak memory at two K; on a GPU ours is then run at nine tenths of it
export    a folder with config, processor and prompts for `gpu_vllm.py`, which runs in an environment of vLLM's
vllm      adds what that printed: seconds of a rollout, from which TRL's step with vLLM follows (its own update, no time for weights)

Weights are random and have the shapes of the models; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from measure import Flops, count_flops, write
from memory import peak_allocated
from shapes import SHAPES, Shape, build_policy, groups, prompts, samples
from step import our_step
from theirs import Theirs
from update import Ours

from dyme.config import RolloutConfig
from dyme.model.loading import attend
from dyme.model.policy import Policy
from dyme.model.tree import Layout, Limb, Tree, collate
from dyme.rollout import hf
from dyme.system import tuning

PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "T4": 65, "B200": 2250}
"""TFLOP/s in half precision without sparsity, by a word in the device's name; the makers' data sheets."""
LAYOUTS: tuple[Layout, ...] = ("tree", "cached", "rows", "reference")


Scores = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Log-probabilities, and gradients by the name of their weight."""


def scored(policy: Policy, forest: Sequence[Tree], layout: Layout, device: str, learn: bool = True) -> Scores:
    """Log-probabilities of the trees' answers, and the gradients of their mean, in float32; without `learn`, no gradients."""
    policy.zero_grad()
    with torch.set_grad_enabled(learn):
        logprob_N = policy(collate(forest, policy.pad, layout, policy.answer_types).to(device))
    if learn:
        logprob_N.mean().backward()
    found = {name: weight.grad.float() for name, weight in policy.named_parameters() if weight.grad is not None}
    policy.zero_grad()
    return logprob_N.detach().float(), found


def apart(found: Scores, expected: Scores) -> dict[str, float]:
    """Distances of log-probabilities, in nats, and the relative distance of the gradients, if there are any."""
    gap = (found[0] - expected[0]).abs()
    out = {"largest": float(gap.max()), "mean": float(gap.mean())}
    if not found[1]:
        return out
    wrong, whole = (sum(float(gradient.double().square().sum()) for gradient in some) for some in (
        [found[1][name] - gradient for name, gradient in expected[1].items()], expected[1].values()
    ))  # fmt: skip
    return out | {"gradient": (wrong / whole) ** 0.5}


def tried(work: Callable[[], Any]) -> Any:
    """What the work returns, or its error in one line: a part that fails is no reason to lose the others."""
    try:
        return work()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}


def correct(shape: Shape, device: str) -> dict[str, Any]:
    """Distances of each layout and attention from rows in float32, and of the rollout's log-probabilities."""
    shape = shape.but(prompts=2, num_generations=4, new_tokens=min(32, shape.new_tokens))
    policy = build_policy(shape, device).train()
    with torch.no_grad():
        for weight in policy.model.get_decoder().parameters():
            if weight.ndim > 1:  # fresh weights, of deviation 0.02, have next to no opinion, which would hide a wrong mask
                weight.mul_(2 / (0.02 * shape.text["hidden_size"] ** 0.5))
    rows = samples(policy, shape)
    asked = prompts(policy, rows)
    forest = [
        Tree(trunk=prompt, limbs=tuple(Limb(tokens=c.token_ids, term="policy", advantage=1, token_weight=1) for c in group.completions))
        for prompt, group in zip(asked, groups(policy, rows, shape), strict=True)
    ]
    torch.set_float32_matmul_precision("highest")
    whole = copy.deepcopy(policy).float()
    expected = scored(whole, forest, "rows", device)
    del whole
    out: dict[str, Any] = {"type": str(shape.dtype).removeprefix("torch.")}
    for layout in LAYOUTS:
        out[layout] = tried(lambda layout=layout: apart(scored(policy, forest, layout, device), expected))
    for attention in ("sdpa", "flex_attention"):
        attend(policy.model, attention)
        learn = device != "cpu" or attention != "flex_attention"  # which has no backward pass on a CPU
        out[f"tree, {attention}"] = tried(lambda learn=learn: apart(scored(policy, forest, "tree", device, learn), expected))
    policy.model.set_attn_implementation({"text_config": "sdpa"})
    attend(policy.model, "tree")
    out["rollout"] = tried(lambda: sampled(policy, asked, shape, device))
    return out


def sampled(policy: Policy, asked: Sequence[Any], shape: Shape, device: str) -> dict[str, Any]:
    """Distance of the log-probabilities that a rollout recorded from those of an update of the same weights and type."""
    settings = RolloutConfig(num_generations=shape.num_generations, max_completion_length=shape.new_tokens)
    found = hf.sample(policy, asked, range(len(asked)), settings)
    limbs = [tuple(Limb(tokens=c.token_ids, term="policy", advantage=1, token_weight=1) for c in group) for group in found]
    with torch.no_grad():
        forest = [Tree(trunk=prompt, limbs=own) for prompt, own in zip(asked, limbs, strict=True)]
        again = policy(collate(forest, policy.pad, "tree", policy.answer_types).to(device)).float().cpu()
    gap = (torch.tensor([value for group in found for c in group for value in c.logprobs]) - again).abs()
    return {"cache": policy.cache_kind, "largest": float(gap.max()), "mean": float(gap.mean())}


def timed(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median seconds, after one run that is not timed."""
    seconds = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def step(shape: Shape, device: str, repeats: int, peak: float | None) -> dict[str, Any]:
    """A step of both sides in all and by part."""
    ours = Ours(shape, device)
    ours.policy.forbidden[ours.policy.eos] = True
    theirs = Theirs(ours.policy, shape, ours.rows, device)
    rewards = [verdict.reward for group in ours.groups for verdict in group.verdicts]
    batches = theirs.batches(ours.groups)
    ours.settle()
    flops: dict[str, Flops] = {}
    for name, work in {"ours": lambda: our_step(ours), "TRL": lambda: theirs.update(theirs.roll_out(rewards))}.items():
        work()
        flops[name] = count_flops(work)
    parts: dict[str, Callable[[], object]] = {
        "ours": lambda: our_step(ours), "ours, update": lambda: ours.update(ours.routes("mix")),
        "TRL": lambda: theirs.update(theirs.roll_out(rewards)), "TRL, update": lambda: theirs.update(batches),
    }  # fmt: skip
    seconds = {name: timed(work, repeats, device) for name, work in parts.items()}
    tokens = shape.prompts * shape.num_generations * shape.new_tokens
    return {
        "prompts": shape.prompts, "num_generations": shape.num_generations, "new_tokens": shape.new_tokens, "trunk": shape.trunk,
        "seconds": seconds, "ratio": seconds["TRL"] / seconds["ours"], "flops": {name: one.executed for name, one in flops.items()},
        "sampled_tokens_per_second": {name: tokens / seconds[name] for name in flops},
        "mfu": {name: one.executed / seconds[name] / (peak * 1e12) for name, one in flops.items()} if peak else None,
    }  # fmt: skip


def peak_of(work: Callable[[], object], device: str) -> int:
    """The most bytes that work takes above those at its start."""
    if device != "cuda":
        return peak_allocated(work)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return int(torch.cuda.max_memory_allocated() - before)


def largest(shape: Shape, device: str) -> dict[str, Any]:
    """The K of one prompt whose update fits, by the bytes that each further answer takes; ours is run at nine tenths of it."""
    few, more = 4, 16
    peaks: dict[str, list[int]] = {"ours": [], "TRL": []}
    for count in (few, more):
        own = shape.but(prompts=1, num_generations=count)
        ours = Ours(own, device, budget=10**9)
        ours.settle()
        peaks["ours"].append(peak_of(partial(ours.update, ours.routes("explore")), device))
        theirs = Theirs(ours.policy, own, ours.rows, device)
        batches = theirs.batches(ours.groups)
        theirs.update(batches)
        peaks["TRL"].append(peak_of(partial(theirs.update, batches), device))
    del theirs, batches
    gc.collect()
    free = float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() if device == "cuda"
                 else psutil.virtual_memory().available)  # fmt: skip
    each = {name: (found[1] - found[0]) / (more - few) for name, found in peaks.items()}
    fits = {name: int((free - found[0]) / each[name]) + few for name, found in peaks.items()}
    out: dict[str, Any] = {"free_bytes": free, "bytes_per_answer": each, "largest_k": fits}
    if device == "cuda":
        out["run_at"] = int(0.9 * fits["ours"])
        ours.shape = own.but(num_generations=out["run_at"])
        ours.groups = groups(ours.policy, ours.rows, ours.shape)
        out["ran"] = tried(lambda: peak_of(lambda: ours.update(ours.routes("explore")), device))
    return out


def export(shape: Shape, folder: Path) -> None:
    """Write config, processor, and prompts with their pictures for another environment."""
    policy = build_policy(shape, "cpu")
    policy.model.config.save_pretrained(folder)
    policy.processor.save_pretrained(folder)
    rows = samples(policy, shape)
    texts = [policy.chat.prompt(row.question, 1) for row in rows]
    for k, row in enumerate(rows):
        row.images[0].load().save(folder / f"{k}.png")
    (folder / "prompts.json").write_text(
        json.dumps({"texts": texts, "num_generations": shape.num_generations, "new_tokens": shape.new_tokens})
    )


def peak_of_device(device: str, named: float | None) -> float | None:
    """TFLOP/s in half precision that the maker names."""
    if named or device != "cuda":
        return named
    return next((peak for word, peak in PEAKS.items() if word in torch.cuda.get_device_name()), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["correct", "step", "largest", "export", "vllm"])
    parser.add_argument("--shape", choices=list(SHAPES), default="reference")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--num_generations", type=int, default=8)
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device in half precision")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, help="of a rollout by vLLM")
    parser.add_argument("--json", type=Path, default=Path("out/gpu.json"))
    args = parser.parse_args()
    tuning.tune()
    shape = SHAPES[args.shape].but(prompts=args.prompts, num_generations=args.num_generations, new_tokens=args.new_tokens)
    if args.device == "cpu":
        shape = shape.but(dtype=torch.float32)
    if args.part == "export":
        export(shape, args.folder)
        return
    figures: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {}
    own = figures.setdefault(args.shape, {})
    if args.part == "vllm":
        known = own.get("step", {}).get("seconds")
        own["vllm"] = {"rollout_seconds": args.seconds} | ({"step_seconds": args.seconds + known["TRL, update"]} if known else {})
    else:
        peak = peak_of_device(args.device, args.peak)
        figures["device"] = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
        figures["versions"] = {"torch": torch.__version__}
        work = {"correct": lambda: correct(shape, args.device), "step": lambda: step(shape, args.device, args.repeats, peak),
                "largest": lambda: largest(shape, args.device)}  # fmt: skip
        own[args.part] = tried(work[args.part])
    write(args.json, figures)
    print(json.dumps({args.shape: {args.part: own[args.part]}}, indent=2))


if __name__ == "__main__":
    main()
