"""The LLM helpers against a real server with a real, tiny model (SmolLM2-135M-Instruct); run by `make test-llm`, not by default.

DYME_LLM_HOME is the folder that the Makefile prepares: this file starts its server. DYME_LLM_URL (and DYME_LLM_MODEL) names a
server of your own instead. What the model says is not judged here, only that all of it is usable or refused.
"""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dyme.errors import SupervisionError
from dyme.supervise.llm import Client, Endpoint
from dyme.supervise.llm_roles import LLMChecker, LLMRefiner
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


# Still to come here: 30 steps of Full DyME against `url`, the outage (`real_server` twice on one port), and `dyme judge`.
