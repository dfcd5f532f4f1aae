"""Recordings from memory against the same files from disk, and all that must be refused."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from embedder.config import SAMPLE_RATE
from embedder.data import audio
from embedder.data.audio import Samples, decode
from embedder.errors import UserError

LONG = 900.0
RNG = np.random.default_rng(3)
CONTAINERS = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "aac": ("adts", "aac")}


def decode_recording(data: bytes, max_seconds: float) -> Samples:
    return audio.decode_recording(data, max_seconds).samples


def song(seconds: float = 3.0, rate: int = 48000, channels: int = 2) -> np.ndarray:
    """Tones that go up, others in each channel, so that a wrong rate, a shift or a mix is seen."""
    time = np.arange(round(seconds * rate))[:, None] / rate
    tones = 0.3 * np.sin(2 * np.pi * (300 + 100 * time) * time * (1 + 0.4 * np.arange(channels)))
    return tones + 0.001 * RNG.normal(size=tones.shape)


def written(wave: np.ndarray, rate: int, form: str, **options: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=form, **options)
    return out.getvalue()


def contained(wave: np.ndarray, rate: int, name: str) -> bytes:
    """What a phone or a browser would send: (n, channels) through PyAV's own encoders."""
    form, codec = CONTAINERS[name]
    layout = "mono" if wave.shape[1] == 1 else "stereo"
    out = io.BytesIO()
    with av.open(out, "w", format=form) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave.T, np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 960
        cut = av.AudioResampler(stream.format, layout, rate, frame_size=size)
        for part in [*cut.resample(frame), *cut.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2)])
def test_a_recording_is_what_its_file_is(
    tmp_path: Path, form: str, rate: int, channels: int
) -> None:
    data = written(song(2.5, rate, channels), rate, form)
    (tmp_path / "a").write_bytes(data)
    assert np.array_equal(decode_recording(data, LONG), decode(tmp_path / "a"))


@pytest.mark.parametrize("name", list(CONTAINERS))
@pytest.mark.parametrize("channels", [1, 2])
def test_what_phones_and_browsers_record_sounds_as_it_did(name: str, channels: int) -> None:
    wave = song(3.0, 48000, channels)
    found = decode_recording(contained(wave, 48000, name), LONG) / 32768
    expected = decode_recording(written(wave, 48000, "WAV", subtype="FLOAT"), LONG) / 32768
    assert len(found) == pytest.approx(len(expected), abs=2500)  # a codec's own delay
    # The best of the shifts that an encoder may bring.
    stretch = expected[8000:16000]
    alike = [np.corrcoef(stretch, found[8000 + k : 16000 + k])[0, 1] for k in range(-50, 1500)]
    assert max(alike) > 0.98


def test_many_channels_are_averaged() -> None:
    wave = RNG.uniform(-0.5, 0.5, size=(16000, 12))
    found = decode_recording(written(wave, 16000, "WAV", subtype="FLOAT"), LONG)
    assert np.abs(found - np.rint(wave.mean(axis=1) * 32768)).max() <= 1


REFUSED = {
    "nothing": (b"", "The recording is empty"),
    "text": (b"hello, this is a text\n" * 100, "This is no audio that can be read"),
    "noise": (np.random.default_rng(0).bytes(50_000), "This is no audio"),
    "a list of files": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "This is no audio"),
    "files one after another": (b"ffconcat version 1.0\nfile /etc/hostname\n", "This is no audio"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "This is no audio"),
    "a header of wav alone": (b"RIFF\x24\x00\x00\x00WAVE", "The recording is damaged"),
    "a header of flac alone": (b"fLaC" + b"\0" * 200, "The recording is damaged"),
    "m4a without content": (b"\0\0\0\x20ftypM4A " + b"\0" * 1000, "The recording is damaged"),
    "webm without content": (b"\x1a\x45\xdf\xa3" + b"\x01" * 1000, "The recording is damaged"),
    "aac without content": (b"\xff\xf1" + b"\0" * 1000, "The recording is damaged"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_recording_gets_a_sentence(name: str) -> None:
    data, sentence = REFUSED[name]
    with pytest.raises(UserError, match=f"^{sentence}.*[.]$"):
        decode_recording(data, LONG)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"RIFF", b"\0\0\0\x18ftyp", b"\x1aE\xdf\xa3"])
)
def test_no_bytes_whatsoever_do_more_than_be_refused(data: bytes, start: bytes) -> None:
    with pytest.raises(UserError):
        decode_recording(start + data, LONG)


def test_each_length_and_level_has_its_own_sentence() -> None:
    with pytest.raises(UserError, match=r"too short: 0\.40 s, needed is 0\.5 s"):
        decode_recording(written(song(0.4), 48000, "WAV"), LONG)
    assert len(decode_recording(written(song(0.5), 48000, "WAV"), LONG)) == 8000
    with pytest.raises(UserError, match="The recording is silent"):
        decode_recording(written(np.zeros(32000), 16000, "FLAC"), LONG)
    with pytest.raises(UserError, match="The recording is silent"):
        decode_recording(written(song() * 0.002, 48000, "WAV", subtype="FLOAT"), LONG)
    with pytest.raises(UserError, match=r"longer than 2 s\.$"):
        decode_recording(written(song(2.1), 48000, "WAV"), 2.0)
    assert len(decode_recording(written(song(2.0), 48000, "WAV"), 2.0)) == 32000
    with pytest.raises(UserError, match=r"longer than 2 minutes\.$"):
        decode_recording(written(np.zeros(16000 * 121), 16000, "FLAC"), 120.0)


def test_the_length_of_what_a_browser_sends_is_bounded_too() -> None:
    with pytest.raises(UserError, match=r"longer than 2 s\.$"):
        decode_recording(contained(song(3.0), 48000, "webm"), 2.0)


def test_formats_that_nobody_sends_are_no_audio() -> None:
    for form in ("PVF", "IRCAM"):
        with pytest.raises(UserError, match="This is no audio that can be read"):
            decode_recording(written(song(1.0), 48000, form), LONG)


def test_what_could_not_be_decoded_is_a_note() -> None:
    data = written(song(2.0), 48000, "WAV")
    found = audio.decode_recording(data[: len(data) // 2], LONG)
    assert found.notes == ("1.0 of 2.0 s could be decoded",)


def test_samples_that_are_no_numbers_are_refused() -> None:
    wave = song(1.0)
    wave[100] = np.nan
    with pytest.raises(UserError, match="damaged: it holds samples that are not finite numbers"):
        decode_recording(written(wave, 48000, "WAV", subtype="FLOAT"), LONG)


def test_hours_of_silence_in_a_small_file_do_not_fill_the_memory() -> None:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 16000, 1, format="FLAC") as file:
        for _ in range(60):
            file.write(np.zeros(16000 * 60, np.int16))
    data = out.getvalue()
    assert len(data) < 1_000_000
    tracemalloc.start()
    with pytest.raises(UserError, match=r"longer than 60 s\.$"):
        decode_recording(data, 60.0)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 15_000_000  # the hour is 115 million bytes


def test_a_file_of_a_browser_that_was_cut_off_gives_what_there_is_of_it() -> None:
    data = contained(song(3.0), 48000, "webm")
    found = decode_recording(data[: len(data) // 2], LONG)
    assert 0.7 * SAMPLE_RATE < len(found) < 2.3 * SAMPLE_RATE
