"""What a song's nearest training songs say about who sings it.

Enters: a member's store of training songs. Leaves: `NeighbourIndex` (exact inner products through
faiss, one file and a JSON beside it), and for query embeddings the nearest training songs and their
votes as logits (songs, singers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import read_json, replacing, write_json
from embedder.errors import UserError
from embedder.store import AGAIN, Store

INDEX_FORMAT = 1
SMOOTHING = 2.0  # votes spread evenly over all singers; the nearest neighbour's vote is 1


@dataclass(frozen=True)
class Votes:
    """How neighbours vote.

    Fixed, not fitted: choosing k and tau on the validation songs from a grid gave a higher
    cross-fitted NLL than these defaults; a hundred songs are too few to choose by.
    """

    k: int = 10  # nearest training songs that vote; at most all of them
    tau: float = 0.03  # cosine by which a vote falls to 1/e

    def __post_init__(self) -> None:
        if self.k < 1 or not self.tau > 0:
            raise ValueError(f"k must be 1 or more and tau above 0, not {self.k} and {self.tau}")


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training songs of each query song, nearest first."""

    similarities: NDArray[np.float64]  # (songs, n), cosine, -1 to 1
    labels: NDArray[np.int64]  # (songs, n), singer of each neighbour

    def take(self, songs: NDArray[np.integer[Any]]) -> Neighbours:
        return Neighbours(self.similarities[songs], self.labels[songs])


@dataclass(frozen=True, eq=False)
class NeighbourIndex:
    """One member's training songs, ready to be searched."""

    index: Any  # faiss.IndexFlatIP over unit embeddings (songs, dim)
    member: str
    checkpoint: str  # hash of the checkpoint that embedded the songs
    singers: tuple[str, ...]  # label order
    song_ids: tuple[str, ...]
    labels: NDArray[np.int64]  # (songs,)

    def search(self, embeddings: NDArray[np.float32], k: int) -> Neighbours:
        """The k nearest training songs (all, if there are fewer) of unit embeddings (songs, dim).

        Of equally similar songs the one that comes first in the training store comes first.
        Raises `ValueError` if the dimension differs from the index's.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.index.d:
            raise ValueError(f"embeddings {embeddings.shape}, but the index has {self.index.d} dim")
        k = min(k, self.index.ntotal)
        similarities = np.zeros((len(embeddings), k))
        found = np.zeros((len(embeddings), k), dtype=np.int64)
        # One query at a time: faiss multiplies many queries at once with BLAS, whose rounding
        # depends on how many there are, and a song's prediction must not depend on its company.
        for row, query in enumerate(np.ascontiguousarray(embeddings, dtype=np.float32)):
            near, ids = self.index.search(query[None], min(k + 1, self.index.ntotal))
            if near.shape[1] > k and near[0, k] == near[0, k - 1]:  # a tie across the boundary
                near, ids = self.index.search(query[None], self.index.ntotal)
            order = np.lexsort((ids[0], -near[0]))[:k]
            similarities[row], found[row] = near[0][order], ids[0][order]
        return Neighbours(similarities, self.labels[found])

    def check_apart(self, song_ids: Iterable[str]) -> None:
        """Raise `ValueError` if one of the songs is in the index: it would be its own neighbour."""
        shared = set(self.song_ids).intersection(song_ids)
        if shared:
            raise ValueError(f"{len(shared)} songs are also training songs, such as {min(shared)}")


def build_index(store: Store) -> NeighbourIndex:
    """Index a store of training songs; raise `ValueError` if it holds none or one is unlabelled."""
    if store.split != "train" or not store.song_ids:
        raise ValueError(f"need training songs, not {len(store.song_ids)} of {store.split!r}")
    if store.labels.min() < 0:
        raise ValueError("a training song has no label")
    index = faiss.IndexFlatIP(store.embeddings.shape[1])
    index.add(np.ascontiguousarray(store.embeddings))
    checkpoint = store.made_from.get("checkpoint", "")
    return NeighbourIndex(
        index, store.member, checkpoint, store.singers, store.song_ids, store.labels
    )


def neighbour_votes(
    similarities: NDArray[np.floating[Any]],
    neighbour_labels: NDArray[np.integer[Any]],
    singers: int,
    k: int = Votes.k,
    tau: float = Votes.tau,
) -> NDArray[np.float64]:
    """Logits (songs, singers) from neighbours (songs, n ≥ 1), nearest first, of which k vote.

    Neighbour i votes exp((sim_i − sim_1) / tau) for its singer; the logit of a singer is the log of
    the singer's votes + `SMOOTHING` / singers. That is log Σ exp(sim/tau) up to a constant per
    song, kept finite where a singer has no vote. Counting from the nearest neighbour makes a vote
    mean the same for a song near its neighbours and for one far from all.
    """
    Votes(k, tau)  # checks the ranges
    near = similarities[:, :k].astype(np.float64)
    if near.shape[1] == 0 or neighbour_labels.shape != similarities.shape:
        raise ValueError(f"similarities {similarities.shape}, labels {neighbour_labels.shape}")
    votes = np.exp((near - near[:, :1]) / tau)
    cells = np.arange(len(near))[:, None] * singers + neighbour_labels[:, :k]
    sums = np.bincount(cells.ravel(), votes.ravel(), minlength=len(near) * singers)
    logits: NDArray[np.float64] = np.log(sums.reshape(len(near), singers) + SMOOTHING / singers)
    return logits


def write_index(path: Path, index: NeighbourIndex) -> None:
    """Write the faiss index to `path` and what it was made from to `<path>.json`, each atomically.

    The JSON holds the index's hash: a pair of which only one half was renewed is refused.
    """
    data = faiss.serialize_index(index.index).tobytes()  # faiss itself opens no non-ASCII path
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    head = {
        "format": INDEX_FORMAT,
        "member": index.member,
        "checkpoint": index.checkpoint,
        "index": hashlib.sha256(data).hexdigest(),
        "singers": index.singers,
        "song_ids": index.song_ids,
        "labels": index.labels.tolist(),
    }
    write_json(_head_path(path), head)


def read_index(path: Path) -> NeighbourIndex:
    """Read what `write_index` wrote; raise `UserError` naming the file if it cannot be used."""
    if not _head_path(path).is_file():
        raise UserError(f"{_head_path(path)} is missing; {AGAIN}")
    head = read_json(_head_path(path))
    try:
        if head["format"] != INDEX_FORMAT:
            raise UserError(
                f"{path} is an index of format {head['format']}, this program reads format "
                f"{INDEX_FORMAT}; {AGAIN}"
            )
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != head["index"]:
            raise UserError(f"{path} and {_head_path(path).name} do not belong together; {AGAIN}")
        index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        if not index.ntotal == len(head["labels"]) == len(head["song_ids"]):
            raise ValueError("it holds another number of songs than its JSON")
        return NeighbourIndex(
            index=index,
            member=head["member"],
            checkpoint=head["checkpoint"],
            singers=tuple(head["singers"]),
            song_ids=tuple(head["song_ids"]),
            labels=np.array(head["labels"], dtype=np.int64),
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {AGAIN}") from None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a readable index ({error}); {AGAIN}") from None


def check_index(index: NeighbourIndex, checkpoint_hash: str, singers: tuple[str, ...]) -> None:
    """Raise `UserError` if the index was made by another checkpoint or with other labels."""
    if index.checkpoint != checkpoint_hash:
        raise UserError(
            f"the index of member {index.member} was made from checkpoint {index.checkpoint}, but "
            f"the checkpoint is now {checkpoint_hash}; {AGAIN}"
        )
    if index.singers != singers:
        raise UserError(
            f"the index of member {index.member} knows {len(index.singers)} singers in another "
            f"order or spelling than the {len(singers)} of the member; {AGAIN}"
        )


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")
