"""The pages of runs, of two runs, of a study and of the documentation in a real browser: `make test-browser`; screenshots in
build/browser/shots.

A demo and a Full DyME run are trained shortly; DYME_RUNS names a folder with `demo` and `full`, to look at these instead. The site is that
of `make docs`, if it was built.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from pages import EVIL, group, route  # noqa: E402
from studies import make_study  # noqa: E402

from dyme.cli.main import main  # noqa: E402
from dyme.comparison.findings import write_report  # noqa: E402
from dyme.config import Config, TaskConfig  # noqa: E402
from dyme.report import beside, page  # noqa: E402
from dyme.tracking.run_folder import RunFolder  # noqa: E402
from dyme.types import Sample  # noqa: E402

SHOTS = ROOT / "build/browser/shots"
SITE = Path(os.environ.get("DYME_SITE") or ROOT / "build/site")
SITE_PAGES = ("index.html", "start/index.html", "tracking/index.html")
SHORT = [
    "--task.train_size=12", "--task.test_size=8", "--task.validation_size=4", "--train.max_prompts=32", "--train.prompts_per_step=4",
    "--rollout.num_generations=4", "--rollout.max_completion_length=48",
]  # fmt: skip
OPEN = """() => {
    document.querySelectorAll("article.group").forEach((one, k) => k > 1 && one.remove());
    document.querySelectorAll(".examples li, .small .plot").forEach((one, k) => k % 12 && one.remove());
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
}"""
"""Opens all that is folded; of groups, examples and small plots, which are alike, a few stay, as axe takes minutes for all of them."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages by name."""
    home = tmp_path_factory.mktemp("pages")
    runs = Path(os.environ.get("DYME_RUNS") or home)
    if runs == home:
        assert main(["demo", "--out", str(home / "demo"), *SHORT]) == 0
        assert main(["train", "full-dyme", f"--run.output={home}/full", *SHORT]) == 0
    hostile = RunFolder.create(home / "hostile", Config(task=TaskConfig(marker="Answer:")))
    sample = Sample(id=EVIL, question=EVIL, answer=EVIL, rationale=EVIL, kind=EVIL)
    hostile.log_rollouts(1, [group(sample, right=1, text=f"{EVIL} 1 + 1 = 3 {EVIL} Answer: {EVIL}")], [route(1)])
    return {
        "demo": page.write_page(runs / "demo", home / "demo.html"),
        "full": page.write_page(runs / "full", home / "full.html"),
        "beside": beside.write_page(runs / "demo", runs / "full", home / "beside.html"),
        "study": write_report(make_study(home / "study", seeds=2, dose=False)),
        "hostile": page.write_page(hostile.path),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Browser, file: Path, fragment: str = "", **context: Any) -> Page:
    """The page in a context of its own, in which any error of a script, any dialog and any request but for the file itself fails."""
    shown = browser.new_context(**context).new_page()
    shown.set_default_timeout(60_000)
    trouble: list[str] = []
    shown.on("pageerror", lambda error: trouble.append(str(error)))
    shown.on("dialog", lambda dialog: trouble.append(dialog.message))
    shown.on("request", lambda request: trouble.append(request.url) if urlsplit(request.url).scheme not in ("file", "data") else None)
    shown.goto(file.resolve().as_uri() + fragment)
    shown.trouble = trouble  # type: ignore[attr-defined]
    return shown


def faults(shown: Page) -> list[str]:
    """Serious and critical faults that axe finds."""
    found = Axe().run(shown).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("name", ["demo", "full", "beside", "study"])
@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_axe_finds_no_serious_fault_and_nothing_is_cut(
    browser: Browser, files: dict[str, Path], name: str, width: int, colours: Any
) -> None:
    shown = opened(browser, files[name], viewport={"width": width, "height": 900}, color_scheme=colours)
    SHOTS.mkdir(parents=True, exist_ok=True)
    shown.screenshot(path=SHOTS / f"page-{name}-{width}-{colours}.png", full_page=True)
    shown.evaluate(OPEN)
    assert faults(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width, "nothing reaches beyond the window"
    assert shown.trouble == []  # type: ignore[attr-defined]
    shown.context.close()


def test_a_page_is_small(files: dict[str, Path]) -> None:
    assert {name: file.stat().st_size for name, file in files.items() if file.stat().st_size > 5e6} == {}


def test_a_filter_is_linked_to_restored_and_undone(browser: Browser, files: dict[str, Path]) -> None:
    shown = opened(browser, files["full"], permissions=["clipboard-read", "clipboard-write"])
    every = shown.locator("#count").inner_text()
    shown.locator("select[name=mode]").select_option("memorize")
    shown.locator("select[name=verdict]").select_option("none")
    some = shown.locator("#count").inner_text()
    assert shown.url.endswith("#mode=memorize&verdict=none") and some != every
    shown.get_by_role("button", name="Copy link").focus()
    shown.keyboard.press("Enter")
    expect(shown.locator("#count")).to_have_text("The link to this filter is copied.")
    assert shown.evaluate("navigator.clipboard.readText()") == shown.url
    again = opened(browser, files["full"], "#mode=memorize&verdict=none&step=9&kind=no-such-kind")
    expect(again.locator("#count")).to_have_text(some)
    assert again.locator("[name=verdict]").input_value() == "none" and again.locator("[name=kind]").input_value() == ""
    shown.locator("[name=text]").press_sequentially("value", delay=5)
    assert shown.url.endswith("&text=value")
    shown.go_back()
    expect(shown.locator("#count")).to_have_text(some)
    assert shown.locator("[name=text]").input_value() == "", "a word is one step back"
    shown.go_back()
    shown.go_back()
    expect(shown.locator("#count")).to_have_text(every)
    shown.locator(".paths a").first.click()
    expect(shown.locator("article.group")).not_to_have_count(0)
    assert "#text=" in shown.url and len({one.inner_text() for one in shown.locator("article h3").all()}) == 1
    assert shown.trouble == [] == again.trouble  # type: ignore[attr-defined]


def test_statements_have_signs_and_their_facts(browser: Browser, files: dict[str, Path]) -> None:
    shown = opened(browser, files["full"])
    signs = {one.inner_text() for one in shown.locator(".completions .statement .sign").all()}
    assert {"✓", "✗"} <= signs, "not by colour alone"
    assert "fact: " in shown.locator(".completions .statement.false small").first.inner_text()
    expect(shown.locator("article.group").first.locator(".target")).not_to_have_count(0)
    assert shown.locator("ins, del").count() > 0 and "by the local refiner" in shown.locator(".target[open] .traces").first.inner_text()


@pytest.mark.parametrize("name", ["full", "beside"])
def test_without_scripts_the_figures_remain(browser: Browser, files: dict[str, Path], name: str) -> None:
    shown = opened(browser, files[name], java_script_enabled=False)
    expect(shown.get_by_text("Scripts are off: the")).to_be_visible()
    expect(shown.locator("#filters")).to_be_hidden()
    assert shown.locator("svg").count() > 5 and shown.locator("table").count() > 1


def test_hostile_text_stays_text(browser: Browser, files: dict[str, Path]) -> None:
    shown = opened(browser, files["hostile"])
    expect(shown.locator("article.group")).to_have_count(1)
    assert EVIL in shown.locator(".completions .text").first.inner_text() and shown.locator("img[src=x]").count() == 0
    assert shown.trouble == []  # type: ignore[attr-defined]


@pytest.mark.skipif(not SITE.exists(), reason="no site: run make docs")
@pytest.mark.parametrize("name", SITE_PAGES)
def test_axe_finds_no_serious_fault_on_the_site(browser: Browser, name: str) -> None:
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto((SITE / name).as_uri())
    shown.screenshot(path=SHOTS / f"site-{name.partition('/')[0].removesuffix('.html')}.png")
    assert faults(shown) == []
