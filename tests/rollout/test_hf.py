"""Rollouts: what is sampled is what the model says, to the token, the probability and the prompt's own random numbers."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from families import FAMILIES, SEEING, TREES
from tiny import awkward, inputs, prompts
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from dyme.config import RolloutConfig
from dyme.model.policy import Policy, Prompt
from dyme.model.tree import Limb, Tree, collate
from dyme.rollout import hf
from dyme.rollout.rows import prefill
from dyme.types import Completion

Load = Callable[[str], Policy]
SEEDS = [11, 12, 13, 14, 15, 16]


@contextmanager
def rigged(policy: Policy, bias_V: torch.Tensor, rising: bool = False) -> Iterator[None]:
    """The model with a bias on its logits, wherever they are computed; `rising`: times the number of forward passes so far."""
    passes = itertools.count() if rising else itertools.repeat(1)
    handle = policy.model.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + next(passes) * bias_V)
    try:
        yield
    finally:
        handle.remove()


def bias(policy: Policy, value: float, *tokens: int) -> torch.Tensor:
    out = torch.zeros(len(policy.forbidden))
    out[list(tokens)] = value
    return out


def config(**settings: Any) -> RolloutConfig:
    return RolloutConfig(**{"num_generations": 4, "max_completion_length": 8} | settings)


def tokens(groups: list[tuple[Completion, ...]]) -> list[list[tuple[int, ...]]]:
    return [[c.token_ids for c in group] for group in groups]


def generate(policy: Policy, prompt: Prompt, longest: int) -> tuple[int, ...]:
    """Hugging Face's own greedy answer to one prompt, unpadded."""
    own = inputs(policy.model, prompt)
    out = policy.model.generate(
        **own, attention_mask=torch.ones_like(own["input_ids"]), do_sample=False, max_new_tokens=longest,
        suppress_tokens=policy.forbidden.nonzero()[:, 0].tolist(),
    )  # fmt: skip
    return tuple(out[0, len(prompt.token_ids) :].tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_called_as_this_transformers_asks(family: str, policies: Load) -> None:
    policy = policies(family)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        hf.sample(policy, prompts(policy, 2), SEEDS[:2], RolloutConfig(num_generations=2, max_completion_length=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate(family: str, policies: Load) -> None:
    policy = policies(family).eval()
    asked = awkward(policy)
    assert len({len(p.token_ids) for p in asked}) > 2, "padding must be at work"
    uneven = 0
    loves = [
        (0.0, False),
        (2.0, False),
        (0.2, True),
        (0.4, True),
        (1.0, False),
        (1.5, False),
        (2.5, False),
        (3.0, False),
        (3.5, False),
        (0.3, True),
        (0.6, True),
        (4.0, False),
    ]
    for k, (love, rising) in enumerate(loves):
        end = bias(policy, love, policy.eos)
        with rigged(policy, end, rising):
            ours = [c for (c,) in hf.sample(policy, asked, SEEDS, config(max_completion_length=12), greedy=True)]
        for prompt, completion in zip(asked, ours, strict=True):
            with rigged(policy, end, rising):
                assert completion.token_ids == generate(policy, prompt, 12)
        assert [c.finished for c in ours] == [c.token_ids[-1] == policy.eos for c in ours]
        uneven = max(uneven, len({len(c.token_ids) for c in ours}))
        if k >= 2 and uneven >= 3:
            break
    assert uneven >= 3, "rows must finish at different times"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (0.7, 20, 0.9)])
def test_recorded_logprobs_are_those_of_the_update(family: str, temperature: float, top_k: int, top_p: float, policies: Load) -> None:
    policy = policies(family)
    asked, settings = prompts(policy, 3), config(temperature=temperature, top_k=top_k, top_p=top_p)
    with rigged(policy, bias(policy, 4.0, policy.eos)):
        groups = hf.sample(policy, asked, SEEDS[:3], settings)
        limbs = [tuple(Limb(tokens=c.token_ids, term="policy", advantage=1, token_weight=1) for c in group) for group in groups]
        trees = [Tree(trunk=p, limbs=own) for p, own in zip(asked, limbs, strict=True)]
        scored = policy(collate(trees, policy.pad, "tree" if family in TREES else "reference", policy.answer_types), temperature)
    recorded = [x for group in groups for c in group for x in c.logprobs]
    assert len({len(c.token_ids) for g in groups for c in g}) > 1
    torch.testing.assert_close(torch.tensor(recorded), scored.detach(), atol=1e-5, rtol=0)


def special_tokens(policy: Policy) -> list[int]:
    """By name, whatever the policy's own list says, and the padded end of the vocabulary."""
    names = "<pad> <image> <fake_token_around_image> <global-img> <row_1_col_1> <row_3_col_3> <video> <|im_start|> <end_of_utterance>"
    names += " <img> </img> <IMG_CONTEXT> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> <bos> <start_of_turn>"
    names += " <start_of_image> <end_of_image> <image_soft_token> <|image_start|> <|image_end|> <|img_thumbnail|>"
    vocabulary = policy.tokenizer.get_vocab()
    named = [vocabulary[n] for n in names.split() if n in vocabulary]
    return [t for t in [*named, len(policy.tokenizer), len(policy.forbidden) - 1] if t != policy.eos]


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_are_never_sampled(family: str, policies: Load) -> None:
    policy = policies(family)
    special = special_tokens(policy)
    assert len(special) >= 5 and not policy.forbidden[policy.eos]
    for token in special:
        with rigged(policy, bias(policy, 1e4, token) - 1e3):
            for settings in (config(), config(top_k=5, top_p=0.5, temperature=0.5)):
                drawn = tokens(hf.sample(policy, prompts(policy, 1), SEEDS[:1], settings))
                assert not set(special) & {t for group in drawn for ids in group for t in ids}
            (greedy,) = hf.sample(policy, prompts(policy, 1), SEEDS[:1], config(), greedy=True)
            assert not set(special) & set(greedy[0].token_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_draws_alike_in_any_batch(family: str, policies: Load) -> None:
    policy = policies(family)
    asked = prompts(policy, 6)
    with rigged(policy, bias(policy, 4.0, policy.eos)):
        together = hf.sample(policy, asked, SEEDS, config())
        alone = [hf.sample(policy, [p], [s], config())[0] for p, s in zip(asked, SEEDS, strict=True)]
        backwards = hf.sample(policy, asked[::-1], SEEDS[::-1], config())[::-1]
        chunked = hf.sample(policy, asked, SEEDS, config(), batch_rows=9)
    assert tokens(together) == tokens(alone) == tokens(backwards) == tokens(chunked)
    flat = [c for group in together for c in group]
    assert len({c.token_ids for c in flat}) > len(flat) / 2, "completions differ"
    assert {c.finished for c in flat} == {True, False}
    for c in flat:
        assert len(c.token_ids) == len(c.logprobs) <= 8
        assert c.finished == (c.token_ids[-1] == policy.eos) and policy.eos not in c.token_ids[:-1]
        assert c.finished or len(c.token_ids) == 8
        assert c.text == policy.tokenizer.decode(c.token_ids, skip_special_tokens=True).strip()


def test_seeds_decide(policies: Load) -> None:
    policy = policies("llama")
    (asked,) = prompts(policy, 1)
    first, other, again = (tokens(hf.sample(policy, [asked], [seed], config()))[0] for seed in (1, 2, 1))
    assert first == again != other
    assert hf.seed_of(0, 3, "a") == hf.seed_of(0, 3, "a") < 2**63
    assert len({hf.seed_of(s, t, i) for s in range(3) for t in range(3) for i in ("a", "b")}) == 18


def test_sampling_leaves_the_mode_and_the_weights_alone(policies: Load) -> None:
    policy = policies("llava")
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    for mode in (True, False):
        policy.train(mode)
        hf.sample(policy, prompts(policy, 1), SEEDS[:1], config())
        assert policy.training is mode and policy.model.training is mode
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())


def test_greedy_draws_no_random_numbers(policies: Load) -> None:
    policy = policies("llama")
    asked = prompts(policy, 2)
    one, other = (hf.sample(policy, asked, seeds, config(), greedy=True) for seeds in ([1, 2], [3, 4]))
    assert tokens(one) == tokens(other) and all(len(group) == 1 for group in one)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.8), (1.3, 4, 0.7), (1.0, 99, 0.01)]
)
def test_draws_follow_the_softmax(temperature: float, top_k: int, top_p: float) -> None:
    """200,000 draws against the probabilities that transformers' own warpers give, each within five standard errors."""
    scores = torch.tensor([[1.0, -torch.inf, 0.3, 2.0, 0.9, -1.0, 0.0, -torch.inf]])
    warped = TemperatureLogitsWarper(temperature)(None, scores)
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    expected, n = warped.softmax(-1)[0], 200_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0))
    barred = (scores[0] == -torch.inf).nonzero()[:, 0]
    drawn, _ = hf._draw(scores.repeat(n, 1), barred, uniform, config(temperature=temperature, top_k=top_k, top_p=top_p))
    share = drawn.bincount(minlength=8) / n
    assert not share[expected == 0].any()
    assert ((share - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24, 1.0])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform: float) -> None:
    for scores in ([-torch.inf, 0.0, -torch.inf], [-torch.inf, 3.0, -20.0, -torch.inf], [0.0, -torch.inf]):
        token, _ = hf._draw(torch.tensor([scores]), torch.tensor([], dtype=torch.long), torch.tensor([uniform]), config())
        assert scores[int(token)] > -torch.inf


def test_frequencies_of_whole_rollouts(policies: Load) -> None:
    """First and second tokens of 4,000 completions against the model's own probabilities, over a vocabulary of four."""
    policy = policies("llama")
    allowed = [*range(40, 43), policy.eos]
    (asked,) = prompts(policy, 1)
    settings, n = config(num_generations=4000, max_completion_length=2), 4000
    with rigged(policy, bias(policy, 30.0, *allowed)):
        (group,) = hf.sample(policy, [asked], [5], settings)
        for start in ((), (40,)):
            logits = policy.model(input_ids=torch.tensor([[*asked.token_ids, *start]])).logits[0, -1]
            expected = logits.softmax(-1)[allowed]
            following = [c.token_ids[len(start)] for c in group if c.token_ids[: len(start)] == start and len(c.token_ids) > len(start)]
            m = len(following)
            share = torch.tensor([following.count(t) / m for t in allowed])
            assert m > 200 and ((share - expected).abs() <= 4 * (expected * (1 - expected) / m).sqrt()).all()
    assert len(group) == n


@pytest.mark.parametrize("family", SEEING)
def test_the_prefill_sees_the_picture(family: str, policies: Load) -> None:
    policy = policies(family)
    plain, other = prompts(policy, 1)[0], prompts(policy, 6)[5]  # pictures of one size, of different content
    swapped = replace(plain, vision=other.vision, images=other.images)
    logits = [prefill(policy, [p], torch.device("cpu")).logits_BV for p in (plain, swapped)]
    assert (logits[0] - logits[1]).abs().max() > 1e-2
