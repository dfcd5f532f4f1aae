"""SI-SDR against its definition, and what is mixed, averaged and written."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.artifact import read_json
from embedder.catalogue import Catalogue, read_catalogue
from embedder.data.augment import rms
from embedder.data.cache import AudioCache
from embedder.run import Run
from embedder.training.separator_quality import (
    MIXTURES,
    QuickCheck,
    SongQuality,
    measure_separation,
    read_quality,
    si_sdr,
    summary,
    write_quality,
)


class Nothing(nn.Module):
    """A separator that gives back what it hears, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.heard: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, wave: Tensor) -> Tensor:
        self.heard.append(wave[0].clone())
        self.modes.append(self.training)
        return wave

    def refined(self, wave: Tensor) -> Tensor:
        found: Tensor = self(wave)
        return found


class Halved(Nothing):
    def forward(self, wave: Tensor) -> Tensor:
        wave = super().forward(wave).clone()
        wave[:, wave.shape[1] // 2 :] = 0
        return wave


def test_si_sdr_of_orthogonal_noise_is_its_level_and_scale_says_nothing() -> None:
    target = torch.tensor([1.0, 1, 1, 1])
    noise = torch.tensor([0.1, -0.1, 0.1, -0.1])
    assert float(si_sdr(target + noise, target)) == pytest.approx(20, abs=1e-5)
    assert float(si_sdr(-7 * (target + noise), target)) == pytest.approx(20, abs=1e-5)


@pytest.fixture
def catalogue(prepared: Run) -> Catalogue:
    return read_catalogue(prepared.catalogue)


def test_each_song_is_mixed_in_every_way_and_never_with_its_own_backing_twice(
    prepared: Run, catalogue: Catalogue
) -> None:
    cache, songs = AudioCache(prepared.cache), catalogue.of("validation")
    deaf = Nothing()
    rows = measure_separation(deaf, songs, cache)  # type: ignore[arg-type]
    assert [(r.song, r.mixture) for r in rows] == [(s.id, m) for s in songs for m in MIXTURES]
    assert all(row.gain == 0 for row in rows)
    for number, row in enumerate(rows):
        song = songs[number // len(MIXTURES)]
        vocals = cache.read(song.vocals, 0, cache.length(song.vocals))
        heard = deaf.heard[number].numpy()
        backing = heard - vocals[: len(heard)]
        own = cache.read(song.backing, 0, len(heard))
        likeness = abs(np.corrcoef(backing, own)[0, 1])
        assert (likeness > 0.999) == (row.mixture == "own backing")
        level = {"0 dB": 0.0, "-8 dB": -8.0}.get(row.mixture)
        if level is not None:
            assert 20 * np.log10(rms(vocals) / rms(backing)) == pytest.approx(level, abs=0.1)
        expected = si_sdr(torch.from_numpy(heard), torch.from_numpy(vocals[: len(heard)]))
        assert row.before == pytest.approx(float(expected), abs=1e-6)


def test_after_is_measured_on_what_the_separator_gives(prepared: Run, catalogue: Catalogue) -> None:
    cache, songs = AudioCache(prepared.cache), catalogue.of("validation")[:2]
    half = Halved()
    row = measure_separation(half, songs, cache)[0]  # type: ignore[arg-type]
    estimate = half.heard[0].clone()
    estimate[len(estimate) // 2 :] = 0
    vocals = torch.from_numpy(cache.read(songs[0].vocals, 0, len(estimate)))
    assert row.after == pytest.approx(float(si_sdr(estimate, vocals)), abs=1e-6)
    assert row.gain == row.after - row.before != 0


def test_a_single_song_is_heard_over_its_own_backing_alone(
    prepared: Run, catalogue: Catalogue
) -> None:
    songs = catalogue.of("validation")[:1]
    rows = measure_separation(Nothing(), songs, AudioCache(prepared.cache))  # type: ignore[arg-type]
    assert [row.mixture for row in rows] == ["own backing"]


def test_songs_without_a_voice_have_no_number(prepared: Run, catalogue: Catalogue) -> None:
    cache, songs = AudioCache(prepared.cache), catalogue.of("validation")
    cache.write(songs[1].vocals, np.zeros(16000, np.int16))
    rows = measure_separation(Nothing(), songs, cache)  # type: ignore[arg-type]
    assert {row.song for row in rows} == {song.id for song in songs} - {songs[1].id}
    assert all(np.isfinite([row.before, row.after]).all() for row in rows)


def test_the_look_after_an_epoch_hears_middles_in_eval_mode_and_leaves_the_mode(
    prepared: Run, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedder.training.separator_quality.QUICK_S", 2.0)
    monkeypatch.setattr("embedder.training.separator_quality.QUICK_SONGS", 2)
    cache, songs = AudioCache(prepared.cache), catalogue.of("validation")
    quick, half = QuickCheck(songs, cache), Halved().train()
    gain = quick.gain(half)  # type: ignore[arg-type]
    assert half.training
    assert half.modes == [False] * len(half.heard)
    gains = []
    for song, heard in zip(songs[::2], half.heard, strict=True):
        length = min(cache.length(song.vocals), cache.length(song.backing))
        start = (length - 32000) // 2
        vocals = torch.from_numpy(cache.read(song.vocals, start, 32000))
        mixture = vocals + torch.from_numpy(cache.read(song.backing, start, 32000))
        torch.testing.assert_close(heard, mixture)
        estimate = mixture.clone()
        estimate[16000:] = 0
        gains.append(float(si_sdr(estimate, vocals) - si_sdr(mixture, vocals)))
    assert gain == pytest.approx(np.mean(gains), abs=1e-6)


ROWS = [
    SongQuality(f"{number}", f"album {number}", kind, -1.0 * number, 2.0 * number)
    for number in range(5)
    for kind in ("own backing", "0 dB")
]


def test_a_summary_has_mean_interval_and_median_of_each_kind() -> None:
    found = summary(ROWS)
    assert list(found) == ["own backing", "0 dB"]
    for part in found.values():
        assert part["songs"] == 5
        assert (part["before"]["mean"], part["after"]["mean"]) == (-2, 4)
        assert (part["gain"]["mean"], part["gain"]["median"]) == (6, 6)
        assert 0 < part["gain"]["low"] < 6 < part["gain"]["high"] < 12


def test_the_songs_of_an_album_are_drawn_together() -> None:
    apart = [SongQuality(f"{n}", f"{n}", "0 dB", 0.0, float(n // 5)) for n in range(20)]
    together = [replace(row, album=f"{int(row.after)}") for row in apart]
    widths = [
        found["gain"]["high"] - found["gain"]["low"]
        for found in (summary(rows)["0 dB"] for rows in (apart, together))
    ]
    assert widths[1] > 2 * widths[0]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    written = write_quality(run, ROWS, 0)
    assert written == read_quality(run) == read_json(run.separator / "quality.json")
    with (run.separator / "quality.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ROWS)
    assert rows[3] == {"song": "1", "mixture": "0 dB", "before": "-1.0", "after": "2.0"}
