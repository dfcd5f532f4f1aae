"""Decoding against references computed in one piece, and every file that must be refused."""

from __future__ import annotations

import io
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from embedder.config import SAMPLE_RATE
from embedder.data import audio, decoders
from embedder.data.audio import AudioError, Samples, decode, to_int16
from embedder.errors import UserError

RNG = np.random.default_rng(1)


def noise(seconds: float, rate: int, channels: int = 1, level: float = 0.2) -> np.ndarray:
    return (level * RNG.standard_normal((round(seconds * rate), channels))).clip(-1, 1)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_at_the_same_rate_samples_are_the_mean_of_the_channels(
    tmp_path: Path, channels: int
) -> None:
    wave = noise(1.3, SAMPLE_RATE, channels)
    soundfile.write(tmp_path / "a.wav", wave, SAMPLE_RATE, subtype="DOUBLE")
    expected = np.rint(wave.mean(axis=1) * 32768)
    found = decode(tmp_path / "a.wav")
    assert found.dtype == np.int16
    assert np.abs(found - expected).max() <= 1  # soundfile hands over float32


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_is_resampled_as_if_in_one_piece(tmp_path: Path, rate: int) -> None:
    wave = noise(7.7, rate, 2).astype(np.float32)  # more than one block from 44.1 kHz up
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    expected = soxr.resample(wave.mean(axis=1), rate, SAMPLE_RATE, quality="HQ") * 32768
    found = decode(tmp_path / "a.wav")
    assert len(found) == len(expected) == pytest.approx(7.7 * SAMPLE_RATE, abs=1)
    assert np.abs(found - expected).max() < 1.0


def test_the_rate_can_be_chosen_and_keeps_the_pitch(tmp_path: Path) -> None:
    time = np.arange(2 * 44100) / 44100
    soundfile.write(tmp_path / "a.flac", 0.5 * np.sin(2 * np.pi * 1000 * time), 44100)
    found = decode(tmp_path / "a.flac", rate=24000)
    assert len(found) == 48000
    assert np.abs(np.fft.rfft(found)).argmax() == 2000  # bins of half a hertz
    assert found[4000:-4000].max() == pytest.approx(0.5 * 32768, rel=1e-3)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_each_format_gives_the_same_song(tmp_path: Path, suffix: str) -> None:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1500 * time)
    soundfile.write(tmp_path / f"a.{suffix}", wave, SAMPLE_RATE)
    found = decode(tmp_path / f"a.{suffix}") / 32768
    assert len(found) == pytest.approx(len(wave), abs=0.1 * SAMPLE_RATE)
    middle = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)
    spectra = [np.abs(np.fft.rfft(x[middle])) for x in (found, wave)]
    assert np.corrcoef(*spectra)[0, 1] > 0.99


def test_too_loud_is_clipped_not_wrapped_around(tmp_path: Path) -> None:
    wave = np.array([1.0, -1.0, 1.5, -1.5, 40.0, -40.0, 0.99999, -0.99999])
    soundfile.write(tmp_path / "a.wav", wave, SAMPLE_RATE, subtype="FLOAT")
    top, low = 32767, -32768
    assert decode(tmp_path / "a.wav").tolist() == [top, low, top, low, top, low, top, low]


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30))
def test_int16_is_the_nearest_value_within_range(values: list[float]) -> None:
    found = to_int16(np.array(values, dtype=np.float32))
    for value, sample in zip(values, found.tolist(), strict=True):
        assert -32768 <= sample <= 32767
        limited = min(max(value * 32768, -32768), 32767)
        assert abs(sample - limited) <= 0.5


def test_blocks_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", noise(2.0, 44100, 2), 44100)
    whole = decode(tmp_path / "a.flac")
    for block in (1000, 4096, 88199, 88200):
        monkeypatch.setattr(decoders, "BLOCK", block)
        assert np.abs(decode(tmp_path / "a.flac").astype(int) - whole).max() <= 1


def test_memory_holds_the_result_and_one_block_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK", 1 << 14)
    soundfile.write(tmp_path / "long.wav", noise(120, 16000, 2), 16000)
    tracemalloc.start()
    try:
        result = decode(tmp_path / "long.wav")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.nbytes == 120 * 16000 * 2
    assert peak < 1.5 * result.nbytes + 1_000_000  # in float and stereo it would be 4 times


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44100])
def test_samples_that_are_no_numbers_make_a_file_unreadable(
    tmp_path: Path, bad: float, rate: int
) -> None:
    wave = noise(1.0, rate, 2)
    wave[-1, 1] = bad
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav is unreadable: it holds samples that are not f"):
        decode(tmp_path / "a.wav")


def test_files_that_give_no_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(UserError, match=r"a\.wav is unreadable: .*[Nn]o such file|cannot find"):
        decode(path)
    path.write_bytes(b"")
    with pytest.raises(AudioError, match=r"a\.wav is empty: it has no bytes") as error:
        decode(path)
    assert (error.value.kind, error.value.reason) == ("empty", "it has no bytes")
    path.write_bytes(b"this is no audio, whatever its name says" * 20)
    with pytest.raises(
        AudioError, match=r"a\.wav is unreadable: it holds no audio in a known f"
    ) as error:
        decode(path)
    assert error.value.kind == "unreadable"
    soundfile.write(path, np.zeros((0, 2)), 44100)
    with pytest.raises(AudioError, match="is empty: it holds no sample"):
        decode(path)
    soundfile.write(path, noise(0.1, 1000), 200)
    with pytest.raises(AudioError, match="sample rate of 200 Hz is not between 1000 and 768000"):
        decode(path)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=r"folder\.wav is unreadable"):
        decode(tmp_path / "folder.wav")


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.0, SAMPLE_RATE), SAMPLE_RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(data[: len(data) // 2])
    whole, half = decode(tmp_path / "a.wav"), decode(tmp_path / "b.wav")
    assert 0 < len(half) < len(whole)
    assert np.array_equal(half, whole[: len(half)])


def test_stderr_comes_back_after_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp3").write_bytes(b"\x00" * 5000)
    with pytest.raises(AudioError):
        decode(tmp_path / "a.mp3")
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"


def test_threads_decode_the_same_as_one_after_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.ogg" for n in range(8)]
    for path in paths:
        soundfile.write(path, noise(1.0, 22050), 22050)
    alone = [decode(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(decode, paths))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_file_that_is_there_is_not_said_to_be_missing(tmp_path: Path) -> None:
    for suffix in (".mp3", ".wav", ".flac", ".ogg"):
        path = tmp_path / f"junk{suffix}"
        path.write_bytes(b"junk")
        with pytest.raises(AudioError) as found:
            decode(path)
        assert found.value.kind == "unreadable"
        assert "not exist" not in found.value.reason


LONG = 900.0
NOISE = np.random.default_rng(3)
CONTAINERS = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "aac": ("adts", "aac")}


def decode_recording(data: bytes, max_seconds: float) -> Samples:
    return audio.decode_recording(data, max_seconds).samples


def song(seconds: float = 3.0, rate: int = 48000, channels: int = 2) -> np.ndarray:
    """Tones that go up, others in each channel, so that a wrong rate, a shift or a mix is seen."""
    time = np.arange(round(seconds * rate))[:, None] / rate
    tones = 0.3 * np.sin(2 * np.pi * (300 + 100 * time) * time * (1 + 0.4 * np.arange(channels)))
    return tones + 0.001 * NOISE.normal(size=tones.shape)


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
    wave = NOISE.uniform(-0.5, 0.5, size=(16000, 12))
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
