"""Make docs/images/play.gif: the page of `dyme play`, driven in a real browser, a picture every half second.

python docs/images/make_play.py RUN        with the environment of `make test-browser`; RUN is that of `dyme demo`
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parent / "play.gif"
SIZE = {"width": 1000, "height": 640}
PAUSE = 500
"""Milliseconds for which a picture is shown."""
MOST = 2 * 2**20
"""Bytes of the file, at most."""
QUESTION = 2
"""Place of the sample that is asked about, from 1."""


@contextmanager
def served(run: str) -> Iterator[str]:
    """Serve a run's page and return its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "dyme", "play", run, "--task.test_size=8", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
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
        """Take pictures until a script says that it is done, `most` of them spread over what happened."""
        taken: list[Image.Image] = []
        while not self.page.evaluate(done):
            taken.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
            time.sleep(0.05)
        self.frames += taken[:: max(1, len(taken) // most)][:most]

    def write(self, place: Path) -> None:
        """Write the film with as few colours as keep it below MOST."""
        for colours in (128, 64, 32):
            palette = self.frames[-1].quantize(colours, method=Image.Quantize.MEDIANCUT)
            frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
            frames[0].save(place, save_all=True, append_images=frames[1:], duration=PAUSE, loop=0, optimize=True)
            if place.stat().st_size <= MOST:
                return
        raise SystemExit(f"{place} has {place.stat().st_size:,} bytes; take fewer or smaller pictures")


def play(film: Film) -> None:
    """Ask about a sample, look where its statements look, and sample its route."""
    page = film.page
    for _ in range(QUESTION - 1):
        page.click("#next")
    page.wait_for_function(f"document.querySelector('#sample input').value.startsWith('{QUESTION}.')")
    film.take(2)
    page.click("#ask")
    film.during("document.querySelectorAll('section .verdict').length >= 4", 8)
    film.take(3)
    page.get_by_role("button", name="What is known of the picture").click()
    page.click("#read")
    page.wait_for_selector("#panel-0 svg rect")
    page.evaluate("window.scrollTo(0, 0)")
    film.take(4)
    page.click("#route-button")
    page.wait_for_selector("#route .mode")
    page.locator("#route").scroll_into_view_if_needed()
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
