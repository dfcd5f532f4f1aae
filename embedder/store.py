"""Embeddings and logits on disk: what a member says about each song and each segment of it.

Enters: arrays from one member for one split. Leaves: `Store`, one `.npz` file without pickle, and
the two ways in which segments become a song (`song_embedding`, `song_logits`).
Stores are what embedding hands to fusion and analysis; nothing here needs torch.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import SPLITS, replacing
from embedder.errors import UserError

STORE_FORMAT = 1  # version of the arrays below; `read_store` refuses any other
UNIT_TOLERANCE = 1e-3  # how far an embedding's length may be from 1 (bf16 networks are rounded)
AGAIN = "run again: python app.py fuse"

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Store:
    """One member's embeddings and logits for the songs of one split.

    Raises `ValueError` at construction if shapes disagree, a label is out of range, a song has no
    segment or stands twice, an embedding is not of unit length, or a value is not finite.
    """

    member: str  # the member's name
    split: str  # "train", "validation", "test", or "" for files to predict
    singers: tuple[str, ...]  # label order
    song_ids: tuple[str, ...]  # relative posix path of each song
    albums: tuple[str, ...]  # "singer/album" of each song, "" where unknown
    labels: Integers  # (songs,), index into singers, -1 where unknown
    embeddings: Floats  # (songs, dim), unit length
    segment_song: Integers  # (segments,), index of the song of each segment, ascending
    segment_start_s: Floats  # (segments,), seconds from the start of the song
    segment_embeddings: Floats  # (segments, dim), unit length
    segment_logits: Floats | None  # (segments, singers); None where the member has no head
    made_from: dict[str, str] = field(default_factory=dict)  # "checkpoint", "catalogue", "grid"

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(f"store of {self.member!r}, split {self.split!r}: {problem}")

    def segments_of(self, song: int) -> slice:
        """The slice of the segment arrays that belongs to the song at index `song`."""
        first, end = np.searchsorted(self.segment_song, [song, song + 1])
        return slice(int(first), int(end))

    def logits(self, aggregate: str = "mean") -> NDArray[np.float64]:
        """Song logits (songs, singers) from the segment logits; `aggregate` names an `AGGREGATES`.

        Raises `ValueError` if the member has no classification head.
        """
        if self.segment_logits is None:
            raise ValueError(f"member {self.member!r} has no classification head, so no logits")
        rows = [
            song_logits(self.segment_logits[self.segments_of(song)], aggregate)
            for song in range(len(self.song_ids))
        ]
        return np.stack(rows) if rows else np.zeros((0, len(self.singers)))


def song_embedding(segment_embeddings: NDArray[np.floating[Any]]) -> Floats:
    """Mean of a song's unit segment embeddings (n, dim), brought to unit length again: (dim,).

    Raises `ValueError` if there is no segment, or if the segments cancel each other out.
    """
    if segment_embeddings.ndim != 2 or len(segment_embeddings) == 0:
        raise ValueError(f"need (n ≥ 1, dim) embeddings, not {segment_embeddings.shape}")
    mean = segment_embeddings.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if not length > 1e-9:
        raise ValueError("the segment embeddings have no mean direction")
    unit: Floats = (mean / length).astype(np.float32)
    return unit


def _mean(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean logits: after a softmax, the normalised geometric mean of the probabilities."""
    averaged: NDArray[np.float64] = logits.mean(axis=0)
    return averaged


def _vote(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Majority vote: log of (votes + 1/singers) / (segments + 1).

    Each segment votes for its highest logit (the first of equal ones). One further vote is spread
    over all singers, so that a singer without votes keeps a finite logit.
    """
    segments, singers = logits.shape
    votes = np.bincount(logits.argmax(axis=1), minlength=singers)
    share: NDArray[np.float64] = np.log((votes + 1.0 / singers) / (segments + 1.0))
    return share


AGGREGATES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "mean": _mean,
    "vote": _vote,
}


def song_logits(
    segment_logits: NDArray[np.floating[Any]], aggregate: str = "mean"
) -> NDArray[np.float64]:
    """A song's logits (singers,) from those of its segments (n, singers).

    `aggregate`: "mean" averages the logits, "vote" counts the segments' first choices.
    Raises `UserError` for another name, `ValueError` if there is no segment.
    """
    if aggregate not in AGGREGATES:
        raise UserError(f"--aggregate {aggregate} is unknown; choose from {', '.join(AGGREGATES)}")
    if segment_logits.ndim != 2 or len(segment_logits) == 0:
        raise ValueError(f"need (n ≥ 1, singers) logits, not {segment_logits.shape}")
    return AGGREGATES[aggregate](segment_logits.astype(np.float64))


def write_store(path: Path, store: Store) -> None:
    """Write one `.npz`, atomically. The same store gives the same bytes."""
    head = {
        "format": STORE_FORMAT,
        "member": store.member,
        "split": store.split,
        "singers": store.singers,
        "song_ids": store.song_ids,
        "albums": store.albums,
        "made_from": dict(sorted(store.made_from.items())),
    }
    arrays = {
        "labels": store.labels,
        "embeddings": store.embeddings,
        "segment_song": store.segment_song,
        "segment_start_s": store.segment_start_s,
        "segment_embeddings": store.segment_embeddings,
    }
    if store.segment_logits is not None:
        arrays["segment_logits"] = store.segment_logits
    # The texts travel as JSON bytes: fixed-width numpy text would pad every path to the longest.
    text = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, head=text, **arrays)  # type: ignore[arg-type]


def read_store(path: Path) -> Store:
    """Read what `write_store` wrote; raise `UserError` naming the file if it cannot be used."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            if head["format"] != STORE_FORMAT:
                raise UserError(
                    f"{path} is a store of format {head['format']}, this program reads format "
                    f"{STORE_FORMAT}; {AGAIN}"
                )
            return Store(
                member=head["member"],
                split=head["split"],
                singers=tuple(head["singers"]),
                song_ids=tuple(head["song_ids"]),
                albums=tuple(head["albums"]),
                labels=file["labels"],
                embeddings=file["embeddings"],
                segment_song=file["segment_song"],
                segment_start_s=file["segment_start_s"],
                segment_embeddings=file["segment_embeddings"],
                segment_logits=file.get("segment_logits"),
                made_from=head["made_from"],
            )
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {AGAIN}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable store ({error}); {AGAIN}") from None


def check_store(store: Store, checkpoint_hash: str, catalogue_hash: str = "") -> None:
    """Raise `UserError` if the store was made from another checkpoint or another catalogue.

    An empty `catalogue_hash` leaves the catalogue unchecked (files to predict stand in none).
    """
    wanted = {"checkpoint": checkpoint_hash, "catalogue": catalogue_hash}
    for kind, value in wanted.items():
        found = store.made_from.get(kind, "none")
        if value and found != value:
            raise UserError(
                f"the {store.split or 'prediction'} store of member {store.member} was made from "
                f"{kind} {found}, but the {kind} is now {value}; {AGAIN}"
            )


def _problem(store: Store) -> str:
    """What is inconsistent in a store, or an empty string."""
    songs, singers, segments = len(store.song_ids), len(store.singers), len(store.segment_song)
    dim = store.embeddings.shape[1] if store.embeddings.ndim == 2 else 0
    floats: dict[str, tuple[Floats, tuple[int, ...]]] = {
        "embeddings": (store.embeddings, (songs, dim)),
        "segment_start_s": (store.segment_start_s, (segments,)),
        "segment_embeddings": (store.segment_embeddings, (segments, dim)),
    }
    if store.segment_logits is not None:
        floats["segment_logits"] = (store.segment_logits, (segments, singers))
    integers = {
        "labels": (store.labels, (songs,)),
        "segment_song": (store.segment_song, (segments,)),
    }
    for kind, arrays in ((np.float32, floats), (np.int64, integers)):
        for name, (array, shape) in arrays.items():
            if array.dtype != kind or array.shape != shape:
                wanted = f"{np.dtype(kind).name} {shape}"
                return f"{name} must be {wanted}, not {array.dtype.name} {array.shape}"
    if store.split not in (*SPLITS, ""):
        return f"split must be one of {', '.join(SPLITS)} or empty"
    if len(store.albums) != songs:
        return f"{len(store.albums)} albums for {songs} songs"
    for name, values in (("singers", store.singers), ("song_ids", store.song_ids)):
        if len(set(values)) != len(values):
            return f"{name} holds a name twice"
    if songs and not (store.labels.min() >= -1 and store.labels.max() < singers):
        return f"labels must lie in -1..{singers - 1}"
    order = np.diff(store.segment_song)
    if np.any(order < 0) or not np.array_equal(np.unique(store.segment_song), np.arange(songs)):
        return "segment_song must ascend and name every song at least once"
    for name, (array, _) in floats.items():
        if not np.isfinite(array).all():
            return f"{name} holds a value that is not finite"
    for name in ("embeddings", "segment_embeddings"):
        lengths = np.linalg.norm(floats[name][0].astype(np.float64), axis=1)
        if len(lengths) and np.abs(lengths - 1).max() > UNIT_TOLERANCE:
            return f"{name} must be of unit length"
    return ""
