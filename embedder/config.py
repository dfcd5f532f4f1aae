"""Every setting of a member, declared once: name, unit, default, legal values; and the presets.

Enters: nothing. Leaves: the frozen `MemberConfig` and its groups. `settings.py` fills it.
A setting's name is unique over all groups, so the command line needs no prefixes.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from embedder.architectures import ARCHITECTURES
from embedder.artifacts import fingerprint

SAMPLE_RATE = 16000  # Hz; everything is decoded to it once, so it is no setting of a member


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with its meaning and its legal values (both bounds inclusive)."""
    legal = {"meaning": meaning, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=legal)


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel spectrogram."""

    n_mels: int = setting(80, "mel bands", low=16, high=256)
    n_fft: int = setting(512, "samples per analysis window", low=128, high=8192)
    hop: int = setting(256, "samples between frames", low=32, high=4096)
    f_min: float = setting(40.0, "lowest mel band's edge, Hz", low=0, high=4000)
    mel_norm: str = setting(
        "mean",
        "per-segment normalisation of each mel band: its mean over time taken away or not",
        choices=("mean", "none"),
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network from mels to a unit embedding."""

    backbone: str = setting("ecapa", "architecture", choices=tuple(ARCHITECTURES))
    channels: int = setting(256, "channels of ecapa's frame layers", low=16, high=2048)
    mfa_channels: int = setting(512, "channels of ecapa's aggregation", low=16, high=8192)
    res2_scale: int = setting(4, "groups of ecapa's Res2 convolution", low=2, high=16)
    attention_channels: int = setting(64, "bottleneck of the pooling's attention", low=8, high=512)
    embedding_dim: int = setting(192, "numbers per embedding", low=8, high=2048)


@dataclass(frozen=True)
class LossConfig:
    """What training minimises."""

    loss: str = setting("aam", "loss", choices=("aam", "triplet"))
    aam_margin: float = setting(0.2, "additive angular margin, rad", low=0, high=1)
    aam_scale: float = setting(30.0, "scale of the cosines in AAM-softmax", low=1, high=100)
    margin_warmup: float = setting(
        0.3, "share of training over which the margin grows from 0", low=0, high=1
    )
    triplet_margin: float = setting(0.3, "margin of the triplet loss, cosine", low=0, high=2)
    miner: str = setting(
        "all", "which triplets within the margin count", choices=("semihard", "hard", "all")
    )


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training crop before the network hears it. Probabilities are per crop."""

    remix: float = setting(
        0.75, "probability of another song's backing (needs stems)", low=0, high=1
    )
    remix_low_db: float = setting(-12.0, "lowest level of vocals to backing, dB", low=-40, high=40)
    remix_high_db: float = setting(6.0, "highest level of vocals to backing, dB", low=-40, high=40)
    equaliser: float = setting(0.3, "probability of a random 3-band equaliser", low=0, high=1)
    equaliser_db: float = setting(6.0, "its largest cut or boost, dB", low=0, high=24)
    noise: float = setting(0.2, "probability of coloured noise", low=0, high=1)
    noise_low_db: float = setting(15.0, "lowest signal-to-noise ratio, dB", low=-10, high=80)
    noise_high_db: float = setting(40.0, "highest signal-to-noise ratio, dB", low=-10, high=80)
    low_pass: float = setting(0.1, "probability of a low-pass filter", low=0, high=1)
    time_masks: int = setting(1, "SpecAugment: stretches of frames set to the mean", low=0, high=10)
    time_mask_s: float = setting(0.3, "SpecAugment: longest stretch, s", low=0, high=5)
    band_masks: int = setting(1, "SpecAugment: runs of mel bands set to the mean", low=0, high=10)
    band_mask_mels: int = setting(10, "SpecAugment: widest run, mel bands", low=0, high=64)


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    seed: int = setting(0, "seed of everything random", low=0, high=2**31 - 1)
    stem: str = setting("mix", "what the network listens to", choices=("mix", "vocals"))
    segment_s: float = setting(3.0, "length of a crop, s", low=0.5, high=30)
    epochs: int = setting(14, "epochs", low=1, high=10000)
    crops_per_song: float = setting(
        8.0, "crops drawn from each training song in an epoch, on average", low=0.1, high=1000
    )
    batch_singers: int = setting(16, "singers in a batch (P)", low=2, high=1024)
    batch_crops: int = setting(4, "crops of each singer in a batch (K)", low=1, high=256)
    lr: float = setting(0.002, "highest learning rate", low=1e-7, high=1)
    weight_decay: float = setting(0.01, "AdamW's weight decay", low=0, high=1)
    lr_warmup: float = setting(
        0.1, "share of training over which the learning rate grows", low=0, high=0.9
    )
    clip_norm: float = setting(5.0, "largest norm of the gradient", low=0.01, high=1000)
    patience: int = setting(
        8, "epochs without a better validation before stopping", low=1, high=10000
    )
    precision: str = setting(
        "auto",
        "arithmetic of training: bf16 where the device has it",
        choices=("auto", "bf16", "fp32"),
    )
    workers: int = setting(0, "processes that draw crops beside the training", low=0, high=64)


@dataclass(frozen=True)
class EmbedConfig:
    """The fixed grid on which a song is heard."""

    eval_segment_s: float = setting(3.0, "length of a segment, s", low=0.5, high=30)
    eval_hop_s: float = setting(1.5, "from one segment's start to the next, s", low=0.1, high=30)


@dataclass(frozen=True)
class MemberConfig:
    """All settings of one member, in groups."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self)

    def fingerprint(self) -> str:
        return fingerprint(json.dumps(self.to_dict(), sort_keys=True))


# Settings that differ from the defaults, by preset: for all members, and within it by backbone and
# by loss. What an architecture's paper fixes (`ARCHITECTURES`) stands between "all" and these.
_TRIPLET = {"batch_singers": 10, "batch_crops": 8, "lr": 0.001}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "laptop": {"all": {}, "triplet": {**_TRIPLET, "epochs": 11}},
    "base": {
        "all": {
            "channels": 512,
            "mfa_channels": 1536,
            "res2_scale": 8,
            "attention_channels": 128,
            "hop": 160,
            "epochs": 40,
        },
        "triplet": _TRIPLET,
    },
    "demo": {
        "all": {
            "channels": 96,
            "mfa_channels": 192,
            "embedding_dim": 96,
            "epochs": 10,
            "crops_per_song": 24,
            "batch_crops": 8,
            "remix_low_db": -6,
            "remix_high_db": 12,
        },
        "triplet": _TRIPLET,
    },
}
