"""CRNNM: two branches that meet before the GRU, each of them the CRNN's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.crnn import Crnn, Crnnm
from embedder.models.network import count_parameters
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "crnnm"})


@pytest.fixture
def network() -> Crnnm:
    torch.manual_seed(0)
    network = Crnnm(PAPER.features, PAPER.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def rows_of(seed: int, batch: int = 2, frames: int = 48) -> Tensor:
    """Mels at random, and a melody of one entry a frame below the 40th band."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(batch, 256, frames)).astype(np.float32)
    rows[:, 128:] = 0
    for row, frame in np.ndindex(batch, frames):
        rows[row, 128 + rng.integers(40), frame] = rng.uniform(0.2, 1)
    return torch.from_numpy(rows)


def as_crnn(network: Crnnm, half: int) -> Crnn:
    """The CRNN that one branch and its half of the GRU's inputs make."""
    crnn = Crnn(PAPER.features, PAPER.model)
    state = dict(network.state_dict())
    blocks = "blocks" if half == 0 else "melody_blocks"
    own = {name: state[name.replace("blocks", blocks)] for name in crnn.state_dict()}
    own["gru.weight_ih_l0"] = own["gru.weight_ih_l0"][:, 128 * half : 128 * (half + 1)]
    crnn.load_state_dict(own)
    return crnn.eval()


def test_without_the_melody_it_is_the_crnn(network: Crnnm) -> None:
    network.gru.weight_ih_l0.data[:, 128:] = 0
    rows = rows_of(0)
    torch.testing.assert_close(network(rows), as_crnn(network, 0)(rows[:, :128]))


def test_the_melody_s_branch_is_a_crnn_on_the_normed_image(network: Crnnm) -> None:
    network.gru.weight_ih_l0.data[:, :128] = 0
    rows = rows_of(1)
    crnn = as_crnn(network, 1)
    crnn.norm = nn.Identity()
    image = network.melody_norm(rows[:, None, 128:])[:, 0]
    torch.testing.assert_close(network(rows), crnn(image))


def test_the_branches_meet_before_the_gru(network: Crnnm) -> None:
    """What the GRU hears of a step is the mels' 128 maps, then the melody's."""
    heard: list[Tensor] = []
    network.gru.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    rows = rows_of(2)
    out = network(rows)
    mels = network.blocks(network.norm(rows[:, :128])[:, None])
    melody = network.melody_blocks(network.melody_norm(rows[:, None, 128:]))
    expected = torch.cat([mels[:, :, 0], melody[:, :, 0]], dim=1).transpose(1, 2)
    assert heard[0].shape == (2, 3, 256)
    torch.testing.assert_close(heard[0], expected)
    torch.testing.assert_close(out, network.gru(expected)[0][:, -1])


def test_both_halves_of_the_input_matter(network: Crnnm) -> None:
    rows = rows_of(3)
    for half in (slice(0, 128), slice(128, 256)):
        other = rows.clone()
        other[:, half] = rows_of(4)[:, half]
        assert (network(other) - network(rows)).abs().max() > 1e-4


def test_a_pitch_that_training_never_had_is_as_loud_as_any_other(network: Crnnm) -> None:
    norm = network.melody_norm.train()
    for seed in range(50):
        norm(rows_of(seed)[:, None, 128:])  # melodies below the 40th band
    image = torch.zeros(1, 1, 128, 16)
    image[:, :, 20, 3] = image[:, :, 90, 5] = 1
    normed = norm.eval()(image).detach()[0, 0]
    assert float(normed[20, 3]) == float(normed[90, 5]) < 30


def test_parameters_are_those_of_two_branches() -> None:
    convs = sum(9 * i * o + o + 2 * o for i, o in ((1, 64), (64, 128), (128, 128), (128, 128)))
    grus = sum(3 * 32 * (inputs + 32) + 2 * 3 * 32 for inputs in (256, 32))
    network = Crnnm(PAPER.features, PAPER.model)
    assert count_parameters(network) == 2 * 128 + 2 + 2 * convs + grus
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.1] * 8 + [0.3]
