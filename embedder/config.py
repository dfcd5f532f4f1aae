"""Every setting, declared once: name, default, legal values, and its meaning with its unit.

`MemberConfig` holds the settings of a member in groups, `PretrainConfig` those of a pre-training. A
setting's name is unique over all groups, so the command line needs no prefixes. How values come out
of presets, files and options is in `embedder/settings.py`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from embedder.architectures import ARCHITECTURES
from embedder.artifact import fingerprint
from embedder.objectives import OBJECTIVES
from embedder.presets import SEPARATOR_EPOCHS
from embedder.run import SAMPLE_RATE as SAMPLE_RATE

Share = Annotated[float, Field(ge=0, le=1)]
Decibels = Annotated[float, Field(ge=-40, le=40)]


def _check_backbone(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name}")
    return name


def _check_loss(loss: str) -> str:
    parts = loss.split("+")
    if len(set(parts)) < len(parts) or not set(parts) <= set(OBJECTIVES):
        raise ValueError(f"no loss {loss}")
    return loss


class Settings(BaseModel):
    """A group of settings: frozen, and validated at construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a truth value is no number")
        return value


class FeatureConfig(Settings):
    """Log-mel spectrogram."""

    n_mels: int = Field(80, ge=16, le=256, description="mel bands")
    n_fft: int = Field(512, ge=128, le=8192, description="samples per analysis window")
    hop: int = Field(320, ge=32, le=4096, description="samples between frames")
    f_min: float = Field(40.0, ge=0, le=4000, description="lowest mel band's edge, Hz")
    mel_norm: Literal["mean", "none"] = Field(
        "mean", description="what is subtracted from each mel band: its mean over the segment"
    )

    @model_validator(mode="after")
    def _check(self) -> FeatureConfig:
        if self.hop > self.n_fft:
            raise ValueError("hop must not be above n_fft")
        return self


class ModelConfig(Settings):
    """The network from features to a unit embedding."""

    backbone: Annotated[str, AfterValidator(_check_backbone)] = Field(
        "ecapa", description="architecture"
    )
    channels: int = Field(
        256, ge=16, le=2048, description="channels of the first layer, unless the paper fixes them"
    )
    mfa_channels: int = Field(
        512, ge=16, le=8192, description="channels before the pooling of ecapa and xvector"
    )
    res2_scale: int = Field(4, ge=2, le=16, description="groups of ecapa's Res2 convolution")
    attention_channels: int = Field(64, ge=8, le=512, description="bottleneck of the attention")
    embedding_dim: int = Field(192, ge=8, le=2048, description="numbers per embedding")
    ssl_model: Literal["wavlm_base_plus", "hubert_base", "wav2vec2_base"] = Field(
        "wavlm_base_plus", description="published model under ssl"
    )
    ssl_tune: Literal["frozen", "tuned"] = Field(
        "frozen", description="whether ssl's published weights are trained too"
    )
    ssl_layers: int = Field(12, ge=1, le=12, description="ssl's transformer layers, from the first")
    ssl_lr: float = Field(
        0.01, ge=1e-5, le=1, description="learning rate of ssl's tuned weights, as a share of lr"
    )
    ivector_components: int = Field(
        128, ge=2, le=4096, description="components of ivector's background model"
    )
    ivector_dim: int = Field(200, ge=2, le=1024, description="dimensions of an i-vector")

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.backbone == "ecapa" and self.channels % self.res2_scale:
            raise ValueError(
                f"channels ({self.channels}) must be a multiple of res2_scale ({self.res2_scale})"
            )
        multiple = ARCHITECTURES[self.backbone].channel_multiple
        if self.channels % multiple:
            raise ValueError(
                f"{self.backbone} has heads of equal width; channels ({self.channels}) must be a "
                f"multiple of {multiple}"
            )
        return self


class LossConfig(Settings):
    """What training minimises."""

    loss: Annotated[str, AfterValidator(_check_loss)] = Field(
        "aam", description="loss, or several added up"
    )
    sum_weight: float = Field(
        1.0, ge=0, le=100, description="weight of each loss of a sum after the first, which has 1"
    )
    aam_margin: Share = Field(0.2, description="additive angular margin of aam and subcenter, rad")
    aam_scale: float = Field(
        30.0, ge=1, le=100, description="scale of the cosines in every softmax and in the logits"
    )
    subcenters: int = Field(3, ge=1, le=16, description="sub-centres of each singer in subcenter")
    cosface_margin: Share = Field(0.2, description="additive margin of cosface, cosine")
    margin_warmup: Share = Field(0.3, description="share of training in which margins grow from 0")
    triplet_margin: float = Field(0.3, ge=0, le=2, description="margin of the triplet loss, cosine")
    miner: Literal["semihard", "hard", "all"] = Field(
        "all", description="which triplets within the margin count"
    )
    supcon_temperature: float = Field(
        0.1, ge=0.01, le=1, description="temperature of the cosines in supcon"
    )
    proxy_margin: Share = Field(0.1, description="margin of proxyanchor, cosine")
    proxy_alpha: float = Field(
        32.0, ge=1, le=100, description="scale of the cosines in proxyanchor"
    )
    proxy_lr: float = Field(
        1.0, ge=0.01, le=1000, description="learning rate of proxyanchor's proxies, multiple of lr"
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


class AugmentConfig(Settings):
    """What happens to a training crop before it is embedded. Probabilities are per crop."""

    remix: Share = Field(0.75, description="probability of another song's backing (needs stems)")
    remix_low_db: Decibels = Field(-12.0, description="lowest level of vocals to backing, dB")
    remix_high_db: Decibels = Field(6.0, description="highest level of vocals to backing, dB")
    overlay: Share = Field(0.8, description="probability of another band over a song without stems")
    overlay_low_db: Decibels = Field(
        -6.0, description="lowest level of such a song to the band, dB"
    )
    overlay_high_db: Decibels = Field(6.0, description="highest level of it to the band, dB")
    opening_s: float = Field(
        2.9, ge=0, le=60, description="start of a song without stems taken as instrumental, s"
    )
    ending_s: float = Field(
        2.0, ge=0, le=60, description="end of a song without stems taken as instrumental, s"
    )
    equaliser: Share = Field(0.3, description="probability of a random 3-band equaliser")
    equaliser_db: float = Field(6.0, ge=0, le=24, description="its largest cut or boost, dB")
    noise: Share = Field(0.2, description="probability of coloured noise")
    noise_low_db: float = Field(15.0, ge=-10, le=80, description="lowest signal-to-noise ratio, dB")
    noise_high_db: float = Field(40.0, ge=-10, le=80, description="highest of them, dB")
    low_pass: Share = Field(0.1, description="probability of a low-pass filter")
    time_masks: int = Field(
        1, ge=0, le=10, description="SpecAugment: runs of frames set to the mean"
    )
    time_mask_s: float = Field(0.3, ge=0, le=5, description="SpecAugment: longest such run, s")
    band_masks: int = Field(
        1, ge=0, le=10, description="SpecAugment: runs of bands set to the mean"
    )
    band_mask_mels: int = Field(10, ge=0, le=64, description="SpecAugment: widest run, mel bands")

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        for what in ("remix", "overlay", "noise"):
            if getattr(self, f"{what}_low_db") > getattr(self, f"{what}_high_db"):
                raise ValueError(f"{what}_low_db must not be above {what}_high_db")
        return self


class TrainConfig(Settings):
    """The training loop."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of everything random")
    stem: Literal["mix", "vocals", "both", "separated"] = Field(
        "mix", description="which recording of a song the network takes"
    )
    segment_s: float = Field(3.0, ge=0.5, le=30, description="length of a crop, s")
    epochs: int = Field(7, ge=1, le=10000, description="epochs")
    crops_per_song: float = Field(
        16.0, ge=0.1, le=1000, description="crops of each training song in an epoch, on average"
    )
    batch_singers: int = Field(16, ge=2, le=1024, description="singers in a batch (P)")
    batch_crops: int = Field(4, ge=1, le=256, description="crops of each singer in a batch (K)")
    lr: float = Field(0.002, ge=1e-7, le=1, description="highest learning rate")
    weight_decay: Share = Field(0.01, description="AdamW's weight decay")
    lr_warmup: float = Field(
        0.1, ge=0, le=0.9, description="share of training in which the learning rate grows"
    )
    clip_norm: float = Field(5.0, ge=0.01, le=1000, description="largest norm of the gradient")
    patience: int = Field(
        8, ge=1, le=10000, description="epochs without a better validation before stopping"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="arithmetic of training: bf16 where the device has it"
    )
    workers: int = Field(0, ge=0, le=64, description="processes that draw crops")

    @property
    def recording(self) -> str:
        """Which recording of a song is embedded outside training: "mix" or "vocals"."""
        return "vocals" if self.stem == "vocals" else "mix"


class EmbedConfig(Settings):
    """The fixed grid of segments on which a song is embedded."""

    eval_segment_s: float = Field(5.0, ge=0.5, le=30, description="length of a segment, s")
    eval_hop_s: float = Field(
        1.5, ge=0.1, le=30, description="from one segment's start to the next, s"
    )


class SeparatorConfig(Settings):
    """The project's own separator of vocals; a member takes these from the one that it uses."""

    separator_n_fft: int = Field(
        1536, ge=128, le=8192, description="samples per analysis window of the separator"
    )
    separator_hop: int = Field(512, ge=32, le=4096, description="samples between its frames")
    separator_hidden: int = Field(256, ge=8, le=2048, description="numbers per frame inside it")
    separator_layers: int = Field(3, ge=1, le=8, description="its recurrent layers")

    @model_validator(mode="after")
    def _check(self) -> SeparatorConfig:
        if 2 * self.separator_hop > self.separator_n_fft:
            raise ValueError("separator_hop must not be above half of separator_n_fft")
        if self.separator_hidden % 2:
            raise ValueError("separator_hidden must be even: half for each direction of time")
        return self


class SeparatorTrainConfig(Settings):
    """The separator's training loop. None of these is a member's setting."""

    seed: int = 0
    epochs: int = SEPARATOR_EPOCHS
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


class MemberConfig(Settings):
    """All settings of one member, in groups."""

    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    embed: EmbedConfig = EmbedConfig()
    separator: SeparatorConfig = SeparatorConfig()  # of stem separated

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return self.model_dump()

    def fingerprint(self) -> str:
        return fingerprint(json.dumps(self.to_dict(), sort_keys=True))

    @model_validator(mode="after")
    def _check(self) -> MemberConfig:
        pairing = [part for part in self.loss.parts if OBJECTIVES[part].positives]
        if pairing and self.train.batch_crops < 2:
            raise ValueError(
                f"{pairing[0]} loss needs batch_crops of 2 or more: a positive for each anchor"
            )
        if self.augment.band_mask_mels > self.features.n_mels // 2:
            raise ValueError("band_mask_mels must not be above half of n_mels")
        name, hop = self.model.backbone, self.features.hop
        needs = ARCHITECTURES[name]
        if needs.fitted and self.loss.loss != "aam":
            raise ValueError(
                f"{name} is fitted without a loss: leave --loss out (it has the logits' scale of "
                "aam)"
            )
        if self.features.n_mels < needs.least_mels:
            raise ValueError(
                f"{name} pools the mel axis by {needs.least_mels}; n_mels must be "
                f"{needs.least_mels} or more"
            )
        shortest_s = min(self.train.segment_s, self.embed.eval_segment_s)
        if 1 + round(shortest_s * SAMPLE_RATE) // hop < needs.least_frames:
            least_s = (needs.least_frames - 1) * hop / SAMPLE_RATE
            raise ValueError(
                f"{name} pools the time axis by {needs.least_frames}; segment_s and eval_segment_s "
                f"must be {needs.least_frames - 1} times hop or more, {least_s:g} s"
            )
        return self


class SelfSupervisedConfig(Settings):
    """What a pre-training has beside a member's settings."""

    method: Literal["simclr", "vicreg", "byol"] = Field("simclr", description="method")
    batch_songs: int = Field(32, ge=2, le=256, description="songs in a batch, two crops of each")
    projector_dim: int = Field(
        256, ge=8, le=8192, description="numbers inside and behind the projector"
    )
    ntxent_temperature: float = Field(
        0.2, ge=0.01, le=1, description="temperature of the cosines in simclr"
    )
    target_momentum: Share = Field(
        0.99, description="share of its weights that byol's target keeps in a step, at first"
    )


class PretrainConfig(Settings):
    """All settings of one pre-training. Of a member's, those of loss and batches do nothing."""

    member: MemberConfig = MemberConfig()
    own: SelfSupervisedConfig = SelfSupervisedConfig()

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {**self.member.to_dict(), "selfsupervised": self.own.model_dump()}

    def fingerprint(self) -> str:
        return fingerprint(json.dumps(self.to_dict(), sort_keys=True))
