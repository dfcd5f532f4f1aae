"""One audio file, or its bytes, becomes mono samples at one rate, with notes on what was odd.

Any format, rate, number of channels and length will do. The format is found in the content,
whatever the file's name, and the length that the file states is compared with what was decoded.
All commands and the page decode here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from embedder.catalogue import audio_format
from embedder.config import SAMPLE_RATE
from embedder.data.decoders import (
    NO_AUDIO,
    Block,
    OggLink,
    StreamInfo,
    UndecodableError,
    av_blocks,
    first_frame,
    ogg_links,
    sample_bytes,
    sndfile_blocks,
    xing_frames,
)
from embedder.errors import UserError

FULL_SCALE = 32768  # int16 value of amplitude 1.0
SILENT_PEAK = FULL_SCALE // 1000  # peak below which audio is silent: -60 dB of full scale
MIN_RECORDING_S = 0.5  # a recording to predict must have this much, s
RATES = (1000, 768000)  # sample rates that a file may have, Hz; anything else is a broken header
# Raised whenever a file that libsndfile does not decode to its end, or whose channels cancel, could
# decode to other samples than before. Of all others the samples never change.
DECODER = 1
CANCELLED = 0.25  # level of the channels' sum, of the loudest channel's, below which they cancel
EXACT_S = 0.02  # seconds that may be missing where the length is known to the sample
ROUGH_S = 0.15  # the same where a codec adds and takes away at both ends
UNREAD = 2048  # bytes behind the end that are no sound, such as tags

Samples = NDArray[np.int16]
Floats = NDArray[np.float32]
Source = Path | bytes
NOTHING = np.zeros(0, dtype=np.float32)


class AudioError(UserError):
    """A file that gives no audio. `kind` is "unreadable", "empty" or "long", `reason` says why."""

    def __init__(self, path: Path | str, kind: str, reason: str) -> None:
        super().__init__(f"{path} is {kind}: {reason}")
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Audio:
    """A decoded file."""

    samples: Samples  # (samples,), 32768 is amplitude 1.0
    seconds: float  # that were decoded
    expected_s: float | None = None  # that there should be, as far as that is known
    channel: int | None = None  # the one that was taken, from 0; None: the mean of all
    notes: tuple[str, ...] = ()  # what is to be known of it, each without a full stop
    plain: bool = True  # the mean of all channels as libsndfile alone decodes them

    @property
    def peak(self) -> int:
        """The largest absolute sample, 0 to 32768."""
        return max(int(self.samples.max(initial=0)), -int(self.samples.min(initial=0)))


def decode(path: Path, rate: int = SAMPLE_RATE) -> Samples:
    """The samples alone of `read_audio`."""
    return read_audio(path, rate).samples


def unusable(
    seconds: float, peak: int, shortest_s: float = MIN_RECORDING_S
) -> tuple[str, str] | None:
    """Kind ("short", "silent") and reason why decoded audio cannot be used; None if it can.

    Args:
        seconds: its length.
        peak: its largest absolute sample, 0 to 32768.
        shortest_s: the length that it must have, s.
    """
    if seconds < shortest_s:
        return "short", f"{seconds:.2f} s, needed is {shortest_s:g} s"
    if peak < SILENT_PEAK:
        return "silent", "its loudest sample is below -60 dB"
    return None


def to_int16(wave: Floats) -> Samples:
    """Float amplitude to int16: times 32768, rounded, clipped; never wrapped around."""
    return np.clip(np.rint(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def read_audio(source: Source, rate: int = SAMPLE_RATE, most_s: float | None = None) -> Audio:
    """Decode a file to its end.

    Channels are averaged; where they cancel each other, the loudest is taken alone. Then they are
    resampled (soxr, HQ), rounded, and clipped to the int16 range. What is held is the int16
    result, never the whole file in float. Threads may decode at the same time.

    Args:
        source: the file's path, or its bytes.
        rate: of the samples, Hz.
        most_s: decoding ends as soon as there is more than this, s.

    Raises:
        AudioError: the file cannot be read, or holds no sample, NaN, infinity, or more than
            `most_s`.
    """
    name = source if isinstance(source, Path) else "the recording"
    try:
        return _Reader(source, name, rate, most_s).audio()
    except OSError as error:
        raise AudioError(name, "unreadable", error.strerror or str(error)) from None


Decoder = Callable[[StreamInfo], Iterator[Block]]


@dataclass(eq=False)
class _Take:
    """What one decoder made of a file."""

    decoder: Decoder
    plain: bool  # libsndfile, of the whole file as one
    info: StreamInfo = field(default_factory=StreamInfo)
    kept: bytearray = field(default_factory=bytearray)  # grows in place, unlike a list of blocks
    seconds: float = 0.0
    power: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # of each channel
    summed: float = 0.0  # power of the channels' sum

    def measure(self, block: Floats, mono: Floats) -> None:
        """Add the power of a block (n, channels), and of its mean."""
        power = np.einsum("nc,nc->c", block, block, dtype=np.float64)
        if len(power) > len(self.power):
            self.power = np.pad(self.power, (0, len(power) - len(self.power)))
        self.power[: len(power)] += power
        self.summed += len(power) ** 2 * float(np.einsum("n,n->", mono, mono, dtype=np.float64))

    def cancelled(self) -> int | None:
        """The loudest channel, where the sum of all is far below it."""
        if len(self.power) < 2 or self.summed >= CANCELLED**2 * self.power.max():
            return None
        return int(np.argmax(self.power > 0.9 * self.power.max()))  # of equal ones the first


@dataclass(frozen=True)
class _Reader:
    """Reads one file, with as many decoders as it takes."""

    source: Source
    name: Path | str
    rate: int
    most_s: float | None

    def audio(self) -> Audio:
        with self.open() as file:
            size = file.seek(0, io.SEEK_END)
            if not size:
                raise AudioError(self.name, "empty", "it has no bytes")
            file.seek(0)
            form = audio_format(file)
            file.seek(0)
            links = ogg_links(file.read()) if form == "ogg" else []
        best = self.best(form, links)
        if not best.kept:
            if not form:  # FFmpeg takes noise for audio, and finds none in it
                raise AudioError(self.name, "unreadable", NO_AUDIO)
            raise AudioError(self.name, "empty", "it holds no sample")
        expected, note = self.judged(best, size, links)
        notes = [note] if note else []
        channel = best.cancelled()
        if channel is not None:
            count = len(best.power)
            which = ("left", "right")[channel] if count == 2 else f"{channel + 1}. of {count}"
            notes.append(f"its channels cancel each other: the {which} one alone is used")
            best = self.take(best.decoder, best.plain, channel)
        return Audio(
            samples=np.frombuffer(best.kept, dtype=np.int16),
            seconds=best.seconds,
            expected_s=expected,
            channel=channel,
            notes=tuple(notes),
            plain=best.plain and channel is None,
        )

    def open(self, start: int = 0, end: int | None = None) -> BinaryIO:
        """The file, or some of its bytes.

        Never by its name: libsndfile would look for a neighbour `._name`, and believe its suffix.
        """
        file = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")
        if start == 0 and end is None:
            return file
        with file:
            file.seek(start)
            return io.BytesIO(file.read(-1 if end is None else end - start))

    def best(self, form: str, links: list[OggLink]) -> _Take:
        """What the decoder makes of the file that can decode more of it: libsndfile, if equal.

        PyAV is asked where libsndfile fails, or leaves bytes behind.
        """
        parts = [(link.start, link.end) for link in links] if len(links) > 1 else [(0, None)]
        first = other = None
        try:
            first = self.take(self.sndfile(parts, form in ("mp3", "")), len(parts) == 1)
        except UndecodableError as error:
            reason = str(error)
        if first and first.kept and first.info.whole:
            tell_tale = first.info.form in ("MP3", "FLAC") and first.info.unread > UNREAD
            if not tell_tale:
                return first
        try:
            other = self.take(self.pyav, False)
        except UndecodableError as error:
            if first is None:
                known = f"it begins like {form}, but no audio can be decoded ({reason})"
                reason = known if form else str(error)
                raise AudioError(self.name, "unreadable", reason) from None
        if other and first is None and other.info.form == "mp3" and other.info.start:
            with self.open() as file:  # libsndfile wants a frame to begin with
                start = first_frame(file, other.info.start)
            with suppress(UndecodableError):
                first = self.take(self.sndfile([(start, None)], True), False)
        slack = ROUGH_S if first and first.info.whole else 0.0
        if other and (first is None or other.seconds > first.seconds + slack):
            return other
        if first is None:
            raise AudioError(self.name, "unreadable", NO_AUDIO)
        return first

    def sndfile(self, parts: Sequence[tuple[int, int | None]], loud: bool) -> Decoder:
        """libsndfile, of parts of the file one after the other."""

        def blocks(info: StreamInfo) -> Iterator[Block]:
            for number, (start, end) in enumerate(parts):
                with self.open(start, end) as file:
                    try:
                        yield from sndfile_blocks(file, info, loud)
                    except UndecodableError:
                        if number == 0:
                            raise
                        info.whole = False

        return blocks

    def pyav(self, info: StreamInfo) -> Iterator[Block]:
        with self.open() as file:
            yield from av_blocks(file, info)

    def take(self, decoder: Decoder, plain: bool, channel: int | None = None) -> _Take:
        """All that a decoder gives, as samples at one rate: of one channel, or their mean."""
        taken = _Take(decoder, plain)
        stream: soxr.ResampleStream | None = None
        found = 0
        for block, rate in decoder(taken.info):
            if rate != found:
                if stream is not None:
                    self.keep(taken, stream.resample_chunk(NOTHING, last=True))
                stream, found = self.resampler(rate), rate
            if channel is None:
                mono: Floats = block.mean(axis=1)
                if block.shape[1] > 1:
                    taken.measure(block, mono)
            else:
                mono = block[:, min(channel, block.shape[1] - 1)]
            if not np.isfinite(mono).all():
                reason = "it holds samples that are not finite numbers"
                raise AudioError(self.name, "unreadable", reason)
            taken.seconds += len(mono) / rate
            self.keep(taken, mono if stream is None else stream.resample_chunk(mono))
        if stream is not None:
            self.keep(taken, stream.resample_chunk(NOTHING, last=True))
        return taken

    def resampler(self, found: int) -> soxr.ResampleStream | None:
        low, high = RATES
        if not low <= found <= high:
            reason = f"its sample rate of {found} Hz is not between {low} and {high}"
            raise AudioError(self.name, "unreadable", reason)
        if found == self.rate:
            return None
        return soxr.ResampleStream(found, self.rate, 1, dtype="float32", quality="HQ")

    def keep(self, taken: _Take, wave: Floats) -> None:
        taken.kept += to_int16(wave).tobytes()
        if self.most_s is not None and len(taken.kept) > 2 * int(self.most_s * self.rate):
            raise AudioError(self.name, "long", f"more than {self.most_s:g} s")

    def judged(
        self, taken: _Take, size: int, links: list[OggLink]
    ) -> tuple[float | None, str | None]:
        """How many seconds there should be, where that is known, and a note where there are not."""
        seconds, info = taken.seconds, taken.info
        form, exact, about = info.form.lower(), False, ""
        expected = info.seconds
        with self.open() as file:
            if form == "mp3":
                expected = _mp3_seconds(file, size, info.rate)
            elif form == "ogg":
                file.seek(links[0].start if links else 0)
                opus = b"OpusHead" in file.read(64)
                expected = _ogg_seconds(links, 48000 if opus else info.rate)
                if links and not links[-1].whole:  # of what is left of its last page
                    expected = seconds * size / links[-1].page
                    about = " or more"
            elif form == "flac":
                exact = True
            elif there := sample_bytes(file):
                start, wanted = there
                cut = size - start < wanted or not wanted
                expected = seconds * wanted / (size - start) if cut and size > start else seconds
                exact = True
        missing = expected is not None and expected - seconds > (EXACT_S if exact else ROUGH_S)
        if missing or not info.whole:
            full = max(expected or 0.0, 0.0 if info.whole else info.packets_s)
            if full > seconds:
                places = 1 if f"{full:.1f}" != f"{seconds:.1f}" else 2
                length = f"{seconds:.{places}f} of {full:.{places}f} s{about}"
                return full, f"{length} could be decoded"
            return expected, f"damaged within: {seconds:.1f} s could be decoded"
        if info.cut or about:
            return None, f"it breaks off after {seconds:.1f} s; how long it was is not known"
        if expected is not None and seconds - expected > 3 * ROUGH_S:
            note = f"its header says {expected:.1f} s, {seconds:.1f} s could be decoded"
            return expected, note
        return expected, None


def _mp3_seconds(file: BinaryIO, size: int, rate: int) -> float | None:
    """The length in the first frame of an mp3; None where its own count of bytes speaks against."""
    found = xing_frames(file)
    if found is None or not found[0] or not rate:
        return None
    frames, length, start = found
    seconds = frames * (1152 if rate >= 32000 else 576) / rate
    return None if length and 0 <= size - start - length < 0.02 * length else seconds


def _ogg_seconds(links: Sequence[OggLink], rate: int) -> float | None:
    """The length of an Ogg file with one stream that was recorded from its beginning."""
    if len(links) != 1 or links[0].streams > 1 or not rate or links[0].first > 3 * rate:
        return None
    return links[0].samples / rate


def decode_recording(data: bytes, max_seconds: float) -> Audio:
    """The bytes of a recording that somebody sent: mono int16 samples (samples,) at 16 kHz.

    Errors are sentences for who sent it.

    Decoding ends as soon as there is more than `max_seconds`: a small file that unpacks to hours
    of silence takes no more memory than a recording that is allowed.

    Raises:
        UserError: it is no audio, damaged, too short, too long or silent.
    """
    if not data:
        raise UserError("The recording is empty: it has no bytes.")
    try:
        audio = read_audio(data, most_s=max_seconds)
    except AudioError as error:
        if error.kind == "long":
            raise UserError(f"The recording is longer than {_minutes(max_seconds)}.") from None
        if not audio_format(io.BytesIO(data)):
            raise UserError(
                "This is no audio that can be read; "
                "wav, mp3, flac, ogg, m4a, webm and others can be."
            ) from None
        raise UserError(f"The recording is damaged: {error.reason}.") from None
    if wrong := unusable(audio.seconds, audio.peak):
        kind, reason = wrong
        kind = {"short": "too short"}.get(kind, kind)
        raise UserError(f"The recording is {kind}: {reason}.")
    return audio


def _minutes(seconds: float) -> str:
    """`15 minutes`, `90 s`."""
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} s"
