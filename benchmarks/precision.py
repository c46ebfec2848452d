"""What half-precision compute does to a full fine-tune: 20 steps of imitation in each precision, side by side with float32.

    python benchmarks/precision.py [--model embedded|FOLDER] [--steps 20] [--prompts 4] [--rates 8e-5 1e-5 1e-6] [--tensor-cores]

For each learning rate and precision: the mean loss of the last five steps and how far it is from float32's; the share of tensors of
which any element moved; the share of elements of float32 masters that moved (an element that gets no gradient, such as the embedding
of a word that no row holds, moves by weight decay alone, and not where it is 0); and the share of elements that would have moved in a
model whose weights themselves are bfloat16, which is what the masters are for.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.overrides import TorchFunctionMode

from dyme.config import Config, ModelConfig, TaskConfig, TrainConfig
from dyme.methods import METHODS
from dyme.model.policy import Policy
from dyme.model.precision import read
from dyme.samples import load
from dyme.training.update import Updater
from dyme.types import Group


class TensorCores(TorchFunctionMode):
    """Products of half precision computed in float32 and rounded, as tensor cores do; a CPU without such products takes minutes a step."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, in float32 if it is a product."""
        half = [a.dtype for a in args if isinstance(a, torch.Tensor) and a.dtype in (torch.bfloat16, torch.float16)]
        if func not in PRODUCTS or not half:
            return func(*args, **(kwargs or {}))
        return func(*(a.float() if isinstance(a, torch.Tensor) else a for a in args), **(kwargs or {})).to(half[0])


PRODUCTS = (torch.nn.functional.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
PRECISIONS = ("fp32", "bf16", "fp16")


def measure(model: str, precision: str, rate: float, steps: int, size: int) -> dict[str, Any]:
    """Train for some steps, each on `size` prompts not seen before; the figures of one row, but for the distance from float32."""
    config = Config(
        model=ModelConfig(path=model), train=TrainConfig(precision=precision),  # type: ignore[arg-type]
        task=TaskConfig(input="image" if model == "embedded" else "facts", traces="high"),
    )  # fmt: skip
    torch.manual_seed(0)
    policy = Policy.load(config.model, read(config))
    updater = Updater(policy, config, Accelerator(cpu=not torch.cuda.is_available()))
    samples, method = load(config, "train")[0], METHODS["sft"]
    route, context = method.plan(config)[0].route, method.context(config)

    def step(number: int) -> float:
        groups = [Group(sample=sample) for sample in samples[number * size : (number + 1) * size]]
        asked = [policy.encode(group.sample, config.task.think_prompt) for group in groups]
        return updater.step(asked, groups, [route(group, context) for group in groups], rate)["loss"]

    before = {name: master.detach().clone() for name, master in updater.masters.weights.items()}
    losses = [step(number) for number in range(steps)]
    after = {name: master.detach() for name, master in updater.masters.weights.items()}
    total = sum(master.numel() for master in after.values())
    moved = {name: int((master != before[name]).sum()) for name, master in after.items()}
    rounded = sum(int((master.bfloat16() != before[name].bfloat16()).sum()) for name, master in after.items())
    return {
        "model": model, "learning_rate": rate, "precision": precision, "loss": sum(losses[-5:]) / len(losses[-5:]), "first": losses[0],
        "tensors": sum(map(bool, moved.values())) / len(moved), "elements": sum(moved.values()) / total, "bfloat16": rounded / total,
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--rates", type=float, nargs="+", default=[8e-5, 1e-5, 1e-6])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--tensor-cores", action="store_true", help="compute products of half precision in float32 and round them")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| learning rate | precision | loss, steps 1 / last five | from fp32 | tensors moved | elements moved | of bfloat16 weights |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for rate in args.rates:
        for precision in args.precisions:
            with TensorCores() if args.tensor_cores else nullcontext():
                row = measure(args.model, precision, rate, args.steps, args.prompts)
            exact = next((r["loss"] for r in rows if r["learning_rate"] == rate and r["precision"] == "fp32"), row["loss"])
            rows.append(row | {"from_fp32": row["loss"] / exact - 1})
            shares = f"{row['tensors']:.1%} | {row['elements']:.2%} | {row['bfloat16']:.1%}"
            print(
                f"| {rate:g} | {precision} | {row['first']:.3f} / {row['loss']:.3f} | {rows[-1]['from_fp32']:+.2%} | {shares} |", flush=True
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
