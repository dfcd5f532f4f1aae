"""The listening page: sing to it, or send it recordings, and see what the system makes of them.

The web application is the JSON API with the page over it, built on gradio. Recordings are not kept,
and nothing is asked of any other host.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it calls home then


from analysis.web.api import api, routes
from analysis.web.handlers import Handlers
from analysis.web.schemas import Limits, Predictor
from analysis.web.security import Policy
from analysis.web.uploads import Recent, remove_at_the_end, take_only_uploads, upload_folder

if TYPE_CHECKING:
    from fastapi import FastAPI

ROOM = 8  # recordings of the largest size that are kept in memory at once
WAITING = 64  # requests in the queue; the next one is told to come back
PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # the API is `/api/predict`
ONE_BY_ONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "one", **PRIVATE}
STILL_S = 2.0  # a recording stays for so long: gradio's player reads it before it is put away
LEFT_S = 60  # an upload that no request follows is removed after so long


def open_page(predictor: Predictor, limits: Limits, password: str | None = None) -> FastAPI:
    """The application, for uvicorn. `password`: needed for everything but `/healthz`.

    Not to be called while an event loop runs.
    """
    most = int(limits.max_mb * 1e6)
    folder = upload_folder(ROOM * most)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read when the page is made
    kept = Recent(room=ROOM * most)
    app = api(predictor, limits, password)
    app.add_middleware(Policy, most=most)
    app.include_router(routes(predictor, kept))
    remove_at_the_end(app, folder)

    async def made() -> FastAPI:
        page = build(Handlers(predictor, limits, kept, folder))
        take_only_uploads(page, folder)
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=[],
            run_history=False,  # the browser would keep what was sent
            show_error=False,
            max_file_size=most,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme(),
            css=style(),
            head=head(),
        )
        return mounted

    # Made without a running loop, gradio's locks open loops that nobody closes.
    return asyncio.run(made())


def build(handlers: Handlers) -> gr.Blocks:
    """The page, with nothing mounted."""
    limits = handlers.limits
    with gr.Blocks(
        title="Who is singing?", delete_cache=(LEFT_S, LEFT_S), fill_width=False
    ) as page:
        gr.HTML(handlers.welcome(), elem_id="welcome")
        with gr.Tabs():
            with gr.Tab("One recording"):
                _one(handlers)
            with gr.Tab("Many recordings"):
                _many(handlers)
        gr.HTML(
            '<p class="soft">Recordings are not kept, unless you teach the system whose voice one '
            f"is. At most {limits.max_mb:g} MB and {limits.max_minutes:g} min.</p>",
            elem_id="foot",
        )
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    made: gr.Blocks = page
    return made


def _one(handlers: Handlers) -> None:
    """A recording is answered as soon as it is there; then it may be taught or taken back."""
    token = gr.State(None)
    with gr.Row(equal_height=True):
        recording = gr.Audio(
            label="Record yourself",
            sources=["microphone"],
            type="filepath",
            editable=False,
            buttons=[],
            elem_id="recording",
        )
        file = gr.File(label="Send a recording: wav, mp3, flac, ogg, m4a, webm", elem_id="file")
    message = gr.HTML(elem_id="headline", min_height=44)
    answer = gr.HTML(elem_id="answer")
    with gr.Row(equal_height=False, elem_id="teaching"):
        name = gr.Textbox(
            label="This is … (a name that is known, or a new one)", max_lines=1, elem_id="name"
        )
        teach = gr.Button("Remember this voice", variant="primary", elem_id="teach")
        undo = gr.Button("Undo the last one", elem_id="undo")
    taught = gr.HTML(elem_id="taught")
    known = gr.HTML(elem_id="known")
    more = gr.HTML(elem_id="more")

    def take(payload: dict[str, Any] | None, still_s: float = 0.0) -> tuple[Any, ...]:
        kept, problem = handlers.take_one(payload, still_s)
        return kept, None, problem.html(), "", "", ""

    def take_recorded(payload: dict[str, Any] | None) -> tuple[Any, ...]:
        return take(payload, STILL_S)

    def recognise(kept: str | None) -> tuple[Any, ...]:
        if kept is None:
            return gr.skip(), gr.skip(), gr.skip()
        headline, bars, rest = handlers.recognise_one(kept)
        return headline.html(), bars, rest

    def enroll(kept: str | None, singer: str | None) -> tuple[str, str]:
        return handlers.enroll(kept, singer).html(), handlers.known()

    def take_back() -> tuple[str, str]:
        return handlers.undo().html(), handlers.known()

    for source, arrives, taken in (
        (recording, recording.stop_recording, take_recorded), (file, file.upload, take)
    ):  # fmt: skip
        arrives(
            taken, source, [token, source, message, answer, more, taught],
            preprocess=False, queue=False, show_progress="hidden", **PRIVATE,
        ).then(
            recognise, token, [message, answer, more], show_progress_on=[message], **ONE_BY_ONE
        )  # fmt: skip
    for told in (teach.click, name.submit):
        told(enroll, [token, name], [taught, known], show_progress_on=[taught], **ONE_BY_ONE)
    gr.on(None, handlers.known, None, known, show_progress="hidden", **PRIVATE)  # as the page loads
    undo.click(take_back, None, [taught, known], show_progress_on=[taught], **ONE_BY_ONE)


def _many(handlers: Handlers) -> None:
    """Files are answered one after the other; single recordings get their turn between two."""
    token = gr.State(None)
    files = gr.File(
        label="Several recordings, or a zip of them",
        file_count="multiple",
        elem_id="files",
    )
    message = gr.HTML(elem_id="many-message", min_height=44)
    answers = gr.HTML(elem_id="many")

    def take(payloads: list[dict[str, Any]] | None) -> tuple[Any, ...]:
        kept, problem = handlers.take_many(payloads)
        return kept, None, problem.html(), ""

    def recognise(kept: str | None) -> Iterator[tuple[Any, Any]]:
        if kept is None:
            yield gr.skip(), gr.skip()
            return
        for state, table in handlers.recognise_many(kept):
            yield state.html(), table

    files.upload(
        take, files, [token, files, message, answers],
        preprocess=False, queue=False, show_progress="hidden", **PRIVATE,
    ).then(
        recognise, token, [message, answers],
        show_progress_on=[message], concurrency_limit=1, concurrency_id="many", **PRIVATE,
    )  # fmt: skip


ASSETS = Path(__file__).parents[1] / "assets"
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "Liberation Mono", "monospace")


def style() -> str:
    """The page's own rules, after gradio's."""
    return (ASSETS / "listen.css").read_text(encoding="utf-8")


def head() -> str:
    """What stands in the page's head."""
    script = (ASSETS / "listen.js").read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark">\n<script>\n{script}</script>'


def theme() -> gr.themes.Base:
    """The pages' colours; text has a contrast of at least 4.5 to its ground, light and dark."""
    return gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=FONT, font_mono=MONO).set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14171c",
        body_text_color="#1b1f24",
        body_text_color_dark="#e8eaed",
        body_text_color_subdued="#57606a",
        body_text_color_subdued_dark="#a4acb6",
        block_background_fill="#f5f6f8",
        block_background_fill_dark="#1d2127",
        block_label_text_color="#1b1f24",
        block_label_text_color_dark="#e8eaed",
        block_label_background_fill="#f5f6f8",
        block_label_background_fill_dark="#1d2127",
        block_title_text_color="#1b1f24",
        block_title_text_color_dark="#e8eaed",
        block_info_text_color="#57606a",
        block_info_text_color_dark="#a4acb6",
        border_color_primary="#d9dde3",
        border_color_primary_dark="#363c45",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14171c",
        input_border_color="#8a929c",
        input_border_color_dark="#78818c",
        input_placeholder_color="#57606a",
        input_placeholder_color_dark="#a4acb6",
        button_primary_background_fill="#0b62a8",
        button_primary_background_fill_hover="#084a80",
        button_primary_background_fill_dark="#7cb8f0",
        button_primary_background_fill_hover_dark="#a3cef6",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#10202f",
        button_secondary_text_color="#1b1f24",
        button_secondary_text_color_dark="#e8eaed",
        link_text_color="#0b62a8",
        link_text_color_dark="#7cb8f0",
        color_accent="#0b62a8",
        border_color_accent="#0b62a8",
        border_color_accent_dark="#7cb8f0",
    )
