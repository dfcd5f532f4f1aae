"""Training crops: of the draw alone, where someone sings, and over other songs' backings."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE, AugmentConfig, MemberConfig, SeparatorTrainConfig
from embedder.data.augment import rms
from embedder.data.cache import AudioCache
from embedder.data.datasets import (
    Crops,
    InstrumentalCrops,
    Mixtures,
    Recordings,
    cross_mixture,
    own_mixture,
)
from embedder.data.samplers import SingerBatches
from embedder.errors import UserError
from embedder.settings import replaced

SAMPLES = 8000  # of a crop: the shortest segment, 0.5 s
QUIETLY = {"equaliser": 0, "noise": 0, "low_pass": 0}
ONLY_CUT = {**QUIETLY, "remix": 0, "overlay": 0}


def config_of(**changes: Any) -> MemberConfig:
    return replaced(MemberConfig(), {"segment_s": 0.5, **changes})


def tone(hertz: int, samples: int, level: float = 0.1) -> np.ndarray:
    """A sine of this root mean square, int16. A crop holds whole periods of even frequencies."""
    wave = level * 2**0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)
    return np.round(wave * 32768).astype(np.int16)


def levels(wave: np.ndarray) -> dict[int, float]:
    """Root mean square at each frequency (Hz) that is there, of one crop."""
    amplitude = np.abs(np.fft.rfft(wave)) * 2 / len(wave) / 2**0.5
    return {int(bin) * 2: float(amplitude[bin]) for bin in np.flatnonzero(amplitude > 1e-3)}


def song(number: int, audio: str, vocals: str = "", backing: str = "") -> Song:
    name = f"s{number}/a/{number}.wav"
    return Song(name, name, f"s{number}", "a", str(number), "train", 1.0, audio, vocals, backing)


def write(folder: Path, **entries: np.ndarray) -> None:
    for key, samples in entries.items():
        AudioCache(folder).write(key, samples)


def crops_of(folder: Path, songs: Sequence[Song], **changes: Any) -> Crops:
    return Crops(songs, list(range(len(songs))), folder, config_of(**changes))


@pytest.fixture
def band(tmp_path: Path) -> list[Song]:
    """Four songs of one tone each: vocals at 200, 220, … Hz over a backing at 1000, 1500, … Hz."""
    songs = []
    for n in range(4):
        length = 40000 + 1000 * n
        vocals, backing = tone(200 + 20 * n, length), tone(1000 + 500 * n, length, 0.05)
        write(tmp_path, **{f"v{n}": vocals, f"b{n}": backing, f"m{n}": vocals + backing})
        songs.append(song(n, f"m{n}", f"v{n}", f"b{n}"))
    return songs


def test_a_crop_depends_on_its_draw_alone(tmp_path: Path, band: list[Song]) -> None:
    draws = [(n % 4, 1000 + n) for n in range(24)]
    always = {"equaliser": 1, "noise": 1, "low_pass": 1, "remix": 0.5}
    first, second = (crops_of(tmp_path, band, **always) for _ in range(2))
    forward = {draw: first.crop(*draw) for draw in draws}
    np.random.seed(0)  # noqa: NPY002
    backward = {draw: second.crop(*draw) for draw in reversed(draws)}
    for draw in draws:
        np.testing.assert_array_equal(forward[draw], backward[draw])
    assert len({wave.tobytes() for wave in forward.values()}) == 24


def test_an_item_is_the_batch_of_its_draws(tmp_path: Path, band: list[Song]) -> None:
    crops = Crops(band, [3, 1, 1, 0], tmp_path, config_of())
    draws = [(2, 5), (0, 6), (3, 5)]
    wave, labels = crops[draws]
    assert labels.tolist() == [1, 3, 0]
    assert wave.dtype == torch.float32
    np.testing.assert_array_equal(wave.numpy(), [crops.crop(*draw) for draw in draws])
    assert len(crops) == 4


def test_crops_may_be_sent_to_another_process(tmp_path: Path, band: list[Song]) -> None:
    crops = crops_of(tmp_path, band)
    before = crops.crop(1, 7)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(crops)).crop(1, 7), before)


def test_a_spawned_worker_draws_the_same_crops(tmp_path: Path, band: list[Song]) -> None:
    crops = crops_of(tmp_path, band, equaliser=1, noise=1)
    batches = SingerBatches(range(4), ["a"] * 4, singers=3, crops=2, batches=3, seed=1)
    loader = DataLoader(
        crops,
        sampler=batches,
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    for (wave, labels), draws in zip(loader, batches, strict=True):
        here, expected = crops[draws]
        assert torch.equal(wave, here)
        assert torch.equal(labels, expected)


def test_the_backing_is_another_song_s_at_the_drawn_level(tmp_path: Path, band: list[Song]) -> None:
    crops = crops_of(tmp_path, band, **QUIETLY, remix=1, remix_low_db=-12, remix_high_db=6)
    used: Counter[int] = Counter()
    ratios = []
    for seed in range(200):
        found = levels(crops.crop(0, seed))
        assert sorted(found)[0] == 200  # song 0's own vocals, as loud as they were
        assert found.pop(200) == pytest.approx(0.1, rel=0.01)
        ((hertz, level),) = found.items()
        used[hertz] += 1
        ratios.append(20 * np.log10(0.1 / level))
    assert set(used) == {1000, 1500, 2000, 2500}  # of every song there is
    assert used[1000] < 80  # its own only as often as any
    assert -12.1 < min(ratios) < -11
    assert 5 < max(ratios) < 6.1
    assert np.mean(ratios) == pytest.approx(-3, abs=1.2)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_remixes_come_as_often_as_their_probability(
    tmp_path: Path, band: list[Song], share: float
) -> None:
    crops = crops_of(tmp_path, band, **QUIETLY, remix=share, remix_low_db=3, remix_high_db=3)
    remixed = 0
    for seed in range(300):
        found = levels(crops.crop(0, seed))
        level = found[max(found)]
        # As recorded, the backing lies 6 dB below; remixed, 3 dB.
        remixed += abs(20 * np.log10(0.1 / level) - 3) < 0.2
    assert abs(remixed / 300 - share) <= 0.085  # 3 standard errors


def test_vocals_alone_are_heard_where_asked(tmp_path: Path, band: list[Song]) -> None:
    crops = crops_of(tmp_path, band, **QUIETLY, stem="vocals", remix=1)
    for number in range(4):
        assert list(levels(crops.crop(number, number))) == [200 + 20 * number]


def ramp(samples: int) -> np.ndarray:
    """A recording that tells of every sample where it is."""
    return np.arange(1, samples + 1, dtype=np.int16)


def place(wave: np.ndarray) -> int:
    """Where in a `ramp` a crop starts, after checking that it is one stretch of it."""
    start = round(float(wave[0]) * 32768) - 1
    np.testing.assert_array_equal(wave * 32768, np.arange(start + 1, start + len(wave) + 1))
    return start


@pytest.mark.parametrize("remix", [0, 1])
def test_without_stems_a_crop_is_any_stretch_of_the_song(tmp_path: Path, remix: int) -> None:
    write(tmp_path, m=ramp(8012))
    ends = {"opening_s": 0, "ending_s": 0}
    crops = crops_of(tmp_path, [song(0, "m")], **{**ONLY_CUT, "remix": remix, **ends})
    places = Counter(place(crops.crop(0, seed)) for seed in range(400))
    assert set(places) == set(range(13))  # from the first sample to the last
    assert max(places.values()) < 400 / 13 + 5 * (400 / 13) ** 0.5


def test_songs_with_and_without_stems_go_together(tmp_path: Path, band: list[Song]) -> None:
    write(tmp_path, plain=tone(400, 30000))
    songs = [*band, song(4, "plain")]
    crops = crops_of(tmp_path, songs, **QUIETLY, remix=1, overlay=0)
    assert list(levels(crops.crop(4, 0))) == [400]
    assert len(levels(crops.crop(0, 0))) == 2


def test_a_song_without_stems_is_laid_under_the_others_backings(
    tmp_path: Path, band: list[Song]
) -> None:
    write(tmp_path, plain=tone(400, 30000))
    level = {"overlay_low_db": 3, "overlay_high_db": 3}
    crops = crops_of(tmp_path, [*band, song(4, "plain")], **QUIETLY, overlay=1, **level)
    heard = set()
    for seed in range(40):
        found = levels(crops.crop(4, seed))
        (backing,) = set(found) - {400}
        assert found[backing] == pytest.approx(found[400] * 10 ** (-3 / 20), rel=1e-2)
        heard.add(backing)
    assert heard == {1000, 1500, 2000, 2500}


def test_without_any_stems_the_ends_of_songs_are_laid_over_the_rest(tmp_path: Path) -> None:
    second = 16000
    for number in range(3):  # each plays its own band at both ends, and sings between them
        band_alone = tone(1000 + 500 * number, second)
        write(
            tmp_path, **{f"m{number}": np.concatenate([band_alone, tone(200, second), band_alone])}
        )
    songs = [song(number, f"m{number}") for number in range(3)]
    ends = {"opening_s": 1, "ending_s": 1, "overlay_low_db": -6, "overlay_high_db": -6}
    crops = crops_of(tmp_path, songs, **QUIETLY, **ends, overlay=0.5)
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(300):
        found = levels(crops.crop(0, seed))
        seen[tuple(found)] += 1
        for hertz in set(found) - {200}:
            assert found[hertz] == pytest.approx(found[200] * 10 ** (6 / 20), rel=1e-2)
    assert set(seen) == {(200,), (200, 1000), (200, 1500), (200, 2000)}
    assert abs(seen[200,] / 300 - 0.5) <= 0.087  # 3 standard errors
    assert min(seen.values()) >= 30  # 50 of each are expected


def test_both_are_vocals_and_mixtures_in_turn(tmp_path: Path, band: list[Song]) -> None:
    crops = crops_of(tmp_path, band, **QUIETLY, stem="both", remix=0)
    counts = Counter(tuple(levels(crops.crop(1, seed))) for seed in range(300))
    assert set(counts) == {(220,), (220, 1500)}
    assert abs(counts[220,] / 300 - 0.5) <= 0.087  # 3 standard errors


def test_both_of_a_song_without_stems_is_its_mixture(tmp_path: Path, band: list[Song]) -> None:
    write(tmp_path, plain=tone(400, 30000))
    crops = crops_of(tmp_path, [*band, song(4, "plain")], **QUIETLY, stem="both", overlay=0)
    assert all(list(levels(crops.crop(4, seed))) == [400] for seed in range(20))


def test_vocals_that_are_not_there_are_named(tmp_path: Path) -> None:
    write(tmp_path, m=ramp(9000))
    crops = crops_of(tmp_path, [song(0, "m")], stem="vocals")
    with pytest.raises(ValueError, match=r"^s0/a/0\.wav has no vocal stem$"):
        crops.crop(0, 0)


def test_audio_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no decoded audio at .*gone\.npy; run again: .* prepare"):
        crops_of(tmp_path, [song(0, "gone")]).crop(0, 0)


def sung_in(share: float, samples: int = 30000) -> np.ndarray:
    """Vocals that are silent but for one stretch in the middle."""
    vocals = tone(200, samples)
    half = round(share * samples / 2)
    vocals[: samples // 2 - half] = 0
    vocals[samples // 2 + half :] = 0
    return vocals


def test_places_where_someone_sings_are_preferred(tmp_path: Path) -> None:
    vocals = sung_in(0.04)
    write(tmp_path, m=ramp(30000), v=vocals)
    crops = crops_of(tmp_path, [song(0, "m", "v", "v")], **ONLY_CUT)
    sung = [vocals[place(crops.crop(0, seed)) :][:SAMPLES].any() for seed in range(400)]
    everywhere = np.mean([vocals[start:][:SAMPLES].any() for start in range(30000 - SAMPLES + 1)])
    assert everywhere < 0.45
    expected = 1 - (1 - everywhere) ** 3  # three places are looked at
    assert np.mean(sung) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(("hum", "tries"), [(0.025, 3), (0.035, 1)])
def test_a_place_counts_as_sung_from_three_tenths_of_the_song_s_level(
    tmp_path: Path, hum: float, tries: int
) -> None:
    vocals = np.concatenate([tone(200, 40000, hum), tone(200, 40000, 0.138)])
    assert rms(vocals / np.float32(32768)) == pytest.approx(0.1, rel=0.03)
    write(tmp_path, m=(np.arange(80000) // 4000).astype(np.int16), v=vocals)
    crops = crops_of(tmp_path, [song(0, "m", "v", "v")], **ONLY_CUT)
    loud = [crops.crop(0, seed)[-1] * 32768 >= 10 for seed in range(400)]  # ends in the loud half
    everywhere = 40000 / (80000 - SAMPLES)
    assert np.mean(loud) == pytest.approx(1 - (1 - everywhere) ** tries, abs=0.07)


def test_the_loudest_of_the_places_is_taken_where_none_is_sung(tmp_path: Path) -> None:
    """Vocals that rise: a crop's place is one draw if the first is loud enough, else the latest."""
    rise = np.round(ramp(30000) * np.linspace(0, 1, 30000) ** 8).astype(np.int16)
    write(tmp_path, m=ramp(30000), v=rise)
    crops = crops_of(tmp_path, [song(0, "m", "v", "v")], **ONLY_CUT)
    level = rms(rise / np.float32(32768))
    places = np.array([place(crops.crop(0, seed)) for seed in range(400)])
    loud = [rms(rise[p : p + SAMPLES] / np.float32(32768)) >= 0.3 * level for p in range(22001)]
    first = loud.index(True)  # sung from here on
    assert all(loud[first:])
    share = 1 - first / 22001
    assert np.mean(places >= first) == pytest.approx(1 - (1 - share) ** 3, abs=0.08)
    unsung = places[places < first]
    assert np.mean(unsung) == pytest.approx(0.75 * first, rel=0.06)  # the largest of three draws


def test_a_crop_that_is_hardly_sung_in_is_not_boosted(tmp_path: Path) -> None:
    vocals = sung_in(0.3)
    write(tmp_path, m=vocals, v=vocals, b=tone(1000, 30000))
    crops = crops_of(
        tmp_path,
        [song(0, "m", "v", "b")],
        **QUIETLY,
        remix=1,
        remix_low_db=0,
        remix_high_db=0,
    )
    usual = rms(vocals / np.float32(32768))
    hertz = np.fft.rfftfreq(SAMPLES, 1 / 16000)
    for seed in range(60):
        wave = crops.crop(0, seed)
        backing = np.abs(np.fft.rfft(wave))[hertz == 1000][0] * 2 / SAMPLES / 2**0.5
        own = (max(0.0, rms(wave) ** 2 - backing**2)) ** 0.5
        assert backing == pytest.approx(max(usual, own), rel=0.05)


def test_a_song_shorter_than_a_crop_is_repeated(tmp_path: Path) -> None:
    write(tmp_path, m=ramp(3000))
    wave = crops_of(tmp_path, [song(0, "m")], **ONLY_CUT).crop(0, 0)
    expected = [1 + sample % 3000 for sample in range(SAMPLES)]
    np.testing.assert_array_equal(wave * 32768, expected)


def test_short_stems_are_repeated_too(tmp_path: Path) -> None:
    write(tmp_path, m=tone(200, 4000), v=tone(200, 4000), b=tone(1000, 2000))
    crops = crops_of(
        tmp_path, [song(0, "m", "v", "b")], **QUIETLY, remix=1, remix_low_db=0, remix_high_db=0
    )
    found = levels(crops.crop(0, 0))
    assert found == {200: pytest.approx(0.1, rel=0.01), 1000: pytest.approx(0.1, rel=0.01)}


def test_an_instrumental_is_no_trouble(tmp_path: Path, band: list[Song]) -> None:
    write(tmp_path, quiet=np.zeros(20000, np.int16))
    songs = [*band, dataclasses.replace(band[0], vocals="quiet")]
    crops = crops_of(tmp_path, songs, equaliser=1, noise=1, low_pass=1, remix=1)
    assert all(np.isfinite(crops.crop(4, seed)).all() for seed in range(10))


SECOND = 16000
ENDS = AugmentConfig(opening_s=2, ending_s=1)


def ends_of(folder: Path, *lengths: int, config: AugmentConfig = ENDS) -> InstrumentalCrops:
    """Songs of these lengths in which every sample says which song it is and where."""
    cache = AudioCache(folder)
    songs = []
    for number, length in enumerate(lengths):
        cache.write(f"k{number}", (np.arange(length) // 100 + 10000 * number).astype(np.int16))
        name = f"s/a/{number}.wav"
        songs.append(Song(name, name, "s", "a", str(number), audio=f"k{number}"))
    return InstrumentalCrops(songs, Recordings(folder), config)


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
    mixtures = Mixtures(songs, folder, CONFIG.model_copy(update=changes))
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
    config = CONFIG.model_copy(update={"own_backing": 1.0, "low_db": 0.0, "high_db": 0.0})
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
    assert not Mixtures(songs, tmp_path, CONFIG.model_copy(update={"seed": 1}))[3][1].equal(
        one[3][1]
    )


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
    mixture, vocals = cross_mixture(songs[0], songs[2], cache, -8.0)
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
