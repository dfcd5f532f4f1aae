"""A map with all that it can show: players, placed files, and what is known of the singers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from analysis.analyze import analyze
from embedder.artifacts import Run
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.inference.store import read_store
from ensemble.placed import Placed


@pytest.fixture(scope="session")
def mapped(run_at: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One member's map, of which the first song and a file called `a <b>file</b>` have players."""
    folder = tmp_path_factory.mktemp("mapped")
    run = run_at(folder / "run", members=("aam",))
    train, validation = (read_store(run.store("aam", split)) for split in ("train", "validation"))
    first = train.song_ids[0]
    song = Song(
        id=first, path=str(folder / "gone.wav"), singer="Ada", album="First", title="0 tune",
        split="train", audio="hash",
    )  # fmt: skip
    write_catalogue(run.catalogue, Catalogue((song,)))
    run.cache.mkdir()
    np.save(run.decoded("hash"), np.zeros(20 * 16000, np.int16))
    new = folder / "new.wav"
    soundfile.write(new, np.zeros(16000 * 16), 16000)
    store = replace(validation.take(np.array([0])), song_ids=("file 1",), split="")
    placed = Placed(
        (new,), ("a <b>file</b>",), (*train.singers, "Enrolled"),
        np.array([[0.1, 0.2, 0.0, 0.1, 0.6]]), ((store,),), ((),),
    )  # fmt: skip
    run.singer_facts.write_text(
        "singer,sex,low_hz,high_hz\nAda,f,200,800\nCem,m,100,400\n", encoding="utf-8"
    )
    analyze(run, pages=["tsne"], with_audio=True, placed=placed)
    return run
