"""Validation songs with lower vocals: what members hear of them, and what without a separator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embedder.artifacts import Run
from embedder.catalogue import read_catalogue
from embedder.checkpoint import load_member
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.embed import embed_wave
from embedder.embed_remade import embed_remade
from embedder.listening import Listening
from embedder.store import REMADE, REMADE_DB, read_store
from embedder.train import train_member


def test_the_store_holds_the_validation_songs_with_lower_vocals(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    trained.store("aam", REMADE).unlink()
    embed_remade(trained, catalogue, ["aam"], Listening())
    plain, found = (read_store(trained.store("aam", split)) for split in ("validation", REMADE))
    assert found.song_ids == plain.song_ids
    assert (found.labels == plain.labels).all()
    assert found.albums == plain.albums
    assert not np.allclose(found.embeddings, plain.embeddings, atol=1e-3)

    cache, member = AudioCache(trained.cache), load_member(trained, "aam", torch.device("cpu"))
    for row, song in enumerate(catalogue.of("validation")[:3]):
        lower_db = np.random.default_rng(row).uniform(0, REMADE_DB)
        vocals, backing = (cache.samples(key).astype(float) for key in (song.vocals, song.backing))
        length = min(len(vocals), len(backing))
        wave = backing[:length] + vocals[:length] / 10 ** (lower_db / 20)
        wanted = embed_wave(member, np.clip(wave.round(), -32768, 32767).astype(np.int16))
        part = found.segments_of(row)
        assert np.allclose(found.segment_embeddings[part], wanted.embeddings, atol=1e-5)


def test_without_a_separator_a_member_that_hears_vocals_hears_them_as_they_were(
    prepared: Run, tiny: Callable[..., MemberConfig]
) -> None:
    from embedder.embed import embed_split

    catalogue = read_catalogue(prepared.catalogue)
    config = tiny(loss="aam", stem="vocals")
    train_member(prepared, catalogue, "sung", config, device="cpu", say=lambda _: None)
    plain = embed_split(
        prepared, catalogue, load_member(prepared, "sung", torch.device("cpu")), "validation"
    )
    embed_remade(prepared, catalogue, ["sung"], Listening())
    found = read_store(prepared.store("sung", REMADE))
    assert found.embeddings == pytest.approx(plain.embeddings, abs=1e-6)
