"""What pages are made of: one run's songs, predictions, fusion and stores, read and checked once.

`read_run_data` reads a run folder that `fuse` has filled and returns `RunData`. A page takes what
it needs and reads nothing else, save what was measured for it and lies in the run's folder of
measures. What is missing or disagrees is a `UserError` that names the command to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from analysis.singer_facts import SingerFacts, read_singer_facts
from embedder.errors import Command, UserError, did_you_mean
from embedder.inference.store import Store, read_store
from embedder.run import SPLITS, Run
from ensemble.fusion.fitted import Fusion, check_fusion, check_songs, check_stores, read_fusion
from ensemble.predictions import read_table
from ensemble.results import PlacedFiles

FUSE = Command("fuse", before="run")
HOW = {
    "validation": "cross-fitted by album: no song's album took part in fitting what predicted it",
    "test": "nothing was fitted on these songs",
}
NEEDED = ("train", "validation")  # splits that `fuse` always embeds; test only where there is one


@dataclass(frozen=True, eq=False)
class Predicted:
    """Fused predictions of the songs of one split."""

    split: str
    ids: tuple[str, ...]
    singers: tuple[str, ...]  # label order
    probabilities: NDArray[np.float64]  # (songs, singers), each row sums to 1
    truth: NDArray[np.int64]  # (songs,), index into singers, -1 where unknown
    albums: tuple[str, ...]  # "singer/album", "" where unknown
    experts: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # as the fused, NaN: none

    @property
    def how(self) -> str:
        """How far the predictions can be trusted, in a sentence."""
        return f"{self.split.capitalize()} predictions: {HOW[self.split]}."

    @property
    def groups(self) -> tuple[str, ...]:
        """What intervals resample (songs,): each song's album, or the song where it is unknown."""
        return tuple(album or song for album, song in zip(self.albums, self.ids, strict=True))

    def known(self) -> Predicted:
        """Only the songs whose singer is known."""
        return self.take(np.flatnonzero(self.truth >= 0))

    def take(self, rows: NDArray[np.int64]) -> Predicted:
        """Some of the songs, in the order given."""
        return Predicted(
            self.split,
            tuple(self.ids[row] for row in rows),
            self.singers,
            self.probabilities[rows],
            self.truth[rows],
            tuple(self.albums[row] for row in rows),
            {name: probabilities[rows] for name, probabilities in self.experts.items()},
        )


@dataclass(frozen=True, eq=False)
class Songs:
    """All songs of a run in one order: train, then validation, then test."""

    singers: tuple[str, ...]
    ids: tuple[str, ...]
    albums: tuple[str, ...]  # "singer/album", "" where unknown
    splits: NDArray[np.int64]  # (songs,), index into SPLITS
    labels: NDArray[np.int64]  # (songs,), index into singers, -1 where unknown
    predictions: NDArray[np.int64]  # (songs,), index into singers, -1 where not predicted
    confidences: NDArray[np.float64]  # (songs,), probability of the prediction, 0 where none


def song_title(song_id: str) -> str:
    """The file's name without folders and suffix."""
    return PurePosixPath(song_id).stem


def album_title(album: str) -> str:
    """The album's folder of "singer/album"; "unknown" where it is empty."""
    return album.partition("/")[2] or album or "unknown"


def members_with_stores(run: Run, members: Sequence[str] | None = None) -> list[str]:
    """Names of the members to show, sorted; `None` takes every member that `fuse` has embedded.

    Raises `UserError` if a named member is unknown or has no store, or if there is none at all.
    """
    there = sorted(p.name for p in run.members.iterdir()) if run.members.is_dir() else []

    def embedded(name: str) -> bool:
        return all(run.store(name, split).is_file() for split in NEEDED)

    if members is None:
        found = [name for name in there if embedded(name)]
        if not found:
            raise UserError(f"no member in {run.members} has embedded songs; {FUSE}")
        return found
    if not members:
        raise UserError("--members names no member")
    for name in members:
        if name not in there:
            legal = ", ".join(there) or "none is trained"
            raise UserError(
                f"no member {name}{did_you_mean(name, there)} in {run.members}; there: {legal}"
            )
        if not embedded(name):
            raise UserError(f"member {name} has no store of embedded songs; {FUSE}")
    return sorted(set(members))


def member_stores(run: Run, member: str) -> list[Store]:
    """A member's stores of the train, validation and, where there is one, test songs."""
    stores = [
        read_store(run.store(member, split))
        for split in SPLITS
        if split in NEEDED or run.store(member, split).is_file()
    ]
    stores = [store for store in stores if store.song_ids]
    if not stores:
        raise UserError(f"the stores of member {member} hold no song; {FUSE}")
    if any(store.singers != stores[0].singers for store in stores):
        raise UserError(f"the stores of member {member} name different singers; {FUSE}")
    return stores


def read_predicted(run: Run, splits: Sequence[str] = ("validation",)) -> list[Predicted]:
    """Predictions of the songs of `splits`; of validation there must be some, of test there may be.

    Raises `UserError` if the validation table is missing or has no song whose singer is known, or
    if a table cannot be read.
    """
    path = run.predictions / "validation.npz"
    if not path.is_file():
        raise UserError(f"{path} is missing; {FUSE}")
    there = [split for split in splits if (run.predictions / f"{split}.npz").is_file()]
    tables = [_predicted(run.predictions / f"{split}.npz", split) for split in there]
    if not any(one.known().ids for one in tables if one.split == "validation"):
        raise UserError(f"{path} holds no song whose singer is known; {FUSE}")
    return tables


def predicted_splits(run: Run, members: Sequence[str]) -> list[str]:
    """Splits whose predictions belong on the pages: validation, and test if members embedded it."""
    test = all(run.store(name, "test").is_file() for name in members)
    return ["validation", "test"] if test else ["validation"]


def song_list(stores: Sequence[Store], predicted: Sequence[Predicted]) -> Songs:
    """All songs of one member's stores, with the predictions of those that have one.

    Raises `UserError` if predictions and stores name different singers or songs.
    """
    singers = stores[0].singers
    ids = tuple(song for store in stores for song in store.song_ids)
    row_of = {song: row for row, song in enumerate(ids)}
    if len(row_of) != len(ids):
        raise UserError(f"a song stands in two splits of member {stores[0].member}; {FUSE}")
    labels = np.concatenate([store.labels for store in stores])
    predictions = np.full(len(ids), -1, dtype=np.int64)
    confidences = np.zeros(len(ids))
    for table in predicted:
        missing = [song for song in table.ids if song not in row_of]
        if table.singers != singers or missing:
            what = f"song {missing[0]}" if missing else "other singers"
            raise UserError(
                f"the {table.split} predictions name {what}, not in the stores of member "
                f"{stores[0].member}; {FUSE}"
            )
        rows = [row_of[song] for song in table.ids]
        if not np.array_equal(labels[rows], table.truth):
            raise UserError(
                f"the {table.split} predictions and the stores of member {stores[0].member} "
                f"disagree on who sings; {FUSE}"
            )
        predictions[rows] = table.probabilities.argmax(axis=1)
        confidences[rows] = table.probabilities.max(axis=1)
    return Songs(
        singers=singers,
        ids=ids,
        albums=tuple(album for store in stores for album in store.albums),
        splits=np.concatenate([np.full(len(s.song_ids), SPLITS.index(s.split)) for s in stores]),
        labels=labels,
        predictions=predictions,
        confidences=confidences,
    )


def _predicted(path: Path, split: str) -> Predicted:
    table = read_table(path)
    logs, truth = table.log_probabilities.astype(np.float64), table.truth
    if not np.allclose(np.exp(logs).sum(axis=1), 1.0, atol=1e-3):
        raise UserError(f"{path} holds no log-probabilities; {FUSE}")
    experts = {name: np.exp(one.astype(np.float64)) for name, one in table.experts.items()}
    return Predicted(split, table.ids, table.singers, np.exp(logs), truth, table.albums, experts)


@dataclass(frozen=True, eq=False)
class RunData:
    """One run, as pages see it."""

    run: Run
    members: tuple[str, ...]  # those that are shown
    fusion: Fusion | None
    songs: Songs  # of all splits, the same for all members
    predicted: tuple[Predicted, ...]  # a table a split, only songs whose singer is known
    seed: int = 0  # of maps and intervals
    with_audio: bool = False  # pages may carry players
    facts: Mapping[str, SingerFacts] = field(default_factory=dict)  # of the singers in a csv
    placed: PlacedFiles | None = None  # new files for the maps

    def stores(self, member: str) -> list[Store]:
        """A member's stores, in the order of `songs`; read again each time, for they are large."""
        return member_stores(self.run, member)


def read_run_data(
    run: Run,
    members: Sequence[str] | None = None,
    seed: int = 0,
    with_audio: bool = False,
    singers_csv: Path | None = None,
    placed: PlacedFiles | None = None,
) -> RunData:
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
    return RunData(run, tuple(names), fusion, songs, known, seed, with_audio, facts, placed)
