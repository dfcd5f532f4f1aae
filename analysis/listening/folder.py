"""The folder where gradio puts uploads, until they are read into memory a moment later.

Enters: the application and the page. Leaves: a folder of this server's own, in memory where the
system has room for it there, which is gone when the server is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from analysis.listening.uploads import is_inside

if TYPE_CHECKING:
    from fastapi import FastAPI

IN_MEMORY = Path("/dev/shm")  # Linux keeps it in memory


def upload_folder(room: int, memory: Path = IN_MEMORY) -> Path:
    """A new folder that nobody else may read; in memory, if twice `room` bytes are free there."""
    there = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= 2 * room
    return Path(tempfile.mkdtemp(prefix="listening-", dir=memory if there else None)).resolve()


def take_only_uploads(page: gr.Blocks, folder: Path) -> None:
    """No request may name a file of this machine, or an address, in place of an upload.

    gradio checks paths only of pages that it has launched itself, not of mounted ones, and copies
    what a path names into its folder; an address it would fetch. Uploads lie there already.
    """

    async def stay(path: str | Path | None) -> str | None:
        if path is None:
            return None
        if not is_inside(Path(path), folder):
            raise gr.Error("That is no upload.", print_exception=False)
        return str(path)

    page.has_launched = True
    for component in page.blocks.values():
        component.async_move_resource_to_block_cache = stay  # type: ignore


def remove_at_the_end(app: FastAPI, folder: Path) -> None:
    """The upload folder goes when the server stops, or with an application that never ran."""
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        async with before(running) as state:
            yield state
        shutil.rmtree(folder, ignore_errors=True)

    app.router.lifespan_context = lifespan
    weakref.finalize(app, shutil.rmtree, folder, ignore_errors=True)
