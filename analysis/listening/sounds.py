"""What the page plays and downloads, answered from memory.

Enters: the predictor, and what is kept of the visits. Leaves: routes under `/listening/`: a song's
excerpt, the visitor's own recording, and a batch's prediction.csv. A name that is asked for is
looked up and never opened.
"""

from __future__ import annotations

import re

from fastapi import APIRouter, Header, Response
from starlette.concurrency import run_in_threadpool

from analysis.listening.kept import Kept
from analysis.listening.schemas import Predictor
from analysis.listening.uploads import Recording
from embedder.errors import UserError

# How the files of each kind begin: offset, bytes, media type. Nothing else is played.
KINDS = (
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xfa", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (4, b"ftyp", "audio/mp4"),
    (0, b"\x1aE\xdf\xa3", "audio/webm"),
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def routes(predictor: Predictor, kept: Kept) -> APIRouter:
    """The routes, not part of the described API."""
    router = APIRouter(prefix="/listening", include_in_schema=False)

    @router.get("/song")
    async def song(id: str, range: str | None = Header(None)) -> Response:
        try:
            data = await run_in_threadpool(predictor.song_audio, id)
        except UserError as error:
            return Response(str(error), 404, HEADERS, "text/plain")
        return audio(data, range) if data else missing("there is no excerpt of that song")

    @router.get("/recording/{token}")
    async def recording(token: str, range: str | None = Header(None)) -> Response:
        value = kept.get(token)
        if not isinstance(value, Recording):
            return missing("that recording is not kept any more")
        return audio(value.data, range)

    @router.get("/prediction/{token}/prediction.csv")
    async def prediction(token: str) -> Response:
        text = kept.get(token)
        if not isinstance(text, str):
            return missing("that table is not kept any more; send the files again")
        headers = {**HEADERS, "Content-Disposition": 'attachment; filename="prediction.csv"'}
        return Response(text.encode(), 200, headers, "text/csv; charset=utf-8")

    return router


def media_type(data: bytes) -> str:
    """What a file is, from how it begins; "application/octet-stream" if that is not known."""
    for offset, start, kind in KINDS:
        if data[offset : offset + len(start)] == start:
            return kind
    return "application/octet-stream"


def audio(data: bytes, asked: str | None) -> Response:
    """The bytes, or the one range of them that is asked for, so that a player can jump (RFC 9110,
    section 14)."""
    headers = {**HEADERS, "Accept-Ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (asked or "").strip())
    if not found or found.group(0) == "bytes=-":
        return Response(data, 200, headers, media_type(data))
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) if last else len(data) - 1, len(data) - 1)
    else:
        start, end = max(len(data) - int(last), 0), len(data) - 1
    if start > end:
        headers["Content-Range"] = f"bytes */{len(data)}"
        return Response(b"", 416, headers)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, headers, media_type(data))


def missing(why: str) -> Response:
    """404 with a sentence."""
    return Response(why, 404, HEADERS, "text/plain")
