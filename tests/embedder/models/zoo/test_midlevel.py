"""Mid-level features, the rows of descriptors, and how the CRNN is joined with both."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.config import AugmentConfig, FeatureConfig
from embedder.models.frontends import LogMel, SpecAugment, one_level
from embedder.models.zoo import descriptors
from embedder.models.zoo.ivector import Mfcc
from embedder.models.zoo.midlevel import (
    CEPSTRA,
    LEARNT,
    MAJOR,
    MID_LEVEL,
    MID_LEVEL_ROWS,
    MINOR,
    MUSIC_ROWS,
    TIMBRE_ROWS,
    Descriptors,
    MidLevel,
    Standard,
    key,
    melodiousness,
    mid_level,
    rhythm,
)
from embedder.settings import build_config
from tests.embedder.models.reference import backbone, noise, stirred

PAPER = build_config(changes={"backbone": "midlevel"})
ENDS = np.cumsum([0, 128, TIMBRE_ROWS, MUSIC_ROWS, MID_LEVEL_ROWS])
MEL, TIMBRE, MUSIC, MID = (slice(a, b) for a, b in itertools.pairwise(ENDS))


@pytest.fixture
def network() -> MidLevel:
    return stirred(backbone("midlevel"))  # type: ignore[no-any-return]


def rows_of(seed: int, batch: int = 2, frames: int = 53) -> Tensor:
    values = noise(seed, batch, ENDS[-1], frames)
    values[:, MID] = values[:, MID, :1]
    return values


def test_a_standard_row_has_mean_0_and_deviation_1_and_no_outliers() -> None:
    standard = Standard(3).train()
    rows = 5 + 2 * torch.randn(64, 3, 50, generator=torch.Generator().manual_seed(0))
    rows[0, 1, 0] = 1000
    out = standard(rows)
    assert out[:, [0, 2]].mean(dim=(0, 2)).abs().max() < 1e-2
    assert (out[:, [0, 2]].std(dim=(0, 2)) - 1).abs().max() < 1e-2
    assert float(out.max()) == float(out[0, 1, 0]) == 4
    assert float(standard.eval()(-rows).min()) == -4
    assert not list(standard.parameters())


def test_steps_carry_the_means_and_deviations_of_sixteen_frames(network: MidLevel) -> None:
    timbre = rows_of(0)[:, TIMBRE]
    found = network.of_steps(timbre)
    assert found.shape == (2, 3, 2 * TIMBRE_ROWS)
    normed = network.timbre_norm(timbre).double().numpy()
    for item, step, row in np.ndindex(2, 3, TIMBRE_ROWS):
        piece = normed[item, row, 16 * step : 16 * (step + 1)]
        assert float(found[item, step, row]) == pytest.approx(np.mean(piece), abs=1e-5)
        assert float(found[item, step, TIMBRE_ROWS + row]) == pytest.approx(np.std(piece), abs=1e-5)


def test_without_timbre_its_first_numbers_are_the_crnn_s(network: MidLevel) -> None:
    network.gru.weight_ih_l0.data[:, 128:] = 0
    crnn = backbone("crnn")
    state = network.state_dict()
    own = {name: state[name] for name in crnn.state_dict()}
    own["gru.weight_ih_l0"] = own["gru.weight_ih_l0"][:, :128]
    crnn.load_state_dict(own)
    rows = rows_of(1)
    torch.testing.assert_close(network(rows)[:, :32], crnn.eval()(rows[:, MEL]))


def test_timbre_joins_the_frames_before_the_gru(network: MidLevel) -> None:
    heard: list[Tensor] = []
    network.gru.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    rows = rows_of(2)
    out = network(rows)
    maps = network.blocks(network.norm(rows[:, MEL])[:, None])[:, :, 0].transpose(1, 2)
    timbre = network.timbre(network.of_steps(rows[:, TIMBRE]))
    torch.testing.assert_close(heard[0], torch.cat([maps, timbre], dim=2))
    torch.testing.assert_close(out[:, :32], network.gru(heard[0])[0][:, -1])


def test_mid_level_features_come_last_learnt_then_computed(network: MidLevel) -> None:
    rows = rows_of(3)
    out = network(rows)
    assert out.shape == (2, network.output_dim) == (2, 32 + LEARNT + MID_LEVEL_ROWS) == (2, 64)
    torch.testing.assert_close(out[:, 32 : 32 + LEARNT], network.music(rows[:, MUSIC]))
    norm = network.mid_level_norm.norm
    values = rows[:, MID, 0].double()
    expected = (values - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    torch.testing.assert_close(out[:, -MID_LEVEL_ROWS:].double(), expected.clamp(-4, 4))


# The rows of descriptors --------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "config", [PAPER.features, FeatureConfig(n_mels=40)], ids=["paper", "another"]
)
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


def test_masks_leave_the_descriptors_alone() -> None:
    torch.manual_seed(0)
    front = Descriptors(PAPER.features)
    rows = front(sounds(2, 4))
    augment = AugmentConfig(time_masks=2, band_masks=2, time_mask_s=0.5, band_mask_mels=40)
    masked = SpecAugment(PAPER.features, augment, front.mel_rows)(rows)
    assert torch.equal(masked[:, 128:], rows[:, 128:])
    assert not torch.equal(masked[:, :128], rows[:, :128])


# The seven formulas -------------------------------------------------------------------------------

HOP, RATE = 512, 16000 / 512


def uniform(seed: int, *shape: int) -> torch.Tensor:
    values = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    return torch.from_numpy(values)


def test_keys_are_correlations_with_krumhansl_s_profiles() -> None:
    chroma = uniform(0, 5, 12)
    stability, minorness = key(chroma)
    for row in range(5):
        best = {}
        for name, profile in (("major", MAJOR), ("minor", MINOR)):
            best[name] = max(
                np.corrcoef(chroma[row].numpy(), np.roll(profile, tonic))[0, 1]
                for tonic in range(12)
            )
        assert float(stability[row]) == pytest.approx(max(best.values()), abs=1e-5)
        assert float(minorness[row]) == pytest.approx(best["minor"] - best["major"], abs=1e-5)


@pytest.mark.parametrize("tonic", [0, 5, 11])
def test_chords_are_major_or_minor_in_any_key_and_a_cluster_is_in_none(tonic: int) -> None:
    chords = torch.zeros(3, 12)
    chords[0, [0, 4, 7]] = chords[1, [0, 3, 7]] = chords[2, ::2] = 1  # the last: whole tones
    stability, minorness = key(chords.roll(tonic, dims=1))
    assert minorness[0] < -0.05
    assert minorness[1] > 0.05
    assert stability[:2].min() > stability[2] + 0.3


def test_rhythm_is_that_of_its_definitions() -> None:
    onsets = uniform(1, 3, 94)
    complexity, stability = rhythm(onsets, RATE)
    for row in range(3):
        flux = onsets[row].double().numpy()
        flux = flux - flux.mean()
        lags = [sum(flux[lag:] * flux[: len(flux) - lag]) for lag in range(len(flux))]
        expected = max(lags[round(0.2 * RATE) : round(1.5 * RATE) + 1]) / lags[0]
        assert float(stability[row]) == pytest.approx(expected, abs=1e-4)
        spectrum = np.abs(np.fft.rfft(flux, 2 * len(flux))) ** 2
        rates = np.fft.rfftfreq(2 * len(flux), 1 / RATE)
        share = spectrum[(rates >= 0.5) & (rates <= 10)]
        share = share / share.sum()
        entropy = -sum(share * np.log(share)) / math.log(len(share))
        assert float(complexity[row]) == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize(("frames", "rate"), [(3, 3.9), (16, 3.9), (16, RATE), (251, 500.0)])
def test_half_a_second_has_a_rhythm_too(frames: int, rate: float) -> None:
    for values in rhythm(uniform(3, 2, frames), rate):
        assert values.isfinite().all()
        assert values.max() <= 1 + 1e-5


def test_a_clear_pitch_that_moves_by_steps_is_melodious() -> None:
    strength = torch.full((4, 9), 0.8)
    f0 = torch.full((4, 9), 300.0)
    f0[1] = 300 * 2 ** (torch.arange(9) / 12)  # semitones up
    f0[2] = torch.tensor([300.0, 450.0] * 4 + [300.0])  # fifths up and down
    strength[3, 4] = 0
    expected = torch.tensor([0.8, 0.8, 0, 0.8 * 6 / 8])
    torch.testing.assert_close(melodiousness(f0, strength), expected)


def test_the_seven_numbers_stand_in_their_order() -> None:
    chroma, onsets, dissonance = uniform(4, 2, 12, 94), uniform(5, 2, 94), uniform(6, 2, 94)
    f0, strength = 200 + 20 * uniform(7, 2, 94), uniform(8, 2, 94)
    found = mid_level(chroma, onsets, dissonance, f0, strength, HOP)
    assert found.shape == (2, len(MID_LEVEL)) == (2, 7)
    named = dict(zip(MID_LEVEL, found.T, strict=True))
    torch.testing.assert_close(named["melodiousness"], melodiousness(f0, strength))
    torch.testing.assert_close(named["articulation"], (RATE * onsets.mean(dim=1)).log())
    torch.testing.assert_close(named["rhythmic complexity"], rhythm(onsets, RATE)[0])
    torch.testing.assert_close(named["rhythmic stability"], rhythm(onsets, RATE)[1])
    torch.testing.assert_close(named["dissonance"], dissonance.mean(dim=1))
    torch.testing.assert_close(named["tonal stability"], key(chroma.mean(dim=2))[0])
    torch.testing.assert_close(named["minorness"], key(chroma.mean(dim=2))[1])


def test_silence_has_finite_numbers() -> None:
    nothing = torch.zeros(1, 94)
    found = mid_level(torch.zeros(1, 12, 94), nothing, nothing, nothing + 80, nothing, HOP)
    assert found.isfinite().all()
    assert found.abs().max() < 20
