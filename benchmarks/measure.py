"""How the benchmarks measure: FLOPs by torch's counter, wall time as paired ratios, and what they print.

FLOPs are those of torch.utils.flop_counter.FlopCounterMode, forward and backward, with two additions that it lacks and
without which neither side would be counted in full: attention on the CPU (its kernel is not in torch's table, so torch counts
none), and the in-place matrix products of TRL's head; and with one correction: the backward pass of a convolution that has a
kernel for each channel, which torch counts as if all channels were mixed. As for other kernels, torch counts attention as if
every query saw every key. `skipped` is what a causal kernel leaves out of that; `executed` = total - skipped is kinder to TRL,
whose rows are causal, than to branches, whose mask the CPU's kernel does not exploit.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hybrids import FAMILIES
from shapes import SHAPES, Shape
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from dyme.system import tuning

aten = torch.ops.aten
_ATTENTION = [
    aten._scaled_dot_product_flash_attention_for_cpu, aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention, aten._scaled_dot_product_cudnn_attention,
]  # fmt: skip
_ATTENTION_BACKWARD = [
    aten._scaled_dot_product_flash_attention_for_cpu_backward, aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_efficient_attention_backward, aten._scaled_dot_product_cudnn_attention_backward,
]  # fmt: skip


def _product(acc: Sequence[int], a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    """FLOPs of `acc += a @ b`, from the shapes."""
    return 2 * a[0] * a[1] * b[1]


def _convolution_backward(grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any) -> int:
    """FLOPs of a convolution's backward pass: its forward pass once for each gradient, of input and weight; groups as they are."""
    wanted = next(value for value in reversed(rest) if isinstance(value, (list, tuple)))[:2]
    return 2 * grad[0] * math.prod(grad[2:]) * math.prod(weight) * sum(map(bool, wanted))


@dataclass(frozen=True)
class Flops:
    """FLOPs of a piece of work, with their share in attention."""

    total: int
    attention: int
    skipped: int
    """Of `attention`: what causal kernels leave out."""

    @property
    def executed(self) -> int:
        return self.total - self.skipped

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.total + other.total, self.attention + other.attention, self.skipped + other.skipped)


def count_flops(work: Callable[[], object]) -> Flops:
    """Run `work` and count."""
    skipped = [0]

    def formula(op: Any, backward: bool) -> Callable[..., int]:
        names = [argument.name for argument in op.default._schema.arguments]

        def flops(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
            given = dict(zip(names, args, strict=False)) | kwargs
            query, key, value = given["query"], given["key"], given["value"]
            dense: int = sdpa_backward_flop_count(query, query, key, value) if backward else sdpa_flop_count(query, key, value)
            if given.get("is_causal") and query[2] == key[2]:
                skipped[0] += dense * (key[2] - 1) // (2 * key[2])
            return dense

        return flops

    mapping = {op: formula(op, False) for op in _ATTENTION} | {op: formula(op, True) for op in _ATTENTION_BACKWARD}
    extra = {aten.addmm_: _product, aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping | extra) as counter:
        work()
    counts = counter.get_flop_counts().get("Global", {})
    attention = sum(n for op, n in counts.items() if "attention" in str(op))
    return Flops(total=counter.get_total_flops(), attention=attention, skipped=skipped[0])


@dataclass(frozen=True)
class Paired:
    """Seconds of two pieces of work that were run alternately."""

    ours: list[float]
    theirs: list[float]
    busy: Paired | None = None
    """The same in seconds of this process's CPU, on a CPU: they leave out the time in which other processes had it."""

    @property
    def ratio(self) -> float:
        """Median over the pairs of theirs / ours."""
        return statistics.median(t / o for o, t in zip(self.ours, self.theirs, strict=True))

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds of ours and theirs."""
        return statistics.median(self.ours), statistics.median(self.theirs)

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest ratio of a pair."""
        ratios = [t / o for o, t in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)


def paired(ours: Callable[[], object], theirs: Callable[[], object], repeats: int, device: str) -> Paired:
    """Time both `repeats` times, one after the other, each first in half of the pairs; one run of each before that is not timed."""
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    if repeats:
        ours()
        theirs()
    for k in range(repeats):
        for own in (True, False) if k % 2 == 0 else (False, True):
            times[own].append(_seconds(ours if own else theirs, device))
    (ours_wall, ours_busy), (their_wall, their_busy) = ([[one[k] for one in times[own]] for k in (0, 1)] for own in (True, False))
    return Paired(ours_wall, their_wall, Paired(ours_busy, their_busy) if device == "cpu" else None)


def _seconds(work: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds that the work takes, and those of this process's CPU."""
    if device == "cuda":
        torch.cuda.synchronize()
    started, busy = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - busy


def arguments(description: str, prompts: int, new_tokens: int = 128, **more: dict[str, Any]) -> argparse.Namespace:
    """Command line of a benchmark, with its own defaults; `more` are options that it alone has.

    Both sides run in one process, so DyME's settings of malloc are for both.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--attention", choices=["tree", "sdpa", "flex_attention"], default="tree", help="ours; TRL takes sdpa")
    parser.add_argument("--layout", choices=["auto", "tree", "cached", "rows"], default="auto", help="ours")
    parser.add_argument("--family", choices=["llava_onevision", *FAMILIES], help="default: the shape's")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timed runs; 0: count only")
    parser.add_argument("--prompts", type=int, default=prompts)
    parser.add_argument("--num_generations", type=int, default=8)
    parser.add_argument("--new_tokens", type=int, default=new_tokens)
    parser.add_argument("--trunk", type=int, help="tokens of a prompt (default: the shape's)")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing on both sides (TRL's default)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    tuning.tune()
    return parser.parse_args()


def shape_of(args: argparse.Namespace) -> Shape:
    """The shape that the command line asks for."""
    shape = SHAPES[args.shape].but(prompts=args.prompts, num_generations=args.num_generations, new_tokens=args.new_tokens)
    shape = shape.but(family=args.family, tiles=0) if args.family else shape
    shape = shape.but(trunk=args.trunk) if args.trunk else shape
    return shape.but(dtype=torch.float32) if args.device == "cpu" else shape


def opening(title: str, shape: Shape, args: argparse.Namespace) -> None:
    """Print what is measured, and on what."""
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    kind = str(shape.dtype).removeprefix("torch.")
    print(f"{title}: {shape.family}, shape {shape.name}, {kind}, {machine}, torch {torch.__version__}")
    print(
        f"{shape.prompts} prompt(s) of {shape.trunk} tokens, {shape.image_tokens} of them the image; K = {shape.num_generations}, "
        f"{shape.new_tokens} new tokens; gradient checkpointing {'on' if args.checkpointing else 'off'}\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], markdown: bool = False) -> None:
    """Print rows in columns, or as a Markdown table; floats with three significant digits."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = [[row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))] for row in cells]
    for k, line in enumerate(lines):
        print("| " + " | ".join(line) + " |" if markdown else "  ".join(line).rstrip())
        if markdown and k == 0:
            print("|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    print()


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def conclude(
    name: str,
    rows: Sequence[Sequence[object]],
    figures: Mapping[str, float],
    counted: tuple[Flops, Flops],
    times: Paired,
    args: argparse.Namespace,
) -> None:
    """Print and write one piece of work of both sides: `rows` and `figures` of its own, then FLOPs (ours, TRL's) and wall time."""
    ours, theirs = counted
    ratios = {"flops_ratio": theirs.total / ours.total, "flops_ratio_executed": theirs.executed / ours.executed}
    lines = [
        *rows,
        ["GFLOP", theirs.total / 1e9, ours.total / 1e9, ratios["flops_ratio"]],
        ["GFLOP, executed", theirs.executed / 1e9, ours.executed / 1e9, ratios["flops_ratio_executed"]],
    ]
    if args.repeats:
        lines.append(["wall, s (median)", times.medians[1], times.medians[0], times.ratio])
        ratios["wall_ratio"] = times.ratio
        if busy := times.busy:
            lines.append(["CPU, s (median)", busy.medians[1], busy.medians[0], busy.ratio])
            ratios["cpu_ratio"] = busy.ratio
    table([name, "TRL", "ours", "TRL / ours"], lines, args.markdown)
    if args.repeats:
        print(f"wall ratios of the pairs: {times.span[0]:.3g} to {times.span[1]:.3g}")
        if times.busy:
            print(f"CPU ratios of the pairs: {times.busy.span[0]:.3g} to {times.busy.span[1]:.3g}")
    write(args.json, {**figures, **ratios})


def write(file: Path | None, figures: Mapping[str, object]) -> None:
    """Write the figures as JSON, if a file is given."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2) + "\n")
