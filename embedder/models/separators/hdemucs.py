"""Hybrid Demucs (Défossez, 2021), as torchaudio publishes it: HDEMUCS_HIGH_MUSDB_PLUS, at 44.1 kHz.

Of its four sources the vocals are one stem, and the sum of the other three is the backing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchaudio.models import HDemucs

from embedder.errors import UserError
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.weights import Published, fetched, read_tensors

PUBLISHED = Published(
    "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt", "torchaudio/models"
)
SOURCES = ("drums", "bass", "other", "vocals")  # in the order of the published network's outputs
VOCALS = SOURCES.index("vocals")
RATE = 44100  # Hz
CHANNELS = 2
# As in torchaudio's tutorial on music source separation: chunks of 10 s, a tenth of it shared.
CHUNK_S = 10.0
OVERLAP_S = 1.0


def load_hdemucs(weights: Path | None, device: torch.device) -> SongSeparator:
    """The separator, from `weights` or from where torchaudio keeps the published file.

    Raises:
        UserError: no weights, or weights of another network.
    """
    path = weights or fetched(PUBLISHED, "hdemucs")
    network = build(read_tensors(path), path).to(device)

    def split(wave: Tensor) -> tuple[Tensor, Tensor]:
        stereo = wave.to(device).expand(1, CHANNELS, -1)
        sources = network(stereo)[0].mean(dim=1)  # (sources, samples)
        vocals = sources[VOCALS]
        return vocals, sources.sum(dim=0) - vocals

    return SongSeparator("hdemucs", (path,), RATE, split, CHUNK_S, OVERLAP_S, standardise=True)


def build(state: dict[str, Tensor], path: Path) -> HDemucs:
    """The network that a state dict belongs to, of any width, in eval mode.

    Channels, layers and bins of the transform follow from the tensors' shapes.
    """
    first, bins = state.get("freq_encoder.0.conv.weight"), state.get("freq_emb.embedding.weight")
    last = [name for name in state if name.startswith("freq_decoder.") and "conv_tr.w" in name]
    if first is None or bins is None or not last:
        raise UserError(f"{path} holds no weights of torchaudio's Hybrid Demucs (hdemucs_high)")
    depth = len(last)
    outputs = state[f"freq_decoder.{depth - 1}.conv_tr.weight"].shape[1]
    sources = outputs // (2 * CHANNELS)  # real and imaginary part of each channel
    if sources != len(SOURCES):
        raise UserError(f"{path} separates {sources} sources; needed are {', '.join(SOURCES)}")
    try:
        # The first layer strides over four bins of half the transform.
        nfft = 8 * len(bins)
        network = HDemucs(list(SOURCES), channels=len(first), nfft=nfft, depth=depth)
        network.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit Hybrid Demucs ({reason})") from None
    network.eval().requires_grad_(False)
    return network
