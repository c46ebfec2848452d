"""The embedded tiny VLM: SmolVLM's class (Idefics3: SigLIP vision tower, pixel shuffle, language model) at about 3 M parameters.

Everything is a stock Hugging Face class, so `AutoProcessor` and `AutoModelForImageTextToText` load a saved folder anywhere.
The tokenizer is a byte-level BPE, lossless on any text; words of the embedded task and the numbers up to 399 are one token.

Two choices make look-up by name ("fig 82, oat 13 ... fig is" -> 82) learnable within a hundred steps; without them it is not
learned in a thousand: the language model is a Qwen3 (normalised queries and keys) with a small rotary base, for short texts;
and the embedding of a number starts as the sum of its digits' embeddings, so that reading and copying choose among ten
digits, not a hundred numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from dyme.tasks.charts.drawing import SIZE

PATCH, SHUFFLE = 8, 3
IMAGE_TOKENS = (SIZE // PATCH // SHUFFLE) ** 2
PAD, EOS, IMAGE, FAKE, GLOBAL, END = (
    "<pad>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].capitalize() + ':' }}{% if m['content'] is string %}{{ ' ' + m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ ' ' + c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""SmolVLM's template, byte for byte in its effect, with string contents allowed."""


def build_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE in which each word or number (up to three digits) of `corpus` is one token; deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[0-9]{1,3}| ?[^A-Za-z0-9 ]| "), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=[PAD, EOS, IMAGE, FAKE, GLOBAL, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(sorted(set(corpus)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, padding_side="left", clean_up_tokenization_spaces=False,
        extra_special_tokens=[IMAGE, FAKE, GLOBAL, END], model_max_length=512,
    )  # fmt: skip


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """Return the processor: pictures of any size are scaled to SIZE pixels, one tile, IMAGE_TOKENS tokens."""
    edge = {"longest_edge": SIZE}
    images = Idefics3ImageProcessorPil(
        do_resize=True, size=edge, max_image_size=edge, do_image_splitting=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """Return the model with random weights (the caller seeds torch)."""
    token = tokenizer.convert_tokens_to_ids
    config = Idefics3Config(
        image_token_id=token(IMAGE),
        scale_factor=SHUFFLE,
        pad_token_id=token(PAD),
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
            "image_size": SIZE, "patch_size": PATCH,
        },
        text_config={
            "model_type": "qwen3", "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 48, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "pad_token_id": token(PAD), "eos_token_id": token(EOS), "bos_token_id": None, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        },
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    _embed_numbers(model.get_input_embeddings().weight, tokenizer)
    model.generation_config.eos_token_id = token(EOS)
    model.generation_config.pad_token_id = token(PAD)
    return model


@torch.no_grad()
def _embed_numbers(weight_VD: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    """Start each number's embedding as the sum of its digits', by place, at the scale of all embeddings."""
    std = 0.1
    weight_VD.normal_(std=std)
    places = std * torch.randn(3, 10, weight_VD.shape[1])
    for token, index in tokenizer.get_vocab().items():
        digits = token.removeprefix("\u0120")
        if digits.isascii() and digits.isdigit():
            parts = [places[place, int(digit)] for place, digit in enumerate(reversed(digits))]
            weight_VD[index] = torch.stack(parts).sum(0) / len(parts) ** 0.5 + 0.2 * weight_VD[index]
