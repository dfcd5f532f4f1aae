"""The whole way from a waveform to a unit embedding, and the dict of architectures.

Enters: `wave (batch, samples)`. Leaves: `embedding (batch, dim)` of length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import MemberConfig
from embedder.errors import UserError, did_you_mean
from embedder.model.attention import Attention
from embedder.model.campplus import Campplus
from embedder.model.crnn import Crnn
from embedder.model.crnnm import Crnnm
from embedder.model.descriptors import Descriptors
from embedder.model.ecapa import Ecapa
from embedder.model.fcn import Fcn
from embedder.model.features import LogMel, Waveform
from embedder.model.fgnl import Fgnl
from embedder.model.harmonic import Harmonic
from embedder.model.harmonics import HarmonicFilters
from embedder.model.ivector import IVector
from embedder.model.melody import MelodyMel
from embedder.model.mfcc import Mfcc
from embedder.model.midlevel import MidLevel
from embedder.model.musicnn import Musicnn
from embedder.model.resnet34 import ResNet34
from embedder.model.samplecnn import SampleCnn
from embedder.model.separator import VocalSeparator
from embedder.model.shortchunk import ShortChunk
from embedder.model.ssl import Ssl
from embedder.model.xvector import Xvector

# What a backbone may ask for by its attribute `hears`: built from `FeatureConfig`, gives
# `features (batch, rows, frames)`, and says how many `rows` there are and how many are mel bands.
FRONTS: dict[str, Callable[..., Any]] = {
    "mel": LogMel,
    "wave": Waveform,
    "harmonics": HarmonicFilters,
    "mfcc": Mfcc,
    "melody": MelodyMel,
    "descriptors": Descriptors,
}

# Built from `FeatureConfig` and `ModelConfig`; maps features to `(batch, output_dim)`.
BACKBONES: dict[str, Any] = {
    "ecapa": Ecapa,
    "crnn": Crnn,
    "crnnm": Crnnm,
    "fgnl": Fgnl,
    "midlevel": MidLevel,
    "xvector": Xvector,
    "resnet34": ResNet34,
    "campplus": Campplus,
    "shortchunk": ShortChunk,
    "harmonic": Harmonic,
    "samplecnn": SampleCnn,
    "musicnn": Musicnn,
    "fcn": Fcn,
    "attention": Attention,
    "ssl": Ssl,
    "ivector": IVector,
}


class Network(nn.Module):
    """Features, a backbone, a linear projection with batch norm, unit length.

    With `stem` separated a frozen separator stands before the features.
    """

    separator: VocalSeparator | None

    def __init__(self, config: MemberConfig) -> None:
        super().__init__()
        kind = BACKBONES[config.model.backbone]
        separated = config.train.stem == "separated"
        self.separator = VocalSeparator(config.separator) if separated else None
        if self.separator is not None:
            self.separator.eval().requires_grad_(False)
        self.features = FRONTS[kind.hears](config.features)
        self.backbone = kind(config.features, config.model)
        self.projection = nn.Sequential(
            nn.Linear(self.backbone.output_dim, config.model.embedding_dim),
            nn.BatchNorm1d(config.model.embedding_dim),
        )

    def train(self, mode: bool = True) -> Network:
        """As usual, but the separator is never trained."""
        super().train(mode)
        if self.separator is not None:
            self.separator.eval()
        return self

    def hear(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` or what is separated of it → `features (batch, rows, frames)`."""
        if self.separator is not None:
            with torch.no_grad():
                wave = self.separator(wave)
        features: Tensor = self.features(wave)
        return features

    def embed_features(self, features: Tensor) -> Tensor:
        """`features (batch, rows, frames)` → `embedding (batch, dim)`, float32, unit length."""
        return functional.normalize(self.projection(self.backbone(features)).float(), dim=1)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `embedding (batch, dim)`, float32, unit length."""
        return self.embed_features(self.hear(wave))


def margin_free_logits(embedding: Tensor, head: Tensor, scale: float, centres: int = 1) -> Tensor:
    """Cosines to the class weights, times the training's scale, without any margin.

    `embedding (batch, dim)` of unit length, `head (singers × centres, dim)`, a singer's rows
    together → `logits (batch, singers)`. Of a singer's several centres the nearest counts.
    """
    cosines = scale * embedding @ functional.normalize(head, dim=1).T
    return cosines if centres == 1 else cosines.view(embedding.shape[0], -1, centres).amax(dim=2)


def count_parameters(network: nn.Module) -> int:
    """Numbers in a network that training finds: by gradient, and what is fitted without one."""
    learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fitted = (part for part in network.modules() if isinstance(part, IVector))
    return learnt + sum(b.numel() for part in fitted for b in part.buffers())


DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    "cpu": lambda: True,
}


def default_device(name: str) -> torch.device:
    """`auto` → the first of `DEVICES` that is there; any other name → that device.

    Raises:
        UserError: no such device, or not on this machine.
    """
    present = [device for device, available in DEVICES.items() if available()]
    chosen = present[0] if name == "auto" else name
    if chosen not in present:
        raise UserError(
            f"--device {name}{did_you_mean(name, present)} is not legal here; "
            f"it must be auto | {' | '.join(sorted(present))}"
        )
    return torch.device(chosen)
