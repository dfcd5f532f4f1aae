"""Every setting of a member, declared once: name, unit, default, legal values.

Enters: nothing. Leaves: the frozen `MemberConfig` and its groups. `settings.py` fills it.
A setting's name is unique over all groups, so the command line needs no prefixes.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from embedder.architectures import ARCHITECTURES
from embedder.artifact import fingerprint
from embedder.objectives import OBJECTIVES

SAMPLE_RATE = 16000  # Hz; everything is decoded to it once, so it is no setting of a member


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    sums: bool = False,
) -> Any:
    """A dataclass field with its meaning and its legal values (both bounds inclusive).

    `sums`: several choices joined by "+" are legal too.
    """
    legal = {"meaning": meaning, "low": low, "high": high, "choices": choices, "sums": sums}
    return field(default=default, metadata=legal)


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel spectrogram."""

    n_mels: int = setting(80, "mel bands", low=16, high=256)
    n_fft: int = setting(512, "samples per analysis window", low=128, high=8192)
    hop: int = setting(320, "samples between frames", low=32, high=4096)
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
    channels: int = setting(
        256, "channels of the first layer, where not the architecture's own", low=16, high=2048
    )
    mfa_channels: int = setting(
        512, "channels before the pooling of ecapa and xvector", low=16, high=8192
    )
    res2_scale: int = setting(4, "groups of ecapa's Res2 convolution", low=2, high=16)
    attention_channels: int = setting(64, "bottleneck of the pooling's attention", low=8, high=512)
    embedding_dim: int = setting(192, "numbers per embedding", low=8, high=2048)
    ssl_model: str = setting(
        "wavlm_base_plus",
        "published model under ssl",
        choices=("wavlm_base_plus", "hubert_base", "wav2vec2_base"),
    )
    ssl_tune: str = setting(
        "frozen", "whether ssl's published weights learn too", choices=("frozen", "tuned")
    )
    ssl_layers: int = setting(12, "transformer layers of ssl, from the first", low=1, high=12)
    ssl_lr: float = setting(
        0.01, "learning rate of ssl's tuned weights, as a share of lr", low=1e-5, high=1
    )
    ivector_components: int = setting(
        128, "components of ivector's background model", low=2, high=4096
    )
    ivector_dim: int = setting(200, "dimensions of ivector's total variability", low=2, high=1024)


@dataclass(frozen=True)
class LossConfig:
    """What training minimises."""

    loss: str = setting("aam", "loss, or several added up", choices=tuple(OBJECTIVES), sums=True)
    sum_weight: float = setting(
        1.0, "weight of each later part of a sum of losses; the first has 1", low=0, high=100
    )
    aam_margin: float = setting(
        0.2, "additive angular margin of aam and subcenter, rad", low=0, high=1
    )
    aam_scale: float = setting(
        30.0, "scale of the cosines in every softmax and in the head's logits", low=1, high=100
    )
    subcenters: int = setting(3, "sub-centres of each singer in subcenter", low=1, high=16)
    cosface_margin: float = setting(0.2, "additive margin of cosface, cosine", low=0, high=1)
    margin_warmup: float = setting(
        0.3, "share of training over which the margin grows from 0", low=0, high=1
    )
    triplet_margin: float = setting(0.3, "margin of the triplet loss, cosine", low=0, high=2)
    miner: str = setting(
        "all", "which triplets within the margin count", choices=("semihard", "hard", "all")
    )
    supcon_temperature: float = setting(
        0.1, "temperature of the cosines in supcon", low=0.01, high=1
    )
    proxy_margin: float = setting(0.1, "margin of proxyanchor, cosine", low=0, high=1)
    proxy_alpha: float = setting(32.0, "scale of the cosines in proxyanchor", low=1, high=100)
    proxy_lr: float = setting(
        1.0, "learning rate of proxyanchor's proxies, as a multiple of lr", low=0.01, high=1000
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """The losses that are added up."""
        return tuple(self.loss.split("+"))

    @property
    def head_part(self) -> str:
        """The part whose class weights are the head: the first that has any, "" if none has."""
        return next((part for part in self.parts if OBJECTIVES[part].head), "")

    @property
    def centres(self) -> int:
        """Rows of the head for each singer."""
        head = self.head_part
        return self.subcenters if head and OBJECTIVES[head].subcenters else 1


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training crop before the network hears it. Probabilities are per crop."""

    remix: float = setting(
        0.75, "probability of another song's backing (needs stems)", low=0, high=1
    )
    remix_low_db: float = setting(-12.0, "lowest level of vocals to backing, dB", low=-40, high=40)
    remix_high_db: float = setting(6.0, "highest level of vocals to backing, dB", low=-40, high=40)
    overlay: float = setting(
        0.8, "probability of another band over a song without stems", low=0, high=1
    )
    overlay_low_db: float = setting(
        -6.0, "lowest level of such a song to what is laid over it, dB", low=-40, high=40
    )
    overlay_high_db: float = setting(
        6.0, "highest level of such a song to what is laid over it, dB", low=-40, high=40
    )
    opening_s: float = setting(
        2.9, "start of a song without stems that is taken to have no voice, s", low=0, high=60
    )
    ending_s: float = setting(
        2.0, "end of a song without stems that is taken to have no voice, s", low=0, high=60
    )
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
    stem: str = setting(
        "mix", "what the network listens to", choices=("mix", "vocals", "both", "separated")
    )
    segment_s: float = setting(3.0, "length of a crop, s", low=0.5, high=30)
    epochs: int = setting(7, "epochs", low=1, high=10000)
    crops_per_song: float = setting(
        16.0, "crops drawn from each training song in an epoch, on average", low=0.1, high=1000
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

    @property
    def recording(self) -> str:
        """Which recording of a song is heard outside training: "mix" or "vocals"."""
        return "vocals" if self.stem == "vocals" else "mix"


@dataclass(frozen=True)
class EmbedConfig:
    """The fixed grid on which a song is heard."""

    eval_segment_s: float = setting(5.0, "length of a segment, s", low=0.5, high=30)
    eval_hop_s: float = setting(1.5, "from one segment's start to the next, s", low=0.1, high=30)


@dataclass(frozen=True)
class SeparatorConfig:
    """The project's own separator of vocals; a member takes these from the one that it uses."""

    separator_n_fft: int = setting(
        1536, "samples per analysis window of the separator", low=128, high=8192
    )
    separator_hop: int = setting(512, "samples between its frames", low=32, high=4096)
    separator_hidden: int = setting(256, "numbers per frame inside it", low=8, high=2048)
    separator_layers: int = setting(3, "its recurrent layers", low=1, high=8)


@dataclass(frozen=True)
class SeparatorTrainConfig:
    """The separator's training loop. None of these is a member's setting."""

    seed: int = 0
    epochs: int = 40
    crops: int = 2400  # mixtures in an epoch
    crop_s: float = 4.0  # length of one, s
    batch: int = 16  # mixtures in a step
    low_db: float = -12.0  # lowest level of vocals to backing, dB
    high_db: float = 6.0  # highest level of vocals to backing, dB
    own_backing: float = 0.25  # share of mixtures whose backing is the song's own
    lr: float = 0.002  # highest learning rate
    lr_warmup: float = 0.03  # share of training over which it grows
    weight_decay: float = 1e-4
    clip_norm: float = 5.0  # largest norm of the gradient


@dataclass(frozen=True)
class MemberConfig:
    """All settings of one member, in groups."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    separator: SeparatorConfig = field(default_factory=SeparatorConfig)  # of stem separated

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self)

    def fingerprint(self) -> str:
        return fingerprint(json.dumps(self.to_dict(), sort_keys=True))
