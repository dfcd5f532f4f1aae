"""Songs made again from their stems, as members hear them.

Enters: a prepared run whose songs have both stems. Leaves: stores of two more splits a member.
`REMADE`: validation songs with their vocals turned down. The experts make on them the mistakes that
fusion learns weights from; what they are worth is always measured on the songs as they are.
`REMIXED`: training songs over the backing of another album. They are what is indexed: of a song as
it is, the network knows the band, which no new song will have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedder.artifacts import Run
from embedder.catalogue import Catalogue
from embedder.checkpoint import Member, load_member
from embedder.data.audio import Samples
from embedder.data.cache import AudioCache
from embedder.data.decoding import Progress, no_progress
from embedder.data.excerpts import remade
from embedder.data.mixtures import remixed
from embedder.embed import SongVectors, embed_wave, stem_key, store_of_songs
from embedder.listening import Listening
from embedder.memory import reuse_freed_memory
from embedder.model.network import default_device
from embedder.separation.songs import separated_vocals, separator_of
from embedder.store import REMADE, REMADE_DB, REMIXED, origin, write_store
from embedder.voice.detect import heard_voice, load_detector


def embed_remade(
    run: Run,
    catalogue: Catalogue,
    stale: Sequence[tuple[str, str]],
    listening: Listening,
    device: str = "auto",
    progress: Progress = no_progress,
) -> None:
    """Embed the splits of the members that are named, `(member, REMADE | REMIXED)`.

    Each validation song's vocals are turned down by up to `REMADE_DB`, as much as a generator
    seeded by its place says. Members that listen to vocals hear what the run's separator makes of
    the new mixture; without a separator their stem is as it was. Each training song gets the
    backing of a song of another album, which such a generator chooses.

    Raises:
        UserError: a member or the separator cannot be read, or a song has no stems.
    """
    reuse_freed_memory()
    where = default_device(device)
    cache, detector = AudioCache(run.cache), load_detector(run, where)
    members = {name: load_member(run, name, where) for name, _ in stale}
    listens = {members[name].config.train.recording for name, split in stale if split == REMADE}
    separator = separator_of(run, catalogue, where) if "vocals" in listens else None
    separates = separator.fingerprint() if separator else ""

    def lowered(number: int) -> dict[str, Samples]:
        song = catalogue.of("validation")[number]
        louder_db = -np.random.default_rng(number).uniform(0, REMADE_DB)
        waves = {"mix": remade(song, cache, louder_db)}
        if "vocals" in listens:
            stem = cache.samples(stem_key(song, "vocals"))
            waves["vocals"] = separated_vocals(separator, waves["mix"]) if separator else stem
        return waves

    def exchanged(number: int) -> dict[str, Samples]:
        song = catalogue.of("train")[number]
        others = [other for other in catalogue.of("train") if other.album_id != song.album_id]
        chosen = others[int(np.random.default_rng(number).integers(len(others)))]
        return {"mix": remixed(song, chosen, cache)}

    for split, source, waves_of, what in (
        (REMIXED, "train", exchanged, "training songs, another backing"),
        (REMADE, "validation", lowered, "validation songs, vocals lower"),
    ):
        chosen = [members[name] for name, wanted in stale if wanted == split]
        if not chosen:
            continue
        songs = catalogue.of(source)
        found: list[tuple[Member, list[SongVectors]]] = [(member, []) for member in chosen]
        for number in progress(range(len(songs)), len(songs), what):
            waves = waves_of(number)
            voices = {stem: heard_voice(detector, wave, stem) for stem, wave in waves.items()}
            for member, vectors in found:
                stem = member.config.train.recording
                vectors.append(embed_wave(member, waves[stem], listening, voices[stem]))
        for member, vectors in found:
            made_from = origin(catalogue, split, member.config, listening, separates)
            store = store_of_songs(member, split, vectors, songs, catalogue, made_from)
            write_store(run.store(member.name, split), store)
