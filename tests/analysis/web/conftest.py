"""A predictor that tells singers by their pitch, its page on a free port, and a real browser."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from analysis.web.schemas import (
    Choice,
    Limits,
    MapPoint,
    Near,
    Place,
    Predictor,
    Recognised,
    SegmentPrediction,
)
from embedder.errors import UserError

RATE = 16_000
PITCHES = {"Ada": 200.0, "Ben & <b>Co</b>": 400.0, "Cem": 600.0}  # Hz
STRANGE = 1500.0  # Hz; above it nobody sings


def tone(pitch: float, seconds: float = 4.0, kind: str = "WAV") -> bytes:
    """A whole audio file with one sine in it."""
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(RATE * seconds)) / RATE)
    out = io.BytesIO()
    soundfile.write(out, wave, RATE, format=kind)
    return out.getvalue()


@dataclass
class PitchPredictor:
    """Whose pitch is nearest; moments of one second; songs of three singers on a map."""

    pause_s: float = 0.0
    enrolled: list[tuple[str, float]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def pitches(self) -> dict[str, float]:
        return PITCHES | dict(self.enrolled)

    def singers(self) -> tuple[str, ...]:
        return tuple(self.pitches())

    def map_points(self) -> tuple[MapPoint, ...]:
        return tuple(
            MapPoint(10.0 * row + song, song % 3, singer, f"song {song}", f"{singer}/First")
            for row, singer in enumerate(PITCHES)
            for song in range(5)
        )

    def recognise(self, data: bytes, name: str = "") -> Recognised:
        time.sleep(self.pause_s)
        pitch, seconds = pitch_of(data, name)
        self.heard.append(name)
        away = {singer: abs(pitch - own) for singer, own in self.pitches().items()}
        order = sorted(away, key=lambda singer: away[singer])
        top = tuple(
            Choice(one, share) for one, share in zip(order, (0.9, 0.07, 0.002), strict=False)
        )
        moments = tuple(
            SegmentPrediction(float(at), min(at + 1.5, seconds), 0.25 * (at % 5), top)
            for at in range(int(seconds))
        )
        nearest = tuple(
            Near(f"{order[0]}/First/song {song}.mp3", f"song {song}", order[0],
                 f"{order[0]}/First", 0.9 - song / 10, song != 1)
            for song in range(5)
        )  # fmt: skip
        row = list(PITCHES).index(order[0]) if order[0] in PITCHES else 1
        notes = ("No voice was found: heard as a whole.",) if seconds < 2.5 else ()
        unknown = pitch > STRANGE
        return Recognised(
            seconds, top, unknown, 0.2 if unknown else 0.8, 0.5, moments, nearest,
            Place(10.0 * row + 2, 1.0), notes,
        )  # fmt: skip

    def enroll(self, singer: str, data: bytes, name: str = "") -> str:
        self.enrolled.append((singer, pitch_of(data, name)[0]))
        return f"learnt: {name} is {singer}"

    def undo(self) -> str:
        if not self.enrolled:
            raise UserError("nothing was enrolled, so there is nothing to take back")
        return f"taken back: {self.enrolled.pop()[0]}"

    def song_audio(self, song_id: str) -> bytes | None:
        return tone(PITCHES[song_id.split("/")[0]], 1.0, "MP3") if "song 1" not in song_id else None


def pitch_of(data: bytes, name: str) -> tuple[float, float]:
    """Strongest frequency in Hz, and length in s."""
    try:
        wave, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    except soundfile.SoundFileError as error:
        raise UserError(f"{name} is no recording that can be read") from error
    if not np.abs(wave).max() > 1e-4:
        raise UserError(f"{name} is silent")
    power = np.abs(np.fft.rfft(wave.mean(axis=1)))
    return float(np.argmax(power) * rate / len(wave)), len(wave) / rate


@dataclass
class Site:
    """A running page."""

    address: str
    predictor: PitchPredictor
    folder: Path  # where uploads arrive

    def left(self) -> list[Path]:
        """Files that lie in the upload folder."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


@contextmanager
def serving(predictor: Predictor, limits: Limits, password: str | None = None) -> Iterator[str]:
    """The page of a predictor on a free port of this machine; gives its address.

    A process has one page; where tests open another, the first has its upload folder again after.
    """
    import uvicorn

    from analysis.web.app import open_page

    running: list[uvicorn.Server] = []
    folder = os.environ.get("GRADIO_TEMP_DIR")

    def run() -> None:
        app = open_page(predictor, limits, password)
        running.append(uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none")))
        running[0].run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not (running and running[0].started):
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    server = running[0]
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
    if folder is not None:
        os.environ["GRADIO_TEMP_DIR"] = folder


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The page over a `PitchPredictor`, at most 2 MB and 1 minute."""
    predictor = PitchPredictor()
    with serving(predictor, Limits(max_mb=2, max_minutes=1)) as address:
        yield Site(address, predictor, Path(os.environ["GRADIO_TEMP_DIR"]))


@pytest.fixture(scope="session", name="tone")
def tone_fixture() -> Callable[..., bytes]:
    return tone


@pytest.fixture
def pitch_predictor() -> PitchPredictor:
    return PitchPredictor()


@pytest.fixture(scope="session", name="serving")
def serving_fixture() -> Callable[..., Any]:
    return serving
