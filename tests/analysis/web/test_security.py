"""Headers on every answer, and uploads that are bounded before they are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from analysis.web.security import ENVELOPE, UPLOAD, Policy


async def count(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def client() -> TestClient:
    app = Starlette(routes=[Route(path, count, methods=["POST"]) for path in (UPLOAD, "/other")])
    app.add_middleware(Policy, most=2_000_000)
    return TestClient(app)


def test_uploads_are_bounded_in_their_sum(client: TestClient) -> None:
    most = 2_000_000 + ENVELOPE
    assert client.post(UPLOAD, content=bytes(most)).text == str(most)
    for path in (UPLOAD, f"{UPLOAD}/"):
        answer = client.post(path, content=bytes(most + 1))
        assert answer.status_code == 413
        assert answer.text == "All files together are larger than 2 MB, the most at once."
    assert client.post("/other", content=bytes(most + 1)).text == str(most + 1)


def test_an_upload_must_say_how_large_it_is(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"

    assert client.post(UPLOAD, content=pieces()).status_code == 411


def test_every_answer_keeps_the_browser_at_home(client: TestClient) -> None:
    for path in ("/other", "/nowhere", UPLOAD):
        policy = client.post(path, content=b"").headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "//" not in policy
        assert "*" not in policy
