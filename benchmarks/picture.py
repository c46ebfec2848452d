"""The picture of a run in README and docs: four plots of the page of a demo, as a browser shows them.

    dyme demo && python benchmarks/picture.py runs/demo docs/images/run.png

Needs playwright and the system's chromium (`make test-browser` makes such an environment).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from dyme.report.page import write_page

PLOTS = (
    "Accuracy of sampled completions",
    "Reward and its parts, before weighting",
    "Share of prompts by mode",
    "Length of completions, tokens",
)
KEEP = """(captions) => {
    const plots = document.querySelector("#training").parentElement.querySelector(".plots");
    for (const plot of [...plots.children]) if (!captions.includes(plot.querySelector("figcaption").textContent)) plot.remove();
    document.querySelector("section:has(> #training) > .plots").style.padding = "12px";
}"""


def main() -> None:
    """Write the picture of a run folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1160, "height": 800})
        page.goto(write_page(args.run, Path(folder) / "page.html").as_uri())
        page.evaluate(KEEP, list(PLOTS))
        page.locator("section:has(> #training) > .plots").first.screenshot(path=args.picture)
        browser.close()
    Image.open(args.picture).convert("RGB").quantize(96).save(args.picture, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
