"""The client against a server that fails in every way we know: each ends in a good answer or in SupervisionError, counted."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llm_server
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_server import LLMServer

from dyme.errors import ConfigError, SupervisionError
from dyme.supervise.llm import endpoint
from dyme.supervise.llm.client import Client
from dyme.supervise.llm.endpoint import Endpoint
from dyme.supervise.llm.structured import fit, read_object

QUESTION = [{"role": "user", "content": "<<<trace 1 0123456789abcdef>>>\n1 + 1 = 2\n<<<end 0123456789abcdef>>>"}]
GRADES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "grades": {"type": "array", "items": {"type": "string", "enum": ["low", "medium", "high"]}, "minItems": 1, "maxItems": 1}
    },
    "required": ["grades"],
    "additionalProperties": False,
}
GOOD = {"grades": ["high"]}


def client(
    server: LLMServer | str, *, retries: int = 2, timeout: float = 5.0, backoff: float = 0.005, model: str = "m", **more: Any
) -> Client:
    url = server if isinstance(server, str) else server.url
    place = Endpoint(url=url, model=model, timeout_seconds=timeout, max_retries=retries, backoff_seconds=backoff, max_tokens=64)
    return Client(place, **more)


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTION[0]["content"].replace("1 + 1 = 2", text)}]


def test_good_answer_and_its_counts() -> None:
    with LLMServer() as server:
        asked = client(server)
        assert asked.ask(QUESTION, GRADES) == GOOD
        assert server.formats == {"json_schema": 1} and server.requests[0]["temperature"] == 0 and server.requests[0]["max_tokens"] == 64
        stats = asked.stats
        assert (stats.calls, stats.retries, stats.cache_hits, stats.failures) == (1, 0, 0, {})
        assert (stats.prompt_tokens, stats.completion_tokens) == (100, 10) and stats.seconds > 0


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "drop", "half", "garbage", "html", "no_choices", "null_body"])
def test_passing_fault_is_retried(fault: str) -> None:
    with LLMServer(faults=[fault, fault]) as server:
        asked = client(server)
        assert asked.ask(QUESTION, GRADES) == GOOD
        assert (asked.stats.calls, asked.stats.retries, asked.stats.failures) == (3, 2, {})


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("429", "http 429"), ("500", "http 500"), ("drop", "connection"), ("half", "connection"), ("garbage", "body"), ("null_body", "body")],
)
def test_lasting_fault_ends_in_an_error(fault: str, kind: str) -> None:
    with LLMServer(always=fault) as server:
        asked = client(server)
        with pytest.raises(SupervisionError, match="m at http"):
            asked.ask(QUESTION, GRADES)
        assert asked.stats.failures == {kind: 1} and server.count == 3


def test_timeout_is_retried_and_ends() -> None:
    with LLMServer(faults=["timeout"]) as server:
        assert client(server, timeout=0.2).ask(QUESTION, GRADES) == GOOD
    with LLMServer(always="timeout") as server:
        asked = client(server, timeout=0.1, retries=1)
        with pytest.raises(SupervisionError, match=r"no answer within 0\.1 s"):
            asked.ask(QUESTION, GRADES)
        assert asked.stats.failures == {"timeout": 1} and asked.stats.calls == 2


@pytest.mark.parametrize("fault", ["trickle", "trickling_error", "trickling_headers"])
def test_an_answer_that_trickles_is_given_up_in_time(fault: str) -> None:
    with LLMServer(always=fault) as server:
        asked, started = client(server, timeout=0.5, retries=1), time.monotonic()
        with pytest.raises(SupervisionError, match=r"no answer within 0\.5 s"):
            asked.ask(QUESTION, GRADES)
        assert 1 <= time.monotonic() - started < 3 and asked.stats.failures == {"timeout": 1}
        server.always = ""
        assert asked.ask(QUESTION, GRADES) == GOOD


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gzip_bomb", "a compressed answer"),
        ("gzip_bomb_error", "a compressed answer"),
        ("endless", r"more than 4,194,304 bytes"),
        ("endless_error", r"more than 4,194,304 bytes"),
        ("redirect", r"HTTP 307: it sends on to /v1/elsewhere, where nothing is sent; if you trust it, give that address"),
    ],
)
def test_an_answer_is_bounded_and_goes_nowhere_else(fault: str, said: str) -> None:
    with LLMServer(always=fault) as server:
        asked, started = client(server, timeout=20), time.monotonic()
        with pytest.raises(SupervisionError, match=said):
            asked.ask(QUESTION, GRADES)
        assert server.count == 1 and sum(asked.stats.failures.values()) == 1, "asked once, and counted"
        assert time.monotonic() - started < 5
        server.always = ""
        assert asked.ask(QUESTION, GRADES) == GOOD
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_what_a_server_says_cannot_command_a_terminal() -> None:
    with LLMServer(always="escapes") as server, pytest.raises(SupervisionError) as caught:
        client(server).ask_text(QUESTION, lambda text: text)
    assert "]0;owned[2Jgnp.exe31m bad" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "header", ["Fri, 31 Dec 999999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2300", "1e400", "nan", "-5", "soon", "9" * 400]
)
def test_a_retry_after_that_is_absurd(header: str) -> None:
    assert 0 <= endpoint._retry_after(header) < float("inf")


def test_closing_ends_what_is_under_way() -> None:
    with LLMServer(always="timeout") as server:
        asked, ends = client(server, timeout=60), []

        def run() -> None:
            with pytest.raises(SupervisionError, match="the run is over"):
                asked.ask(QUESTION, GRADES)
            ends.append(time.monotonic())

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        while server.count < 3:
            time.sleep(0.01)
        closed = time.monotonic()
        asked.close()
        for thread in threads:
            thread.join(timeout=5)
        assert len(ends) == 3 and max(ends) - closed < 2
        with pytest.raises(SupervisionError, match="the run is over"):
            asked.ask(QUESTION, GRADES)


def test_connections_that_post_first_at_once_share_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = asyncio.new_event_loop

    def slow() -> asyncio.AbstractEventLoop:
        time.sleep(0.05)
        return made()

    monkeypatch.setattr(endpoint, "_loops", {})
    monkeypatch.setattr(asyncio, "new_event_loop", slow)
    with LLMServer() as server, ThreadPoolExecutor(8) as pool:
        clients = [client(server, retries=0) for _ in range(8)]
        for _ in range(2):
            assert list(pool.map(lambda asked: asked.ask(QUESTION, GRADES), clients)) == [GOOD] * 8
        assert len(endpoint._loops) == 1


def test_a_client_used_before_a_fork_serves_parent_and_child() -> None:
    """In a process of its own: no fork of one that has torch's threads."""
    code = """
import os, warnings
warnings.simplefilter("ignore")
from test_llm_client import *
with LLMServer() as server:
    asked = client(server, retries=0)
    assert asked.ask(QUESTION, GRADES) == GOOD
    if not (child := os.fork()):
        good = False
        try:
            good = asked.ask(QUESTION, GRADES) == GOOD and asked.ask(QUESTION, GRADES) == GOOD
            asked.close()
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert asked.ask(QUESTION, GRADES) == GOOD
"""
    paths = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(llm_server.__file__).parent), *sys.path]!r}"
    done = subprocess.run([sys.executable, "-c", paths + code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_event_loop_gone_wrong_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("is bound to a different event loop")

    asked = client("http://127.0.0.1:9/v1", retries=1)
    monkeypatch.setattr(asked._connection._openai._client, "send", broken)
    with pytest.raises(SupervisionError, match="no connection"):
        asked.ask(QUESTION, GRADES)
    assert asked.stats.failures == {"connection": 1}
    monkeypatch.setattr(endpoint, "_loop", broken_loop)
    with pytest.raises(SupervisionError, match="new thread"):
        asked.ask(QUESTION, GRADES)
    asked.close()


def broken_loop() -> asyncio.AbstractEventLoop:
    raise RuntimeError("can't start new thread")


def test_nobody_listens() -> None:
    with LLMServer() as server:
        url = server.url
    asked = client(url)
    with pytest.raises(SupervisionError, match="no connection"):
        asked.ask(QUESTION, GRADES)
    assert asked.stats.failures == {"connection": 1} and asked.stats.calls == 3


@pytest.mark.parametrize("status", ["401", "403", "404", "408", "409"])
def test_other_refusals_are_not_retried(status: str) -> None:
    with LLMServer(always=status) as server:
        asked = client(server)
        with pytest.raises(SupervisionError, match=f"HTTP {status}"):
            asked.ask(QUESTION, GRADES)
        assert server.count == 1 and asked.stats.failures == {f"http {status}": 1}


@pytest.mark.parametrize(
    "fault",
    ["null_text", "empty_text", "words", "one_too_few", "ten_thousand", "excellent", "numbers", "two_objects", "deep", "half_character"],
)
def test_absurd_answer_is_refused_and_not_kept(fault: str, tmp_path: Path) -> None:
    with LLMServer(faults=[fault]) as server:
        asked = client(server, cache=tmp_path / "answers.sqlite")
        with pytest.raises(SupervisionError):
            asked.ask(QUESTION, GRADES)
        assert asked.stats.failures == {"answer": 1} and server.count == 1
        assert asked.ask(QUESTION, GRADES) == GOOD and asked.stats.cache_hits == 0


def test_half_a_character_is_refused_as_free_text_and_within_an_object(tmp_path: Path) -> None:
    with LLMServer(text=lambda request: "<think>\ud83d</think> fig") as server:
        asked = client(server, cache=tmp_path / "answers.sqlite")
        with pytest.raises(SupervisionError, match="half a character"):
            asked.ask_text([{"role": "user", "content": "x"}], lambda text: text)
        assert asked.stats.failures == {"answer": 1}
    with pytest.raises(SupervisionError, match=r"answer\.name holds half a character"):
        fit(read_object('{"name": "\\ud83d"}'), {"type": "object", "properties": {"name": {"type": "string"}}})
    assert fit(read_object('{"name": "\\ud83d\\ude00"}'), {"type": "object", "properties": {"name": {"type": "string"}}})


def test_cut_off_answer_is_refused() -> None:
    with LLMServer(always="cut_off") as server:
        asked = client(server)
        with pytest.raises(SupervisionError, match="raise max_tokens"):
            asked.ask_text(QUESTION, lambda text: text)
        assert asked.stats.failures == {"cut off": 1}


def test_retry_after_is_honoured() -> None:
    with LLMServer(faults=["429"], retry_after="0.3") as server:
        started = time.monotonic()
        assert client(server, backoff=0).ask(QUESTION, GRADES) == GOOD
        assert time.monotonic() - started >= 0.3
    with LLMServer(always="429", retry_after="3600") as server:
        with pytest.raises(SupervisionError, match="429"):
            client(server).ask(QUESTION, GRADES)
        assert server.count == 1, "an hour is not waited for"


@pytest.mark.parametrize(
    ("refuse", "way", "sent"),
    [
        ({"json_schema"}, "json_object", {"json_schema": 1, "json_object": 2}),
        ({"json_schema", "json_object"}, "prompt", {"json_schema": 1, "json_object": 1, "none": 2}),
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_refused_response_format_falls_back_once_and_says_so(refuse: set[str], way: str, sent: dict[str, int], status: int) -> None:
    notes: list[str] = []
    with LLMServer(refuse=refuse, refusal_status=status) as server:
        asked = client(server, note=notes.append)
        assert asked.ask(question("1 = 1"), GRADES) == asked.ask(question("2 = 2"), GRADES) == GOOD
        assert asked.structure == way and asked.stats.structure_fallbacks == 1 and len(notes) == 1 and way in notes[0]
        assert server.formats == sent
        assert (
            "JSON schema" in server.requests[-1]["messages"][-1]["content"]
            and "JSON schema" not in server.requests[0]["messages"][-1]["content"]
        )


def test_a_bad_request_for_another_reason_changes_nothing() -> None:
    with LLMServer(always="400") as server:
        asked = client(server)
        with pytest.raises(SupervisionError, match="HTTP 400"):
            asked.ask(QUESTION, GRADES)
        assert asked.structure == "json_schema" and asked.stats.structure_fallbacks == 0 and asked.stats.failures == {"http 400": 1}
        server.always = ""
        assert asked.ask(QUESTION, GRADES) == GOOD and server.formats["json_schema"] == 2


def test_second_run_asks_nothing_even_in_another_process(tmp_path: Path) -> None:
    cache = tmp_path / "sub" / "answers.sqlite"
    with LLMServer() as server:
        first = client(server, cache=cache)
        assert first.ask(QUESTION, GRADES) == GOOD and first.ask(QUESTION, GRADES) == GOOD
        assert (first.stats.calls, first.stats.cache_hits) == (1, 1)
        code = (
            "import json, sys; from pathlib import Path; from dyme.supervise.llm.client import Client, Endpoint\n"
            "url, cache, messages, schema = json.loads(sys.stdin.read())\n"
            "c = Client(Endpoint(url=url, model='m', max_tokens=64), cache=Path(cache))\n"
            "print(json.dumps([c.ask(messages, schema), c.stats.calls, c.stats.cache_hits]))"
        )
        sent = json.dumps([server.url, str(cache), QUESTION, GRADES])
        done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [GOOD, 0, 1] and server.count == 1


def test_cache_tells_questions_apart(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"
    with LLMServer() as server:
        client(server, cache=cache).ask(QUESTION, GRADES)
        client(server, cache=cache, model="other").ask(QUESTION, GRADES)
        client(server, cache=cache).ask(question("2 + 2 = 4"), GRADES)
        client(server, cache=cache).ask(QUESTION, {**GRADES, "required": []})
        assert server.count == 4


def test_kept_answer_that_no_longer_passes_is_asked_again(tmp_path: Path) -> None:
    def refuse(text: str) -> str:
        raise SupervisionError("too old")

    with LLMServer() as server:
        asked = client(server, cache=tmp_path / "answers.sqlite")
        asked.ask_text(QUESTION, lambda text: text)
        with pytest.raises(SupervisionError, match="too old"):
            asked.ask_text(QUESTION, refuse)
        assert server.count == 2 and asked.stats.cache_hits == 0


def test_threads_and_clients_share_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"
    texts = [f"{i} = {i}" for i in range(20)]
    with LLMServer(latency_seconds=0.005, slots=4) as server:
        clients = [client(server, cache=cache), client(server, cache=cache)]
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(c.ask, question(text), GRADES) for text in texts for c in clients]
            assert [job.result() for job in jobs] == [GOOD] * 40
        assert sum(c.stats.calls + c.stats.cache_hits for c in clients) == 40 and server.count == sum(c.stats.calls for c in clients)
        assert 2 <= server.most_running <= 4
        before = server.count
        assert [clients[0].ask(question(text), GRADES) for text in texts] == [GOOD] * 20 and server.count == before


def test_broken_cache_is_an_error_at_the_start_and_counted_later(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"not a database" * 100)
    with LLMServer() as server:
        with pytest.raises(ConfigError, match="move it away"):
            client(server, cache=tmp_path / "broken")
        notes: list[str] = []
        asked = client(server, cache=tmp_path / "fine", note=notes.append)
        asked.close()  # the file goes away under the client
        fresh = client(server, note=notes.append)
        asked._connection = fresh._connection
        assert asked.ask(QUESTION, GRADES) == GOOD and asked.stats.cache_errors == 2 and len(notes) == 1


def test_budget_of_calls_holds_across_threads_and_counts_retries() -> None:
    with LLMServer() as server:
        asked = client(server, max_calls=5)
        outcomes: list[str] = []

        def run(i: int) -> None:
            try:
                asked.ask(question(f"{i} = {i}"), GRADES)
                outcomes.append("good")
            except SupervisionError as error:
                outcomes.append("spent" if "budget of 5 calls is spent" in str(error) else str(error))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["good"] * 5 + ["spent"] * 7
        assert server.count == asked.stats.calls == 5 and asked.stats.failures == {"budget": 7}
    with LLMServer(always="500") as server:
        asked = client(server, max_calls=2, retries=5)
        with pytest.raises(SupervisionError, match="budget"):
            asked.ask(QUESTION, GRADES)
        assert server.count == 2


def test_budget_of_tokens() -> None:
    with LLMServer() as server:
        asked = client(server, max_tokens_total=200)
        asked.ask(question("1 = 1"), GRADES)
        asked.ask(question("2 = 2"), GRADES)
        with pytest.raises(SupervisionError, match="200 tokens"):
            asked.ask(question("3 = 3"), GRADES)
        assert server.count == 2 and asked.stats.failures == {"budget": 1}


def test_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYME_TEST_KEY", raising=False)
    with LLMServer() as server:
        endpoint = Endpoint(url=server.url, model="m", api_key_env="DYME_TEST_KEY")
        with pytest.raises(ConfigError, match="DYME_TEST_KEY"):
            Client(endpoint)
        for value in ("s3cret", "s3cret\n", " s3cret\r\n"):
            monkeypatch.setenv("DYME_TEST_KEY", value)
            Client(endpoint).ask(QUESTION, GRADES)
            assert server.headers[-1]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("value", ["s3cret\nmore", "\u201cs3cret", "s3cret\x7f", "s3\tcret"])
def test_a_key_that_cannot_be_sent_is_an_error_at_the_start_that_does_not_tell_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYME_TEST_KEY", value)
    with pytest.raises(ConfigError, match="DYME_TEST_KEY") as caught:
        Client(Endpoint(url="http://127.0.0.1:1/v1", model="m", api_key_env="DYME_TEST_KEY"))
    assert "cret" not in str(caught.value)


def test_a_key_in_place_of_its_variables_name_is_not_told() -> None:
    with pytest.raises(ConfigError, match="name of an environment variable") as caught:
        Endpoint(url="http://127.0.0.1:1/v1", model="m", api_key_env="sk-s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("fault", ["401", "500", "echo"])
def test_no_message_holds_the_key(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers repeat the key that they refuse."""
    monkeypatch.setenv("DYME_TEST_KEY", "told")  # a word of the server's own message
    with LLMServer(always=fault) as server:
        asked = Client(Endpoint(url=server.url, model="m", api_key_env="DYME_TEST_KEY", max_retries=0))
        with pytest.raises(SupervisionError, match=r"\[key\] to fail") as caught:
            asked.ask(QUESTION, GRADES)
    assert "told" not in str(caught.value)


def test_what_breaks_a_connection_is_told_without_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    with LLMServer() as server:
        asked = client(server, retries=0)
        asked._connection._openai.api_key = "s3cret\n"  # as if the check at the start had missed it
        with pytest.raises(SupervisionError, match=r"no connection \(\w*Error\)") as caught:
            asked.ask(QUESTION, GRADES)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SupervisionError, match=r"no connection \(.*(refused|failed)"):
        client(server, retries=0).ask(QUESTION, GRADES)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "localhost:8000", "model": "m"},
        {"url": "http://user:key@host/v1", "model": "m"},
        {"url": "http://host/v1", "model": ""},
        {"url": "http://host/v1", "model": "m", "timeout_seconds": 0},
        {"url": "http://host/v1", "model": "m", "max_retries": -1},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Endpoint(**settings)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install 'dyme\[llm\]'"):
        client("http://127.0.0.1:1/v1")


def test_importing_supervision_imports_no_client_and_no_torch() -> None:
    code = (
        "import sys, dyme.supervise.llm.client, dyme.supervise.llm.roles, dyme.supervise.roles, dyme.targets\n"
        "sys.exit(' '.join({'openai', 'httpx', 'httpx2', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"grades": ["high"]}',
        '```json\n{"grades": ["high"]}\n```',
        'Here it is:\n{"grades": ["high"]}\nHope this helps.',
        '<think>one {"grades": ["low"]} perhaps</think>{"grades": ["high"]}',
        '{"grades": [" HIGH\\n"], "because": "it is good"}',
    ],
)
def test_harmless_repairs(text: str) -> None:
    assert fit(read_object(text), GRADES) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}{",
        "high",
        '["high"]',
        '{"grades": "high"}',
        '{"grades": []}',
        '{"grades": ["highest"]}',
        '{"grades": [NaN]}',
        '{"Grades": ["high"]}',
    ]
    + [
        '{"grades": ["high"]} {"grades": ["low"]}',
        '{"grades": [["high"]]}',
        '{"grades": [null]}',
        '{"grades": ["flow"]}',
        '{"grades": ["low high"]}',
    ],
)
def test_refused_answers(text: str) -> None:
    with pytest.raises(SupervisionError):
        fit(read_object(text), GRADES)


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        json.dumps
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SupervisionError):
        assert fit(read_object(text), GRADES)["grades"][0] in ("low", "medium", "high")
