"""A password in front of an application: the API and the page alike.

Enters: an ASGI application and a password. Leaves: the application behind HTTP basic
authentication, in which any user name will do.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
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
