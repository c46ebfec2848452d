"""One vLLM server: its requests, and one clear line for each way in which it can be wrong.

Tokens go in and out, never text: a prompt is its token ids and its pictures as PNG, and the server returns the prompt as it read it. No
code of dyme runs in the server, which lives in an environment of its own, because vLLM and dyme need different versions of transformers.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dyme.errors import ConfigError, RunError
from dyme.system.terminal import plain

NAME = "policy"
"""The name under which the model is served (--served-model-name)."""
ADAPTER = "policy-adapter"
"""The name of a LoRA adapter on it."""
URL = "http://127.0.0.1:8000"
"""The address of a server if the recipe names none."""
START = "start it with: dyme serve RECIPE"
_WAIT = 1.0
"""Seconds between two tries to reach a server that is gone."""
_SHORT, _INFO, _LONG = 30.0, 300.0, 3600.0
"""Seconds to wait for a short answer, for the server's settings (the first time it looks around), and for completions or new weights."""
_HOSTS = ("127.0.0.1", "localhost", "::1")


class ServerGone(RunError):
    """A server that cannot be reached, or ended while it was asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's completions of one prompt: token ids, log-probabilities and whether each ended by itself."""

    token_ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    finished: tuple[bool, ...]


class Server:
    """A vLLM server at an address; its methods may be called from several threads."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(f"rollout.url: {url!r} is not the address of a server; give one like http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.local = parts.hostname in _HOSTS
        """Whether the server is on this computer."""
        direct = [urllib.request.ProxyHandler({})] if self.local else []
        self._opener = urllib.request.build_opener(*direct)

    def ready(self, wait_seconds: float) -> None:
        """Wait until the server answers. Raises ServerGone if it does not within `wait_seconds`."""
        until = time.monotonic() + wait_seconds
        while True:
            try:
                self._send("/health", None, _SHORT)
                return
            except RunError:
                if time.monotonic() >= until:
                    raise
            time.sleep(_WAIT)

    def check(self, mode: str) -> None:
        """Raise ConfigError, saying how to start the server, unless it can serve a run that needs log-probabilities in `mode`."""
        settings = self.settings()
        names = [str(one.get("id")) for one in self._ask("/v1/models")["data"]]
        if NAME not in names:
            raise ConfigError(f"{self.url} serves {', '.join(names)}, not {NAME!r}: not a server for dyme; {START}")
        given = settings["model_config"].get("logprobs_mode")
        if given != mode:
            raise ConfigError(f"{self.url} returns {given}, and this recipe needs {mode}; start it again with --logprobs-mode {mode}")
        if self._status("/inference/v1/generate", {}) == http.HTTPStatus.NOT_FOUND:
            raise ConfigError(f"{self.url} takes no token ids; start it again with --enable-scale-out")

    def identity(self) -> str:
        """Return the name of this start of the server; one that was started again has another."""
        return str(self.settings()["instance_id"])

    def settings(self) -> dict[str, Any]:
        """Return the settings of the server. Raises ConfigError if it does not tell them."""
        try:
            return dict(self._ask("/server_info?config_format=json", timeout=_INFO)["vllm_config"])
        except _Refused as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                raise ConfigError(
                    f"{self.url} does not let its weights be replaced; start it again with VLLM_SERVER_DEV_MODE=1 in its environment, "
                    "on a loopback or private address, since anyone who reaches it can replace them"
                ) from error
            raise

    def load(self, folder: Path, adapter: bool) -> None:
        """Have the server read its weights, or an adapter, from a new `folder`, and forget what it computed with the old ones.

        A folder's name that was used before may give its weights of then (vLLM issue 32718). Raises RunError if the server cannot.
        """
        self._tell("/pause?mode=wait")
        try:
            if adapter:
                wanted: dict[str, Any] = {"lora_name": ADAPTER, "lora_path": str(folder), "load_inplace": True}
                self._tell("/v1/load_lora_adapter", wanted, timeout=_LONG)
            else:
                wanted = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
                self._tell("/collective_rpc", wanted, timeout=_LONG)
            for cache in ("prefix", "encoder", "mm"):
                self._tell(f"/reset_{cache}_cache")
        except _Refused as error:
            raise RunError(
                f"{self.url} cannot read the weights of this run from {folder}: it serves another checkpoint than model.path, or does not "
                f"see the folder (rollout.sync_folder names one); it said: {error.said}"
            ) from error
        finally:
            self._tell("/resume")

    def complete(
        self, token_ids: Sequence[int], pictures: Sequence[bytes], read_as: Sequence[int], sampling: Mapping[str, Any], adapter: bool
    ) -> Answer:
        """Return completions of a prompt. Raises RunError if the server read it otherwise than `read_as`, or cannot complete it."""
        model = ADAPTER if adapter else NAME
        body: dict[str, Any] = {"model": model, "token_ids": list(token_ids), "return_token_ids": True, "sampling_params": dict(sampling)}
        if pictures:
            body["content_parts"] = [
                {"type": "image_url", "url": f"data:image/png;base64,{base64.b64encode(png).decode()}"} for png in pictures
            ]
        found = self._post("/inference/v1/generate", body, timeout=_LONG)
        read = found.get("prompt_token_ids") or []
        if read != list(read_as):
            raise RunError(
                f"{self.url} reads a prompt of {len(read_as)} tokens as {len(read)} others: it has another tokenizer or processor, or "
                f"other settings of pictures, than model.path; {START}"
            )
        return _answer(found)

    def _status(self, path: str, body: Mapping[str, Any]) -> int:
        try:
            self._post(path, body)
        except _Refused as error:
            return error.status
        return http.HTTPStatus.OK

    def _post(self, path: str, body: Mapping[str, Any] | None = None, timeout: float = _SHORT) -> dict[str, Any]:
        return self._ask(path, json.dumps(body or {}).encode(), timeout)

    def _tell(self, path: str, body: Mapping[str, Any] | None = None, timeout: float = _SHORT) -> None:
        """Send a request whose answer is its status alone."""
        self._send(path, json.dumps(body or {}).encode(), timeout)

    def _ask(self, path: str, body: bytes | None = None, timeout: float = _SHORT) -> dict[str, Any]:
        """Return the answer to a request, an object."""
        text = self._send(path, body, timeout)
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise RunError(f"{self.url}{path} answered no JSON: {plain(text[:100].decode(errors='replace'))!r}; {START}") from error

    def _send(self, path: str, body: bytes | None, timeout: float) -> bytes:
        """Return the body of an answer. Raises ServerGone without one, and _Refused for one with a status of failure."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                text: bytes = answer.read()
        except urllib.error.HTTPError as error:
            raise _Refused(self.url, path, error.code, _said(error.read())) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise ServerGone(f"no vLLM server answers at {self.url} ({why}); {START}") from error
        return text


class _Refused(RunError):
    """A server's answer with an HTTP status of failure."""

    def __init__(self, url: str, path: str, status: int, said: str) -> None:
        super().__init__(f"{url}{path} answered {status}: {said}; {START}")
        self.status, self.said = status, said


def _said(body: bytes) -> str:
    """Return what a server says is wrong, in one line."""
    text = body.decode(errors="replace")
    try:
        held = json.loads(text)
        text = held.get("error", held) if isinstance(held, dict) else held
        text = text.get("message", text) if isinstance(text, dict) else text
    except ValueError:
        pass
    return plain(" ".join(str(text).split()))[:300]


def _answer(found: Mapping[str, Any]) -> Answer:
    """Return the completions of a server's answer."""
    choices = sorted(found["choices"], key=lambda choice: choice["index"])
    return Answer(
        token_ids=tuple(tuple(choice["token_ids"]) for choice in choices),
        logprobs=tuple(tuple(float(token["logprob"]) for token in choice["logprobs"]["content"]) for choice in choices),
        finished=tuple(choice["finish_reason"] == "stop" for choice in choices),
    )
