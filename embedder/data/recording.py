"""A recording that somebody sent becomes mono samples, in memory alone.

Enters: the bytes of an audio file as a phone or a browser makes it. Leaves: int16 samples as
`audio.decode` gives them of the same file; or a `UserError` of one sentence for who sent it. What
libsndfile does not know (m4a, aac, webm) is decoded through PyAV, which needs no program beside it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import soundfile

from embedder.config import SAMPLE_RATE
from embedder.data.audio import (
    AudioError,
    Floats,
    Samples,
    mono_blocks,
    quiet,
    resampled,
    to_int16,
)
from embedder.data.prepare import SILENT_PEAK
from embedder.errors import UserError

SHORTEST_S = 0.5  # a recording to predict must have this much, s
# libsndfile also takes bytes for formats that nobody sends and that have no signature to speak of.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "CAF")
NO_AUDIO = "This is no audio that can be read; wav, mp3, flac, ogg, m4a and webm can be."
DAMAGED = "The recording is damaged."

Blocks = Callable[[bytes], Iterator[Floats]]


def decode_recording(data: bytes, max_seconds: float) -> Samples:
    """Mono int16 samples (samples,) at 16 kHz of a whole file's bytes.

    Decoding ends as soon as there is more than `max_seconds`: a small file that unpacks to hours
    of silence takes no more memory than a recording that is allowed.

    Raises:
        UserError: it is no audio, damaged, too short, too long or silent; or it needs PyAV, which
            is not installed.
    """
    if not data:
        raise UserError("The recording is empty: it has no bytes.")
    container = container_of(data)
    blocks = _sndfile(data) if container is None else _containers(data, container)
    most = int(max_seconds * SAMPLE_RATE)
    kept = bytearray()
    try:
        with quiet():
            for block in blocks:
                kept += to_int16(block).tobytes()
                if len(kept) > 2 * most:
                    raise UserError(f"The recording is longer than {_minutes(max_seconds)}.")
    except AudioError as error:
        raise UserError(f"The recording is damaged: {error.reason}.") from None
    found = np.frombuffer(kept, dtype=np.int16)
    seconds = len(found) / SAMPLE_RATE
    if seconds < SHORTEST_S:
        raise UserError(
            f"The recording is too short: {seconds:.2f} s, and {SHORTEST_S:g} s are needed."
        )
    if max(int(found.max()), -int(found.min())) < SILENT_PEAK:
        raise UserError("The recording is silent: its loudest sample is below −60 dB.")
    return found


def container_of(data: bytes) -> str | None:
    """The container that PyAV must open, as FFmpeg names it; None where libsndfile is asked.

    It is told by the first bytes and never left to FFmpeg to guess: some of its formats are lists
    of other files or addresses, which would then be opened.
    """
    if data[4:8] == b"ftyp":
        return "mov"  # m4a, mp4
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"  # webm
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "aac"  # ADTS; an mp3 frame has a layer in these bits
    return None


def _sndfile(data: bytes) -> Iterator[Floats]:
    """Blocks (n,) at 16 kHz of what libsndfile decodes."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in FORMATS:
                raise UserError(NO_AUDIO)
            yield from resampled(
                "the recording", mono_blocks("the recording", file), file.samplerate, SAMPLE_RATE
            )
    except soundfile.LibsndfileError:
        raise UserError(DAMAGED if _has_signature(data) else NO_AUDIO) from None
    except (OSError, RuntimeError):  # soundfile, soxr
        raise UserError(DAMAGED) from None


def _has_signature(data: bytes) -> bool:
    """Whether it begins like one of the formats, so that it is the rest that is wrong."""
    return data[:4] in (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff") or (
        data[:3] == b"ID3"
    )


def _containers(data: bytes, container: str) -> Iterator[Floats]:
    """Blocks (n,) at 16 kHz of the first sound track of what PyAV decodes."""
    try:
        import av
    except ModuleNotFoundError:
        raise UserError(
            "m4a, aac and webm need PyAV, which is not installed here: python -m pip install -r "
            "requirements-web.txt"
        ) from None

    def blocks(file: av.container.InputContainer) -> Iterator[Floats]:
        plain = av.AudioResampler(format="fltp")  # of the sample format only
        for frame in file.decode(file.streams.audio[0]):
            for one in plain.resample(frame):
                mono: Floats = one.to_ndarray().mean(axis=0)
                if not np.isfinite(mono).all():
                    raise UserError(DAMAGED)
                yield mono

    try:
        with av.open(io.BytesIO(data), "r", container, {"protocol_whitelist": ""}) as file:
            if not file.streams.audio:
                raise UserError("There is no sound in this file.")
            yield from resampled(
                "the recording", blocks(file), file.streams.audio[0].rate, SAMPLE_RATE
            )
    except (av.FFmpegError, ValueError, OSError, RuntimeError):
        # PyAV's errors, a frame of another rate than the first, and what soxr refuses.
        raise UserError(DAMAGED) from None


def _minutes(seconds: float) -> str:
    """`15 minutes`, `90 s`."""
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} s"
