"""The process that runs math-verify: it is killed in time, comes back, and cannot be made to do anything else."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyme.errors import ConfigError
from dyme.verify import algebra, worker
from dyme.verify.worker import Worker


@pytest.fixture
def one() -> Iterator[Worker]:
    made = Worker(seconds=20)
    yield made
    made.stop()


def test_it_compares_in_one_process(one: Worker) -> None:
    assert one.same("x+1", "1+x") is True and one.same("(0,2]", "[0,2]") is False and one.same("{", "}") is False
    assert (one.starts, one.overruns) == (1, 0)


def test_an_endless_expression_is_cut_off_and_the_next_one_answered(one: Worker, caplog: pytest.LogCaptureFixture) -> None:
    assert one.same("x", "x") is True
    one.seconds = 0.5
    with caplog.at_level(logging.WARNING):
        assert one.same("5", "10^{10^{10}}") is None
    assert one.overruns == 1 and "took over 0.5 s and counts as wrong (1 so far)" in caplog.text
    one.seconds = 20
    assert one.same("x+1", "1+x") is True and one.starts == 2


def test_a_dead_process_is_replaced(one: Worker) -> None:
    assert one.same("x", "x") is True and one._process is not None
    one._process.kill()
    one._process.wait()
    assert one.same("x", "y") is False and (one.starts, one.overruns) == (2, 0)


QUESTIONS = [("x+1", "1+x"), ("x+1", "x"), ("x^2", "x*x"), ("2x", "3x")]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_an_interrupt_between_question_and_reply_shifts_no_verdict(one: Worker) -> None:
    """The process is halted, so the alarm surely strikes between the two; its reply then waits in the pipe."""

    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        assert one.same("x", "x") is True and one._process is not None
        os.kill(one._process.pid, signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            one.same("x", "y")
        os.kill(one._process.pid, signal.SIGCONT)
        assert [one.same(*pair) for pair in QUESTIONS] == [True, False, True, False]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (one.starts, one.overruns) == (2, 0)


def test_a_reply_of_another_number_and_a_line_that_is_none_are_passed_over(one: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    late = "import sys\nfor line in sys.stdin:\n print('{\"number\": 0, \"same\": true}', '[]', 'noise', sep='\\n')\n"
    late += " import json; n = json.loads(line)['number']; print(json.dumps({'number': n, 'same': n == 1}), flush=True)"
    popen = subprocess.Popen
    monkeypatch.setattr(worker.subprocess, "Popen", lambda command, **given: popen([sys.executable, "-c", late], **given))
    assert [one.same(*pair) for pair in QUESTIONS] == [False] * 4 and one.starts == 1


def test_ctrl_c_of_the_terminal_does_not_end_the_process(one: Worker) -> None:
    assert one.same("x", "x") is True and one._process is not None
    os.kill(one._process.pid, signal.SIGINT)
    assert one.same("x+1", "1+x") is True and one.starts == 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path({file!r}).touch()",
        "open({file!r},'w')",
        r"\text{{__import__('pathlib').Path({file!r}).touch()}}",
        r"\operatorname{{open}}({file!r})",
        "5 $ __import__('pathlib').Path({file!r}).touch() $ 5",
        "$ and 1+__import__('pathlib').Path({file!r}).touch()",
    ],
)
def test_nothing_is_executed(text: str, tmp_path: Path, one: Worker) -> None:
    file = tmp_path / "made"
    hostile = text.format(file=str(file))
    one.same("5", hostile)
    one.same(hostile, "5")
    assert not file.exists()


def test_python_evaluates_nothing() -> None:
    """With a trap in place of SymPy's eval, algebra still works, numerals and all."""
    trap = (
        "import runpy, sys, math_verify, math_verify.parser as m, sympy.parsing.sympy_parser as s, sympy.physics.units\n"
        "def trapped(*a, **k): sys.exit(3)\n"
        "m.parse_expr = m.extract_expr = s.eval = trapped\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    pairs = [
        ("x+1", "1+x"),
        ("5", "2+3"),
        ("1.50x", "\\frac{3}{2}x"),
        ("5", "the answer is 2+3"),
        ("5", "1e5"),
        ("5", "5\\%"),
    ]
    lines = "".join(json.dumps({"target": target, "prediction": prediction}) + "\n" for target, prediction in pairs)
    done = subprocess.run([sys.executable, "-c", trap, algebra.__file__], input=lines, capture_output=True, text=True, check=True)
    assert [json.loads(line)["same"] for line in done.stdout.splitlines()] == [True, True, True, False, False, True]


@pytest.mark.parametrize(
    "code", ["__import__ ('os' )", "Symbol ('x' )", "Integer (5 )+Integer (6 )", "Integer (__import__('os'))", "Float ('nan' )", ""]
)
def test_only_numerals_are_read(code: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        algebra.numeral(code)
    assert algebra.numeral("Integer (5 )") == 5 and algebra.numeral("Float ('1.5' )", {}, {}) == 1.5


def test_no_torch_and_nothing_of_ours_is_loaded() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); print([m for m in ('torch', 'dyme') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, algebra.__file__], input="", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="rlimits are of Unix")
def test_it_may_not_write_files(tmp_path: Path) -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['limit'](); open(sys.argv[2], 'w', buffering=1).write('x' * 9999)"
    done = subprocess.run([sys.executable, "-c", code, algebra.__file__, str(tmp_path / "file")], capture_output=True, text=True)
    assert done.returncode and "File too large" in done.stderr and (tmp_path / "file").stat().st_size == 0


def _in_child(one: Worker, queue: multiprocessing.Queue[tuple[bool | None, int]]) -> None:
    queue.put((one.same("x+1", "1+x"), one.starts))
    one.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_a_process_of_its_own(one: Worker) -> None:
    assert one.same("x", "x") is True
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[bool | None, int]] = context.Queue()
    child = context.Process(target=_in_child, args=(one, queue))
    child.start()
    assert queue.get(timeout=120) == (True, 2)
    child.join()
    assert one.same("x", "y") is False and one.starts == 1


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs math-verify; pip install 'dyme\[math\]'"):
        worker.check_installed()
    with pytest.raises(ConfigError, match="math-verify"):
        Worker().same("x", "y")


def test_a_broken_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('no antlr')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="math-verify cannot be run"):
        Worker().same("x", "y")


def test_one_worker_is_shared() -> None:
    assert worker.shared() is worker.shared()
