"""What a user sees: the live panel, plain lines, and tables that survive narrow terminals, pipes and odd names."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
from rich.console import Console

from dyme.config import Config
from dyme.tracking.display import Display, Pace, open_console, show_answer_kinds, show_kinds, show_listing, show_results
from dyme.types import StepRecord

METRICS = {
    "share_memorize": 0.7, "share_explore": 0.2, "share_mixed": 0.0, "share_skip": 0.1, "accuracy": 0.125, "format_rate": 0.4,
    "reward": 1.2,
    "sampled_tokens": 4000.0, "trained_tokens": 2000.0, "seconds_rollout": 2.0, "seconds_update": 3.0, "loss": 1.5,
}  # fmt: skip
FIGURES = ("memorize 70%", "explore 20%", "skip 10%", "correct 12.5%", "format 40%", "reward 1.20", "1,200 tok/s")


def record(step: int, **metrics: float) -> StepRecord:
    """Five steps are the whole budget."""
    known = METRICS | {"progress": min(1.0, step / 5)} | metrics
    return StepRecord(step=step, prompts=32 * step, epoch=0.1, seconds=5.0 * step, metrics=known)


def console(width: int, *, terminal: bool) -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=width, force_terminal=terminal, color_system=None, highlight=False), output


def screen(output: io.StringIO) -> list[str]:
    """The lines of the last frame that was drawn."""
    return re.split(r"\x1b\[[0-9;?]*[A-Za-z]|\r", output.getvalue())[-2].splitlines()


# While a run goes on


def test_plain_lines_where_there_is_no_terminal() -> None:
    where, output = console(80, terminal=False)
    display = Display(where, every=2)
    with display.training(Config()):
        for step in range(1, 6):
            display.step(record(step), "dyme")
    lines = output.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step 2 dyme 40% 10s", "step 4 dyme 80% 20s", "step 5 dyme 100% 25s"]
    assert all(words in line for line in lines for words in FIGURES)
    assert "15s left" in lines[0]
    assert "\x1b" not in output.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_live_panel_shows_everything(width: int) -> None:
    where, output = console(width, terminal=True)
    display = Display(where)
    with display.training(Config()):
        for step in range(1, 4):
            display.step(record(step), "grpo")
        display.note("a note [with brackets]")
    lines = screen(output)
    text = " ".join(lines)
    assert all(words in " ".join(text.split()) for words in (*FIGURES, "grpo", "60%", "left"))
    assert all(len(line) <= width for line in lines)
    assert "a note [with brackets]" in output.getvalue()
    assert "…" not in text


def test_panel_before_the_first_step_and_after_an_error() -> None:
    where, output = console(80, terminal=True)
    display = Display(where)
    with pytest.raises(KeyError), display.training(Config()):
        raise KeyError
    assert "first step" in output.getvalue()
    display.step(record(10), "dyme")
    assert "step 10 dyme 100% 50s, 0s left" in output.getvalue(), "the last batch may go beyond the budget"


def test_stage_without_rollouts_shows_its_loss() -> None:
    where, output = console(80, terminal=False)
    display = Display(where, every=1)
    metrics = {"progress": 0.5, "share_memorize": 1.0, "loss": 0.5, "trained_tokens": 100.0, "seconds_rollout": 0.0, "seconds_update": 2.0}
    with display.training(Config()):
        display.step(StepRecord(step=1, prompts=4, epoch=0.1, seconds=1.0, metrics=metrics), "sft")
    assert "memorize 100% explore 0% skip 0% | loss 0.500 | 50 tok/s" in output.getvalue()


def test_figures_are_means_of_the_last_steps_and_survive_nan() -> None:
    where, output = console(80, terminal=False)
    display = Display(where, every=20)
    with display.training(Config()):
        for step in range(1, 21):
            display.step(record(step, reward=float(step), loss=math.nan, redrawn_groups=3.0), "dyme")
    assert "reward 15.50 | drawn again 3.0 | " in output.getvalue()


def test_quiet_display_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display.quiet()
    with display.training(Config()):
        display.step(record(10), "dyme")
        display.note("nothing")
    assert capsys.readouterr().out == ""


# Tables


def result(value: float, *, n: int = 1000, stated: int = 352, seeds: int | None = None) -> dict[str, Any]:
    more = {} if seeds is None else {"seeds": seeds}
    figure = {"value": value, "low": value - 0.03, "high": value + 0.03, "n": n, **more}
    names = ("think_accuracy", "direct_accuracy", "format_rate", "pass_at_1", "pass_at_8", "all_wrong")
    long = {"mean_length": {"value": 21.5, "low": 20.25, "high": 22.75, "n": n}, "true_statements": figure | {"n": stated}}
    return {"metrics": dict.fromkeys(names, figure) | long}


FIVE = {
    name: result(0.1 * k, stated=300 + k)
    for k, name in enumerate(("base / any", "sft / low", "grpo / any", "two_stage / low", "dyme / low"), 3)
}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_narrow_terminals_get_several_whole_tables(width: int) -> None:
    where, output = console(width, terminal=True)
    show_results(where, FIVE)
    text = output.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert all(text.count(name) == 1 for name in FIVE)
    assert text.count("70.0% [67.0, 73.0]") == 6, "five shares and the statements' one, each in one piece"
    assert text.count("accuracy, thinking") == {60: 5, 80: 3, 120: 2, 200: 1}[width]


def test_piped_tables_are_markdown_in_one_piece(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_results(open_console(), FIVE)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "n", *FIVE]
    assert set("".join(cells[1])) == {"-"}
    table = {row[0]: row[1:] for row in cells[2:]}
    assert list(table) == ["accuracy, thinking", "accuracy, direct", "pass@1", "pass@8", "format rate", "true statements", "length, tokens"]
    assert table["accuracy, thinking"][:2] == ["1000", "30.0% [27.0, 33.0]"]
    assert table["true statements"][0] == "303-307", "each model states as much as it likes"
    assert table["length, tokens"][1] == "21.5 [20.2, 22.8]"


def test_rarer_figures_seeds_and_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    gap = result(0.5)
    del gap["metrics"]["format_rate"]
    show_results(open_console(), {"a": result(0.5, seeds=3), "b": gap}, every=True)
    text = capsys.readouterr().out
    assert "all wrong" in text
    assert "means of 3 seeds" in text
    row = next(line for line in text.splitlines() if "format rate" in line)
    assert row.count("50.0%") == 1


def test_figures_of_nothing_are_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = result(0.5)
    nothing["metrics"]["true_statements"] = {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    show_results(open_console(), {"a": nothing})
    row = next(line for line in capsys.readouterr().out.splitlines() if "true statements" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["true statements", "0", "-"]


@pytest.mark.parametrize("width", [74, 80])
def test_answer_kinds_have_their_own_metric_and_intervals(width: int) -> None:
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1234}
    accuracies = {"think_accuracy": share, "direct_accuracy": share}
    where, output = console(width, terminal=True)
    show_answer_kinds(where, {"closed": accuracies, "open": accuracies | {"think_score": share, "direct_score": share | {"value": 0.55}}})
    text = output.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert [words in text for words in ("closed, accuracy", "open, accuracy", "open, recall", "closed, score")] == [True] * 3 + [False]
    assert (text.count("50.0% [40.0, 60.0]"), text.count("55.0% [40.0, 60.0]"), text.count("1234")) == (5, 1, 3)


def test_breakdowns_of_one_prompt_leave_the_other_out(capsys: pytest.CaptureFixture[str]) -> None:
    direct = {"direct_accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}}
    show_answer_kinds(open_console(), {"yes_no": direct})
    show_kinds(open_console(), {"colour": direct})
    text = capsys.readouterr().out
    assert text.count("50.0%") == 2
    assert "thinking" not in text


def test_pace_counts_from_its_first_report() -> None:
    """What an earlier call did is no part of the rate."""
    clock = iter([0.0, 100.0, 110.0, 120.0, 121.0, 121.0, 150.0, 190.0])
    pace = Pace(lambda: next(clock))
    assert pace.report(600, 1000) == ""
    assert pace.report(600, 1000) == "", "nothing was done"
    assert pace.report(650, 1000) == "2.5 a second, 0:02:20 left"
    assert pace.report(1000, 1000) == "19 a second, 0:00:00 left"
    assert [pace.due(), pace.due(), pace.due()] == [True, False, True]


def test_pace_of_an_unknown_total_says_no_time_left() -> None:
    clock = iter([0.0, 100.0, 110.0])
    pace = Pace(lambda: next(clock))
    assert [pace.report(0, 0), pace.report(25, 0)] == ["", "2.5 a second"]


def test_names_are_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {name: {"value": 0.5, "n": 4} for name in ("think_accuracy", "direct_accuracy")}
    show_results(open_console(), {"runs/[red]/[/b]": result(0.5)})
    show_kinds(open_console(), {"[/]": shares, "sum": shares})
    show_listing(open_console(), ("name", "what"), [("[bold]", "x [/] y")])
    text = capsys.readouterr().out
    assert all(words in text for words in ("runs/[red]/[/b]", "| [/] ", "[bold]", "x [/] y"))


def test_listings_are_not_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show_listing(open_console(), ("name", "what"), [("a", "word " * 40), ("b", "")])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_listings_keep_to_a_terminal() -> None:
    where, output = console(80, terminal=True)
    show_listing(where, ("name", "what"), [("a", "word " * 40)])
    assert all(len(line) <= 80 for line in output.getvalue().splitlines())
    assert output.getvalue().count("word") == 40
