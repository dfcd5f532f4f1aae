"""The self-supervised front end: torchaudio's own layers, what learns, and published weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from safetensors.torch import save_file
from torch import Tensor, nn
from torchaudio.pipelines import HUBERT_BASE, WAV2VEC2_BASE, WAVLM_BASE_PLUS

from embedder.artifact import file_fingerprint
from embedder.catalogue import read_catalogue
from embedder.cli.train import train_embedder
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import load_member
from embedder.inference.embed import embed_split
from embedder.models.network import Network
from embedder.models.ssl import BASE, PRETRAINED, Ssl
from embedder.run import Run
from embedder.settings import SETTINGS, build_config
from embedder.training.members import train_member
from embedder.training.module import MemberModule
from embedder.training.warm_start import published_weights

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
    assert tuple(PRETRAINED) == SETTINGS["ssl_model"].choices


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
    training = MemberModule(config, 4, 10, None)  # type: ignore[arg-type]
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


# Published weights --------------------------------------------------------------------------------

OLD = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


def config_of(**changes: Any) -> MemberConfig:
    return build_config(changes={"backbone": "ssl", "ssl_layers": 2} | changes)


def whole_model(name: str, layers: int = 4) -> nn.Module:
    """A published model of random weights, with more layers than a member uses."""
    spec = PRETRAINED[name]
    torch.manual_seed(11)
    model = spec.build(**{**BASE, **spec.options, "encoder_num_layers": layers}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def saved(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_s_layers_are_heard_as_torchaudio_hears_them(
    name: str, suffix: str, tmp_path: Path
) -> None:
    model = whole_model(name)
    state = model.state_dict() | {"aux.weight": torch.zeros(3, 3), "aux.bias": torch.zeros(3)}
    if suffix == ".pth":  # as the published files are: from before torch's parametrisations
        for new, old in OLD.items():
            state = {key.replace(new, old): value for key, value in state.items()}
        assert any(key.endswith("weight_g") for key in state)
    path = saved(state, tmp_path / f"w{suffix}")
    start = published_weights(config_of(ssl_model=name), path)
    assert start is not None
    assert start.name == path.name
    assert start.fingerprint == file_fingerprint(path)
    network = Network(config_of(ssl_model=name)).eval()
    start.load(network)
    wave = 0.1 * torch.randn(2, 6000)
    theirs, _ = model.extract_features(wave, num_layers=2)
    ours = network.backbone.layers(wave)[1:]
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_without_a_file_it_says_which_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", None)  # nothing may be fetched
    for name, spec in PRETRAINED.items():
        url = spec.file.url
        with pytest.raises(UserError) as error:
            published_weights(config_of(ssl_model=name))
        where = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
        assert str(error.value) == (
            f"no weights for ssl_model {name}: put {url} at {where}, or name a copy of it with "
            "--weights FILE"
        )
        where.parent.mkdir(parents=True, exist_ok=True)
        saved(whole_model(name).state_dict(), where)
        start = published_weights(config_of(ssl_model=name))
        assert start is not None
        assert start.fingerprint == file_fingerprint(where)


def test_other_backbones_take_no_weights(tmp_path: Path) -> None:
    assert published_weights(build_config()) is None
    with pytest.raises(UserError, match="--backbone ecapa takes no --weights; ssl does"):
        published_weights(build_config(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"--weights .*w\.pt is no file"):
        published_weights(config_of(), tmp_path / "w.pt")


Change = Callable[[dict[str, Tensor]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "one is missing": (
        lambda s: s.pop("encoder.transformer.layers.1.final_layer_norm.bias"),
        "Missing key",
    ),
    "one is foreign": (lambda s: s.update(mask=torch.zeros(1)), "Unexpected key"),
    "another size": (
        lambda s: s.update({"encoder.feature_projection.projection.bias": torch.zeros(5)}),
        "size mismatch",
    ),
    "fewer layers": (
        lambda s: [s.pop(k) for k in list(s) if ".layers.1." in k and "transformer" in k],
        "Missing key",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_do_not_fit_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, said = WRONG[case]
    state = whole_model("hubert_base", layers=2).state_dict()
    change(state)
    path = saved(state, tmp_path / "w.pt")
    config = config_of(ssl_model="hubert_base")
    start = published_weights(config, path)
    assert start is not None
    expected = r"w\.pt does not hold the weights that ssl_model and ssl_layers ask for"
    with pytest.raises(UserError, match=expected) as error:
        start.load(Network(config))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_holds_no_tensors_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"no weights")
    start = published_weights(config_of(), path)
    assert start is not None
    with pytest.raises(UserError, match=rf"w\{suffix} (holds no weights|is no readable)"):
        start.load(Network(config_of()))


def test_the_command_takes_a_file_for_ssl_alone(
    prepared: Run, tmp_path: Path, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(whole_model("hubert_base").state_dict(), tmp_path / "own.pt")
    settings = [*tiny_options[1::2], "ssl_model=hubert_base"]
    here: dict[str, Any] = {"run_dir": prepared.root, "device": "cpu", "settings": settings}
    with pytest.raises(UserError, match="--backbone ivector takes no --weights; ssl does"):
        train_embedder(backbone="ivector", weights=path, **here)
    assert prepared.member_names() == []
    train_embedder(backbone="ssl", weights=path, name="m", **here)
    assert "m begins from own.pt" in capsys.readouterr().out
    with pytest.raises(UserError, match="m is already there with another start"):
        train_embedder(backbone="ssl", name="m", **here)  # the file in torch's cache is another


def test_a_trained_member_needs_the_file_no_more(
    prepared: Run, tmp_path: Path, tiny: Callable[..., MemberConfig]
) -> None:
    model = whole_model("wavlm_base_plus")
    path = saved(model.state_dict(), tmp_path / "w.safetensors")
    config = tiny(backbone="ssl", ssl_layers=2)
    said: list[str] = []
    catalogue = read_catalogue(prepared.catalogue)
    start = published_weights(config, path)
    train_member(prepared, catalogue, "m", config, start=start, device="cpu", say=said.append)
    assert "m begins from w.safetensors" in said
    path.unlink()
    member = load_member(prepared, "m")
    assert embed_split(prepared, catalogue, member, "validation").embeddings.shape == (4, 16)
    trained = member.network.backbone.pretrained.state_dict()
    for name, tensor in model.state_dict().items():
        if (
            ".layers.2." not in name.replace("conv_layers", "")
            and "transformer.layers.3" not in name
        ):
            assert torch.equal(trained[name], tensor), name  # frozen: as they were
