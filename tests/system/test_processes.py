"""Several processes, as on two computers: what one sees decides for all, what fails on one ends all, and nothing half-made stays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import two_nodes
from forked import Child
from runs import ENVIRONMENT, ROOT, lines, recipe, small
from safetensors.torch import load_file

from dyme.config import ModelConfig, SupervisionConfig
from dyme.model.policy import Policy
from dyme.supervise import build
from dyme.supervise.llm import cache as answer_cache
from dyme.system import launch, processes
from dyme.tasks import charts
from dyme.tracking.run_folder import RunFolder
from dyme.training import loop, memory
from dyme.training.precision.guard import MOST_IN_A_ROW

SUPPORT = ROOT / "tests/support"
ROWS = [{"id": str(k), "question": f"What is {k} + 1?", "answer": str(k + 1), "rationale": f"{k} and 1 make {k + 1}."} for k in range(8)]

needs_fsdp = pytest.mark.skipif(not two_nodes.DIVIDES, reason="needs torch 2.13")


def pair(commands: list[list[str]], cwd: Path) -> list[tuple[int, str]]:
    """Run one command as each of two processes that find each other; exit status and output of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ENVIRONMENT | {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(SUPPORT)]),
    }  # fmt: skip
    started = [
        Child([sys.executable, *command], env=shared | {"RANK": str(rank)}, cwd=cwd, stderr=subprocess.STDOUT)
        for rank, command in enumerate(commands)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.wait(), output) for process, output in zip(started, outputs, strict=True)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the scenarios of two_nodes.py gave on each process, and the folder."""
    folder = tmp_path_factory.mktemp("nodes")
    for status, output in pair([[str(SUPPORT / "two_nodes.py"), str(folder)]] * 2, folder):
        assert status == 0, output
    return [{**json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")), "folder": folder} for rank in range(2)]


def test_processes_know_their_place(found: list[dict[str, Any]]) -> None:
    assert [one["place"] for one in found] == [[True, 1, 0], [True, 1, 1]]
    assert all(one["patience"] == "7 days, 0:00:00" for one in found), "one may wait for a helper while the others wait for it"


def test_an_error_on_one_process_is_raised_on_all(found: list[dict[str, Any]]) -> None:
    assert [one["error"] for one in found] == ["DataError: row 7 cannot be read"] * 2
    line = f"process 1 on {socket.gethostname()} failed: ZeroDivisionError: nothing to divide by"
    assert [one["unforeseen"] for one in found] == [f"DymeError: {line}", "ZeroDivisionError: nothing to divide by"]


def test_the_main_process_looks_and_tells(found: list[dict[str, Any]]) -> None:
    assert [one["main"] for one in found] == ["what main sees"] * 2
    assert found[0]["main fails"].startswith("ZeroDivisionError") and "process 0 on" in found[1]["main fails"]


def test_a_folder_that_is_not_shared_is_told_to_all_and_left_as_it_was(found: list[dict[str, Any]]) -> None:
    assert [one["shared"] for one in found] == [None, None]
    for rank, one in enumerate(found):
        assert one["not shared"].startswith(f"ConfigError: --run.output {one['folder'] / f'disk-{rank}' / 'run'}: process 1, on ")
    assert {entry.name for entry in found[0]["folder"].iterdir()} == {"0.json", "1.json", "shared"}


def test_a_picture_that_vanishes_for_one_process_ends_both_and_the_run_goes_on(found: list[dict[str, Any]]) -> None:
    assert found[0]["picture"] == found[1]["picture"]
    assert found[0]["picture"].startswith("DataError: rows.jsonl:3: image")
    assert [one["resumed"] for one in found] == ["shared/run/model"] * 2, "though one does not see what the main process wrote"
    assert [one["again"] for one in found] == [3, 3]
    assert [row["step"] for row in lines(found[0]["folder"] / "shared/run/metrics.jsonl")] == [1, 2, 3]


def test_a_step_that_is_not_finite_on_one_process_is_skipped_on_both(found: list[dict[str, Any]]) -> None:
    run = RunFolder.open(found[0]["folder"] / "shared/once")
    assert [one["one nan"] for one in found] == ["shared/once/model"] * 2
    assert [record.metrics["steps_skipped_nonfinite"] for record in run.steps()] == [0, 1, 0]
    assert [(event["step"], event["in_a_row"]) for event in run.events() if event["kind"] == "nonfinite_step"] == [(2, 1)]
    before, skipped, after = (load_file(run.checkpoint_dir(k) / "state/trained.safetensors") for k in (1, 2, 3))
    assert all(torch.equal(weight, before[name]) for name, weight in skipped.items())
    assert all(weight.isfinite().all() for weight in after.values()) and not torch.equal(
        *(next(iter(w.values())) for w in (skipped, after))
    )


def test_steps_that_are_never_finite_on_one_process_end_both_with_one_line(found: list[dict[str, Any]]) -> None:
    """Status 2, and a finite checkpoint is kept."""
    run = RunFolder.open(found[0]["folder"] / "shared/always")
    kept = run.checkpoint_dir(MOST_IN_A_ROW)
    for status, said in (one["only nan"] for one in found):
        assert status == 2 and said.count("\n") == 1, said
        assert said.startswith("dyme: step 5: the loss or the gradient was not finite in 5 steps in a row") and str(kept) in said
    assert [event["in_a_row"] for event in run.events() if event["kind"] == "nonfinite_step"] == [1, 2, 3, 4, 5]
    assert not (run.path / "model").exists()
    Policy.load(ModelConfig(path=str(kept / "model")))  # finite, else refused


@needs_fsdp
def test_weights_divided_over_two_computers_give_the_run_of_one_process(found: list[dict[str, Any]], tmp_path: Path) -> None:
    """In one shared folder: rollouts, evaluations and figures; and the model to rounding."""
    run = RunFolder.open(found[0]["folder"] / "shared/divided")
    assert [one["divided"] for one in found] == [str(run.path / "model")] * 2
    alone = small(tmp_path / "alone", *two_nodes.DIVIDED, "train.shard=off")
    loop.train(alone, samples=two_nodes.rows(), validation=charts.samples("validation", 3))
    one = RunFolder.open(tmp_path / "alone")
    assert [r["completions"] for r in run.rollouts()] == [r["completions"] for r in one.rollouts()]
    assert [r["metrics"] for r in run.evaluations()] == [r["metrics"] for r in one.evaluations()] != []
    for mine, expected in zip(run.steps(), one.steps(), strict=True):
        for figure in ("loss", "grad_norm", "kl", "reward", "trained_tokens"):
            assert mine.metrics[figure] == pytest.approx(expected.metrics[figure], rel=1e-3, abs=1e-6), figure
    assert any("divided among 2 of 2 processes" in str(event.get("message")) for event in run.events())
    divided, whole = (load_file(place / "model/model.safetensors") for place in (run.path, one.path))
    assert all((divided[name] - weight).abs().max() < 1e-4 for name, weight in whole.items())


@needs_fsdp
def test_a_full_disk_on_one_computer_ends_a_divided_run_on_both_and_it_resumes_to_the_same_bits(found: list[dict[str, Any]]) -> None:
    run = found[0]["folder"] / "shared/divided"
    for one in found:
        said, kept, final = one["cut off"].split(" | ")
        assert said.startswith("shards/__1_0.distcp: No space left on device") and "go on with: dyme train --resume" in said
        assert kept == "['step-000002']" and final == f"{run}-again/model"
    for name in ("model.safetensors", "config.json"):
        assert (run / "model" / name).read_bytes() == Path(f"{run}-again/model", name).read_bytes()


def test_other_data_ends_both(found: list[dict[str, Any]]) -> None:
    assert found[0]["other data"] == found[1]["other data"]
    assert "began with other training samples (16 then, 15 now)" in found[0]["other data"]


def test_a_data_set_or_a_run_folder_that_one_computer_lacks_is_one_line_on_both(tmp_path: Path) -> None:
    """From the command line, before a model is loaded; the next try, with both shared, is not refused."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    written = recipe(tmp_path / "recipe.toml", {"task": {"name": "jsonl", "train": "a/rows.jsonl"}, "train": {"max_prompts": 8}})

    def tried(*words: str) -> list[tuple[int, str]]:
        both = [[word.replace("HERE", name) for word in words] for name in "ab"]
        return pair([["-m", "dyme", "train", str(written), *own] for own in both], tmp_path)

    for status, output in tried("--run.output", "HERE/run"):
        assert status == 2 and output.count("\n") == 1, output
        assert output.startswith("dyme: --run.output ") and "on a file system that all computers of the run share" in output
    for status, output in tried("--task.train", "HERE/rows.jsonl", "--run.output", "run"):
        assert status == 2 and output.count("\n") == 1, output
        assert "b/rows.jsonl" in output
    assert {entry.name for entry in tmp_path.rglob("*")} == {"a", "b", "rows.jsonl", "recipe.toml"}


def test_a_computer_shares_its_memory_among_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1200}))
    assert memory.free_bytes(torch.device("cpu")) == memory.free_bytes(torch.device("mps")) == 1200
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert memory.free_bytes(torch.device("cpu")) == 150
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.free_bytes(torch.device("cpu")) == 300


def test_each_computer_has_a_file_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, named, run = SupervisionConfig(), SupervisionConfig(cache="kept/mine.db"), Path("run")
    for rank, expected in ((0, ("answers", "mine")), (3, ("answers", "mine")), (4, ("answers-1", "mine-1"))):
        for key, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": str(rank)}.items():
            monkeypatch.setenv(key, value)
        assert (build._cache(settings, run), build._cache(named, run)) == (run / f"{expected[0]}.sqlite", Path(f"kept/{expected[1]}.db"))


@pytest.mark.parametrize(
    ("mounts", "network"),
    [
        ({"/": "ext4"}, False), ({"/": "overlay"}, False), ({"/": "ext4", "/home": "nfs4"}, True), ({"/": "nfs", "/home": "xfs"}, False),
        ({"/": "ext4", "/home/me": "lustre"}, True), ({"/": "ext4", "/home": "fuse.sshfs"}, True), ({"/": "apfs"}, False),
        ({"/": "ext4", "/home": "smbfs"}, True), ({"/": "NTFS rw,fixed"}, False), ({"/": "NTFS rw,remote"}, True),
    ],
)  # fmt: skip
def test_answers_on_a_network_file_system_need_no_shared_memory(
    mounts: dict[str, str], network: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def partitions(all: bool) -> list[Any]:
        rows = [(place, *kind.partition(" ")[::2]) for place, kind in mounts.items()]
        return [type("Mount", (), {"mountpoint": place, "fstype": kind, "opts": opts}) for place, kind, opts in rows]

    monkeypatch.setattr(psutil, "disk_partitions", partitions)
    assert answer_cache.on_network(Path("/home/me/run/answers.sqlite")) is network
    monkeypatch.setattr(answer_cache, "on_network", lambda path: network)
    cache = answer_cache.AnswerCache(tmp_path / "answers.sqlite")
    cache.put("a", "b")
    assert cache.get("a") == "b" and (tmp_path / "answers.sqlite-wal").exists() is not network
    cache.close()


def test_no_accelerator_is_taken_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate would take a Mac's or another maker's by itself."""
    for name in ("ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU"):  # transformers' arguments set the latter for the whole process
        monkeypatch.delenv(name, raising=False)
    for cuda, asked, expected in ((False, None, True), (True, None, False), (False, "mps", False), (True, "mps", False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        if asked:
            monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", asked)
        assert processes.on_cpu() is expected
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert processes.on_cpu()


def test_alone_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "state", None)
    assert not launch.several() and launch.is_main()
    assert processes.together(lambda: 1) == processes.from_main(lambda: 1) == processes.main_first(lambda: 1) == 1
    processes.check_shared(Path("/nowhere/run"), "--run.output")
