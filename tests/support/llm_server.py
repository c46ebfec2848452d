"""An OpenAI-compatible chat server on loopback that answers well, or fails in whatever way it is told to.

`faults` are used up one per request; `always` is what every further request gets. Their names are the methods' of `_Handler`
that begin with "fault_", and any three-digit number.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

FENCED = re.compile(r"<<<(.+?) ([0-9a-f]{16})>>>\n(.*?)\n<<<end \2>>>", re.DOTALL)
FACTS = {
    "description": "A bar chart.",
    "objects": [{"name": "fig", "attributes": [{"name": "value", "value": "82"}, {"name": "colour", "value": "red"}], "position": "left"}],
}


def sections_of(request: dict[str, Any]) -> dict[str, str]:
    """Title and text of all that is fenced in the user's message."""
    content = request["messages"][-1]["content"]
    return {title: text for title, _, text in FENCED.findall(content)} if isinstance(content, str) else {}


def traces_of(request: dict[str, Any]) -> list[str]:
    return [text for title, text in sections_of(request).items() if title.startswith("trace ")]


def truth(request: dict[str, Any]) -> str:
    """A trace that is true and gives the gold answer, whatever is asked."""
    held = sections_of(request)
    facts = ". ".join(line.replace(": ", " is ") for line in held.get("facts", "").split("\n")[:3] if ": " in line)
    return f"The facts say: {facts}. So the answer is {held.get('gold answer', '')}."


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # as servers have; five of 32 connections at once would be kept and some of the others reset


class LLMServer:
    """Use as a context manager; `url` is the endpoint's address. Settings may be changed while it runs."""

    def __init__(
        self,
        *,
        grade: Callable[[str], str] = lambda trace: "high" if "=" in trace else "medium",
        text: Callable[[dict[str, Any]], str] = truth,
        facts: dict[str, Any] = FACTS,
        faults: Iterable[str] = (),
        always: str = "",
        refuse: Iterable[str] = (),
        refusal_status: int = 400,
        retry_after: str = "0.05",
        latency_seconds: float = 0.0,
        slots: int = 64,
    ) -> None:
        """`refuse`: types of response_format that get `refusal_status`. `slots`: requests answered at once; others wait for one."""
        self.grade, self.text, self.facts = grade, text, facts
        self.faults, self.always = deque(faults), always
        self.refuse, self.refusal_status, self.retry_after = set(refuse), refusal_status, retry_after
        self.latency_seconds, self.slots = latency_seconds, threading.BoundedSemaphore(slots)
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Message] = []
        self.formats: Counter[str] = Counter()
        self.running = self.most_running = 0
        self.stopping = threading.Event()
        self._http = _Listener(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.llm = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def count(self) -> int:
        return len(self.requests)

    def __enter__(self) -> LLMServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: dict[str, Any]) -> str:
        """What a good model says."""
        traces = traces_of(request)
        if traces:
            return json.dumps({"grades": [self.grade(trace) for trace in traces]})
        if isinstance(request["messages"][-1]["content"], list):
            return json.dumps(self.facts)
        return self.text(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def llm(self) -> LLMServer:
        return self.server.llm  # type: ignore[attr-defined,no-any-return]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        llm, form = self.llm, request.get("response_format", {}).get("type", "none")
        with llm.lock:
            llm.requests.append(request)
            llm.headers.append(self.headers)
            llm.formats[form] += 1
            fault = llm.faults.popleft() if llm.faults else llm.always
        with suppress(BrokenPipeError, ConnectionResetError), llm.slots:
            with llm.lock:
                llm.running += 1
                llm.most_running = max(llm.most_running, llm.running)
            try:
                llm.stopping.wait(llm.latency_seconds)
                if self.path != "/v1/chat/completions":
                    self.send(404, {"error": {"message": "no such page"}})
                elif fault.isdigit():
                    self.send(
                        int(fault),
                        {"error": {"message": f"told to fail with {fault}"}},
                        {"Retry-After": llm.retry_after} if fault == "429" else {},
                    )
                elif fault:
                    getattr(self, f"fault_{fault}")(request)
                elif form in llm.refuse:
                    self.send(llm.refusal_status, {"error": {"message": f"response_format {form} is not supported"}})
                else:
                    self.say(llm.answer(request))
            finally:
                with llm.lock:
                    llm.running -= 1

    def say(self, text: str | None, finish: str = "stop") -> None:
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self.send(
            200, {"id": "x", "object": "chat.completion", "created": int(time.time()), "model": "m", "choices": [choice], "usage": usage}
        )

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(body).encode(), headers)

    def send_bytes(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, claimed: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(claimed or len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def fault_timeout(self, request: dict[str, Any]) -> None:
        self.llm.stopping.wait(30)
        self.close_connection = True

    def trickle(self, status: int) -> None:
        """One byte of a body without end at a time."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.llm.stopping.wait(0.05):
            self.wfile.write(b"1\r\n \r\n")

    def fault_trickle(self, request: dict[str, Any]) -> None:
        self.trickle(200)

    def fault_trickling_error(self, request: dict[str, Any]) -> None:
        self.trickle(500)

    def fault_trickling_headers(self, request: dict[str, Any]) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.llm.stopping.wait(0.05):
            self.wfile.write(b"x")

    def fault_echo(self, request: dict[str, Any]) -> None:
        self.send_bytes(200, f"{self.headers['Authorization'].removeprefix('Bearer ')} to fail".encode())

    def fault_half_character(self, request: dict[str, Any]) -> None:
        self.say('{"grades": ["high"]} \ud83d')

    def fault_drop(self, request: dict[str, Any]) -> None:
        self.close_connection = True

    def fault_half(self, request: dict[str, Any]) -> None:
        self.send_bytes(200, b'{"choices": [{"message": {"cont', claimed=5000)
        self.close_connection = True

    def fault_garbage(self, request: dict[str, Any]) -> None:
        self.send_bytes(200, b"\x00\xff<html>garbage", {"Content-Type": "application/json"})

    def fault_html(self, request: dict[str, Any]) -> None:
        self.send_bytes(200, b"<html>a proxy's page</html>", {"Content-Type": "text/html"})

    def fault_no_choices(self, request: dict[str, Any]) -> None:
        self.send(200, {"choices": []})

    def fault_null_body(self, request: dict[str, Any]) -> None:
        self.send(200, None)

    def fault_null_text(self, request: dict[str, Any]) -> None:
        self.say(None)

    def fault_empty_text(self, request: dict[str, Any]) -> None:
        self.say("  \n")

    def fault_cut_off(self, request: dict[str, Any]) -> None:
        self.say('{"grades": ["high", "hi', finish="length")

    def fault_words(self, request: dict[str, Any]) -> None:
        self.say("I would say that all of them are high.")

    def fault_one_too_few(self, request: dict[str, Any]) -> None:
        self.say(json.dumps({"grades": ["high"] * (len(traces_of(request)) - 1)}))

    def fault_ten_thousand(self, request: dict[str, Any]) -> None:
        self.say(json.dumps({"grades": ["high"] * 10_000}))

    def fault_excellent(self, request: dict[str, Any]) -> None:
        self.say(json.dumps({"grades": ["excellent"] * len(traces_of(request))}))

    def fault_numbers(self, request: dict[str, Any]) -> None:
        self.say(json.dumps({"grades": [1] * len(traces_of(request))}))

    def fault_two_objects(self, request: dict[str, Any]) -> None:
        self.say(f'{{"grades": ["low"]}} or rather {json.dumps({"grades": ["high"] * len(traces_of(request))})}')

    def fault_deep(self, request: dict[str, Any]) -> None:
        self.say('{"grades":' + "[" * 100_000)

    def fault_gzip_bomb(self, request: dict[str, Any]) -> None:
        self.send_bytes(200, gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"})

    def fault_gzip_bomb_error(self, request: dict[str, Any]) -> None:
        self.send_bytes(500, gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"})

    def endless(self, status: int) -> None:
        """A body without end, as fast as it is read."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.llm.stopping.is_set():
            self.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    def fault_endless(self, request: dict[str, Any]) -> None:
        self.endless(200)

    def fault_endless_error(self, request: dict[str, Any]) -> None:
        self.endless(503)

    def fault_redirect(self, request: dict[str, Any]) -> None:
        self.send(307, {}, {"Location": "/v1/elsewhere"})

    def fault_escapes(self, request: dict[str, Any]) -> None:
        self.send(400, {"error": {"message": "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m bad"}})
