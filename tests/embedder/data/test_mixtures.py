"""Training mixtures: what is in them, how loud, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, SeparatorTrainConfig
from embedder.data.augment import rms
from embedder.data.cache import AudioCache
from embedder.data.mixtures import Mixtures, own_mixture, remade

SECONDS = 3
CONFIG = SeparatorTrainConfig(crop_s=1.0)


@pytest.fixture
def songs(tmp_path: Path) -> tuple[Song, ...]:
    """Three songs; sample i of a stem tells the place, and the stem by its sign and size."""
    cache = AudioCache(tmp_path)
    ramp = np.arange(SECONDS * SAMPLE_RATE)
    found = []
    for number in range(3):
        vocals = 1000 * (number + 1) + ramp // 100
        backing = -4000 * (number + 1) - ramp // 100
        for stem, samples in (("v", vocals), ("b", backing)):
            cache.write(f"{stem}{number}", samples.astype(np.int16))
        song = Song(f"s/a/{number}", "", "s", "a", str(number), "train")
        found.append(replace(song, vocals=f"v{number}", backing=f"b{number}"))
    return tuple(found)


def drawn(songs: Sequence[Song], folder: Path, **changes: float) -> list[tuple[int, int, float]]:
    """Of 120 items: whose vocals, whose backing, and the level of one to the other in dB.

    Vocals quieter than their whole stem count as that. The vocals' samples are 1000 · (song + 1)
    to 1480 more, the backings' −4000 · (song + 1) to 480 less.
    """
    mixtures = Mixtures(songs, folder, replace(CONFIG, **changes))  # type: ignore[arg-type]
    rows = []
    for index in range(120):
        mixture, vocals = (part.numpy().astype(np.float64) for part in mixtures[index])
        backing = mixture - vocals
        slope = np.polyfit(np.arange(len(backing)), backing, 1)[0] * 32768
        gain = -slope * 100  # the ramps fall by one in 100 samples
        first = -backing[0] * 32768 / gain
        singer = int(vocals[0] * 32768 // 1000) - 1
        usual = rms(AudioCache(folder).samples(f"v{singer}") / np.float32(32768))
        rows.append(
            (
                singer,
                round(first / 4000) - 1,
                20 * np.log10(max(rms(vocals), usual) / rms(backing)),
            )
        )
    return rows


def test_vocals_and_backing_come_from_any_song_at_any_ratio(
    songs: tuple[Song, ...], tmp_path: Path
) -> None:
    rows = drawn(songs, tmp_path, own_backing=0.0)
    assert {(v, b) for v, b, _ in rows} == {(v, b) for v in range(3) for b in range(3)}
    ratios = np.array([ratio for *_, ratio in rows])
    assert -12.01 < ratios.min() < -11.5
    assert 5.5 < ratios.max() < 6.01
    assert abs(ratios.mean() + 3) < 1


def test_own_backing_is_from_the_same_place_of_the_same_song(
    songs: tuple[Song, ...], tmp_path: Path
) -> None:
    config = replace(CONFIG, own_backing=1.0, low_db=0.0, high_db=0.0)
    mixtures = Mixtures(songs, tmp_path, config)
    for index in range(20):
        mixture, vocals = (part.numpy() for part in mixtures[index])
        song = int(vocals[0] * 32768 // 1000) - 1
        place = round(float(vocals[0]) * 32768) - 1000 * (song + 1)
        backing = (mixture - vocals) / (mixture - vocals)[0]
        expected = 4000 * (song + 1) + place + (np.arange(len(backing)) + 50) / 100
        np.testing.assert_allclose(backing, expected / expected[0], rtol=3e-4)


def test_the_share_of_own_backings_is_what_was_asked_for(
    songs: tuple[Song, ...], tmp_path: Path
) -> None:
    rows = drawn(songs, tmp_path, own_backing=0.7)
    share = np.mean([vocals == backing for vocals, backing, _ in rows])
    assert abs(share - (0.7 + 0.3 / 3)) < 0.08


def test_an_item_depends_on_seed_and_index_alone(songs: tuple[Song, ...], tmp_path: Path) -> None:
    one, other = Mixtures(songs, tmp_path, CONFIG), Mixtures(songs, tmp_path, CONFIG)
    for _ in range(3):
        _ = other[5]
    for index in (7, 3):
        for a, b in zip(one[index], other[index], strict=True):
            assert a.equal(b)
    assert not one[3][1].equal(one[4][1])
    assert not Mixtures(songs, tmp_path, replace(CONFIG, seed=1))[3][1].equal(one[3][1])


def test_a_song_in_which_nobody_sings_gives_its_backing_and_silence(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    cache.write("v", np.zeros(SAMPLE_RATE, np.int16))
    cache.write("b", np.full(SAMPLE_RATE, 8192, np.int16))
    song = Song("s/a/t", "", "s", "a", "t", "train", vocals="v", backing="b")
    mixture, vocals = Mixtures((song,), tmp_path, CONFIG)[0]
    assert not vocals.any()
    assert float(mixture.min()) == float(mixture.max()) == 0.25


def test_whole_songs_are_mixed_as_they_are_or_over_another_backing(
    songs: tuple[Song, ...], tmp_path: Path
) -> None:
    cache = AudioCache(tmp_path)
    mixture, vocals = own_mixture(songs[0], cache)
    np.testing.assert_array_equal(vocals, cache.samples("v0") / np.float32(32768))
    np.testing.assert_allclose(
        mixture * 32768, cache.samples("v0") + cache.samples("b0").astype(float), atol=1e-2
    )
    mixture, vocals = remade(songs[0], songs[2], cache, -8.0)
    other = cache.samples("b2").astype(np.float64)
    backing = mixture - vocals
    np.testing.assert_allclose(backing / backing[0], other / other[0], rtol=1e-4)
    assert 20 * np.log10(rms(vocals) / rms(backing)) == pytest.approx(-8, abs=1e-3)


def test_stems_of_unequal_length_are_cut_to_the_shorter(
    songs: tuple[Song, ...], tmp_path: Path
) -> None:
    cache = AudioCache(tmp_path)
    cache.write("long", np.ones(4 * SAMPLE_RATE, np.int16))
    mixture, vocals = own_mixture(replace(songs[0], backing="long"), cache)
    assert len(mixture) == len(vocals) == SECONDS * SAMPLE_RATE
