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
MOST_POINTS = 64  # training points a list: faiss itself would take 256, in four times the time
CODES = 256  # centroids of a sub-quantiser: 8 bits
# recall@10 of a million vectors of `benchmark-index`: 0.907 with 4, 0.977 with 8, 0.990 with 16,
# 0.992 with 32 candidates; with 16 and 8 lists 0.976, with 128 lists 0.995 at half the speed.
PROBED = 32  # lists that are looked into
REFINED = 16  # candidates compared again, times k

# A graph in which each vector is linked to near ones, HNSW (Malkov & Yashunin 2018). 100,000
# vectors: recall@10 with 40, 80 and 160 while building 0.994, 0.999 and 1.000. A million: with 32,
# 64, 128 and 256 while searching 0.933, 0.968, 0.988 and 0.991.
LINKS = 32  # M: of a vector; twice as many on the lowest level
EF_CONSTRUCTION = 80  # candidates kept while a vector is linked
EF_SEARCH = 128  # candidates kept while one is looked for


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
    index.add(vectors)  # since faiss 1.15 any number of threads makes the same graph
    return index


KINDS: dict[str, Callable[[Floats, int], Any]] = {"flat": _flat, "ivfpq": _ivfpq, "hnsw": _hnsw}
# Vectors that a kind needs: ivfpq learns its codes from them.
LEAST = {"flat": 1, "ivfpq": POINTS_PER_CENTROID * CODES, "hnsw": 1}
CLASSES = {"IndexFlatIP": "flat", "IndexRefine": "ivfpq", "IndexHNSWFlat": "hnsw"}
