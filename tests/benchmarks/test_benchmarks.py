"""The benchmarks run and say the same update is measured; their counters and the floor are held against counting by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dyme.model.tree import tree_mask

FOLDER = Path(__file__).parents[2] / "benchmarks"
MODULES = ("floor", "gpu", "hybrids", "measure", "memory", "rollout", "routes", "shapes", "step", "sweep", "theirs", "update")
Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Imports a benchmark as its script would; afterwards none of them can be imported any more."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def run(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a benchmark at the tiny shape and returns what it wrote to its JSON file."""

    def main(name: str, *options: str) -> dict[str, Any]:
        file = tmp_path / f"{name}.json"
        words = [f"{name}.py", "--shape", "tiny", "--num_generations", "4", "--new_tokens", "9", "--json", str(file), *options]
        monkeypatch.setattr(sys, "argv", words)
        load(name).main()
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    return main


def test_update(run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    found = run("update", "--prompts", "3", "--repeats", "1", "--markdown")
    cases = ("explore", "memorize", "mix")
    assert {"floor_ratio", *(f"{kind}_ratio_{case}" for kind in ("flops", "wall") for case in cases)} <= found.keys()
    assert found["gradient_distance"] < 1e-5
    assert found["flops_ratio_memorize"] > found["flops_ratio_mix"] > found["flops_ratio_explore"] > 2
    assert 1 <= min(found[f"floor_ratio_{case}_executed"] for case in cases) <= max(found[f"floor_ratio_{case}"] for case in cases)
    assert "| explore " in capsys.readouterr().out


def test_update_behind_a_cached_trunk(run: Callable[..., dict[str, Any]]) -> None:
    found = run("update", "--family", "lfm3_vl", "--layout", "cached", "--prompts", "1", "--repeats", "0")
    assert found["gradient_distance"] < 2e-5 and found["flops_ratio_explore"] > 4
    assert 1 <= found["floor_ratio_explore_executed"] <= found["floor_ratio_explore"] < 1.3


def test_rollout(run: Callable[..., dict[str, Any]]) -> None:
    found = run("rollout", "--prompts", "2", "--repeats", "1")
    assert (found["images_encoded"], found["unique_images"], found["images_encoded_second_epoch"]) == (2, 2, 0)
    assert found["images_encoded_trl"] == 8
    assert found["wall_ratio"] > 0 and found["cpu_ratio"] > 0 and found["cpu_floor_ratio"] > 0
    assert 1 <= found["flops_floor_ratio"] < 1.4


def test_step(run: Callable[..., dict[str, Any]]) -> None:
    assert run("step", "--prompts", "2", "--repeats", "1").keys() == {"flops_ratio", "flops_ratio_executed", "wall_ratio", "cpu_ratio"}


def test_what_wants_a_gpu_runs_on_a_cpu(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parts of gpu.sh at SmolVLM's tiny shape; that of the largest K, which takes longest, is run by hand."""
    file, folder = tmp_path / "gpu.json", tmp_path / "model"
    small = ["--shape", "smoltiny", "--device", "cpu", "--prompts", "2", "--num_generations", "4", "--new_tokens", "9", "--repeats", "1"]
    for words in (["correct"], ["step", "--peak", "1"], ["export", "--folder", str(folder)], ["vllm", "--seconds", "2"]):
        monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--json", str(file), *small])
        load("gpu").main()
    found = json.loads(file.read_text())["smoltiny"]
    for name in ("tree", "cached", "rows", "tree, sdpa", "tree, flex_attention"):
        assert found["correct"][name]["largest"] < 1e-4, name
    assert found["correct"]["tree"]["gradient"] < 1e-5
    assert found["correct"]["rollout"]["cache"] == "shared" and found["correct"]["rollout"]["largest"] < 1e-4
    assert found["step"]["ratio"] > 1 and 0 < found["step"]["mfu"]["ours"] < 1
    assert found["vllm"]["step_seconds"] == 2 + found["step"]["seconds"]["TRL, update"]
    asked = json.loads((folder / "prompts.json").read_text())
    assert len(asked["texts"]) == 2 and all("<image>" in text for text in asked["texts"]) and (folder / "1.png").exists()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "idefics3"


def test_sweep(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = run("sweep", "--repeats", "0", "--quick", "--plot", str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 1000
    for points in found.values():
        assert all(p["trl"] > p["ours"] >= p["floor"] for p in points)


def test_memory_of_both_sides(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = load("memory")
    for side in memory.SIDES:
        monkeypatch.setattr(sys, "argv", ["memory.py", "--shape", "tiny", "--prompts", "1", "--new_tokens", "9", "--side", side])
        args = load("measure").arguments("", 1, case={"default": "explore"}, side={})
        peaks = memory.measure(args)
        assert peaks["resident"] >= 0 and peaks["allocated"] > 100_000, side


def test_allocator_peak_counts_what_is_alive(load: Load) -> None:
    def work() -> None:
        for _ in range(3):
            torch.zeros(2**20)

    assert 4 * 2**20 <= load("memory").peak_allocated(work) < 8 * 2**20


def test_counter_sees_attention_and_in_place_products(load: Load) -> None:
    measure = load("measure")
    query, key = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 3, 5, 8)

    def attend(causal: bool) -> Any:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=causal)
        return lambda: out.sum().backward()

    products = 2 * 2 * 3 * 5 * 5 * 8
    dense = measure.count_flops(lambda: attend(False)())
    assert dense.total == dense.attention == dense.executed == 7 * products
    causal = measure.count_flops(lambda: attend(True)())
    assert causal.total == dense.total
    assert causal.executed == pytest.approx(dense.total * (5 * 6 / 2) / 25, abs=2)
    for groups in (1, 6):
        kernel = torch.randn(6, 6 // groups, 4, requires_grad=True)
        x = torch.randn(2, 6, 10, requires_grad=True)
        once = 2 * 2 * 7 * kernel.numel()
        assert measure.count_flops(lambda x=x, w=kernel, g=groups: torch.conv1d(x, w, groups=g).sum().backward()).total == 3 * once
    counted = measure.count_flops(lambda: torch.zeros(4, 5).addmm_(torch.ones(4, 7), torch.ones(7, 5)))
    assert counted.total == 2 * 4 * 7 * 5


def test_floor_counts_the_pairs_of_the_mask(load: Load) -> None:
    trunk, read, branches = 11, 4, 3
    segment = torch.tensor([[0] * trunk + [k for k in range(1, branches + 1) for _ in range(read)]])
    assert load("floor").pairs(trunk, read, branches) == int(tree_mask(segment, torch.zeros_like(segment)).sum())
    place = torch.cat([torch.arange(trunk), torch.arange(read).repeat(branches) + trunk])
    window, block = place[:, None] - place < 5, (place[:, None] < 6) & (place < 6)
    seen = (tree_mask(segment, torch.zeros_like(segment))[0, 0] | block) & window
    assert load("floor").pairs(trunk, read, branches, block=6, window=5) == int(seen.sum())


def test_recorded_mixture(load: Load) -> None:
    routes = load("routes")
    recorded = json.loads(routes.FILE.read_text())
    assert sum(entry["prompts"] for entry in recorded["modes"]) == recorded["prompts"]
    mixed = routes.mix(100)
    assert len(mixed) == 100
    for mode in ("memorize", "explore", "skip"):
        share = sum(entry["prompts"] for entry in recorded["modes"] if entry["mode"] == mode) / recorded["prompts"]
        assert sum(kind == mode for kind, _ in mixed) / 100 == pytest.approx(share, abs=0.011)
