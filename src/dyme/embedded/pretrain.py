"""Makes the embedded base from scratch: `python -m dyme.embedded.pretrain --out DIR` (CPU, two cores).

Stages, by step: text alone (look-ups, statements, arithmetic: a language model's usual skills), then captions and look-ups
in pictures, then the mix (short answers, captions, a little loose thinking); some text stays in until the end. Muon for the
matrices (Jordan et al., 2024; with AdamW look-up by name is not learned), AdamW for the rest. With `--init` a finished base is
trained on; so the weaker base of the study is made (docs/base.md).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from dyme.config import ModelConfig
from dyme.embedded import architecture, curriculum
from dyme.model.loading import resolve
from dyme.tasks.charts.questions import random_chart
from dyme.tasks.charts.traces import FORMATTED


class Feed:
    """Endless training batches (input_ids [B, T], labels [B, T], pixel_values or None), from a seed."""

    def __init__(self, processor: Idefics3Processor, seed: int, rows: int, thinking: float, formatted: float = FORMATTED) -> None:
        """Make batches of `rows` conversations; `thinking`: share of loose thinking in the mix, `formatted`: of it, what ends as asked."""
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng, self.rows, self.thinking, self.formatted = random.Random(seed), rows, thinking, formatted
        self.image = architecture.FAKE + architecture.GLOBAL + architecture.IMAGE * architecture.IMAGE_TOKENS + architecture.FAKE

    def charts(self, stage: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a batch of conversations about pictures; `stage` is "caption" or "mix"."""
        charts = [random_chart(self.rng, "pretrain") for _ in range(self.rows)]
        rows = []
        for chart in charts:
            if stage == "caption":
                turns = curriculum.caption_turns(chart, self.rng)
            elif self.rng.random() < self.thinking:
                turns = curriculum.thinking_turns(chart, self.rng, self.formatted)
            else:
                turns = curriculum.direct_turns(chart, self.rng)
            rows.append(self._segments(turns, self.image))
        pictures = torch.stack([self.pixels(chart.image.load()) for chart in charts])
        return *self._pad(rows), pictures

    def text(self) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return a batch of tables in words and arithmetic."""
        rows = [
            curriculum.arithmetic(self.rng) if self.rng.random() < 0.4 else curriculum.text_practice(self.rng) for _ in range(self.rows)
        ]
        return *self._pad(rows), None

    def pixels(self, picture: Any) -> torch.Tensor:
        """Return the pixels [1, 3, H, W] of a picture that already has the right size, normalised as by the processor."""
        flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return (flat.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2).float()) / 127.5 - 1

    def _segments(self, turns: curriculum.Turns, image: str) -> curriculum.Segments:
        out: curriculum.Segments = []
        for k, (prompt, answer) in enumerate(turns):
            out.append((f"User:{image if k == 0 else ''} {prompt}{architecture.END}Assistant:", False))
            out.append((f" {answer}{architecture.EOS}", True))
        return out

    def _pad(self, rows: list[curriculum.Segments]) -> tuple[torch.Tensor, torch.Tensor]:
        flat = iter(self.tokenizer([text for row in rows for text, _ in row], add_special_tokens=False)["input_ids"])
        ids, labels = [], []
        for row in rows:
            parts = [(next(flat), trained) for _, trained in row]
            ids.append([token for part, _ in parts for token in part])
            labels.append([token if trained else -100 for part, trained in parts for token in part])
        longest = max(map(len, ids))
        pad = self.tokenizer.pad_token_id
        return (
            torch.tensor([row + [pad] * (longest - len(row)) for row in ids]),
            torch.tensor([row + [-100] * (longest - len(row)) for row in labels]),
        )


def build_optimizers(model: torch.nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices, AdamW for embeddings, norms, biases and the patch convolution."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.05, fused=True),
    ]


def fresh() -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:
    """Return a model with new weights, and its processor."""
    tokenizer = architecture.build_tokenizer(curriculum.corpus())
    return architecture.build_model(tokenizer), architecture.build_processor(tokenizer)


def load(path: str) -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:
    """Return the model of a folder, or the shipped one for "embedded", in float32, and its processor; raises ModelError without one."""
    folder = resolve(ModelConfig(path=path))
    model = Idefics3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model, Idefics3Processor.from_pretrained(folder)


def train(args: argparse.Namespace) -> None:
    """Run all steps, log to DIR/pretrain.jsonl and save to DIR from time to time."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model, processor = load(args.init) if args.init else fresh()
    feed = Feed(processor, args.seed, args.rows, args.thinking, args.formatted)
    coin = random.Random(args.seed + 1)
    optimizers = build_optimizers(model, args.muon_lr, args.adam_lr)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
    losses = {"chart": 4.0, "text": 4.0}
    args.out.mkdir(parents=True, exist_ok=True)
    log, started = (args.out / "pretrain.jsonl").open("a"), time.time()
    for step in range(args.steps):
        scale = min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(0.0, step / args.steps - 0.6) / 0.4)))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, peak, strict=True):
                group["lr"] = lr * scale
        stage = "text" if step < args.text_steps else "caption" if step < args.text_steps + args.caption_steps else "mix"
        is_text = stage == "text" or coin.random() < args.text
        ids, labels, pictures = feed.text() if is_text else feed.charts(stage)
        loss = loss_of(model, ids, labels, pictures)
        model.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        name = "text" if is_text else "chart"
        losses[name] = 0.95 * losses[name] + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            line = {"step": step + 1, "seconds": round(time.time() - started), **{k: round(v, 4) for k, v in losses.items()}}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(model, processor, args.out)


def loss_of(
    model: Idefics3ForConditionalGeneration, ids: torch.Tensor, labels: torch.Tensor, pictures: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean cross-entropy over the labelled tokens; logits are computed for those alone."""
    hidden = model.model(input_ids=ids, pixel_values=pictures, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != -100
    return cross_entropy(model.lm_head(hidden[wanted]).float(), labels[:, 1:][wanted])


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, folder: Path) -> None:
    """Write a standard model folder with weights in bfloat16."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def parse_args() -> argparse.Namespace:
    """Return the options of the command line; the defaults made the shipped base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=2100)
    parser.add_argument("--text-steps", type=int, default=400, help="steps on text alone")
    parser.add_argument("--caption-steps", type=int, default=500, help="steps on captions and look-ups after that")
    parser.add_argument("--rows", type=int, default=48, help="conversations per step")
    parser.add_argument("--text", type=float, default=0.2, help="share of text-only steps after the first stage")
    parser.add_argument("--thinking", type=float, default=0.12, help="share of loose thinking in the mix")
    parser.add_argument("--formatted", type=float, default=FORMATTED, help="share of the loose thinking that ends in the asked format")
    parser.add_argument("--init", default="", metavar="DIR", help="train this base on (embedded: the shipped one) instead of a new one")
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    train(parse_args())
