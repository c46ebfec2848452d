"""Requests to an OpenAI-compatible chat endpoint: address, settings, limits, and a named failure for each.

The time of a whole request is bounded, since a socket's timeout restarts with every byte: requests run on an event loop in a separate
thread, where a slow one is cancelled; so are requests under way when the run ends. The size of an answer is bounded too: a body is read
up to LONGEST bytes, and a compressed one, which may unpack to any size, is refused. No message contains the key. Redirects are not
followed, since questions hold the user's pictures.
`openai` is imported when a connection is made, so that a run without an LLM needs no such package.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dyme.errors import ConfigError
from dyme.system.terminal import plain

if TYPE_CHECKING:
    import openai


LONGEST = 2**22
"""Most bytes of an answer's body."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Address of the LLM and settings of its requests."""

    url: str
    """Base address, e.g. "http://127.0.0.1:8000/v1"."""
    model: str
    """Name of the model as the server knows it."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty if the server needs none."""
    timeout_seconds: float = 60.0
    """Longest time for one try, in seconds, however the answer is sent."""
    max_retries: int = 4
    """Further tries after a 429, a 5xx, a timeout, a broken connection or an unreadable body."""
    backoff_seconds: float = 0.5
    """Wait before the first retry; doubles with each, less up to a quarter at random; a 429's Retry-After takes precedence."""
    max_tokens: int = 1024
    """Most tokens of an answer; an answer that reaches them is cut off and refused."""
    temperature: float = 0.0
    """Sampling temperature; 0: the likeliest answer, so that a grade can be repeated."""

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that cannot work."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.url!r} is not the address of an endpoint; give one like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ConfigError(
                "the endpoint's address holds a user or password; put the key into an environment variable and name that in api_key_env"
            )
        if self.api_key_env and not self.api_key_env.isidentifier():
            raise ConfigError("api_key_env must be the name of an environment variable, e.g. OPENAI_API_KEY, not the key itself")
        if not self.model:
            raise ConfigError("the endpoint needs the name of a model; GET <url>/models lists those it serves")
        if not (
            self.timeout_seconds > 0
            and self.backoff_seconds >= 0
            and self.temperature >= 0
            and self.max_retries >= 0
            and self.max_tokens > 0
        ):
            raise ConfigError(
                "an endpoint's timeout_seconds and max_tokens must be above 0; max_retries, backoff_seconds and temperature at least 0"
            )


class Failure(Exception):
    """Error: no answer, with the reason.

    `passing`: a later try may succeed; `wait`: seconds that the server asks for; `refusal`: the way of requesting JSON may be the cause.
    """

    def __init__(self, kind: str, message: str, *, passing: bool = False, wait: float = 0.0, refusal: bool = False) -> None:
        super().__init__(message)
        self.kind, self.passing, self.wait, self.refusal = kind, passing, wait, refusal


class Connection:
    """Sends requests to an endpoint; may be shared by threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ConfigError without the `openai` package, and for a key that is missing or cannot be sent."""
        try:
            import openai
        except ImportError as error:
            raise ConfigError("an LLM helper needs the openai package: pip install 'dyme[llm]'") from error
        self._endpoint, self._key = endpoint, _key(endpoint.api_key_env)
        self._make: Callable[..., openai.AsyncOpenAI] = partial(
            openai.AsyncOpenAI,  # without its own retries: ours are counted, bounded by the budget, and leave 408 and 409 alone
            base_url=endpoint.url,
            api_key=self._key or "none",
            timeout=endpoint.timeout_seconds,
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},
        )
        self._process, self._openai = os.getpid(), self._client()
        self._lock = threading.Lock()
        self._asked: set[Future[bytes]] = set()
        self.closed = threading.Event()

    def post(self, body: dict[str, Any]) -> bytes:
        """Send a chat completion's request and return the body of the answer. Raises Failure if there is none."""
        with self._lock:
            if self.closed.is_set():
                raise Failure("closed", "the run is over")
            if self._process != os.getpid():  # after a fork: the parent's connections and requests belong to its event loop
                self._process, self._openai, self._asked = os.getpid(), self._client(), set()
            try:
                loop = _loop()
            except RuntimeError as error:  # raised if no thread can be started
                raise Failure("connection", f"no connection ({error})", passing=True) from error
            asked = asyncio.run_coroutine_threadsafe(self._request(body), loop)
            self._asked.add(asked)
        try:
            return asked.result()
        except CancelledError as error:
            raise Failure("closed", "the run is over") from error
        finally:
            with self._lock:
                self._asked.discard(asked)

    def close(self) -> None:
        """Abort requests under way and close the connections."""
        with self._lock:
            self.closed.set()
            if self._process != os.getpid():
                return
            for asked in self._asked:
                asked.cancel()
        with suppress(TimeoutError, RuntimeError):
            loop = _loop()
            asyncio.run_coroutine_threadsafe(self._openai.close(), loop).result(timeout=5)

    def _client(self) -> openai.AsyncOpenAI:
        """Return a client that follows no redirect and bounds the bytes that it reads."""
        import openai

        return self._make(http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks={"response": [_bound]}))

    def quoted(self, text: str) -> str:
        """Return a server's text, fit for a message: one plain line of at most 300 characters, without the key."""
        line = plain(" ".join(text.split()))
        return (line.replace(self._key, "[key]") if self._key else line)[:300]

    async def _request(self, body: dict[str, Any]) -> bytes:
        import openai

        try:
            async with asyncio.timeout(self._endpoint.timeout_seconds):
                # not chat.completions.create: walking through its types of a body costs a third of a call's time on the interpreter's lock
                answer = await self._openai.post("/chat/completions", cast_to=_response_class(), body=body)
                return bytes(answer.content)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Failure("timeout", f"no answer within {self._endpoint.timeout_seconds:g} s", passing=True) from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, Failure):
                raise error.__cause__ from None
            raise Failure("connection", f"no connection ({_cause(error)})", passing=True) from error
        except openai.APIStatusError as error:
            status = error.status_code
            refusal = status in (400, 422) or (status == 500 and "response_format" in str(error))  # the second name is llama-cpp-python's
            passing = status == 429 or (status >= 500 and not refusal)
            wait = _retry_after(error.response.headers.get("retry-after"))
            said = self.quoted(str(error))
            if place := error.response.headers.get("location"):
                said = f"it sends on to {self.quoted(place)}, where nothing is sent; if you trust it, give that address"
            raise Failure(f"http {status}", f"HTTP {status}: {said}", passing=passing, wait=wait, refusal=refusal) from error
        except openai.OpenAIError as error:
            raise Failure("body", f"an unreadable answer ({self.quoted(str(error))})", passing=True) from error
        except RuntimeError as error:  # errors of asyncio and httpx for a loop or a client that cannot be used
            raise Failure("connection", f"no connection ({self.quoted(str(error))})", passing=True) from error


@cache
def _response_class() -> Any:
    """Return the class of responses in the HTTP library that `openai` uses, httpx or its successor."""
    import openai

    client = next(cls for cls in openai.DefaultAsyncHttpxClient.__mro__ if cls.__name__ == "AsyncClient")
    return sys.modules[client.__module__.partition(".")[0]].Response


async def _bound(response: Any) -> None:
    """Refuse a compressed body, and let no more than LONGEST bytes of another be read: the hook of a client of httpx's kind."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Failure("body", "a compressed answer, which was not asked for; have the server, or a proxy before it, send it plain")
    response.stream = _bounded(response.stream)


def _bounded(stream: Any) -> Any:
    """Return a response's stream that raises Failure after LONGEST bytes; its class must be one of the client's library."""
    kind: Any = next(cls for cls in type(stream).__mro__ if cls.__name__ == "AsyncByteStream")

    class Bounded(kind):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            read = 0
            async for part in stream:
                read += len(part)
                if read > LONGEST:
                    raise Failure("body", f"an answer of more than {LONGEST:,} bytes")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_making = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this process, in a thread that ends with it. Raises RuntimeError if no thread can be started."""
    process = os.getpid()
    with _making:
        if process not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name=f"requests of {process}", daemon=True).start()
            _loops[process] = loop
        return _loops[process]


def _key(name: str) -> str:
    """Return the key that an environment variable holds; "" without a name. Raises ConfigError, which never contains the value."""
    key = os.environ.get(name, "").strip() if name else ""
    if name and not key:
        raise ConfigError(f"the environment variable {name} holds no key; set it, or leave api_key_env empty if none is needed")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {name} holds characters that no key has, e.g. a curly quote; copy it anew")
    return key


def _cause(error: BaseException) -> str:
    """Return the cause of a broken connection: the system's words if any, else the error's class; other texts can quote headers."""
    name, found = type(error.__cause__ or error).__name__, error.__cause__
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return name


def _retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After header gives, as a number or as a date; 0 if it is absent or unreadable."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header or "").timestamp() - time.time()
        except (ValueError, OverflowError, OSError):  # the latter two: a date beyond the system's range
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
