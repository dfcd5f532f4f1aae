"""Every key of the dict of separators, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from openunmix.model import OpenUnmix
from torchaudio.models import HDemucs

from embedder.config import SeparatorConfig
from embedder.errors import UserError
from embedder.models.separators import SEPARATORS, open_separator
from embedder.models.separators.own import save_vocal_separator
from embedder.models.separators.song_separator import separate
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run

CPU = torch.device("cpu")


def save_random(method: str, path: Path, seed: int) -> Path:
    """A file of random weights for a method, as narrow as it can be."""
    torch.manual_seed(seed)
    if method == "own":
        separator = VocalSeparator(SeparatorConfig(separator_hidden=8, separator_layers=1))
        save_vocal_separator(Run(path), separator, {})
        return Run(path).separator_weights
    path.mkdir()
    networks = {
        "hdemucs": lambda: HDemucs(["drums", "bass", "other", "vocals"], channels=4),
        "umx": lambda: OpenUnmix(nb_bins=513, hidden_size=8),
    }
    torch.save(networks[method]().state_dict(), path / "vocals.pth")
    return path / "vocals.pth"


# Spleeter takes the published weights and no others: test_spleeter.py.
@pytest.mark.parametrize("method", sorted(SEPARATORS.keys() - {"spleeter"}))
def test_every_separator_splits_songs_with_the_weights_that_it_is_given(
    method: str, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    wave = np.random.default_rng(0).normal(0, 0.1, 17000).astype(np.float32)
    stems, marks = [], []
    for seed in (0, 1, 0):
        weights = save_random(method, tmp_path / str(len(stems)), seed)
        separator = open_separator(method, run, weights, CPU)
        assert separator.method == method
        vocals, backing = separate(separator, wave)
        assert vocals.shape == wave.shape
        assert np.isfinite(vocals).all()
        assert backing is None or backing.shape == wave.shape
        stems.append(vocals)
        marks.append(separator.fingerprint())
    np.testing.assert_array_equal(stems[0], stems[2])
    assert np.abs(stems[0] - stems[1]).max() > 1e-5
    assert marks[0] == marks[2] != marks[1]


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(UserError, match=r"--method fast is not legal; it must be spleeter"):
        open_separator("fast", run, None, CPU)
    for method in SEPARATORS:
        with pytest.raises(UserError, match=r"--weights .*gone\.pt does not exist"):
            open_separator(method, run, tmp_path / "gone.pt", CPU)
    with pytest.raises(UserError, match="no separator of its own"):
        open_separator("own", run, None, CPU)
