"""Hybrid Demucs on random weights of its architecture, much narrower than the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from openunmix.model import OpenUnmix
from torchaudio.models import HDemucs, hdemucs_high
from torchaudio.pipelines import HDEMUCS_HIGH_MUSDB_PLUS

from embedder.errors import UserError
from embedder.models.separators.hdemucs import RATE, SOURCES, build, load_hdemucs
from embedder.models.separators.song_separator import separate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> HDemucs:
    torch.manual_seed(0)
    return HDemucs(list(SOURCES), channels=4).eval()


@pytest.fixture
def weights(network: HDemucs, tmp_path: Path) -> Path:
    torch.save(network.state_dict(), tmp_path / "small.pt")
    return tmp_path / "small.pt"


def test_stems_are_those_of_torchaudios_network(network: HDemucs, weights: Path) -> None:
    """The steps of torchaudio's tutorial, one after the other, on a song of one piece."""
    wave = np.random.default_rng(0).normal(0.05, 0.1, 16000).astype(np.float32)
    mean, deviation = float(wave.mean()), float(wave.std())
    standard = soxr.resample((wave - mean) / deviation, 16000, 44100)
    with torch.inference_mode():
        sources = network(torch.from_numpy(standard).expand(1, 2, -1))[0] * deviation
    stems = dict(zip(("drums", "bass", "other", "vocals"), sources.mean(dim=1), strict=True))
    expected = {
        "vocals": stems["vocals"],
        "backing": stems["drums"] + stems["bass"] + stems["other"],
    }
    found = dict(zip(expected, separate(load_hdemucs(weights, CPU), wave), strict=True))
    for name, stem in expected.items():
        back = soxr.resample(stem.numpy(), 44100, 16000)
        if name == "backing":
            back += mean
        np.testing.assert_allclose(found[name], back, atol=1e-7)
        assert back.std() > 1e-4
    assert not np.allclose(found["vocals"], found["backing"], atol=1e-4)


def test_names_and_rate_are_the_published_ones() -> None:
    assert HDEMUCS_HIGH_MUSDB_PLUS.sample_rate == RATE
    assert HDEMUCS_HIGH_MUSDB_PLUS._model_factory_func.keywords == {"sources": list(SOURCES)}


def test_the_published_network_is_rebuilt_from_its_tensors_shapes() -> None:
    with torch.device("meta"):
        published = hdemucs_high(sources=list(SOURCES))
        rebuilt = build(published.state_dict(), Path("x.pt"))
    assert (rebuilt.channels, rebuilt.depth, rebuilt.nfft) == (48, 6, 4096)
    assert repr(rebuilt) == repr(published)
    assert not rebuilt.training


def test_other_weights_are_refused(network: HDemucs, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"

    def refusal(state: object) -> str:
        torch.save(state, path)
        with pytest.raises(UserError) as caught:
            load_hdemucs(path, CPU)
        assert str(path) in str(caught.value)
        return str(caught.value)

    other = OpenUnmix(nb_bins=33, hidden_size=8).state_dict()
    assert "holds no weights of torchaudio's Hybrid Demucs" in refusal(other)
    two = HDemucs(["vocals", "other"], channels=4).state_dict()
    assert "separates 2 sources; needed are drums, bass, other, vocals" in refusal(two)
    state = network.state_dict()
    assert "does not fit Hybrid Demucs (Error(s) in loading" in refusal(
        {name: value for name, value in state.items() if name != "time_encoder.0.conv.bias"}
    )
    assert "does not fit Hybrid Demucs" in refusal(state | {"one.more": torch.ones(1)})
