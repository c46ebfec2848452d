"""The report: complete, self-contained, tolerant of what a run lacks, and safe with whatever a model or a data set wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL, Tags, group, make_run, metric, route
from PIL import Image

from dyme.config import Config, MethodConfig, ModelConfig, RunConfig, TaskConfig
from dyme.errors import RunError
from dyme.report import samples
from dyme.report.page import write_page
from dyme.report.plots import Line, Strip, areas, lines, strips
from dyme.report.render import data_uri, figure, interval, script_json
from dyme.report.series import ends, prompts_seen, smooth, totals
from dyme.tasks import charts
from dyme.tracking.group_rows import line_of
from dyme.tracking.run_folder import RunFolder
from dyme.types import Branch, Group, Route, Sample, StepRecord

FLAGS = ["--headless", "--no-sandbox", "--no-first-run"]
FLAGS += [f"--disable-{name}" for name in ("gpu", "quic", "background-networking", "component-update", "sync")]


@dataclass(frozen=True)
class Plain:
    key: str
    size: tuple[int, int] = (8, 8)

    def load(self) -> Image.Image:
        return Image.effect_noise(self.size, 80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its page."""
    run = make_run(tmp_path_factory.mktemp("page") / "run").path
    write_page(run)
    return run


@pytest.fixture
def page(folder: Path) -> str:
    return (folder / "report.html").read_text()


def payload(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_the_page_is_well_formed_and_self_contained(page: str) -> None:
    tags = Tags(page)
    assert page.startswith("<!doctype html>")
    assert all(a.startswith(("data:", "#")) for a in tags.addresses)
    assert "http:" not in page and "https:" not in page and "@import" not in page and "default-src 'none'" in page
    assert len(tags.ids) == len(set(tags.ids)), "ids are unique, those of the plots included"
    assert all(a[1:] in tags.ids for a in tags.addresses if a.startswith("#"))
    assert not tags.unlabelled and "xmlns" not in page


def test_the_page_says_what_the_run_did(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for said in (
        "dyme on charts",
        "embedded",
        "61.2 %",
        "58.2 – 64.2 %",
        "think accuracy",
        "pass at 8",
        "21.5",
        "learning_rate",
        "tree",
        "37.5 %",
        "test, by kind of answer",
        "68.8 %",
        "50.0 %",
    ):
        assert said in text, said
    for caption in ("Accuracy of sampled completions", "Reward and its parts", "Share of prompts by mode", "Length of completions"):
        assert caption in text, caption
    assert "Evaluation: validation" in text and "Evaluation: test" not in text, "one point is no course"
    assert "loss" in text and "0.1 min" in text


def test_colours_follow_the_reader(page: str) -> None:
    assert "var(--c1)" in page and "prefers-color-scheme: dark" in page
    assert not re.search(r"(?:stroke|fill): #", page), "no colour is fixed in a plot"


def test_the_payload_holds_groups_with_pictures_and_advantages(page: str) -> None:
    data = payload(page)
    assert len(data["groups"]) == data["total"] == 24 and data["steps"] == [1, 2, 3, 4, 5, 6]
    assert data["modes"] == ["explore", "memorize"] and data["marker"] == "Answer:"
    first, last = data["groups"][0], data["groups"][-1]
    assert data["images"][first["images"][0]].startswith("data:image/png;base64,")
    assert last["completions"][0]["advantage"] == 1.73 and last["completions"][2]["advantage"] is None


def test_a_refined_target_is_named_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1)
    row = next(iter(run.rollouts()))
    given = {**row, "answer": "3.20", "rationale": "The till says so."}
    own, refined = (samples.group(run, {**given, "target": target}, {"refiner": "local"}, "Answer:") for target in (None, "Jam is 3.20."))
    assert (own["answer"], own["rationale"], own["target"]) == ("3.20", "The till says so.", None)
    assert (refined["rationale"], refined["target"]) == ("The till says so.", "Jam is 3.20.")
    assert "gold" not in own and (own["writer"], refined["writer"]) == ("", "the local refiner")


def test_skipped_steps_are_a_tile_where_there_are_any(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "skipped steps" not in write_page(run.path).read_text()
    for step, figures in ((7, {"steps_skipped_nonfinite": 1.0}), (8, {"steps_skipped_nonfinite": 0.0, "steps_skipped_overflow": 1.0})):
        run.log_step(StepRecord(step=step, prompts=4 * step, epoch=0.1, seconds=1.0, metrics=figures))
    text = write_page(run.path).read_text()
    assert '<dt>skipped steps</dt><dd class="value">2</dd><dd class="quiet">1 not finite, 1 beyond float16</dd>' in text


def test_out_and_a_missing_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1)
    assert write_page(run.path) == run.path / "report.html"
    assert write_page(run.path, tmp_path / "pages" / "a.html").exists()
    with pytest.raises(RunError, match="not a run folder"):
        write_page(tmp_path)


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Config())
    text = write_page(run.path).read_text()
    assert "recorded no rollouts" in text
    Tags(text)


def test_a_method_that_does_not_roll_out(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Config(method=MethodConfig(name="sft")))
    for step, sample in enumerate(charts.samples("train", 3), start=1):
        run.log_rollouts(step, [Group(sample=sample)], [Route(mode="memorize", branches=(Branch(term="imitate"),), reason="sft")])
    text = write_page(run.path).read_text()
    assert "Share of prompts by mode" in text and "Accuracy of sampled" not in text
    assert len(payload(text)["groups"]) == 3


def evil_run(path: Path) -> RunFolder:
    config = Config(
        run=RunConfig(output=EVIL), model=ModelConfig(path=EVIL), task=TaskConfig(name=EVIL, marker=EVIL), method=MethodConfig(name=EVIL)
    )
    run = RunFolder.create(path, config, {EVIL: EVIL})
    sample = Sample(id=EVIL, question=EVIL, answer=EVIL, rationale=EVIL, kind=EVIL, images=(Plain(key=EVIL),))
    made = group(sample, right=1, text=f"\u2028 {EVIL} & \ud800")
    run.log_rollouts(1, [made], [Route(mode="explore", reason=EVIL)])
    run.log_step(StepRecord(step=1, prompts=1, epoch=0, seconds=1, metrics={EVIL: 1.0}))
    example = {"id": EVIL, "question": EVIL, "gold": EVIL, "completion": EVIL, "correct": False, "image": "../../secret.png"}
    for step in (1, 2):
        run.log_evaluation(step, EVIL, {"metrics": {EVIL: metric(0.5)}, "by_kind": {EVIL: {"value": 1}}, "examples": [example]})
    run.log_event(EVIL, text=EVIL)
    return run


def test_nothing_from_a_model_or_data_gets_in_raw(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    text = write_page(evil_run(tmp_path / "a" / "run").path).read_text(encoding="utf-8")
    assert EVIL not in text and "<img src=x" not in text and "\u2028" not in text
    tags = Tags(text)
    assert tags.names.count("script") == 2 and "x" not in tags.addresses
    assert payload(text)["groups"][0]["question"] == EVIL, "the browser gets it whole"


def test_script_json_is_json_without_markup() -> None:
    value = {"<": ["&", ">", "\u2028\u2029", "</script>", "é", None]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_the_choice_is_bounded_and_spread(tmp_path: Path) -> None:
    chosen = samples.choose_steps({step: int(step % 50 == 1) for step in range(1, 1001)})
    assert chosen[0] == 1 and chosen[-1] == 1000 and len(chosen) <= samples.STEPS
    assert all(step % 50 == 1 for step in chosen[1:-1]), "steps with pictures are preferred"
    assert max(b - a for a, b in zip(chosen, chosen[1:], strict=False)) < 160
    run = RunFolder.create(tmp_path / "run", Config())
    plain = [Sample(id=str(k), question="?", answer="1") for k in range(30)]
    for step in range(1, 21):
        run.log_rollouts(step, [group(s, 1, text="x" * 50 * (1 if step < 20 else 100)) for s in plain], [route(1)] * 30)
    steps = dict.fromkeys(range(1, 21), 0)
    data = samples.choose(run, steps, 600, first={"29"})
    assert len(data["groups"]) == samples.GROUPS and data["total"] == 600
    assert {1, 20} <= set(data["steps"]) and len(data["groups"][-1]["completions"][0]["text"]) < 4100
    assert sum(one["id"] == "29" for one in data["groups"]) == samples.STEPS, "a prompt whose path is shown is among them"
    assert {one["step"] for one in samples.within(data["groups"], 30_000)} == {1}, "no more than fit"


def test_heavy_pictures_become_jpegs(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Config())
    name = run.store_image(Plain(key="noise", size=(300, 300)))
    assert data_uri(run.path / name).startswith("data:image/jpeg;base64,")
    assert samples.picture(run, name) == samples.picture(run, "noise") == data_uri(run.path / name)
    assert samples.picture(run, "config.json") is None and samples.picture(run, "nothing") is None


def test_series() -> None:
    rows = [
        {"step": 2, "mode": "skip", "completions": []},
        {"step": 1, "mode": "explore", "completions": [completion(True, 1.0), completion(False, None)]},
        {"step": 1, "mode": "memorize", "completions": [completion(False, 0.5)]},
    ]
    one, two = totals(rows)
    assert (one.step, one.groups, one.share("explore"), one.mean("any_right")) == (1, 2, 0.5, 0.5)
    assert one.mean("accuracy") == pytest.approx(1 / 3) and one.mean("reward") == 0.75, "a reward of None counts neither way"
    assert two.mean("accuracy") != two.mean("accuracy") and two.share("skip") == 1.0
    record = StepRecord(step=2, prompts=40, epoch=0, seconds=1, metrics={})
    assert prompts_seen([record], [one, two]) == {1: 2, 2: 40}, "groups are counted where no record says"
    assert smooth([1.0, float("nan"), 3.0]) == pytest.approx([1.0, float("nan"), 3.0], nan_ok=True)
    assert smooth([0.0] * 24 + [1.0] * 24)[24] == pytest.approx(3 / 5)
    assert ends([1.0] * 10 + [3.0] * 10) == (1.0, 3.0)


def completion(correct: bool, reward: float | None) -> dict[str, Any]:
    return {"correct": correct, "parsed": True, "tokens": 3, "reward": reward, "rewards": {"accuracy": float(correct)}}


def test_figures() -> None:
    assert figure("think_accuracy", 0.6123) == "61.2 %" and figure("mean_length", 0.5) == "0.5"
    assert figure("mean_length", 1234.56) == "1,234.6" and figure("loss", -0.01234) == "-0.0123"
    assert figure("accuracy", None) == figure("accuracy", float("nan")) == "–" and figure("name", "text") == "text"


def test_intervals() -> None:
    assert interval("accuracy", {"low": 0.5, "high": 0.6}) == "50.0 – 60.0 %"
    assert interval("accuracy", {"low": None, "high": 0.6}) == interval("accuracy", {}) == ""


def test_plots_of_little_and_of_odd_names() -> None:
    nan = float("nan")
    for plot in (
        lines("a", "one point", [1.0], [Line("x", [0.5], "c1")], xlabel="step"),
        lines("b", "gaps", [1.0, 2.0, 3.0], [Line("x", [nan, 0.5, nan], "c1")], xlabel="step"),
        areas("c", "one step", [1.0], [Line("x", [0.25], "c1"), Line("y", [0.75], "c2")], xlabel="step"),
        strips("d", "odd", [Strip("$\\frac{ <b>", "c1", {"1": 0.5}, 0.5)]),
    ):
        Tags(str(plot.svg))
    assert "&lt;b&gt;" in plot.svg and "<b>" not in plot.svg


def test_axes_that_count_have_whole_numbers() -> None:
    few = lines("a", "a", [1.0, 2.0, 3.0], [Line("x", [0.5, 0.5, 0.5], "c1")], xlabel="step", percent=True)
    assert set(re.findall(r">([\d.]+)</text>", few.svg)) == {"1", "2", "3"}


def dom(page: Path, profile: Path) -> str:
    """The page's DOM after its script has run in headless Chromium."""
    profile.mkdir()
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH to open the page in")


@needs_chromium
def test_a_browser_shows_the_samples(folder: Path, tmp_path: Path) -> None:
    shown = dom(folder / "report.html", tmp_path / "profile")
    assert shown.count('<article class="group">') == 12 and "Show more (12 left)" in shown and ">24 groups</p>" in shown
    assert shown.count('<li class="right">') + shown.count('<li class="wrong">') == 48 and "<b>Answer: 3</b></p>" in shown
    assert "Memorized: the row's own reference" in shown and shown.count('<img src="data:image/png') >= 12


@needs_chromium
def test_a_browser_filters_the_samples(page: str, tmp_path: Path) -> None:
    use = """<script>const form = document.getElementById("filters"); form.elements.from.value = "3"; form.elements.mode.value = "explore";
    form.elements.verdict.value = "some"; form.elements.to.value = "5"; form.elements.text.value = "ANSWER: 3";
    form.dispatchEvent(new Event("input")); document.body.dataset.some = document.getElementById("count").textContent;
    form.elements.verdict.value = "none"; form.dispatchEvent(new Event("input"));</script></body>"""
    file = tmp_path / "page.html"
    file.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", use))
    shown = dom(file, tmp_path / "profile")
    assert 'data-some="8 groups"' in shown and ">0 groups</p>" in shown and "<article" not in shown


@needs_chromium
def test_a_browser_shows_hostile_text_as_text(tmp_path: Path) -> None:
    shown = dom(write_page(evil_run(tmp_path / "run").path), tmp_path / "profile")
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in shown
    assert '<article class="group">' in shown and "<img src=x" not in shown and '<img src="x"' not in shown


def test_the_page_of_a_long_run_is_small(tmp_path: Path) -> None:
    """2,000 steps, long completions, many heavy pictures, in the run and in its evaluations."""
    run = RunFolder.create(tmp_path / "run", Config())
    text = "I see a bar, " * 190 + "Answer: 3"
    prompts = [Sample(id=str(k), question="?", answer="3", images=(Plain(key=str(k % 40), size=(384, 384)),)) for k in range(60)]
    names = [run.store_image(sample.images[0]) for sample in prompts[:40]]
    line = line_of(1, group(prompts[0], 2, text=text), route(2))
    with (run.path / "rollouts.jsonl").open("w") as file:
        for k in range(2000):
            sample = prompts[k % 60]
            file.write(json.dumps({**line, "step": 50 * (k // 50) + 1, "id": sample.id, "images": [sample.images[0].key]}) + "\n")
    figures = dict.fromkeys(("loss", "reward", "accuracy", "kl", "grad_norm", "share_skip"), 0.5)
    rows = [{"step": k, "prompts": k, "epoch": 0.1, "seconds": k, "metrics": figures} for k in range(1, 2001)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = {"id": "t", "question": "?", "gold": "3", "completion": text, "correct": True}
    for name in ("base", "validation", "test"):
        run.log_evaluation(2000, name, {"metrics": {}, "examples": [{**example, "image": image} for image in names[:24]]})
    page = write_page(run.path)
    text = page.read_text()
    data = payload(text)
    assert page.stat().st_size < 5e6 and len(data["groups"]) > 100 and data["images"], page.stat().st_size
    assert "picture left out, to keep this page small" in text
    svgs = [len(one) for one in re.findall(r"<svg.*?</svg>", text, re.S)]
    assert max(svgs) < 60_000, "2,000 steps are drawn by some hundred points"
    assert re.search(r"3\d of the 60 prompts", text) and "visit 34" in text
