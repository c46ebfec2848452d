"""Layouts: the first batch decides by numbers; what a family cannot take is refused, noted with its difference, and still trains."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from families import CACHED, FAMILIES, TREES
from family_parts import text_only
from peft import LoraConfig, inject_adapter_in_model
from routing import route
from tiny import awkward, gap, gradients_of, group, groups, prompts, row_logprobs, samples, words

from dyme.config import Config, ModelConfig, RolloutConfig, TrainConfig
from dyme.errors import ConfigError
from dyme.model import adapters, policy, tree
from dyme.model.policy import Policy
from dyme.model.tree import Layout, Limb, Prompt, Tree, batch
from dyme.model.trunk.cache import Trunk
from dyme.training import layout
from dyme.training.update import Updater
from dyme.types import Group, Route

Load = Callable[[str], Policy]
REWARDS = [[1.9, 0.2, 1.1, 0.0], [0.5, 2.5, 0.5, 0.5], [3.0, 0.0, 0.1, 2.2]]


def updater(of: Policy, notes: list[str], asked: Any = "auto") -> Updater:
    config = Config(
        model=ModelConfig(layout=asked), rollout=RolloutConfig(max_completion_length=9, num_generations=4),
        train=TrainConfig(max_tokens_per_batch=2048),
    )  # fmt: skip
    return Updater(of, config, Accelerator(cpu=True), notes.append)


def routes(of: Sequence[Group], method: str, config: Config) -> list[Route]:
    return [route(g, config, method) for g in of]


def explored(of: Policy, asked: Any = "auto") -> tuple[Updater, list[str]]:
    """One update of explored groups at learning rate 0, and what it noted."""
    notes: list[str] = []
    made = updater(of, notes, asked)
    answered = groups(of, REWARDS)
    made.step(prompts(of, 3), answered, routes(answered, "grpo", made.config), lr=0.0)
    return made, [note for note in notes if note.startswith("layout: ")]


# choosing


@pytest.mark.parametrize(
    ("differences", "asked", "chosen"),
    [
        ({"tree": 1e-6, "cached": 1e-6, "rows": 1e-6}, "auto", "tree"),
        ({"tree": 1e-3, "cached": 1e-6, "rows": 1e-6}, "auto", "cached"),
        ({"tree": float("inf"), "cached": 1e-3, "rows": 0.0}, "auto", "rows"),
        ({"tree": float("nan"), "cached": float("inf"), "rows": float("nan")}, "auto", "reference"),
        ({"tree": 1.0, "cached": 1.0, "rows": 0.5}, "auto", "reference"),
        ({"tree": 1.0, "cached": 0.0, "rows": 0.0}, "tree", "tree"),
        ({"tree": 0.0, "cached": 1.0, "rows": 0.0}, "cached", "cached"),
        ({"tree": 0.0, "cached": 0.0, "rows": 0.0}, "rows", "rows"),
        ({"tree": 0.0, "cached": 0.0, "rows": 0.0}, "reference", "reference"),
    ],
)
def test_choose(differences: dict[Layout, float], asked: Any, chosen: str) -> None:
    made = layout.choose(differences, asked)
    assert made.layout == chosen and made.differences == differences
    assert made.reason.startswith(f"{chosen}, ") and all(f"{kind} {value:.1e}" in made.reason for kind, value in differences.items())
    assert ("as the recipe says" in made.reason) == (asked != "auto")


def test_a_layout_that_the_model_cannot_compute_is_refused() -> None:
    with pytest.raises(ConfigError, match='cannot compute model.layout = "tree"; "auto" finds one'):
        layout.choose({"tree": float("inf"), "cached": 0.0, "rows": 0.0}, "tree")


def limb(*tokens: int) -> Limb:
    return Limb(tokens=tokens, term="policy", advantage=1.0, token_weight=1.0)


def test_the_check_takes_a_picture_a_text_and_several_limbs_that_are_read() -> None:
    picture = {"pixels": torch.zeros(1)}
    long, short = Prompt(token_ids=(1,) * 50, vision=picture), Prompt(token_ids=(1,) * 20, vision=picture)
    text = Prompt(token_ids=(1,) * 30)
    forest = [
        Tree(trunk=long, limbs=(limb(2, 3),) * 8), Tree(trunk=text, limbs=(limb(2), limb(4, 5, 6))),
        Tree(trunk=short, limbs=(limb(7, 8),)), Tree(trunk=short, limbs=(limb(9),)),
    ]  # fmt: skip
    first, second = layout.probes(forest)
    assert [id(t.trunk) for t in (*first, *second)] == [id(short), id(text), id(long), id(short)]
    assert [[b.tokens for b in t.limbs] for t in first] == [[(7, 8), (7, 8), (8,)], [(4, 5, 6), (2,), (5, 6)]]
    assert [[b.prefix for b in t.limbs] for t in first] == [[(), (), (7,)], [(), (), (4,)]], "no row is longer than those of the step"
    assert layout.probes([]) == []
    assert [[len(t.limbs) for t in few] for few in layout.probes(forest[:1])] == [[layout.LIMBS]]
    assert sum(map(len, layout.probes(forest * 9))) == layout.PROMPTS


def test_a_layout_that_raises_is_infinitely_far() -> None:
    def score(kind: Layout) -> torch.Tensor:
        raise ValueError("a mask of four dimensions")

    assert layout.difference(score, "tree", torch.zeros(2)) == float("inf")
    assert layout.difference(lambda kind: torch.tensor([0.0, -0.5]), "tree", torch.zeros(2)) == 0.5


# families


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_gets_its_layout_on_the_first_batch(family: str, policies: Load) -> None:
    made, notes = explored(policies(family))
    assert made.layout is not None
    apart = made.layout.differences
    assert made.layout.layout == ("tree" if family in TREES else "cached")
    assert apart["rows"] < 1e-5 and apart["cached"] < 2e-5
    assert apart["tree"] < 1e-5 if family in TREES else apart["tree"] > 1e-2
    assert notes == [f"layout: {made.layout.reason}"] and f"tree {apart['tree']:.1e}" in notes[0]


@pytest.mark.parametrize("family", [*CACHED, "qwen3_vl"])
def test_a_family_trains_in_its_layout(family: str, policies: Load) -> None:
    """A memorized target gets likelier step by step, by the model's own forward; the tower stays."""
    of = copy.deepcopy(policies(family))
    made, sample, (trunk,) = updater(of, []), samples(of, 1)[0], prompts(of, 1)
    answered, target = [group(sample, [], [])], of.target("It is . Answer: 0")
    before, said = {n: p.clone() for n, p in of.named_parameters()}, []
    for _ in range(5):
        with torch.no_grad():
            said.append(float(row_logprobs(of.model, trunk, target).mean()))
        made.step([trunk], answered, routes(answered, "sft", made.config), lr=3e-3)
    assert all(later > earlier for earlier, later in zip(said, said[1:], strict=False)), said
    assert said[-1] > said[0] + 0.3
    moved = {n for n, p in of.named_parameters() if not torch.equal(p, before[n])}
    assert len(moved) > 5 and all(p.requires_grad for n, p in of.named_parameters() if n in moved)


# planted errors


@pytest.fixture
def spying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong masks: a branch sees those before it (as a dense mask), or its own future (by parts)."""
    parts_of, tree_mask = tree.parts_of, tree.tree_mask
    monkeypatch.setattr(policy, "tree_mask", lambda segment_BL, above_BL: tree_mask(segment_BL.clamp(max=1), above_BL))

    def peeking(forest: Sequence[Tree]) -> tree.Parts | None:
        parts = parts_of(forest)
        return parts and replace(parts, mask_J1TS=torch.ones_like(parts.mask_J1TS))

    monkeypatch.setattr(batch, "parts_of", peeking)


@pytest.mark.parametrize("attention", ["tree", "sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "idefics3", "qwen2_vl"])
def test_a_wrong_mask_is_caught(family: str, attention: Any, checkpoints: Callable[[str], Path], spying: None) -> None:
    caught(*explored(Policy.load(ModelConfig(path=str(checkpoints(family)), attention=attention))), expected="cached")


def test_a_wrong_mask_is_caught_though_each_prompt_has_one_branch(checkpoints: Callable[[str], Path], spying: None) -> None:
    of, notes = Policy.load(ModelConfig(path=str(checkpoints("llama")), attention="sdpa")), list[str]()
    made = updater(of, notes)
    answered = [group(sample, [], []) for sample in samples(of, 2)]
    made.step(prompts(of, 2), answered, routes(answered, "sft", made.config), lr=0.0)
    caught(made, notes, expected="cached")


def test_a_mask_that_hides_hints_is_caught_before_there_are_any(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tree.tree_mask
    monkeypatch.setattr(policy, "tree_mask", lambda segment_BL, above_BL: right(segment_BL, torch.zeros_like(above_BL)))
    caught(*explored(Policy.load(ModelConfig(path=str(checkpoints("llama")), attention="sdpa"))), expected="cached")


@pytest.mark.parametrize(("family", "expected"), [("llama", "rows"), ("idefics3", "rows"), ("qwen2_vl", "reference")])
def test_a_wrong_position_is_caught(family: str, expected: str, policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows count for themselves, unless there are several axes: then they are off as well, and the model's own forward is left."""
    right = Prompt.next_position.fget
    monkeypatch.setattr(Prompt, "next_position", property(lambda self: right(self) + 1))
    caught(*explored(policies(family)), expected=expected)


def caught(made: Updater, notes: list[str], expected: str) -> None:
    assert made.layout is not None and made.layout.layout == expected
    assert made.layout.differences["tree"] > 1e-2 > layout.TOLERANCE
    assert notes[0].startswith(f"layout: {expected}, ") and f"tree {made.layout.differences['tree']:.1e}" in notes[0]


@pytest.mark.parametrize("family", ["gemma3", "lfm2_vl"])
def test_branches_behind_each_others_trunks_are_caught(family: str, policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = Trunk.behind
    monkeypatch.setattr(Trunk, "behind", lambda self, owner_J: behind(self, owner_J.flip(0)))
    made, _ = explored(policies(family))
    assert made.layout is not None and made.layout.layout == "rows" and made.layout.differences["cached"] > 1e-2


def test_an_error_that_only_pictures_show_is_caught_when_they_come(policies: Load) -> None:
    """Gemma 3 takes the tree for text within its window; its image tokens see each other both ways."""
    of, notes = policies("gemma3"), list[str]()
    made = updater(of, notes)
    trunk = next(p for p in awkward(of) if not p.vision)
    short = Prompt(token_ids=trunk.token_ids[:12], types={k: v[:12] for k, v in trunk.types.items()})
    answered = groups(of, REWARDS)
    made.step([short], answered[:1], routes(answered[:1], "grpo", made.config), lr=0.0)
    assert made.layout is not None and made.layout.layout == "tree"
    made.step([short, prompts(of, 1)[0]], answered[:2], routes(answered[:2], "grpo", made.config), lr=0.0)
    assert made.layout.layout == "cached" and len(notes) == 2


def test_rows_longer_than_a_sliding_window_are_not_packed(policies: Load) -> None:
    of = policies("gemma3")
    assert of.window == 24 and policies("paligemma").window == 4096 and policies("qwen2_vl").window is policies("llama").window is None
    made = updater(of, [])
    made.layout = layout.Choice("tree", {"tree": 0.0, "cached": 0.0, "rows": 0.0}, "")
    limbs = (limb(*words(of, 5, random.Random(0))),)
    kinds = [made._kind([Tree(trunk=Prompt(token_ids=(1,) * n), limbs=limbs)]) for n in (20, 21)]
    assert kinds == ["tree", "cached"]
    made.layout = layout.Choice("tree", {"tree": 0.0, "cached": 1.0, "rows": 0.0}, "")
    assert made._kind([Tree(trunk=Prompt(token_ids=(1,) * 21), limbs=limbs)]) == "rows"


# asked for


@pytest.mark.parametrize("asked", ["tree", "cached", "rows", "reference"])
def test_a_layout_in_the_recipe_is_used(asked: Layout, policies: Load, spying: None) -> None:
    """Even where it is wrong, which the note shows."""
    made, notes = explored(policies("llama"), asked)
    assert made.layout is not None and made.layout.layout == asked
    assert notes[0].startswith(f"layout: {asked}, as the recipe says; ") and f"tree {made.layout.differences['tree']:.1e}" in notes[0]


# heads


def capped() -> tuple[Any, Any]:
    """Gemma 3's text model with logits capped after the head."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return text_only(Gemma3TextConfig, Gemma3ForCausalLM, layer_types=["full_attention"] * 2, final_logit_softcapping=2.0)


def scaled() -> tuple[Any, Any]:
    """Granite: logits divided by a constant after the head."""
    from transformers import GraniteConfig, GraniteForCausalLM

    return text_only(GraniteConfig, GraniteForCausalLM, logits_scaling=4.0)


def multiplied() -> tuple[Any, Any]:
    """Cohere: logits multiplied by a constant after the head, which the policy does not do."""
    from transformers import CohereConfig, CohereForCausalLM

    return text_only(CohereConfig, CohereForCausalLM, logit_scale=0.25)


@pytest.mark.parametrize(("make", "expected"), [(capped, "tree"), (scaled, "tree"), (multiplied, "reference")])
def test_logits_that_are_changed_after_the_head(make: Callable[[], Any], expected: str) -> None:
    """Where the policy does not do as the model's own forward does, that forward is the layout."""
    torch.manual_seed(0)
    model, tokenizer = make()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.15)
    made, notes = explored(Policy(model, tokenizer))
    assert made.layout is not None and made.layout.layout == expected
    if expected == "reference":
        assert min(made.layout.differences.values()) > 1e-2
        assert notes[0].startswith("layout: reference, as nothing else agrees with the model's own forward to 0.0001; ")


# what is trained, and how


def gradients(of: Policy, asked: Any, checkpointing: bool = False, precision: Any = "auto") -> dict[str, torch.Tensor]:
    """Gradients of one update of explored groups."""
    config = Config(
        model=ModelConfig(layout=asked), rollout=RolloutConfig(max_completion_length=9, num_generations=4),
        train=TrainConfig(max_tokens_per_batch=2048, gradient_checkpointing=checkpointing, precision=precision),
    )  # fmt: skip
    answered = groups(of, REWARDS)
    return gradients_of(of, config, prompts(of, 3), answered, routes(answered, "grpo", config)).gradients


SOME = [(family, "tree") for family in ("idefics3", "llava_onevision", "qwen2_vl", "llama")]
SOME += [(family, "cached") for family in ("qwen3_5", "gemma3", "gemma4", "lfm2_vl", "lfm3_vl", "paligemma", "idefics3")]


@pytest.mark.parametrize(("family", "asked"), SOME)
def test_gradient_checkpointing_changes_no_gradient(family: str, asked: Layout, policies: Load) -> None:
    plain, again = gradients(policies(family), "rows"), gradients(copy.deepcopy(policies(family)), asked, checkpointing=True)
    assert gap(again, plain) < 2e-5


@pytest.mark.parametrize(("family", "asked"), SOME[:6])
def test_adapters_get_the_gradients_of_rows(family: str, asked: Layout, policies: Load) -> None:
    of = copy.deepcopy(policies(family))
    torch.manual_seed(0)
    layers = adapters.targets(of.model, ModelConfig(path="org/name", lora_rank=4))
    inject_adapter_in_model(LoraConfig(target_modules=layers, r=4, init_lora_weights=False), of.model)
    branches, rows = gradients(of, asked), gradients(of, "rows")
    assert branches and all("lora" in name for name in branches)
    assert gap(branches, rows) < 2e-5


@pytest.mark.parametrize(("family", "asked"), SOME[:6])
def test_in_bfloat16_a_layout_is_as_near_to_float32_as_rows(family: str, asked: Layout, policies: Load) -> None:
    of = copy.deepcopy(policies(family)).to(torch.bfloat16)
    precise = copy.deepcopy(of).float()
    for one in (of, precise):
        one.tower.step = {}  # what the tower said in float32 is shared with copies
    exact = gradients(precise, "rows")
    distance = {kind: gap(gradients(copy.deepcopy(of), kind, precision="bf16"), exact) for kind in (asked, "rows")}
    assert 0 < distance["rows"] < 0.3 and distance[asked] < 1.5 * distance["rows"]


@pytest.mark.parametrize("family", ["idefics3", "gemma3"])
def test_a_tower_that_trains_gets_the_gradients_of_rows(family: str, policies: Load) -> None:
    of = copy.deepcopy(policies(family)).requires_grad_(True)
    branches, rows = gradients(of, "cached"), gradients(of, "rows")
    assert any("vision" in name for name in branches)
    assert gap(branches, rows) < 2e-5
