"""Reward models, by hub id, folder or loaded model: sequence classifiers with one output, called as TRL calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dyme.errors import ConfigError, ModelError
from dyme.model.loading import first_line
from dyme.system.processes import state


class RewardModel:
    """A reward function: the model's output at the end of prompt and completion, through its own chat template if they are messages."""

    def __init__(self, model: Any, tokenizer: Any, loading: Mapping[str, Any], template: Mapping[str, Any]) -> None:
        """Load model and tokenizer if they are given by name. Raises ModelError for a model or tokenizer that cannot be used."""
        name = model if isinstance(model, str) else str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
        self.__name__, self.template = name.rstrip("/").rpartition("/")[2], dict(template)
        try:
            if isinstance(model, str):
                model = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, **loading)
            self.tokenizer = tokenizer if tokenizer is not None else AutoTokenizer.from_pretrained(name)
        except Exception as error:  # files may hold anything
            raise ModelError(f"reward_funcs: {name} cannot be loaded ({first_line(error)})") from error
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id  # the output is that of the last token before padding
        self.model = model.to(state().device).eval()

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """Return one number for each completion."""
        if isinstance(prompts[0], str):
            texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        else:
            talks = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
            texts = [self.tokenizer.apply_chat_template(talk, tokenize=False, **self.template) for talk in talks]
        given = self.tokenizer(text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
        scores: list[float] = self.model(**given.to(self.model.device)).logits[:, 0].float().tolist()
        return scores


def with_models(functions: Any, tokenizers: Any, args: Any) -> Any:
    """Return reward functions with RewardModels in place of models and names. Raises ConfigError for tokenizers that do not fit."""
    listed = list(functions) if isinstance(functions, list | tuple) else [functions]
    own = list(tokenizers) if isinstance(tokenizers, list | tuple) else [tokenizers] * (1 if tokenizers is not None else len(listed))
    if len(own) != len(listed):
        raise ConfigError(f"reward_processing_classes has {len(own)} for {len(listed)} reward functions")
    loading, template = dict(args.model_init_kwargs or {}), dict(args.chat_template_kwargs or {})
    return [
        RewardModel(one, tokenizer, loading, template) if isinstance(one, str | torch.nn.Module) else one
        for one, tokenizer in zip(listed, own, strict=True)
    ] if functions is not None else None  # fmt: skip
