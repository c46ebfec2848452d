"""The page of `dyme play` in a real browser: `make test-browser`. Its screenshots are in build/browser/shots.

A server of its own process shows a shortly trained model beside its base; a second one a model whose every word is hostile, on rows that
are. Whatever is not on loopback is refused, and none of it may be asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build/browser/shots"
PATIENCE = 180_000
"""Milliseconds that the slowest machine may take."""
HOSTILE = (
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> ${(window.hacked=1)} {{7*7}} `x` \x1b[31m \u202egnp.exe\u202c '
    "**bold** [link](javascript:window.hacked=1) </textarea></section> "
)
SLOW = f"""
import sys, time
from dyme.model.policy import Policy
real = Policy.decode
def decode(self, ids):
    time.sleep(0.2)
    return {HOSTILE!r} + real(self, ids)
Policy.decode = decode
from dyme.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""A program that runs dyme with a model whose texts begin with hostile ones, and which takes its time."""
FOCUSED = """() => {
    const own = getComputedStyle(document.activeElement), around = getComputedStyle(document.activeElement.parentElement);
    return own.outlineStyle != 'none' || own.boxShadow != 'none' || around.boxShadow != 'none';
}"""
"""Whether one sees what has the focus."""
GRADIOS: dict[str, str] = {}
"""Rules of axe that gradio's own parts break, with the reason why they are left: none."""


class Server:
    """A page, served by another process."""

    def __init__(self, *words: str, program: list[str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *(program or ["-m", "dyme"]), "play", *words, "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        said = ""
        for line in self.process.stdout or ():
            said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                return
        raise AssertionError(said)

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C and return the exit status and what was said since."""
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("play") / "charts"
    words = ["--train.max_prompts=16", "--train.prompts_per_step=8", "--task.traces=high", "--task.train_size=16", "--task.test_size=4"]
    subprocess.run([sys.executable, "-m", "dyme", "train", "charts-dyme", f"--run.output={run}", *words], check=True, capture_output=True)
    return run


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    served = Server(str(trained), "--task.test_size=4")
    yield served
    status, rest = served.end()
    assert (status, rest.strip()) == (130, "dyme: interrupted"), "nothing was logged, and Ctrl-C ends it"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor who reaches nothing but loopback; at the end it must have asked for nothing else, and no script may have failed."""
    own = browser.new_context(viewport={"width": 1280, "height": 900})
    own.set_default_timeout(PATIENCE)
    outside: list[str] = []
    errors: list[str] = []

    def only_here(route: object, request: object) -> None:
        url = request.url  # type: ignore[attr-defined]
        if re.match(r"http://127\.0\.0\.1:\d+/|data:|blob:", url):
            route.continue_()  # type: ignore[attr-defined]
        else:
            outside.append(url)
            route.abort()  # type: ignore[attr-defined]

    own.route("**/*", only_here)
    own.on("weberror", lambda error: errors.append(str(error.error)))
    own.on("dialog", lambda dialog: errors.append(dialog.message))
    yield own
    own.close()
    assert (outside, errors) == ([], [])


def opened(context: BrowserContext, server: Server) -> Page:
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector(".dyme .picture img")
    return page


def answered(page: Page, panels: int = 4) -> None:
    page.wait_for_function(f"document.querySelectorAll('section .verdict').length == {panels}", timeout=PATIENCE)


def shoot(page: Page, name: str) -> None:
    """Take a screenshot, and check that nothing is wider than the window and that axe has no serious complaint."""
    page.screenshot(path=SHOTS / f"play-{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical") and v["id"] not in GRADIOS]
    assert not found, json.dumps([(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found], indent=1)


def test_thinking_is_shown_as_it_comes_beside_the_base_and_marked(context: BrowserContext, server: Server) -> None:
    page = opened(context, server)
    page.evaluate("""() => {
        window.lengths = [];
        const panel = document.querySelector('#panel-0');
        new MutationObserver(() => {
            const text = panel.querySelector('.written[aria-busy]');
            if (text) window.lengths.push(text.textContent.length);
        }).observe(panel, {subtree: true, childList: true, characterData: true});
    }""")
    page.click("#ask")
    answered(page)
    lengths = page.evaluate("window.lengths")
    assert lengths == sorted(lengths) and len({n for n in lengths if n}) >= 3, lengths
    heads = page.locator("section h2").all_inner_texts()
    assert heads == [
        f"{model}, {way}" for model in ("charts, trained", "embedded, its base") for way in ("told to think", "told to answer at once")
    ]
    assert all(re.search("right|wrong", text) for text in page.locator("section .verdict").all_inner_texts())
    assert page.locator("#panel-0 mark").count() and page.locator("#panel-2 mark").count() and not page.locator("#panel-1 mark").count()
    expect(page.locator("#message")).to_contain_text("Asked: ")
    shoot(page, "answers-1280")

    page.click("#route-button")
    page.wait_for_selector("#route .mode")
    assert page.locator("#route .samples > li").count() == 8
    assert page.locator("#route .mode").inner_text() in ("memorize", "explore", "skip")
    assert re.search(r"[0-8] of 8 correct|all correct", page.locator("#route .route").inner_text())
    shoot(page, "route-1280")

    page.get_by_role("button", name="What is known of the picture").click()
    page.click("#read")
    page.wait_for_selector("#panel-0 svg rect")
    numbers = page.locator("#panel-0 svg text").all_text_contents()
    assert numbers and all(re.fullmatch(r"[\u2713\u2717?][\d,]+", number) for number in numbers)
    shoot(page, "regions-1280")
    page.set_viewport_size({"width": 390, "height": 800})
    shoot(page, "390")
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.wait_for_selector(".dark .dyme .picture img")
    page.click("#ask")
    answered(page)
    shoot(page, "dark-390")


def test_hostile_text_is_text_and_ctrl_c_ends_what_is_being_written(context: BrowserContext, tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), "white").save(tmp_path / "a.png")
    row = {
        "id": HOSTILE,
        "question": HOSTILE,
        "answer": f"7 {HOSTILE}".replace("\x1b", ""),
        "image": "a.png",
        "facts": [[HOSTILE, HOSTILE]],
    }
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    program = tmp_path / "slow.py"
    program.write_text(SLOW, encoding="utf-8")
    served = Server(
        "embedded",
        "--task",
        "jsonl",
        f"--task.test={tmp_path / 'test.jsonl'}",
        "--rollout.max_completion_length=12",
        program=[str(program)],
    )
    page = opened(context, served)
    page.click("#ask")
    answered(page, 2)
    page.click("#route-button")
    page.wait_for_selector("#route .samples")
    page.get_by_role("button", name="What is known of the picture").click()
    for place in ("#panel-0", "#panel-1", "#route", "#facts"):
        shown = re.sub(r"[\u2713\u2717?]\d", "", page.locator(place).inner_text())  # without the numbers of statements
        assert '<img src=x onerror="window.hacked=1">' in shown and "${(window.hacked=1)} {{7*7}} `x`" in shown, place
        assert "\u241b[31m" in shown and "\u27e8U+202E\u27e9" in shown, place
    shoot(page, "hostile-1280")
    page.fill("#question textarea", "a" * 100_000)
    page.click("#ask")
    expect(page.locator("#panel-0 [role=alert]")).to_contain_text("the model reads 512")
    page.set_viewport_size({"width": 390, "height": 800})
    shoot(page, "hostile-390")
    assert page.evaluate("window.hacked") is None
    page.reload()
    page.wait_for_selector(".dyme .picture img")
    page.click("#ask")
    page.wait_for_selector("#panel-0 .written[aria-busy]")


def test_pictures_of_one_s_own(context: BrowserContext, server: Server, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((8000, 6000)).save(tmp_path / "large.jpg")
    Image.new("L", (9100, 9100)).save(tmp_path / "huge.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "large.jpg").read_bytes()[:4000])
    (tmp_path / "note.txt").write_text("no picture")
    page = opened(context, server)
    upload = page.locator("input[type=file]")
    for name, line in (("broken.png", "cut off or damaged"), ("note.txt", "not a picture"), ("huge.png", "too large")):
        upload.set_input_files(tmp_path / name)
        expect(page.locator("#message [role=alert]")).to_contain_text(line, timeout=PATIENCE)
    shoot(page, "broken-1280")
    assert page.locator(".dyme .picture img").count() == 1, "the sample's picture is still there"
    upload.set_input_files(tmp_path / "large.jpg")
    page.wait_for_function("document.querySelector('.dyme .picture img').naturalWidth == 900", timeout=PATIENCE)
    assert page.input_value("#question textarea, #question input") == ""
    page.click("#ask")
    expect(page.locator("#message [role=alert]")).to_contain_text("the question is empty")
    page.fill("#question textarea, #question input", "What is the highest value?")
    page.click("#ask")
    answered(page)
    verdicts = page.locator("section .verdict").all_inner_texts()
    assert len(verdicts) == 4 and not any(sign in text for text in verdicts for sign in "\u2713\u2717"), (
        "no answer is known: none is judged"
    )
    shoot(page, "large-1280")


def test_a_whole_question_by_keyboard(context: BrowserContext, server: Server) -> None:
    page = opened(context, server)

    def tab_to(place: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.closest({place!r}) !== null"):
                assert page.evaluate(FOCUSED), f"the focus on {place} is seen"
                return
        raise AssertionError(f"{place} cannot be reached by Tab")

    tab_to("#next")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#sample input').value.startsWith('2.')")
    tab_to("#question")
    page.keyboard.press("Control+A")
    page.keyboard.type("What is the lowest value?")
    tab_to("#reference")
    expect(page.locator("#reference textarea, #reference input")).to_have_value("")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.locator("#message")).to_contain_text("Asked: What is the lowest value?")
    tab_to("#route-button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#route .mode")


def test_two_tabs_and_hasty_clicks_do_not_mix(context: BrowserContext, server: Server) -> None:
    one, two = opened(context, server), opened(context, server)
    two.click("#next")
    two.wait_for_function("document.querySelector('#sample input').value.startsWith('2.')")
    one.click("#ask")
    two.click("#ask")
    one.click("#ask")
    one.click("#route-button")
    for page in (one, two):
        answered(page)
    one.wait_for_selector("#route .mode")
    alone = {page: page.locator("section").all_inner_texts() for page in (one, two)}
    assert alone[one] != alone[two]
    for page in (one, two):  # each alone now
        page.reload()
        page.wait_for_selector(".dyme .picture img")
        if page is two:
            page.click("#next")
            page.wait_for_function("document.querySelector('#sample input').value.startsWith('2.')")
        page.click("#ask")
        answered(page)
        assert page.locator("section").all_inner_texts() == alone[page]
    one.click("#ask")
    one.click("#next")
    one.wait_for_function("document.querySelector('#sample input').value.startsWith('2.')")
    one.click("#ask")
    answered(one)
    assert one.locator("section").all_inner_texts() == alone[two], "nothing of the question before"
