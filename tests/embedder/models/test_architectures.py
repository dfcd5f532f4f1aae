"""What every architecture must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.architectures import ARCHITECTURES
from embedder.config import SAMPLE_RATE, LossConfig, MemberConfig
from embedder.models.network import Network, count_parameters
from embedder.models.onnx import DOUBLES, portable
from embedder.settings import SETTINGS, build_config
from embedder.training.losses import build_loss
from tests.embedder.models.reference import backbone as backbone_of
from tests.embedder.models.reference import noise

Tiny = Callable[..., MemberConfig]


@pytest.fixture(params=ARCHITECTURES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def network_of(name: str) -> Network:
    """In eval mode; the tests that share it leave it as it is."""
    torch.manual_seed(0)
    return Network(build_config("demo", changes={"backbone": name})).eval()


@pytest.fixture
def network(name: str) -> Iterator[Network]:
    with torch.no_grad():
        yield network_of(name)


def waves(seed: int, batch: int, samples: int = 16000) -> Tensor:
    """Noises of different colours, so that embeddings differ."""
    rng = np.random.default_rng(seed)
    bins = samples // 2 + 1
    spectrum = rng.normal(size=(batch, bins)) + 1j * rng.normal(size=(batch, bins))
    spectrum *= 10 ** (-rng.uniform(0, 3, size=(batch, 1)) * np.linspace(0, 1, bins))
    wave = np.fft.irfft(spectrum, samples)
    return torch.from_numpy((0.1 * wave / wave.std()).astype(np.float32))


def voices(seed: int, batch: int, samples: int) -> Tensor:
    """Tones with harmonics and a vibrato, each with its own pitch and tilt, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLE_RATE
    out = []
    for _ in range(batch):
        pitch, rate, depth = rng.uniform(90, 500), rng.uniform(4, 8), rng.uniform(0.01, 0.06)
        tilt = rng.uniform(0.5, 2)
        f0 = pitch * (1 + depth * np.sin(2 * np.pi * rate * time))
        phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
        tones = (np.sin(k * phase) * k**-tilt for k in range(1, int(7500 / pitch)))
        wave = sum(tones) + 0.02 * rng.normal(size=samples)
        out.append(0.1 * wave / wave.std())
    return torch.from_numpy(np.array(out, dtype=np.float32))


def test_the_architectures_are_the_choices_of_the_setting() -> None:
    assert tuple(ARCHITECTURES) == SETTINGS["backbone"].choices


def test_embeddings_have_unit_length_and_differ(network: Network) -> None:
    wave = voices(0, 5, 16000)
    embedding = network(wave)
    assert embedding.dtype == torch.float32
    assert embedding.shape == (5, network.projection[0].out_features)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    # Rounding is 1e-6. Random weights give much the same of everything, so the bar is no higher.
    assert torch.pdist(embedding.double()).min() > 1e-4
    features = network.extract_features(wave)
    raw = network.projection(network.backbone(features))
    assert raw.shape[1] == embedding.shape[1]
    torch.testing.assert_close(embedding, raw / raw.square().sum(dim=1, keepdim=True).sqrt())


def test_any_length_goes_from_the_shortest_on(network: Network, name: str) -> None:
    hop = build_config("demo", changes={"backbone": name}).features.hop
    least = ARCHITECTURES[name].least_frames
    shortest = max(1201, (least - 1) * hop)
    for samples in (shortest, shortest + 1, 9345):
        embedding = network(waves(1, 2, samples))
        assert embedding.shape[0] == 2
        assert torch.isfinite(embedding).all()
    if least:
        with pytest.raises(RuntimeError, match="too small"):
            network(waves(1, 2, shortest - hop))


MEL_BANDS = [
    (name, bands)
    for name, architecture in ARCHITECTURES.items()
    for bands in ((128, 256) if architecture.least_mels == 128 else (16, 90))
    if architecture.frontend in ("mel", "melody")
]


@pytest.mark.parametrize(("backbone", "bands"), MEL_BANDS)
def test_every_mel_band_is_used_however_many_there_are(backbone: str, bands: int) -> None:
    network = backbone_of(backbone, "demo", n_mels=bands, band_mask_mels=4).eval()
    rows = bands * (2 if ARCHITECTURES[backbone].frontend == "melody" else 1)
    mel = noise(2, 1, rows, 32).repeat(3, 1, 1)
    mel[1, 0] += 40
    mel[2, bands - 1] += 40
    plain, low, high = network(mel)
    assert not torch.allclose(low, plain)
    assert not torch.allclose(high, plain)


def test_a_wave_does_not_depend_on_the_others_of_its_batch(network: Network) -> None:
    wave = waves(1, 4, 9000)
    together = network(wave)
    assert torch.equal(network(wave), together)
    for row in (0, 3):
        alone = network(wave[row : row + 1])[0]
        torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=0)
    torch.testing.assert_close(network(wave.flip(0)).flip(0), together, atol=1e-5, rtol=0)


def test_neither_loudness_nor_a_tenth_of_a_second_matters(network: Network) -> None:
    wave = waves(2, 3, 9000)
    assert (network(wave) * network(0.05 * wave)).sum(dim=1).min() > 0.9999
    wave = voices(3, 4, 25600)
    now, later = network(wave[:, :24000]).double(), network(wave[:, 1600:]).double()
    apart = torch.cdist(now, later)
    assert apart.diagonal().mean() < 0.7 * apart[~torch.eye(4, dtype=torch.bool)].mean()


def test_silence_and_half_precision_have_embeddings(network: Network) -> None:
    torch.testing.assert_close(network(torch.zeros(1, 9000)).norm(dim=1), torch.ones(1))
    wave = waves(6, 3, 9000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(wave)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(3))
    assert (half * network(wave)).sum(dim=1).min() > 0.99


def test_every_weight_learns(name: str) -> None:
    network = deepcopy(network_of(name)).train()
    objective = build_loss(LossConfig(), 3, network.projection[0].out_features)
    objective(network(waves(5, 6, 9000)), torch.tensor([0, 0, 1, 1, 2, 2])).backward()
    learning = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    for name, gradient in learning.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    moved = sum(float(gradient.abs().sum()) > 0 for gradient in learning.values())
    assert moved > 0.9 * len(learning)


# Rates of dropout, in the order of the layers.
DROPOUT = {
    "crnn": [0.1] * 4 + [0.3],
    "crnnm": [0.1] * 8 + [0.3],
    "fgnl": [0.1] * 4 + [0.3],
    "midlevel": [0.1] * 4 + [0.3],
    "samplecnn": [0.5],
    "fcn": [0.5],
    "attention": [0.4] * 6 + [0.5],
}


# What is dropped inside `ssl` is the published model's: test_ssl.
@pytest.mark.parametrize("backbone", [name for name in ARCHITECTURES if name != "ssl"])
def test_dropout_is_that_of_the_paper_and_in_training_alone(backbone: str) -> None:
    network = deepcopy(network_of(backbone))
    drops = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    assert [module.p for module in drops] == DROPOUT.get(backbone, [])
    if not drops:
        return
    features = network.extract_features(waves(7, 8, 9000))
    whole = network.backbone(features)
    assert torch.equal(network.backbone(features), whole)
    drops[-1].train()  # the last one drops numbers of the description
    dropped = network.backbone(features)
    kept, rate = dropped != 0, drops[-1].p
    torch.testing.assert_close(dropped[kept], whole[kept] / (1 - rate))
    assert abs(float(kept[whole != 0].float().mean()) - (1 - rate)) < 0.15


@pytest.mark.parametrize("backbone", [n for n, a in ARCHITECTURES.items() if not a.not_exportable])
def test_the_exported_network_gives_the_same_embedding(backbone: str, tiny: Tiny) -> None:
    """What ONNX cannot express is refused: test_export."""
    torch.manual_seed(1)
    network = Network(tiny(backbone=backbone, n_mels=128)).eval().requires_grad_(False)
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    double = portable(network)
    for batch, samples in ((1, 8000), (2, 9345)):
        wave = noise(0, batch, samples, spread=0.1)
        torch.testing.assert_close(double(wave), network(wave), atol=1e-5, rtol=0)
    kinds = {type(module) for module in double.modules()}
    assert not kinds & set(DOUBLES) - {nn.TransformerEncoderLayer}  # whose parts its double uses
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


# How many weights there are -----------------------------------------------------------------------


def conv(inputs: int, outputs: int, taps: int = 9, bias: int = 0) -> int:
    """A convolution and its batch norm."""
    return taps * inputs * outputs + (2 + bias) * outputs


def gru(inputs: int, hidden: int = 32) -> int:
    return 3 * hidden * (inputs + hidden) + 2 * 3 * hidden


def block(inputs: int, outputs: int, shortcut_taps: int = 0) -> int:
    """A residual block; a shortcut with a convolution where it has taps."""
    beside = conv(inputs, outputs, shortcut_taps) if shortcut_taps else 0
    return conv(inputs, outputs) + conv(outputs, outputs) + beside


CHOI = sum(conv(i, o, bias=1) for i, o in ((1, 64), (64, 128), (128, 128), (128, 128)))
SHORT = (1, 128, 128, 256, 256, 256, 256, 512)
SAMPLE = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
FULL_TAGGER = (1, 128, 128, 256, 256, 256, 256, 256)


def ecapa(n_mels: int, channels: int, mfa: int, scale: int, attention: int) -> int:
    width, squeeze = channels // scale, min(128, channels)
    gate = 2 * channels * squeeze + squeeze + channels
    groups = (scale - 1) * conv(width, width, 3, 1)
    blocks = 3 * (2 * conv(channels, channels, 1, 1) + groups + gate)
    pooling = conv(3 * mfa, attention, 1, 1) + attention * mfa + mfa
    aggregation = 3 * channels * mfa + mfa
    return conv(n_mels, channels, 5, 1) + blocks + aggregation + pooling + 2 * 2 * mfa


def campplus() -> int:
    front = conv(1, 32) + 2 * block(32, 32, 1) + 2 * block(32, 32) + conv(32, 32)
    width, total = 128, front + conv(320, 128, 5)
    for layers in (12, 24, 16):
        for number in range(layers):
            inputs = width + 32 * number
            mask = 128 * 64 + 64 + 64 * 32 + 32
            total += 2 * inputs + 128 * inputs + 2 * 128 + 3 * 128 * 32 + mask
        width += 32 * layers
        total += 2 * width + width * width // 2
        width //= 2
    return total + 2 * width


def resnet34() -> int:
    total, width = conv(1, 32), 32
    for outputs, blocks in ((32, 3), (64, 4), (128, 6), (256, 3)):
        total += block(width, outputs, 0 if width == outputs else 1)
        total += (blocks - 1) * block(outputs, outputs)
        width = outputs
    return total


# Numbers that the backbones of the papers' own sizes learn, layer by layer.
PARAMETERS: dict[str, int] = {
    "ecapa": ecapa(80, 512, 1536, 8, 128),
    "crnn": 2 * 128 + CHOI + gru(128) + gru(32),
    "crnnm": 2 * 128 + 2 + 2 * CHOI + gru(256) + gru(32),
    "fgnl": 2 * 128 + CHOI + gru(1024) + gru(32)
    # θ, φ and g; the gate; the last convolution
    + 5 * (128 * 4 + 4) + (16 + 16 + 16) + (16 * 128 + 128),
    "midlevel": 2 * 128 + CHOI + gru(128 + 64) + gru(32)
    # 43 rows of timbre; 16 rows of music, 25 features learnt from them
    + 2 * 43 * 64 + 64
    + conv(16, 64, 5, 1) + conv(64, 64, 5, 1) + 128 * 25 + 25,
    "resnet34": resnet34(),
    "campplus": campplus(),
    "shortchunk": sum(block(a, b, 9) for a, b in pairwise(SHORT)),
    "harmonic": 2 * 6 + conv(6, 128) + 3 * block(128, 128) + conv(128, 256) + 2 * block(256, 256),
    "samplecnn": conv(1, 128, 3) + sum(conv(a, b, 3) for a, b in pairwise(SAMPLE))
    + conv(512, 512, 1),
    "musicnn": 204 * (67 + 38) * 7 + 51 * (129 + 65 + 33) + 64 * 7 * (561 + 64 + 64)
    + 2 * (561 + 3 * 64),
    "fcn": sum(conv(a, b) for a, b in pairwise((1, 64, 128, 128, 128, 64))),
    "attention": sum(block(a, b, 9) for a, b in pairwise(FULL_TAGGER)) + 256
    # two layers: four projections, two dense layers, two norms; the pooler
    + 2 * (4 * (256 * 256 + 256) + 2 * 256 * 1024 + 1024 + 256 + 4 * 256) + 256 * 256 + 256,
    "xvector": sum(conv(a, b, 1, 1) for a, b in ((400, 512), (1536, 512), (1536, 512), (512, 512)))
    + conv(512, 1500, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("backbone", PARAMETERS)
def test_parameters_are_as_many_as_the_paper_s_layers_have(backbone: str) -> None:
    assert count_parameters(backbone_of(backbone, "base")) == PARAMETERS[backbone]


def test_the_totals_are_the_published_ones() -> None:
    assert PARAMETERS["shortchunk"] == 11_809_536
    changes = {"embedding_dim": 256, "backbone": "resnet34"}
    whole = count_parameters(Network(build_config("base", changes=changes)))
    assert whole == PARAMETERS["resnet34"] + 5120 * 256 + 256 + 2 * 256
    assert round(whole / 1e6, 2) == 6.63
    changes = {"embedding_dim": 512, "backbone": "campplus"}
    whole = count_parameters(Network(build_config("base", changes=changes)))
    assert round(whole / 1e6, 2) == 7.18
    changes = {"backbone": "xvector", "n_mels": 24, "embedding_dim": 512}
    assert round(count_parameters(Network(build_config("base", changes=changes))) / 1e6, 1) == 4.2
