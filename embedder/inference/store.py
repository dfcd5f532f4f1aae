"""Embeddings and logits on disk: what a member says about each song and each segment of it.

Input: arrays from one member for one split. Output: `Store`, one `.npz` file without pickle.
Stores are what embedding hands to fusion and analysis; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact
from embedder.catalogue import Catalogue, stems_fingerprint
from embedder.config import MemberConfig
from embedder.errors import Command, UserError
from embedder.inference.aggregate import song_logits
from embedder.inference.config import InferenceConfig
from embedder.run import SPLITS
from embedder.text import counted

UNIT_TOLERANCE = 1e-3  # how far an embedding's length may be from 1 (bf16 networks are rounded)
AGAIN = Command("fuse", before="run again")
ATTENUATED = "attenuated"  # split of validation songs whose vocals were turned down
ATTENUATED_DB = 12.0  # by so much at most, dB

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Store:
    """One member's embeddings and logits for the songs of one split.

    Raises `ValueError` at construction if shapes disagree, a label is out of range, a song has no
    segment or stands twice, an embedding is not of unit length, or a value is not finite.
    """

    member: str  # the member's name
    split: str  # "train", "validation", "test", "attenuated", or "" for files to predict
    singers: tuple[str, ...]  # label order
    song_ids: tuple[str, ...]  # relative posix path of each song
    albums: tuple[str, ...]  # "singer/album" of each song, "" where unknown
    labels: Integers  # (songs,), index into singers, -1 where unknown
    embeddings: Floats  # (songs, dim), unit length
    segment_song: Integers  # (segments,), index of the song of each segment, ascending
    segment_start_s: Floats  # (segments,), seconds from the start of the song
    segment_embeddings: Floats  # (segments, dim), unit length
    segment_logits: Floats | None  # (segments, singers); None where the member has no head
    segment_weight: Floats  # (segments,), 0 to 1: share of voice; 1 where nobody listened for it
    made_from: dict[str, str] = field(default_factory=dict)  # checkpoint, and what `origin` says

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(f"store of {self.member!r}, split {self.split!r}: {problem}")

    def segments_of(self, song: int) -> slice:
        """The slice of the segment arrays that belongs to the song at index `song`."""
        first, end = np.searchsorted(self.segment_song, [song, song + 1])
        return slice(int(first), int(end))

    def take(self, songs: NDArray[np.integer[Any]]) -> Store:
        """The store of some of its songs, in the order given."""
        parts = [self.segments_of(int(song)) for song in songs]
        rows = np.concatenate([np.zeros(0, np.int64), *[np.arange(p.start, p.stop) for p in parts]])
        counts = [part.stop - part.start for part in parts]
        return replace(
            self,
            song_ids=tuple(self.song_ids[song] for song in songs),
            albums=tuple(self.albums[song] for song in songs),
            labels=self.labels[songs],
            embeddings=self.embeddings[songs],
            segment_song=np.repeat(np.arange(len(parts), dtype=np.int64), counts),
            segment_start_s=self.segment_start_s[rows],
            segment_embeddings=self.segment_embeddings[rows],
            segment_logits=None if self.segment_logits is None else self.segment_logits[rows],
            segment_weight=self.segment_weight[rows],
        )

    def logits(self, aggregate: str = "probability") -> NDArray[np.float64]:
        """Song logits (songs, singers) from the segment logits; `aggregate` names an `AGGREGATES`.

        Raises `ValueError` if the member has no classification head.
        """
        if self.segment_logits is None:
            raise ValueError(f"member {self.member!r} has no classification head, so no logits")
        parts = [self.segments_of(song) for song in range(len(self.song_ids))]
        rows = [
            song_logits(self.segment_logits[part], aggregate, self.segment_weight[part])
            for part in parts
        ]
        return np.stack(rows) if rows else np.zeros((0, len(self.singers)))

    @property
    def groups(self) -> tuple[str, ...]:
        """What is drawn together (songs,): each song's album, or the song where it is unknown."""
        return tuple(album or song for album, song in zip(self.albums, self.song_ids, strict=True))

    def voice(self) -> NDArray[np.float64]:
        """Mean share of voice of each song's segments (songs,); 0: embedded as if all were sung."""
        sums = np.bincount(self.segment_song, self.segment_weight, len(self.song_ids))
        counts = np.bincount(self.segment_song, minlength=len(self.song_ids))
        return np.asarray(sums / counts)


def origin(
    catalogue: Catalogue,
    split: str,
    config: MemberConfig,
    listening: InferenceConfig,
    separator: str = "",
) -> dict[str, str]:
    """What a member's store of a split is made from, beside the member's checkpoint.

    `separator`: fingerprint of what separates the mixtures of `ATTENUATED` songs for a member that
    takes vocals, empty where nothing does.
    """
    vocals = config.train.recording == "vocals"
    made_from = {"catalogue": catalogue.fingerprint(), **listening.made_from(config)}
    if split == ATTENUATED:
        stems = stems_fingerprint(catalogue.of("validation"), "vocals", "backing")
        made_from |= {
            ATTENUATED: f"vocals up to {ATTENUATED_DB:g} dB lower",
            "stems": stems or "none",
            "separator": (vocals and separator) or "none",
        }
    elif vocals:
        made_from["stems"] = stems_fingerprint(catalogue.of(split), "vocals") or "none"
    return made_from


STORE = Artifact("store", 2, Store, AGAIN)
write_store = STORE.write
read_store = STORE.read


def check_store(store: Store, checkpoint_hash: str, made_from: Mapping[str, str]) -> None:
    """Raise `UserError` unless the store was made from this checkpoint and from what `origin` says.

    What is not in `made_from` is not checked: files to predict stand in no catalogue.
    """
    for kind, value in {"checkpoint": checkpoint_hash, **made_from}.items():
        found = store.made_from.get(kind, "none")
        if found != value:
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
        "segment_weight": (store.segment_weight, (segments,)),
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
    if store.split not in (*SPLITS, ATTENUATED, ""):
        return f"split must be one of {', '.join((*SPLITS, ATTENUATED))} or empty"
    if len(store.albums) != songs:
        return f"{counted(len(store.albums), 'album')} for {counted(songs, 'song')}"
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
    if segments and not 0 <= store.segment_weight.min() <= store.segment_weight.max() <= 1:
        return "segment_weight must lie in 0..1"
    for name in ("embeddings", "segment_embeddings"):
        lengths = np.linalg.norm(floats[name][0].astype(np.float64), axis=1)
        if len(lengths) and np.abs(lengths - 1).max() > UNIT_TOLERANCE:
            return f"{name} must be of unit length"
    return ""
