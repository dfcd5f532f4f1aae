"""The separator's loss, recomputed."""

from __future__ import annotations

import math

import pytest
import torch

from embedder.separation.loop import snr_loss


def waves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    estimate, target, backing = torch.randn(3, 4, 500, generator=torch.Generator().manual_seed(0))
    return estimate, target, target + backing


def test_the_loss_is_the_distortion_to_the_mixture_in_db_and_stops_at_minus_30() -> None:
    estimate, target, mixture = waves()
    expected = 0.0
    for e, t, x in zip(estimate.tolist(), target.tolist(), mixture.tolist(), strict=True):
        distortion = math.fsum((a - b) ** 2 for a, b in zip(e, t, strict=True))
        expected += 10 * math.log10(distortion / math.fsum(a * a for a in x) + 0.001) / 4
    assert float(snr_loss(estimate, target, mixture)) == pytest.approx(expected, abs=1e-4)
    assert float(snr_loss(target, target, mixture)) == pytest.approx(-30, abs=1e-4)


def test_each_crop_counts_alike_however_loud_it_is() -> None:
    estimate, target, mixture = waves()
    gain = torch.tensor([1, 0.1, 10, 0.01])[:, None]
    scaled = snr_loss(gain * estimate, gain * target, gain * mixture)
    assert float(scaled) == pytest.approx(float(snr_loss(estimate, target, mixture)), abs=1e-3)


@pytest.mark.parametrize("silent", ["target", "everything"])
def test_silence_has_a_finite_loss_and_gradient(silent: str) -> None:
    estimate, target, mixture = waves()
    target[0] = 0
    if silent == "everything":
        mixture[0] = estimate[0] = 0
    estimate.requires_grad_()
    loss = snr_loss(estimate, target, mixture)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert estimate.grad is not None
    assert torch.isfinite(estimate.grad).all()
