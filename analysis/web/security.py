"""A password in front of the application, and a policy for what its pages may load and take."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose


class Guard:
    """Lets through who knows the password, and everyone to the paths that are free."""

    def __init__(
        self, app: ASGIApp, password: str, free: Collection[str] = (), sentence: str = ""
    ) -> None:
        self.app, self.free, self.sentence = app, free, sentence
        self.digest = sha256(password.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or hand over."""
        asked = scope["type"] in ("http", "websocket") and scope["path"] not in self.free
        if not asked or self.knows(Headers(scope=scope).get("authorization", "")):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            refusal = JSONResponse(
                {"detail": self.sentence},
                401,
                {"WWW-Authenticate": 'Basic realm="Who is singing?", charset="UTF-8"'},
            )
            await refusal(scope, receive, send)

    def knows(self, header: str) -> bool:
        """Whether an Authorization header holds the password."""
        scheme, _, value = header.partition(" ")
        try:
            given = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        # Digests are of one length and are compared in a time that tells nothing.
        found = sha256(given.partition(b":")[2]).digest()
        return hmac.compare_digest(found, self.digest) and scheme.lower() == "basic"


UPLOAD = "/gradio_api/upload"
ENVELOPE = 1_000_000  # bytes of an upload that are not the files' own
DRAINED = 4  # times the limit that is read and dropped, for a browser reads no answer before

# gradio's page starts with scripts that stand in it, and builds others from text.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Policy:
    """ASGI middleware. `most`: bytes of an upload."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 411 or 413, or hand over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["path"].rstrip("/") == UPLOAD:
            length = Headers(scope=scope).get("content-length", "")
            if not length.isdecimal():
                refusal = PlainTextResponse("The upload does not say how large it is.", 411)
                await refusal(scope, receive, with_headers)
                return
            if int(length) > self.most + ENVELOPE:
                await _drain(receive, DRAINED * self.most)
                refusal = PlainTextResponse(
                    f"All files together are larger than {self.most / 1e6:g} MB, the most at once.",
                    413,
                )
                await refusal(scope, receive, with_headers)
                return
        await self.app(scope, receive, with_headers)


async def _drain(receive: Receive, most: int) -> None:
    size = 0
    while size < most:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
