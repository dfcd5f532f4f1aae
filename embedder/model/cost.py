"""How large a network is, and how much it multiplies, before anything is trained.

Enters: a `MemberConfig`, or a module and its input. Leaves: how many weights and multiply-adds.

Counted are the products of convolutions, matrix products, recurrent layers and attention. Not
counted are the Fourier transform, factorisations, and what is done once an element: norms,
activations, pooling, masks, sums.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.backends import mha, mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embedder.architectures import ARCHITECTURES
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.model.network import Network, count_parameters


@dataclass(frozen=True)
class Size:
    """What a network holds and what it does for a second of audio."""

    parameters: int  # trained, frozen or fitted; neither running statistics nor mel filters
    trainable: int  # those of them that learn by gradient
    multiply_adds: float  # in a second of audio, features included, the loss's head not


def size_of(config: MemberConfig) -> Size:
    """The size of a member's network; its multiply-adds are those of one training crop's length."""
    with torch.random.fork_rng(devices=[]):
        network = Network(config).eval()
    samples = round(config.train.segment_s * SAMPLE_RATE)
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(1, samples, generator=generator)
    fitted = ARCHITECTURES[config.model.backbone].fitted
    # What is fitted instead of trained stands in buffers; its projection is fitted too.
    held = [*network.parameters(), *(network.backbone.buffers() if fitted else ())]
    return Size(
        parameters=sum(tensor.numel() for tensor in held),
        trainable=0 if fitted else count_parameters(network),
        multiply_adds=multiply_adds(network, wave) * SAMPLE_RATE / samples,
    )


def multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """Multiplications with an addition in one forward pass on the CPU, by the products' shapes."""
    with _products_in_sight(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    operations: int = counter.get_total_flops()
    return operations // 2


@contextmanager
def _products_in_sight() -> Iterator[None]:
    """Attention and recurrent layers step by step: fused, they hide what they multiply."""
    fused = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # Switching oneDNN off and on speaks of another switch, of Intel's GPUs.
            warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
            with mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
    finally:
        mha.set_fastpath_enabled(fused)
