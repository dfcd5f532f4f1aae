"""Enrolled singers, carried from an old song table into the one that takes its place.

Enters: the old table, and what embeds songs now. Leaves: `Enrolled`: the songs that the new table
takes over if its members are those that heard them, or else the singers that would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embedder.errors import UserError
from ensemble.index.database import TableInUse, embedded_by, transaction
from ensemble.index.songs import Heard, NewSong

ACTIVE = "added_by IS NOT NULL AND removed_by IS NULL"


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Singers who were enrolled without training."""

    songs: dict[str, list[NewSong]] = field(default_factory=dict)  # singer → songs, in their order
    lost: tuple[str, ...] = ()  # singers whose songs other members heard, or in another way
    problem: str = ""  # why nobody knows who was enrolled, where the old table cannot be read


def enrolled_songs(table: Path, embedders: Mapping[str, str]) -> Enrolled:
    """The singers enrolled in a table, and whether these members embedded their songs in this way.

    `embedders`: member → what `embedder_of` says of its stores now. A table that is missing has
    none, and one that cannot be read may have had some: a new one is made in any case. Raises
    `TableInUse` if another command is changing it.
    """
    if not table.is_file():
        return Enrolled()
    try:
        found, heard_by = _read(table)
    except TableInUse:
        raise
    except UserError as error:
        return Enrolled(problem=str(error))
    if not found:
        return Enrolled()
    if any(heard_by.get(name) != value for name, value in embedders.items()):
        return Enrolled(lost=tuple(found))
    return Enrolled(found)


def _read(table: Path) -> tuple[dict[str, list[NewSong]], dict[str, str]]:
    with transaction(table) as connection:
        embedders = embedded_by(connection)
        songs = connection.execute(
            f"SELECT number, song_id, singer, album FROM song WHERE {ACTIVE} "
            "ORDER BY added_by, number"
        ).fetchall()
        found: dict[str, list[NewSong]] = {}
        for number, song_id, singer, album in songs:
            heard = {}
            for member, embedding, start, weight, segments in connection.execute(
                "SELECT member, embedding, segment_start_s, segment_weight, segment_embeddings "
                "FROM heard WHERE song = ?",
                (number,),
            ):
                vector = np.frombuffer(embedding, "<f4").astype(np.float32)
                heard[member] = Heard(
                    vector,
                    np.frombuffer(start, "<f4").astype(np.float32),
                    np.frombuffer(weight, "<f4").astype(np.float32),
                    np.frombuffer(segments, "<f2").astype(np.float32).reshape(-1, len(vector)),
                    embedders.get(member, ""),
                )
            found.setdefault(singer, []).append(NewSong(song_id, album, heard))
    return found, embedders
