"""TRL 1.16's GRPOTrainer as its users run it, on the same weights, pictures and tokens: HF generation, rows, its own loss.

Everything after sampling is TRL's code: it makes the inputs of a generation batch (`_generate_and_score_completions`), splits
them into micro-batches of K rows (per_device_train_batch_size = K, one prompt), and runs `training_step` on each. Then come
its gradient clipping and its optimizer, as in the loop of transformers' Trainer; the learning rate is 0, so that weights stay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from shapes import Shape, build_model
from trl import GRPOConfig, GRPOTrainer
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from dyme.model.policy import Policy
from dyme.types import Group, Sample


class Theirs:
    """A GRPOTrainer with the policy's weights and the rows of these samples, K of each, prompt by prompt."""

    def __init__(self, policy: Policy, shape: Shape, rows: Sequence[Sample], device: str, checkpointing: bool = False) -> None:
        self.shape = shape
        model = build_model(shape, policy.processor, device)
        model.load_state_dict(policy.model.state_dict())
        self.rows = [
            {"prompt": [{"role": "user", "content": row.question}], "images": [image.load() for image in row.images]}
            for row in rows for _ in range(shape.num_generations)
        ]  # fmt: skip
        self.trainer = _trainer(policy, model, shape, self.rows, device, checkpointing)
        self.model = self.trainer.model
        self.trainer.current_gradient_accumulation_steps = shape.prompts
        self.trainer.create_optimizer()
        self.trainer._prepare_inputs = lambda inputs: inputs  # the micro-batches are given, so that only the update is measured
        self._generate = self.trainer._generate

    def batches(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """The micro-batches that TRL makes of these completions and rewards."""
        completions = [list(c.token_ids) for g in groups for c in g.completions]
        self.trainer._generate = lambda prompts: self._given(prompts, completions)
        try:
            return self._split([v.reward for g in groups for v in g.verdicts])
        finally:
            self.trainer._generate = self._generate

    def roll_out(self, rewards: Sequence[float]) -> list[dict[str, Any]]:
        """Sample with HF generation and return the micro-batches, each completion with a reward that is given."""
        return self._split(rewards)

    def generate(self) -> list[list[int]]:
        """TRL's own generation for all rows: completions as token ids."""
        prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in self.rows]
        completions: list[list[int]] = self._generate(prompts)[1]
        return completions

    def update(self, batches: Sequence[dict[str, Any]], move: bool = True) -> float:
        """Forward and backward of all micro-batches, then, unless `move` is false, clipping and the optimizer; the loss."""
        losses = [self.trainer.training_step(self.model, dict(batch), None) for batch in batches]
        if move:
            self.trainer.accelerator.clip_grad_norm_(self.model.parameters(), self.trainer.args.max_grad_norm)
            self.trainer.optimizer.step()
            self.model.zero_grad()
        return float(sum(losses))

    def gradients(self) -> dict[str, torch.Tensor]:
        """Gradients by the policy's names; they are cleared."""
        out = {f"model.{n}": p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad()
        return out

    def _given(self, prompts: Any, completions: list[list[int]]) -> tuple[Any, ...]:
        """What `_generate` returns, for completions that are there already."""
        prompt_ids, images, _ = self.trainer._tokenize_prompts(prompts)
        return prompt_ids, completions, None, [""] * len(completions), None, {}, images, None

    def _split(self, rewards: Sequence[float]) -> list[dict[str, Any]]:
        self.trainer._calculate_rewards = lambda *_: torch.tensor(list(rewards), device=self.model.device)[:, None]
        self.model.train()
        scored = split_pixel_values_by_grid(self.trainer._generate_and_score_completions(self.rows))
        return [unsplit_pixel_values_by_grid(part) for part in split_tensor_dict(scored, self.shape.prompts)]


def _trainer(policy: Policy, model: Any, shape: Shape, rows: Sequence[dict[str, Any]], device: str, checkpointing: bool) -> Any:
    from datasets import Dataset

    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="dyme-bench-"),
        per_device_train_batch_size=shape.num_generations, num_generations=shape.num_generations,
        gradient_accumulation_steps=shape.prompts, steps_per_generation=shape.prompts,
        max_completion_length=shape.new_tokens, generation_kwargs={"min_new_tokens": shape.new_tokens},
        loss_type="grpo", beta=0.0, learning_rate=0.0, gradient_checkpointing=checkpointing,
        use_cpu=device == "cpu", bf16=False, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": row["prompt"]} for row in rows])
    return GRPOTrainer(model, reward_funcs=lambda **_: [], args=args, train_dataset=data, processing_class=policy.processor)
