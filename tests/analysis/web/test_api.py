"""The JSON API over a predictor that only measures: answers, refusals, and its own description."""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from analysis.web import api as module
from analysis.web.api import AT_ONCE, ENVELOPE, KINDS, api, audio, media_type, routes
from analysis.web.schemas import (
    Choice,
    Limits,
    MapPoint,
    Near,
    Place,
    Recognised,
    SegmentPrediction,
)
from analysis.web.uploads import Recent, Recording
from embedder.errors import UserError


class Measuring:
    """Says how many bytes there are, and knows one recording only: it starts with b"sound"."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []
        self.inside = self.most = 0
        self.counting = threading.Lock()
        self.go = threading.Event()
        self.go.set()

    def singers(self) -> tuple[str, ...]:
        return ("Ada",)

    def map_points(self) -> tuple[MapPoint, ...]:
        return ()

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        with self.counting:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.go.wait(60)
        with self.counting:
            self.inside -= 1
        self.heard.append((len(data), name))
        if name == "broken":
            raise RuntimeError("the secret path /srv/run")
        if not data.startswith(b"sound"):
            raise UserError("This is no audio that can be read.")
        top = (Choice("Ada", 0.75), Choice("Ben & <b>Co</b>", 0.25))
        near = Near("Ada/First/1.mp3", "1", "Ada", "First", 0.5, True)
        moment = SegmentPrediction(0.0, len(data) / 10, 1.0, top)
        return Recognised(
            len(data) / 10, top, False, 0.5, 0.25, (moment,), (near,), Place(1, -2), ("A note.",)
        )

    def enroll(self, singer: str, data: bytes, name: str = "") -> str:
        raise NotImplementedError

    def undo(self) -> str:
        raise NotImplementedError

    def song_audio(self, song_id: str) -> bytes | None:
        raise NotImplementedError


SMALL = Limits(max_mb=0.1, max_minutes=1)


def asked(app: Any, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    """The answers to requests (method, path, httpx's options) that are sent at the same time."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await asyncio.gather(*(client.request(m, p, **o) for m, p, o in requests))

    return asyncio.run(ask())


def upload(data: bytes, name: str = "a.wav", **options: Any) -> tuple[str, str, dict[str, Any]]:
    return "POST", "/api/predict", {"files": {"file": (name, data)}, **options}


def test_a_recording_is_answered_with_all_that_the_predictor_says() -> None:
    predictor = Measuring()
    (found,) = asked(api(predictor, SMALL), upload(b"sound" * 20, "näme/../a.wav"))
    assert found.status_code == 200
    assert found.json() == _plain(predictor.recognise(b"sound" * 20))
    assert predictor.heard[0] == (100, "näme/../a.wav")


def _plain(found: Recognised) -> Any:
    return httpx.Response(200, json=asdict(found)).json()


def test_the_program_says_that_it_is_there() -> None:
    (found,) = asked(api(Measuring(), SMALL), ("GET", "/healthz", {}))
    assert (found.status_code, found.json()) == (200, {"status": "ok"})


REFUSED: dict[str, tuple[tuple[str, str, dict[str, Any]], int, str]] = {
    "no audio": (upload(b"text"), 400, "This is no audio that can be read."),
    "no form": (
        ("POST", "/api/predict", {"content": b"sound", "headers": {"content-type": "audio/wav"}}),
        415, "Send the recording as multipart/form-data, in the field `file`.",
    ),
    "nothing at all": (("POST", "/api/predict", {}), 415, "Send the recording as multipart"),
    "another field": (
        ("POST", "/api/predict", {"files": {"audio": ("a.wav", b"sound")}}),
        422, "Send the recording as a file, in the field `file`.",
    ),
    "a text in the field": (
        ("POST", "/api/predict", {"files": {"file": (None, b"sound")}}),
        422, "Send the recording as a file, in the field `file`.",
    ),
    "two files": (
        ("POST", "/api/predict",
         {"files": [("file", ("a", b"sound")), ("file", ("b", b"sound"))]}),
        422, "The form cannot be read: Too many files. Maximum number of files is 1.",
    ),
    "no boundary": (
        ("POST", "/api/predict",
         {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        422, "The form cannot be read: Missing boundary in multipart.",
    ),
    "a little too large": (upload(b"s" * 100_001), 413, "The file is larger than 0.1 MB."),
    "too large": (upload(b"s" * 200_000), 413, "The file is larger than 0.1 MB."),
    "far too large": (upload(b"s" * 1_000_000), 413, "The file is larger than 0.1 MB."),
    "another method": (("GET", "/api/predict", {}), 405, "Method Not Allowed"),
    "another path": (("GET", "/api/nothing", {}), 404, "Not Found"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_answered_gets_a_sentence(name: str) -> None:
    request, code, sentence = REFUSED[name]
    (found,) = asked(api(Measuring(), SMALL), request)
    assert found.status_code == code
    assert list(found.json()) == ["detail"]
    assert found.json()["detail"].startswith(sentence)


def test_the_largest_file_that_is_allowed_is_answered() -> None:
    (found,) = asked(api(Measuring(), SMALL), upload(b"sound" * 20_000))
    assert found.status_code == 200


def test_what_goes_wrong_inside_is_not_told_outside() -> None:
    (found,) = asked(api(Measuring(), SMALL), upload(b"sound", "broken"))
    assert found.status_code == 500
    assert found.json() == {"detail": "Something went wrong here; the log says what."}


class Endless:
    """The head of a form, and then bytes without end; counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield (b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
        while True:
            self.taken += 10_000
            yield b"s" * 10_000


def test_an_upload_without_end_is_given_up_while_it_comes_in() -> None:
    body = Endless()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    options = {"content": body, "headers": headers}
    (found,) = asked(api(Measuring(), SMALL), ("POST", "/api/predict", options))
    assert found.status_code == 413
    assert body.taken <= 2 * (100_000 + ENVELOPE) + 20_000


def test_an_upload_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await asyncio.sleep(10)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    (found,) = asked(
        api(Measuring(), SMALL), ("POST", "/api/predict", {"content": body(), "headers": headers})
    )
    assert (found.status_code, found.json()) == (408, {"detail": "The upload stopped coming."})


def test_an_upload_is_never_written_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file is opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    app = api(Measuring(), Limits(max_mb=3, max_minutes=1))
    for data, code in ((b"sound" * 500_000, 200), (b"sound" * 700_000, 413)):
        (found,) = asked(app, upload(data))
        assert found.status_code == code


def test_all_requests_are_answered_in_turn_and_only_some_are_in_memory_at_once() -> None:
    predictor = Measuring()
    predictor.go.clear()
    app, coming = api(predictor, SMALL), itertools.count(1)

    async def door(*request: Any) -> None:
        if next(coming) == 24:  # the last one; all the others are here
            async with asyncio.timeout(60):
                while predictor.inside < AT_ONCE:
                    await asyncio.sleep(0.001)
            predictor.go.set()
        await app(*request)

    found = asked(door, *(upload(b"sound" * n) for n in range(1, 25)))
    assert [one.json()["seconds"] for one in found] == [n / 2 for n in range(1, 25)]
    assert predictor.most == AT_ONCE


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_with_a_password_nothing_but_healthz_is_told_to_who_does_not_know_it() -> None:
    predictor = Measuring()
    app = api(predictor, SMALL, "open sesame: ü")
    right = {**basic("anyone:open sesame: ü")}
    for headers in ({}, basic("anyone:open sesame"), basic("open sesame: ü"), basic(":"),
                    {"Authorization": "Basic ???"}, {"Authorization": "Basic"},
                    {"Authorization": right["Authorization"].replace("Basic", "Bearer")},
                    {"Authorization": "Basic 你".encode()}):  # fmt: skip
        for request in (
            upload(b"sound", headers=headers),
            ("GET", "/openapi.json", {"headers": headers}),
            ("GET", "/", {"headers": headers}),
        ):
            (found,) = asked(app, request)
            assert found.status_code == 401
            assert found.headers["www-authenticate"].startswith('Basic realm="')
            assert "password is missing or wrong" in found.json()["detail"]
    assert not predictor.heard
    assert asked(app, ("GET", "/healthz", {}))[0].status_code == 200
    assert asked(app, upload(b"sound", headers=right))[0].status_code == 200
    lower = {"Authorization": right["Authorization"].replace("Basic", "basic")}
    assert asked(app, ("GET", "/openapi.json", {"headers": lower}))[0].status_code == 200


def test_a_socket_is_closed_to_who_does_not_know_the_password() -> None:
    sent: list[dict[str, Any]] = []

    async def connect() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/queue", "headers": [], "query_string": b""}
        await api(Measuring(), SMALL, "x")(scope, receive, send)

    asyncio.run(connect())
    assert [one["type"] for one in sent] == ["websocket.close"]


def test_the_description_says_what_is_sent_and_what_comes_back() -> None:
    (found,) = asked(
        api(Measuring(), SMALL, "x"), ("GET", "/openapi.json", {"headers": basic(":x")})
    )
    described = found.json()
    predict = described["paths"]["/api/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "401", "408", "413", "415", "422"}
    assert predict["security"] == [{"password": []}]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    schemas = described["components"]["schemas"]
    assert set(schemas["Recognised"]["required"]) == set(Recognised.__dataclass_fields__)
    assert schemas["Recognised"]["description"] == "The answer to one recording."
    (open_one,) = asked(api(Measuring(), SMALL), ("GET", "/openapi.json", {}))
    assert "401" not in open_one.json()["paths"]["/api/predict"]["post"]["responses"]


def test_no_page_of_the_api_asks_another_host() -> None:
    for path in ("/docs", "/redoc"):
        assert asked(api(Measuring(), SMALL), ("GET", path, {}))[0].status_code == 404


class Half(Measuring):
    """Takes every other file for a recording."""

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        return super().recognise(b"sound" + data if len(data) % 2 else data, name)


schema = schemathesis.openapi.from_asgi("/openapi.json", api(Half(), SMALL))
# Which bytes are a recording cannot be described, so some that should be one are refused.
BYTES = [CHECKS.get_one("positive_data_acceptance")]


@schema.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_the_api_does_what_its_description_says(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=BYTES)


def test_the_names_of_files_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("../x.wav", "/etc/passwd", "a\x00b.wav", "C:\\x.wav", "x" * 3000):
        (found,) = asked(api(Measuring(), SMALL), upload(b"sound", name))
        assert found.status_code == 200
    assert not list(tmp_path.iterdir())
    assert not list(tmp_path.parent.glob("x.wav"))


DATA = b"ID3" + bytes(range(97))


class OneSong:
    def song_audio(self, song_id: str) -> bytes | None:
        if song_id == "broken":
            raise UserError("the song cannot be read")
        return DATA if song_id == "Ada/a b&c.mp3" else None


@pytest.fixture
def kept() -> Recent:
    return Recent(1000)


@pytest.fixture
def client(kept: Recent) -> TestClient:
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


def test_tokens_open_what_they_are_for(client: TestClient, kept: Recent) -> None:
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
