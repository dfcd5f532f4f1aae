"""The voice detector's network: no ear for level, frames where they belong, songs on their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from embedder.data import voice_activity
from embedder.models import detector
from embedder.models.detector import FRAME, VoiceDetector, ZeroMeanConv
from embedder.models.network import count_parameters


@pytest.fixture
def network() -> VoiceDetector:
    torch.manual_seed(0)
    return VoiceDetector().eval()


def noise(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, samples, generator=generator)


def test_frames_are_those_of_the_energy() -> None:
    assert detector.FRAME == voice_activity.FRAME


def test_its_size_is_what_it_says(network: VoiceDetector) -> None:
    assert 100_000 < count_parameters(network) < 300_000


def test_the_first_convolution_is_a_plain_one_of_kernels_less_their_mean() -> None:
    torch.manual_seed(0)
    layer = ZeroMeanConv(5)
    mel = torch.randn(2, 1, 7, 9)
    found = layer(mel).detach()
    for channel in range(5):
        kernel = (layer.weight[channel, 0] - layer.weight[channel, 0].mean()).detach()
        for row, column in ((0, 0), (3, 4), (6, 8)):  # corners continue the edge
            slow = sum(
                float(kernel[dy, dx])
                * float(mel[1, 0, min(max(row + dy - 1, 0), 6), min(max(column + dx - 1, 0), 8)])
                for dy in range(3)
                for dx in range(3)
            )
            assert float(found[1, channel, row, column]) == pytest.approx(slow, abs=1e-5)
    moved = layer(mel + 3.7).detach()
    torch.testing.assert_close(moved, found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("gain_db", [-30, -6, 12])
def test_how_loud_a_recording_is_says_nothing(network: VoiceDetector, gain_db: float) -> None:
    wave = noise(2 * 16000)
    with torch.inference_mode():
        plain, other = network(wave), network(wave * 10 ** (gain_db / 20))
    assert float(plain.std()) > 1e-3
    torch.testing.assert_close(other, plain, atol=2e-3 * float(plain.std()), rtol=0)


def test_a_mel_frame_s_window_lies_around_the_middle_of_its_25_ms(network: VoiceDetector) -> None:
    wave = torch.zeros(1, 10 * FRAME)
    wave[0, 4 * FRAME + 600] = 1.0  # the middle of the second half of frame 4
    mel = network.features(wave)[0].exp().sum(dim=0)
    assert mel.shape == (20,)
    assert int(mel.argmax()) == 9
    torch.testing.assert_close(mel[8], mel[10], rtol=0.02, atol=0)  # as far to either side


def test_a_click_is_heard_in_its_own_frame(network: VoiceDetector) -> None:
    """Up to the recurrent layer a frame hears its neighbourhood, as far to either side."""
    wave = noise(40 * FRAME)
    changed = wave.clone()
    changed[0, 20 * FRAME : 21 * FRAME] *= 30
    with torch.inference_mode():
        one, other = (network.maps(network.features(w).unsqueeze(1)) for w in (wave, changed))
    difference = (one - other).abs().sum(dim=(0, 1, 2))
    heard = difference.nonzero().flatten().tolist()
    assert heard == list(range(20 - len(heard) // 2, 21 + len(heard) // 2))
    assert 5 <= len(heard) <= 11


def test_a_rest_of_less_than_a_frame_is_not_heard(network: VoiceDetector) -> None:
    wave = noise(5 * FRAME + 799)
    with torch.inference_mode():
        assert network(wave).shape == (1, 5)
        torch.testing.assert_close(network(wave), network(wave[:, : 5 * FRAME]))


def test_a_wave_is_heard_the_same_in_any_company(network: VoiceDetector) -> None:
    waves = noise(20 * FRAME, batch=3)
    waves[0] *= 8
    with torch.inference_mode():
        together = network(waves)
        for number in range(3):
            alone = network(waves[number : number + 1])[0]
            torch.testing.assert_close(together[number], alone, atol=1e-5, rtol=0)


def test_it_trains_under_bf16_autocast() -> None:
    torch.manual_seed(0)
    network = VoiceDetector().train()
    wave, labels = noise(20 * FRAME, batch=2), torch.zeros(2, 20)
    labels[:, 10:] = 1
    wave[:, 10 * FRAME :] = torch.sin(torch.arange(10 * FRAME) * 0.2) * 0.1
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(wave)
        assert logits.dtype == torch.float32
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(np.isfinite(losses))
