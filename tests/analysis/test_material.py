"""What pages are made of fits together, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.material import read_material
from embedder.artifacts import Run
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.embed import embed_stale


def test_stores_that_an_interrupted_fuse_embedded_are_not_taken_for_those_fused(
    trained: Run,
) -> None:
    read_material(trained)
    catalogue = read_catalogue(trained.catalogue)
    embed_stale(trained, catalogue, [("aam", "validation")], InferenceConfig(1.0, 0.5), "cpu")
    with pytest.raises(UserError, match=r"is of .*, 1 s every 0\.5 s, .* the fusion of"):
        read_material(trained)


def test_a_fusion_of_other_songs_is_not_shown(trained: Run) -> None:
    first, *others = read_catalogue(trained.catalogue).songs
    write_catalogue(trained.catalogue, Catalogue((replace(first, audio="other"), *others)))
    with pytest.raises(UserError, match="other songs"):
        read_material(trained)
