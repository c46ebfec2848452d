"""The LLM helpers against a real server with a real, tiny model (SmolLM2-135M-Instruct); run by `make test-llm`, not by default.

DYME_LLM_HOME is the folder that the Makefile prepares: this file starts its server. DYME_LLM_URL (and DYME_LLM_MODEL) names a
server of your own instead. What the model says is not judged here, only that all of it is usable or refused.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import runs

from dyme.config import Config
from dyme.errors import SupervisionError
from dyme.supervise.llm.client import Client
from dyme.supervise.llm.endpoint import Endpoint
from dyme.supervise.llm.roles import LLMChecker, LLMRefiner
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train
from dyme.types import Fact, Sample

HOME, URL = os.environ.get("DYME_LLM_HOME", ""), os.environ.get("DYME_LLM_URL", "")
pytestmark = pytest.mark.skipif(not (HOME or URL), reason="needs a real LLM server: run `make test-llm`")
MODEL = os.environ.get("DYME_LLM_MODEL", "smollm2")
START_SECONDS = 120
SAMPLE = Sample(id="1", question="How far is fig above oat?", answer="69", facts=(Fact("fig", "82"), Fact("oat", "13"), Fact("ham", "47")))
TRACES = ["fig is 82 and oat is 13, so 82 - 13 = 69.", "It is 69.", "fig is 28 and oat is 31, so 28 - 31 = 69.", "Output: high"]


@contextmanager
def real_server(home: Path, log: Path, port: int) -> Iterator[str]:
    """Address of a llama.cpp server that ends with the block."""
    weights = next(home.glob("model/**/*.gguf"))
    command = [str(home / "venv/bin/python"), "-m", "llama_cpp.server", "--model", str(weights), "--model_alias", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "8192", "--n_threads", "1", "--n_threads_batch", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}/v1"
            deadline = time.monotonic() + START_SECONDS
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if URL:
        yield URL
    else:
        with real_server(Path(HOME), tmp_path_factory.mktemp("llm") / "log", free_port()) as address:
            yield address


def client(url: str, cache: Path) -> Client:
    endpoint = Endpoint(url=url, model=MODEL, timeout_seconds=300, max_retries=1, max_tokens=256)
    return Client(endpoint, cache=cache, note=print)


def test_grades_of_a_real_model(url: str, tmp_path: Path) -> None:
    asked = client(url, tmp_path / "answers.sqlite")
    first = LLMChecker(asked, "chart").check(SAMPLE, TRACES)
    print([f"{a.level}: {trace}" for a, trace in zip(first, TRACES, strict=True)], asked.stats, asked.structure)
    assert len(first) == 4 and {a.level for a in first} <= {"low", "medium", "high"}
    assert asked.stats.failures == {} and asked.stats.prompt_tokens > 100 and asked.stats.completion_tokens > 0
    again = client(url, tmp_path / "answers.sqlite")
    assert LLMChecker(again, "chart").check(SAMPLE, TRACES) == first and (again.stats.calls, again.stats.cache_hits) == (0, 1)


def test_refined_trace_is_usable_or_refused(url: str, tmp_path: Path) -> None:
    asked = client(url, tmp_path / "answers.sqlite")
    for domain in ("chart", "world", "text"):
        try:
            trace = LLMRefiner(asked, domain, marker="Answer:").refine(SAMPLE, None)
            print(domain, "wrote:", trace)
            assert trace and "Answer:" not in trace and "\n" not in trace
        except SupervisionError as error:
            print(domain, "refused:", error)
    assert asked.stats.calls == 3 and sum(asked.stats.failures.values()) <= 3
    assert set(asked.stats.failures) <= {"answer", "cut off"}, "a server that answers fails by what it says alone"


def full(folder: Path, url: str, steps: int) -> Config:
    """Full DyME on the embedded charts with the real model as checker and refiner; at K = 8 some prompts are explored."""
    own = ("checker=llm", "refiner=llm", f"url={url}", f"model={MODEL}", "timeout_seconds=300", "max_retries=0", "max_tokens=64")
    size = ("train.prompts_per_step=1", f"train.max_prompts={steps}", "rollout.max_completion_length=48", "rollout.num_generations=8")
    return runs.small(folder, *size, *(f"supervision.{word}" for word in own))


def checked(folder: Path) -> tuple[int, int]:
    """Groups in trouble and targets that were written, after holding the records against each other."""
    rows, steps = runs.lines(folder / "rollouts.jsonl"), RunFolder.open(folder).steps()
    for row in rows:
        assert len({c["assessment"] is not None for c in row["completions"] if c["parsed"]}) < 2, "judged and unjudged in one group"
    troubled = sum(bool(row["trouble"]) for row in rows)
    assert troubled == sum(step.metrics.get("helper_failures", 0) for step in steps)
    return troubled, sum(row["target"] is not None for row in rows)


def test_thirty_steps_of_full_dyme(url: str, tmp_path: Path) -> None:
    train(full(tmp_path / "run", url, 30))
    steps = RunFolder.open(tmp_path / "run").steps()
    print("in trouble, written:", checked(tmp_path / "run"), steps[-1].metrics)
    assert len(steps) == 30 and steps[-1].metrics["helper_calls"] > 15
    rows = runs.lines(tmp_path / "run/rollouts.jsonl")
    modes = {mode: [row for row in rows if row["mode"] == mode] for mode in ("memorize", "explore")}
    judged = [row for row in modes["explore"] if any(c["assessment"] for c in row["completions"]) or row["trouble"]]
    print({mode: len(found) for mode, found in modes.items()}, "explored and asked about:", len(judged))
    assert modes["memorize"] and judged, "both helpers were asked in training"


def test_the_server_dies_in_mid_run_and_comes_back(tmp_path: Path) -> None:
    if not HOME:
        pytest.skip("a server of your own is not killed")
    port, run = free_port(), tmp_path / "run"

    def steps() -> int:
        return len(runs.lines(run / "metrics.jsonl")) if (run / "metrics.jsonl").exists() else 0

    with real_server(Path(HOME), tmp_path / "log", port) as address:
        recipe = tmp_path / "recipe.json"
        recipe.write_text(json.dumps(full(run, address, 12).to_dict()), encoding="utf-8")
        trainer = runs.start("cell", recipe, "test")
        while steps() < 3 and trainer.poll() is None:
            time.sleep(0.2)
    down = steps()
    while steps() < down + 3 and trainer.poll() is None:
        time.sleep(0.2)
    with real_server(Path(HOME), tmp_path / "log", port):
        _, err = trainer.communicate(timeout=1200)
    assert trainer.returncode == 0, err
    checked(run)
    alone = ["no connection" in row["trouble"] for row in runs.lines(run / "rollouts.jsonl")]  # the model's own nonsense is another trouble
    print("steps before the outage:", down, "without a server:", alone)
    assert steps() == 12 and any(alone) and not alone[0] and not alone[-1]


def test_judge_says_how_bad_so_small_a_model_is(url: str, tmp_path: Path) -> None:
    file = tmp_path / "judge.json"
    words = ("--traces", 40, "--supervision.model", MODEL, "--supervision.timeout_seconds", 300, "--json", file)
    status, out, err = runs.run("judge", url, *words, timeout=1800)
    print(out, err)
    assert status == 0, err
    figures = json.loads(file.read_text())
    assert figures["traces"] == 40 and figures["calls"] >= 40 and figures["auc"] < 0.9
    assert "do not train on its grades" in out or "a noisy reward" in out
