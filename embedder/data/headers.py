"""What an audio file says of its own length: to be compared with what can be decoded of it.

Enters: an open file. Leaves: where its samples lie, how many there should be, and whether its end
is there. Nothing is decoded here, and nothing of what is found is believed by the decoders.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO

MOST = 1000  # chunks, tags or streams of a file that are looked at
ENDLESS = 0x7FFF0000  # sizes from here on stand for "unknown": recorders and pipes write them
# First bytes → where the chunks begin, a chunk's head (its name, its size), the samples' name.
CHUNKED = {
    b"RIFF": (12, "<4sI", b"data"),
    b"RF64": (12, "<4sI", b"data"),
    b"RIFX": (12, ">4sI", b"data"),
    b"FORM": (12, ">4sI", b"SSND"),
    b"caff": (8, ">4sQ", b"data"),
    b"riff": (40, "<16sQ", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"),  # w64
}


def sample_bytes(file: BinaryIO) -> tuple[int, int] | None:
    """Where the samples of a file without compression begin, and how many bytes there should be.

    None where that is not known: another format, no such chunk, or a size that stands for any.
    """
    head = file.read(12)
    if head[:4] == b".snd" and len(head) == 12:
        start, size = struct.unpack(">II", head[4:])
        return (start, size) if size < ENDLESS else None
    if head[:4] not in CHUNKED:
        return None
    place, form, wanted = CHUNKED[head[:4]]
    length, large = struct.calcsize(form), 0
    for _ in range(MOST):
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
    return (place + length, size) if large or size < ENDLESS else None


def xing_frames(file: BinaryIO) -> tuple[int, int, int] | None:
    """Frames and bytes that there are in an mp3, by its first frame, and where that lies.

    Frames or bytes are 0 where it says nothing of them. None where no such frame stands at its
    beginning.
    """
    start = 0
    for _ in range(MOST):
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
        if begins and not opening and len(links) < MOST:
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
