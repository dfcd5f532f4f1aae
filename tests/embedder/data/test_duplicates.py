"""Copies of a recording: what is left out, what is kept, and that each is named."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from embedder.catalogue import Song
from embedder.data import duplicates
from embedder.data.cache import AudioCache
from embedder.data.duplicates import (
    Copy,
    Words,
    acoustic_fingerprint,
    agreement,
    same_recordings,
    without_copies,
)

SPLITS = {"t": "train", "v": "validation", "e": "test"}


def settle(*groups: str, keep_duplicates: bool = False, keep_duets: bool = False) -> dict[str, str]:
    """Groups of copies such as "at1 av2": singer, split, number. song id → kind of problem."""
    songs: dict[str, Song] = {}
    copies: dict[str, list[Copy]] = defaultdict(list)
    for group in groups:
        names = group.split()
        for name in names:
            songs[name] = Song(name, "", name[0], "album", name, SPLITS[name[1]])
        for name in names:
            copies[name] += [Copy(o, "same recording", "like") for o in names if o != name]
    good, problems = without_copies(list(songs.values()), copies, keep_duplicates, keep_duets)
    kinds = {problem.file: problem.kind for problem in problems}
    gone = {name for name, kind in kinds.items() if kind in ("in two splits", "duet")}
    assert {song.id for song in good} == set(songs) - gone
    for problem in problems:
        assert any(other in problem.reason for other in songs if other != problem.file)
    return kinds


@pytest.mark.parametrize(
    ("group", "kinds"),
    [
        ("at1", {}),
        ("at1 at2 at3", {"at2": "same recording", "at3": "same recording"}),
        ("at1 av2", {"at1": "in two splits"}),
        ("at1 av2 ae3", {"at1": "in two splits", "av2": "in two splits"}),
        ("av1 av2 at3", {"av2": "same recording", "at3": "in two splits"}),
        ("at1 bt2", {"at1": "duet", "bt2": "duet"}),
        ("at1 at2 bt3", {"at1": "duet", "at2": "duet", "bt3": "duet"}),
        ("at1 bv2", {"at1": "duet", "bv2": "duet in use"}),
        ("av1 bv2", {"av1": "duet in use", "bv2": "duet in use"}),
        ("av1 be2", {"av1": "in two splits", "be2": "duet in use"}),
    ],
)
def test_each_copy_is_named_and_left_out_where_it_does_harm(
    group: str, kinds: dict[str, str]
) -> None:
    assert settle(group) == kinds


def test_a_copy_of_what_was_left_out_itself_may_stay() -> None:
    """A medley: its parts are not copies of each other."""
    assert settle("at1 av2", "av2 ae3") == {"at1": "same recording", "av2": "in two splits"}


def test_what_is_asked_for_is_kept() -> None:
    assert settle("at1 av2", keep_duplicates=True) == {"at1": "same recording"}
    assert settle("at1 bt2", keep_duets=True) == {"at1": "duet in use", "bt2": "duet in use"}
    assert settle("at1 bt2", keep_duplicates=True) == {"at1": "duet", "bt2": "duet"}
    kinds = settle("at1 bv2", keep_duets=True)
    assert kinds == {"at1": "in two splits", "bv2": "duet in use"}
    kinds = settle("at1 bv2", keep_duets=True, keep_duplicates=True)
    assert kinds == {"at1": "duet in use", "bv2": "duet in use"}


RATE = 16000
Wave = NDArray[np.float64]


@cache
def play(tune: int, take: int = 0, seconds: float = 10.0) -> Wave:
    """A band plays chords over a drum loop that is the same in all tunes; takes differ in tempo."""
    notes, played = np.random.default_rng(tune), np.random.default_rng([tune, take])
    wave = 0.01 * played.standard_normal(round(seconds * RATE))
    loop = np.exp(-np.arange(RATE // 4) / 900) * np.random.default_rng(0).standard_normal(RATE // 4)
    wave += 0.2 * np.resize(loop, len(wave))
    time = np.arange(RATE // 2) / RATE
    for start in np.arange(0, len(wave) - RATE // 2, RATE * (1 + 0.06 * take) / 3):
        hertz = np.outer(220 * 2 ** (notes.integers(0, 24, 3) / 12), np.arange(1, 6)).ravel()
        level = 0.05 / np.tile(np.arange(1, 6), 3) * played.uniform(0.3, 1, 15)
        phase = 2 * np.pi * hertz[:, None] * time + played.uniform(0, 6, (15, 1))
        wave[round(start) :][: len(time)] += level @ np.sin(phase) * np.exp(-4 * time)
    return wave / np.abs(wave).max() * 0.7


def words(wave: Wave) -> Words:
    return acoustic_fingerprint(np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16))


@pytest.fixture(scope="module")
def others() -> list[Words]:
    """Four tunes, one of them in two takes."""
    return [words(play(tune)) for tune in range(4)] + [words(play(0, 1))]


def mp3(wave: Wave) -> Wave:
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="MP3", compression_level=0.9)
    file.seek(0)
    return soundfile.read(file)[0]


def mastered(wave: Wave) -> Wave:
    """Treble raised, bass lowered, then limited: what a remaster does."""
    return np.tanh(3 * (wave - 0.8 * np.concatenate([[0], wave[:-1]])))


CHANGES: dict[str, Callable[[Wave], Wave]] = {
    "re-encoded": mp3,
    "louder, clipped": lambda wave: np.clip(2 * wave, -1, 1),
    "quieter": lambda wave: 0.05 * wave,
    "later": lambda wave: np.concatenate([np.zeros(4800), wave]),
    "after an announcement": lambda wave: np.concatenate([play(9)[: 7 * RATE], wave]),
    "cut": lambda wave: wave[RATE:-RATE],
    "remastered": mastered,
    "narrow band": lambda wave: soxr.resample(soxr.resample(wave, RATE, 8000), 8000, RATE),
    "a little faster": lambda wave: soxr.resample(wave, RATE, RATE * 0.997),
    "all": lambda wave: mp3(mastered(wave[RATE + 333 :])),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_is_found_and_nothing_else(name: str, others: list[Words]) -> None:
    copy = words(CHANGES[name](play(2)))
    (match,) = same_recordings([*others, copy])
    assert match[:2] == (2, 5)
    assert match.share > 0.9
    assert [m[:2] for m in same_recordings([copy, *others])] == [(0, 3)]


def test_another_voice_over_the_same_backing_is_another_recording(others: list[Words]) -> None:
    """Such as songs sung to a karaoke track: two singers then have it, and none sings a duet."""
    backing = play(3)
    sung = [words(backing + 0.7 * play(tune)) for tune in (20, 21)]
    assert same_recordings([*others, *sung]) == []


def test_silence_and_songs_of_seconds_are_like_nothing(others: list[Words]) -> None:
    mostly_silent = [
        words(np.concatenate([play(tune)[: 2 * RATE], np.zeros(20 * RATE)])) for tune in (0, 7)
    ]
    short = [words(play(0)[: 5 * RATE]), words(play(0)[:1600]), words(np.zeros(0))]
    assert same_recordings([*others, *mostly_silent, *short]) == []
    assert same_recordings([]) == []


def test_a_song_that_lost_its_middle_is_found(others: list[Words]) -> None:
    whole = play(5, seconds=30)
    edited = np.concatenate([whole[: 15 * RATE], whole[round(18.7 * RATE) :]])
    ((first, second, share),) = same_recordings([*others, words(whole), words(edited)])
    assert (first, second) == (5, 6)
    assert share < 1  # the cut itself


def random_words(rng: np.random.Generator, n: int) -> Words:
    return rng.integers(1, 2**32, (n, 2), dtype=np.uint32)


def test_the_index_finds_what_comparing_all_pairs_finds() -> None:
    """Random words, of which stretches are repeated elsewhere with some bits changed."""
    rng = np.random.default_rng(5)
    prints = [random_words(rng, n) for n in (300, 260, 400, 180, 220)]
    prints[2][150:400] = prints[0][20:270]
    prints[3][:170] = prints[1][60:230] ^ (rng.random((170, 1)) < 0.3) * np.uint32([0b100, 0])
    prints[4][:60] = prints[0][:60]  # too little of it
    found = {match[:2] for match in same_recordings(prints)}
    slow = {
        (one, two)
        for one in range(5)
        for two in range(one + 1, 5)
        if agreement(prints[one], prints[two], range(-400, 400, 10)) >= 0.7
    }
    assert found == slow == {(0, 2), (1, 3)}


def test_agreement_is_the_share_of_windows_with_few_wrong_bits() -> None:
    rng = np.random.default_rng(6)
    long = random_words(rng, 350)
    short = long[100:250].copy()
    short[:75] ^= random_words(rng, 75)  # the first half is another sound
    right = []
    for i in range(150 - 64 + 1):
        both = [int(a & b) for a, b in zip(short[i:, 1], long[100 + i :, 1], strict=False)][:64]
        wrong = [int(a ^ b) for a, b in zip(short[i:, 0], long[100 + i :, 0], strict=False)][:64]
        errors = sum((w & b).bit_count() for w, b in zip(wrong, both, strict=True))
        right.append(errors <= 0.05 * sum(b.bit_count() for b in both))
    share = agreement(long, short, [100])
    assert share == agreement(short, long, [-100]) == pytest.approx(np.mean(right))
    assert 0.1 < share < 0.5
    assert agreement(long, short, [130]) == 0


def test_fingerprints_are_kept_beside_the_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = AudioCache(tmp_path)
    samples = (play(1) * 32767).astype(np.int16)
    sounds = {folder.write("key", samples).sound: "key"}
    (first,) = duplicates.fingerprints(sounds, folder)
    assert np.array_equal(first, acoustic_fingerprint(samples))
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "acoustic_fingerprint", None)
        (second,) = duplicates.fingerprints(sounds, folder)
    assert np.array_equal(first, second)
    (file,) = (path for path in tmp_path.iterdir() if "words" in path.name)
    file.write_bytes(file.read_bytes()[:99])
    (third,) = duplicates.fingerprints(sounds, folder)
    assert np.array_equal(first, third)
