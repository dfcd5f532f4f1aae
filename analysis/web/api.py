"""The JSON API: a recording in, who sings out; a health check; and sounds for players.

A FastAPI application that describes itself in /openapi.json; the page is mounted over it. An upload
is counted while it comes in, kept in memory alone, and its file name is only a text.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from analysis.web.schemas import Limits, Predictor, Recognised
from analysis.web.security import Guard
from analysis.web.uploads import Recent, Recording
from embedder.errors import UserError

MEGABYTE = 1_000_000
ENVELOPE = 65_536  # bytes of a form beside its file: boundaries, headers, other fields
AT_ONCE = 8  # uploads that are in memory at once; others wait before they are read
PATIENCE_S = 30.0  # without a byte, after which an upload is given up
FORM = "multipart/form-data"


@dataclass(frozen=True)
class Problem:
    """Why there is no answer."""

    detail: str  # a sentence


@dataclass(frozen=True)
class Health:
    """The program is there and has loaded what it needs."""

    status: str  # "ok"


UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "One recording: wav, mp3, flac, ogg, m4a or webm.",
                        }
                    },
                },
                "encoding": {"file": {"contentType": "application/octet-stream, audio/*"}},
            }
        },
    }
}
REFUSALS = {
    400: "The recording cannot be answered: no audio, damaged, silent, too short or too long.",
    408: "The upload stopped coming.",
    413: "The file is larger than is allowed.",
    415: f"The request is not {FORM}.",
    422: "The form has no file in its field `file`, or is none.",
}
NO_PASSWORD = "The password is missing or wrong; any user name will do."


def api(predictor: Predictor, limits: Limits, password: str | None = None) -> FastAPI:
    """The application. `password`: needed, as HTTP basic authentication, for all but /healthz."""
    # Its own pages of documentation load scripts from another host.
    app = FastAPI(
        title="Who is singing?", version="1", docs_url=None, redoc_url=None, redirect_slashes=False
    )
    turn = asyncio.Semaphore(AT_ONCE)
    refusals = REFUSALS | ({401: NO_PASSWORD} if password else {})

    @app.post(
        "/api/predict",
        summary="Who sings in a recording",
        responses={
            code: {"model": Problem, "description": what} for code, what in refusals.items()
        },
        openapi_extra=UPLOAD | ({"security": [{"password": []}]} if password else {}),
    )
    async def predict(request: Request) -> Recognised:
        async with turn:
            data, name = await sent(request, limits)
            return await run_in_threadpool(predictor.recognise, data, name)

    @app.get("/healthz", summary="Whether the program is there")
    async def healthz() -> Health:
        return Health("ok")

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        del error  # the server's log has it
        return JSONResponse({"detail": "Something went wrong here; the log says what."}, 500)

    if password:
        app.add_middleware(Guard, password=password, free=("/healthz",), sentence=NO_PASSWORD)
        _describe_password(app)
    return app


async def sent(request: Request, limits: Limits) -> tuple[bytes, str]:
    """The bytes of the one file of a request's form, and what it is called.

    Raises `HTTPException` 408, 413, 415 or 422.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(415, f"Send the recording as {FORM}, in the field `file`.")
    most = int(limits.max_mb * MEGABYTE)
    parser = MultiPartParser(request.headers, _counted(request, limits), max_files=1, max_fields=8)
    parser.spool_max_size = most + ENVELOPE + 1  # nothing is written to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(422, f"The form cannot be read: {error.message}") from None
    except ClientDisconnect:
        raise HTTPException(400, "The upload ended too early.") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(422, "Send the recording as a file, in the field `file`.")
        if (file.size or 0) > most:
            raise too_large(limits)
        return await file.read(), file.filename or ""
    finally:
        await form.close()


def too_large(limits: Limits) -> HTTPException:
    """What is answered to an upload that is over the limit."""
    return HTTPException(413, f"The file is larger than {limits.max_mb:g} MB.")


async def _counted(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The request's body, as long as it is not too large.

    Of one that is, as much again is read and dropped, for most clients read no answer before they
    have sent all they want to send.
    """
    most = int(limits.max_mb * MEGABYTE) + ENVELOPE
    body = aiter(request.stream())
    size = 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(body), PATIENCE_S)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise HTTPException(408, "The upload stopped coming.") from None
        size += len(chunk)
        if size > 2 * most:
            raise too_large(limits)
        if size <= most:
            yield chunk
    if size > most:
        raise too_large(limits)


def _describe_password(app: FastAPI) -> None:
    """Basic authentication in the OpenAPI description."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        found = plain()
        schemes = found.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["password"] = {"type": "http", "scheme": "basic"}
        return found

    app.openapi = described  # type: ignore[method-assign]


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


def routes(predictor: Predictor, kept: Recent) -> APIRouter:
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
