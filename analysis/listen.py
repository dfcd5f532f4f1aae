"""The page that listens: sing to it, or send it recordings, and see what the system hears.

Enters: a `Predictor`, limits and perhaps a password. Leaves: the web application: the JSON API with
the page over it, built on gradio. Recordings are not kept, and nothing is asked of any other host.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it calls home then

import gradio as gr

from analysis.listening.api import api
from analysis.listening.folder import remove_at_the_end, take_only_uploads, upload_folder
from analysis.listening.head import head, style, theme
from analysis.listening.kept import Kept
from analysis.listening.policy import Policy
from analysis.listening.schemas import Limits, Predictor
from analysis.listening.sounds import routes
from analysis.listening.visit import Visit

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
    kept = Kept(room=ROOM * most)
    app = api(predictor, limits, password)
    app.add_middleware(Policy, most=most)
    app.include_router(routes(predictor, kept))
    remove_at_the_end(app, folder)

    async def made() -> FastAPI:
        page = build(Visit(predictor, limits, kept, folder))
        take_only_uploads(page, folder)
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=[],
            run_history=False,  # the browser would keep what was heard
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


def build(visit: Visit) -> gr.Blocks:
    """The page, with nothing mounted."""
    limits = visit.limits
    with gr.Blocks(
        title="Who is singing?", delete_cache=(LEFT_S, LEFT_S), fill_width=False
    ) as page:
        gr.HTML(visit.welcome(), elem_id="welcome")
        with gr.Tabs():
            with gr.Tab("One recording"):
                _one(visit)
            with gr.Tab("Many recordings"):
                _many(visit)
        gr.HTML(
            '<p class="soft">Recordings are not kept, unless you teach the system whose voice one '
            f"is. At most {limits.max_mb:g} MB and {limits.max_minutes:g} min.</p>",
            elem_id="foot",
        )
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    made: gr.Blocks = page
    return made


def _one(visit: Visit) -> None:
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
    said = gr.HTML(elem_id="headline", min_height=44)
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
        kept, problem = visit.take_one(payload, still_s)
        return kept, None, problem.html(), "", "", ""

    def take_recorded(payload: dict[str, Any] | None) -> tuple[Any, ...]:
        return take(payload, STILL_S)

    def hear(kept: str | None) -> tuple[Any, ...]:
        if kept is None:
            return gr.skip(), gr.skip(), gr.skip()
        headline, bars, rest = visit.hear_one(kept)
        return headline.html(), bars, rest

    def enroll(kept: str | None, singer: str | None) -> tuple[str, str]:
        return visit.enroll(kept, singer).html(), visit.known()

    def take_back() -> tuple[str, str]:
        return visit.undo().html(), visit.known()

    for source, arrives, taken in (
        (recording, recording.stop_recording, take_recorded), (file, file.upload, take)
    ):  # fmt: skip
        arrives(
            taken, source, [token, source, said, answer, more, taught],
            preprocess=False, queue=False, show_progress="hidden", **PRIVATE,
        ).then(
            hear, token, [said, answer, more], show_progress_on=[said], **ONE_BY_ONE
        )  # fmt: skip
    for told in (teach.click, name.submit):
        told(enroll, [token, name], [taught, known], show_progress_on=[taught], **ONE_BY_ONE)
    gr.on(None, visit.known, None, known, show_progress="hidden", **PRIVATE)  # as the page loads
    undo.click(take_back, None, [taught, known], show_progress_on=[taught], **ONE_BY_ONE)


def _many(visit: Visit) -> None:
    """Files are heard one after the other; single recordings get their turn between two."""
    token = gr.State(None)
    files = gr.File(
        label="Several recordings, or a zip of them",
        file_count="multiple",
        elem_id="files",
    )
    said = gr.HTML(elem_id="many-said", min_height=44)
    answers = gr.HTML(elem_id="many")

    def take(payloads: list[dict[str, Any]] | None) -> tuple[Any, ...]:
        kept, problem = visit.take_many(payloads)
        return kept, None, problem.html(), ""

    def hear(kept: str | None) -> Iterator[tuple[Any, Any]]:
        if kept is None:
            yield gr.skip(), gr.skip()
            return
        for state, table in visit.hear_many(kept):
            yield state.html(), table

    files.upload(
        take, files, [token, files, said, answers],
        preprocess=False, queue=False, show_progress="hidden", **PRIVATE,
    ).then(
        hear, token, [said, answers],
        show_progress_on=[said], concurrency_limit=1, concurrency_id="many", **PRIVATE,
    )  # fmt: skip
