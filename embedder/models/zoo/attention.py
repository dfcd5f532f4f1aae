"""A convolutional front with a self-attention back (Won, Chun, Serra 2019, "Toward interpretable
music tagging with self-attention"), as in the comparison of Won et al., SMC 2020.

Maps `mel (batch, mels, frames)`, 128 mels in the paper to `(batch, 2·channels)`, before
the projection. The paper has 128 `channels`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.resnet import BasicBlock

WIDTHS = (1, 1, 2, 2, 2, 2, 2)  # channels of each block, in multiples of `channels`
STRIDES = ((2, 2), (2, 2), (2, 2), (2, 1), (2, 1), (2, 1), (2, 1))  # mel bands × frames
LAYERS, HEADS = 2, 8
DROPOUT, ATTENTION_DROPOUT = 0.4, 0.5


def _layer(width: int) -> nn.TransformerEncoderLayer:
    """One layer of BERT's encoder (Devlin et al. 2019): norms behind the sums, GELU."""
    layer = nn.TransformerEncoderLayer(
        width, HEADS, 4 * width, DROPOUT, activation="gelu", batch_first=True
    )
    layer.self_attn.dropout = ATTENTION_DROPOUT
    return layer


class Attention(nn.Module):
    """Seven residual blocks that leave one row of columns, 8 frames apart; then two layers of
    self-attention over the columns and a [CLS] token, whose answer describes the crop.

    Nothing encodes where a column stands, as in the comparison: the back takes a set of columns of
    any size. The token is learnt; there it is a fixed random vector.
    """

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        widths = [1, *(model.channels * width for width in WIDTHS)]
        self.norm = nn.BatchNorm2d(1, affine=False)  # each convolution has a batch norm behind it
        self.front = nn.Sequential(
            *(
                BasicBlock(a, b, stride, shortcut_kernel=3)
                for (a, b), stride in zip(pairwise(widths), STRIDES, strict=True)
            )
        )
        self.output_dim = widths[-1]
        self.token = nn.Parameter(0.02 * torch.randn(self.output_dim))
        self.back = nn.Sequential(*(_layer(self.output_dim) for _ in range(LAYERS)))
        self.pooler = nn.Sequential(
            nn.Linear(self.output_dim, self.output_dim), nn.Tanh(), nn.Dropout(0.5)
        )
        # A quarter faster on the CPU. (torch's stubs know this argument only beside others.)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 2·channels)`; any number of mels and frames."""
        columns = self.front(self.norm(mel.unsqueeze(1))).amax(dim=2).transpose(1, 2)
        token = self.token.to(columns.dtype).expand(columns.shape[0], 1, -1)
        answers = self.back(torch.cat([token, columns], dim=1))
        described: Tensor = self.pooler(answers[:, 0])
        return described
