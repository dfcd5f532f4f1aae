"""Validation songs with their vocals turned down, as members hear them.

Enters: a prepared run whose validation songs have both stems. Leaves: a store a member, split
"remade". The experts make on them the mistakes that fusion learns weights from; what they are worth
is always measured on the songs as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedder.artifacts import Run
from embedder.catalogue import Catalogue
from embedder.checkpoint import load_member
from embedder.data.cache import AudioCache
from embedder.data.decoding import Progress, no_progress
from embedder.data.excerpts import remade
from embedder.embed import SongVectors, embed_wave, stem_key, store_of_songs
from embedder.listening import Listening
from embedder.memory import reuse_freed_memory
from embedder.model.network import default_device
from embedder.separation.songs import separated_vocals, separator_of
from embedder.store import REMADE, REMADE_DB, origin, write_store
from embedder.voice.detect import heard_voice, load_detector


def embed_remade(
    run: Run,
    catalogue: Catalogue,
    names: Sequence[str],
    listening: Listening,
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Remake the validation songs, embed them with the named members and write the stores.

    Each song's vocals are turned down by up to `REMADE_DB`, as much as a generator seeded by its
    place says. Members that listen to vocals hear what the run's separator makes of the new
    mixture; without a separator their stem is as it was.

    Raises:
        UserError: a member or the separator cannot be read, or a song has no stems.
    """
    reuse_freed_memory()
    where = default_device(device)
    cache, detector = AudioCache(run.cache), load_detector(run, where)
    members = [load_member(run, name, where) for name in names]
    listens = {member.config.train.recording for member in members}
    separator = separator_of(run, catalogue, where) if "vocals" in listens else None
    songs = catalogue.of("validation")
    found: list[list[SongVectors]] = [[] for _ in members]
    for number, song in enumerate(progress(songs, len(songs), "validation songs, vocals lower")):
        louder_db = -np.random.default_rng(number).uniform(0, REMADE_DB)
        waves = {"mix": remade(song, cache, louder_db)}
        if "vocals" in listens:
            stem = cache.samples(stem_key(song, "vocals"))
            waves["vocals"] = separated_vocals(separator, waves["mix"]) if separator else stem
        voices = {stem: heard_voice(detector, waves[stem], stem) for stem in listens}
        for vectors, member in zip(found, members, strict=True):
            stem_name = member.config.train.recording
            vectors.append(embed_wave(member, waves[stem_name], listening, voices[stem_name]))
    for vectors, member in zip(found, members, strict=True):
        separates = separator.fingerprint() if separator else ""
        made_from = origin(catalogue, REMADE, member.config, listening, separates)
        store = store_of_songs(member, REMADE, vectors, songs, catalogue, made_from)
        write_store(run.store(member.name, REMADE), store)
