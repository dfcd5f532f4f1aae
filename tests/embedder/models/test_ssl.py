"""The self-supervised front end: torchaudio's own layers, what stays frozen, what is summed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchaudio
from torch import Tensor, nn
from torchaudio.pipelines import HUBERT_BASE, WAV2VEC2_BASE, WAVLM_BASE_PLUS

from embedder.models.network import Network
from embedder.models.ssl import BASE, PRETRAINED, Ssl
from embedder.settings import all_settings, build_config
from embedder.training.module import Training

BUNDLES = {
    "wavlm_base_plus": WAVLM_BASE_PLUS,
    "hubert_base": HUBERT_BASE,
    "wav2vec2_base": WAV2VEC2_BASE,
}


def backbone(**changes: Any) -> Ssl:
    torch.manual_seed(0)
    config = build_config(changes={"backbone": "ssl", "ssl_layers": 3} | changes)
    return Ssl(config.features, config.model)


def noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_models_are_the_choices_of_the_setting() -> None:
    assert tuple(PRETRAINED) == all_settings()["ssl_model"][1].metadata["choices"]


@pytest.mark.parametrize("name", PRETRAINED)
def test_sizes_and_files_are_torchaudio_s_own(name: str, real_base: dict[str, Any]) -> None:
    bundle, spec = BUNDLES[name], PRETRAINED[name]
    assert {**real_base, **spec.options, "encoder_num_layers": 12} == bundle._params
    assert spec.standardised == bundle._normalize_waveform
    assert spec.file.path.name == bundle._path
    assert spec.file.path.parent.name == "checkpoints"
    builders = {
        "WavLM": torchaudio.models.wavlm_model,
        "Wav2Vec2": torchaudio.models.wav2vec2_model,
    }
    assert spec.build is builders[bundle._model_type]
    assert bundle.sample_rate == 16000


@pytest.mark.parametrize("name", PRETRAINED)
def test_layers_are_what_torchaudio_extracts(name: str) -> None:
    ssl = backbone(ssl_model=name).eval()
    wave = noise(1, 2, 8000)
    layers = ssl.layers(wave)
    theirs, _ = ssl.pretrained.extract_features(wave)
    assert len(layers) == 4
    for ours, own in zip(layers[1:], theirs, strict=True):
        torch.testing.assert_close(ours, own)
    convolved, _ = ssl.pretrained.feature_extractor(wave, None)
    normed = nn.functional.layer_norm(convolved, convolved.shape[2:])
    linear = ssl.pretrained.encoder.feature_projection.projection
    torch.testing.assert_close(layers[0], normed @ linear.weight.T + linear.bias)
    samples, reach = 8000, ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2)
    for kernel, stride in reach:
        samples = (samples - kernel) // stride + 1
    assert layers[0].shape == (2, samples, BASE["encoder_embed_dim"])


def test_fewer_layers_are_the_first_ones() -> None:
    three, two = backbone().eval(), backbone(ssl_layers=2).eval()
    state = three.pretrained.state_dict()
    two.pretrained.load_state_dict({k: v for k, v in state.items() if ".layers.2." not in k})
    wave = noise(2, 1, 8000)
    for one, other in zip(two.layers(wave), three.layers(wave)[:3], strict=True):
        assert torch.equal(one, other)


def test_the_sum_weighs_layers_by_the_softmax_of_their_scores() -> None:
    ssl = backbone().eval()
    ssl.layer_scores.data = torch.tensor([0.5, -1.0, 2.0, 0.0])
    pooled: list[Tensor] = []
    ssl.pool.register_forward_hook(lambda _, inputs, __: pooled.append(inputs[0]))
    wave = noise(3, 2, 8000)
    ssl(wave.unsqueeze(1))
    shares = [2.718281828**score for score in (0.5, -1.0, 2.0, 0.0)]
    expected = sum(s / sum(shares) * x for s, x in zip(shares, ssl.layers(wave), strict=True))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(pooled[0], expected.transpose(1, 2))


def test_a_standardised_wave_has_no_mean_and_no_level() -> None:
    ssl = backbone().eval()
    heard: list[Tensor] = []
    ssl.pretrained.feature_extractor.register_forward_pre_hook(lambda _, a: heard.append(a[0]))
    wave = 3 * noise(4, 2, 8000) + torch.tensor([[0.2], [-0.5]])
    ssl.layers(wave)
    assert torch.equal(heard[0], wave)
    ssl.standardised = True
    ssl.layers(wave)
    expected = (wave - wave.mean(dim=1, keepdim=True)) / wave.std(dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(heard[1], expected, atol=1e-4, rtol=1e-4)


# What learns ------------------------------------------------------------------------------------


def modes(module: nn.Module) -> set[bool]:
    return {part.training for part in module.modules()}


def test_a_frozen_model_stays_in_eval_mode_and_takes_no_gradient() -> None:
    ssl = backbone(ssl_tune="frozen").train()
    assert modes(ssl.pretrained) == {False}
    assert ssl.norm.training
    assert modes(ssl.pool) == {True}
    wave = noise(5, 4, 8000).requires_grad_()
    before = {name: value.clone() for name, value in ssl.pretrained.state_dict().items()}
    first, second = ssl.layers(wave.detach()), ssl.layers(wave.detach())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))  # nothing drops out
    ssl(wave.unsqueeze(1)).square().sum().backward()
    assert wave.grad is None
    assert all(p.grad is None and not p.requires_grad for p in ssl.pretrained.parameters())
    learning = {name for name, p in ssl.named_parameters() if p.grad is not None}
    assert "layer_scores" in learning
    assert all(torch.equal(v, before[k]) for k, v in ssl.pretrained.state_dict().items())


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_tuned_model_learns_all_but_its_convolutions(name: str) -> None:
    ssl = backbone(ssl_tune="tuned", ssl_model=name).train()
    assert modes(ssl.pretrained.feature_extractor) == {False}
    assert modes(ssl.pretrained.encoder) == {True}
    torch.manual_seed(1)
    weights = torch.randn(1, ssl.output_dim)
    (ssl(noise(6, 4, 1, 8000)) * weights).sum().backward()
    for part, parameter in ssl.pretrained.named_parameters():
        if part.startswith("feature_extractor."):
            assert parameter.grad is None, part
        else:
            assert parameter.grad is not None, part
            assert parameter.grad.abs().sum() > 0, part
    wave = noise(7, 2, 8000)
    assert not torch.equal(ssl.layers(wave)[-1], ssl.layers(wave)[-1])  # dropout
    ssl.eval()
    assert torch.equal(ssl.layers(wave)[-1], ssl.layers(wave)[-1])


@pytest.mark.parametrize("tune", ["frozen", "tuned"])
def test_the_optimiser_holds_what_learns_each_at_its_rate(tune: str) -> None:
    config = build_config(
        changes={"backbone": "ssl", "ssl_layers": 2, "ssl_tune": tune, "lr": 0.01, "ssl_lr": 0.05}
    )
    training = Training(config, 4, 10, None)  # type: ignore[arg-type]
    made = training.configure_optimizers()
    groups = made["optimizer"].param_groups
    network = training.network
    front = [p for p in network.backbone.pretrained.encoder.parameters() if p.requires_grad]
    own = [p for p in training.parameters() if p.requires_grad and all(p is not q for q in front)]
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    warm = 1  # step of the warm-up, which takes one here
    expected = {id(p): 0.01 * warm for p in own} | {id(p): 0.0005 * warm for p in front}
    assert rates == pytest.approx(expected)
    assert bool(front) == (tune == "tuned")


def test_half_precision_trains_too() -> None:
    config = build_config(changes={"backbone": "ssl", "ssl_layers": 2, "ssl_tune": "tuned"})
    torch.manual_seed(0)
    network = Network(config).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = network(noise(8, 4, 8000))
    assert embedding.dtype == torch.float32
    (embedding * torch.randn(4, 1)).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
