"""Losses that compare the embeddings of a batch with one another, and have no class weights.

Enters: `embedding (batch, dim)` of unit length, `labels (batch,)` with two or more crops of a
singer. Leaves: a scalar loss. Behind the dict `LOSSES` of `losses.py`.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn

from embedder.config import LossConfig


class PairLoss(nn.Module):
    """A loss on the cosines of a batch, over the pairs or triplets that a miner picks, or all."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def set_progress(self, share: float) -> None:
        """Nothing changes during training."""

    def head(self) -> Tensor | None:
        return None

    def start_from(self, head: Tensor) -> None:
        """There are no class weights that could begin anywhere."""

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(embedding.device.type, enabled=False):
            vectors = embedding.float()
            picked = None if self.miner is None else self.miner(vectors, labels)
            value: Tensor = self.loss(vectors, labels, picked)
        return value


def triplet(config: LossConfig, singers: int, dim: int) -> PairLoss:  # noqa: ARG001
    """Triplet loss on cosines, over the triplets a miner picks from a P×K batch.

    Σ max(0, cos(a, n) − cos(a, p) + margin) / (triplets above 0), after Schroff et al., CVPR 2015,
    eq. 3, with cosine similarity for the squared distance.
    """
    cosine = distances.CosineSimilarity()
    return PairLoss(
        losses.TripletMarginLoss(margin=config.triplet_margin, distance=cosine),
        miners.TripletMarginMiner(
            margin=config.triplet_margin, type_of_triplets=config.miner, distance=cosine
        ),
    )


def supcon(config: LossConfig, singers: int, dim: int) -> PairLoss:  # noqa: ARG001
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2, "out").

    For each anchor a, over its positives p and all other crops i of the batch, with temperature τ:
    the mean over p of −log(exp(cos(a, p)/τ) / Σᵢ exp(cos(a, i)/τ)); then the mean over anchors.
    """
    return PairLoss(losses.SupConLoss(temperature=config.supcon_temperature))
