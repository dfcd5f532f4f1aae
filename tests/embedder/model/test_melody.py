"""Mels with the melody below: the entry of each frame, its band, and what leaves it alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from embedder.config import SAMPLE_RATE, AugmentConfig, FeatureConfig
from embedder.models.frontends import LogMel, MelodyMel, SpecAugment, one_level
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "crnnm"}).features
FINE = FeatureConfig(n_mels=80, n_fft=1024, hop=256, f_min=40.0)


def singing(seed: int, batch: int) -> torch.Tensor:
    """Gliding tones with harmonics and some noise, 1 s."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(batch):
        f0 = np.geomspace(*rng.uniform(90, 900, 2), SAMPLE_RATE)
        phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
        rows.append(sum(np.sin(k * phase) / k for k in range(1, 8)))
    wave = np.stack(rows) + 0.05 * rng.normal(size=(batch, SAMPLE_RATE))
    return torch.from_numpy((0.1 * wave).astype(np.float32))


@pytest.mark.parametrize("config", [PAPER, FINE], ids=["paper", "fine"])
def test_each_frame_has_its_strength_in_the_band_of_its_pitch(config: FeatureConfig) -> None:
    front = MelodyMel(config)
    wave = singing(0, 2)
    rows = front(wave)
    mels = config.n_mels
    assert (front.rows, front.mel_rows) == (2 * mels, mels)
    assert rows.shape == (2, 2 * mels, 1 + SAMPLE_RATE // config.hop)
    assert torch.equal(rows[:, :mels], LogMel(config)(wave))
    f0, strength = front.pitch(one_level(wave))
    # The band whose triangle is highest at the pitch, of the same bank over bins of 0.1 Hz.
    bank = torchaudio.functional.melscale_fbanks(
        80001, config.f_min, SAMPLE_RATE / 2, mels, SAMPLE_RATE
    )
    image = np.zeros((2, mels, rows.shape[2]), np.float32)
    for row, frame in np.ndindex(*f0.shape):
        band = int(bank[round(10 * float(f0[row, frame]))].argmax())
        image[row, band, frame] = strength[row, frame]
    same = (rows[:, mels:].numpy() == image).all(axis=1)
    assert same.mean() > 0.97  # halfway between two centres either may be the higher
    assert len(np.unique(image.argmax(axis=1))) > 5


def test_the_contour_lies_on_the_fundamental_of_the_spectrogram() -> None:
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = torch.from_numpy(np.sin(2 * np.pi * 600 * seconds).astype(np.float32))[None]
    rows = MelodyMel(PAPER)(wave)[0, :, 2:-2]
    assert (rows[:128].argmax(dim=0) - rows[128:].argmax(dim=0)).abs().max() <= 1


@pytest.mark.parametrize("pitch", [1.0, 80.0, 7999.0, 20000.0])
def test_every_pitch_has_a_band(pitch: float) -> None:
    band = int(MelodyMel(PAPER).band(torch.tensor(pitch)))
    assert band == {1.0: 0, 80.0: 5, 7999.0: 127, 20000.0: 127}[pitch]


def test_masks_leave_the_melody_alone() -> None:
    torch.manual_seed(0)
    front = MelodyMel(PAPER)
    rows = front(singing(1, 4))
    augment = AugmentConfig(time_masks=2, band_masks=2, time_mask_s=0.5, band_mask_mels=40)
    masked = SpecAugment(PAPER, augment, front.mel_rows)(rows)
    assert torch.equal(masked[:, 128:], rows[:, 128:])
    assert not torch.equal(masked[:, :128], rows[:, :128])


def test_silence_has_no_melody() -> None:
    assert (MelodyMel(PAPER)(torch.zeros(1, 8000))[:, 128:] == 0).all()
