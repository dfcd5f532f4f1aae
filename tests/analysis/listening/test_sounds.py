"""Routes of the page's sounds: ranges, kinds, and nothing that is not known."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from analysis.listening.kept import Kept
from analysis.listening.sounds import KINDS, audio, media_type, routes
from analysis.listening.uploads import Recording
from embedder.errors import UserError

DATA = b"ID3" + bytes(range(97))


class OneSong:
    def song_audio(self, song_id: str) -> bytes | None:
        if song_id == "broken":
            raise UserError("the song cannot be read")
        return DATA if song_id == "Ada/a b&c.mp3" else None


@pytest.fixture
def kept() -> Kept:
    return Kept(1000)


@pytest.fixture
def client(kept: Kept) -> TestClient:
    app = FastAPI()
    predictor: Any = OneSong()
    app.include_router(routes(predictor, kept))
    return TestClient(app)


@pytest.mark.parametrize(
    ("asked", "status", "piece", "says"),
    [
        (None, 200, DATA, None),
        ("bytes=0-", 206, DATA, "bytes 0-99/100"),
        ("bytes=10-19", 206, DATA[10:20], "bytes 10-19/100"),
        ("bytes=90-500", 206, DATA[90:], "bytes 90-99/100"),
        ("bytes=-10", 206, DATA[-10:], "bytes 90-99/100"),
        ("bytes=-500", 206, DATA, "bytes 0-99/100"),
        ("bytes=100-", 416, b"", "bytes */100"),
        ("bytes=20-10", 416, b"", "bytes */100"),
        ("bytes=-0", 416, b"", "bytes */100"),
        ("bytes=-", 200, DATA, None),
        ("bytes=1-2,4-5", 200, DATA, None),
        ("lines=1-2", 200, DATA, None),
    ],
)
def test_ranges(asked: str | None, status: int, piece: bytes, says: str | None) -> None:
    answer = audio(DATA, asked)
    assert (answer.status_code, answer.body) == (status, piece)
    assert answer.headers.get("content-range") == says


def test_kinds_are_read_from_the_bytes() -> None:
    for offset, start, kind in KINDS:
        assert media_type(b"\0" * offset + start + b"rest") == kind
    assert media_type(b"<html><script>") == media_type(b"") == "application/octet-stream"


def test_songs_are_looked_up(client: TestClient) -> None:
    good = client.get("/listening/song", params={"id": "Ada/a b&c.mp3"})
    assert (good.content, good.headers["content-type"]) == (DATA, "audio/mpeg")
    assert good.headers["x-content-type-options"] == "nosniff"
    for name, says in (
        ("../../etc/passwd", "there is no excerpt of that song"),
        ("broken", "the song cannot be read"),
    ):
        bad = client.get("/listening/song", params={"id": name})
        assert (bad.status_code, bad.text) == (404, says)


def test_tokens_open_what_they_are_for(client: TestClient, kept: Kept) -> None:
    recording, table = kept.put(Recording("a", DATA), 100), kept.put("1,Ada\n", 6)
    assert client.get(f"/listening/recording/{recording}").content == DATA
    answer = client.get(f"/listening/prediction/{table}/prediction.csv")
    assert answer.text == "1,Ada\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="prediction.csv"'
    for wrong in (
        f"/listening/recording/{table}",
        f"/listening/prediction/{recording}/prediction.csv",
        "/listening/recording/nothing",
    ):
        refused = client.get(wrong)
        assert refused.status_code == 404
        assert "not kept any more" in refused.text
