"""Members that hear the mixture through the run's own separator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from embedder.artifact import read_json, write_json
from embedder.catalogue import read_catalogue
from embedder.config import MemberConfig, SeparatorConfig
from embedder.data.cache import AudioCache
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.embed import embed_split, embed_wave
from embedder.models.network import Network, count_parameters
from embedder.models.separators.own import save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.settings import config_from_dict
from embedder.training.members import train_member

Tiny = Callable[..., MemberConfig]
SHAPE = SeparatorConfig(
    separator_n_fft=256, separator_hop=128, separator_hidden=8, separator_layers=1
)


def wave(rows: int = 3, samples: int = 16000) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


def separator(seed: int = 1, shape: SeparatorConfig = SHAPE) -> VocalSeparator:
    torch.manual_seed(seed)
    made = VocalSeparator(shape)
    made(wave())
    return made.eval().requires_grad_(False)


def give_separator(run: Run, made: VocalSeparator) -> VocalSeparator:
    songs = read_catalogue(run.catalogue).of("train")
    save_vocal_separator(run, made, {"songs": [song.id for song in songs]})
    return made


def train(run: Run, config: MemberConfig, **options: Any) -> tuple[Member, str]:
    said: list[str] = []
    catalogue = read_catalogue(run.catalogue)
    options = {"device": "cpu", "say": said.append, **options}
    return train_member(run, catalogue, "m", config, **options), "\n".join(said)


@pytest.fixture
def separated(tiny: Tiny) -> MemberConfig:
    return tiny(stem="separated", epochs=1, **SHAPE.model_dump())


def test_it_hears_what_the_separator_gives(separated: MemberConfig, tiny: Tiny) -> None:
    torch.manual_seed(0)
    network = Network(separated).eval()
    plain = Network(tiny(epochs=1)).eval()
    own = separator()
    network.load_state_dict(
        plain.state_dict() | {f"separator.{k}": v for k, v in own.state_dict().items()}
    )
    with torch.no_grad():
        heard = network(wave())
        torch.testing.assert_close(heard, plain(own(wave())))
        assert not torch.allclose(heard, plain(wave()), atol=1e-3)


def test_the_separator_is_never_trained(separated: MemberConfig) -> None:
    network = Network(separated).train()
    assert network.separator is not None
    before = {name: tensor.clone() for name, tensor in network.separator.state_dict().items()}
    network(wave()).square().sum().backward()
    assert network.backbone.training
    assert not network.separator.training
    assert all(p.grad is None for p in network.separator.parameters())
    for name, tensor in network.separator.state_dict().items():
        assert tensor.equal(before[name]), name
    assert network.eval().train().separator is network.separator
    assert not network.separator.network.bn1.training


def test_its_parameters_are_not_counted_as_trainable(separated: MemberConfig, tiny: Tiny) -> None:
    assert count_parameters(Network(separated)) == count_parameters(Network(tiny(epochs=1)))


def test_without_it_no_network_has_one(tiny: Tiny) -> None:
    for stem in ("mix", "vocals", "both"):
        assert not any("separator" in name for name in Network(tiny(stem=stem)).state_dict())


def test_a_member_is_trained_saved_and_heard_with_the_runs_separator(
    prepared: Run, tiny: Tiny
) -> None:
    own = give_separator(prepared, separator())
    _, said = train(prepared, tiny(stem="separated", epochs=2))
    assert "what the run's own separator takes for vocals in mixtures" in said
    member = load_member(prepared, "m")
    assert member.config.separator == SHAPE  # not the default, which was in the config
    assert member.network.separator is not None
    for name, tensor in member.network.separator.state_dict().items():
        assert tensor.equal(own.state_dict()[name]), name

    own_folder = prepared.separator
    own_folder.rename(own_folder.with_name("gone"))  # a member needs nothing but itself
    catalogue = read_catalogue(prepared.catalogue)
    store = embed_split(prepared, catalogue, member, "validation")
    song = catalogue.of("validation")[0]
    samples = AudioCache(prepared.cache).samples(song.audio)
    vectors = embed_wave(member, samples)
    first = store.segment_embeddings[store.segment_song == 0]
    np.testing.assert_array_equal(first, vectors.embeddings)
    segment = torch.from_numpy(samples[: 2 * 16000].astype(np.float32) / 32768)[None]
    with torch.no_grad():
        heard = member.network.embed_features(member.network.features(own(segment)))[0]
    np.testing.assert_allclose(vectors.embeddings[0], heard.numpy(), atol=1e-4)


def test_a_run_without_separator_names_the_command(prepared: Run, tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"no separator of its own; .*app\.py train-separator"):
        train(prepared, tiny(stem="separated", epochs=1))
    assert not prepared.member("m").exists()


def test_another_separator_makes_it_another_member(prepared: Run, tiny: Tiny) -> None:
    config = tiny(stem="separated", epochs=1)
    give_separator(prepared, separator())
    first, _ = train(prepared, config)
    again, said = train(prepared, config)
    assert "already trained" in said
    assert again.checkpoint == first.checkpoint
    give_separator(prepared, separator(seed=2))
    with pytest.raises(UserError, match=r"member m is already there with another separator;"):
        train(prepared, config)
    other, _ = train(prepared, config, overwrite=True)
    assert other.checkpoint != first.checkpoint


def test_members_that_were_trained_before_there_were_separators_still_count(
    prepared: Run, tiny: Tiny
) -> None:
    train(prepared, tiny(epochs=1))
    settings = prepared.resume("m") / "settings.json"
    found = read_json(settings)
    assert found.pop("separator") == ""
    write_json(settings, found)
    _, said = train(prepared, tiny(epochs=1))
    assert "already trained" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"separator_hop": 1024}, "separator_hop must not be above half of separator_n_fft"),
        ({"separator_hidden": 33}, "separator_hidden must be even"),
        ({"separator_layers": 0}, "separator_layers = 0 is not legal"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_from_dict(values)
