"""What audio files are decoded by, and what their headers say of their own length.

`sndfile_blocks` (libsndfile) and `av_blocks` (PyAV, for what libsndfile cannot decode or not to its
end) give blocks of samples with their rate, as far as they can be had. The functions before them
decode nothing: they find how many samples there should be, and whether a file's end is there.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

MAX_PARTS = 1000  # chunks, tags or streams of a file that are looked at
UNKNOWN_SIZE = 0x7FFF0000  # sizes from here on stand for "unknown": recorders and pipes write them
# First bytes → where the chunks begin, a chunk's head (its name, its size), the samples' name.
CHUNKED = {
    b"RIFF": (12, "<4sI", b"data"),
    b"RF64": (12, "<4sI", b"data"),
    b"RIFX": (12, ">4sI", b"data"),
    b"FORM": (12, ">4sI", b"SSND"),
    b"caff": (8, ">4sQ", b"data"),
    b"riff": (40, "<16sQ", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"),  # w64
}
BLOCK = 1 << 18  # frames decoded at a time, of a file with two channels or one
ENDLESS = 1 << 40  # frames that no file has: libsndfile's way to say that it doesn't know
# libsndfile also takes bytes for formats that have no signature to speak of.
SNDFILE = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "VOC", "NIST")
# What FFmpeg may take a file for. Others of its formats are lists of files or addresses, which it
# would open, or pictures.
FFMPEG = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tak,tta,voc,w64,wav,wv"
)
# Of these FFmpeg knows the length from the bit rate alone, which is a guess.
GUESSED = {"aac", "ac3", "amr", "dts", "eac3", "mp3", "mpeg", "mpegts"}
NO_AUDIO = "it holds no audio in a known format"
Block = tuple[NDArray[np.float32], int]  # samples (n, channels) in [-1, 1], sample rate in Hz
# libmpg123 inside libsndfile prints on stderr about every odd frame of an mp3, a song that was cut
# out of a longer one always has one, and there is no setting against it. So stderr's file
# descriptor goes to a scratch file while a block of an mp3 is decoded, and what others wrote
# meanwhile is handed on.
CHATTER = re.compile(
    rb"\[src/libmpg123/|Warning: (Xing stream size|Real sample count|Encountered more data)|"
    rb"Note: (Illegal Audio-MPEG-Header|Trying to resync|Skipped \d+ bytes|Hit end of)"
)


def sample_bytes(file: BinaryIO) -> tuple[int, int] | None:
    """Where the samples of a file without compression begin, and how many bytes there should be.

    None where that is not known: another format, no such chunk, or a size that stands for any.
    """
    head = file.read(12)
    if head[:4] == b".snd" and len(head) == 12:
        start, size = struct.unpack(">II", head[4:])
        return (start, size) if size < UNKNOWN_SIZE else None
    if head[:4] not in CHUNKED:
        return None
    place, form, wanted = CHUNKED[head[:4]]
    length, large = struct.calcsize(form), 0
    for _ in range(MAX_PARTS):
        file.seek(min(place, sys.maxsize))
        chunk = file.read(length)
        if len(chunk) < length:
            return None
        name, size = struct.unpack(form, chunk)
        if name == b"ds64":  # the sizes of RF64
            large = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == wanted:
            size = large or size
            break
        step = size if head[:4] == b"riff" else length + size  # w64 counts a chunk's head
        place += max(length, step + (-step % (8 if head[:4] == b"riff" else 2)))
    else:
        return None
    if head[:4] == b"riff":
        size -= length
    return (place + length, size) if large or size < UNKNOWN_SIZE else None


def xing_frames(file: BinaryIO) -> tuple[int, int, int] | None:
    """Frames and bytes that there are in an mp3, by its first frame, and where that lies.

    Frames or bytes are 0 where it says nothing of them. None where no such frame stands at its
    beginning.
    """
    start = 0
    for _ in range(MAX_PARTS):
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            break
        a, b, c, d = (byte & 127 for byte in tag[6:])
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
        file.seek(start)
    file.seek(start)
    head = file.read(8192)
    found = [head.find(name) for name in (b"Xing", b"Info") if name in head]
    if not found:
        return None
    (flags,) = struct.unpack(">I", head[min(found) + 4 : min(found) + 8].ljust(4, b"\0"))
    values = struct.unpack(">II", head[min(found) + 8 : min(found) + 16].ljust(8, b"\0"))
    frames = values[0] if flags & 1 else 0
    length = values[1 if flags & 1 else 0] if flags & 2 else 0
    return frames, length, start


def first_frame(file: BinaryIO, start: int) -> int:
    """Where an mp3 begins whose first frame with sound is at `start`: with a frame about itself."""
    file.seek(max(0, start - 2048))
    before = file.read(min(start, 2048))
    for name in (b"Xing", b"Info"):
        place = before.rfind(name)
        for ahead in (36, 21, 13):  # of the frame's header, by channels and version
            header = before[max(0, place - ahead) :][:2] if place >= ahead else b""
            if header[:1] == b"\xff" and header[1:] >= b"\xe0":
                return start - len(before) + place - ahead
    return start


@dataclass
class OggLink:
    """One of the streams that follow each other in an Ogg file; mostly there is one."""

    start: int  # bytes from the file's beginning
    end: int
    samples: int = 0  # position of its end, in samples of its own rate (Opus: of 48 kHz)
    first: int = 0  # position after its first page with sound
    page: int = 0  # where its last whole page ends
    whole: bool = False  # which says that it is the last one
    streams: int = 1  # that run side by side in it, such as pictures


def ogg_links(data: bytes) -> list[OggLink]:
    """The streams of an Ogg file, one after the other; what is no page is passed over."""
    links: list[OggLink] = []
    place, opening = 0, False
    while (place := data.find(b"OggS", place)) >= 0 and place + 27 <= len(data):
        flags = data[place + 5]
        (position,) = struct.unpack("<q", data[place + 6 : place + 14])
        begins = bool(flags & 2)
        if begins and not opening and len(links) < MAX_PARTS:
            links.append(OggLink(place, len(data)))
            if len(links) > 1:
                links[-2].end = place
        elif begins and links:
            links[-1].streams += 1
        opening = begins
        table = data[place + 27 : place + 27 + data[place + 26]]
        end = place + 27 + len(table) + sum(table)
        if links and end <= len(data):
            link = links[-1]
            if position > 0:
                link.first = link.first or position
                link.samples = max(link.samples, position)
            link.page, link.whole = end, bool(flags & 4)
        elif links:
            links[-1].whole = False
        place = max(place + 4, end) if data[end : end + 4] in (b"OggS", b"") else place + 4
    return links


@dataclass
class StreamInfo:
    """What a decoder reports of a file, complete when its last block was taken."""

    form: str = ""  # as the decoder names it
    rate: int = 0  # of its beginning, Hz
    seconds: float | None = None  # how long its header says that it is
    start: int = 0  # where its first packet lies, bytes
    whole: bool = True  # no error on the way
    cut: bool = False  # its end is not there
    unread: int = 0  # bytes behind what was decoded
    packets_s: float = 0.0  # length of all packets, whether or not they could be decoded


class _Steady:
    """An open file in which a seek to nowhere, as damaged headers want it, is no error."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.readinto, self.file = file.tell, file.readinto, file  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        with suppress(OSError, ValueError, OverflowError):
            self.file.seek(offset, whence)


class UndecodableError(Exception):
    """A file that a decoder cannot open; the decoder's own reason."""


def sndfile_blocks(file: BinaryIO, info: StreamInfo, loud: bool = False) -> Iterator[Block]:
    """What libsndfile decodes of a file; it ends where the decoder gives up.

    `loud`: the mp3 decoder in libsndfile may print on standard error, which is to be kept away.
    """
    silence = quiet if loud else nullcontext
    try:
        with silence():
            opened = soundfile.SoundFile(_Steady(file))
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise UndecodableError(getattr(error, "error_string", str(error)).rstrip(".")) from None
    with opened:
        if opened.format not in SNDFILE:
            raise UndecodableError(NO_AUDIO)
        info.form, info.rate = opened.format, opened.samplerate
        if opened.frames < ENDLESS:
            info.seconds = opened.frames / opened.samplerate
        frames = max(1, 2 * BLOCK // max(2, opened.channels))
        while True:
            try:
                with silence():
                    block = opened.read(frames, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError, RuntimeError):
                info.whole = False
                break
            if not len(block):
                break
            yield block, opened.samplerate
        place = file.tell()
        info.unread = file.seek(0, os.SEEK_END) - place


def av_blocks(file: BinaryIO, info: StreamInfo) -> Iterator[Block]:
    """What FFmpeg decodes of a file's first sound track; packets that it cannot are passed over.

    Rate and number of channels may change from one block to the next.
    """
    import av

    legal = {"protocol_whitelist": "", "format_whitelist": FFMPEG}
    broken = (av.FFmpegError, ValueError, OSError, RuntimeError)
    try:
        container = av.open(file, "r", options=legal, metadata_errors="replace")
    except broken:
        raise UndecodableError(NO_AUDIO) from None
    with container:
        if not container.streams.audio:
            raise UndecodableError("there is no sound in it")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise UndecodableError("its sound is of an unknown kind")
        info.form, info.rate = container.format.name, stream.rate or 0
        if info.form not in GUESSED:
            if stream.duration is not None and stream.time_base is not None:
                info.seconds = float(stream.duration * stream.time_base)
            elif container.duration is not None:
                info.seconds = container.duration / 1e6  # microseconds
        held: list[NDArray[np.float32]] = []
        rate = count = failed = 0
        packets, first, kind = container.demux(stream), True, None
        while True:
            try:
                packet = next(packets, None)
            except broken:
                info.whole = False
                break
            if packet is None:
                break
            if packet.size:
                info.whole = info.whole and not failed  # what fails at the very end is no loss
                failed = 0
                if first and packet.pos is not None:
                    info.start, first = packet.pos, False
                info.packets_s += float((packet.duration or 0) * (packet.time_base or 0))
            try:
                for frame in packet.decode():
                    found = frame.format.name, frame.layout.name, frame.sample_rate
                    if found != kind:
                        # Interleaved floats: PyAV reads planes wrongly from 8 channels on.
                        if held:
                            yield np.concatenate(held), rate
                        held, count, kind, rate = [], 0, found, frame.sample_rate
                        interleaved = av.AudioResampler(format="flt")
                    for part in interleaved.resample(frame):
                        wave = np.asarray(part.to_ndarray(), dtype=np.float32)
                        held.append(wave.reshape(-1, part.layout.nb_channels))
                        count += held[-1].size
            except broken:
                failed += 1
            if count >= 2 * BLOCK:
                yield np.concatenate(held), rate
                held, count = [], 0
        info.cut = failed > 0 and info.form != "mp3"  # behind an mp3 there may be anything
        if held:
            yield np.concatenate(held), rate


class _Stderr:
    """Standard error with the mp3 decoder's chatter taken out, while anyone is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.held: tuple[int, IO[bytes]] | None = None  # the real descriptor, the scratch file

    @contextmanager
    def quiet(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self._hold()
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self._put_back()

    def _hold(self) -> None:
        try:
            real = os.dup(2)
        except OSError:  # a process without standard error
            return
        scratch = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _put_back
        os.dup2(scratch.fileno(), 2)
        self.held = real, scratch

    def _put_back(self) -> None:
        if self.held is None:
            return
        real, scratch = self.held
        self.held = None
        os.dup2(real, 2)
        os.close(real)
        with scratch:
            scratch.seek(0)
            blank = False  # the decoder writes an empty line before some of its own
            for line in scratch:
                if CHATTER.match(line):
                    blank = False
                    continue
                if blank:
                    os.write(2, b"\n")
                blank = not line.strip()
                if not blank:
                    os.write(2, line)
            if blank:
                os.write(2, b"\n")


quiet = _Stderr().quiet
