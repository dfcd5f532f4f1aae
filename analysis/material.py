"""All that a page can be made of: one run's songs, predictions, fusion and stores, checked once.

Enters: a run folder. Leaves: `Material`. A page takes what it needs and reads nothing else, save
what was measured for it and lies in the run's folder of measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.inputs import (
    FUSE,
    Predicted,
    Songs,
    member_stores,
    members_with_stores,
    predicted_splits,
    read_predicted,
    song_list,
)
from embedder.artifacts import Run
from embedder.errors import UserError
from embedder.store import Store
from ensemble.fusion import Fusion, check_fusion, read_fusion


@dataclass(frozen=True, eq=False)
class Material:
    """One run, as pages see it."""

    run: Run
    members: tuple[str, ...]  # those that are shown
    fusion: Fusion | None
    songs: Songs  # of all splits, the same for all members
    predicted: tuple[Predicted, ...]  # a table a split, only songs whose singer is known
    seed: int = 0  # of maps and intervals
    with_audio: bool = False  # pages may carry players

    def stores(self, member: str) -> list[Store]:
        """A member's stores, in the order of `songs`; read anew each time, for they are large."""
        return member_stores(self.run, member)


def read_material(
    run: Run, members: Sequence[str] | None = None, seed: int = 0, with_audio: bool = False
) -> Material:
    """Read and check a run.

    `members`: names of those to show, `None` for those of the fusion. Raises `UserError` if stores
    or predictions are missing, unreadable or made from different things.
    """
    fusion = read_fusion(run.fusion) if run.fusion.is_file() else None
    names = members_with_stores(run, fusion.members if fusion and members is None else members)
    predicted = read_predicted(run, predicted_splits(run, names))
    songs: Songs | None = None
    for name in names:  # one member at a time: the segments of all together may not fit in memory
        stores = member_stores(run, name)
        if fusion and name in fusion.made_from:
            for store in stores:
                check_fusion(fusion, {name: store.made_from.get("checkpoint", "")})
        listed = song_list(stores, predicted)
        if songs is not None and (listed.ids, listed.singers) != (songs.ids, songs.singers):
            raise UserError(f"members {names[0]} and {name} were given different songs; {FUSE}")
        songs = songs or listed
    assert songs is not None  # members_with_stores returns at least one name
    known = tuple(table for table in (one.known() for one in predicted) if table.ids)
    return Material(run, tuple(names), fusion, songs, known, seed, with_audio)
