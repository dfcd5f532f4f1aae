"""Published self-supervised weights: found, cut to the layers used, put in strictly, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from embedder.artifact import file_fingerprint
from embedder.catalogue import read_catalogue
from embedder.cli.options import train_embedder
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import load_member
from embedder.inference.embed import embed_split
from embedder.models.network import Network
from embedder.models.ssl import BASE, PRETRAINED
from embedder.run import Run
from embedder.settings import build_config
from embedder.training.members import train_member
from embedder.training.warm_start import published_start

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
    start = published_start(config_of(ssl_model=name), path)
    assert start is not None
    assert start.name == path.name
    assert start.fingerprint == file_fingerprint(path)
    network = Network(config_of(ssl_model=name)).eval()
    start.apply(network)
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
            published_start(config_of(ssl_model=name))
        where = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
        assert str(error.value) == (
            f"no weights for ssl_model {name}: put {url} at {where}, or name a copy of it with "
            "--weights FILE"
        )
        where.parent.mkdir(parents=True, exist_ok=True)
        saved(whole_model(name).state_dict(), where)
        start = published_start(config_of(ssl_model=name))
        assert start is not None
        assert start.fingerprint == file_fingerprint(where)


def test_other_backbones_take_no_weights(tmp_path: Path) -> None:
    assert published_start(build_config()) is None
    with pytest.raises(UserError, match="--backbone ecapa takes no --weights; ssl does"):
        published_start(build_config(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"--weights .*w\.pt is no file"):
        published_start(config_of(), tmp_path / "w.pt")


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
    start = published_start(config, path)
    assert start is not None
    expected = r"w\.pt does not hold the weights that ssl_model and ssl_layers ask for"
    with pytest.raises(UserError, match=expected) as error:
        start.apply(Network(config))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_holds_no_tensors_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"no weights")
    start = published_start(config_of(), path)
    assert start is not None
    with pytest.raises(UserError, match=rf"w\{suffix} (holds no weights|is no readable)"):
        start.apply(Network(config_of()))


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
    start = published_start(config, path)
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
