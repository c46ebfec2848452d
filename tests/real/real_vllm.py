"""A text model that dyme saved, served by vLLM: the same prompt, the same greedy tokens; run by `make test-vllm`, not by default.

DYME_VLLM_HOME is the environment that the Makefile prepares; vLLM has its own, since it wants an older transformers.
"""

import json
import os
import subprocess
from pathlib import Path

import chat_templates as templates
import pytest
import torch
from families import text_only, tokenizer_with
from tiny import samples
from transformers import LlamaConfig, LlamaForCausalLM

from dyme.config import ModelConfig, RolloutConfig
from dyme.model.policy import Policy
from dyme.rollout import hf

HOME = os.environ.get("DYME_VLLM_HOME", "")
pytestmark = pytest.mark.skipif(not HOME, reason="needs vLLM: run `make test-vllm`")
SIZE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
THEIRS = """
import json, sys
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    task = json.load(open(sys.argv[1]))
    llm = LLM(model=task["model"], dtype="float32", enforce_eager=True, max_model_len=512, seed=0)
    params = SamplingParams(temperature=0.0, max_tokens=task["length"], allowed_token_ids=task["allowed"])
    said = llm.chat([[{"role": "user", "content": text}] for text in task["questions"]], params, use_tqdm=False)
    json.dump([[o.prompt_token_ids, o.outputs[0].token_ids] for o in said], open(sys.argv[2], "w"), default=list)
"""


def test_vllm_writes_the_same_greedy_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    model, _ = text_only(LlamaConfig, LlamaForCausalLM, tokenizer, templates.SMOLLM2, **SIZE)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.1)
    Policy(model, tokenizer).save(tmp_path / "model")
    policy = Policy.load(ModelConfig(path=str(tmp_path / "model")))
    asked = samples(policy, 6)
    prompts = [policy.encode(sample, "Think.") for sample in asked]
    ours = [c for (c,) in hf.sample(policy, prompts, range(6), RolloutConfig(max_completion_length=24), greedy=True)]
    task = {
        "model": str(tmp_path / "model"), "length": 24, "questions": [f"{sample.question} Think." for sample in asked],
        "allowed": (~policy.forbidden).nonzero()[:, 0].tolist(),
    }  # fmt: skip
    (tmp_path / "task.json").write_text(json.dumps(task))
    (tmp_path / "theirs.py").write_text(THEIRS)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    command = [f"{HOME}/venv/bin/python", "theirs.py", "task.json", "said.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for prompt, completion, (read, written) in zip(prompts, ours, json.loads((tmp_path / "said.json").read_text()), strict=True):
        assert tuple(read) == prompt.token_ids
        assert tuple(written) == completion.token_ids
    assert len({c.token_ids for c in ours}) > 1
