"""What training minimises: losses and miners of pytorch-metric-learning behind the dict `LOSSES`.

Enters: `embedding (batch, dim)` of unit length, `labels (batch,)`. Leaves: a scalar loss, and for
losses with class weights the head `(singers, dim)` that gives margin-free logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn

from embedder.config import LossConfig


class AamSoftmax(nn.Module):
    """Additive angular margin softmax (Deng et al., CVPR 2019, eq. 3), margin warmed up from 0.

    With θ the angle between the embedding and its singer's weight, m the margin in rad and s the
    scale: −log softmax(s·cos(θ + m)) against s·cos of the other singers' angles.
    """

    def __init__(self, config: LossConfig, singers: int, dim: int) -> None:
        super().__init__()
        self.margin = config.aam_margin
        self.warmup = config.margin_warmup
        self.scale = config.aam_scale
        self.loss = losses.ArcFaceLoss(
            num_classes=singers,
            embedding_size=dim,
            margin=math.degrees(config.aam_margin),
            scale=config.aam_scale,
        )
        self.loss.get_angles = _angles

    def set_progress(self, share: float) -> None:
        """`share` of training done, in [0, 1]: the margin grows linearly until the warm-up ends."""
        grown = 1.0 if self.warmup == 0 else min(1.0, share / self.warmup)
        self.loss.margin = self.margin * grown  # the library keeps radians after its constructor

    def head(self) -> Tensor | None:
        weights: Tensor = self.loss.W
        return weights.T

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.loss(embedding.float(), labels)
        return value


def _angles(cosines: Tensor) -> Tensor:
    """Angles in rad. The library's own have an infinite slope at a cosine of exactly 1 or −1, and
    one embedding that meets its weight would turn all weights into NaN."""
    return torch.acos(cosines.clamp(-1 + 1e-6, 1 - 1e-6))


class MinedTriplet(nn.Module):
    """Triplet loss on cosines, over the triplets a miner picks from a P×K batch.

    Σ max(0, cos(a, n) − cos(a, p) + margin) / (triplets above 0), after Schroff et al., CVPR 2015,
    eq. 3, with cosine similarity for the squared distance.
    """

    def __init__(self, config: LossConfig, singers: int, dim: int) -> None:  # noqa: ARG002
        super().__init__()
        self.loss = losses.TripletMarginLoss(
            margin=config.triplet_margin, distance=distances.CosineSimilarity()
        )
        self.miner = miners.TripletMarginMiner(
            margin=config.triplet_margin,
            type_of_triplets=config.miner,
            distance=distances.CosineSimilarity(),
        )

    def set_progress(self, share: float) -> None:
        """Nothing changes during training."""

    def head(self) -> Tensor | None:
        return None

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        vectors = embedding.float()
        value: Tensor = self.loss(vectors, labels, self.miner(vectors, labels))
        return value


LOSSES: dict[str, Callable[[LossConfig, int, int], AamSoftmax | MinedTriplet]] = {
    "aam": AamSoftmax,
    "triplet": MinedTriplet,
}
