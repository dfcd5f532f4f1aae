"""Training crops: of the draw alone, where someone sings, and over other songs' backings."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from embedder.catalogue import Song
from embedder.config import MemberConfig
from embedder.data.augment import rms
from embedder.data.batches import SingerBatches
from embedder.data.cache import AudioCache
from embedder.data.crops import Crops
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
