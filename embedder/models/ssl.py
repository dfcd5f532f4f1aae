"""A self-supervised speech model of torchaudio as the front end, its layers weighed and pooled.

The weighted sum of all layers is SUPERB's (Yang et al., Interspeech 2021, section 3); for singers
so used by the three case studies of APSIPA 2023. The published weights are found in torch's cache
or given as a file; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchaudio
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import FeatureConfig, ModelConfig
from embedder.errors import UserError
from embedder.models.pooling import AttentiveStatistics
from embedder.models.weights import Published, read_tensors

# The base size that the three models share (Baevski et al. 2020, section 4.2; Hsu et al. 2021,
# table I; Chen et al. 2022, section IV): seven convolutions down to 50 frames a second, then
# transformer layers, of which a member uses the first `ssl_layers`.
BASE: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 768,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_heads": 12,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 3072,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}
LAYER = re.compile(r"encoder\.transformer\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Pretrained:
    """One published model: torchaudio's builder, and its file in torch's own cache."""

    build: Callable[..., Any]
    file: Published
    options: Mapping[str, Any] = field(default_factory=dict)  # beside `BASE`
    standardised: bool = False  # whether it was trained on waves of mean 0 and variance 1


def _file(name: str) -> Published:
    return Published(f"https://download.pytorch.org/torchaudio/models/{name}.pth", "checkpoints")


PRETRAINED: dict[str, Pretrained] = {
    "wavlm_base_plus": Pretrained(
        torchaudio.models.wavlm_model,
        _file("wavlm_base_plus"),
        {"encoder_max_distance": 800, "encoder_num_buckets": 320},
    ),
    "hubert_base": Pretrained(torchaudio.models.wav2vec2_model, _file("hubert_fairseq_base_ls960")),
    "wav2vec2_base": Pretrained(
        torchaudio.models.wav2vec2_model, _file("wav2vec2_fairseq_base_ls960")
    ),
}


class Ssl(nn.Module):
    """The softmax-weighted sum of what enters the transformer and of its layers' outputs, pooled.

    A frozen model stays in eval mode and takes no gradient. Of a tuned one the convolutions stay
    frozen, as is usual; its other weights learn at `ssl_lr` times the others' rate.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        spec = PRETRAINED[model.ssl_model]
        self.tuned = model.ssl_tune == "tuned"
        self.standardised = spec.standardised
        self.pretrained_rate = model.ssl_lr
        self.pretrained = spec.build(
            **{**BASE, **spec.options, "encoder_num_layers": model.ssl_layers}
        )
        self.pretrained.requires_grad_(False)
        if self.tuned:
            self.pretrained.encoder.requires_grad_(True)
        width = BASE["encoder_embed_dim"]
        self.layer_scores = nn.Parameter(torch.zeros(model.ssl_layers + 1))
        self.pool = AttentiveStatistics(width, model.attention_channels)
        self.norm = nn.BatchNorm1d(2 * width)
        self.output_dim = 2 * width

    def train(self, mode: bool = True) -> Ssl:
        """What is frozen stays in eval mode: no dropout, no statistics of its own."""
        super().train(mode)
        (self.pretrained.feature_extractor if self.tuned else self.pretrained).eval()
        return self

    def pretrained_parameters(self) -> Iterator[nn.Parameter]:
        """The published weights that learn, if any: those for `pretrained_rate`."""
        return (p for p in self.pretrained.parameters() if p.requires_grad)

    def layers(self, wave: Tensor) -> list[Tensor]:
        """`wave (batch, samples)` → what enters the transformer and each layer's output, all
        `(batch, frames, width)`, 50 frames a second."""
        if self.standardised:
            wave = functional.layer_norm(wave, wave.shape[1:])
        with torch.no_grad():
            frames, _ = self.pretrained.feature_extractor(wave, None)
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            encoder = self.pretrained.encoder
            entering = encoder.feature_projection(frames)
            return [entering, *encoder.transformer.get_intermediate_outputs(entering)]

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, 1, samples)` → `(batch, 2·width)`: means, then deviations."""
        weights = torch.softmax(self.layer_scores, dim=0)
        total = torch.zeros((), device=wave.device)
        for weight, layer in zip(weights, self.layers(wave.squeeze(1)), strict=True):
            total = total + weight * layer.float()
        pooled: Tensor = self.norm(self.pool(total.transpose(1, 2)))
        return pooled


def find_weights(model: ModelConfig, given: Path | None) -> Path:
    """The file to read: the one given, or the published one in torch's cache.

    Raises:
        UserError: no such file.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"--weights {given} is no file; it must be torchaudio's state dict")
        return given
    file = PRETRAINED[model.ssl_model].file
    if not file.path.is_file():
        raise UserError(
            f"no weights for ssl_model {model.ssl_model}: put {file.url} at {file.path}, or name a "
            "copy of it with --weights FILE"
        )
    return file.path


def read_weights(path: Path, layers: int) -> dict[str, Tensor]:
    """The tensors of a model that is cut after its first `layers` transformer layers.

    A head for another task (`aux.`) and later layers are left out; whether all others are there and
    fit, `put_weights` checks.

    Raises:
        UserError: the file is no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no readable safetensors file ({error})") from None
    else:
        tensors = read_tensors(path)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("aux.")
        and not ((match := LAYER.match(name)) and int(match[1]) >= layers)
    }


def put_weights(backbone: Ssl, tensors: dict[str, Tensor], path: Path) -> None:
    """Put tensors of `read_weights` into a backbone, strictly.

    Raises:
        UserError: one is missing, is too much, or is of another size.
    """
    try:
        backbone.pretrained.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch's message has several lines
        reason = reason if len(reason) < 300 else f"{reason[:300]} …"
        raise UserError(
            f"{path} does not hold the weights that ssl_model and ssl_layers ask for, in "
            f"torchaudio's form ({reason})"
        ) from None
