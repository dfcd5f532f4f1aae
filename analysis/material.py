"""All that a page can be made of: one run's songs, predictions, fusion and stores, checked once.

Enters: a run folder. Leaves: `Material`. A page takes what it needs and reads nothing else, save
what was measured for it and lies in the run's folder of measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
from analysis.singer_facts import SingerFacts, read_singer_facts
from embedder.artifacts import Run
from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.fusion.fitted import Fusion, check_fusion, check_songs, check_stores, read_fusion
from ensemble.placed import Placed


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
    facts: Mapping[str, SingerFacts] = field(default_factory=dict)  # of the singers in a csv
    placed: Placed | None = None  # new files for the maps

    def stores(self, member: str) -> list[Store]:
        """A member's stores, in the order of `songs`; read anew each time, for they are large."""
        return member_stores(self.run, member)


def read_material(
    run: Run,
    members: Sequence[str] | None = None,
    seed: int = 0,
    with_audio: bool = False,
    singers_csv: Path | None = None,
    placed: Placed | None = None,
) -> Material:
    """Read and check a run.

    `members`: names of those to show, `None` for those of the fusion. `singers_csv`: what is known
    of the singers; None takes the run's own, where there is one. Raises `UserError` if stores or
    predictions are missing, unreadable or made from different things, or the csv is none.
    """
    fusion = read_fusion(run.fusion) if run.fusion.is_file() else None
    if fusion:
        check_songs(run, fusion)
    names = members_with_stores(run, fusion.members if fusion and members is None else members)
    predicted = read_predicted(run, predicted_splits(run, names))
    songs: Songs | None = None
    for name in names:  # one member at a time: the segments of all together may not fit in memory
        stores = member_stores(run, name)
        if fusion and name in fusion.made_from:
            for store in stores:
                check_fusion(fusion, {name: store.made_from.get("checkpoint", "")})
            check_stores(fusion, stores)
        listed = song_list(stores, predicted)
        if songs is not None and (listed.ids, listed.singers) != (songs.ids, songs.singers):
            raise UserError(f"members {names[0]} and {name} were given different songs; {FUSE}")
        songs = songs or listed
    assert songs is not None  # members_with_stores returns at least one name
    known = tuple(table for table in (one.known() for one in predicted) if table.ids)
    csv = singers_csv or (run.singer_facts if run.singer_facts.is_file() else None)
    facts = read_singer_facts(csv, songs.singers) if csv else {}
    return Material(run, tuple(names), fusion, songs, known, seed, with_audio, facts, placed)
