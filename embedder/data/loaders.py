"""The next training batch, prepared while the network learns from this one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler


class PrefetchLoader(DataLoader[Any]):
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


def batch_loader(dataset: Dataset[Any], batches: Sampler[Any], workers: int = 0) -> PrefetchLoader:
    """Loads whole batches, which `batches` draws, with as many worker processes.

    Args:
        dataset: Item `batch` of it is a whole batch.
        batches: One item a batch.
        workers: Processes that read; 0: the prefetching thread alone.
    """
    return PrefetchLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )
