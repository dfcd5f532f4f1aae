"""Vectors of every kind: against brute force, of equal ones, of some of them, and from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.index import vectors as module
from ensemble.index.vectors import (
    KINDS,
    MIN_VECTORS,
    Vectors,
    build_vectors,
    cached_vectors,
    read_vectors,
    recall,
    write_vectors,
)

Rows = NDArray[np.float32]
DIM = 16


def unit(rows: NDArray[np.floating]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int) -> Rows:
    """Some hundred clusters that overlap."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(300, DIM))
    return unit(centres[rng.integers(300, size=count)] + 0.6 * rng.normal(size=(count, DIM)))


def brute(vectors: Rows, query: Rows, rows: NDArray[np.int64]) -> list[int]:
    """Rows by falling cosine in double precision; equal ones in row order."""
    cosines = vectors[rows].astype(np.float64) @ query.astype(np.float64)
    return [int(rows[place]) for place in np.argsort(-cosines, kind="stable")]


@pytest.fixture(scope="module")
def vectors() -> Rows:
    return clustered(MIN_VECTORS["ivfpq"], seed=0)


@pytest.fixture(scope="module")
def queries() -> Rows:
    return clustered(50, seed=1)


@pytest.fixture(scope="module")
def built(vectors: Rows) -> dict[str, Vectors]:
    return {kind: build_vectors(vectors, kind) for kind in KINDS}


@pytest.fixture(params=["few", "many"])
def together(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many queries to hand to faiss at once: few, or so many that it multiplies with BLAS."""
    before = faiss.cvar.distance_compute_blas_threshold
    if request.param == "many":
        faiss.cvar.distance_compute_blas_threshold = 1  # some thousand, if it is left alone
    yield 2 if request.param == "few" else 40
    faiss.cvar.distance_compute_blas_threshold = before


@pytest.mark.parametrize("k", [1, 7, 60, 500])
def test_flat_finds_what_brute_force_finds(k: int, together: int) -> None:
    rng = np.random.default_rng(0)
    rows, asked = unit(rng.normal(size=(60, 8))), unit(rng.normal(size=(together, 8)))
    near, found = build_vectors(rows).search(asked, k)
    assert near.dtype == np.float64
    for query, cosines, places in zip(asked, near, found, strict=True):
        assert list(places) == brute(rows, query, np.arange(60))[:k]
        np.testing.assert_allclose(cosines, rows[places].astype(np.float64) @ query, atol=1e-6)


@pytest.mark.parametrize("k", range(1, 8))
def test_of_equal_vectors_the_first_come_first(k: int, together: int) -> None:
    rows = np.array([[0.6, 0.8]] * 3 + [[1.0, 0.0]] + [[0.6, 0.8]] * 2 + [[0.0, 1.0]], np.float32)
    asked = np.tile(np.eye(2, dtype=np.float32), (together // 2, 1))
    _, found = build_vectors(rows).search(asked, k)
    for along_x, along_y in found.reshape(-1, 2, k):
        assert list(along_x) == [3, 0, 1, 2, 4, 5, 6][:k]
        assert list(along_y) == [6, 0, 1, 2, 4, 5, 3][:k]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_most_of_the_nearest_with_their_cosines(
    kind: str, built: dict[str, Vectors], vectors: Rows, queries: Rows
) -> None:
    near, found = built[kind].search(queries, 10)
    hits = 0
    for query, cosines, places in zip(queries, near, found, strict=True):
        assert len(set(places)) == 10
        assert np.all(np.diff(cosines) <= 0)
        np.testing.assert_allclose(cosines, vectors[places] @ query, atol=2e-3)
        hits += len(set(places) & set(brute(vectors, query, np.arange(len(vectors)))[:10]))
    assert hits / 500 >= (1.0 if kind == "flat" else 0.95)
    assert recall(built[kind], vectors, queries) == pytest.approx(hits / 500)


def test_recall_counts_what_is_found_of_the_true_neighbours() -> None:
    rng = np.random.default_rng(2)
    rows, asked = unit(rng.normal(size=(50, 6))), unit(rng.normal(size=(30, 6)))
    wrong = unit(rows + 0.2 * rng.normal(size=rows.shape))
    hits = [
        len(set(brute(rows, q, np.arange(50))[:5]) & set(brute(wrong, q, np.arange(50))[:5]))
        for q in asked
    ]
    share = recall(build_vectors(wrong), rows, asked, k=5)
    assert share == pytest.approx(sum(hits) / 150)
    assert 0.2 < share < 0.95
    with pytest.raises(ValueError, match="recall needs a query"):
        recall(build_vectors(rows), rows, asked[:0])


@pytest.mark.parametrize("kind", KINDS)
def test_all_are_found_where_all_are_asked_for(
    kind: str, built: dict[str, Vectors], vectors: Rows, queries: Rows
) -> None:
    near, found = built[kind].search(queries[:2], 10**6)
    assert near.shape == found.shape == (2, len(vectors))
    for cosines, places in zip(near, found, strict=True):
        np.testing.assert_array_equal(np.sort(places), np.arange(len(vectors)))
        assert np.all(np.diff(cosines) <= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_rows_asked_for_are_found(
    kind: str, built: dict[str, Vectors], vectors: Rows, queries: Rows
) -> None:
    some = np.random.default_rng(3).choice(len(vectors), 4000, replace=False)
    _, found = built[kind].search(queries, 10, some)
    hits = [
        len(set(places) & set(brute(vectors, query, np.sort(some))[:10]))
        for query, places in zip(queries, found, strict=True)
    ]
    assert np.isin(found, some).all()
    assert np.mean(hits) >= 9.5
    few = np.array([7, 9000, 4])  # far apart: the approximate ways meet them by chance only
    _, found = built[kind].search(queries, 10, few)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile([4, 7, 9000], (50, 1)))
    near, found = built[kind].search(queries, 10, few[:0])
    assert near.shape == found.shape == (50, 0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_of_equal_vectors_the_first_that_may_be_found_come_first(k: int) -> None:
    rows = np.tile(np.array([[0.6, 0.8]], np.float32), (6, 1))
    _, found = build_vectors(rows).search(rows[:1], k, np.array([5, 2, 4, 1]))
    assert list(found[0]) == [1, 2, 4][:k]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_file(
    kind: str, built: dict[str, Vectors], vectors: Rows, tmp_path: Path
) -> None:
    one, again, other = (tmp_path / name for name in "abc")
    write_vectors(one, built[kind])
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)  # as many as there may be elsewhere
    try:
        write_vectors(again, build_vectors(vectors, kind))
        write_vectors(other, build_vectors(vectors, kind, seed=1))
    finally:
        faiss.omp_set_num_threads(threads)
    assert one.read_bytes() == again.read_bytes()
    assert (one.read_bytes() == other.read_bytes()) == (kind == "flat")


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_comes_back_as_it_was_written(
    kind: str, memory_map: bool, built: dict[str, Vectors], queries: Rows, tmp_path: Path
) -> None:
    path = tmp_path / "fusión" / "Зоя.songs.faiss"
    write_vectors(path, built[kind])
    back = read_vectors(path, memory_map)
    assert (back.kind, back.dim, len(back)) == (kind, DIM, MIN_VECTORS["ivfpq"])
    asked = queries[:20]
    for k in (10, 2000):  # 2000: more than the approximate kinds look at by themselves
        for one, other in zip(back.search(asked, k), built[kind].search(asked, k), strict=True):
            np.testing.assert_array_equal(one, other)


def stored(vectors: Vectors) -> object:
    """The faiss index that holds the vectors themselves."""
    index = vectors.index
    inner = {"flat": index, "hnsw": getattr(index, "storage", None)}
    return faiss.downcast_index(inner.get(vectors.kind) or index.refine_index)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_stay_on_disk_unless_they_are_asked_for(
    kind: str, built: dict[str, Vectors], tmp_path: Path
) -> None:
    write_vectors(tmp_path / "a", built[kind])
    assert not stored(read_vectors(tmp_path / "a")).codes.is_owned  # type: ignore[attr-defined]
    assert stored(read_vectors(tmp_path / "a", False)).codes.is_owned  # type: ignore[attr-defined]


def test_where_no_file_can_be_mapped_it_is_read(
    built: dict[str, Vectors], queries: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vectors(tmp_path / "a", built["flat"])
    read = faiss.read_index

    def as_on_windows(source: object, *flags: int) -> object:
        if isinstance(source, str):
            raise RuntimeError("could not open a for reading")
        return read(source, *flags)

    monkeypatch.setattr(module.faiss, "read_index", as_on_windows)
    back = read_vectors(tmp_path / "a")
    np.testing.assert_array_equal(back.search(queries, 9)[1], built["flat"].search(queries, 9)[1])


def test_what_is_no_such_index_is_refused(built: dict[str, Vectors], tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    with pytest.raises(FileNotFoundError):
        read_vectors(path)
    for kind in KINDS:
        write_vectors(path, built[kind])
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"a\.faiss is no index of vectors: .*read error"):
            read_vectors(path)
    path.write_bytes(b"RIFF" * 100)
    with pytest.raises(ValueError, match=r"a\.faiss is no index of vectors"):
        read_vectors(path)
    for other in (faiss.IndexFlatL2(3), faiss.IndexLSH(8, 8), faiss.IndexHNSWFlat(8, 4)):
        faiss.write_index(other, str(path))
        with pytest.raises(ValueError, match="holds another index than flat, ivfpq, hnsw: Index"):
            read_vectors(path)


def test_bad_vectors_and_queries_are_refused(vectors: Rows) -> None:
    with pytest.raises(ValueError, match="one of flat, ivfpq, hnsw, not 'tree'"):
        build_vectors(vectors, "tree")
    with pytest.raises(ValueError, match=r"need \(n ≥ 1, dim ≥ 1\) vectors, not \(0, 16\)"):
        build_vectors(vectors[:0])
    with pytest.raises(ValueError, match=r"not \(16,\)"):
        build_vectors(vectors[0])
    with pytest.raises(ValueError, match="ivfpq needs at least 9984 vectors, not 9983"):
        build_vectors(vectors[1:], "ivfpq")
    for factor in (1.01, np.nan):
        bad = vectors[:5].copy()
        bad[3] *= factor
        with pytest.raises(ValueError, match="must be of unit length"):
            build_vectors(bad)
    index = build_vectors(vectors[:5])
    with pytest.raises(ValueError, match=r"queries \(2, 7\), but the index has 16 dim"):
        index.search(np.zeros((2, 7), np.float32), 3)
    with pytest.raises(ValueError, match="k must be 1 or more, not 0"):
        index.search(vectors[:2], 0)


def not_needed() -> Rows:
    raise AssertionError("built, though there is a file")


@pytest.fixture
def cached(vectors: Rows, tmp_path: Path) -> Path:
    """A file of the first 60 vectors."""
    path = tmp_path / "fusión" / "m.segments.ab.faiss"
    made = cached_vectors(path, "flat", (60, DIM), lambda: vectors[:60])[1]
    np.testing.assert_array_equal(made, vectors[:60])
    return path


def test_a_cached_index_is_read_and_left_alone(cached: Path, vectors: Rows) -> None:
    before = cached.stat()
    found, made = cached_vectors(cached, "flat", (60, DIM), not_needed)
    assert made is None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), vectors[:60])
    assert (cached.stat().st_ino, cached.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [file.name for file in cached.parent.iterdir()] == [cached.name]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_what_was_built_is_searched_from_its_file(kind: str, vectors: Rows, tmp_path: Path) -> None:
    found, _ = cached_vectors(tmp_path / "a.faiss", kind, (60, DIM), lambda: vectors[:60])
    assert not stored(found).codes.is_owned  # type: ignore[attr-defined]


@pytest.mark.parametrize("spoiled", ["cut", "half", "empty", "foreign", "gone", "other", "kind"])
def test_a_file_that_is_no_such_index_is_built_again(
    spoiled: str, cached: Path, vectors: Rows
) -> None:
    whole = cached.read_bytes()
    if spoiled == "gone":
        cached.unlink()
    elif spoiled == "other":
        write_vectors(cached, build_vectors(vectors[:61]))
    elif spoiled == "kind":
        write_vectors(cached, build_vectors(vectors[:60], "hnsw"))
    else:
        left = {"cut": whole[:-1], "half": whole[:1000], "empty": b"", "foreign": b"RIFF" * 999}
        cached.write_bytes(left[spoiled])
    found, made = cached_vectors(cached, "flat", (60, DIM), lambda: vectors[:60])
    assert made is not None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), vectors[:60])
    assert cached.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_no_error(vectors: Rows, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "m.faiss"
    found, made = cached_vectors(path, "flat", (60, DIM), lambda: vectors[:60])
    assert made is not None
    np.testing.assert_array_equal(found.index.reconstruct_n(0, 60), vectors[:60])
