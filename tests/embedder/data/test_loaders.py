"""Batches made one ahead: the same ones in the same order, in another thread, errors passed on."""

from __future__ import annotations

import threading

import pytest
from torch.utils.data import DataLoader, Dataset

from embedder.data.loaders import PrefetchLoader


class Squares(Dataset[int]):
    """Counts what was asked for, and in which thread; says when it is 8's turn."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.threads: set[int] = set()
        self.eight = threading.Event()

    def __getitem__(self, index: int) -> int:
        if index == 99:
            raise KeyError("no such song")
        self.asked.append(index)
        self.threads.add(threading.get_ident())
        if index == 8:
            self.eight.set()
        return index * index

    def __len__(self) -> int:
        return 100


def loader(kind: type[DataLoader[int]], songs: Squares, order: list[int]) -> DataLoader[int]:
    return kind(songs, batch_size=None, sampler=order)


@pytest.mark.parametrize("order", [[], [4], [5, 1, 3, 3, 0]])
def test_the_batches_are_those_of_the_library_in_their_order(order: list[int]) -> None:
    plain, ahead = (loader(kind, Squares(), order) for kind in (DataLoader, PrefetchLoader))
    assert list(ahead) == list(plain) == [i * i for i in order]
    assert list(ahead) == list(plain)  # and once more
    assert len(ahead) == len(order)


def test_the_next_batch_is_made_while_one_is_in_use() -> None:
    songs = Squares()
    batches = iter(loader(PrefetchLoader, songs, [7, 8, 9]))
    assert next(batches) == 49
    assert songs.eight.wait(60)
    assert songs.asked == [7, 8]  # not 9: one ahead, no more
    assert threading.get_ident() not in songs.threads
    assert list(batches) == [64, 81]


def test_an_error_reaches_the_one_who_asks() -> None:
    batches = iter(loader(PrefetchLoader, Squares(), [1, 99]))
    assert next(batches) == 1
    with pytest.raises(KeyError, match="no such song"):
        next(batches)


def test_a_loop_that_is_left_early_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    for _ in loader(PrefetchLoader, Squares(), list(range(50))):
        break
    assert set(threading.enumerate()) <= before
