"""Enrolled singers, carried from an old song table into the one that takes its place.

Enters: the old table and what was heard how. Leaves: `Enrolled`, and the same singers in the new
table, if its members are those that heard them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embedder.errors import UserError
from embedder.listening import Listening
from embedder.store import Store
from ensemble.fusion import read_fusion
from ensemble.index.database import transaction
from ensemble.index.songs import Heard, NewSong
from ensemble.index.table import enroll

ACTIVE = "added_by IS NOT NULL AND removed_by IS NULL"


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Singers who were enrolled without training."""

    songs: dict[str, list[NewSong]] = field(default_factory=dict)  # singer → songs, in their order
    lost: tuple[str, ...] = ()  # singers whose songs other members heard, or in another way


def enrolled_songs(
    table: Path, fusion: Path, train_stores: Sequence[Store], listening: Listening
) -> Enrolled:
    """The singers enrolled in a table, and whether the train stores' members heard their songs.

    `fusion` is the one that the table belongs to; it says how songs were heard. A table that is
    missing or cannot be read has none: a new one is made in any case.
    """
    if not table.is_file():
        return Enrolled()
    try:
        found, checkpoints = _read(table)
    except UserError:
        return Enrolled()
    if not found:
        return Enrolled()
    now = {store.member: store.made_from.get("checkpoint", "") for store in train_stores}
    try:
        same = read_fusion(fusion).listening == listening
    except UserError:
        same = False
    if not same or any(checkpoints.get(member) != value for member, value in now.items()):
        return Enrolled(lost=tuple(found))
    return Enrolled(found)


def carry_over(table: Path, enrolled: Enrolled) -> None:
    """Enroll the same singers in a new table, a change for each."""
    for singer, songs in enrolled.songs.items():
        enroll(table, singer, songs)


def _read(table: Path) -> tuple[dict[str, list[NewSong]], dict[str, str]]:
    with transaction(table) as connection:
        checkpoints = dict(connection.execute("SELECT name, checkpoint FROM member"))
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
                )
            found.setdefault(singer, []).append(NewSong(song_id, album, heard))
    return found, checkpoints
