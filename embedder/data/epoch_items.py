"""Which items of an endless data set make up an epoch.

Enters: how many items an epoch has. Leaves: their numbers, others in each epoch. Where an item
depends on its number alone, a resumed training hears what an undisturbed one would.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler


class EpochItems(Sampler[int]):
    """`items × epoch`, and so on up to the next epoch's first."""

    def __init__(self, items: int) -> None:
        self.items, self.epoch = items, 0

    def set_epoch(self, epoch: int) -> None:
        """The training loop says which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.items, (self.epoch + 1) * self.items))
