"""The CRNN with a fully generalised non-local block (Kuo, Wei, Lin: AAAI 2021).

Maps `mel (batch, mels, frames)` to `(batch, 32)`, before the projection.

The block relates each position of the last convolutional block's maps to all positions of the last
two, channel to channel and across channels. For that there must be positions: the published network
halves both axes where the CRNN takes a quarter of the bands, and so does this one. It does so in
the first block too, where the published one does not pool at all: a quarter of the arithmetic is
left, and 8 of 128 bands where there would be 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.config import FeatureConfig, ModelConfig
from embedder.models.crnn import CHANNELS, HIDDEN, bands_left, convolutions, recurrence, steps_of

POOLS = ((2, 2), (2, 2), (2, 2), (2, 2))  # mel bands × frames
REDUCTION = 32  # channels for one of the block's own
KERNEL = 5  # positions across the Gaussian
SIGMA = 0.707  # of the Gaussian, in positions
GATE = 16  # hidden units of the modified squeeze-excitation


def gaussian() -> Tensor:
    """The Gaussian `(5, 5)` that smooths maps; its entries sum to 1."""
    places = torch.arange(KERNEL) - KERNEL // 2
    profile = torch.exp(-places.square() / (2 * SIGMA**2))
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


class Projection(nn.Module):
    """A 1×1 convolution, then the fixed Gaussian on each channel by itself; positions in a row."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)
        kernel = gaussian().expand(outputs, 1, KERNEL, KERNEL).clone()
        self.kernel: Tensor
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """`maps (batch, inputs, bands, steps)` → `(batch, outputs, bands·steps)`."""
        reduced = self.conv(maps)
        smooth = functional.conv2d(
            reduced, self.kernel, padding=KERNEL // 2, groups=len(self.kernel)
        )
        return smooth.flatten(2)


class RollGate(nn.Module):
    """Modified squeeze-excitation (eq. 8): a share for each roll, and the shares sum to 1.

    A roll's mean over all of its numbers goes through two layers that are the same for every roll;
    then softmax over the rolls. The last layer has no bias: softmax would not notice it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, GATE), nn.ReLU(), nn.Linear(GATE, 1, bias=False))

    def forward(self, rolls: Tensor) -> Tensor:
        """`rolls (batch, rolls, channels, positions)` → the same shape, each roll rescaled."""
        means = rolls.mean(dim=(2, 3)).unsqueeze(2)
        shares = torch.softmax(self.layers(means).float(), dim=1)
        return rolls * shares.unsqueeze(3).to(rolls.dtype)


class FullyGeneralisedNonLocal(nn.Module):
    """Attention over positions, channels and layers, added to the maps that ask (figure 2).

    θ comes from the last maps, φ and g from the maps of all layers, their positions in one row
    (eqs. 2 to 4). φ is rolled along its channels by k = 0, 1, …, so that over all rolls each
    channel of θ meets each of φ; for roll k, softmax(θᵀ φₖ) weighs the positions of g, a row of it
    for each position that asks (eqs. 5 to 7). All rolls, rescaled by the gate (eq. 8), go through a
    1×1 convolution and are added to the last maps (eq. 9).
    """

    def __init__(self, layers: tuple[int, ...]) -> None:
        """`layers`: the channels of each layer's maps, the last maps' last."""
        super().__init__()
        channels = layers[-1]
        reduced = channels // REDUCTION
        self.theta = Projection(channels, reduced)
        self.phi = nn.ModuleList(Projection(inputs, reduced) for inputs in layers)
        self.g = nn.ModuleList(Projection(inputs, reduced) for inputs in layers)
        self.gate = RollGate()
        self.out = nn.Conv2d(reduced * reduced, channels, 1)

    def forward(self, *layers: Tensor) -> Tensor:
        """`maps (batch, channels, bands, steps)` of each layer → of the last one's shape."""
        last = layers[-1]
        theta = self.theta(last)
        phi = torch.cat([layer(maps) for layer, maps in zip(self.phi, layers, strict=True)], dim=2)
        g = torch.cat([layer(maps) for layer, maps in zip(self.g, layers, strict=True)], dim=2)
        answers = []
        for shift in range(phi.shape[1]):
            likeness = theta.transpose(1, 2) @ phi.roll(shift, dims=1)  # (batch, asking, all)
            weights = torch.softmax(likeness.float(), dim=2).to(g.dtype)
            answers.append(g @ weights.transpose(1, 2))  # (batch, channels, asking)
        joined = self.gate(torch.stack(answers, dim=1)).flatten(1, 2)
        added: Tensor = last + self.out(joined.unflatten(2, last.shape[2:]))
        return added


class Fgnl(nn.Module):
    """Norm over the frequency axis, four blocks, the non-local block, two GRU layers, dropout."""

    def __init__(self, features: FeatureConfig, model: ModelConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = nn.BatchNorm1d(features.n_mels)
        self.blocks = convolutions(POOLS)
        self.nonlocal_block = FullyGeneralisedNonLocal(CHANNELS[-2:])
        self.gru = recurrence(CHANNELS[-1] * bands_left(features.n_mels, POOLS))
        self.dropout = nn.Dropout(0.3)
        self.output_dim = HIDDEN

    def forward(self, mel: Tensor) -> Tensor:
        """`mel (batch, mels, frames)` → `(batch, 32)`; needs 16 mels and 16 frames."""
        *first, last = self.blocks
        maps = self.norm(mel).unsqueeze(1)
        for block in first:
            maps = block(maps)
        joined = self.nonlocal_block(maps, last(maps))
        states, _ = self.gru(steps_of(joined))
        state: Tensor = self.dropout(states[:, -1])
        return state
