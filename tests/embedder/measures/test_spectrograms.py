"""Pictures of three seconds: the right place, the members' own mels, and back from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedder.catalogue import Catalogue, Song, read_catalogue, write_catalogue
from embedder.config import FeatureConfig
from embedder.data.cache import AudioCache
from embedder.errors import UserError
from embedder.inference.detector import Voices
from embedder.measures.records import SPECTROGRAMS_FILE, read_spectrograms
from embedder.measures.spectrograms import FEATURES, band_centres, levels, most_voiced
from embedder.models.frontends import LogMel
from embedder.run import Run

RATE = 16000


def song(number: int, vocals: str = "") -> Song:
    return Song(f"A/x/{number}", "/a", "A", "x", str(number), "train", 8.0, f"mix{number}", vocals)


def test_the_most_voiced_three_seconds_of_the_most_voiced_song(tmp_path: Path) -> None:
    cache = AudioCache(tmp_path)
    tone = (8000 * np.sin(2 * np.pi * 300 * np.arange(8 * RATE) / RATE)).astype(np.int16)
    second = np.arange(8 * RATE) / RATE
    cache.write("one", np.where((second > 1) & (second < 3), tone, 0).astype(np.int16))
    cache.write("two", np.where(second > 4, tone, 0).astype(np.int16))
    for number in (1, 2, 3):
        cache.write(f"mix{number}", tone)
    voices = Voices(None, cache)
    first, other = song(1, "one"), song(2, "two")
    assert most_voiced([first], voices, cache) == (first, 0)  # 1 s and 0 s hold two seconds each
    assert most_voiced([first, other], voices, cache) == (other, 4)
    assert most_voiced([song(3)], voices, cache) == (song(3), 3)  # nobody listens: the middle


def test_levels_are_the_members_mels_in_decibels() -> None:
    rng = np.random.default_rng(0)
    wave = rng.normal(scale=0.1, size=3 * RATE).astype(np.float32)
    found = levels(wave)
    own = LogMel(FeatureConfig(mel_norm="none"))(torch.from_numpy(wave)[None])[0].numpy()
    np.testing.assert_allclose(found, 10 * np.log10(np.exp(own.astype(np.float64))), atol=1e-4)
    assert found.shape == (80, 151)
    np.testing.assert_allclose(levels(0.1 * wave), found, atol=1e-2)  # at one level


def test_a_tone_lights_the_band_of_its_frequency() -> None:
    centres = np.array(band_centres(FEATURES))
    assert (np.diff(centres) > 0).all()
    for hertz in (500.0, 3000.0):
        wave = np.sin(2 * np.pi * hertz * np.arange(3 * RATE) / RATE).astype(np.float32)
        band = levels(wave)[:, 70].argmax()
        assert abs(centres[band] - hertz) == pytest.approx(np.abs(centres - hertz).min(), abs=25)


def test_the_command_draws_every_singer_once(prepared: Run, command: Callable[..., Any]) -> None:
    ask = ("measure", "--what", "spectrograms", "--run_dir", prepared.root)
    outcome = command(*ask)
    assert outcome.code == 0, outcome
    assert "drawing spectrograms: 4 in" in outcome.out
    found = read_spectrograms(prepared)
    catalogue = read_catalogue(prepared.catalogue)
    assert found is not None
    assert found.singers == catalogue.singers
    by_id = {one.id: one for one in catalogue.of("train")}
    cache = AudioCache(prepared.cache)
    for row, (name, keys) in enumerate(zip(found.songs, found.keys, strict=True)):
        assert by_id[name].singer == found.singers[row]
        assert keys == (by_id[name].audio, by_id[name].vocals)
        for key, pictures in zip(keys, (found.mixture, found.vocals), strict=True):
            true = levels(cache.read(key, found.starts_s[row] * RATE, 3 * RATE))
            back = found.low_db + found.step_db * pictures[row].astype(np.float64)
            assert np.abs(back - true).max() <= 0.51 * found.step_db
    before = prepared.measure(SPECTROGRAMS_FILE).stat().st_mtime_ns
    assert "drawing" not in command(*ask).out
    assert prepared.measure(SPECTROGRAMS_FILE).stat().st_mtime_ns == before

    bare = [replace(one, vocals="") if one.id in found.songs else one for one in catalogue.songs]
    write_catalogue(prepared.catalogue, Catalogue(tuple(bare)))
    assert "drawing" in command(*ask).out
    found = read_spectrograms(prepared)
    assert found is not None
    assert not found.vocals.any()
    assert found.keys[0][1] == ""


def test_what_is_no_file_of_pictures_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read_spectrograms(run) is None
    run.measure(SPECTROGRAMS_FILE).parent.mkdir()
    run.measure(SPECTROGRAMS_FILE).write_bytes(b"nothing")
    with pytest.raises(
        UserError, match=r"is not a readable file of spectrograms .*; run again: python app\.py"
    ):
        read_spectrograms(run)
