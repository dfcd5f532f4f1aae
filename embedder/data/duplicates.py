"""One recording in several places: each copy is named, and none is where it does harm.

In two splits a recording would be tested on what was trained on; under two singers its labels
contradict each other. A copy may be re-encoded, louder, cut or remastered: it is known by an
acoustic fingerprint, two 32-bit words every 1/16 s. A bit of the first word says whether the step
between two neighbouring bands has grown within half a second: in log power neither level nor
equaliser changes that. A bit of the second says that it has grown or fallen much: such bits survive
codecs and limiters, but not another take of the song, nor another voice over the same backing.

Source: Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, sections 4 to
6. Unlike there, power is logarithmic, the difference in time longer, and weak bits do not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from embedder.artifact import replacing
from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE
from embedder.data.audio import Samples
from embedder.data.cache import AudioCache, Decoded, Progress, Source, available_cores, no_progress
from embedder.errors import UserError
from embedder.run import SPLITS

VERSION = 1  # raised whenever the same samples would have other words
RATE = 8000  # twice what is needed of the spectrum, Hz
FRAME = 2048  # samples: 0.26 s
HOP = RATE // 16
RANGE_HZ = (300.0, 3000.0)  # what a low-pass, a small speaker or an old master leave
BANDS = 33
LAG = 8  # frames between the two that are compared
QUIET = 1e-5  # a frame with less than this part of the mean power has no strong bit: -50 dB
CHUNK = 256  # frames transformed at once
WINDOW = 64  # frames over which bits are compared: 4 s
BIT_ERRORS = 0.05  # at most this share of a window's strong bits differs; of unrelated audio half
MIN_STRONG_BITS = 128  # strong bits that both have in a window, or it does not agree
SHARE = 0.7  # so much of the shorter song agrees; DECISIONS.md has the margins
MIN_FRAMES = 100  # a song with less is compared with nothing
MIN_SECONDS = ((MIN_FRAMES + LAG - 1) * HOP + FRAME) / RATE  # so long are they: 6.9 s
SPEED, REACH = 0.005, 20  # difference in speed that is followed, up to so many frames
NEIGHBOURS = 8  # a word is paired with so many equal ones
VOTES = 2  # equal words at one distance in time that make a pair of songs a candidate
SHIFTS = 16  # distances with most votes that are tried: songs over one loop share hundreds
PARTS = 16  # the index is sorted in so many parts, which bounds memory
Words = NDArray[np.uint32]


class Match(NamedTuple):
    """Two songs, by their places, that are one recording for `share` of the shorter one."""

    first: int
    second: int
    share: float


def acoustic_fingerprint(samples: Samples) -> Words:
    """The words (n, 2) of int16 `samples` at 16 kHz: signs, and which of them are strong."""
    samples = soxr.resample(samples, SAMPLE_RATE, RATE, quality="LQ")
    if len(samples) < FRAME:
        return np.zeros((0, 2), np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    edges = np.ceil(np.geomspace(*RANGE_HZ, BANDS + 1) * FRAME / RATE).astype(int)
    hann = np.hanning(FRAME).astype(np.float32)
    power = np.empty((len(frames), BANDS), np.float32)
    for start in range(0, len(frames), CHUNK):
        spectrum = np.fft.rfft(frames[start : start + CHUNK] * hann)[:, edges[0] : edges[-1]]
        parts = np.ascontiguousarray(spectrum).view(np.float32)  # real and imaginary in turn
        square = np.square(parts, out=parts)
        power[start : start + CHUNK] = np.add.reduceat(square, 2 * (edges[:-1] - edges[0]), axis=1)
    steps = np.diff(np.log(power + 1), axis=1)
    growth = steps[LAG:] - steps[:-LAG]
    total = power.sum(axis=1)
    audible = total > QUIET * total.mean()
    audible = audible[LAG:] & audible[:-LAG]
    size = np.abs(growth) * audible[:, None]
    strong = size > np.median(size[audible]) if audible.any() else np.zeros(size.shape, bool)
    bits = np.stack([growth > 0, strong], axis=1)
    return np.packbits(bits, axis=2).view(">u4")[:, :, 0].astype(np.uint32)


def fingerprints(
    sounds: Mapping[str, str],
    cache: AudioCache,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> list[Words]:
    """The fingerprint of each sound (hash of the samples → a key of the cache), in order.

    They are kept beside the decoded audio. Raises `UserError` if the disk does not take them.
    """

    def stored(sound: str) -> Words:
        path = cache.folder / f"{sound}.{VERSION}.words"
        try:
            found: Words = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            found = acoustic_fingerprint(cache.samples(sounds[sound]))
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, found, allow_pickle=False)
        return found

    try:
        with ThreadPoolExecutor(jobs or available_cores()) as pool:
            return list(progress(pool.map(stored, sounds), len(sounds), "comparing songs"))
    except OSError as error:
        raise UserError(f"cannot write into {cache.folder}: {error.strerror or error}") from None


def same_recordings(prints: Sequence[Words]) -> list[Match]:
    """The pairs among songs' fingerprints that are one recording, in order.

    Only songs that share words at one distance in time are compared. Sorting all words finds them,
    so that the effort grows with the number of songs and of pairs that share sound.
    """
    shifts: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for first, second, shift, votes in _candidates(prints):
        shifts[first, second].append((-votes, shift))
    found = []
    for (first, second), voted in shifts.items():
        at = [shift for _, shift in sorted(voted)[:SHIFTS]]
        share = agreement(prints[first], prints[second], at)
        if share >= SHARE:
            found.append(Match(first, second, share))
    return found


def _candidates(prints: Sequence[Words]) -> list[tuple[int, int, int, int]]:
    """Two songs that share words, how many words later these come in the first, and how many."""
    lengths = [len(words) for words in prints]
    words, strong = np.concatenate([np.zeros((0, 2), np.uint32), *prints]).T
    starts = np.cumsum([0, *lengths])
    longest = max(lengths, default=0)
    width = 2 * longest + 1  # so many shifts are possible
    votes = [np.zeros(0, np.int64)]
    for part in range(PARTS):
        place = np.flatnonzero((words % PARTS == part) & (strong != 0))
        place = place[np.argsort(words[place], kind="stable")]
        key = words[place]
        song = np.searchsorted(starts, place, "right") - 1
        since = place - starts[song]
        for step in range(1, NEIGHBOURS + 1):
            one = np.flatnonzero((key[step:] == key[:-step]) & (song[step:] != song[:-step]))
            two = one + step
            pair = song[one] * len(prints) + song[two]
            votes.append(pair * width + since[one] - since[two] + longest)
    codes, counts = np.unique(np.concatenate(votes), return_counts=True)
    enough = counts >= VOTES
    pairs, shifts = np.divmod(codes[enough], width)
    first, second = np.divmod(pairs, max(1, len(prints)))
    columns = (first, second, shifts - longest, counts[enough])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def agreement(first: Words, second: Words, shifts: Sequence[int]) -> float:
    """The share, 0 to 1, of the shorter fingerprint whose strong bits agree with the other's.

    `shifts` are how many frames later the same sound comes in the first: several where something
    was cut out between. Near each, within `SPEED`, the best is taken at each place.
    """
    short, long = (first, second) if len(first) <= len(second) else (second, first)
    known = _sums(np.bitwise_count(short[None, :, 1])) >= 2 * MIN_STRONG_BITS
    if known.sum() <= MIN_FRAMES - WINDOW:
        return 0.0
    reach = 1 + min(round(SPEED * len(short)), REACH)
    nothing = np.zeros((len(short) + len(long) + reach, 2), np.uint32)
    padded = np.concatenate([nothing, long, nothing])
    agrees = np.zeros(known.shape, bool)
    for shift in shifts:
        start = len(nothing) + (-shift if long is second else shift) - reach
        near = padded[start : start + len(short) + 2 * reach]
        signs, strong = np.lib.stride_tricks.sliding_window_view(near, len(short), axis=0).swapaxes(
            0, 1
        )
        strong = strong & short[:, 1]
        compared = _sums(np.bitwise_count(strong))
        wrong = _sums(np.bitwise_count((signs ^ short[:, 0]) & strong))
        agrees |= ((wrong <= BIT_ERRORS * compared) & (compared >= MIN_STRONG_BITS)).any(axis=0)
    return float((agrees & known).sum() / known.sum())


def _sums(values: NDArray[Any]) -> NDArray[np.int64]:
    """Sums over `WINDOW` values along the rows: (rows, n) → (rows, n - WINDOW + 1)."""
    if values.shape[1] < WINDOW:
        return np.zeros((len(values), 0), np.int64)
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.int64)
    return total[:, WINDOW:] - total[:, :-WINDOW]


class KnownCopy(NamedTuple):
    """A song of whose recording there is another copy, and what is wrong with that."""

    file: str  # the song's id
    kind: str  # of `prepare.KINDS`
    reason: str


class Copy(NamedTuple):
    """Another song of the same recording, and how alike the two are."""

    id: str
    kind: str  # "duplicate", "decoded duplicate" or "same recording"
    how: str  # goes before the other song's name


def find_copies(
    songs: Sequence[Song],
    decoded: dict[Source, Decoded],
    cache: AudioCache,
    jobs: int | None,
    progress: Progress,
) -> dict[str, list[Copy]]:
    """song id → the other songs of the same recording."""
    sounds: dict[str, list[Song]] = defaultdict(list)
    for song in songs:
        if facts := decoded[Path(song.path)].facts:
            sounds[facts.sound].append(song)
    copies: dict[str, list[Copy]] = defaultdict(list)

    def note(one: Song, two: Song, kind: str, how: str) -> None:
        copies[one.id].append(Copy(two.id, kind, how))
        copies[two.id].append(Copy(one.id, kind, how))

    for group in sounds.values():
        for one, two in combinations(group, 2):
            if one.audio == two.audio:
                note(one, two, "duplicate", "byte for byte the same as")
            else:
                note(one, two, "decoded duplicate", "decodes to the same audio as")
    keys = {sound: group[0].audio for sound, group in sounds.items()}
    groups = list(sounds.values())
    for first, second, share in same_recordings(fingerprints(keys, cache, jobs, progress)):
        how = f"agrees to {share:.0%} with"
        for one, two in product(groups[first], groups[second]):
            note(one, two, "same recording", how)
    return copies


def without_copies(
    songs: Sequence[Song], copies: dict[str, list[Copy]], keep_duplicates: bool, keep_duets: bool
) -> tuple[list[Song], list[KnownCopy]]:
    """Leave a recording in one split only, and out of training where singers claim it both.

    It stays in the split that needs it most: test, then validation, then train. `keep_duplicates`
    leaves it in all, `keep_duets` in training under every singer.
    """
    ranked = sorted(songs, key=lambda song: -SPLITS.index(song.split))
    rank = {song.id: place for place, song in enumerate(ranked)}
    by_id = {song.id: song for song in songs}
    dropped: set[str] = set()
    problems: list[KnownCopy] = []
    for song in ranked:
        others = sorted(copies.get(song.id, ()), key=lambda copy: rank[copy.id])
        before = [copy for copy in others if rank[copy.id] < rank[song.id]]
        duet = any(by_id[copy.id].singer != song.singer for copy in others)
        if duet and song.split == "train" and not keep_duets:
            kind = "duet"
        elif not keep_duplicates and any(
            by_id[copy.id].split != song.split and copy.id not in dropped for copy in before
        ):
            kind = "in two splits"
        elif duet:
            kind = "duet in use"
        elif before:
            kind = before[0].kind
        else:
            continue
        if kind in ("duet", "in two splits"):
            dropped.add(song.id)
        named: dict[str, list[str]] = defaultdict(list)
        for copy in others if duet else before:
            named[copy.how].append(f"{copy.id} ({by_id[copy.id].split})")
        likeness = " and ".join(f"{how} {', '.join(names)}" for how, names in named.items())
        problems.append(KnownCopy(song.id, kind, f"{song.split} song {likeness}"))
    problems.sort(key=lambda problem: problem.file)
    return [song for song in songs if song.id not in dropped], problems
