"""What tests of networks share: inputs, networks with stirred norms, and layers by definition.

The layers are computed in double precision from a network's own weights, without its modules.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.architectures import ARCHITECTURES
from embedder.models.network import builder
from embedder.settings import build_config

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def noise(seed: int, *shape: int, mean: float = 0.0, spread: float = 1.0) -> Tensor:
    """Gaussian numbers, float32."""
    values = np.random.default_rng(seed).normal(mean, spread, shape)
    return torch.from_numpy(values.astype(np.float32))


def stirred(network: nn.Module, low: float = 0.5, high: float = 1.5) -> Any:
    """In eval mode, with batch norms that differ from the identity."""
    for module in network.modules():
        if isinstance(module, NORMS):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                if values is not None:
                    nn.init.uniform_(values, low, high)
    return network.eval()


def backbone(name: str, preset: str = "laptop", **changes: Any) -> Any:
    """A backbone of random weights, with a preset's and the given settings."""
    torch.manual_seed(0)
    config = build_config(preset, changes={"backbone": name} | changes)
    return builder(ARCHITECTURES[name].builder)(config.features, config.model)


class Layers:
    """The layers of a network by definition; `name` is a module's place in it."""

    def __init__(self, network: nn.Module) -> None:
        self.state = {k: v.detach().double() for k, v in network.state_dict().items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Batch norm in eval mode of `(batch, channels, …)`, with or without gain and shift."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        mean, var = (self.state[f"{name}.running_{part}"].view(shape) for part in ("mean", "var"))
        x = (x - mean) / (var + 1e-5).sqrt()
        if f"{name}.weight" not in self.state:
            return x
        return x * self.state[f"{name}.weight"].view(shape) + self.state[f"{name}.bias"].view(shape)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def conv1d(self, x: Tensor, name: str, **options: int) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return functional.conv1d(x, weight.flatten(2), bias, **options)

    def conv2d(self, x: Tensor, name: str, stride: Any = 1) -> Tensor:
        """Of odd kernels, with as many zeros around as keep the size at stride 1."""
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return functional.conv2d(x, weight, bias, stride, weight.shape[2] // 2)

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def block(self, x: Tensor, name: str, stride: Any = 1) -> Tensor:
        """The residual block of He et al.; a shortcut where it has one."""
        inner = self.norm(self.conv2d(x, f"{name}.layers.0", stride), f"{name}.layers.1")
        inner = self.norm(self.conv2d(inner.clamp(min=0), f"{name}.layers.3"), f"{name}.layers.4")
        if f"{name}.shortcut.0.weight" in self.state:
            x = self.norm(self.conv2d(x, f"{name}.shortcut.0", stride), f"{name}.shortcut.1")
        return (inner + x).clamp(min=0)


def max_pool(x: Tensor, height: int, width: int) -> Tensor:
    """Maxima of windows; one that reaches over the end holds what is there."""
    rows, columns = math.ceil(x.shape[2] / height), math.ceil(x.shape[3] / width)
    out = torch.empty(*x.shape[:2], rows, columns, dtype=x.dtype)
    for r in range(rows):
        for c in range(columns):
            window = x[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
            out[:, :, r, c] = window.flatten(2).max(dim=2).values
    return out
