"""The kinds of index, each a recipe for FAISS.

Enters: unit vectors `(n, dim)`, float32, and a seed. Leaves: a faiss index whose metric is the
inner product, with what decides between its speed and its recall already set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

# Its type stubs lack what is used here of the index classes.
faiss: Any = typed_faiss
Floats = NDArray[np.float32]

BUILT_AS = 1  # raised whenever a number below or a builder changes: older files are built anew

# IVF-PQ: an inverted file of product-quantised residuals, whose candidates are compared again with
# their vectors in half precision (Jégou et al. 2011).
POINTS_PER_CENTROID = 39  # fewer, and faiss itself calls the centroids badly trained
MOST_POINTS = 64  # training points a list; more take longer and no longer help
CODES = 256  # centroids of a sub-quantiser: 8 bits
PROBED = 32  # lists that are looked into
REFINED = 8  # candidates compared again, times k

# HNSW (Malkov & Yashunin 2018)
LINKS = 32
EF_CONSTRUCTION = 80
EF_SEARCH = 128


def _flat(vectors: Floats, _: int) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _ivfpq(vectors: Floats, seed: int) -> Any:
    count, dim = vectors.shape
    lists = min(round(4 * count**0.5), count // POINTS_PER_CENTROID)
    parts = max(m for m in range(1, max(1, dim // 4) + 1) if dim % m == 0)
    index: Any = faiss.index_factory(
        dim, f"IVF{lists},PQ{parts}x8,Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT
    )
    index.k_factor = REFINED
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    ivf.do_polysemous_training = False  # orders codes for a filter that is not used here
    ivf.nprobe = min(PROBED, lists)
    ivf.cp.seed = ivf.pq.cp.seed = seed + 1
    most = min(count, max(MOST_POINTS * lists, 256 * CODES))
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    index.train(vectors[np.sort(chosen)])
    index.add(vectors)
    return index


def _hnsw(vectors: Floats, seed: int) -> Any:
    index: Any = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.hnsw.efSearch = EF_SEARCH
    index.hnsw.rng = faiss.RandomGenerator(seed + 1)
    # Threads link vectors in the order in which they happen to run: one gives the same graph.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


KINDS: dict[str, Callable[[Floats, int], Any]] = {"flat": _flat, "ivfpq": _ivfpq, "hnsw": _hnsw}
# Vectors that a kind needs: ivfpq learns its codes from them.
LEAST = {"flat": 1, "ivfpq": POINTS_PER_CENTROID * CODES, "hnsw": 1}
CLASSES = {"IndexFlatIP": "flat", "IndexRefine": "ivfpq", "IndexHNSWFlat": "hnsw"}
