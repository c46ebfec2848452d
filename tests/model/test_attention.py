"""The trunk's causal attention in pieces: the same as in one, whatever the length, also where a last piece has one token; and what the
attention of trees asks of the device.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from counting import counting
from tiny import awkward, trees
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dyme.model.attention import PIECES, _causal
from dyme.model.policy import Policy
from dyme.model.tree import collate


@pytest.mark.parametrize("length", [1, 64, 65, 100, 129, 64 * PIECES + 1, 700])
@pytest.mark.parametrize("groups", [1, 2])
def test_pieces_give_what_the_whole_gives(length: int, groups: int) -> None:
    torch.manual_seed(0)
    module = SimpleNamespace(num_key_value_groups=groups, is_causal=True, training=False)
    query = torch.randn(2, 4, length, 8)
    key, value = torch.randn(2, 2, 4 // groups, length, 8)
    whole = sdpa_attention_forward(module, query, key, value, None)[0]
    assert torch.allclose(_causal(module, query, key, value), whole, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["idefics3", "qwen2"])
def test_no_layer_of_a_tree_waits_for_the_device(family: str, policies: Callable[[str], Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward of trees with hints, whose trunks are computed in pieces: within the layers nothing is selected by truth
    values, no number is read, and no mask and no range is made but by the first layer.
    """
    policy, seen = policies(family), list[tuple[int, int]]()
    long = [trunk.extended(trunk.token_ids[-1:] * 70) for trunk in awkward(policy)]
    batch = collate(trees(policy, long), policy.pad)
    assert batch.parts is not None and batch.parts.stem > 64
    with counting(monkeypatch) as counts:

        def note(*_: object) -> None:
            made = sum(counts.kernels[f"aten.{name}.default"] for name in ("ones", "tril", "triu", "arange", "full"))
            seen.append((counts.looks.total(), made))

        layers = policy.model.get_decoder().layers
        handles = [layer.register_forward_pre_hook(note) for layer in layers] + [layer.register_forward_hook(note) for layer in layers]
        score = policy(batch).sum()
        for handle in handles:
            handle.remove()
        note()
        score.backward()
        note()
    policy.zero_grad()
    within, (ahead, after) = seen[:-2], seen[-2:]
    assert len(within) == 2 * len(layers) >= 4
    assert len({looks for looks, _ in within}) == 1
    assert len({made for _, made in within[1:]}) == 1
    assert after[0] == ahead[0]
