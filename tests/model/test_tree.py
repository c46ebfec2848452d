"""Trees: packed log-probabilities and gradients are those of separate rows, whatever the family, pictures, branches and padding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from families import FAMILIES, TREES, VARIANTS
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import awkward, gap, grads, limb_logprobs, prompts, trees
from torch.nn.attention.flex_attention import create_mask

from dyme.config import ModelConfig
from dyme.model.policy import Policy
from dyme.model.tree import Layout, Limb, Prompt, Tree, TreeBatch, block_mask, collate, stack_vision, tree_mask
from dyme.training.layout import micro_batches, tokens


def in_rows(policy: Policy, forest: Sequence[Tree]) -> torch.Tensor:
    return torch.cat([limb_logprobs(policy, t.trunk, b) for t in forest for b in t.limbs])


LAYOUTS = [*((family, "tree") for family in (*TREES, *VARIANTS)), *itertools.product(FAMILIES, ("cached", "rows", "reference"))]
"""What each family can take."""


@pytest.mark.parametrize(("family", "layout"), LAYOUTS)
def test_a_batch_equals_plain_rows(family: str, layout: Layout, policies: Callable[[str], Policy]) -> None:
    policy = policies(family).train()
    forest = trees(policy, awkward(policy))
    batch = collate(forest, policy.pad, layout, policy.answer_types)
    ours_N, rows = policy(batch), in_rows(policy, forest)
    assert rows.std() > 0.5, "the model must have opinions for this to mean anything"
    torch.testing.assert_close(ours_N, rows, atol=1e-5, rtol=0)
    weight = torch.randn(len(rows), generator=torch.Generator().manual_seed(0))
    (ours_N * weight).sum().backward()
    ours = grads(policy)
    (rows * weight).sum().backward()
    reference = grads(policy)
    assert gap(ours, reference) < 2e-5
    for name, expected in reference.items():
        assert (ours[name] - expected).norm() <= 1e-4 * expected.norm() + 1e-6, name


@pytest.mark.parametrize("family", TREES)
def test_one_branch_and_all_branches(family: str, policies: Callable[[str], Policy]) -> None:
    policy = policies(family)
    (trunk,) = prompts(policy, 1)
    (tree,) = trees(policy, [trunk], [(3, 1, 5, 2, 4, 1, 6, 3)])
    whole = policy(collate([tree], policy.pad))
    alone = torch.cat([policy(collate([replace(tree, limbs=(limb,))], policy.pad)) for limb in tree.limbs])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", TREES)
def test_padding_never_matters(family: str, policies: Callable[[str], Policy]) -> None:
    policy = policies(family)
    forest = trees(policy, awkward(policy))
    batch = collate(forest, policy.pad)
    alone = torch.cat([policy(collate([tree], policy.pad)) for tree in forest])
    torch.testing.assert_close(policy(batch), alone, atol=1e-5, rtol=0)
    filled = torch.tensor([[k < len(tree) for k in range(batch.input_ids_BL.shape[1])] for tree in forest])
    assert not filled.all()
    noise = torch.where(filled, batch.input_ids_BL, policy.eos)
    torch.testing.assert_close(policy(replace_ids(batch, noise)), policy(batch), atol=1e-6, rtol=0)


def replace_ids(batch: TreeBatch, ids: torch.Tensor) -> TreeBatch:
    return replace(batch, input_ids_BL=ids)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_mask_holds_for_each_attention(attention: str, tiny_llama: Path) -> None:
    policy = Policy.load(ModelConfig(path=str(tiny_llama)))
    policy.model.set_attn_implementation(attention)
    forest = trees(policy, prompts(policy, 3))
    torch.testing.assert_close(policy(collate(forest, policy.pad)), in_rows(policy, forest), atol=1e-5, rtol=0)


def test_temperature_is_for_explored_tokens_alone(policies: Callable[[str], Policy]) -> None:
    policy = policies("llama")
    forest = trees(policy, prompts(policy, 3))
    batch = collate(forest, policy.pad)
    assert 0 < batch.imitate_N.sum() < len(batch.imitate_N)
    expected = torch.cat(
        [
            limb_logprobs(policy, t.trunk, b, 1.0 if b.term == "imitate" else 0.7)
            for t in forest for b in t.limbs
        ]
    )  # fmt: skip
    torch.testing.assert_close(policy(batch, 0.7), expected, atol=1e-5, rtol=0)


def limb(*tokens: int, weight: float = 1.0) -> Limb:
    return Limb(tokens=tokens, term="policy", advantage=2.0, token_weight=weight)


def test_layout_by_hand() -> None:
    """The drawing of the module's docstring, with the last token of each branch predicted and never read."""
    tree = Tree(trunk=Prompt(token_ids=(10, 11, 12)), limbs=(limb(20, 21, 22, 23), limb(30, 31, 32, weight=0.5), limb(40)))
    other = Tree(trunk=Prompt(token_ids=(50,)), limbs=(Limb(tokens=(51, 52), term="imitate", advantage=1.0, token_weight=3.0),))
    batch = collate([tree, other], pad=0)
    assert len(tree) == 8
    assert batch.input_ids_BL.tolist() == [[10, 11, 12, 20, 21, 22, 30, 31], [50, 51, 0, 0, 0, 0, 0, 0]]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 4, 5, 3, 4] and batch.position_ids[1, :2].tolist() == [0, 1]
    assert batch.row_N.tolist() == [0] * 8 + [1] * 2
    assert batch.column_N.tolist() == [2, 3, 4, 5, 2, 6, 7, 2, 0, 1]
    assert batch.target_N.tolist() == [20, 21, 22, 23, 30, 31, 32, 40, 51, 52]
    assert batch.weight_N.tolist() == [1.0] * 4 + [0.5] * 3 + [1.0] + [3.0] * 2
    assert batch.advantage_N.tolist() == [2.0] * 8 + [1.0] * 2
    assert batch.imitate_N.tolist() == [False] * 8 + [True] * 2
    seen = ["".join(".x"[int(cell)] for cell in row) for row in tree_mask(batch.segment_BL, batch.above_BL)[0, 0]]
    assert seen == ["x.......", "xx......", "xxx.....", "xxxx....", "xxxxx...", "xxxxxx..", "xxx...x.", "xxx...xx"]


def test_a_hint_is_one_more_level() -> None:
    """The second drawing of the module's docstring, the last token of each branch being predicted and never read."""
    hinted = [replace(limb(20, 21, 22, 23), prefix=(7, 8)), replace(limb(30, 31), prefix=(7, 8)), limb(40, 41)]
    tree = Tree(trunk=Prompt(token_ids=(10, 11, 12)), limbs=tuple(hinted))
    batch = collate([tree], pad=0)
    assert len(tree) == 10 and tree.longest == 8
    assert batch.input_ids_BL.tolist() == [[10, 11, 12, 7, 8, 20, 21, 22, 30, 40]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 5, 3]]
    assert batch.column_N.tolist() == [4, 5, 6, 7, 4, 8, 2, 9]
    assert batch.target_N.tolist() == [20, 21, 22, 23, 30, 31, 40, 41], "a hint is read and not predicted"
    seen = ["".join(".x"[int(cell)] for cell in row) for row in tree_mask(batch.segment_BL, batch.above_BL)[0, 0]]
    trunk, behind = ["x.........", "xx........", "xxx......."], ["xxxx......", "xxxxx.....", "xxxxxx....", "xxxxxxx...", "xxxxxxxx.."]
    assert seen == [*trunk, *behind, "xxxxx...x.", "xxx......x"]
    rows = collate([tree], pad=0, layout="rows")
    assert rows.input_ids_BL.tolist()[1] == [10, 11, 12, 7, 8, 30, 0, 0] and rows.column_N.tolist() == [4, 5, 6, 7, 4, 5, 2, 3]


def test_names_tell_shapes() -> None:
    forest = [Tree(trunk=Prompt(token_ids=(1, 2)), limbs=(limb(3, 4), limb(5))), Tree(trunk=Prompt(token_ids=(1,)), limbs=(limb(3),))]
    batch = collate(forest, pad=0)
    sizes = {"B": 2, "L": 3, "N": 4}
    named = [field.name for field in fields(TreeBatch) if field.name.rpartition("_")[2].isupper()]
    for name in named:
        assert getattr(batch, name).shape == tuple(sizes[letter] for letter in name.rpartition("_")[2]), name
    moved = batch.to("cpu")
    for name in named:
        torch.testing.assert_close(getattr(moved, name), getattr(batch, name), rtol=0, atol=0, equal_nan=True)


SEGMENTS = st.lists(st.integers(0, 4), min_size=4, max_size=4).map(lambda row: [-1 if s == 4 else s for s in sorted(row)])


@given(st.lists(SEGMENTS, min_size=1))
def test_mask_by_definition(segments: list[list[int]]) -> None:
    mask = tree_mask(torch.tensor(segments), torch.zeros(len(segments), 4, dtype=torch.long))
    for b, row in enumerate(segments):
        for q, k in itertools.product(range(4), repeat=2):
            expected = q == k or (k < q and min(row[q], row[k]) >= 0 and row[k] in (0, row[q]))
            assert mask[b, 0, q, k] == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2).flatmap(lambda n: st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=n, max_size=n)))
def test_the_block_mask_is_the_same_mask(lengths: list[list[int]]) -> None:
    """Its rule at every query and key, and no block left out that holds a True; trunks and limbs of these lengths, then padding."""
    longest = max(map(sum, lengths)) + 3
    rows = [[k for k, n in enumerate(row) for _ in range(n)] for row in lengths]
    segment_BL = torch.tensor([row + [-1] * (longest - len(row)) for row in rows])
    above_BL = (segment_BL == 2) + 2 * (segment_BL == 4)  # behind the first and the second piece
    expected, made = tree_mask(segment_BL, above_BL), block_mask(segment_BL, above_BL, block_size=16)
    assert torch.equal(create_mask(made.mask_mod, len(rows), 1, longest, longest, device="cpu"), expected)
    grown = torch.nn.functional.pad(expected, (0, -longest % 16, 0, -longest % 16))
    blocks = grown.unflatten(2, (-1, 16)).unflatten(4, (-1, 16)).any(5).any(3)
    assert torch.equal(made.to_dense().bool(), blocks)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), max_size=20), st.integers(1, 200))
def test_micro_batches_keep_each_tree_and_the_budget(sizes: list[tuple[int, int]], budget: int) -> None:
    forest = [Tree(trunk=Prompt(token_ids=(1,) * stem), limbs=(limb(*[2] * branch),)) for stem, branch in sizes]
    batches = list(micro_batches(forest, budget))
    assert sorted(id(tree) for batch in batches for tree in batch) == sorted(map(id, forest))
    assert all(batches)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= budget
    for before, after in itertools.pairwise(batches):
        assert (len(before) + 1) * len(after[0]) > budget, "a batch closes only when it is full"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.lists(st.integers(1, 20), min_size=1, max_size=6)), max_size=5), st.integers(1, 200))
def test_micro_batches_of_cached_trunks_keep_each_limb_and_the_budget(sizes: list[tuple[int, list[int]]], budget: int) -> None:
    """A tree over the budget is split; what the budget counts is what the model reads."""
    forest = [Tree(trunk=Prompt(token_ids=(1,) * stem), limbs=tuple(limb(*[2] * n) for n in own)) for stem, own in sizes]
    batches = list(micro_batches(forest, budget, "cached"))
    limbs = [id(b) for batch in batches for tree in batch for b in tree.limbs]
    assert sorted(limbs) == sorted(id(b) for tree in forest for b in tree.limbs)
    for batch in batches:
        assert tokens(batch, "cached") <= budget or sum(len(tree.limbs) for tree in batch) == 1
        assert collate(batch, 0, "cached").tokens <= tokens(batch, "cached") + 2 * sum(len(tree.limbs) for tree in batch)


def test_a_cached_batch_by_hand() -> None:
    """Trunks end where branches begin; a hint ends a trunk of its own; a limb of one token is no row of branches."""
    hinted = replace(limb(20, 21, 22), prefix=(7,))
    tree = Tree(trunk=Prompt(token_ids=(10, 11, 12)), limbs=(limb(30, 31), hinted, limb(40)))
    other = Tree(trunk=Prompt(token_ids=(50,)), limbs=(limb(51, 52),))
    batch = collate([tree, other], pad=0, layout="cached", answer_types={"token_type_ids": 1})
    assert batch.branches is not None and batch.tokens == 12 + 6
    assert batch.input_ids_BL.tolist() == [[0, 10, 11, 12], [10, 11, 12, 7], [0, 0, 0, 50]]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [0, 0, 0, 0]]
    assert batch.branches.input_ids_JT.tolist() == [[30, 0], [20, 21], [51, 0]] and batch.branches.owner_J.tolist() == [0, 1, 2]
    assert batch.branches.position_ids.tolist() == [[3, 4], [4, 5], [1, 2]]
    assert batch.branches.mask_JS.tolist() == [[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert batch.target_N.tolist() == [30, 31, 20, 21, 22, 40, 51, 52]
    assert batch.column_N.tolist() == [3, 12, 7, 14, 15, 3, 11, 16] and not batch.row_N.any()
    alone = collate([Tree(trunk=Prompt(token_ids=(1, 2)), limbs=(limb(3),))], pad=0, layout="cached")
    assert alone.branches is not None and alone.branches.input_ids_JT.shape == (1, 2), "all processes run both passes"


def test_vision_inputs_of_different_shapes_are_padded_with_zeros() -> None:
    one, two = {"pixels": torch.ones(1, 2, 3), "sizes": torch.tensor([[4]])}, {"pixels": torch.full((2, 1, 4), 2.0)}
    out = stack_vision([one, {}, two])
    assert out["pixels"].shape == (3, 2, 4) and out["sizes"].tolist() == [[4]]
    assert out["pixels"][0].tolist() == [[1, 1, 1, 0]] * 2
    assert out["pixels"][1].tolist() == [[2, 2, 2, 2], [0, 0, 0, 0]]


def test_old_log_probabilities_travel_with_their_limb() -> None:
    known = Limb(tokens=(3, 4), term="policy", advantage=1.0, token_weight=1.0, logprobs=(-1.0, -2.0))
    batch = collate([Tree(trunk=Prompt(token_ids=(1, 2)), limbs=(limb(5), known))], pad=0)
    assert batch.sampled_N.isnan().tolist() == [True, False, False] and batch.sampled_N[1:].tolist() == [-1.0, -2.0]
