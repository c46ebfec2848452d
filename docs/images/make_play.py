"""Make docs/images/play.gif: the page of `dyme play`, driven in a real browser, a picture every half second.

python docs/images/make_play.py RUN        with the environment of `make test-browser`; RUN is that of `dyme demo`
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parent / "play.gif"
SIZE = {"width": 1000, "height": 740}
PAUSE = 500
"""Milliseconds for which a picture is shown."""
MOST = 2 * 2**20
"""Bytes of the file, at most."""
QUESTION = 9
"""Place of the sample that is asked about, from 1."""
SLOW = """
import sys, time
from dyme.model.policy import Policy
decode = Policy.decode
Policy.decode = lambda self, ids: (time.sleep(0.5), decode(self, ids))[1]
from dyme.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""A program that runs dyme, and waits whenever it has read what a model wrote."""


@contextmanager
def served(run: str) -> Iterator[str]:
    """Serve a run's page and return its address."""
    server = subprocess.Popen([sys.executable, "-c", SLOW, "play", run, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(server.stdout or ())
        yield next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
    finally:
        server.terminate()
        server.wait()


class Film:
    """Pictures of a page, one after the other."""

    def __init__(self, page: Page) -> None:
        self.page, self.frames = page, list[Image.Image]()

    def take(self, times: int = 1) -> None:
        """Take a picture, and show it for `times` times PAUSE."""
        frame = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.frames += [frame] * times

    def during(self, done: str, most: int) -> None:
        """Take pictures until a script says that it is done; keep `most` of them, spread over what happened."""
        taken: list[Image.Image] = []
        while not self.page.evaluate(done):
            taken.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.frames += [taken[len(taken) * k // most] for k in range(most)]

    def write(self, place: Path) -> None:
        """Write the film with as few colours as keep it below MOST."""
        width, height = self.frames[0].size
        every = Image.new("RGB", (width, height * len(self.frames)))
        for row, frame in enumerate(self.frames):
            every.paste(frame, (0, height * row))
        for colours in (255, 128, 64, 32):
            palette = every.quantize(colours, method=Image.Quantize.MAXCOVERAGE)
            frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
            frames[0].save(place, save_all=True, append_images=frames[1:], duration=PAUSE, loop=0, optimize=True)
            if place.stat().st_size <= MOST:
                return
        raise SystemExit(f"{place} has {place.stat().st_size:,} bytes; take fewer or smaller pictures")


def press(page: Page, button: str) -> None:
    """Press a button where it is, without a scroll to it."""
    page.evaluate(f"document.querySelector('{button}').click()")


def play(film: Film) -> None:
    """Ask about a sample, look where its statements look, and sample its route."""
    page = film.page
    for place in range(2, QUESTION + 1):
        press(page, "#next")
        page.wait_for_function(f"document.querySelector('#sample input').value.startsWith('{place}.')")
    film.take(2)
    press(page, "#ask")
    film.during("document.querySelectorAll('#panel-0 .verdict').length", 6)
    film.during("document.querySelectorAll('section .verdict').length >= 4", 3)
    film.take(3)
    page.get_by_role("button", name="What is known of the picture").click()
    press(page, "#read")
    page.wait_for_selector("#panel-0 svg rect")
    page.evaluate("window.scrollTo(0, 0)")
    film.take(4)
    press(page, "#route-button")
    page.wait_for_selector("#route .mode")
    page.evaluate("document.querySelector('#route-button').scrollIntoView()")
    film.take(5)


def main() -> None:
    """Make the film of the run that the command line names."""
    with served(sys.argv[1]) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(180_000)
        page.goto(url)
        page.wait_for_selector(".dyme .picture img")
        film = Film(page)
        play(film)
        film.write(OUT)
        browser.close()
    print(f"{OUT}: {len(film.frames)} pictures, {len(film.frames) * PAUSE / 1000:.0f} s, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
