"""What a training begins from, other than random weights.

Enters: a file of weights, or a trained member. Leaves: a `Start`, which puts them into a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedder.model.network import Network


@dataclass(frozen=True)
class Start:
    """Weights that are put into a network before its first step."""

    name: str  # said when training begins, such as "member ecapa-aam" or "weights.pt"
    fingerprint: str  # of their content: a training goes on only from the same start
    apply: Callable[[Network], None]
