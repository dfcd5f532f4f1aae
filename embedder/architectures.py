"""The architectures: a name, what builds it, the paper it follows and the input it needs.

Everything that `--backbone` allows stands once, in `ARCHITECTURES`. Reading it imports no torch:
`embedder.models.network` imports a builder when a network of its kind is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Front ends by name: `module:Class` below `embedder.models`. Built from `FeatureConfig`, a front
# end maps `wave (batch, samples)` to `features (batch, rows, frames)`; it has the attributes `rows`
# and `mel_rows`, how many of them are mel bands.
FRONTENDS: dict[str, str] = {
    "mel": "frontends:LogMel",
    "wave": "frontends:Waveform",
    "melody": "frontends:MelodyMel",
    "harmonics": "zoo.harmonic:HarmonicFilters",
    "mfcc": "zoo.ivector:Mfcc",
    "descriptors": "zoo.midlevel:Descriptors",
}


@dataclass(frozen=True)
class Architecture:
    """One kind of network. Its settings override a preset's general ones.

    `builder` is `module:Class` below `embedder.models`. Built from `FeatureConfig` and
    `ModelConfig`, a backbone maps features to `(batch, output_dim)`.
    """

    source: str  # the paper it follows
    builder: str
    frontend: str = "mel"  # key of `FRONTENDS`
    settings: Mapping[str, Any] = field(default_factory=dict)  # the input that the paper fixes
    least_mels: int = 0  # fewest mel bands it can pool
    least_frames: int = 0  # fewest frames it can pool
    fitted: bool = False  # by expectation-maximisation instead of by gradient and on a loss
    channel_multiple: int = 1  # `channels` must be a multiple of it
    not_exportable: str = ""  # why ONNX cannot express it


# The input of the tagging comparison, but not from 0 Hz on: of 128 mels one would then hold no bin.
_TAGGING = {"n_fft": 512, "hop": 256, "mel_norm": "none"}
_TAGGING_96 = {**_TAGGING, "n_mels": 96}
_TAGGING_128 = {**_TAGGING, "n_mels": 128, "channels": 128}
_CHOI = {"n_mels": 128, "n_fft": 2048, "hop": 512, "f_min": 0.0, "mel_norm": "none"}
_CHOI_POOLING: dict[str, Any] = {"settings": _CHOI, "least_mels": 128, "least_frames": 16}

# An i-vector is an average over sounds, so its segments must be long. `epochs` are iterations of
# the total variability, after which the likelihood hardly rises.
_IVECTOR = {
    "mel_norm": "none",
    "segment_s": 10.0,
    "eval_segment_s": 10.0,
    "eval_hop_s": 5.0,
    "crops_per_song": 8.0,
    "epochs": 4,
}
_PITCH_LOOP = (
    "it follows the sung pitch frame by frame, in a loop as long as the song where near-equal "
    "pitches may fall either way by rounding"
)

ARCHITECTURES: dict[str, Architecture] = {
    "ecapa": Architecture("Desplanques et al., Interspeech 2020", "ecapa:Ecapa"),
    "crnn": Architecture("Nasrullah & Zhao, IJCNN 2019", "crnn:Crnn", **_CHOI_POOLING),
    "crnnm": Architecture(
        "Hsieh et al., ICASSP 2020",
        "crnn:Crnnm",
        "melody",
        **_CHOI_POOLING,
        not_exportable=_PITCH_LOOP,
    ),
    "fgnl": Architecture(
        "Kuo et al., AAAI 2021", "fgnl:Fgnl", settings=_CHOI, least_mels=16, least_frames=16
    ),
    "midlevel": Architecture(
        "Zhang et al., IJCNN 2022",
        "zoo.midlevel:MidLevel",
        "descriptors",
        **_CHOI_POOLING,
        not_exportable=_PITCH_LOOP,
    ),
    "xvector": Architecture("Snyder et al., ICASSP 2018", "xvector:Xvector"),
    "resnet34": Architecture(
        "Zeinali et al., VoxSRC 2019; Wespeaker, ICASSP 2023", "resnet:ResNet34"
    ),
    "campplus": Architecture("Wang et al., Interspeech 2023", "campplus:Campplus"),
    "shortchunk": Architecture("Won et al., SMC 2020", "resnet:ShortChunk", settings=_TAGGING_128),
    # Twice the window of the paper: in its own, the filters of the lowest notes hold no bin.
    "harmonic": Architecture(
        "Won et al., ICASSP 2020",
        "zoo.harmonic:Harmonic",
        "harmonics",
        {"n_fft": 1024, "hop": 256, "channels": 128},
    ),
    "samplecnn": Architecture(
        "Lee et al., SMC 2017", "zoo.samplecnn:SampleCnn", "wave", {"channels": 128}
    ),
    "musicnn": Architecture(
        "Pons et al., ISMIR 2018", "zoo.musicnn:Musicnn", settings={**_TAGGING_96, "channels": 204}
    ),
    "fcn": Architecture(
        "Choi et al., ISMIR 2016", "zoo.fcn:Fcn", settings={**_TAGGING_96, "channels": 64}
    ),
    "attention": Architecture(
        "Won, Chun & Serra 2019",
        "zoo.attention:Attention",
        settings=_TAGGING_128,
        channel_multiple=4,
    ),
    "ssl": Architecture(
        "three case studies, APSIPA 2023; Yang et al., Interspeech 2021", "ssl:Ssl", "wave"
    ),
    "ivector": Architecture(
        "Dehak et al., IEEE TASLP 2011",
        "zoo.ivector:IVector",
        "mfcc",
        _IVECTOR,
        fitted=True,
        not_exportable="it solves a system of linear equations for each segment; ONNX has no "
        "operation that does",
    ),
}
