"""Prompts are encoded ahead, each set of pictures once, and come out as from a plain loop."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import SEEING
from runs import lines, small
from tiny import Picture, samples

from dyme.config import Config, RolloutConfig, RunConfig, TrainConfig
from dyme.errors import DataError
from dyme.evaluation.items import Plan
from dyme.evaluation.run import AHEAD, evaluate
from dyme.model.loading import open_checkpoint
from dyme.model.pictures import Pictures, name_of
from dyme.model.policy import Policy, Prompt
from dyme.system.ahead import THREADS, Ahead
from dyme.tasks import charts
from dyme.tasks.rules import rules_of
from dyme.training import loop
from dyme.training.draw import Sampler
from dyme.training.schedule import Position
from dyme.types import Sample

Load = Callable[[str], Policy]


def same(one: Prompt, other: Prompt) -> bool:
    """Whether two prompts are equal, bit by bit."""
    tensors = [(p.vision | p.types | ({} if p.positions_CP is None else {"positions": p.positions_CP})) for p in (one, other)]
    return (one.token_ids, one.images, tensors[0].keys()) == (other.token_ids, other.images, tensors[1].keys()) and all(
        torch.equal(value, tensors[1][key]) for key, value in tensors[0].items()
    )


# ahead


def test_results_come_in_order_and_the_following_are_begun() -> None:
    begun: list[tuple[str, bool]] = []
    ready = threading.Event()

    def work(item: list[str]) -> str:
        begun.append((item[0], threading.current_thread() is not threading.main_thread()))
        if item[0] == "d":
            ready.set()
        return item[0].upper()

    a, b, c, d = (["a"], ["b"], ["c"], ["d"])
    with Ahead(work) as ahead:
        assert ahead.take([a, b, a], [b, d]) == ["A", "B", "A"]
        assert ready.wait(10), "d is begun though nobody waits for it"
        assert ahead.take([d, b], []) == ["D", "B"]
        assert sorted(begun) == [("a", True), ("b", True), ("d", True)], "each once"
        assert ahead.take([c], []) == ["C"] and ahead.take([b]) == ["B"]
    assert [name for name, _ in begun].count("b") == 2, "what is not taken next is forgotten"


def test_an_error_shows_when_its_item_is_taken() -> None:
    def work(item: list[int]) -> float:
        return 1 / item[0]

    zero, one = [0], [1]
    with Ahead(work) as ahead:
        assert ahead.take([one], [zero]) == [1.0]
        assert ahead.take([one]) == [1.0], "never taken, never told"
        ahead.take([one], [zero])
        with pytest.raises(ZeroDivisionError):
            ahead.take([zero])


# pictures


@pytest.mark.parametrize("family", SEEING)
def test_the_same_pictures_again_give_the_same_prompt(family: str, checkpoints: Callable[[str], Path]) -> None:
    """In threads and asked otherwise too, against a policy that keeps nothing; what is saved is the processor as it was."""
    policy, plain = (Policy.load(replace(Config().model, path=str(checkpoints(family)))) for _ in range(2))
    plain.pictures.limit = 0
    rows = samples(policy, 3)
    rows = [*rows, replace(rows[0], question="How wide?"), replace(rows[0], images=rows[0].images + rows[1].images)]
    asked = [(row, style) for row in rows for style in ("Think.", "Answer.")]
    expected = []
    for row, style in asked:
        expected.append(plain.encode(row, style))
        plain.pictures._sets.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: policy.encode(*one), asked))
    assert all(map(same, found, expected))
    assert (policy.pictures.processed, plain.pictures.processed) == (4, 10)
    assert policy.processor.to_dict() == open_checkpoint(replace(Config().model, path=str(checkpoints(family))), torch.float32)[1].to_dict()


def test_what_is_kept_is_bounded_and_the_least_recently_used_leave(policies: Load) -> None:
    policy = copy.deepcopy(policies("llava"))
    policy.pictures = Pictures(policy.processor)
    one, two, three = samples(policy, 3)
    policy.encode(one, "")
    size = next(iter(policy.pictures._sets.values())).size
    assert size > policy.encode(one, "").vision["pixel_values"].nbytes
    policy.pictures.limit = int(2.5 * size)
    for row, processed in ((two, 2), (one, 2), (three, 3), (one, 3), (two, 4)):
        policy.encode(row, "")
        assert policy.pictures.processed == processed, "the first two of the three sets fit"
        assert sum(kept.size for kept in policy.pictures._sets.values()) <= policy.pictures.limit
    policy.pictures.limit = 0
    policy.encode(three, "")
    policy.encode(three, "again")
    assert policy.pictures.processed == 5 and len(policy.pictures._sets) == 1, "the last one stays, for another way to ask"


def test_a_picture_that_cannot_be_read_is_told_as_it_is_and_tried_again(policies: Load) -> None:
    class Broken(Picture):
        def load(self) -> Any:
            if broken:
                raise DataError("rows.jsonl:7: image 'a.png' is cut off")
            return super().load()

    policy, broken = policies("llava"), True
    row = replace(samples(policy, 1)[0], images=(Broken(77),))
    with pytest.raises(DataError, match="^rows.jsonl:7: image 'a.png' is cut off$"):
        policy.encode(row, "")
    broken = False
    assert policy.encode(row, "").vision


def test_names_tell_pictures_and_their_order_apart() -> None:
    one, two = Picture(1), Picture(2)
    assert name_of([one]) == name_of([Picture(1)]) and name_of([]) == ""
    assert len({name_of(images) for images in ([one], [two], [one, two], [two, one], [one, one])}) == 5


# where they are used


def test_an_evaluation_turns_each_picture_into_pixels_once(policies: Load) -> None:
    policy = copy.deepcopy(policies("idefics3"))
    policy.pictures = Pictures(policy.processor)
    rows = samples(policy, 2 * AHEAD + 3)
    config = Config(rollout=RolloutConfig(max_completion_length=2))
    result = evaluate(policy, rows, config, rules_of(config), plan=Plan(k=2, sampled=1))
    assert result["metrics"]["think_accuracy"]["n"] == result["metrics"]["direct_accuracy"]["n"] == len(rows)
    assert policy.pictures.processed == len(rows)


def test_a_run_turns_each_picture_into_pixels_once_and_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Policy] = []
    load = Policy.load
    monkeypatch.setattr(Policy, "load", lambda *asked: made.append(load(*asked)) or made[-1])
    rows = charts.samples("train", 8)
    loop.train(small(tmp_path / "run", "train.max_prompts=24", "run.save_every=0"), samples=rows)
    assert made[0].pictures.processed == len({image.key for row in rows for image in row.images})


# a sample that comes twice in a step


def sampler(rows: list[Sample], rank: int = 0, world: int = 1) -> Sampler:
    config = Config(run=RunConfig(seed=3), train=TrainConfig(prompts_per_step=6))
    accelerator: Any = SimpleNamespace(process_index=rank, num_processes=world)
    return Sampler(None, None, None, config, rows, accelerator, None, None, None)  # type: ignore[arg-type]


def test_a_sample_that_comes_again_in_a_step_has_another_seed_on_any_number_of_processes() -> None:
    from dyme.rollout.hf import seed_of

    rows = [Sample(id=str(k), question="", answer="") for k in range(4)]
    at = Position(step=5, prompts=30)
    batch, seeds = sampler(rows)._share(at)
    assert len(set(seeds)) == 6 and len({row.id for row in batch}) == 4
    first = {row.id: seed for row, seed in reversed(list(zip(batch, seeds, strict=True)))}
    assert all(seed == seed_of(3, 5, name) for name, seed in first.items()), "the first time, as ever"
    for world in (2, 3):
        parts = [sampler(rows, rank, world)._share(at) for rank in range(world)]
        assert [parts[k % world][1][k // world] for k in range(6)] == seeds


def test_fewer_rows_than_a_step_give_different_completions(tmp_path: Path) -> None:
    loop.train(small(tmp_path / "run", "train.max_prompts=4"), samples=charts.samples("train", 1))
    rows = lines(tmp_path / "run/rollouts.jsonl")
    assert len({row["id"] for row in rows}) == 1
    assert len({tuple(one["text"] for one in row["completions"]) for row in rows}) == 4


def test_there_are_threads() -> None:
    assert 1 <= THREADS <= 4
