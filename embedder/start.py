"""What a training begins from, other than random weights.

Enters: a file of weights, or a trained member. Leaves: a `Start`, which puts them into a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from embedder.artifact import file_fingerprint
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.models.network import Network
from embedder.models.ssl import find_weights, put_weights, read_weights


@dataclass(frozen=True)
class Start:
    """Weights that are put into a network before its first step."""

    name: str  # said when training begins, such as "member ecapa-aam" or "weights.pt"
    fingerprint: str  # of their content: a training goes on only from the same start
    apply: Callable[[Network], None]
    head: Tensor | None = None  # (singers × centres, dim) class weights for the loss, if any


def published_start(config: MemberConfig, weights: Path | None = None) -> Start | None:
    """The published weights that a backbone stands on; None for one that begins random.

    `weights`: the user's own copy of them.

    Raises:
        UserError: the weights are nowhere, or the backbone takes none.
    """
    if config.model.backbone != "ssl":
        if weights is not None:
            raise UserError(f"--backbone {config.model.backbone} takes no --weights; ssl does")
        return None
    path = find_weights(config.model, weights)

    def apply(network: Network) -> None:
        put_weights(network.backbone, read_weights(path, config.model.ssl_layers), path)

    return Start(path.name, file_fingerprint(path), apply)
