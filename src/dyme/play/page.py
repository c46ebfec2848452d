"""The page of `dyme play`, made with gradio and served on loopback. This file alone needs gradio.

Nothing leaves the machine: no share link, no analytics, no history, fonts of the system; and a Content-Security-Policy keeps the browser
from loading anything from elsewhere, whatever gradio's own page or a text on it asks for.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from importlib import resources
from types import FrameType
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dyme.play import shown
from dyme.play.asking import Play
from dyme.play.session import WAYS, Desk, Session, told

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; frame-src 'none'; base-uri 'self'; form-action 'self'"
)
"""What the browser may load and run."""
LARGEST = "200mb"
"""Largest file that can be uploaded."""
PATIENCE = 5
"""Seconds after a signal in which the process may end by itself."""
_SHOWN = 70
"""Characters of a question in the list of samples."""
_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "trigger_mode": "once", "show_progress": "minimal"}
"""Events that work with a model wait for each other, over all tabs; beside the message they show how long."""
_QUICK: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}


def serve(play: Play, listening: socket.socket) -> None:
    """Serve the page at a socket that is bound, until the process is interrupted."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    css = resources.files("dyme.play").joinpath("style.css").read_text(encoding="utf-8")
    gr.mount_gradio_app(
        app, Page(play).blocks, "/", footer_links=[], run_history=False, show_error=False, max_file_size=LARGEST, ssr_mode=False,
        pwa=False, mcp_server=False, enable_monitoring=False, theme=_theme(), css=css,
    )  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, headers=[("Content-Security-Policy", POLICY)])
    _Server(settings).run(sockets=[listening])


class _Server(uvicorn.Server):  # type: ignore[misc]
    """A server whose process ends within `PATIENCE` seconds of a signal, whatever its threads are at: a model cannot be interrupted."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, and see to it that the process does."""
        late = threading.Timer(PATIENCE, _leave, [128 + sig])
        late.daemon = True
        late.start()
        logging.getLogger("uvicorn.error").disabled = True  # of answers that are cut off it would write a traceback each
        super().handle_exit(sig, frame)


def _leave(status: int) -> None:
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    os._exit(status)


def _theme() -> gr.themes.Default:
    """Return gradio's theme with fonts of the system, and with colours that can be read: white on its orange, or its pale grey, cannot."""
    theme = gr.themes.Default(font=[gr.themes.Font("system-ui"), "sans-serif"], font_mono=[gr.themes.Font("ui-monospace"), "monospace"])
    blue, dark_blue, quiet, dark_quiet = "#3355b0", "#27438c", "#545b66", "#b3bac5"
    return theme.set(
        button_primary_background_fill=blue, button_primary_background_fill_dark=blue, button_primary_background_fill_hover=dark_blue,
        button_primary_background_fill_hover_dark=dark_blue, block_info_text_color=quiet, block_info_text_color_dark=dark_quiet,
        block_label_text_color=quiet, block_label_text_color_dark=dark_quiet, input_placeholder_color=quiet,
        input_placeholder_color_dark=dark_quiet, body_text_color_subdued=quiet, body_text_color_subdued_dark=dark_quiet,
    )  # fmt: skip


def _html(value: str, **options: Any) -> gr.HTML:
    """Return a part of the page that shows HTML of `shown`."""
    return gr.HTML(value, elem_classes=["dyme"], js_on_load=None, **options)


class Page:
    """The parts of the page and what its buttons change."""

    def __init__(self, play: Play) -> None:
        self.play, self.desk = play, Desk(play)
        self.pictured = play.models[0].policy.takes_images
        with gr.Blocks(title="dyme play", analytics_enabled=False, fill_width=True, delete_cache=(600, 600)) as self.blocks:
            self.session = gr.State(Session(), time_to_live=24 * 3600)
            _html(self._head())
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self._inputs()
                with gr.Column(scale=5, min_width=320):
                    self._outputs()
            self._events()

    def _head(self) -> str:
        return (
            "<h1>dyme play</h1><p>Ask a small model about a picture and watch it think. Each question is put twice: once the model is "
            "told to think first, once to answer at once. Statements in its thinking are checked against what is known of the picture.</p>"
        )

    def _inputs(self) -> None:
        """Add what the user gives: picture, question, right answer."""
        choices = [(f"{k}. {shown.plain(one.question, _SHOWN)}", k - 1) for k, one in enumerate(self.play.samples, 1)]
        self.preview = _html(shown.picture(None) if self.pictured else "", visible=self.pictured)
        self.list = gr.Dropdown(choices, label=f"Sample ({self.play.source})", value=None, visible=bool(choices), elem_id="sample")
        with gr.Row():
            self.next = gr.Button("Next sample", size="md", visible=bool(choices), elem_id="next")
            self.upload = gr.UploadButton(
                "Upload a picture", size="md", type="binary", file_types=None, visible=self.pictured, elem_id="upload"
            )
        self.question = gr.Textbox(label="Question", placeholder="What is the highest value?", lines=1, max_lines=4, elem_id="question")
        self.reference = gr.Textbox(
            label="Right answer, if you know it", info="To mark answers as right or wrong", lines=1, max_lines=2, elem_id="reference"
        )
        with gr.Row():
            self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
            self.stop = gr.Button("Stop", elem_id="stop")
        self.message = _html(shown.line(""), elem_id="message")
        with gr.Accordion("What is known of the picture", open=False, visible=self.pictured):
            self.facts = _html(shown.facts((), ""), elem_id="facts")
            self.read = gr.Button("Read the picture (OCR)", size="md", elem_id="read")

    def _outputs(self) -> None:
        """Add what the models give: two answers of each, samples and route."""
        self.panels: list[gr.HTML] = []
        for _ in self.play.models:
            with gr.Row():
                for _ in WAYS:
                    place = len(self.panels)
                    with gr.Column(min_width=260):
                        self.panels.append(_html(self.desk.panel(Session(), place), elem_id=f"panel-{place}"))
        _html(shown.legend())
        count, name = self.play.config.rollout.num_generations, self.play.config.method.name
        _html("<h2>What training would do with this prompt</h2>")
        self.sample = gr.Button(f"Sample {count} answers, and let {shown.plain(name, 60)} decide", elem_id="route-button")
        self.route = _html(self._explained(), elem_id="route")

    def _explained(self) -> str:
        return (
            '<p class="quiet">The model answers several times, at random. A method looks at how many are right, and decides whether the '
            "prompt is memorized (the reference is imitated), explored (its own answers are compared) or skipped.</p>"
        )

    def _events(self) -> None:
        shown_parts = [self.session, self.message, self.preview, self.facts, self.question, self.reference, self.route, *self.panels]
        asked = [self.session, self.question, self.reference]
        working = {**_MODEL, "show_progress_on": self.message}
        if self.play.samples:
            self.blocks.load(self._next, [self.session, self.list], [self.list, *shown_parts], **_QUICK)
        self.list.input(self._choose, [self.session, self.list], shown_parts, **_QUICK)
        self.next.click(self._next, [self.session, self.list], [self.list, *shown_parts], **_QUICK)
        self.upload.upload(self._upload, [self.session, self.upload], [self.list, *shown_parts], **_QUICK)
        self.question.input(None, None, [self.reference], js="() => ''")
        gr.on([self.ask.click, self.question.submit, self.reference.submit], self._ask, asked, [self.message, *self.panels], **working)
        self.stop.click(self._stop, [self.session], [self.message], queue=False, show_progress="hidden")
        self.sample.click(self._route, asked, [self.message, self.route], **working)
        self.read.click(self._read, [self.session], [self.message, self.facts, *self.panels], **working)

    # -- what happens at an event: the new values of its outputs

    def _choose(self, session: Session, place: int | None) -> list[Any]:
        if place is None:
            return self._parts(session, "")
        sample = self.play.samples[place]
        return self._looked(session, lambda: session.look_at(sample.images, sample), (sample.question, sample.answer))

    def _next(self, session: Session, place: int | None) -> list[Any]:
        following = 0 if place is None else (place + 1) % len(self.play.samples)
        return [following, *self._choose(session, following)]

    def _upload(self, session: Session, content: bytes) -> list[Any]:
        parts = self._looked(session, lambda: self.desk.upload(session, content), ("", ""))
        return [None if session.chosen is None else gr.skip(), *parts]

    def _looked(self, session: Session, look: Any, texts: tuple[str, str]) -> list[Any]:
        try:
            look()
        except Exception as error:
            return self._parts(session, told(error), wrong=True)
        return self._parts(session, "", texts)

    def _parts(self, session: Session, message: str, texts: tuple[str, str] | None = None, wrong: bool = False) -> list[Any]:
        """Return the session, the message, and all that depends on the picture; nothing else without new `texts`."""
        if texts is None:
            return [session, shown.line(message, wrong=wrong), *[gr.skip()] * (5 + len(self.panels))]
        about = "The picture that the question is about"
        pictures = "".join(shown.picture(copy, about=about) for copy in session.copies) or shown.picture(None)
        known = shown.facts(session.facts, session.source)
        panels = self.desk.drawn(session).values()
        return [session, shown.line(message), pictures, known, *texts, self._explained(), *panels]

    def _ask(self, session: Session, question: str, reference: str) -> Iterator[list[Any]]:
        waiting: list[Any] = [gr.skip()] * len(self.panels)
        try:
            for changed in self.desk.ask(session, question, reference):
                yield [shown.line(f"Asked: {question}"), *[changed.get(place, gr.skip()) for place in range(len(self.panels))]]
        except Exception as error:
            yield [shown.line(told(error), wrong=True), *waiting]

    def _stop(self, session: Session) -> str:
        session.turn += 1
        return shown.line("The answer ends at its next token. Sampling and OCR, once begun, are finished.")

    def _route(self, session: Session, question: str, reference: str) -> Iterator[list[Any]]:
        yield [shown.line(f"Sampling answers to: {question}"), gr.skip()]
        try:
            yield [shown.line(""), self.desk.route(session, question, reference)]
        except Exception as error:
            yield [shown.line(told(error), wrong=True), gr.skip()]

    def _read(self, session: Session) -> Iterator[list[Any]]:
        waiting: list[Any] = [gr.skip()] * (1 + len(self.panels))
        yield [shown.line("Reading the picture \u2026"), *waiting]
        try:
            message = self.desk.read(session)
        except Exception as error:
            yield [shown.line(told(error), wrong=True), *waiting]
            return
        yield [shown.line(message), shown.facts(session.facts, session.source), *self.desk.drawn(session).values()]
