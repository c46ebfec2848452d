"""Pushing to a hub: a local server that speaks as much of the hub's interface as an upload needs."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import runs

from dyme.errors import ConfigError, ModelError
from dyme.publishing import hub as upload


class FakeHub(BaseHTTPRequestHandler):
    """Keeps what is committed, and who asked; repositories of `others` are refused."""

    made: list[dict[str, Any]]
    files: dict[str, bytes]

    def do_POST(self) -> None:
        chunked = self.headers.get("transfer-encoding") == "chunked"
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("content-length", 0)))
        server: Any = self.server
        if self.headers.get("authorization") != "Bearer hf_right":
            return self._reply(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            server.made.append(json.loads(body))
            return self._reply(200, {"url": f"{server.url}/me/{json.loads(body)['name']}", "id": "me/it"})
        if self.path.endswith("/preupload/main"):
            return self._reply(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]}
            )
        if "/commit/main" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._reply(200, {"commitUrl": f"{server.url}/me/it/commit/0", "commitOid": "0", "success": True})
        return self._reply(200, {})

    def do_GET(self) -> None:
        self._reply(404, {"error": "not found"})

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    made.url, made.made, made.files = f"http://127.0.0.1:{made.server_port}", [], {}
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("README.md", "config.json", "model.safetensors"):
        (folder / name).write_text(f"{{}} {name}")
    return folder


def dyme(*words: object, **environment: str) -> tuple[int, str, str]:
    """`dyme WORDS` with the hub at an address, online."""
    env = {k: v for k, v in runs.ENVIRONMENT.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT")} | environment
    env |= {"HF_HOME": str(runs.ROOT / "none")} if "HF_TOKEN" not in environment else {}
    done = subprocess.run([sys.executable, "-m", "dyme", *map(str, words)], capture_output=True, text=True, env=env, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("private", [False, True])
def test_push_uploads_the_folder(private: bool, server: Any, model: Path) -> None:
    status, out, error = dyme("push", model, "me/it", *(["--private"] if private else []), HF_ENDPOINT=server.url, HF_TOKEN="hf_right")
    assert (status, out.strip()) == (0, f"pushed {server.url}/me/it"), error
    assert {name: content.decode() for name, content in server.files.items()} == {f.name: f.read_text() for f in model.iterdir()}
    assert server.made[0]["name"] == "it" and server.made[0]["organization"] == "me"
    assert bool(server.made[0].get("private") or server.made[0].get("visibility") == "private") is private


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_TOKEN": "hf_wrong"}, "me/it: cannot push: "),
        ({}, "cannot push: no token; run `hf auth login`, or set HF_TOKEN to one that may write"),
        ({"HF_TOKEN": "hf_right", "HF_HUB_OFFLINE": "1"}, "cannot push: HF_HUB_OFFLINE is set; unset it"),
        ({"HF_TOKEN": "hf_right", "HF_ENDPOINT": "http://127.0.0.1:9"}, "me/it: cannot push: "),
    ],
)
def test_what_cannot_be_pushed_is_told_in_one_line(environment: dict[str, str], message: str, server: Any, model: Path) -> None:
    status, out, error = dyme("push", model, "me/it", **({"HF_ENDPOINT": server.url} | environment))
    assert (status, out) == (2, "") and error.count("\n") == 1 and error.startswith(f"dyme: {message}")
    assert not server.files


def test_a_run_that_is_to_be_pushed_asks_for_a_token_first(tmp_path: Path) -> None:
    words = ("train", runs.recipe(tmp_path / "r.toml", runs.SMALL), "--run.output", tmp_path / "run", "--run.push_to_hub", "true")
    status, _, error = dyme(*words)
    assert status == 2 and "run.push_to_hub needs run.hub_model_id, e.g. me/my-model" in error
    status, _, error = dyme(*words, "--run.hub_model_id", "me/it")
    assert status == 2 and "no token" in error and not (tmp_path / "run").exists()


def test_an_adapter_whose_base_nobody_has_is_not_pushed(model: Path) -> None:
    for base in ("embedded", str(model)):
        (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(ModelError, match="others do not have the adapter's base, .*; merge it first: dyme export"):
            upload.push(model, "me/it")


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, error = dyme("push", tmp_path / "none", "me/it")
    assert status == 2 and "no such folder; give a run folder or a model folder" in error
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        upload.need_token()
