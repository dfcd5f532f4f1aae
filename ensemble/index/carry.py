"""Enrolled singers, carried from an old song table into the one that takes its place.

Input: the old table, and what embeds songs now. Output: `Enrolled`: the songs that the new table
takes over if its members are those that embedded them, or else the singers that would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embedder.errors import UserError
from ensemble.index.database import FORMAT, TableInUse, format_of, transaction
from ensemble.index.members import NewSong, SongEmbedding
from ensemble.index.table import ENROLLED

OLD_FORMAT = 1  # of a table, whose enrolled singers can still be read


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Singers who were enrolled without training."""

    songs: dict[str, list[NewSong]] = field(default_factory=dict)  # singer → songs, in their order
    lost: tuple[str, ...] = ()  # singers whose songs other members embedded, or in another way
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
        found, embedded_by = _read(table)
    except TableInUse:
        raise
    except UserError as error:
        return Enrolled(problem=str(error))
    if not found:
        return Enrolled()
    if any(embedded_by.get(name) != value for name, value in embedders.items()):
        return Enrolled(lost=tuple(found))
    return Enrolled(found)


def _read(table: Path) -> tuple[dict[str, list[NewSong]], dict[str, str]]:
    with transaction(table, formats=(OLD_FORMAT, FORMAT)) as connection:
        if format_of(connection) == OLD_FORMAT:
            stored, query = (
                "heard",
                (
                    "SELECT substr(name, length('embedded by ') + 1), value FROM setting "
                    "WHERE name LIKE 'embedded by %'"
                ),
            )
        else:
            stored, query = "embedded", "SELECT name, embedded_by FROM member"
        embedders = dict(connection.execute(query))
        songs = connection.execute(
            f"SELECT number, song_id, singer, album FROM song WHERE {ENROLLED} "
            "ORDER BY added_by, number"
        ).fetchall()
        found: dict[str, list[NewSong]] = {}
        for number, song_id, singer, album in songs:
            by_member = {}
            for member, embedding, segments in connection.execute(
                f"SELECT member, embedding, segment_embeddings FROM {stored} WHERE song = ?",
                (number,),
            ):
                vector = np.frombuffer(embedding, "<f4").astype(np.float32)
                by_member[member] = SongEmbedding(
                    vector,
                    np.frombuffer(segments, "<f2").astype(np.float32).reshape(-1, len(vector)),
                    embedders.get(member, ""),
                )
            found.setdefault(singer, []).append(NewSong(song_id, album, by_member))
    return found, embedders
