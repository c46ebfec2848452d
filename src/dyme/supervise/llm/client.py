"""A client of any OpenAI-compatible chat endpoint (vLLM, SGLang, llama.cpp, Ollama, hosted) for the helpers of visual supervision.

It returns a validated answer or raises SupervisionError, never None or a zero (the reference code's helpers return None when the
LLM fails, and its training crashes). Requests and tokens are counted and bounded; valid answers are kept on disk and not asked again.
The caller runs it in threads. `endpoint.py` sends the requests.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from dyme.errors import SupervisionError
from dyme.supervise.llm.cache import AnswerCache
from dyme.supervise.llm.endpoint import Connection, Endpoint, Failure
from dyme.supervise.llm.structured import fit, is_text, read_object

Message = Mapping[str, Any]
Schema = Mapping[str, Any]
Structure = Literal["json_schema", "json_object", "prompt"]
"""How a structured answer is requested: by schema, as any JSON object, or in words alone."""
_T = TypeVar("_T")
_LONGEST_WAIT = 60.0
"""Longest wait before a retry, in seconds; if a server asks for more, the question fails."""


@dataclass(kw_only=True)
class Stats:
    """Counters of a client."""

    calls: int = 0
    """Requests sent, retries included."""
    cache_hits: int = 0
    """Answers from the cache, without a request."""
    retries: int = 0
    """Requests that repeated a failed one."""
    structure_fallbacks: int = 0
    """Times that the server refused a way of requesting JSON and a weaker one was used for the rest of the run."""
    failures: dict[str, int] = field(default_factory=dict)
    """Questions that ended in SupervisionError, by kind: timeout, connection, http 500, ..., body, cut off, answer, budget, closed."""
    cache_errors: int = 0
    """Reads and writes of the cache that failed; the question was then asked or its answer not kept."""
    prompt_tokens: int = 0
    """As the server counts them."""
    completion_tokens: int = 0
    """As the server counts them."""
    seconds: float = 0.0
    """Seconds of waiting for answers, summed over threads; without waits before retries."""


class Client:
    """A client of one endpoint; may be shared by threads. Identical questions asked at the same time are both sent."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cache: Path | None = None,
        max_calls: int = 0,
        max_tokens_total: int = 0,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`cache`: file of answers, made if absent. `max_calls`, `max_tokens_total` (prompt and answer): budget of this client, 0: none.

        Tokens are known only after an answer, so calls under way may exceed that budget. `note` gets lines for the user.
        Raises ConfigError without the `openai` package, for a key that is missing or cannot be sent, and for a cache that cannot be opened.
        """
        self.endpoint = endpoint
        self.max_calls, self.max_tokens_total = max_calls, max_tokens_total
        self._connection = Connection(endpoint)
        self._cache = AnswerCache(cache) if cache else None
        self._note = note
        self._lock = threading.Lock()
        self._stats = Stats()
        self._structure: Structure = "json_schema"

    @property
    def stats(self) -> Stats:
        """Return a copy of the counters."""
        with self._lock:
            return replace(self._stats, failures=dict(self._stats.failures))

    @property
    def structure(self) -> Structure:
        """Return how structured answers are requested at present."""
        return self._structure

    def close(self) -> None:
        """Abort requests under way; close connections and the cache."""
        self._connection.close()
        if self._cache:
            self._cache.close()

    def ask(self, messages: Sequence[Message], schema: Schema) -> dict[str, Any]:
        """Return one JSON object that fits `schema` (see `structured.fit` for the part of JSON Schema that is understood).

        Raises SupervisionError if there is none after all retries.
        """

        def accept(text: str) -> dict[str, Any]:
            answer: dict[str, Any] = fit(read_object(text), schema)
            return answer

        return self._ask(messages, schema, accept)

    def ask_text(self, messages: Sequence[Message], accept: Callable[[str], str]) -> str:
        """Return free text as `accept` returns it; `accept` raises SupervisionError for an unusable text, which is then not kept.

        Raises SupervisionError if there is none after all retries.
        """
        return self._ask(messages, None, accept)

    def _ask(self, messages: Sequence[Message], schema: Schema | None, accept: Callable[[str], _T]) -> _T:
        key = self._key(messages, schema)
        kept = self._cached(key)
        if kept is not None:
            try:
                answer = accept(kept)
            except SupervisionError:
                pass  # the rules have become stricter since it was stored: ask again
            else:
                self._count(cache_hits=1)
                return answer
        try:
            text = self._answer(messages, schema)
            try:
                answer = accept(text)
            except SupervisionError as error:
                raise Failure("answer", f"the answer is not usable: {error}") from error
        except Failure as failure:
            with self._lock:
                self._stats.failures[failure.kind] = self._stats.failures.get(failure.kind, 0) + 1
            raise SupervisionError(f"{self.endpoint.model} at {self.endpoint.url}: {failure}", passing=failure.passing) from failure
        self._keep(key, text)
        return answer

    def _answer(self, messages: Sequence[Message], schema: Schema | None) -> str:
        """Return the text of an answer; a refused `response_format` is replaced by the next weaker one that the server takes."""
        if schema is None:
            return self._tried(messages, {})
        ways = get_args(Structure)
        for way in ways[ways.index(self._structure) :]:
            try:
                text = self._tried(*_structured(messages, schema, way))
            except Failure as failure:
                if failure.refusal and way != ways[-1]:
                    refused = failure
                    continue
                raise
            with self._lock:
                weaker = ways.index(way) > ways.index(self._structure)
                if weaker:
                    self._stats.structure_fallbacks += 1
                    self._structure = way
            if weaker:
                self._note(f"{self.endpoint.url} refused to be asked for JSON by a stricter way ({refused}); asking by {way} from now on")
            return text
        raise AssertionError("the last way returns or raises")

    def _tried(self, messages: Sequence[Message], extra: Mapping[str, Any]) -> str:
        """Return the text of an answer after at most the endpoint's number of tries."""
        body = {
            "model": self.endpoint.model,
            "messages": list(messages),
            "max_tokens": self.endpoint.max_tokens,
            "temperature": self.endpoint.temperature,
            **extra,
        }
        for attempt in range(self.endpoint.max_retries + 1):
            self._spend(retry=attempt > 0)
            started = time.monotonic()
            try:
                return self._text(self._connection.post(body))
            except Failure as failure:
                if not failure.passing or attempt == self.endpoint.max_retries or failure.wait > _LONGEST_WAIT:
                    raise
                backoff = min(self.endpoint.backoff_seconds * 2.0**attempt, _LONGEST_WAIT) * random.uniform(0.75, 1)
                wait = failure.wait or backoff
            finally:
                self._count(seconds=time.monotonic() - started)
            self._connection.closed.wait(wait)
        raise AssertionError("the last try returns or raises")

    def _text(self, content: bytes) -> str:
        """Return the message in the body of an answer; its tokens are counted even if it is faulty."""
        try:
            body = json.loads(content)
            choice = body["choices"][0]
            text = choice["message"]["content"]
            finish = choice.get("finish_reason")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            said = self._connection.quoted(repr(content[:100]))
            raise Failure("body", f"a body that is no chat completion: {said}", passing=True) from error
        usage = body.get("usage")
        prompt, completion = ((usage.get(k) if isinstance(usage, dict) else 0) for k in ("prompt_tokens", "completion_tokens"))
        self._count(prompt_tokens=_whole(prompt), completion_tokens=_whole(completion))
        if finish == "length":
            raise Failure("cut off", f"the answer was cut off at {self.endpoint.max_tokens} tokens; raise max_tokens")
        if not isinstance(text, str) or not text.strip():
            raise Failure("answer", "the answer is empty")
        if not is_text(text):
            raise Failure("answer", "the answer holds half a character, which no file takes")
        return text

    def _spend(self, *, retry: bool) -> None:
        """Count a request that is about to be sent, or raise SupervisionError if the budget is spent."""
        with self._lock:
            spent = self._stats.prompt_tokens + self._stats.completion_tokens
            if self.max_calls and self._stats.calls >= self.max_calls:
                raise Failure("budget", f"the budget of {self.max_calls} calls is spent")
            if self.max_tokens_total and spent >= self.max_tokens_total:
                raise Failure("budget", f"the budget of {self.max_tokens_total} tokens is spent")
            self._stats.calls += 1
            self._stats.retries += retry

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self._stats, name, getattr(self._stats, name) + value)

    def _key(self, messages: Sequence[Message], schema: Schema | None) -> str:
        """Return the identity of a question: equal keys mean equal questions to equal models with equal sampling."""
        sampling = [self.endpoint.model, self.endpoint.max_tokens, self.endpoint.temperature]
        return hashlib.sha256(json.dumps([sampling, list(messages), schema], sort_keys=True).encode()).hexdigest()

    def _cached(self, key: str) -> str | None:
        try:
            return self._cache.get(key) if self._cache else None
        except sqlite3.Error as error:
            self._cache_failed(error)
            return None

    def _keep(self, key: str, text: str) -> None:
        try:
            if self._cache:
                self._cache.put(key, text)
        except sqlite3.Error as error:
            self._cache_failed(error)

    def _cache_failed(self, error: sqlite3.Error) -> None:
        self._count(cache_errors=1)
        if self.stats.cache_errors == 1:
            self._note(f"the cache of LLM answers failed ({error}); answers are asked for again. Free the disk or move the file away.")


def _structured(messages: Sequence[Message], schema: Schema, way: Structure) -> tuple[Sequence[Message], Mapping[str, Any]]:
    """Return messages and request settings that ask for an object of `schema`; llama.cpp's servers take one with `json_object` too."""
    if way == "json_schema":
        return messages, {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}}
    words = f"Answer with one JSON object and nothing else. It must fit this JSON schema: {json.dumps(schema)}"
    messages = (
        [*messages, {"role": "user", "content": words}]
        if messages[-1]["role"] != "user"
        else [*messages[:-1], _extended(messages[-1], words)]
    )
    return messages, {"response_format": {"type": "json_object", "schema": schema}} if way == "json_object" else {}


def _extended(message: Message, words: str) -> Message:
    content = message["content"]
    return {**message, "content": f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "text", "text": words}]}


def _whole(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0
