"""What training minimises: losses of pytorch-metric-learning behind the dict `LOSSES`.

Each maps `embedding (batch, dim)` of unit length and `labels (batch,)` to a scalar. Losses with
class weights have a head `(singers × centres, dim)` that gives margin-free logits; a singer's
`centres` rows stand together, and only `subcenter` has more than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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


class ClassLoss(nn.Module):
    """A loss over class weights. Its margin, where it warms up, grows linearly from 0.

    `weights` names what the library keeps them as: "W" `(dim, rows)` or "proxies" `(rows, dim)`.
    `margin` is in the unit of the loss: rad, or cosine. `rate` is the class weights' learning rate,
    as a multiple of the network's.
    """

    def __init__(
        self,
        loss: nn.Module,
        weights: str,
        margin: float = 0.0,
        warmup: float | None = None,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.weights = weights
        self.margin = margin
        self.warmup = warmup  # share of training; None where the margin never changes
        self.rate = rate

    def set_progress(self, share: float) -> None:
        """`share` of training done, in [0, 1]: the margin grows until the warm-up ends."""
        if self.warmup is None:
            return
        grown = 1.0 if self.warmup == 0 else min(1.0, share / self.warmup)
        # The library takes degrees in its constructor only: the attribute is what it adds.
        self.loss.margin = self.margin * grown  # type: ignore[assignment]

    def head(self) -> Tensor | None:
        weights: Tensor = getattr(self.loss, self.weights)
        return weights if self.weights == "proxies" else weights.T

    def start_from(self, head: Tensor) -> None:
        """Class weights to begin from; those of another shape are left random."""
        own = self.head()
        assert own is not None
        if own.shape == head.shape:
            with torch.no_grad():
                own.copy_(head)  # a view of the library's own parameter

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(embedding.device.type, enabled=False):
            value: Tensor = self.loss(embedding.float(), labels)
        return value


def _angles(cosines: Tensor) -> Tensor:
    """Angles in rad. The library's own have an infinite slope at a cosine of exactly 1 or −1, and
    one embedding that meets its weight would turn all weights into NaN."""
    return torch.acos(cosines.clamp(-1 + 1e-6, 1 - 1e-6))


def aam(config: LossConfig, singers: int, dim: int) -> ClassLoss:
    """Additive angular margin softmax (Deng et al., CVPR 2019, eq. 3).

    With θ the angle between the embedding and its singer's weight, m the margin in rad and s the
    scale: −log softmax(s·cos(θ + m)) against s·cos of the other singers' angles.
    """
    loss = losses.ArcFaceLoss(
        num_classes=singers,
        embedding_size=dim,
        margin=math.degrees(config.aam_margin),
        scale=config.aam_scale,
    )
    loss.get_angles = _angles
    return ClassLoss(loss, "W", config.aam_margin, config.margin_warmup)


def subcenter(config: LossConfig, singers: int, dim: int) -> ClassLoss:
    """Sub-centre AAM-softmax (Deng et al., ECCV 2020, section 3.2).

    Each singer has K weights, and θ is the angle to the nearest of them: one may gather the odd
    songs, and another sound of the voice need not be pulled to the first.
    """
    loss = losses.SubCenterArcFaceLoss(
        num_classes=singers,
        embedding_size=dim,
        margin=math.degrees(config.aam_margin),
        scale=config.aam_scale,
        sub_centers=config.subcenters,
    )
    loss.get_angles = _angles
    return ClassLoss(loss, "W", config.aam_margin, config.margin_warmup)


def cosface(config: LossConfig, singers: int, dim: int) -> ClassLoss:
    """Additive margin softmax (Wang et al., CVPR 2018, eq. 4).

    −log softmax(s·(cos θ − m)) against s·cos of the other singers' angles, m a cosine.
    """
    loss = losses.CosFaceLoss(
        num_classes=singers,
        embedding_size=dim,
        margin=config.cosface_margin,
        scale=config.aam_scale,
    )
    return ClassLoss(loss, "W", config.cosface_margin, config.margin_warmup)


def softmax(config: LossConfig, singers: int, dim: int) -> ClassLoss:
    """Normalised softmax: cross entropy of s·cos θ (Zhai & Wu, BMVC 2019, temperature 1/s).

    The plain softmax without a margin, its weights of unit length and without a bias: what is
    minimised is then exactly what the head answers later, `margin_free_logits`. Weights of free
    length and biases would also learn how many crops each singer has, which cosines cannot say.
    """
    loss = losses.NormalizedSoftmaxLoss(
        num_classes=singers, embedding_size=dim, temperature=1 / config.aam_scale
    )
    return ClassLoss(loss, "W")


def proxyanchor(config: LossConfig, singers: int, dim: int) -> ClassLoss:
    """Proxy anchor (Kim et al., CVPR 2020, eq. 4), with a proxy p a singer, margin δ and scale α.

    The mean over the batch's singers of log(1 + Σ₊ exp(−α·(cos(x, p) − δ))), x the singer's own
    crops, plus the mean over all singers of log(1 + Σ₋ exp(α·(cos(x, p) + δ))), x the others'.
    Proxies learn at `proxy_lr` times the network's rate. The paper's 100 times (section 4.2) are of
    a rate of 1e-4; of this program's, which is 20 times that, they were too much (DECISIONS.md).
    """
    loss = losses.ProxyAnchorLoss(
        num_classes=singers,
        embedding_size=dim,
        margin=config.proxy_margin,
        alpha=config.proxy_alpha,
    )
    return ClassLoss(loss, "proxies", rate=config.proxy_lr)


LOSSES: dict[str, Callable[[LossConfig, int, int], ClassLoss | PairLoss]] = {
    "aam": aam,
    "subcenter": subcenter,
    "cosface": cosface,
    "softmax": softmax,
    "triplet": triplet,
    "supcon": supcon,
    "proxyanchor": proxyanchor,
}


class SummedLoss(nn.Module):
    """The first part plus `weight` times each later one. The head is the first part's that has one.

    The others' class weights, where they have any, help in training and are then forgotten.
    """

    def __init__(self, parts: list[ClassLoss | PairLoss], weight: float) -> None:
        super().__init__()
        self.parts: Any = nn.ModuleList(parts)
        self.weight = weight

    def set_progress(self, share: float) -> None:
        for part in self.parts:
            part.set_progress(share)

    def head(self) -> Tensor | None:
        heads: list[Tensor | None] = [part.head() for part in self.parts]
        return next((head for head in heads if head is not None), None)

    def start_from(self, head: Tensor) -> None:
        for part in self.parts:
            part.start_from(head)

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        first, *later = (part(embedding, labels) for part in self.parts)
        value: Tensor = first + self.weight * sum(later)
        return value


def build_loss(config: LossConfig, singers: int, dim: int) -> ClassLoss | PairLoss | SummedLoss:
    """The loss that the setting names: a key of `LOSSES`, or several joined by "+"."""
    parts = [LOSSES[name](config, singers, dim) for name in config.parts]
    return parts[0] if len(parts) == 1 else SummedLoss(parts, config.sum_weight)
