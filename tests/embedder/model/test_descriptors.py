"""The rows below the mels: which stand where, and that they are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder.config import AugmentConfig, FeatureConfig
from embedder.models.frontends import LogMel, SpecAugment, one_level
from embedder.models.zoo import descriptors
from embedder.models.zoo.ivector import Mfcc
from embedder.models.zoo.midlevel import (
    CEPSTRA,
    MID_LEVEL_ROWS,
    MUSIC_ROWS,
    TIMBRE_ROWS,
    Descriptors,
    mid_level,
)
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "midlevel"}).features


def sounds(seed: int, batch: int, samples: int = 16000) -> torch.Tensor:
    """A tone with harmonics, its own in each row, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    rows = [
        sum(np.sin(2 * np.pi * f0 * k * time) / k for k in range(1, 9))
        for f0 in rng.uniform(100, 800, batch)
    ]
    wave = np.stack(rows) + rng.uniform(0.01, 0.3) * rng.normal(size=(batch, samples))
    return torch.from_numpy((0.1 * wave).astype(np.float32))


def parts_of(front: Descriptors, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    sizes = {
        "mel": front.mel_rows,
        "shape": descriptors.SHAPE_ROWS,
        "contrast": descriptors.CONTRAST_ROWS,
        "harmonics": descriptors.HARMONIC_ROWS,
        "crossings": 1,
        "cepstra": CEPSTRA,
        "chroma": 12,
        "onsets": 1,
        "dissonance": 1,
        "octaves": 1,
        "strength": 1,
        "mid_level": MID_LEVEL_ROWS,
    }
    return dict(zip(sizes, rows.split(list(sizes.values()), dim=1), strict=True))


@pytest.mark.parametrize("config", [PAPER, FeatureConfig(n_mels=40)], ids=["paper", "another"])
def test_rows_are_what_their_place_says(config: FeatureConfig) -> None:
    front = Descriptors(config)
    wave = sounds(0, 2)
    rows = front(wave)
    assert rows.dtype == torch.float32
    assert rows.shape == (2, front.rows, 1 + 16000 // config.hop)
    assert front.rows == config.n_mels + TIMBRE_ROWS + MUSIC_ROWS + MID_LEVEL_ROWS
    assert front.rows == front.mel_rows + 66
    parts = parts_of(front, rows)
    level = one_level(wave)
    magnitude = front.pitch.spectrum(level)
    f0, strength = front.pitch(level)
    chroma, dissonance = front.harmony(magnitude)
    onsets = descriptors.onsets(parts["mel"])
    torch.testing.assert_close(parts["mel"], LogMel(config)(wave))
    torch.testing.assert_close(parts["shape"], descriptors.spectral_shape(magnitude))
    torch.testing.assert_close(parts["contrast"], descriptors.spectral_contrast(magnitude))
    torch.testing.assert_close(parts["harmonics"], descriptors.harmonic_levels(magnitude, f0))
    crossings = descriptors.zero_crossings(level, 2048, config.hop)
    torch.testing.assert_close(parts["crossings"][:, 0], crossings)
    cepstra = Mfcc(config)(wave)[:, 1:20]
    torch.testing.assert_close(parts["cepstra"][:, :19], cepstra, atol=1e-4, rtol=0)
    torch.testing.assert_close(parts["chroma"], chroma)
    torch.testing.assert_close(parts["onsets"][:, 0], onsets)
    torch.testing.assert_close(parts["dissonance"][:, 0], dissonance)
    torch.testing.assert_close(parts["octaves"][:, 0], descriptors.octaves(f0))
    torch.testing.assert_close(parts["strength"][:, 0], strength)
    crop = mid_level(chroma, onsets, dissonance, f0, strength, config.hop)
    torch.testing.assert_close(parts["mid_level"], crop[:, :, None].expand_as(parts["mid_level"]))


def test_neither_loudness_nor_company_nor_precision_matters() -> None:
    front = Descriptors(PAPER)
    wave = sounds(1, 3)
    rows = front(wave)
    torch.testing.assert_close(front(0.1 * wave), rows, atol=5e-3, rtol=0)
    torch.testing.assert_close(front(wave[1:2]), rows[1:2], atol=1e-4, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front(wave), rows)


def test_masks_leave_the_descriptors_alone() -> None:
    torch.manual_seed(0)
    front = Descriptors(PAPER)
    rows = front(sounds(2, 4))
    augment = AugmentConfig(time_masks=2, band_masks=2, time_mask_s=0.5, band_mask_mels=40)
    masked = SpecAugment(PAPER, augment, front.mel_rows)(rows)
    assert torch.equal(masked[:, 128:], rows[:, 128:])
    assert not torch.equal(masked[:, :128], rows[:, :128])


def test_silence_is_finite() -> None:
    assert Descriptors(PAPER)(torch.zeros(1, 8000)).isfinite().all()
