"""DyME trained with rollouts by a real vLLM server, of a text model and of SmolVLM's architecture; run by `make test-vllm`, not by default.

DYME_VLLM_HOME is the environment that the Makefile prepares; vLLM has its own, since it wants an older transformers. A server takes one to
four minutes to start on two cores; each model has one, started by `dyme serve`, and one test starts another in its place.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_templates as templates
import pytest
import torch
from family_parts import VISION, common, text_only, tokenizer_with
from runs import ENVIRONMENT, lines, small
from tiny import Picture

from dyme.config import Config, ModelConfig, RolloutConfig
from dyme.errors import RunError
from dyme.model.policy import Policy
from dyme.rollout import hf
from dyme.rollout.vllm.served import Served
from dyme.training.loop import train
from dyme.types import Completion, Sample

HOME = os.environ.get("DYME_VLLM_HOME", "")
pytestmark = pytest.mark.skipif(not HOME, reason="needs vLLM: run `make test-vllm`")
START_SECONDS = 900
CLOSE = 1e-4
"""Largest difference of a log-probability in float32 (nats)."""
TEXT = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 1024,
}  # fmt: skip
"""vLLM's attention on a CPU wants heads of 32."""
SERVER = "--max-model-len 512 --enforce-eager --block-size 32 --distributed-executor-backend uni"


def text_model(folder: Path) -> Path:
    """Save a Llama with SmolLM2's template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    model, _ = text_only(LlamaConfig, LlamaForCausalLM, tokenizer, templates.SMOLLM2, **TEXT)
    return saved(model, tokenizer, folder)


def seeing_model(folder: Path) -> Path:
    """Save an Idefics3 with Llama text, as SmolVLM is."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tiles = (f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
    tokenizer = tokenizer_with("<|im_start|>", *tiles, eos="<end_of_utterance>")
    images = Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16}, do_image_splitting=True)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=templates.SMOLVLM)
    config = Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=2, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True,
        vision_config=dict(**VISION, image_size=16, patch_size=4),
        text_config={**TEXT, **common(tokenizer), "model_type": "llama", "tie_word_embeddings": True},
    )  # fmt: skip
    return saved(Idefics3ForConditionalGeneration(config), processor, folder)


def saved(model: Any, processor: Any, folder: Path) -> Path:
    """Save a model with weights wide enough for contexts and pictures to matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.1)
    tokenizer = getattr(processor, "tokenizer", processor)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    Policy(model, processor).save(folder)
    return folder


class Server:
    """A server that `dyme serve` started."""

    def __init__(self, model: Path, log: Path, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log, self.words = model, log, words
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and return at once."""
        command = [sys.executable, "-m", "dyme", "serve", "own-data", f"--model.path={self.model}", f"--rollout.url={self.url}"]
        command += [f"--python={HOME}/venv/bin/python", f"--args={SERVER}", "--train.precision=fp32", *self.words]
        settings = ENVIRONMENT | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=settings, start_new_session=True)

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the server did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.5)

    def kill(self) -> None:
        """End it and its workers, without a chance to clean up."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module", params=[text_model, seeing_model], ids=["text", "idefics3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm")
    running = Server(request.param(folder / "model"), folder / "server.log")
    try:
        running.wait()
        yield running
    finally:
        running.kill()


def rows(server: Server) -> list[Sample]:
    """Questions of different lengths, with pictures of different sizes if the model sees."""
    sizes, seeing = ((16, 16), (40, 20), (20, 44)), (server.model / "processor_config.json").exists()
    seen = [(Picture(k, sizes[k % 3]),) if seeing else () for k in range(12)]
    return [
        Sample(id=str(k), question=f"What is {'the height of ' * (k % 3)}bar {k}?", answer=str(k), rationale=f"I read {k}.", images=seen[k])
        for k in range(12)
    ]


def length(completion: Completion, sample: Sample, verdict: Any) -> float:
    """A reward that random weights can earn."""
    return len(completion.text) / 100


def recipe(server: Server, output: Path, *words: str) -> Config:
    """Thirty steps in which some prompts are memorized and some explored: one answer in two counts as right."""
    return small(
        output, f"model.path={server.model}", "task.name=jsonl", "task.verifier=tests/real/real_vllm.py:judge", "train.learning_rate=3e-3",
        "train.precision=fp32", "rollout.engine=vllm", f"rollout.url={server.url}", "rollout.max_completion_length=12",
        "reward.functions=tests/real/real_vllm.py:length", "train.max_prompts=120", "run.save_every=10", *words,
    )  # fmt: skip


def judge(prediction: str, sample: Sample) -> bool:
    """Return whether a prediction is right: some of what random weights write is."""
    return prediction == sample.answer or len(prediction) % 2 == 0


def test_greedy_tokens_and_log_probabilities_are_the_models_own(server: Server, tmp_path: Path) -> None:
    config = recipe(server, tmp_path / "run")
    policy = Policy.load(ModelConfig(path=str(server.model))).eval()
    prompts = [policy.encode(sample, "Think.") for sample in rows(server)]
    engine = Served(policy, config, policy.save, lambda: 0, print)
    engine.refresh(lambda: prompts[0])
    assert engine.mismatch < CLOSE
    theirs = engine.sample(prompts, range(12), config.rollout, greedy=True)
    ours = hf.sample(policy, prompts, range(12), RolloutConfig(max_completion_length=12), greedy=True)
    assert [c.token_ids for (c,) in theirs] == [c.token_ids for (c,) in ours]
    assert len({c.token_ids for (c,) in ours}) > 1
    drawn = engine.sample(prompts, range(12), config.rollout)
    again = engine.sample(prompts[:1], [0], config.rollout)
    assert drawn[0] == again[0], "the same seed draws the same"
    assert not any(policy.forbidden[token] for own in drawn for one in own for token in one.token_ids)


def test_thirty_steps_of_dyme(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[float] = []
    refresh = Served.refresh

    def watched(self: Served, example: Any) -> None:
        refresh(self, example)
        compared.append(self.mismatch)

    monkeypatch.setattr(Served, "refresh", watched)
    train(recipe(server, tmp_path / "run"), samples=rows(server))
    found = [row["metrics"] for row in lines(tmp_path / "run/metrics.jsonl")]
    most = max(m.get("sampling_gap_max", 0.0) for m in found)
    print(f"largest difference of a log-probability: {max(compared):.1e} after a change of the weights, {most:.1e} in an update")
    assert len(found) == len(compared) == 30 and max(compared) < CLOSE
    explored = [m for m in found if "sampling_gap_max" in m]
    assert len(explored) > 10 and all(m["sampling_gap_max"] < CLOSE for m in explored)
    assert all(m["grad_norm"] > 0 for m in found), "each step changes the weights"


def test_a_server_with_other_weights_is_caught(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server keeps its weights here, as one that never read the new ones."""
    from dyme.rollout.vllm.server import Server as Client

    loads: list[Path] = []
    load = Client.load

    def lost(self: Client, folder: Path, adapter: bool) -> None:
        loads.append(folder)
        if len(loads) == 1:
            load(self, folder, adapter)

    monkeypatch.setattr(Client, "load", lost)
    with pytest.raises(RunError, match="does not compute what the model does: log-probabilities are apart by"):
        train(recipe(server, tmp_path / "run"), samples=rows(server))
    assert len(loads) == 2


def test_a_killed_server_is_waited_for_or_the_run_is_saved(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills: list[int] = []
    sample = Served.sample

    def killing(self: Served, *args: Any, **kwargs: Any) -> Any:
        kills.append(1)
        if len(kills) == 2:
            server.kill()
            if self.config.rollout.wait_seconds:
                server.start()
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(Served, "sample", killing)
    short = ("train.max_prompts=16", "run.save_every=0")
    train(recipe(server, tmp_path / "waits", *short, f"rollout.wait_seconds={START_SECONDS}"), samples=rows(server))
    found = lines(tmp_path / "waits/metrics.jsonl")
    assert [row["step"] for row in found] == [1, 2, 3, 4] and all(row["metrics"].get("sampling_gap_max", 0) < CLOSE for row in found)
    kills.clear()
    with pytest.raises(RunError, match=r"no vLLM server answers at .*; the run is saved; go on with: dyme train --resume"):
        train(recipe(server, tmp_path / "stops", *short), samples=rows(server))
    assert [row["step"] for row in lines(tmp_path / "stops/metrics.jsonl")] == [1]
    server.start()
    server.wait()
    train(recipe(server, tmp_path / "stops", *short), samples=rows(server), resume=True)
    assert [row["step"] for row in lines(tmp_path / "stops/metrics.jsonl")] == [1, 2, 3, 4]


def test_an_adapter_goes_to_the_server_alone(tmp_path: Path) -> None:
    adapted = ("model.lora_rank=8", "train.max_prompts=16")
    running = Server(text_model(tmp_path / "model"), tmp_path / "server.log", "--model.lora_rank=8")
    try:
        running.wait()
        train(recipe(running, tmp_path / "run", *adapted), samples=rows(running))
    finally:
        running.kill()
    found = [row["metrics"] for row in lines(tmp_path / "run/metrics.jsonl")]
    assert len(found) == 4 and all(m.get("sampling_gap_max", 0.0) < CLOSE for m in found)
