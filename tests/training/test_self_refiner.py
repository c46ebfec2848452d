"""The policy as a refiner within a run: drafts by the present weights, alike on any number of processes and after a resume, in bf16 too."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from runs import lines, small, snapshot

from dyme import samples
from dyme.config import Config, ModelConfig
from dyme.errors import DataError
from dyme.methods import METHODS
from dyme.methods.state import MethodState
from dyme.model.policy import Policy
from dyme.report.page import write_page
from dyme.rollout.engine import Local
from dyme.supervise.build import build_supervisor
from dyme.supervise.self_refiner import SelfRefiner
from dyme.system.ahead import Ahead
from dyme.training.draw import Sampler
from dyme.training.loop import train
from dyme.training.preflight import check_drafts
from dyme.training.setup import Host
from dyme.verify.rewards import Rewards

OWN = ("supervision.refiner=self", "supervision.self_samples=2", "task.train_size=8", "rollout.max_completion_length=24")

FLIPPED = ("supervision.checker=local", "supervision.flip=0.4")


def run(folder: Path, *words: str) -> Config:
    return small(folder, *OWN, "train.max_prompts=16", "train.learning_rate=1e-3", "run.keep_checkpoints=9", *words)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row["metrics"].items() if not k.startswith("seconds")} for row in lines(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps over eight samples, so that each comes twice, with a checkpoint after every second one."""
    folder = tmp_path_factory.mktemp("self") / "run"
    train(run(folder, *FLIPPED))
    return folder


def test_a_run_counts_its_drafts(whole: Path) -> None:
    steps, rows = metrics(whole), lines(whole / "rollouts.jsonl")
    helped = [row for row in rows if "drafts" in row]
    assert [row["mode"] for row in helped] == ["memorize"] * len(helped) and len(helped) == sum(r["mode"] == "memorize" for r in rows)
    sampled = [draft for row in helped for draft in row["drafts"] if draft["tokens"]]
    totals = {name: sum(step.get(name, 0) for step in steps) for name in ("self_asked", "self_accepted", "self_reused", "self_tokens")}
    assert totals["self_tokens"] == sum(draft["tokens"] for draft in sampled) and len(sampled) == 2 * totals["self_asked"]
    assert totals["self_asked"] + totals["self_reused"] == len(helped)
    assert 0 < totals["self_accepted"] < totals["self_asked"] and totals["self_reused"] > 0
    refused = [row for row in helped if all(draft["fault"] for draft in row["drafts"])]
    assert all(row["trouble"].startswith("the policy wrote no target") and row["target"] for row in refused)
    assert sum(step["self_drafts"] - sum(step[f"self_refused/{f}"] for f in ("format", "answer", "thinking")) for step in steps) == sum(
        not draft["fault"] for draft in sampled
    )


def test_a_resumed_run_is_the_same(whole: Path, tmp_path: Path) -> None:
    """Its second half uses targets that its first half accepted, and writes new ones."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints/step-000004")
    shutil.rmtree(folder / "model")
    assert json.loads((folder / "checkpoints/step-000002/targets.json").read_text())
    train(run(folder, *FLIPPED), resume=True)
    assert metrics(folder) == metrics(whole)
    assert (folder / "rollouts.jsonl").read_bytes() == (whole / "rollouts.jsonl").read_bytes()
    assert snapshot(folder / "model") == snapshot(whole / "model")
    assert snapshot(folder / "checkpoints/step-000004")["targets.json"] == snapshot(whole / "checkpoints/step-000004")["targets.json"]


def test_a_study_is_told_on_card_and_page_and_in_the_events(whole: Path) -> None:
    told = "FOR STUDIES ONLY: 40% of the checker's grades are turned into their opposite on purpose (supervision.flip = 0.4)"
    page, readme = write_page(whole).read_text(encoding="utf-8"), (whole / "model/README.md").read_text(encoding="utf-8")
    assert "FOR STUDIES ONLY: 40%" in page and "flipped on purpose" in page and "targets by the policy" in page
    assert f"**{told}.**" in readme and "flip = 0.4" in readme
    assert [row["message"] for row in lines(whole / "events.jsonl")].count(told) == 1


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(ModelConfig())


def test_each_process_writes_what_one_would(policy: Policy, tmp_path: Path) -> None:
    """The prompt alone decides on its drafts: not its company, not the process; another step writes others."""
    config = run(tmp_path)
    rows = samples.load(config, "train")[0]
    refiner = SelfRefiner(config)
    with build_supervisor(config, tmp_path, print) as supervisor, Ahead(lambda sample: policy.encode(sample, "")) as encoder:
        mind, rewards = MethodState(METHODS["dyme"], config), Rewards(config.reward)
        sampler = Sampler(Local(policy), supervisor, mind, config, rows, Accelerator(cpu=True), encoder, Host(), rewards)
        asked = [refiner.asked(sample) for sample in rows]
        every, even, odd, later = (
            [[text.token_ids for text in drafts] for drafts in sampler._write(part, step, [])]
            for part, step in ((asked, 3), (asked[::2], 3), (asked[1::2], 3), (asked, 4))
        )
    assert (every[::2], every[1::2]) == (even, odd) and all(len(drafts) == 2 for drafts in every)
    assert later != every


def test_bf16_writes_targets_and_stays_finite(tmp_path: Path) -> None:
    train(run(tmp_path / "run", "train.precision=bf16", "model.layout=rows", "method.name=sft", "train.max_prompts=4", "task.test_size=1"))
    steps = metrics(tmp_path / "run")
    assert all(math.isfinite(value) for step in steps for value in step.values()) and sum(s["self_accepted"] for s in steps) > 0


def test_a_prompt_with_facts_beyond_the_context_is_refused_before_training(policy: Policy, tmp_path: Path) -> None:
    config = run(tmp_path)
    sample = samples.load(config, "train")[0][0]
    limit = policy.model.config.get_text_config().max_position_embeddings
    crowded = replace(sample, facts=sample.facts * limit)
    check_drafts(policy, [sample], config)
    with pytest.raises(
        DataError, match=r"supervision\.refiner self asks with a prompt of .* tokens, facts included, and the model's context is"
    ):
        check_drafts(policy, [sample, crowded], config)
