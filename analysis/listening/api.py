"""The JSON API: a recording in, who sings out; and whether the program is there.

Enters: a `Predictor`, limits, perhaps a password. Leaves: a FastAPI application, which describes
itself in /openapi.json. The page is mounted over it. An upload is counted while it comes in, kept
in memory alone, and its file name is only a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from analysis.listening.password import Guard
from analysis.listening.schemas import Limits, Predictor, Recognised
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
