"""Seconds of a rollout by vLLM, in an environment of its own that need not know dyme: the prompts of `gpu.py export`, random weights.

    VLLM_PYTHON benchmarks/gpu_vllm.py FOLDER [--repeats 2]

Prints the median seconds of a rollout, all prompts at once, K answers each of a fixed length; the first is not timed. Between two, caches
of prefixes and pictures are emptied, as a change of weights empties them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    from vllm import LLM, SamplingParams

    given = json.loads((args.folder / "prompts.json").read_text())
    engine = LLM(
        model=str(args.folder), load_format="dummy", dtype="bfloat16", limit_mm_per_prompt={"image": 1}, gpu_memory_utilization=0.6
    )  # fmt: skip
    asked = [{"prompt": text, "multi_modal_data": {"image": Image.open(args.folder / f"{k}.png")}} for k, text in enumerate(given["texts"])]
    settings = SamplingParams(
        n=given["num_generations"], temperature=1.0, max_tokens=given["new_tokens"], ignore_eos=True, detokenize=False
    )
    seconds = []
    for _ in range(args.repeats + 1):
        engine.reset_prefix_cache()
        started = time.perf_counter()
        engine.generate(asked, settings, use_tqdm=False)
        seconds.append(time.perf_counter() - started)
    print(statistics.median(seconds[1:]))


if __name__ == "__main__":
    main()
