"""Sets of settings with a name, and the order in which they stand above each other.

Lowest first: the defaults in `config.py`; the preset's values for `all`; what the architecture's
paper fixes (`ARCHITECTURES`); the preset's for the backbone; the preset's for the loss, where of a
sum the first part stands above the others. `resolved` gives these. `settings.build_config` puts a
base (`FINETUNING`, `PRETRAINING`), a file of settings and single changes above them.
"""

from __future__ import annotations

from typing import Any

from embedder.architectures import ARCHITECTURES
from embedder.errors import UserError, did_you_mean

SEPARATOR_EPOCHS = 40  # of `train-separator`

_TRIPLET = {"batch_singers": 10, "batch_crops": 8, "lr": 0.001}
_XVECTOR = {"channels": 512, "mfa_channels": 1500}  # the paper's size trains fast anywhere
# The tagging comparison's models at widths that train at about 100 s of audio a second on a core,
# instead of their papers' 128 channels (fcn: 64; musicnn: 204).
_TAGGING = {
    "shortchunk": {"channels": 64},
    "harmonic": {"channels": 40},
    "samplecnn": {"channels": 48},
    "musicnn": {"channels": 48},
    "attention": {"channels": 48},
}
_TAGGING_DEMO = {name: {"channels": 32} for name in (*_TAGGING, "fcn")}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "laptop": {
        "all": {},
        "xvector": _XVECTOR,
        "resnet34": {"channels": 16},  # half the paper's widths: a quarter of its multiply-adds
        "campplus": {"channels": 64},
        **_TAGGING,
        "triplet": {**_TRIPLET, "epochs": 6},
    },
    "base": {
        "all": {
            "channels": 512,
            "mfa_channels": 1536,
            "res2_scale": 8,
            "attention_channels": 128,
            "hop": 160,
            "epochs": 40,
            "crops_per_song": 8,
        },
        "xvector": _XVECTOR,
        "resnet34": {"channels": 32},
        "campplus": {"channels": 128},
        "triplet": _TRIPLET,
    },
    "demo": {
        "all": {
            "channels": 96,
            "mfa_channels": 192,
            "embedding_dim": 96,
            "hop": 256,
            "epochs": 10,
            "crops_per_song": 24,
            "batch_crops": 8,
            "remix_low_db": -6,
            "remix_high_db": 12,
        },
        "resnet34": {"channels": 16},
        "campplus": {"channels": 32},
        **_TAGGING_DEMO,
        "triplet": _TRIPLET,
    },
}

# What large-margin fine-tuning changes in a trained member's settings (Thienpondt et al., ICASSP
# 2021): a larger margin at once, longer crops, and steps so small that the network only settles.
FINETUNING: dict[str, Any] = {
    "aam_margin": 0.5,
    "cosface_margin": 0.4,
    "margin_warmup": 0.0,
    "segment_s": 6.0,
    "lr": 0.0001,
    "epochs": 4,
}

# What differs in a pre-training from a member's own defaults. Two crops of a song share its
# recording, and whatever does not vary between them is what the network will learn to tell apart:
# so all of it varies often.
PRETRAINING: dict[str, Any] = {
    "epochs": 20,
    "lr": 0.001,
    "equaliser": 0.8,
    "noise": 0.5,
    "low_pass": 0.3,
}


def resolved(preset: str, backbone: str, loss: str) -> dict[str, Any]:
    """The settings of a preset that differ from the defaults, for a backbone and a loss.

    Raises:
        UserError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UserError(
            f"there is no preset '{preset}'{did_you_mean(preset, PRESETS)}; "
            f"presets are: {', '.join(PRESETS)}"
        )
    of = PRESETS[preset]
    values = {**of.get("all", {}), **ARCHITECTURES[backbone].settings, **of.get(backbone, {})}
    for part in reversed(loss.split("+")):
        values |= of.get(part, {})
    return values
