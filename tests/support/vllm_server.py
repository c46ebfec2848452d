"""The few requests of a vLLM server that dyme makes, answered on loopback by the model itself: a real model, real weights from the folder,
and any way of being wrong. The real vLLM is met by `make test-vllm`.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from dyme.config import ModelConfig, RolloutConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout import hf


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128
    allow_reuse_address = True


class VLLMServer:
    """A server of a text model; use as a context manager. Faults are attributes that may change while it runs."""

    def __init__(self, model: Path, port: int = 0) -> None:
        self.model = model
        self.name, self.mode, self.developing, self.takes_tokens = "policy", "raw_logprobs", True, True
        self.deaf = False
        """Whether new weights are acknowledged and not read."""
        self.reads: Callable[[list[int]], list[int]] = lambda ids: ids
        """How a prompt's tokens are read."""
        self.before: Callable[[int], None] = lambda count: None
        """Called before each request for completions with their number."""
        self.loaded: list[str] = []
        """Folders that weights were read from."""
        self.asked: list[dict[str, Any]] = []
        self.identity = uuid.uuid4().hex[:5]
        self._lock = threading.Lock()
        self.read(model)
        self._server = _Listener(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> VLLMServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the address free."""
        self._server.shutdown()
        self._server.server_close()

    def read(self, folder: Path) -> None:
        """Read weights, with the tokenizer of the first folder."""
        self.policy = Policy.load(ModelConfig(path=str(folder)))

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the completions of a prompt."""
        with self._lock:
            self.asked.append(body)
            self.before(len(self.asked))
            wanted, ids = body["sampling_params"], tuple(self.reads(body["token_ids"]))
            config = RolloutConfig(num_generations=max(2, wanted["n"]), max_completion_length=wanted["max_tokens"])
            [drawn] = hf.sample(self.policy, [Prompt(token_ids=ids, bare=ids)], [wanted["seed"]], config, greedy=wanted["temperature"] == 0)
        return {
            "prompt_token_ids": list(ids),
            "choices": [
                {
                    "index": k, "token_ids": list(one.token_ids), "finish_reason": "stop" if one.finished else "length",
                    "logprobs": {"content": [{"logprob": value} for value in one.logprobs]},
                }
                for k, one in enumerate(drawn[: wanted["n"]])
            ],
        }  # fmt: skip

    def _get(self, path: str) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": self.name}]}
        if path.startswith("/server_info") and self.developing:
            return {"vllm_config": {"instance_id": self.identity, "model_config": {"logprobs_mode": self.mode}}}
        return {} if path == "/health" else None

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/inference/v1/generate":
            return (self.complete(body) if body else 422) if self.takes_tokens else None
        if path == "/collective_rpc":
            folder = body["kwargs"]["weights_path"]
            self.loaded.append(folder)
            if not self.deaf:
                self.read(Path(folder))
        return {}

    def _handler(server: VLLMServer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(server._get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                try:
                    self.answer(server._post(self.path, body))
                except ConnectionAbortedError:
                    self.connection.close()

            def answer(self, found: Any) -> None:
                status = 404 if found is None else found if isinstance(found, int) else 200
                text = json.dumps({"error": {"message": "no"}} if status != 200 else found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler
