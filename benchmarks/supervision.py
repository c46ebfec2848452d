"""What visual supervision costs: calls of the helper against the reference code's, and step time with and without overlap.

    python benchmarks/supervision.py [--steps 10] [--repeats 3] [--latency 0.3] [--slots 32] [--json FILE] [--markdown]

Real trainings of the embedded model on the embedded charts, 32 prompts x 8 a step, against an OpenAI-compatible server on loopback
that answers each request after `latency` seconds, `slots` at a time; for the times it is a process of its own, as an LLM's server is.
The reference code asks four times per completion (facts for the checker, its grade, facts for the refiner, its trace), whatever the
routes; here the facts are prepared, a call grades a group or writes a target, and skipped prompts cost none. The second run repeats
the first with its cache. Runs of the three kinds (Pure DyME, Full with overlap, Full without) are made alternately; a step's time is
the median over a run's steps but for the first two, a ratio the median over the repeats.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from measure import table, write

from dyme.config import Config
from dyme.recipe import build
from dyme.supervise.build import TRIAL
from dyme.system import tuning
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from llm_server import LLMServer

REFERENCE_CALLS = 4
"""Of the reference code, per completion."""
KINDS = {"pure": [], "overlap": ["overlap=true"], "serial": ["overlap=false"]}


def recipe(folder: Path, steps: int, words: list[str], url: str, cache: Path | None = None) -> Config:
    """`steps` steps of 32 prompts x 8; `words` are settings of supervision, none for Pure DyME."""
    own = ["checker=llm", "refiner=llm", f"url={url}", "model=loopback", "concurrency=32", *([f"cache={cache}"] if cache else [])]
    helpers = [f"--supervision.{word}" for word in [*own, *words]] if words else []
    tree = {"train": {"max_prompts": 32 * steps, "learning_rate": 1e-3}, "method": {"memorize_weight": 0.125}, "task": {"test_size": 1}}
    return build({**tree, "run": {"output": str(folder), "save_every": 0}}, helpers)


def seconds(folder: Path) -> float:
    """Median seconds of a step; the first two set up."""
    ends = [record.seconds for record in RunFolder.open(folder).steps()]
    return statistics.median(b - a for a, b in zip(ends[1:], ends[2:], strict=False))


def calls(folder: Path, server: LLMServer, steps: int) -> tuple[float, int, dict[str, float]]:
    """Calls per step of a run, requests of an identical second run, and shares of the routes."""
    for name in ("one", "two"):
        before = server.count
        train(recipe(folder / name, steps, ["overlap=false"], server.url, folder / "answers.sqlite"))
    records = RunFolder.open(folder / "one").steps()
    shares = {mode: statistics.mean(r.metrics[f"share_{mode}"] for r in records) for mode in ("memorize", "explore", "skip")}
    return records[-1].metrics["helper_calls"] / steps, server.count - before, shares


def _serve(latency: float, slots: int, pipe: Connection) -> None:
    with LLMServer(latency_seconds=latency, slots=slots) as server:
        pipe.send(server.url)
        pipe.recv()


@contextmanager
def served(latency: float, slots: int) -> Iterator[str]:
    """The address of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(latency, slots, its))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("")
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs of each kind; 0: count calls only")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds per answer")
    parser.add_argument("--slots", type=int, default=32, help="requests that the server answers at once")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tuning.tune()
    print(f"Supervision: {args.steps} steps of 32 x 8, {args.latency} s, {args.slots} slots, {torch.get_num_threads()} thread(s)\n")

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LLMServer(slots=args.slots) as server:
            per_step, second, shares = calls(folder, server, args.steps)
        reference = REFERENCE_CALLS * 32 * 8
        figures |= {"calls_per_step": per_step, "calls_ratio": reference / per_step, "second_run_calls": second, "trial_calls": TRIAL}
        print("routes: " + ", ".join(f"{mode} {share:.0%}" for mode, share in shares.items()))
        table(["calls per step", "reference", "ours", "reference / ours", "identical second run, all steps"], [
            ["checker + refiner", reference, per_step, reference / per_step, second]
        ], args.markdown)  # fmt: skip
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        with served(args.latency, args.slots) as url:
            for k in range(args.repeats):
                for kind, words in KINDS.items():
                    train(recipe(folder / f"{kind}{k}", args.steps, words, url))
                    times[kind].append(seconds(folder / f"{kind}{k}"))
        if args.repeats:
            for kind in ("overlap", "serial"):
                figures[f"full_over_pure_{kind}"] = statistics.median(a / b for a, b in zip(times[kind], times["pure"], strict=True))
            rows = [[f"run {k + 1}", *(times[kind][k] for kind in KINDS)] for k in range(args.repeats)]
            table(["step, s (median)", "pure", "full, overlap", "full, serial"], rows, args.markdown)
            ratios = [figures["full_over_pure_overlap"], figures["full_over_pure_serial"]]
            table(["Full / Pure", "overlap", "serial"], [["median", *ratios]], args.markdown)
    write(args.json, figures)


if __name__ == "__main__":
    main()
