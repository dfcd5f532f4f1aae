"""The whole way from a waveform to a unit embedding, and what it costs to compute."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha, mkldnn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embedder.architectures import ARCHITECTURES, FRONTENDS
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.errors import UserError, did_you_mean
from embedder.models.separators.vocal_separator import VocalSeparator


def builder(name: str) -> Callable[..., Any]:
    """The class that `module:Class` below `embedder.models` names; imported only now."""
    module, _, attribute = name.partition(":")
    built: Callable[..., Any] = getattr(import_module(f"embedder.models.{module}"), attribute)
    return built


class Network(nn.Module):
    """Features, a backbone, a linear projection with batch norm, unit length.

    With `stem` separated a frozen separator stands before the features.
    """

    separator: VocalSeparator | None

    def __init__(self, config: MemberConfig) -> None:
        super().__init__()
        architecture = ARCHITECTURES[config.model.backbone]
        separated = config.train.stem == "separated"
        self.separator = VocalSeparator(config.separator) if separated else None
        if self.separator is not None:
            self.separator.eval().requires_grad_(False)
        self.features = builder(FRONTENDS[architecture.frontend])(config.features)
        self.backbone = builder(architecture.builder)(config.features, config.model)
        self.projection = nn.Sequential(
            nn.Linear(self.backbone.output_dim, config.model.embedding_dim),
            nn.BatchNorm1d(config.model.embedding_dim),
        )

    def train(self, mode: bool = True) -> Network:
        """As usual, but the separator is never trained."""
        super().train(mode)
        if self.separator is not None:
            self.separator.eval()
        return self

    def extract_features(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` or what is separated of it → `features (batch, rows, frames)`."""
        if self.separator is not None:
            with torch.no_grad():
                wave = self.separator(wave)
        features: Tensor = self.features(wave)
        return features

    def embed_features(self, features: Tensor) -> Tensor:
        """`features (batch, rows, frames)` → `embedding (batch, dim)`, float32, unit length."""
        return functional.normalize(self.projection(self.backbone(features)).float(), dim=1)

    def forward(self, wave: Tensor) -> Tensor:
        """`wave (batch, samples)` → `embedding (batch, dim)`, float32, unit length."""
        return self.embed_features(self.extract_features(wave))


def margin_free_logits(embedding: Tensor, head: Tensor, scale: float, centres: int = 1) -> Tensor:
    """Cosines to the class weights, times the training's scale, without any margin.

    `embedding (batch, dim)` of unit length, `head (singers × centres, dim)`, a singer's rows
    together → `logits (batch, singers)`. Of a singer's several centres the nearest counts.
    """
    cosines = scale * embedding @ functional.normalize(head, dim=1).T
    return cosines if centres == 1 else cosines.view(embedding.shape[0], -1, centres).amax(dim=2)


def count_parameters(network: nn.Module) -> int:
    """Numbers in a network that training finds: by gradient, and what is fitted without one."""
    learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fitted = (part for part in network.modules() if getattr(part, "fits_buffers", False))
    return learnt + sum(b.numel() for part in fitted for b in part.buffers())


DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    "cpu": lambda: True,
}


def default_device(name: str) -> torch.device:
    """`auto` → the first of `DEVICES` that is there; any other name → that device.

    Raises:
        UserError: no such device, or not on this machine.
    """
    present = [device for device, available in DEVICES.items() if available()]
    chosen = present[0] if name == "auto" else name
    if chosen not in present:
        raise UserError(
            f"--device {name}{did_you_mean(name, present)} is not legal here; "
            f"it must be auto | {' | '.join(sorted(present))}"
        )
    return torch.device(chosen)


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


TRIM_THRESHOLD, MMAP_MAX = -1, -4  # the parameters' numbers in glibc's malloc.h
NEVER = 2**31 - 1  # bytes free at the end of the heap from which it would shrink


def reuse_freed_memory() -> bool:
    """Tell malloc to keep what is freed; whether it took the setting (False where not glibc).

    A step on the CPU makes and frees tensors of tens of megabytes. glibc would hand such blocks
    back to the system and ask for them again, and the system clears every page of them each time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
