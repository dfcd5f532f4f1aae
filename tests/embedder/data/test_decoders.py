"""Odd files of one song: decoded to their end, whatever they say of themselves, and what is missing
is said; those that hold no song are refused."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from embedder.config import SAMPLE_RATE
from embedder.data.audio import Audio, AudioError, decode, read_audio, unusable

S = 3.0  # length of the song, s
RNG = np.random.default_rng(5)


@cache
def song(rate: int = 44100, channels: int = 2) -> np.ndarray:
    """A tone that goes up, with a little noise: (n, channels)."""
    time = np.arange(round(S * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * time) * time)
    noise = np.random.default_rng(1).normal(0, 0.01, len(time))
    return np.repeat((tone + noise)[:, None], channels, axis=1)


def written(form: str, rate: int = 44100, wave: np.ndarray | None = None, **options: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, song(rate) if wave is None else wave, rate, format=form, **options)
    return out.getvalue()


@cache
def encoded(
    form: str,
    codec: str,
    rate: int = 44100,
    channels: int = 2,
    sign: float = 1.0,
    xing: bool = True,
    title: str = "",
    repeats: int = 1,
) -> bytes:
    """What FFmpeg's encoders make of the song, several times; `sign` of the second channel."""
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    options = {"id3v2_version": "0", "write_xing": str(int(xing))} if form == "mp3" else {}
    wave = song(rate, channels) * np.where(np.arange(channels) == 1, sign, 1.0)
    wave = np.tile(wave, (repeats, 1))
    out = io.BytesIO()
    with av.open(out, "w", format=form, options=options) as file:
        if title:
            file.metadata["title"] = title
        stream = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave.reshape(1, -1), np.float32), format="flt", layout=layout
        )
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 1024
        cut = av.AudioResampler(stream.format, layout, rate, frame_size=size)
        for part in [*cut.resample(frame), *cut.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def mp3(rate: int = 44100, channels: int = 2, **options: object) -> bytes:
    return encoded("mp3", "libmp3lame", rate, channels, **options)  # type: ignore[arg-type]


def noise(size: int) -> bytes:
    return np.random.default_rng(2).integers(0, 255, size, dtype=np.uint8).tobytes()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_hole(data: bytes, hole: bytes) -> bytes:
    return data[: len(data) // 3] + hole + data[len(data) // 3 :]


def xing_times(factor: float) -> bytes:
    data = bytearray(mp3())
    place = max(data.find(b"Xing"), data.find(b"Info")) + 8
    (frames,) = struct.unpack(">I", data[place : place + 4])
    data[place : place + 4] = struct.pack(">I", int(frames * factor))
    return bytes(data)


def sized(size: int) -> bytes:
    """A wav whose data chunk says that it has this many bytes."""
    data = bytearray(written("WAV"))
    place = data.find(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    return bytes(data)


def crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
            value &= 0xFFFFFFFF
    return value


@cache
def other_serial(data: bytes) -> bytes:
    """The same Ogg stream under another number."""
    pages, place = bytearray(data), 0
    while (place := pages.find(b"OggS", place)) >= 0:
        table = pages[place + 27 : place + 27 + pages[place + 26]]
        end = place + 27 + len(table) + sum(table)
        pages[place + 14 : place + 18] = struct.pack("<I", 4711)
        pages[place + 22 : place + 26] = bytes(4)
        pages[place + 22 : place + 26] = struct.pack("<I", crc(bytes(pages[place:end])))
        place = end
    return bytes(pages)


def flac_total(samples: int) -> bytes:
    data = bytearray(written("FLAC"))
    data[21] &= 0xF0
    data[22:26] = struct.pack(">I", samples)
    return bytes(data)


ID3 = b"ID3\x03\x00\x00\x00\x00\x07\x76" + bytes(1014)
# name → the file, seconds that must be decoded, a phrase of the note ("": there is none)
DECODED: dict[str, tuple[Callable[[], bytes], float, str]] = {
    "mp3": (mp3, S, ""),
    "mp3 with zeros behind its tag": (lambda: ID3 + bytes(2048) + mp3(), S, ""),
    "mp3 with zeros first": (lambda: bytes(4096) + mp3(), S, ""),
    "mp3 with junk first": (lambda: b"HTTP/1.1 200 OK\r\n\r\n" + mp3(), S, ""),
    "mp3 from within a frame": (lambda: mp3()[1000:], S, ""),
    "mp3 that ends early": (lambda: half(mp3()), S / 2, "1.5 of 3.0 s could be decoded"),
    "mp3 with too small a count": (lambda: xing_times(0.25), S, ""),
    "mp3 with too large a count": (lambda: xing_times(10), S, ""),
    "two mp3s": (lambda: mp3() + mp3(), 2 * S, "its header says 3.0 s"),
    "two mp3s with tags": (lambda: ID3 + mp3() + ID3 + mp3(), 2 * S, "could be decoded"),
    "mp3s of two rates": (lambda: mp3(xing=False) + mp3(48000, xing=False), 2 * S, ""),
    "stereo and mono mp3": (lambda: mp3(xing=False) + mp3(22050, 1, xing=False), 2 * S, ""),
    "mp3 with a hole": (lambda: with_hole(mp3(), bytes(3000)), S, "s could be decoded"),
    "mp3 with junk within": (lambda: with_hole(mp3(), noise(20000)), S, "s could be decoded"),
    "mp3 with a long tail": (lambda: mp3() + bytes(100_000), S, ""),
    "wav": (lambda: written("WAV"), S, ""),
    "wav that ends early": (lambda: half(written("WAV")), S / 2, "1.5 of 3.0 s"),
    "24 bit wav that ends early": (
        lambda: half(written("WAV", subtype="PCM_24")), S / 2, "1.5 of 3.0 s",
    ),
    "wav of a pipe": (lambda: sized(0xFFFFFFFF), S, ""),
    "wav without a size": (lambda: sized(0), S, "its header says 0.0 s, 3.0 s could be decoded"),
    "aiff that ends early": (lambda: half(written("AIFF")), S / 2, "1.5 of 3.0 s"),
    "au that ends early": (lambda: half(written("AU", subtype="PCM_16")), S / 2, "1.5 of 3.0 s"),
    "caf that ends early": (lambda: half(written("CAF")), S / 2 - 0.05, "1.5 of 3.0 s"),
    "w64 that ends early": (lambda: half(written("W64")), S / 2, "1.5 of 3.0 s"),
    "rf64 that ends early": (lambda: half(written("RF64")), S / 2, "1.5 of 3.0 s"),
    "flac": (lambda: written("FLAC"), S, ""),
    "flac with a tag": (lambda: ID3 + written("FLAC"), S, ""),
    "flac that ends early": (lambda: half(written("FLAC")), S / 2, " of 3.0 s"),
    "damaged flac": (lambda: with_hole(written("FLAC"), noise(9)), S - 0.1, " of 3.0 s"),
    "flac with too small a count": (lambda: flac_total(30000), S, "its header says 0.7 s"),
    "flac without a count": (lambda: flac_total(0), S, ""),
    "two flacs": (lambda: written("FLAC") * 2, 2 * S, "its header says 3.0 s"),
    "ogg": (lambda: written("OGG"), S, ""),
    "ogg that ends early": (lambda: half(written("OGG")), 1.2, "it breaks off after 1.2 s"),
    "ogg that ends within a page": (
        lambda: written("OGG")[:-3000], 2.6, "s or more could be decoded",
    ),
    "chained ogg": (lambda: written("OGG") + other_serial(written("OGG")), 2 * S, ""),
    "chained ogg of two rates": (
        lambda: written("OGG") + other_serial(written("OGG", 48000, song(48000, 1))), 2 * S, "",
    ),
    "chained opus": (lambda: encoded("ogg", "libopus", 48000) * 2, 2 * S, ""),
    "m4a": (lambda: encoded("ipod", "aac"), S, ""),
    "m4a of eight channels": (lambda: encoded("ipod", "aac", 44100, 8), S, ""),
    "aac": (lambda: encoded("adts", "aac"), S, ""),
    "webm": (lambda: encoded("webm", "libopus", 48000), S, ""),
    "webm that ends early": (
        lambda: half(encoded("webm", "libopus", 48000)), S / 2, " of 3.0 s could be decoded",
    ),
    "mka": (lambda: encoded("matroska", "aac"), S, ""),
    "wavpack": (lambda: encoded("wv", "wavpack"), S, ""),
    "inverted wav": (
        lambda: written("WAV", wave=song() * (1, -1)), S, "channels cancel each other: the left",
    ),
    "inverted mp3": (lambda: mp3(sign=-1.0), S, "channels cancel each other"),
    "one channel of two": (lambda: written("WAV", wave=song() * (1, 0)), S, ""),
    "one channel of six": (
        lambda: written("WAV", wave=song(channels=6) * (0, 0, 1, 0, 0, 0)), S, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DECODED))
def test_what_can_be_had_is_decoded_and_what_is_missing_is_said(name: str) -> None:
    build, seconds, phrase = DECODED[name]
    data = build()
    found = read_audio(data)
    assert len(found.samples) / SAMPLE_RATE == pytest.approx(seconds, abs=0.2)
    assert found.seconds == pytest.approx(len(found.samples) / SAMPLE_RATE, abs=0.01)
    assert unusable(found.seconds, found.peak) is None
    assert phrase in " ".join(found.notes) if phrase else not found.notes
    # What came first is at its place, and sounds as it did.
    expected = song(SAMPLE_RATE, 1)[1500:14500, 0]
    stretch = found.samples[4000:12000] / 32768
    level = np.sqrt(np.convolve(expected**2, np.ones(8000), "valid") * np.square(stretch).sum())
    assert (np.correlate(expected, stretch, "valid") / level).max() > 0.9


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "html": (lambda: b"<!DOCTYPE html><html>404</html>" * 50, "unreadable"),
    "one byte": (lambda: b"\xff", "unreadable"),
    "no byte": (lambda: b"", "empty"),
    "noise": (lambda: noise(100_000), "unreadable"),
    "zeros": (lambda: bytes(100_000), "unreadable"),
    "a list of files": (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "unreadable"),
    "files to be joined": (lambda: b"ffconcat version 1.0\nfile '/etc/hostname'\n", "unreadable"),
    "a picture": (lambda: b"\xff\xd8\xff\xe0" + noise(30_000), "unreadable"),
    "m4a without its index": (lambda: half(encoded("ipod", "aac")), "unreadable"),
    "wav without samples": (lambda: written("WAV", wave=np.zeros((0, 2))), "empty"),
    "NaN": (lambda: written("WAV", wave=song() * np.nan, subtype="FLOAT"), "unreadable"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_holds_no_sound_is_refused_with_its_kind(name: str) -> None:
    build, kind = REFUSED[name]
    with pytest.raises(AudioError) as error:
        read_audio(build())
    assert error.value.kind == kind
    assert "Unspecified internal error" not in error.value.reason


def test_a_tag_that_is_no_unicode_does_not_cost_the_song() -> None:
    data = encoded("ipod", "aac", title="Cafe-Song")
    assert b"Cafe-Song" in data
    found = read_audio(data.replace(b"Cafe-Song", b"Caf\xe9-Song"))
    assert found.seconds == pytest.approx(S, abs=0.2)


def test_the_last_hundredth_of_an_mp3_is_missed() -> None:
    whole = encoded("mp3", "libmp3lame", 44100, 2, repeats=20)
    assert read_audio(whole).notes == ()
    found = read_audio(whole[: round(0.985 * len(whole))])
    assert found.seconds < 20 * S - 0.5
    assert "could be decoded" in found.notes[0]


@pytest.mark.parametrize("name", ["mp3", "wav", "m4a"])
def test_a_neighbour_that_a_mac_left_is_not_in_the_way(name: str, tmp_path: Path) -> None:
    data = DECODED[name][0]()
    (tmp_path / f"a.{name}").write_bytes(data)
    (tmp_path / f"._a.{name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4072))
    assert np.array_equal(decode(tmp_path / f"a.{name}"), read_audio(data).samples)


def test_the_louder_channel_is_what_is_taken() -> None:
    wave = song() * (0.4, -0.5)
    found = read_audio(written("WAV", wave=wave, subtype="FLOAT"))
    assert (found.channel, found.plain) == (1, False)
    right = read_audio(written("WAV", wave=wave[:, 1:], subtype="FLOAT"))
    assert np.array_equal(found.samples, right.samples)


def test_decoding_ends_at_the_longest_that_is_wanted() -> None:
    for data in (mp3() * 20, encoded("webm", "libopus", 48000), written("FLAC")):
        with pytest.raises(AudioError) as error:
            read_audio(data, most_s=2.0)
        assert error.value.kind == "long"


def test_ordinary_files_are_what_libsndfile_makes_of_them_and_odd_ones_are_marked() -> None:
    for name in ("mp3", "wav", "flac", "ogg", "wav that ends early"):
        assert read_audio(DECODED[name][0]()).plain, name
    for name in ("two mp3s", "chained ogg", "m4a", "inverted wav", "mp3 with junk first"):
        assert not read_audio(DECODED[name][0]()).plain, name


def test_the_mp3_decoder_is_quiet_but_nobody_else_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp3").write_bytes(mp3()[20_000:])  # its first frame wants bits that are gone
    read = soundfile.SoundFile.read

    def chatty(*arguments: object, **options: object) -> object:
        os.write(2, b"\nNote: Trying to resync...\n")
        os.write(2, b"Warning: someone else's\n\nNote: this, too\n")
        return read(*arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", chatty)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode, [tmp_path / "a.mp3"] * 8))
    os.write(2, b"after\n")
    lines = capfd.readouterr().err.splitlines()
    assert lines.pop() == "after"
    said = [line for line in lines if line]
    assert said == ["Warning: someone else's", "Note: this, too"] * (len(said) // 2)
    assert len(said) >= 2 * 8


@pytest.mark.parametrize("name", ["mp3 from within a frame", "m4a", "chained ogg", "flac"])
def test_a_file_gives_what_its_bytes_give_whatever_its_name_says(name: str, tmp_path: Path) -> None:
    data = DECODED[name][0]()
    for suffix in ("mp3", "wav"):
        (tmp_path / f"x.{suffix}").write_bytes(data)
        assert np.array_equal(decode(tmp_path / f"x.{suffix}"), read_audio(data).samples)


SHORT = song(8000)[:2400]  # of a size that many damaged copies of can be tried


@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3"])
def test_damaged_files_are_decoded_or_refused_and_nothing_else(form: str) -> None:
    rng = np.random.default_rng(0)
    subtype = {} if form in ("FLAC", "OGG", "MP3") else {"subtype": "PCM_16"}
    whole = written(form, 8000, SHORT, **subtype)
    for _ in range(30):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 150), 3):
            data[place] = rng.choice([0, 1, 127, 128, 255])
        with suppress(AudioError):
            read_audio(bytes(data[: rng.integers(20, len(data))]), most_s=60.0)


def test_notes_are_part_of_what_is_decoded() -> None:
    found = read_audio(half(written("WAV")))
    assert isinstance(found, Audio)
    assert found.expected_s == pytest.approx(S, abs=0.01)
    assert found.notes == ("1.5 of 3.0 s could be decoded",)
