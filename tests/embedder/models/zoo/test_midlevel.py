"""Timbral and mid-level features beside the CRNN: what joins where, how descriptors are normed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder.models.crnn import Crnn
from embedder.models.network import count_parameters
from embedder.models.zoo.midlevel import (
    LEARNT,
    MID_LEVEL_ROWS,
    MUSIC_ROWS,
    TIMBRE_ROWS,
    MidLevel,
    Standard,
)
from embedder.settings import build_config

PAPER = build_config(changes={"backbone": "midlevel"})
ENDS = np.cumsum([0, 128, TIMBRE_ROWS, MUSIC_ROWS, MID_LEVEL_ROWS])
MEL, TIMBRE, MUSIC, MID = (slice(a, b) for a, b in itertools.pairwise(ENDS))


@pytest.fixture
def network() -> MidLevel:
    torch.manual_seed(0)
    network = MidLevel(PAPER.features, PAPER.model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                if values is not None:
                    nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def rows_of(seed: int, batch: int = 2, frames: int = 53) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(batch, ENDS[-1], frames))
    values[:, MID] = values[:, MID, :1]
    return torch.from_numpy(values.astype(np.float32))


def test_a_standard_row_has_mean_0_and_deviation_1_and_no_outliers() -> None:
    standard = Standard(3).train()
    rows = 5 + 2 * torch.randn(64, 3, 50, generator=torch.Generator().manual_seed(0))
    rows[0, 1, 0] = 1000
    out = standard(rows)
    assert out[:, [0, 2]].mean(dim=(0, 2)).abs().max() < 1e-2
    assert (out[:, [0, 2]].std(dim=(0, 2)) - 1).abs().max() < 1e-2
    assert float(out.max()) == float(out[0, 1, 0]) == 4
    assert float(standard.eval()(-rows).min()) == -4
    assert not list(standard.parameters())


def test_steps_carry_the_means_and_deviations_of_sixteen_frames(network: MidLevel) -> None:
    timbre = rows_of(0)[:, TIMBRE]
    found = network.of_steps(timbre)
    assert found.shape == (2, 3, 2 * TIMBRE_ROWS)
    normed = network.timbre_norm(timbre).double().numpy()
    for item, step, row in np.ndindex(2, 3, TIMBRE_ROWS):
        piece = normed[item, row, 16 * step : 16 * (step + 1)]
        assert float(found[item, step, row]) == pytest.approx(np.mean(piece), abs=1e-5)
        assert float(found[item, step, TIMBRE_ROWS + row]) == pytest.approx(np.std(piece), abs=1e-5)


def test_without_timbre_its_first_numbers_are_the_crnn_s(network: MidLevel) -> None:
    network.gru.weight_ih_l0.data[:, 128:] = 0
    crnn = Crnn(PAPER.features, PAPER.model)
    state = network.state_dict()
    own = {name: state[name] for name in crnn.state_dict()}
    own["gru.weight_ih_l0"] = own["gru.weight_ih_l0"][:, :128]
    crnn.load_state_dict(own)
    rows = rows_of(1)
    torch.testing.assert_close(network(rows)[:, :32], crnn.eval()(rows[:, MEL]))


def test_timbre_joins_the_frames_before_the_gru(network: MidLevel) -> None:
    heard: list[Tensor] = []
    network.gru.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    rows = rows_of(2)
    out = network(rows)
    maps = network.blocks(network.norm(rows[:, MEL])[:, None])[:, :, 0].transpose(1, 2)
    timbre = network.timbre(network.of_steps(rows[:, TIMBRE]))
    torch.testing.assert_close(heard[0], torch.cat([maps, timbre], dim=2))
    torch.testing.assert_close(out[:, :32], network.gru(heard[0])[0][:, -1])


def test_mid_level_features_come_last_learnt_then_computed(network: MidLevel) -> None:
    rows = rows_of(3)
    out = network(rows)
    assert out.shape == (2, network.output_dim) == (2, 32 + LEARNT + MID_LEVEL_ROWS) == (2, 64)
    torch.testing.assert_close(out[:, 32 : 32 + LEARNT], network.music(rows[:, MUSIC]))
    norm = network.mid_level_norm.norm
    values = rows[:, MID, 0].double()
    expected = (values - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    torch.testing.assert_close(out[:, -MID_LEVEL_ROWS:].double(), expected.clamp(-4, 4))


def test_each_group_of_rows_reaches_its_own_numbers(network: MidLevel) -> None:
    rows = rows_of(4)
    out = network(rows)
    reached = {"crnn": slice(0, 32), "learnt": slice(32, 32 + LEARNT), "computed": slice(-7, None)}
    groups = {"mel": (MEL, "crnn"), "timbre": (TIMBRE, "crnn"), "music": (MUSIC, "learnt")}
    for group, (place, numbers) in {**groups, "mid": (MID, "computed")}.items():
        other = rows.clone()
        other[:, place] = rows_of(5)[:, place]
        changed = (network(other) - out).abs().amax(dim=0) > 1e-6
        for name, part in reached.items():
            assert bool(changed[part].any()) == (name == numbers), (group, name)


def test_parameters_are_the_crnn_s_and_two_small_branches() -> None:
    crnn = count_parameters(Crnn(PAPER.features, PAPER.model))
    timbre = 2 * TIMBRE_ROWS * 64 + 64 + 3 * 32 * 64  # the last: more inputs of the GRU
    music = 5 * MUSIC_ROWS * 64 + 64 + 128 + 5 * 64 * 64 + 64 + 128 + 128 * LEARNT + LEARNT
    assert count_parameters(MidLevel(PAPER.features, PAPER.model)) == crnn + timbre + music
