"""Hints: groups that are drawn again behind the beginning of a trace: the order of the search, the draws, gradients, counts, resume."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import CACHED
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import lines, small
from tiny import gap, gradients_of, grads, groups, prompts, row_logprobs, words

from dyme.config import Config, MethodConfig, ModelConfig, TrainConfig
from dyme.errors import ConfigError
from dyme.methods import METHODS, Method, Stage, asking
from dyme.methods.proof import prove
from dyme.methods.rivals.bread import beginnings
from dyme.methods.routes import explore
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.report.series import totals
from dyme.rollout import hf
from dyme.targets import warning
from dyme.tasks import charts
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train
from dyme.types import Completion, Group, Route, Sample, Verdict

TRACE = "Observation: fig 82, oat 13.\nReasoning: fig 82, oat 13. 82 - 13 = 69; so 69.5 is out."
LINES = ["Observation: fig 82, oat 13.", " \nReasoning: fig 82, oat 13.", " 82 - 13 = 69;", " so 69.5 is out."]


def drawn(prefix: str, right: int, trace: str | None = TRACE, count: int = 4) -> Group:
    """A draw behind a hint, with the first completions right."""
    verdicts = tuple(Verdict(parsed=True, correct=k < right, answer="", thinking="", reward=float(k < right)) for k in range(count))
    sample = Sample(id="a", question="?", answer="69", rationale=trace)
    return Group(sample=sample, completions=(Completion(text="", token_ids=(1,)),) * count, verdicts=verdicts, prefix=prefix)


def searched(name: str, right: Callable[[str], int], trace: str | None = TRACE, **own: Any) -> tuple[Group, list[str]]:
    """The group that a method keeps if `right` says how many completions are right behind each hint, and the hints that were drawn."""
    method, config = METHODS[name], Config(method=MethodConfig(name=name, settings=own))
    (stage,), group, hints = method.plan(config), drawn("", right(""), trace), [""]
    while (hint := asking.ask_hint(method, stage, group, method.context(config))) is not None:
        if (back := asking.drawn_before(group, hint)) is not None:
            return back, hints
        hints.append(hint)
        group = asking.drawn_again(group, drawn(hint, right(hint), trace))
    return group, hints


# The order of the hints


def test_ghpo_gives_a_quarter_then_a_half_then_three_quarters() -> None:
    shares = [" ".join("abcdefgh"[:n]) for n in (2, 4, 6)]
    trace = " ".join("abcdefgh")
    assert searched("ghpo", lambda hint: 1, trace)[1] == [""]
    for helps, tried in ((0, 1), (1, 2), (2, 3), (9, 3)):
        group, hints = searched("ghpo", lambda hint, helps=helps: 2 * (hint in shares[helps:]), trace)
        assert hints == ["", *shares[:tried]] and group.prefix == shares[tried - 1]
        assert [draw.prefix for draw in group.draws] == hints[:-1] and group.unaided.prefix == ""
    assert searched("ghpo", lambda hint: 0, trace, hint_shares=(0.1, 1.0))[1] == ["", "a", trace], "a whole word at least"
    assert searched("ghpo", lambda hint: 0, "\n one  two\nthree four")[1][2] == "one  two", "as it is written"
    assert searched("ghpo", lambda hint: 0, None)[1] == searched("ghpo", lambda hint: 0, " ")[1] == [""], "no trace, no hint"
    with pytest.raises(ConfigError, match="hint_shares must grow, and are 0.5, 0.25"):
        METHODS["ghpo"].plan(build({"method": {"name": "ghpo", "hint_shares": [0.5, 0.25]}}))


def test_sentences_of_a_trace() -> None:
    made = beginnings(f" {TRACE.replace('13.', '13. ', 1)}\n")
    assert [text.split() for text in made] == [" ".join(LINES[:n]).split() for n in (1, 2, 3, 4)]
    assert beginnings("") == beginnings(" \n") == [] and beginnings("One line\nand 1.5 more") == ["One line", "One line\nand 1.5 more"]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 41))
def test_bread_finds_the_shortest_beginning_that_helps(sentences: int, helps: int) -> None:
    """By a binary search; if none of them helps, the first draw stays."""
    trace = " ".join(f"{k} is." for k in range(sentences))
    group, hints = searched("bread", lambda hint: 3 * (hint.count(".") >= helps), trace)
    assert group.prefix.count(".") == (helps if helps <= sentences else 0) and group.solved == 3 * (helps <= sentences)
    assert len(hints) - 1 <= (math.ceil(math.log2(sentences + 1)) if helps else 0) and len(set(hints)) == len(hints)
    assert sorted(hints) == sorted(draw.prefix for draw in (group, *group.draws)), "every draw is kept, for the counts"


# Faults


def method(redraw: Any, rolls_out: bool = True) -> Method[Any]:
    stage: Stage[Any] = Stage(name="only", route=explore, rolls_out=rolls_out, imitates=False, redraw=redraw)
    return Method(name="own", summary="a", source="b", stages=lambda own: (stage,))


def endless(group: Group, context: Any) -> str:
    return "x" * len(group.draws)


def broken(group: Group, context: Any) -> str:
    raise KeyError("s1")


@pytest.mark.parametrize(
    ("redraw", "message"),
    [
        (lambda group, context: 3, "redraw: for a it returned 3, and text or None is needed"),
        (lambda group, context: "x" * (1 + len(group.draws)), "redraw: a was drawn 16 times, and it asks for more"),
        (broken, r"redraw: .*test_hints.py.*KeyError"),
    ],
)
def test_faults_of_a_redraw_show_before_long_work(redraw: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        asking.try_out(method(redraw), Config(), drawn("", 0).sample)
    assert "\n" not in str(caught.value)


def test_a_redraw_is_a_function_of_a_stage_that_rolls_out() -> None:
    for one, message in ((method("x"), "redraw of stage 'only' must be functions"), (method(endless, False), "so nothing is drawn")):
        with pytest.raises(ConfigError, match=message):
            prove(one, "method.name")
    assert asking.try_out(method(endless), Config(), drawn("", 0).sample), "a hint that was drawn before ends the drawing"


def test_rows_without_a_trace_are_named() -> None:
    stages = METHODS["ghpo"].plan(Config(method=MethodConfig(name="ghpo")))
    samples = [drawn("", 0, trace).sample for trace in (TRACE, None, "")]
    assert warning(samples, stages) == "2 of 3 rows have no rationale: no hint is taken from them"
    assert warning(samples[:1], stages) is warning(samples, METHODS["grpo"].plan(Config(method=MethodConfig(name="grpo")))) is None


# Gradients


def hinted(policy: Policy, asked: Sequence[Any]) -> list[Group]:
    """Groups whose completions continue a hint, but for the first one."""
    rng, made = random.Random(3), groups(policy, [[1.0, 0.0, 0.2], [1.5, 0.0], [0.0, 2.0, 1.0, 0.1]])
    hints = [(), words(policy, 4, rng)[:-1], words(policy, 7, rng)[:-1]]
    return [replace(g, completions=tuple(replace(c, prefix_ids=hint) for c in g.completions)) for g, hint in zip(made, hints, strict=True)]


@pytest.mark.parametrize(("family", "layout"), [("idefics3", "tree"), ("idefics3", "rows"), ("qwen2_vl", "tree"), (CACHED[0], "auto")])
def test_gradients_behind_a_hint_are_those_of_plain_rows(family: str, layout: Any, policies: Callable[[str], Policy]) -> None:
    """GRPO on the continuations: the hint is read, and nothing of it is predicted."""
    policy = policies(family).train()
    config = Config(
        model=ModelConfig(layout=layout), method=MethodConfig(name="bread"), train=TrainConfig(max_tokens_per_batch=600, max_grad_norm=1e9)
    )
    asked = prompts(policy, 3)
    answered = hinted(policy, asked)
    (stage,), context = METHODS["bread"].plan(config), METHODS["bread"].context(config)
    routes: list[Route] = [asking.settle_route(METHODS["bread"], stage, stage.route(g, context), g, context) for g in answered]
    done = gradients_of(policy, config, asked, answered, routes)
    loss = torch.zeros(())
    for prompt, group, route in zip(asked, answered, routes, strict=True):
        for branch in route.branches:
            own = group.completions[branch.completion or 0]
            told = replace(
                prompt, token_ids=(*prompt.token_ids, *own.prefix_ids),
                types={k: torch.cat([v, v.new_zeros(len(own.prefix_ids))]) for k, v in prompt.types.items()},
            )  # fmt: skip
            loss = loss - branch.advantage * row_logprobs(policy.model, told, own.token_ids).mean() / len(route.branches) / 3
    loss.backward()
    assert gap(done.gradients, grads(policy)) < 1e-5
    assert done.metrics["trained_tokens"] == sum(
        len(p.token_ids) + len(g.completions[0].prefix_ids) + sum(len(c.token_ids) - 1 for c in g.completions)
        for p, g in zip(asked, answered, strict=True)
    ), "the hint counts once for its group"


# Whole runs


def test_a_run_with_hints_counts_every_draw_and_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture goes through the tower once, and what is drawn behind a hint depends on the prompt, the hint and the seed alone."""
    loaded: list[Policy] = []
    load = Policy.load
    monkeypatch.setattr(Policy, "load", lambda *asked: loaded.append(load(*asked)) or loaded[-1])
    config = small(
        tmp_path / "run", "method.name=ghpo", "task.traces=high", "train.max_prompts=0", "train.max_completions=80", "run.save_every=1",
        "rollout.max_completion_length=40",
    )  # fmt: skip
    saved = (train(config) / "model.safetensors").read_bytes()
    folder = tmp_path / "run"
    metrics, rows = [row["metrics"] for row in lines(folder / "metrics.jsonl")], lines(folder / "rollouts.jsonl")
    assert loaded[0].tower.encoded == len({key for row in rows for key in row["images"]})
    counts = [4 * sum(1 + len(row.get("draws", [])) for row in rows if row["step"] == m + 1) for m in range(len(metrics))]
    assert [m["completions"] for m in metrics] == counts and max(counts) > 16 and sum(counts[:-1]) < 80 <= sum(counts)
    again = [row for row in rows if row.get("draws")]
    assert sum(m.get("redrawn_groups", 0) for m in metrics) == len(again)
    for row in again:
        assert row["prefix"] and row["rationale"].startswith(row["prefix"]) and row["draws"][0] == UNAIDED
        assert all(one["text"].startswith(row["prefix"]) for one in row["completions"])
    right = sum(one["correct"] for row in rows[:4] if row not in again for one in row["completions"])
    assert metrics[0]["accuracy"] == right / 16, "of the draws without a hint"
    shown = [(total.mean("accuracy"), total.mean("any_right")) for total in totals(rows)]
    assert shown == [(m["accuracy"], m["pass_at_k"]) for m in metrics], "on the page too"
    assert [row.prefix for row in RunFolder.open(folder).groups() if row.prefix] == [row["prefix"] for row in again]
    assert [one["text"] for one in again[0]["completions"]] == drawn_alone(load(config.model), again[0], config)
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / f"checkpoints/step-{len(metrics):06d}")
    before = (folder / "rollouts.jsonl").read_bytes()
    assert (train(config, resume=True) / "model.safetensors").read_bytes() == saved
    assert (folder / "rollouts.jsonl").read_bytes() == before
    assert timeless(lines(folder / "metrics.jsonl")) == timeless([{"metrics": m} for m in metrics])


UNAIDED = {"prefix": "", "completions": 4, "correct": 0}


def timeless(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row["metrics"].items() if not k.startswith("seconds")} for row in rows]


def drawn_alone(policy: Policy, row: dict[str, Any], config: Config) -> list[str]:
    """The texts of a group's last draw, sampled by itself with the base's weights."""
    (sample,) = [one for one in charts.samples("train", 16, traces="high") if one.id == row["id"]]
    hint, turn = policy.beginning(row["prefix"]), len(row["draws"])
    asked = policy.encode(sample, config.task.think_prompt).extended(hint)
    (found,) = hf.sample(policy, [asked], [hf.seed_of(hf.seed_of(0, row["step"] - 1, sample.id), turn)], config.rollout)
    return [policy.decode((*hint, *one.token_ids)).strip() for one in found]
