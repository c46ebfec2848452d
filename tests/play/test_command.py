"""dyme play refuses in one line what cannot work, before a server starts."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyme.cli.looking import play as command
from dyme.cli.main import main


@pytest.fixture
def gradio(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let gradio seem to be there; what is tested ends before it is used."""
    real = importlib.util.find_spec
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: True if name == "gradio" else real(name))
    monkeypatch.setattr(command, "_stay_here", lambda models: None)
    yield


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["play", *words]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def test_without_gradio_the_line_says_what_to_install(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'dyme[play]'" in refused(capsys, "embedded")


def test_a_port_in_use_a_wrong_model_and_wrong_numbers_are_a_line(gradio: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((command.HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port}: cannot be used (Address already in use)" in refused(capsys, "embedded", "--port", port)
    assert "--port is 70000" in refused(capsys, "embedded", "--port", "70000")
    assert "--samples must be at least 1" in refused(capsys, "embedded", "--samples", "0")
    assert "no such folder" in refused(capsys, str(tmp_path / "none"), "--port", "0", "--samples", "1")
    assert "has no config.json" in refused(capsys, "embedded", "--beside", str(tmp_path), "--port", "0", "--samples", "1")


def test_a_folder_is_called_by_its_last_part_a_runs_model_by_the_run(tmp_path: Path) -> None:
    for place in ("charts/model", "charts/checkpoints/step-000010/model"):
        (tmp_path / place).mkdir(parents=True)
    assert command._called(str(tmp_path / "charts")) == command._called(str(tmp_path / "charts/model")) == "charts"
    assert command._called("embedded") == "embedded" and command._called("org/name") == "org/name"
    assert command._called(str(tmp_path / "charts/checkpoints/step-000010/model")) == "step-000010"
