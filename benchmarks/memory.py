"""Peak memory of the update, side by side with TRL's, each side in a process of its own.

    python benchmarks/memory.py [--shape small|reference] [--device cuda] [--case explore] [--json FILE]

Each process loads its model, makes its inputs and takes an optimizer step, then another; what counts is the peak of the second
above what was there before it (weights, inputs, moments): activations and gradients. On a CPU that is the peak of the resident
set (the kernel's VmHWM, reset just before) over its size at that moment, with malloc told to give freed blocks back, and
beside it the peak of what torch's allocator had handed out, from its profiler. On a GPU it is torch.cuda.max_memory_allocated.

TRL's micro-batch is one prompt with its K rows. Ours is given one prompt per micro-batch too (`equal`), and, separately, as
many as its own default budget of tokens allows (`default`). With --checkpointing both sides recompute activations, which is
TRL's default.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measure import arguments, opening, shape_of, table, write
from theirs import Theirs
from update import CASES, Ours

SIDES = ("ours, equal", "ours, default", "TRL")


def resident(field: str) -> int:
    """Bytes of this process's resident set: now (VmRSS) or at its peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def peak_resident(work: Callable[[], object]) -> int:
    """Bytes by which the resident set grows at most during `work`."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def peak_allocated(work: Callable[[], object]) -> int:
    """Bytes that torch's CPU allocator has handed out at most during `work`, above those at its start."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(args: argparse.Namespace) -> dict[str, int]:
    """One side's step in this process: peak bytes by how they were measured."""
    shape = shape_of(args)
    ours = Ours(shape, args.device, args.attention, args.checkpointing, budget=shape.trunk if args.side == "ours, equal" else 0)
    if args.side == "TRL":
        theirs = Theirs(ours.policy, shape, ours.rows, args.device, args.checkpointing)
        batches = theirs.batches(ours.groups)
        theirs.update(batches[:1])
        del ours

        def work() -> float:
            return theirs.update(batches)
    else:
        routes = ours.routes(args.case)
        ours.settle()

        def work() -> float:
            return ours.update(routes)

    if args.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return {"allocated": torch.cuda.max_memory_allocated() - before}
    return {"resident": peak_resident(work), "allocated": peak_allocated(work)}


def side(name: str) -> dict[str, int]:
    """The measurement of one side in a fresh process, which takes the same command line."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    command = [sys.executable, __file__, *sys.argv[1:], "--side", name]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def main() -> None:
    args = arguments(__doc__ or "", prompts=4, case={"choices": CASES, "default": "explore"}, side={"help": argparse.SUPPRESS})
    if args.side:
        print(json.dumps(measure(args)))
        return
    opening(f"Memory of the update, {args.case}", shape_of(args), args)
    peaks = {name: side(name) for name in SIDES}
    table(["MiB", *SIDES, "TRL / ours, equal", "TRL / ours, default"], [
        [f"peak {kind}", *(peaks[name][kind] / 2**20 for name in SIDES), *(peaks["TRL"][kind] / peaks[name][kind] for name in SIDES[:2])]
        for kind in peaks["TRL"]
    ], args.markdown)  # fmt: skip
    main_kind = next(iter(peaks["TRL"]))
    write(args.json, {
        "peak_memory_ratio": peaks["TRL"][main_kind] / peaks["ours, equal"][main_kind],
        "peak_memory_ratio_default": peaks["TRL"][main_kind] / peaks["ours, default"][main_kind],
        "allocated_ratio": peaks["TRL"]["allocated"] / peaks["ours, equal"]["allocated"],
        "allocated_ratio_default": peaks["TRL"]["allocated"] / peaks["ours, default"]["allocated"],
    })  # fmt: skip


if __name__ == "__main__":
    main()
