"""The ends of songs: where crops keep clear of, and what is laid over others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from embedder.catalogue import Song
from embedder.config import AugmentConfig
from embedder.data.cache import AudioCache
from embedder.data.voiceless import Voiceless

SECOND = 16000
ENDS = AugmentConfig(opening_s=2, ending_s=1)


def ends_of(folder: Path, *lengths: int, config: AugmentConfig = ENDS) -> Voiceless:
    """Songs of these lengths in which every sample says which song it is and where."""
    cache = AudioCache(folder)
    songs = []
    for number, length in enumerate(lengths):
        cache.write(f"k{number}", (np.arange(length) // 100 + 10000 * number).astype(np.int16))
        name = f"s/a/{number}.wav"
        songs.append(Song(name, name, "s", "a", str(number), audio=f"k{number}"))
    return Voiceless(songs, cache, cache.length, config)


def test_crops_keep_clear_of_both_ends(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 10 * SECOND)
    assert ends.sung("k0", 3 * SECOND) == (2 * SECOND, (10 - 1 - 3) * SECOND)


def test_a_song_that_just_holds_a_crop_between_its_ends_has_one_place(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 6 * SECOND)
    assert ends.sung("k0", 3 * SECOND) == (2 * SECOND, 2 * SECOND)


def test_a_shorter_song_is_taken_whole(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 6 * SECOND - 1, SECOND)
    assert ends.sung("k0", 3 * SECOND) == (0, 3 * SECOND - 1)
    assert ends.sung("k1", 3 * SECOND) == (0, 0)


def test_what_is_laid_over_comes_from_the_ends_of_all_songs(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 10 * SECOND, 10 * SECOND)
    places: Counter[tuple[int, bool]] = Counter()
    for seed in range(400):
        wave = ends.draw(1000, np.random.default_rng(seed))
        song, hundreds = np.divmod(np.round(wave * 32768).astype(int), 10000)
        assert len(set(song)) == 1
        opening = hundreds < 320
        assert (opening | (hundreds >= 1440)).all()
        assert opening.all() or not opening.any()
        places[int(song[0]), bool(opening[0])] += 1
    shares = {place: count / 400 for place, count in places.items()}
    assert set(shares) == {(0, True), (0, False), (1, True), (1, False)}
    for (_, opening), share in shares.items():  # by their lengths, 2 s and 1 s
        assert abs(share - (1 / 3 if opening else 1 / 6)) < 0.075


def test_a_short_stretch_is_repeated_from_a_random_point(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 10 * SECOND, config=AugmentConfig(opening_s=0.1, ending_s=0))
    starts = set()
    for seed in range(30):
        wave = ends.draw(5000, np.random.default_rng(seed))
        np.testing.assert_array_equal(wave[1600:3200], wave[:1600])
        assert sorted(wave[:1600]) == sorted(np.arange(1600) // 100 / np.float32(32768))
        starts.add(float(wave[0]))
    assert len(starts) > 5


def test_the_same_generator_draws_the_same(tmp_path: Path) -> None:
    ends = ends_of(tmp_path, 10 * SECOND, 9 * SECOND)
    first, again = (ends.draw(SECOND, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_there_is_nothing_without_songs_or_without_ends(tmp_path: Path) -> None:
    assert ends_of(tmp_path, SECOND)
    assert not ends_of(tmp_path)
    assert not ends_of(tmp_path, SECOND, config=AugmentConfig(opening_s=0, ending_s=0))
