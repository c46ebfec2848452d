"""What the system does to a run: one writer for a folder, streams that go away, damage, and a sample of `faults.py`'s campaign."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from forked import Child
from runs import ENVIRONMENT, ROOT, SMALL, lines, recipe, small, snapshot

from dyme.cli.main import main
from dyme.errors import ConfigError, RunError, at, system_error, told
from dyme.evaluation.items import ItemFolder
from dyme.recipe import build, load_recipe
from dyme.system import lock, signals, terminal
from dyme.system.files import whole_folder, write_whole
from dyme.tracking.display import Display, open_console
from dyme.tracking.run_folder import RunFolder
from dyme.training import loop

FORK = multiprocessing.get_context("fork")


def _hold(folder: Path, ready: Event) -> None:
    with lock.hold(folder):
        ready.set()
        signal.pause()


# One writer


def test_a_second_command_is_refused_and_the_first_ones_death_frees_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.create(tmp_path / "run", small(tmp_path / "run"))
    (tmp_path / "eval").mkdir()
    for folder, words in {
        run.path: ["train", "--resume", str(run.path)],
        tmp_path / "eval": ["eval", "embedded", "--task.test_size=1", "--out", str(tmp_path / "eval")],
        tmp_path / "out": ["compare", str(recipe(tmp_path / "r.toml", SMALL)), "--methods=base", "--out", str(tmp_path / "out")],
    }.items():
        ready = FORK.Event()
        other = FORK.Process(target=_hold, args=(folder, ready))
        other.start()
        try:
            assert ready.wait(20)
            assert main(words) == 2
            assert f"{folder}: another process ({other.pid} on " in capsys.readouterr().err
        finally:
            other.kill()
            other.join()
        with lock.hold(folder):
            assert (folder / lock.NAME).read_text().startswith(f"{os.getpid()} on ")
        assert not (folder / lock.NAME).exists()


def test_a_lock_leaves_no_folder_behind_and_may_be_held_again_by_its_holder(tmp_path: Path) -> None:
    with lock.hold(tmp_path / "a/b"), lock.hold(tmp_path / "a/b"):
        assert (tmp_path / "a/b/.lock").is_file()
    assert not (tmp_path / "a").exists()
    with lock.hold(tmp_path / "a"):
        (tmp_path / "a/kept").touch()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_fork_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    with lock.hold(tmp_path / "a"):
        child = FORK.Process(target=signal.pause)
        child.start()
    try:
        with lock.hold(tmp_path / "a"):
            pass
    finally:
        child.kill()
        child.join()


def test_a_cell_ends_with_the_comparison_that_started_it() -> None:
    code = "import time; from dyme.comparison import processes; processes.end_with_parent(); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdin and process.stdout
    process.stdout.readline()
    process.stdin.close()
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()


# Streams and signals


class Broken(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "status", "words"), [(errno.EPIPE, 141, ""), (errno.EIO, 141, ""), (errno.ENOSPC, 2, "No space left on device")]
)
def test_a_stream_that_fails_costs_no_work(number: int, status: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(number))
    with terminal.outlets() as shown:
        Display(open_console()).note("a line")
        print("another")
        found, line = terminal.status_of(shown, 0)
        assert found == status and words in line and terminal.status_of(shown, 130) == (130, "")


def test_what_an_encoding_lacks_is_shown_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with terminal.outlets():
        print("naïve \ud83d")
    assert raw.getvalue() == b"na\\xefve \\ud83d\n"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b]0;title\x07\x1b[2J", "]0;title[2J"),
        ("a\x9b31mb\x7f\x00\x08", "a31mb"),
        ("\u202egnp.exe\u2066\u200f\u061c\u2028", "gnp.exe"),
        ("half \ud83d", "half \ufffd"),
        ("tab\tand\nline, naïve 文字 👩\u200d🔬", "tab\tand\nline, naïve 文字 👩\u200d🔬"),
    ],
)
def test_text_from_outside_commands_no_terminal(text: str, plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.plain(text) == plain
    console = open_console()
    Display(console).note(text)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and terminal.plain(shown).strip() == shown.strip()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            with signals.Interrupt() as second:
                os.kill(os.getpid(), signal.SIGHUP)
                assert second.requested
    finally:
        signal.signal(signal.SIGHUP, before)


# Lines


def test_errors_of_the_system_are_told_with_path_and_remedy() -> None:
    assert (
        told(OSError(errno.ENOSPC, "No space left on device", "/a/b"))
        == "/a/b: No space left on device; free some, or choose another place"
    )
    for error in (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    ):
        found = system_error(error)
        assert found and found.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught, at(Path("/x")):
            raise error
        assert told(caught.value).startswith("/x: ")
    loop = system_error(RuntimeError("Symlink loop from '/a/loop'"))
    assert loop and told(loop) == f"/a/loop: {os.strerror(errno.ELOOP)}; its links lead in a circle; correct them"
    assert system_error(RuntimeError("shapes differ")) is None
    with pytest.raises(RuntimeError, match="shapes differ"), at(Path("/x")):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    "content",
    [b"x = " + b"9" * 5000, b"x = " + b"[" * 5000, b"\xff\xfe", b'[task]\nname = "a\\u0000b"', b"[" + b"a." * 5000 + b"a]"],
)
def test_a_recipe_that_cannot_be_read_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "r.toml")


def test_a_recipe_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf[run]\nseed = 7\n")
    assert load_recipe(tmp_path / "r.toml") == build({"run": {"seed": 7}})


# Half-made and damaged folders


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    left = tmp_path / ".out.part"  # by a killed process
    (left / "sub").mkdir(parents=True)
    (left / "sub/old").touch()
    with pytest.raises(OSError), whole_folder(tmp_path / "out") as part:
        (part / "new").touch()
        raise OSError(errno.ENOSPC, "full")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as part:
        (part / "new").touch()
        assert not any((tmp_path / "out").iterdir())
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["new"] and [file.name for file in tmp_path.iterdir()] == ["out"]
    with pytest.raises(OSError):
        write_whole(tmp_path / "out/new/x", b"1")


def test_what_a_command_left_that_was_killed_as_it_began_is_no_other_run(tmp_path: Path) -> None:
    for name in (".lock", ".config.json.tmp", ".versions.json.tmp", "versions.json"):
        (tmp_path / name).touch()
    RunFolder.create(tmp_path, build({}))
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "config.json", "versions.json"]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/.settings.json.tmp").touch()
    ItemFolder.check_place(tmp_path / "eval")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three steps with all its checkpoints."""
    run = tmp_path_factory.mktemp("trained") / "run"
    loop.train(small(run, "run.save_every=1", "run.keep_checkpoints=3"))
    return run


@pytest.mark.parametrize("damage", ["state/optimizer.bin", "position.json"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(damage: str, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "model")
    [file] = (run / "checkpoints/step-000003").glob(damage)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    loop.train(small(run), resume=True)
    assert snapshot(run / "model") == snapshot(trained / "model")
    [note] = [row["message"] for row in lines(run / "events.jsonl") if "damaged" in row.get("message", "")]
    assert note.startswith("checkpoint step-000003 is damaged (") and note.endswith("going on from step 2")


def test_a_run_without_a_checkpoint_that_can_be_read_is_left_as_it_is(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    for position in run.glob("checkpoints/*/position.json"):
        position.write_text("{")
    before = snapshot(run)
    with pytest.raises(RunError, match="nor can any before it"):
        loop.train(small(run), resume=True)
    assert snapshot(run) == before


def test_a_sample_of_the_campaign() -> None:
    process = Child([sys.executable, ROOT / "tests/real/faults.py", "--every", "45"], env=ENVIRONMENT)
    out, error = process.communicate()
    assert process.returncode == 0, out + error
    assert json.loads(out.splitlines()[-1].split()[0]) >= 7


def test_a_message_never_prints_a_word_of_thousands_of_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "x" * 5000]) == 2
    said = capsys.readouterr().err
    assert len(said) < 400 and " characters)" in said and said.endswith("choose a shorter one\n")
