"""Log-mel and SpecAugment: against a direct transform in numpy, at any level, and mask by mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.config import SAMPLE_RATE, AugmentConfig, FeatureConfig
from embedder.models.frontends import (
    FLOOR,
    LEVEL,
    SILENCE,
    LogMel,
    MelodyMel,
    SpecAugment,
    one_level,
)
from embedder.presets import PRESETS
from embedder.settings import build_config

PLAIN = FeatureConfig(mel_norm="none")
PAPER = FeatureConfig(n_mels=128, n_fft=2048, hop=512, f_min=0.0, mel_norm="none")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32))


def slow_log_mel(wave: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """The definition, frame by frame and in double precision."""
    wave = wave.astype(np.float64)
    level = np.sqrt(np.mean(wave**2))
    padded = np.pad(wave * LEVEL / level, config.n_fft // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)
    bank = torchaudio.functional.melscale_fbanks(
        config.n_fft // 2 + 1, config.f_min, SAMPLE_RATE / 2, config.n_mels, SAMPLE_RATE
    ).numpy()
    columns = []
    for frame in range(1 + len(wave) // config.hop):
        piece = padded[frame * config.hop :][: config.n_fft]
        power = np.abs(np.fft.rfft(piece * window)) ** 2
        columns.append(np.log(bank.T @ power + FLOOR))
    mel = np.stack(columns, axis=1)
    if config.mel_norm == "mean":
        mel -= mel.mean(axis=1, keepdims=True)
    return mel


@pytest.mark.parametrize("samples", [8000, 12345])
@pytest.mark.parametrize("config", [FeatureConfig(), PLAIN, PAPER], ids=["mean", "none", "paper"])
def test_log_mel_is_that_of_the_definition(config: FeatureConfig, samples: int) -> None:
    wave = noise(0, 2, samples)
    mel = LogMel(config)(wave)
    assert mel.shape == (2, config.n_mels, 1 + samples // config.hop)
    for row in range(2):
        expected = slow_log_mel(wave[row].numpy(), config)
        np.testing.assert_allclose(mel[row].numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("backbone", ["ecapa", "crnn", "shortchunk", "musicnn"])
@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_has_an_empty_mel_band(preset: str, backbone: str) -> None:
    config = build_config(preset, changes={"backbone": backbone}).features
    bank = LogMel(config).mel.mel_scale.fb  # torchaudio's warning of empty bands is an error here
    assert (bank.sum(dim=0) > 0).all()


def test_silence_is_the_floor_and_is_not_amplified() -> None:
    features = LogMel(PLAIN)
    floor = float(np.log(FLOOR))
    assert (features(torch.zeros(1, 4000)) - floor).abs().max() < 1e-6
    wave = noise(0, 1, 4000)
    faint = wave / wave.square().mean().sqrt() * (SILENCE / 10)
    usual, quiet = features(faint * 100), features(faint)
    # A tenth of SILENCE is brought to a tenth of LEVEL: 20 dB less, ln 100 in the log of power.
    above = usual > floor + 12  # where the floor's share is below 1e-3 even after the drop
    assert above.float().mean() > 0.3
    drop = (usual - quiet)[above]
    torch.testing.assert_close(drop, torch.full_like(drop, np.log(100)), atol=2e-3, rtol=0)


def masked(augment: AugmentConfig, seed: int, batch: int = 64, frames: int = 100) -> torch.Tensor:
    """What `SpecAugment` hides, bool (batch, mels, frames); it must be the crop's mean."""
    draws = torch.Generator().manual_seed(9)
    mel = 1 + torch.rand(batch, 40, frames, generator=draws)  # no value is near the crop's mean
    mel *= torch.randint(0, 2, mel.shape, generator=draws) * 2 - 1
    features = FeatureConfig(n_mels=40, hop=160)
    torch.manual_seed(seed)
    out = SpecAugment(features, augment, features.n_mels)(mel)
    hidden = out != mel
    means = mel.mean(dim=(1, 2), keepdim=True).expand_as(mel)
    torch.testing.assert_close(out[hidden], means[hidden], atol=0, rtol=0)
    return hidden


def runs(line: torch.Tensor) -> list[int]:
    """Lengths of the stretches of True."""
    text = "".join("x" if value else " " for value in line.tolist())
    return [len(run) for run in text.split()]


NOTHING = AugmentConfig(time_masks=0, band_masks=0)


def test_one_time_mask_is_one_stretch_of_whole_frames() -> None:
    augment = NOTHING.model_copy(update={"time_masks": 1, "time_mask_s": 0.2})  # 20 frames of 160
    hidden = masked(augment, 0, batch=1000)
    assert (hidden.all(dim=1) == hidden.any(dim=1)).all()
    lengths = [sum(runs(crop)) for crop in hidden.all(dim=1)]
    assert max(len(runs(crop)) for crop in hidden.all(dim=1)) == 1
    assert set(lengths) == set(range(21))  # from no frame to the widest, both included
    assert abs(np.mean(lengths) - 10) < 0.5  # uniform: mean 10, standard error 0.14
    assert hidden[:, 0, 0].any()  # the first and the last frame are within reach
    assert hidden[:, 0, -1].any()


def test_one_band_mask_is_one_run_of_whole_bands() -> None:
    hidden = masked(
        NOTHING.model_copy(update={"band_masks": 1, "band_mask_mels": 8}), 0, batch=1000
    )
    assert (hidden.all(dim=2) == hidden.any(dim=2)).all()
    lengths = [sum(runs(crop)) for crop in hidden.all(dim=2)]
    assert max(len(runs(crop)) for crop in hidden.all(dim=2)) == 1
    assert set(lengths) == set(range(9))
    assert abs(np.mean(lengths) - 4) < 0.25
    assert hidden[:, 0, 0].any()
    assert hidden[:, -1, 0].any()


@settings(max_examples=30)
@given(
    st.integers(0, 4), st.floats(0, 0.5), st.integers(0, 4), st.integers(0, 20), st.integers(3, 120)
)
def test_no_more_is_hidden_than_asked(
    times: int, seconds: float, bands: int, mels: int, frames: int
) -> None:
    augment = AugmentConfig(
        time_masks=times, time_mask_s=seconds, band_masks=bands, band_mask_mels=mels
    )
    hidden = masked(augment, 1, batch=8, frames=frames)
    most_frames = min(frames, times * round(seconds * 100))
    most_bands = min(40, bands * mels)
    rows, columns = hidden.all(dim=2), hidden.all(dim=1)
    # All that is hidden lies in a hidden row or in a hidden column.
    assert (hidden == rows[:, :, None] | columns[:, None, :]).all()
    if most_frames < frames:
        assert rows.sum(dim=1).max() <= most_bands
    if most_bands < 40:
        assert columns.sum(dim=1).max() <= most_frames


def test_each_crop_has_its_own_masks() -> None:
    hidden = masked(AugmentConfig(), 0).flatten(1)
    assert len({tuple(crop.tolist()) for crop in hidden}) > 60
    # One crop's masks say nothing about the next one's.
    frames = masked(NOTHING.model_copy(update={"time_masks": 1}), 0, batch=1000).all(dim=1).float()
    pairs = np.corrcoef(frames[0::2, 50].numpy(), frames[1::2, 50].numpy())
    assert abs(pairs[0, 1]) < 0.1


def test_masks_are_those_of_the_seed() -> None:
    assert (masked(AugmentConfig(), 5) == masked(AugmentConfig(), 5)).all()
    assert (masked(AugmentConfig(), 5) != masked(AugmentConfig(), 6)).any()


@pytest.mark.parametrize(
    "augment",
    [
        NOTHING,
        AugmentConfig(time_mask_s=0, band_masks=0),
        AugmentConfig(time_masks=0, band_mask_mels=0),
    ],
)
def test_no_mask_changes_nothing(augment: AugmentConfig) -> None:
    assert not masked(augment, 0).any()


# The melody below the mels ------------------------------------------------------------------------


CRNNM = build_config(changes={"backbone": "crnnm"}).features
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


@pytest.mark.parametrize("config", [CRNNM, FINE], ids=["paper", "fine"])
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


@pytest.mark.parametrize("pitch", [1.0, 80.0, 7999.0, 20000.0])
def test_every_pitch_has_a_band(pitch: float) -> None:
    band = int(MelodyMel(CRNNM).band(torch.tensor(pitch)))
    assert band == {1.0: 0, 80.0: 5, 7999.0: 127, 20000.0: 127}[pitch]


def test_masks_leave_the_melody_alone() -> None:
    torch.manual_seed(0)
    front = MelodyMel(CRNNM)
    rows = front(singing(1, 4))
    augment = AugmentConfig(time_masks=2, band_masks=2, time_mask_s=0.5, band_mask_mels=40)
    masked = SpecAugment(CRNNM, augment, front.mel_rows)(rows)
    assert torch.equal(masked[:, 128:], rows[:, 128:])
    assert not torch.equal(masked[:, :128], rows[:, :128])


def test_silence_has_no_melody() -> None:
    assert (MelodyMel(CRNNM)(torch.zeros(1, 8000))[:, 128:] == 0).all()
