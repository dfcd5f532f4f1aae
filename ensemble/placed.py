"""Files that nobody prepared, as members heard them, to be placed on the maps of a run.

Enters: stores of the files, batch after batch, and what was answered. Leaves: `Placed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.inference.store import Store


@dataclass(frozen=True, eq=False)
class Placed:
    """Files beside the songs of a run, and what was said of each."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]  # what they are called on the page
    singers: tuple[str, ...]  # of the answers: the trained ones first, then enrolled ones
    probabilities: NDArray[np.float64]  # (files, singers), each row sums to 1
    batches: tuple[tuple[Store, ...], ...]  # stores of a few files after the other, one a member
    silent: tuple[tuple[str, ...], ...]  # per file: members that say nothing of it

    def stores(self, member: str) -> tuple[list[Store], NDArray[np.int64]]:
        """What a member heard, and the number of each file that it heard, in the stores' order."""
        stores: list[Store] = []
        files: list[int] = []
        first = 0
        for batch in self.batches:
            for store in batch:
                if store.member == member:
                    heard = np.array(
                        [
                            member not in self.silent[first + row]
                            for row in range(len(store.song_ids))
                        ]
                    )
                    if heard.any():
                        stores.append(store.take(np.flatnonzero(heard)))
                        files += (first + np.flatnonzero(heard)).tolist()
            first += len(batch[0].song_ids)
        return stores, np.array(files, dtype=np.int64)

    def heard_by(self, members: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the files that all of `members` heard, ascending."""
        everyone = [set(self.stores(member)[1].tolist()) for member in members]
        return np.array(sorted(set.intersection(*everyone)) if everyone else [], dtype=np.int64)
