"""Open-Unmix (Stöter et al., JOSS 2019) with the weights that its package publishes, at 44.1 kHz.

Each target's network estimates a magnitude spectrogram; a multichannel Wiener filter (Nugraha et
al., 2016) divides the mixture between them. The backing is the mixture less the vocals. The songs
here are mono: both channels of the published stereo networks get the same input, their estimates
are averaged, and the filter runs on one channel, where two equal ones would have a spatial
covariance of rank one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from openunmix.filtering import wiener
from openunmix.model import OpenUnmix
from openunmix.transforms import make_filterbanks
from torch import Tensor

from embedder.errors import UserError
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.weights import Published, fetched, read_tensors

RATE = 44100  # Hz
TARGETS = ("vocals", "drums", "bass", "other")
ITERATIONS = 1  # of the filter's expectation maximisation, the package's default
WINDOW = 300  # frames over which the filter takes a source's place and colour as fixed, likewise
CHUNK_S = 20.0
OVERLAP_S = 1.0


def _published(record: int, *names: str) -> dict[str, Published]:
    return {
        name.partition("-")[0]: Published(
            f"https://zenodo.org/records/{record}/files/{name}.pth",
            "checkpoints",
            name.partition("-")[2],
        )
        for name in names
    }


# In the order in which they are looked for: the package's own default first.
PUBLISHED = {
    "umxl": _published(
        5069601, "vocals-bccbd9aa", "drums-69e0ebd4", "bass-2ca1ce51", "other-c8c5b3e6"
    ),
    "umxhq": _published(
        3370489, "vocals-b62c91ce", "drums-9619578f", "bass-8d85a5bd", "other-b52fbbf7"
    ),
}


def load_umx(weights: Path | None, device: torch.device) -> SongSeparator:
    """The separator, from `weights` or from torch.hub's cache.

    `weights` is one target's file, `vocals….pth`, or a folder with it and any of the other
    targets'. Whatever has no target of its own is one more source, the residual.

    Raises:
        UserError: no weights, or weights of another network.
    """
    files = _cached() if weights is None else _given(weights)
    networks = [build(read_tensors(path), path).to(device) for path in files]
    shapes = {network.nb_output_bins for network in networks}
    if len(shapes) > 1:
        raise UserError(f"the targets beside {files[0]} have spectrograms of different sizes")
    bins = shapes.pop()
    transform, inverse = make_filterbanks(2 * (bins - 1), (bins - 1) // 2, center=True)
    residual = len(networks) < len(TARGETS)

    def split(wave: Tensor) -> tuple[Tensor, None]:
        mixture = transform.to(device)(wave.to(device)[None, None])  # (1, 1, bins, frames, 2)
        magnitude = torch.view_as_complex(mixture).abs()
        estimates = [estimate(network, magnitude) for network in networks]
        targets = torch.stack(estimates, dim=-1).permute(2, 1, 0, 3)  # (frames, bins, 1, targets)
        frames = mixture[0].permute(2, 1, 0, 3).contiguous()  # (frames, bins, 1, 2)
        filtered = [
            wiener(some, part.clone(), ITERATIONS, residual=residual)[..., 0]
            for some, part in zip(
                torch.split(targets, WINDOW), torch.split(frames, WINDOW), strict=True
            )
        ]
        vocals = torch.cat(filtered).permute(2, 1, 0, 3)[None].contiguous()
        return inverse.to(device)(vocals, length=len(wave))[0, 0], None

    return SongSeparator("umx", tuple(files), RATE, split, CHUNK_S, OVERLAP_S)


def estimate(network: OpenUnmix, magnitude: Tensor) -> Tensor:
    """`magnitude (1, 1, bins, frames)` of the mixture → the target's, `(1, bins, frames)`."""
    channels = network.fc1.in_features // network.nb_bins
    averaged: Tensor = network(magnitude.expand(-1, channels, -1, -1)).mean(dim=1)
    return averaged


def _cached() -> list[Path]:
    """The files of the first published set whose vocals are there, else the default's, fetched."""
    for files in PUBLISHED.values():
        if files["vocals"].path.is_file():
            found = [files[target].path for target in TARGETS]
            return found if all(path.is_file() for path in found) else found[:1]
    return [fetched(PUBLISHED["umxl"][target], "umx") for target in TARGETS]


def _given(weights: Path) -> list[Path]:
    if not weights.is_dir():
        return [weights]
    found = []
    for target in TARGETS:
        files = sorted(weights.glob(f"{target}*.pth"))
        if len(files) > 1:
            raise UserError(f"{files[0]} and {files[1].name} are both there; keep one {target}")
        if not files and target == "vocals":
            raise UserError(f"--weights {weights} holds no vocals….pth")
        found += files
    return found


def build(state: dict[str, Tensor], path: Path) -> OpenUnmix:
    """The network that a state dict belongs to, of any width, in eval mode.

    The published files hold a few tensors more (their transform's window), which are left out.
    """
    try:
        hidden, inputs = state["fc1.weight"].shape
        used = len(state["input_mean"])
        network = OpenUnmix(
            nb_bins=len(state["output_mean"]),
            nb_channels=inputs // used,
            hidden_size=hidden,
            nb_layers=sum(name.startswith("lstm.weight_ih_l") for name in state)
            // (2 if "lstm.weight_ih_l0_reverse" in state else 1),
            unidirectional="lstm.weight_ih_l0_reverse" not in state,
            max_bin=used,
        )
        network.load_state_dict({name: state[name] for name in network.state_dict()})
    except KeyError as error:
        raise UserError(f"{path} holds no weights of Open-Unmix ({error} is missing)") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit Open-Unmix ({reason})") from None
    network.freeze()
    return network
