"""Checks that a checkpoint fits the samples and the recipe: no pictures for a model that reads only text, no text that the model takes for
a picture, an adapter of the recipe's rank.
"""

from __future__ import annotations

from collections.abc import Sequence

from dyme.config import Config
from dyme.errors import ConfigError, DataError
from dyme.model import adapters
from dyme.model.chat import texts_of
from dyme.model.policy import Policy
from dyme.types import Sample


def check_pictures(policy: Policy, samples: Sequence[Sample]) -> None:
    """Raise DataError if any sample has a picture and the model reads text only."""
    seen = [] if policy.takes_images else [sample for sample in samples if sample.images]
    if seen:
        others = f" ({len(seen)} of {len(samples)} samples have one)" if len(seen) > 1 else ""
        model = type(policy.model).__name__
        raise DataError(
            f"{seen[0].id}: has an image, but {model} reads text only{others}; use a vision-language model, "
            "or give the facts in words: --task.input facts"
        )


def check_placeholders(policy: Policy, samples: Sequence[Sample]) -> None:
    """Raise DataError for text that the model takes for a picture: a placeholder in a question has no picture, a target may hold none."""
    tokens = placeholders(policy)
    found = [(sample, *hit) for sample in samples if (hit := _placeholder(sample, tokens))]
    if found:
        sample, field, token = found[0]
        others = f" ({len(found)} of {len(samples)} samples hold such a text)" if len(found) > 1 else ""
        raise DataError(
            f"{sample.id}: the {field} holds {token!r}, which {type(policy.processor).__name__} takes for a picture, a video or a sound"
            f"{others}; take it out of the text, or remove the row"
        )


def placeholders(policy: Policy) -> list[str]:
    """Return the texts that the processor or tokenizer reads as placeholders of pictures, videos or sounds; none for a text-only model."""
    if not policy.takes_images:
        return []
    tokenizer, config, kinds = policy.tokenizer, policy.model.config, ("image", "video", "audio")
    names = [*(f"{kind}_token" for kind in kinds), "boi_token"]  # Gemma 3's processor counts the tokens that begin an image
    texts = {getattr(owner, name, None) for owner in (policy.processor, tokenizer) for name in names}
    ids = {getattr(config, f"{kind}_token_{word}", None) for kind in kinds for word in ("id", "index")}
    texts |= {str(added) for token, added in tokenizer.added_tokens_decoder.items() if token in ids}
    return sorted(text for text in texts if isinstance(text, str) and text)


def _placeholder(sample: Sample, tokens: Sequence[str]) -> tuple[str, str] | None:
    """Return the field of a sample that holds one of the tokens, and the token."""
    facts = " ".join(f"{fact.subject} {fact.value}" for fact in sample.facts)
    fields = {
        "question": sample.question,
        "prompt": texts_of(sample.prompt),
        "rationale": sample.rationale or "",
        "answer": sample.answer,
        "list of facts": facts,
    }
    return next(((field, token) for field, text in fields.items() for token in tokens if token in text), None)


def check_adapter(policy: Policy, config: Config) -> None:
    """Raise ConfigError if the model comes with an adapter of another rank than the recipe asks for."""
    rank = adapters.rank(policy.model)
    if rank != config.model.lora_rank:
        raise ConfigError(
            f"{config.model.path}: is a LoRA adapter of rank {rank}, and model.lora_rank is {config.model.lora_rank}; set it to {rank} "
            f"to go on with the adapter, or merge it first: dyme export {config.model.path} --out DIR"
        )
