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
    fitted: bool = False  # not by gradient and on a loss, but by expectation-maximisation
    channel_multiple: int = 1  # `channels` must be a multiple of it


# The input of the tagging comparison, but not from 0 Hz on: of 128 mels one would then hold no bin.
_TAGGING = {"n_fft": 512, "hop": 256, "mel_norm": "none"}
_TAGGING_96 = {**_TAGGING, "n_mels": 96}
_TAGGING_128 = {**_TAGGING, "n_mels": 128, "channels": 128}
_CHOI = {"n_mels": 128, "n_fft": 2048, "hop": 512, "f_min": 0.0, "mel_norm": "none"}

# A segment's place is told by what it says of each sound, so it must be long. `epochs` are
# iterations of the total variability, after which the likelihood hardly rises.
_CLASSICAL = {
    "mel_norm": "none",
    "segment_s": 10.0,
    "eval_segment_s": 10.0,
    "eval_hop_s": 5.0,
    "crops_per_song": 8.0,
    "epochs": 4,
}

ARCHITECTURES: dict[str, Architecture] = {
    "ecapa": Architecture("Desplanques et al., Interspeech 2020"),
    "crnn": Architecture("Nasrullah & Zhao, IJCNN 2019", _CHOI, least_mels=128, least_frames=16),
    "crnnm": Architecture("Hsieh et al., ICASSP 2020", _CHOI, least_mels=128, least_frames=16),
    "fgnl": Architecture("Kuo et al., AAAI 2021", _CHOI, least_mels=16, least_frames=16),
    "midlevel": Architecture("Zhang et al., IJCNN 2022", _CHOI, least_mels=128, least_frames=16),
    "xvector": Architecture("Snyder et al., ICASSP 2018"),
    "resnet34": Architecture("Zeinali et al., VoxSRC 2019; Wespeaker, ICASSP 2023"),
    "campplus": Architecture("Wang et al., Interspeech 2023"),
    "shortchunk": Architecture("Won et al., SMC 2020", _TAGGING_128),
    # Twice the window of the paper: in its own, the filters of the lowest notes hold no bin.
    "harmonic": Architecture(
        "Won et al., ICASSP 2020", {"n_fft": 1024, "hop": 256, "channels": 128}
    ),
    "samplecnn": Architecture("Lee et al., SMC 2017", {"channels": 128}),
    "musicnn": Architecture("Pons et al., ISMIR 2018", {**_TAGGING_96, "channels": 204}),
    "fcn": Architecture("Choi et al., ISMIR 2016", {**_TAGGING_96, "channels": 64}),
    "attention": Architecture("Won, Chun & Serra 2019", _TAGGING_128, channel_multiple=4),
    "ssl": Architecture("three case studies, APSIPA 2023; Yang et al., Interspeech 2021"),
    "ivector": Architecture("Dehak et al., IEEE TASLP 2011", _CLASSICAL, fitted=True),
}
