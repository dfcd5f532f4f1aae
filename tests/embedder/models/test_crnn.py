"""The CRNN of Nasrullah & Zhao 2019 by definition; CRNNM as two of them that share a GRU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.crnn import Crnn, Crnnm
from tests.embedder.models.reference import Layers, backbone, max_pool, noise, stirred


@pytest.fixture
def network() -> Crnn:
    return stirred(backbone("crnn"))  # type: ignore[no-any-return]


@pytest.fixture
def melodic() -> Crnnm:
    return stirred(backbone("crnnm"))  # type: ignore[no-any-return]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("frames", [48, 94])
def test_forward_is_that_of_the_definition(network: Crnn, frames: int) -> None:
    mel = noise(2, 2, 128, frames)
    layers = Layers(network)
    x = layers.norm(mel.double(), "norm")[:, None]
    for number, (height, width) in enumerate(((2, 2), (4, 2), (4, 2), (4, 2))):
        x = layers.conv2d(x, f"blocks.{number}.0")
        x = layers.norm(torch.where(x > 0, x, x.exp() - 1), f"blocks.{number}.2")
        x = max_pool(x[..., : x.shape[3] // width * width], height, width)
    assert x.shape[2] == 1
    out = network(mel).detach().numpy()
    for row in range(2):
        sequence = list(x[row, :, 0].numpy().T)
        for layer in range(2):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w, u, b, c = (layers[f"gru.{name}_l{layer}"].numpy() for name in names)
            hidden = np.zeros(32)
            for t, value in enumerate(sequence):
                wx, uh = np.split(w @ value + b, 3), np.split(u @ hidden + c, 3)
                reset, update = sigmoid(wx[0] + uh[0]), sigmoid(wx[1] + uh[1])
                new = np.tanh(wx[2] + reset * uh[2])
                hidden = (1 - update) * new + update * hidden
                sequence[t] = hidden
        np.testing.assert_allclose(out[row], sequence[-1], atol=1e-4)


# The melody branch --------------------------------------------------------------------------------


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
    crnn = backbone("crnn")
    state = dict(network.state_dict())
    blocks = "blocks" if half == 0 else "melody_blocks"
    own = {name: state[name.replace("blocks", blocks)] for name in crnn.state_dict()}
    own["gru.weight_ih_l0"] = own["gru.weight_ih_l0"][:, 128 * half : 128 * (half + 1)]
    crnn.load_state_dict(own)
    return crnn.eval()  # type: ignore[no-any-return]


def test_without_the_melody_it_is_the_crnn(melodic: Crnnm) -> None:
    melodic.gru.weight_ih_l0.data[:, 128:] = 0
    rows = rows_of(0)
    torch.testing.assert_close(melodic(rows), as_crnn(melodic, 0)(rows[:, :128]))


def test_the_melody_s_branch_is_a_crnn_on_the_normed_image(melodic: Crnnm) -> None:
    melodic.gru.weight_ih_l0.data[:, :128] = 0
    rows = rows_of(1)
    crnn = as_crnn(melodic, 1)
    crnn.norm = nn.Identity()
    image = melodic.melody_norm(rows[:, None, 128:])[:, 0]
    torch.testing.assert_close(melodic(rows), crnn(image))


def test_the_branches_meet_before_the_gru(melodic: Crnnm) -> None:
    """A step of the GRU takes the mels' 128 maps, then the melody's."""
    given: list[Tensor] = []
    melodic.gru.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    rows = rows_of(2)
    out = melodic(rows)
    mels = melodic.blocks(melodic.norm(rows[:, :128])[:, None])
    melody = melodic.melody_blocks(melodic.melody_norm(rows[:, None, 128:]))
    expected = torch.cat([mels[:, :, 0], melody[:, :, 0]], dim=1).transpose(1, 2)
    torch.testing.assert_close(given[0], expected)
    torch.testing.assert_close(out, melodic.gru(expected)[0][:, -1])
    for half in (slice(0, 128), slice(128, 256)):
        other = rows.clone()
        other[:, half] = rows_of(4)[:, half]
        assert (melodic(other) - out).abs().max() > 1e-4


def test_a_pitch_that_training_never_had_is_as_loud_as_any_other(melodic: Crnnm) -> None:
    norm = melodic.melody_norm.train()
    for seed in range(50):
        norm(rows_of(seed)[:, None, 128:])  # melodies below the 40th band
    image = torch.zeros(1, 1, 128, 16)
    image[:, :, 20, 3] = image[:, :, 90, 5] = 1
    normed = norm.eval()(image).detach()[0, 0]
    assert float(normed[20, 3]) == float(normed[90, 5]) < 30
