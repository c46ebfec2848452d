"""The cache of a rollout: every kind gives what transformers' own gives; the first that does is chosen; nothing is copied for a token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from counting import counting
from families import CACHED, FAMILIES, TREES
from tiny import awkward, prompts

from dyme.config import RolloutConfig
from dyme.model import attention
from dyme.model.loading import attend
from dyme.model.policy import Policy
from dyme.rollout import cache, hf, rows
from dyme.types import Completion

Load = Callable[[str], Policy]
SEEDS = [11, 12, 13, 14, 15, 16]
PREPARED = [family for family in CACHED if family != "paligemma"]  # whose class takes no masks by type of layer
LONG = RolloutConfig(num_generations=4, max_completion_length=30)
CPU = torch.device("cpu")


@pytest.fixture
def kind(policies: Load) -> Iterator[Callable[[str, str | None], Policy]]:
    """A family's policy whose rollouts take a kind of cache; afterwards it has none."""
    used: list[Policy] = []

    def of(family: str, kind: str | None) -> Policy:
        used.append(policies(family))
        used[-1].cache_kind = kind
        return used[-1]

    yield of
    for policy in used:
        policy.cache_kind = None


def ending(policy: Policy) -> Any:
    """The model with a bias that ends completions at different times."""
    bias = torch.zeros(len(policy.forbidden))
    bias[policy.eos] = 3.0
    return policy.model.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + bias)


def sampled(policy: Policy, settings: RolloutConfig = LONG) -> list[Completion]:
    handle = ending(policy)
    try:
        return [c for group in hf.sample(policy, awkward(policy), SEEDS, settings) for c in group]
    finally:
        handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kind_of_each_family(family: str, kind: Callable[..., Policy], caplog: pytest.LogCaptureFixture) -> None:
    policy = kind(family, None)
    with caplog.at_level(logging.INFO):
        hf.sample(policy, prompts(policy, 2), SEEDS[:2], RolloutConfig(num_generations=2, max_completion_length=2))
    assert policy.cache_kind == ("shared" if family in TREES else "prepared" if family in PREPARED else "expanded")
    assert f"cache of rollouts: {policy.cache_kind}" in caplog.text and not [r for r in caplog.records if r.levelno > logging.INFO]


@pytest.mark.parametrize("family", ["idefics3", "qwen2_vl", *CACHED])
def test_kinds_sample_the_same(family: str, kind: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows end at different times, so that some are removed, some prompts' all, and layers take memory several times."""
    monkeypatch.setattr(cache, "BLOCK", 5)
    plain = sampled(kind(family, "growing"))
    lengths = [len(c.token_ids) for c in plain]
    assert max(lengths) > 15 and len(set(lengths)) > 5, lengths
    for name in ("shared" if family in TREES else "prepared" if family in PREPARED else "expanded", "expanded"):
        found = sampled(kind(family, name))
        assert [c.token_ids for c in found] == [c.token_ids for c in plain]
        for one, other in zip(found, plain, strict=True):
            torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "flex_attention", "eager"])
def test_other_attention(implementation: str, kind: Callable[..., Policy]) -> None:
    """Rows of a shared cache take the policy's attention in place of kernels made for long queries; it is put back."""
    policy = kind("llava", None)
    expected = sampled(policy)
    attend(policy.model, implementation)
    try:
        policy.cache_kind = None
        assert [c.token_ids for c in sampled(policy)] == [c.token_ids for c in expected]
        assert policy.cache_kind == ("expanded" if implementation == "eager" else "shared")
        assert policy.model.config.get_text_config()._attn_implementation == implementation
    finally:
        policy.model.set_attn_implementation({"text_config": attention.NAME})


def test_a_kind_that_is_wrong_is_left_out_and_told(
    kind: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy, plain = kind("llama", None), attention.shared_attention
    asked = prompts(policy, 2)
    monkeypatch.setattr(attention, "shared_attention", lambda *given, **more: 1.01 * plain(*given, **more))
    assert rows.choose(policy, asked, CPU) == "expanded"

    def fail(*given: Any, **more: Any) -> torch.Tensor:
        raise ValueError("no such attention")

    monkeypatch.setattr(attention, "shared_attention", fail)
    assert rows.choose(policy, asked, CPU) == "expanded"
    monkeypatch.setattr(cache.InPlace, "get_seq_length", lambda self: self.length + 1)
    assert rows.choose(policy, asked, CPU) == "growing"
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 3
    assert "shared inf" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "other"])
def test_attention_of_shared_trunks(device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against attention over each row's whole sequence: unequal numbers of rows behind padded trunks, keys that heads share."""
    torch.manual_seed(0)
    if device == "other":
        monkeypatch.setattr(attention, "_partial", attention._by_products)
    owners, stems, groups, heads, trunk, own, width = [0, 0, 0, 1, 2, 2], [7, 5, 3], 2, 6, 7, 4, 8
    keys, values = torch.randn(2, 3, groups, trunk, width, dtype=dtype)
    key, value = torch.randn(2, len(owners), groups, own, width, dtype=dtype)
    query = torch.randn(len(owners), heads, 1, width, dtype=dtype)
    bias = torch.stack([torch.arange(trunk) < trunk - stem for stem in stems]).float().mul(-torch.inf).nan_to_num(nan=0.0)[:, None, None]
    row_N, place_R = torch.tensor([0, 1, 2, 3, 3, 3, 4, 5, 4]), torch.tensor([0, 1, 2, 3, 6, 7])
    shared = attention.Shared(bias, [keys], [values], row_N, place_R)
    module: Any = type("Module", (), {"layer_idx": 0})()
    found = attention.shared_attention(module, query, key, value, shared, scaling=0.3)
    near = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-2, "rtol": 1e-2}
    for row, owner in enumerate(owners):
        every = [torch.cat([t[owner, :, trunk - stems[owner] :], o[row]], 1).float() for t, o in ((keys, key), (values, value))]
        before, said = (states.repeat_interleave(heads // groups, 0) for states in every)
        weight = (query[row].float() @ before.transpose(1, 2) * 0.3).softmax(-1)
        torch.testing.assert_close(found[row, 0].float(), (weight @ said)[:, 0], **near)
    for strange in ({"softcap": 3.0}, {"position_bias": bias}):
        with pytest.raises(ValueError, match="scores"):
            attention.shared_attention(module, query, key, value, shared, **strange)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "family, greedy", [("idefics3", False), ("idefics3", True), ("qwen3", False), ("qwen2_vl", False), *((f, False) for f in CACHED)]
)
def test_what_a_token_asks_of_the_device(family: str, greedy: bool, kind: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 17 and 33 tokens a completion: the host looks twice in 16 tokens, and each has three results as large as the vocabulary."""
    policy = kind(family, "shared" if family in TREES else "prepared" if family in PREPARED else "expanded")
    asked, counts = awkward(policy), []  # of several lengths, so that some are padded
    monkeypatch.setattr(policy, "ends", (len(policy.forbidden) - 1,))  # which is never drawn
    for longest in (1, 17, 33):  # at first pictures are encoded
        with counting(monkeypatch, len(policy.forbidden)) as found:
            hf.sample(policy, asked, SEEDS, RolloutConfig(num_generations=4, max_completion_length=longest), greedy=greedy)
        counts.append([sum(kind.values()) for kind in (found.looks, found.kernels, found.full)])
    looks, kernels, full = ((long - short) / 16 for _, short, long in zip(*counts, strict=True))
    print(f"{family}: a token takes {looks:.3f} looks, {kernels:.0f} kernels, {full:.0f} results as large as the vocabulary")
    assert 0 < looks <= 1 / 8
    capped = getattr(policy.model.config.get_text_config(), "final_logit_softcapping", None)
    assert full == (1 if greedy else 3) + (3 if capped else 0)  # the model's own: a quotient, tanh, a product
    assert family in CACHED or kernels <= 40 + 65 * policy.model.config.get_text_config().num_hidden_layers


def test_what_a_layer_asks_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing a token and attending behind shared trunks: nothing is copied that grows with the trunk or with the row."""
    keys, values = torch.randn(2, 3, 2, 50, 8)
    held = cache.InPlace(*torch.randn(2, 6, 2, 64, 8), length=5)
    shared, module = attention.Shared(None, [keys], [values]), type("Module", (), {"layer_idx": 0})()
    query, key, value = torch.randn(6, 4, 1, 8), *torch.randn(2, 6, 2, 1, 8)
    with counting(monkeypatch) as counts:
        attention.shared_attention(module, query, *held.update(key, value), shared)  # type: ignore[arg-type]
    assert sum(counts.looks.values()) == 0 and not counts.kernels["aten.cat.default"]
    assert sum(counts.kernels.values()) <= 12, counts.kernels
