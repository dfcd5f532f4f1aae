"""t-SNE maps: points in the plane, near each other where their embeddings are alike.

Maps of unit embeddings for a few perplexities, kept in one `.npz` with a fingerprint of what they
were fitted to, and where new embeddings lie on a finished map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact, fingerprint
from embedder.errors import Command, UserError
from ensemble.index.members import as_unit, halves
from ensemble.index.vectors import build_vectors, threads

PERPLEXITIES = (10.0, 30.0, 100.0)
FIRST = 30.0  # the perplexity that is mapped first, and the others from it
FEWEST = 4  # points that have no neighbourhoods to speak of
EXACT = 10_000  # points up to which forces are summed by Barnes and Hut's tree, on one thread
BLOCK = 4096  # points whose neighbours are searched at a time
# Above `EXACT`: width of the grid's cells on which forces are interpolated. With 60,000 points 2
# takes half of the time of openTSNE's 1, and maps keep 33 in place of 35 of 100 near neighbours.
CELL = 2
ROUNDS = (250, 500)  # with early exaggeration and without, openTSNE's own
MORE_ROUNDS = 250  # from one perplexity to the next
REPORT_ROUNDS = 25  # rounds between two reports of how far a fit is
SEARCH = 100  # rounds that take as long as the search of the neighbours
EXAGGERATION = 12.0

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
OnProgress = Callable[[float], object]  # is given the share of the work that is done, 0 to 1


def perplexities_for(count: int) -> tuple[float, ...]:
    """Which of `PERPLEXITIES` a map of so many points can have.

    Three times as many neighbours are looked at. Where there are too few points for the smallest,
    it is a third of the other points.
    """
    most = (count - 1) / 3
    return tuple(one for one in PERPLEXITIES if one <= most) or (max(most, 1.0),)


def fit_maps(
    vectors: Floats,
    perplexities: Sequence[float],
    seed: int,
    on_progress: OnProgress = lambda _: None,
) -> Points:
    """t-SNE (van der Maaten & Hinton 2008) of unit vectors by cosine distance.

    Leaves (perplexities, n, 2), the middle of each map's extent at 0. The first map starts from the
    first two principal components, so that it keeps their large arrangement (Kobak & Berens 2019),
    and is of the perplexity nearest to 30; the others go on from it, so that a point keeps its
    place as far as it can. Neighbours are exact. Up to four points stay on the components. `tell`
    is called every few rounds with the share that is done.
    """
    start = components(vectors, seed)
    count = len(vectors)
    if count <= FEWEST:
        return np.repeat(centred(start)[None], len(perplexities), axis=0)
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    first = min(perplexities, key=lambda one: abs(one - FIRST))
    others = [one for one in perplexities if one != first]
    total = SEARCH + sum(ROUNDS) + MORE_ROUNDS * len(others)
    most = min(count - 1, int(3 * max(perplexities)))
    rows, distances = neighbours(vectors, most, lambda share: on_progress(share * SEARCH / total))
    done = SEARCH
    jobs = 1 if count <= EXACT else threads()
    method = "bh" if count <= EXACT else "fft"

    def report(rounds: int, *_: object) -> None:
        on_progress((done + rounds) / total)

    def begun(perplexity: float, points: Points) -> Any:
        near = min(count - 1, int(3 * perplexity))
        index = PrecomputedNeighbors(rows[:, :near], distances[:, :near])
        affinities = PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=jobs)
        return TSNEEmbedding(
            points, affinities, random_state=seed, n_jobs=jobs, negative_gradient_method=method,
            ints_in_interval=CELL, use_callbacks=True, callbacks_every_iters=REPORT_ROUNDS,
            callbacks=[report],
        )  # fmt: skip

    fitted = begun(first, start * 1e-4)
    fitted.optimize(ROUNDS[0], exaggeration=EXAGGERATION, momentum=0.8, inplace=True)
    done += ROUNDS[0]
    fitted.optimize(ROUNDS[1], momentum=0.8, inplace=True)
    done += ROUNDS[1]
    maps = {first: np.asarray(fitted, dtype=np.float64)}
    for perplexity in others:
        moved = begun(perplexity, maps[first])
        moved.optimize(MORE_ROUNDS, momentum=0.8, inplace=True)
        done += MORE_ROUNDS
        maps[perplexity] = np.asarray(moved, dtype=np.float64)
    return np.stack([centred(maps[perplexity]) for perplexity in perplexities])


def neighbours(
    vectors: Floats, k: int, on_progress: OnProgress = lambda _: None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows (n, k) of the k others most like each unit vector, and their cosine distances, 0 to 2.

    Most alike first, equal ones in row order.
    """
    index = build_vectors(vectors)
    count = len(vectors)
    rows = np.empty((count, k), dtype=np.int32)
    distances = np.empty((count, k), dtype=np.float32)
    for low in range(0, count, BLOCK):
        part = np.arange(low, min(low + BLOCK, count))
        cosines, found = index.search(vectors[part], k + 1)
        other = found != part[:, None]
        other[other.all(axis=1), -1] = False  # so many are equal that it is not among them itself
        rows[part] = found[other].reshape(len(part), k)
        distances[part] = np.maximum(1 - cosines[other], 0).reshape(len(part), k)
        on_progress((low + len(part)) / count)
    return rows, distances


PLACING_PERPLEXITY = 5  # openTSNE's own for new points, as are the numbers below
PLACED_BY = 25  # neighbours in whose median a new point begins
PLACING = {
    "n_iter": 250,
    "learning_rate": 0.1,
    "exaggeration": 1.5,
    "momentum": 0.8,
    "max_grad_norm": 0.25,
}


def place(vectors: Floats, points: Points, new: Floats) -> Points:
    """Where new unit vectors lie on a finished map: what openTSNE's `transform` does.

    Each new point is moved against the map's points alone, which stay; new points do not see each
    other. On a map of so few points that it is no t-SNE, a new one lies beside its nearest.
    `transform` itself would search neighbours by its own index, where ours are exact.

    Args:
        vectors: (n, dim), unit length, of the map.
        points: (n, 2), its middle at 0.
        new: (m, dim), unit length.

    Returns:
        (m, 2).
    """
    index = build_vectors(vectors)
    if len(vectors) <= FEWEST:
        return points[index.search(new, 1)[1][:, 0]]
    from openTSNE import PartialTSNEEmbedding, TSNEEmbedding
    from openTSNE.affinity import (
        PerplexityBasedNN,
        PrecomputedAffinities,
        joint_probabilities_nn,
    )
    from openTSNE.initialization import median
    from scipy.sparse import csr_matrix

    near = min(len(vectors), 3 * PLACING_PERPLEXITY)
    cosines, rows = index.search(new, near)
    affinities = joint_probabilities_nn(
        rows,
        np.maximum(1 - cosines, 0),
        [PerplexityBasedNN.check_perplexity(PLACING_PERPLEXITY, near)],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(vectors),
    )
    # The map's own affinities are not needed, for its points stay.
    none = PrecomputedAffinities(csr_matrix((len(vectors), len(vectors))), normalize=False)
    finished = TSNEEmbedding(points, none, negative_gradient_method="bh")
    placed = PartialTSNEEmbedding(
        median(finished, rows[:, :PLACED_BY]),
        finished,
        P=affinities,
        **finished.gradient_descent_params,
    )
    placed.optimize(**PLACING, inplace=True)
    return np.asarray(placed, dtype=np.float64)


def components(embeddings: Floats, seed: int) -> Points:
    """First two principal components (n, 2), standard deviation 1, with a trace of jitter.

    Signs are fixed by the largest entry, for they are arbitrary. The jitter parts equal points;
    components that do not exist stay at it.
    """
    middle = embeddings.mean(axis=0, dtype=np.float64)
    moved = embeddings.astype(np.float64) - middle
    _, directions = np.linalg.eigh(moved.T @ moved)
    kept = moved @ directions[:, ::-1][:, :2]
    for column in kept.T:
        column *= np.sign(column[np.abs(column).argmax()]) or 1.0
    points = np.zeros((len(embeddings), 2))
    spread = float(kept[:, 0].std())
    if spread > 1e-9:
        points[:, : kept.shape[1]] = kept / spread
    return points + np.random.default_rng(seed).normal(scale=1e-2, size=points.shape)


def centred(points: Points) -> Points:
    """Points (n, 2) with the middle of their extent at 0, where `transform` wants it."""
    return np.asarray(points - (points.max(axis=0) + points.min(axis=0)) / 2)


@dataclass(frozen=True, eq=False)
class FittedMap:
    """Embeddings and where they lie on the maps of a few perplexities."""

    vectors: NDArray[np.floating[Any]]  # (n, dim), unit length; in a file of many, halves
    perplexities: tuple[float, ...]
    points: NDArray[np.float64]  # (perplexities, n, 2), the middle of each map at 0
    made_from: str = ""  # fingerprint of what it was fitted to

    def __post_init__(self) -> None:
        songs, maps = len(self.vectors), len(self.perplexities)
        if self.vectors.ndim != 2 or self.points.shape != (maps, songs, 2):
            raise ValueError(f"{maps} maps of {songs} points are {self.points.shape}")

    def place(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where new unit vectors (m, dim) lie on each map: (perplexities, m, 2)."""
        if not len(vectors):
            return np.zeros((len(self.points), 0, 2))
        return np.stack([place(self.vectors, points, vectors) for points in self.points])


# The format is that of the file and of how maps are fitted: another number is fitted again.
MAP = Artifact("map", 2, FittedMap, Command("analyze", before="run again"))


def finished_map(
    path: Path,
    vectors: NDArray[np.float32],
    perplexities: Sequence[float],
    seed: int,
    on_progress: OnProgress = lambda _: None,
) -> FittedMap:
    """The map of unit vectors (n, dim) that lies at `path`; if that is another, a new one there.

    The embeddings of more than `EXACT` points are kept in half precision. `tell` is given how
    far a fit is.
    """
    settings = f"{MAP.version} {seed} {tuple(perplexities)} {vectors.shape}"
    made_from = fingerprint(settings, np.ascontiguousarray(vectors).tobytes())
    found = read_map(path, made_from)
    if found is None:
        points = fit_maps(vectors, perplexities, seed, on_progress)
        kept = vectors if len(vectors) <= EXACT else halves(vectors)
        MAP.write(path, FittedMap(kept, tuple(perplexities), points.astype(np.float32), made_from))
        found = read_map(path, made_from)
    if found is None:
        raise OSError(f"{path} was written and cannot be read")
    return found


def read_map(path: Path, made_from: str | None = None) -> FittedMap | None:
    """The map at `path`; None if there is none, or one of other things, or none that is whole.

    Without `made_from` it is taken whatever it was fitted to.
    """
    try:
        found = MAP.read(path)
    except UserError:
        return None
    if made_from not in (None, found.made_from):
        return None
    kept = found.vectors
    return replace(
        found,
        vectors=as_unit(kept) if kept.dtype == np.float16 else kept,
        points=found.points.astype(np.float64),
    )
