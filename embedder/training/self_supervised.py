"""What a network can learn from songs alone: two crops of one song belong together.

Each method maps `features (2 × songs, rows, frames)`, one crop of each song and then, in the same
order, another, to a scalar loss and the projections that it compares. For singers: Torres,
Lattner & Richard, ISMIR 2023.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import SelfSupervisedConfig
from embedder.models.network import Network

VICREG = {"invariance_lambda": 25, "variance_mu": 25, "covariance_v": 1}  # the paper's


def perceptron(inputs: int, width: int, layers: int) -> nn.Sequential:
    """`(batch, inputs)` → `(batch, width)`: linear layers, batch norm and ReLU between them."""
    parts: list[nn.Module] = []
    for layer in range(layers - 1):
        size = inputs if layer == 0 else width
        parts += [nn.Linear(size, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, width))


class Projected(nn.Module):
    """The network that is kept, and the projector behind it that is thrown away afterwards."""

    def __init__(self, network: Network, width: int, layers: int) -> None:
        super().__init__()
        self.network = network
        linear = network.projection[0]
        assert isinstance(linear, nn.Linear)
        self.projector = perceptron(linear.out_features, width, layers)

    def forward(self, features: Tensor) -> Tensor:
        """`features (batch, rows, frames)` → `projection (batch, width)`, float32."""
        projection: Tensor = self.projector(self.network.embed_features(features)).float()
        return projection


class SimClr(nn.Module):
    """NT-Xent between the crops of a batch (Chen et al., ICML 2020, eq. 1).

    For each crop i with its song's other crop j: −log(exp(cos(i, j)/τ) / Σₖ exp(cos(i, k)/τ)) over
    all other crops k of the batch; the mean of it.
    """

    def __init__(self, config: SelfSupervisedConfig, network: Network) -> None:
        super().__init__()
        self.online = Projected(network, config.projector_dim, layers=2)
        self.loss = losses.SelfSupervisedLoss(
            losses.NTXentLoss(temperature=config.ntxent_temperature)
        )

    def after_step(self, share: float) -> None:
        """Nothing follows the network."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.online(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.loss(*projection.chunk(2)), projection


class VicReg(nn.Module):
    """Variance, invariance, covariance (Bardes, Ponce & LeCun, ICLR 2022, eqs. 1 to 6).

    25 times the mean squared difference of the two crops, plus 25 times how far each number's
    deviation over the batch stays below 1, plus the squared covariances of different numbers.
    As in the authors' code the first is a mean over the numbers too, and the second one over the
    two crops.
    """

    def __init__(self, config: SelfSupervisedConfig, network: Network) -> None:
        super().__init__()
        self.online = Projected(network, config.projector_dim, layers=3)
        self.loss = losses.VICRegLoss(**VICREG)

    def after_step(self, share: float) -> None:
        """Nothing follows the network."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.online(features)
        one, other = projection.chunk(2)
        with torch.autocast(features.device.type, enabled=False):
            return self.loss(one, ref_emb=other), projection


class Byol(nn.Module):
    """Bootstrap your own latent (Grill et al., NeurIPS 2020, eqs. 1 and 2).

    A predictor behind the projector foretells what a target network, which trails behind the online
    one, makes of the other crop: 2 − 2·cos, summed both ways round. The target's weights keep the
    share τ of themselves in each step, τ growing from `target_momentum` to 1 as half a cosine.
    """

    def __init__(self, config: SelfSupervisedConfig, network: Network) -> None:
        super().__init__()
        width = config.projector_dim
        self.momentum = config.target_momentum
        self.online = Projected(network, width, layers=2)
        self.predictor = perceptron(width, width, layers=2)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def after_step(self, share: float) -> None:
        """The target follows; `share` of training done, in [0, 1]."""
        kept = 1 - (1 - self.momentum) * (math.cos(math.pi * share) + 1) / 2
        with torch.no_grad():
            pairs = zip(self.target.parameters(), self.online.parameters(), strict=True)
            for own, leading in pairs:
                own.lerp_(leading, 1 - kept)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.online(features)
        predicted = self.predictor(projection).float()
        with torch.no_grad():
            one, other = self.target(features).chunk(2)
        cosine = functional.cosine_similarity(predicted, torch.cat([other, one]), dim=1)
        return 2 * (2 - 2 * cosine).mean(), projection


METHODS: dict[str, Callable[[SelfSupervisedConfig, Network], SimClr | VicReg | Byol]] = {
    "simclr": SimClr,
    "vicreg": VicReg,
    "byol": Byol,
}


def spread(projection: Tensor) -> float:
    """How far from one point the projections `(batch, width)` are: 0 collapsed, about 1 spread.

    The deviation of their directions over the batch, times the root of their width (Chen & He,
    CVPR 2021, section 4.1).
    """
    directions = functional.normalize(projection.detach().float(), dim=1)
    return float(directions.std(dim=0).mean() * math.sqrt(projection.shape[1]))
