"""What each architecture is, where it comes from, and which input it asks for.

Enters: nothing. Leaves: `ARCHITECTURES`, from a key of `--backbone` to what can be said of it
without torch. The networks themselves are in `embedder/model/`, behind the dict `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One kind of network. Its settings stand above a preset's general ones."""

    source: str  # the paper it follows
    settings: Mapping[str, Any] = field(default_factory=dict)  # the input that the paper fixes
    least_mels: int = 0  # fewest mel bands it can pool
    least_frames: int = 0  # fewest frames it can pool


_CHOI = {"n_mels": 128, "n_fft": 2048, "hop": 512, "f_min": 0.0, "mel_norm": "none"}

ARCHITECTURES: dict[str, Architecture] = {
    "ecapa": Architecture("Desplanques et al., Interspeech 2020"),
    "crnn": Architecture("Nasrullah & Zhao, IJCNN 2019", _CHOI, least_mels=128, least_frames=16),
}
