"""The next batch, made while the network learns from this one.

Enters: a dataset and a sampler, as for any `DataLoader`. Leaves: its batches, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader


class Ahead(DataLoader[Any]):
    """A `DataLoader` that is one batch ahead, in a thread of its own.

    Reading and filtering crops leaves Python's lock for most of its time, so a thread does; unlike
    the library's worker processes it costs no start and no second copy of the imports.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        end = object()
        with ThreadPoolExecutor(max_workers=1) as thread:
            coming = thread.submit(next, batches, end)
            while (batch := coming.result()) is not end:
                coming = thread.submit(next, batches, end)
                yield batch
