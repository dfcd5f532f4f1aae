"""What the songs that were enrolled cost the singers that the members were trained on.

Input: a fusion, its indexes, and the members' stores of training and validation songs. Output:
`Costs`, the trained singers' metrics without and with what is enrolled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedder.catalogue import read_catalogue
from embedder.inference.store import Store
from embedder.metrics import song_nll, song_score, top_k_hits
from embedder.run import Run
from embedder.statistics import Estimate, bootstrap_interval, mean_of, paired_difference
from ensemble.enrollment import copies_of
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import Fusion
from ensemble.fusion.pipeline import RunStores
from ensemble.index.members import MemberIndex, index_of
from ensemble.scoring import score_songs


@dataclass(frozen=True)
class Cost:
    """One metric of the trained singers' songs."""

    name: str
    before: Estimate  # as if nothing had been enrolled
    after: Estimate
    change: Estimate  # after − before, on the same resamples


@dataclass(frozen=True)
class Costs:
    """What was measured, and on how many songs."""

    songs: int
    enrolled: int  # songs of the index beside the training songs
    left_out: int  # songs on which nothing was measured, for they were enrolled
    rows: tuple[Cost, ...]  # none without a song, or with nothing enrolled


def known_songs(run: Run, fusion: Fusion) -> tuple[list[Store], list[Store]] | None:
    """The stores of training and of validation songs; None where the run has no songs.

    They are read before the index changes: a store that does not fit is refused, and nothing done.
    """
    if not run.catalogue.is_file():
        return None
    catalogue = read_catalogue(run.catalogue)
    if not catalogue.of("validation"):
        return None
    stores = RunStores(run, catalogue, fusion.members, fusion.listening)
    return stores.of("train"), stores.of("validation")


def costs(
    fusion: Fusion,
    train: Sequence[Store],
    stores: Sequence[Store],
    indexes: Mapping[str, MemberIndex],
    seed: int = 0,
) -> Costs:
    """Top-1, top-3, score and NLL of the songs of `stores`, without and with enrolled songs.

    `train` are the stores that the indexes were made from, before anything was enrolled.
    """
    start = len(train[0].song_ids)
    enrolled = {name: index.embeddings[start:] for name, index in indexes.items()}
    copies = copies_of({store.member: store.embeddings for store in stores}, enrolled)
    heard = [store.take(np.flatnonzero(copies < 0)) for store in stores]
    labels, added = heard[0].labels, len(enrolled[heard[0].member])
    songs, rows = len(labels), []
    if songs and added:
        plain = {s.member: index_of(s, indexes[s.member].segments.kind) for s in train}
        pair = [score_songs(fusion, heard, each).scores[FUSED] for each in (plain, indexes)]
        groups = heard[0].groups
        for name, most, metric in (
            ("top-1", 1.0, lambda logs: top_k_hits(labels, logs, 1)),
            ("top-3", 1.0, lambda logs: top_k_hits(labels, logs, 3)),
            ("score", 1.5, lambda logs: song_score(labels, logs)),
            ("NLL", np.inf, lambda logs: song_nll(labels, logs)),
        ):
            before, after = (mean_of(np.asarray(metric(logs))) for logs in pair)
            rows.append(
                Cost(
                    name,
                    bootstrap_interval(before, songs, seed, groups, (0.0, most)),
                    bootstrap_interval(after, songs, seed, groups, (0.0, most)),
                    paired_difference(after, before, songs, seed, groups, most),
                )
            )
    return Costs(songs, added, len(copies) - songs, tuple(rows))
