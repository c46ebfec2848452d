"""The paths of single prompts over a run, and what the page says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import group, route

from dyme.config import Config
from dyme.report.page import write_page
from dyme.report.paths import ORIGINS, SHOWN, Paths, choose
from dyme.tracking.run_folder import RunFolder
from dyme.types import Sample


def paths_of(told: dict[str, str]) -> Paths:
    """Paths from text: "M0 E2" is memorized at step 1 with none of 4 right, then explored at step 2 with two."""
    modes = {"M": "memorize", "E": "explore", "X": "mixed", "S": "skip"}
    rows: list[dict[str, Any]] = []
    for name, visits in told.items():
        for step, (mode, right) in enumerate(visits.split(), start=1):
            completions = [{"correct": k < int(right)} for k in range(4)]
            rows.append({"step": step, "id": name, "question": f"{name}?", "mode": modes[mode], "completions": completions})
    found = Paths()
    for row in sorted(rows, key=lambda row: row["step"]):
        found.add(row)
    return found


def test_what_came_before_a_prompt_was_first_right() -> None:
    told = {"a": "E1 S4", "b": "M0 M0 E2", "c": "X0 E1", "d": "E0 E1", "e": "S0 S0 E1 M0", "f": "M0 M0", "g": "M0"}
    found = paths_of(told)
    assert {name: path.origin for name, path in found.items()} == {
        "a": "first", "b": "memorize", "c": "memorize", "d": "explore", "e": "skip", "f": "never", "g": "never",
    }  # fmt: skip
    section = found.section(linked={"a"})
    assert section is not None
    assert (section["prompts"], section["again"], section["once"], section["lost"]) == (7, 6, 1, 1)
    assert [label for label, *_ in section["origins"]] == [label for label, _ in ORIGINS.values()]
    assert [count for _, _, count, _ in section["origins"]] == [1, 2, 1, 1, 2]
    assert [(path.id, linked) for path, linked, _ in section["rows"]][:2] == [("a", True), ("c", False)], "sorted by the step first right"
    assert section["columns"] == [0, 1, 2, 3] and section["rows"][0][2][2:] == [None, None]
    assert "visit" in section["plot"].svg


def test_a_draw_behind_a_hint_counts_for_nothing() -> None:
    found = Paths()
    draws = [{"prefix": "", "completions": 4, "correct": 0}]
    found.add({"step": 1, "id": "a", "question": "?", "mode": "explore", "completions": [{"correct": True}] * 4, "draws": draws})
    assert found["a"].visits[0][2:] == (0, 4)


def test_the_choice_is_bounded_and_has_every_origin() -> None:
    told = {f"m{k}": "M0 " * (k % 30 + 1) + "E1" for k in range(300)} | {f"n{k}": "M0 M0" for k in range(4)} | {"e": "E0 E1"}
    found = paths_of(told)
    chosen = choose(list(found.values()))
    assert len(chosen) <= SHOWN and {path.origin for path in chosen} == {"memorize", "never", "explore"}
    steps = [path.visits[path.first].step for path in chosen if path.origin == "memorize" and path.first is not None]
    assert (steps[0], steps[-1]) == (2, 31) and len(set(steps)) > 15, "spread over the steps at which they were first right"
    section = found.section(linked=())
    assert section is not None and section["columns"][0] == 0 and section["columns"][-1] == 30 and len(section["columns"]) == 10


def test_the_page_shows_the_paths_with_or_without_repeats(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Config())
    samples = [Sample(id=f"row {k} & <b>", question=f"How many <i>{k}</i>?", answer="1") for k in range(2)]
    run.log_rollouts(1, [group(s, 0) for s in samples], [route(0)] * 2)
    text = write_page(run.path).read_text()
    assert "No prompt came twice in this run" in text and "2 of these were seen only once" in text
    run.log_rollouts(2, [group(s, k) for k, s in enumerate(samples)], [route(k) for k in range(2)])
    text = write_page(run.path).read_text()
    assert "first right after being memorized" in text and "No prompt came twice" not in text
    assert '<a href="#text=row+0+%26+%3Cb%3E">How many &lt;i&gt;0&lt;/i&gt;?</a>' in text
    assert '<td class="visit explore first"><abbr title="explore">E</abbr> 1/4 <small>step 2</small></td>' in text


def test_a_run_that_samples_nothing_has_no_paths() -> None:
    found = Paths()
    found.add({"step": 1, "id": "a", "question": "?", "mode": "memorize", "completions": []})
    assert found.section(linked=()) is None
