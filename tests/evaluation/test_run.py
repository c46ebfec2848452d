"""What an evaluation asks of a model, that batches do not matter, and how it goes on after a kill and over processes."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import FAMILIES
from forked import Child
from runs import ENVIRONMENT, ROOT, SMALL, lines, recipe
from tiny import samples as pictured

from dyme.cli.main import main
from dyme.errors import ModelError
from dyme.evaluation.items import Item, Plan
from dyme.evaluation.run import answer, ask, evaluate, run_evaluation
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.rollout import hf
from dyme.rollout.engine import Local
from dyme.tasks.rules import rules_of
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train
from dyme.types import Completion, Sample

Load = Callable[[str], Policy]


class Scripted:
    """A policy whose prompts hold their text, so that the answers can be scripted; a prompt is as long as its text."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sample: Sample, instruction: str) -> Any:
        self.asked.append(instruction)
        text = f"{sample.question} {instruction}"
        return SimpleNamespace(text=text, token_ids=tuple(range(len(text))))

    def whole(self) -> AbstractContextManager[None]:
        return nullcontext()


class Script:
    """Stands in for `hf.sample`: right if the question is easy, or direct and asked at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool, int]] = []
        """(prompts, greedy, K) of each call."""
        self.seeds: dict[str, set[int]] = {}

    def __call__(
        self,
        policy: Any,
        prompts: Sequence[Any],
        seeds: Sequence[int],
        config: Any,
        *,
        greedy: bool = False,
        batch_rows: int = 512,
        keep: Sequence[Any] = (),
    ) -> list[Any]:
        assert len(set(seeds)) == len(seeds)
        k = 1 if greedy else config.num_generations
        assert batch_rows >= k
        self.calls.append((len(prompts), greedy, k))
        for prompt, seed in zip(prompts, seeds, strict=True):
            self.seeds.setdefault(prompt.text.split()[0], set()).add(seed)
        return [(self.complete(prompt.text),) * k for prompt in prompts]

    def complete(self, prompt: str) -> Completion:
        if "at once" in prompt:
            text, finished = ("5" if "easy" in prompt or "direct" in prompt else "6"), "cut" not in prompt
        else:
            number = "5" if "easy" in prompt else "7"
            text, finished = f"I see the bar is {number}. Answer: {number}", "endless" not in prompt
        return Completion(text=text, token_ids=tuple(range(len(text))), finished=finished)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(hf, "sample", script)
    return script


CONFIG = build({"task": {"think_prompt": "Think.", "direct_prompt": "Reply at once."}})
RULES = rules_of(CONFIG)


def questions(*texts: str) -> list[Sample]:
    return [Sample(id=str(k), question=text, answer="5") for k, text in enumerate(texts)]


# What is asked


def test_evaluate_asks_both_ways_and_breaks_down_by_kind(script: Script) -> None:
    words = [("easy", "read"), ("easy", "read"), ("hard direct", "read"), ("hard", "sum"), ("easy cut", "sum"), ("hard", "")]
    samples = [replace(s, kind=kind) for s, (_, kind) in zip(questions(*(text for text, _ in words)), words, strict=True)]
    policy, told = Scripted(), []
    found = evaluate(policy, samples, CONFIG, RULES, plan=Plan(k=4, sampled=2), progress=lambda *words: told.append(words))  # type: ignore[arg-type]
    assert policy.asked == ["Think.", "Reply at once."] * 6
    assert script.calls == [(6, True, 1), (6, True, 1), (2, False, 4)]
    value = {name: figure["value"] for name, figure in found["metrics"].items()}
    assert (value["think_accuracy"], value["direct_accuracy"]) == (3 / 6, 3 / 6), "an answer that was cut off is not counted"
    assert (value["format_rate"], value["pass_at_1"], value["pass_at_4"], value["direct_truncated"]) == (1, 1, 1, 1 / 6)
    assert found["metrics"]["pass_at_4"]["n"] == 2
    assert value["mean_length"] == len("I see the bar is 5. Answer: 5")
    assert {
        kind: (f["think_accuracy"]["value"], f["direct_accuracy"]["value"], f["direct_accuracy"]["n"])
        for kind, f in found["by_kind"].items()
    } == {
        "read": (2 / 3, 1.0, 3),
        "sum": (0.5, 0.0, 2),
    }
    assert (found["by_kind"]["read"]["pass_at_4"]["value"], "pass_at_4" in found["by_kind"]["sum"]) == (1, False), "none of it was sampled"
    example = found["examples"][2]
    assert (example["question"], example["gold"], example["correct"], example["direct"]) == ("hard direct", "5", False, "5")
    assert told == [("completions", 0, 20), ("completions", 20, 20)], "2 x 6 greedy completions and 4 x 2 sampled ones"


@pytest.mark.parametrize(("style", "calls"), [("think", [(3, True, 1), (3, False, 8)]), ("direct", [(3, True, 1)])])
def test_one_prompt_alone_asks_for_nothing_else(style: Any, calls: list[Any], script: Script) -> None:
    found = evaluate(Scripted(), questions("easy", "hard", "easy endless"), CONFIG, RULES, plan=Plan(prompts=(style,)))  # type: ignore[arg-type]
    assert script.calls == calls
    assert ("truncated" in found["metrics"], "direct_truncated" in found["metrics"]) == (style == "think", style == "direct")
    assert found["metrics"][f"{style}_accuracy"]["value"] == (1 / 3 if style == "think" else 2 / 3)


def test_evaluate_without_sampling(script: Script) -> None:
    for plan in (Plan(sampled=0), Plan(k=0)):
        found = evaluate(Scripted(), questions("easy"), CONFIG, RULES, plan=plan)  # type: ignore[arg-type]
        assert not any(name.startswith("pass_at_") for name in found["metrics"])
    assert script.calls == [(1, True, 1)] * 4
    assert (found["by_kind"], found["by_answer_kind"]) == ({}, {})


def test_evaluation_seeds_belong_to_the_sample(script: Script) -> None:
    samples = [Sample(id=f"id{k}", question=f"q{k}", answer="5") for k in range(3)]
    for part in (samples, samples[::-1]):
        evaluate(Scripted(), part, CONFIG, RULES)  # type: ignore[arg-type]
    assert len(script.seeds) == 3
    assert all(len(seeds) == 1 for seeds in script.seeds.values())


def test_batches_keep_to_a_budget_of_tokens(script: Script) -> None:
    """Padding counts: a long prompt among short ones makes the batch small; what fits nowhere goes alone."""
    samples = questions(*["short"] * 5, "long " * 40, *["short"] * 3)
    longest = len("short Reply at once.") + CONFIG.rollout.max_completion_length
    plan = Plan(prompts=("direct",), batch_tokens=4 * longest)
    evaluate(Scripted(), samples, CONFIG, RULES, plan=plan)  # type: ignore[arg-type]
    assert [prompts for prompts, _, _ in script.calls] == [4, 1, 1, 3]
    script.calls.clear()
    evaluate(Scripted(), questions(*["short"] * 100), CONFIG, RULES, plan=Plan(prompts=("direct",)))  # type: ignore[arg-type]
    assert [prompts for prompts, _, _ in script.calls] == [64, 36], "a kill costs no more"


def test_answers_without_a_verdict(script: Script) -> None:
    assert [c.text for c in answer(Scripted(), questions("easy", "hard"), CONFIG, "at once")] == ["5", "6"]  # type: ignore[arg-type]


def test_running_out_of_memory_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(hf, "sample", full)
    with pytest.raises(ModelError, match="--batch-tokens 32768"):
        run_evaluation(build({"task": {"test_size": 2}}), questions("easy"), Plan())


# Batches of real models


@pytest.mark.parametrize("family", FAMILIES)
def test_items_do_not_depend_on_their_batch(family: str, policies: Load) -> None:
    policy = policies(family)
    samples = [replace(s, question="word " * k) for k, s in enumerate(pictured(policy, 5))]
    config = build({"rollout": {"max_completion_length": 6}})
    wanted = {(index, style) for index in range(5) for style in ("think", "direct")}

    def asked(plan: Plan, keys: Any = wanted) -> list[Item]:
        return [item for batch in ask(Local(policy), samples, config, rules_of(config), plan, keys) for item in batch]

    together = asked(Plan(k=3, sampled=2))
    assert len(together) == 10
    assert [item.sampled is not None for item in together] == [True, False] * 2 + [False] * 6
    assert asked(Plan(k=3, sampled=2, batch_tokens=1)) == together, "one at a time"
    rest = {key for key in wanted if key[0] > 1 or key == (1, "direct")}
    assert asked(Plan(k=3, sampled=2), rest) == together[3:]


def test_images_are_encoded_once_for_all_prompts(policies: Load) -> None:
    policy = policies("idefics3")
    policy.tower.prepare([])  # forget what other tests have shown it
    before = policy.tower.encoded
    config = build({"rollout": {"max_completion_length": 4}})
    evaluate(policy, pictured(policy, 4), config, rules_of(config), plan=Plan(k=2, sampled=2))
    assert policy.tower.encoded - before == 4


# After a kill, and over processes

ITEMS = 24
WORDS = ["embedded", "--samples", ITEMS, "--k", "2", "--rollout.max_completion_length", "16", "--batch-tokens", "300"]
"""Batches of two to four items."""


def go(*words: object) -> int:
    return main(["eval", *map(str, (*WORDS, *words))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "eval"
    assert go("--out", folder, "--json", folder.parent / "figures.json") == 0
    return folder


def test_a_whole_evaluation(whole: Path) -> None:
    assert (whole / "figures.json").read_bytes() == (whole.parent / "figures.json").read_bytes()
    rows = lines(whole / "items.jsonl")
    assert [(row["index"], row["prompt"]) for row in rows] == [(k, style) for k in range(ITEMS) for style in ("think", "direct")]
    metrics = json.loads((whole / "figures.json").read_text(encoding="utf-8"))["metrics"]
    for style in ("think", "direct"):
        own = [row for row in rows if row["prompt"] == style]
        assert metrics[f"{style}_accuracy"]["value"] == sum(row["correct"] for row in own) / ITEMS
    assert metrics["pass_at_2"]["value"] == sum(row.get("sampled", {}).get("correct", 0) > 0 for row in rows) / ITEMS
    assert len({row["completion"] for row in rows}) > ITEMS / 2


def asked_anew(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(seed, greedy) of each prompt that is sampled from now on; the seed names the item."""
    asked: list[tuple[int, bool]] = []
    plain = hf.sample

    def sample(policy: Any, prompts: Any, seeds: Sequence[int], config: Any, **options: Any) -> Any:
        asked.extend((seed, options["greedy"]) for seed in seeds)
        return plain(policy, prompts, seeds, config, **options)

    monkeypatch.setattr(hf, "sample", sample)
    return asked


_KILLED = """
import os, signal, sys
from dyme.cli.main import main
from dyme.evaluation.items import ItemFolder
append, batches = ItemFolder.append, []
def killed(self, items, process=None):
    append(self, items, process)
    batches.append(items)
    if len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
ItemFolder.append = killed
main(sys.argv[1:])
"""
"""The command line, killed as soon as the third batch is written."""


def test_sigkill_and_the_same_command_again(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "eval"
    child = [sys.executable, "-c", _KILLED, "eval", *map(str, WORDS), "--out", str(out)]
    assert Child(child, env=ENVIRONMENT, cwd=ROOT).wait(timeout=240) == -signal.SIGKILL
    before = lines(out / "items.jsonl")
    assert 6 <= len(before) < 2 * ITEMS, "killed in the midst of it"
    asked = asked_anew(monkeypatch)
    assert go("--out", out) == 0
    assert (out / "figures.json").read_bytes() == (whole / "figures.json").read_bytes()
    assert (out / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()
    done = {hf.seed_of("evaluation", 0, row["id"]) for row in before}
    assert len(asked) == 3 * (ITEMS - len(done))
    assert not done & {seed for seed, _ in asked}, "an item was generated again"


def test_half_written_lines_and_finished_evaluations(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in the midst of a line: that item and the later ones are asked again. Once all are there, no model is loaded."""
    out = tmp_path / "eval"
    out.mkdir()
    (out / "settings.json").write_bytes((whole / "settings.json").read_bytes())
    rows = (whole / "items.jsonl").read_bytes().splitlines(keepends=True)
    (out / "items.jsonl").write_bytes(b"".join(rows[:21]) + rows[21][:40])
    asked = asked_anew(monkeypatch)
    assert go("--out", out) == 0
    assert len(asked) == 3 * (ITEMS - 10) - 2, "item 10 had been told to think, not to answer at once"
    assert (out / "items.jsonl").read_bytes() == b"".join(rows)
    (out / "figures.json").unlink()
    monkeypatch.setattr(Policy, "load", None)
    assert go("--out", out) == 0
    assert (out / "figures.json").read_bytes() == (whole / "figures.json").read_bytes()


def test_direct_first_and_the_rest_later(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "eval"
    assert go("--out", out, "--prompt", "direct") == 0
    assert "thinking" not in capsys.readouterr().out
    direct = [row for row in lines(whole / "items.jsonl") if row["prompt"] == "direct"]
    assert lines(out / "items.jsonl") == direct
    assert go("--out", out) == 0
    assert f"going on: {ITEMS} answers are in {out} already" in capsys.readouterr().out
    assert (out / "figures.json").read_bytes() == (whole / "figures.json").read_bytes()


def test_two_processes_are_one(whole: Path, tmp_path: Path) -> None:
    """Real processes over gloo; a third of the items was there before, from one process."""
    out = tmp_path / "eval"
    out.mkdir()
    (out / "settings.json").write_bytes((whole / "settings.json").read_bytes())
    rows = (whole / "items.jsonl").read_bytes().splitlines(keepends=True)
    (out / "items.jsonl").write_bytes(b"".join(rows[:16]) + rows[16][:9])
    found = launch("eval", *WORDS, "--out", out, "--json", tmp_path / "figures.json")
    shares = [[row["index"] for row in lines(tmp_path / f"unmerged/items-{rank}.jsonl")] for rank in range(2)]
    assert shares[0] == sorted(2 * [*range(8, ITEMS, 2)])
    assert shares[1] == sorted(2 * [*range(9, ITEMS, 2)]), "each process takes every second item"
    assert [status for status, _, _ in found] == [0, 0], found
    assert "accuracy, thinking" in found[0][1]
    assert found[1][1] == "", "only the main process speaks"
    assert (out / "items.jsonl").read_bytes() == b"".join(rows)
    assert (out / "figures.json").read_bytes() == (whole / "figures.json").read_bytes() == (tmp_path / "figures.json").read_bytes()
    assert sorted(f.name for f in out.iterdir()) == ["figures.json", "items.jsonl", "settings.json"]


_CHILD = """
import shutil, sys
from dyme.cli.main import main
from dyme.evaluation.items import ItemFolder
finish = ItemFolder.finish
def copied(self, result):
    shutil.copytree(self.path, self.path.parent / "unmerged")
    finish(self, result)
ItemFolder.finish = copied
sys.exit(main(sys.argv[1:]))
"""
"""The command line, with a copy of the folder before its files are merged."""


def test_a_training_of_two_processes_is_that_of_one_and_ends_in_one_evaluation(tmp_path: Path) -> None:
    """With a method that has groups drawn again behind hints."""
    folder = tmp_path / "run"
    tree = SMALL | {"run": {"output": str(folder)}, "task": {"train_size": 8, "test_size": 3}, "method": {"name": "ghpo"}}
    found = launch("train", recipe(tmp_path / "recipe.toml", tree), "--train.max_prompts", 4)
    assert [status for status, _, _ in found] == [0, 0], found
    train(build(tree, ["--train.max_prompts=4", f"--run.output={tmp_path / 'one'}"]))
    rows, metrics = lines(folder / "rollouts.jsonl"), [lines(tmp_path / run / "metrics.jsonl")[0]["metrics"] for run in ("run", "one")]
    assert rows == lines(tmp_path / "one/rollouts.jsonl") and any(row.get("prefix") for row in rows)
    assert metrics[0]["completions"] == metrics[1]["completions"] > 16 and metrics[0]["progress"] == metrics[1]["progress"] == 1
    [row] = RunFolder.open(folder).evaluations()
    assert (row["name"], row["metrics"]["think_accuracy"]["n"], len(row["examples"])) == ("test", 3, 3)
    assert main(["eval", str(folder), "--json", str(tmp_path / "alone.json")]) == 0
    alone = json.loads((tmp_path / "alone.json").read_text(encoding="utf-8"))
    assert alone["metrics"] == row["metrics"]


def launch(*words: object) -> list[tuple[int, str, str]]:
    """Status, stdout and stderr of two processes of one launch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ENVIRONMENT | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-c", _CHILD, *map(str, words)]
    ranks = [Child(command, env=shared | {"RANK": str(k), "LOCAL_RANK": str(k)}, cwd=ROOT) for k in range(2)]
    try:
        return [(rank.wait(), *said) for rank in ranks for said in [rank.communicate(timeout=240)]]
    finally:
        for rank in ranks:
            rank.kill()
