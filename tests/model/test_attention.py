"""The trunk's causal attention in pieces: the same as in one, whatever the length, also where a last piece has one token."""

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dyme.model.attention import PIECES, _causal


@pytest.mark.parametrize("length", [1, 64, 65, 100, 129, 64 * PIECES + 1, 700])
@pytest.mark.parametrize("groups", [1, 2])
def test_pieces_give_what_the_whole_gives(length: int, groups: int) -> None:
    torch.manual_seed(0)
    module = SimpleNamespace(num_key_value_groups=groups, is_causal=True, training=False)
    query = torch.randn(2, 4, length, 8)
    key, value = torch.randn(2, 2, 4 // groups, length, 8)
    whole = sdpa_attention_forward(module, query, key, value, None)[0]
    assert torch.allclose(_causal(module, query, key, value), whole, atol=1e-6)  # type: ignore[arg-type]
