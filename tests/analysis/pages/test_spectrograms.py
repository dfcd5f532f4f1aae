"""The page of spectrograms: what it says, and what it plays."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from analysis.analyze import analyze
from analysis.pages.spectrograms import (
    height,
    palette,
    picture,
    spectrograms_finding,
    spectrograms_page,
)
from analysis.run_data import read_run_data
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.measures.records import SPECTROGRAMS_FILE, Spectrograms, write_spectrograms
from embedder.run import Run

Drawn = Callable[..., Spectrograms]


def put(run: Run, found: Spectrograms) -> Run:
    songs = [
        Song(name, "/gone", singer, "First", "0 tune", "train", 9.0, *keys)
        for name, singer, keys in zip(found.songs, found.singers, found.keys, strict=True)
    ]
    write_catalogue(run.catalogue, Catalogue(tuple(songs)))
    write_spectrograms(run, found)
    return run


def test_the_finding_is_the_correlation_of_the_pictures(drawn: Drawn) -> None:
    found = drawn()
    pairs = [(found.mixture[row].ravel(), found.vocals[row].ravel()) for row in (0, 1)]
    low, high = (float(np.corrcoef(*pair)[0, 1]) for pair in pairs)
    assert low < 0.3 < 0.9 < high
    assert spectrograms_finding(found) == (
        f"3 seconds of each of 3 singers: the levels of mixture and vocals correlate with r = "
        f"{(low + high) / 2:.2f} on average, from {low:.2f} (Ada) to {high:.2f} (Ben & Co); what "
        "the mixture shows beyond the vocals is the band."
    )
    bare = replace(found, keys=tuple((one, "") for one, _ in found.keys))
    assert "no vocal stems to set beside" in spectrograms_finding(bare)
    flat = replace(found, vocals=np.zeros_like(found.vocals))
    assert "r = 0.00 on average" in spectrograms_finding(flat)


def test_without_a_measure_or_with_a_broken_one(build_run: Callable[..., Run]) -> None:
    run = build_run()
    assert "The spectrograms are not drawn; run again: python app.py measure --what" in (
        spectrograms_page(read_run_data(run))
    )
    run.measure(SPECTROGRAMS_FILE).parent.mkdir()
    run.measure(SPECTROGRAMS_FILE).write_bytes(b"broken")
    assert "is not a readable file of spectrograms" in spectrograms_page(read_run_data(run))


def test_songs_that_changed_are_owned_up_to(build_run: Callable[..., Run], drawn: Drawn) -> None:
    run = put(build_run(), drawn())
    assert "have changed since" not in spectrograms_page(read_run_data(run))
    write_spectrograms(run, drawn(keys=(("mix0", "vocals0"), ("old", "vocals1"), ("mix2", ""))))
    assert "1 of the songs have changed since; run again" in spectrograms_page(read_run_data(run))


def test_pictures_and_players(
    build_run: Callable[..., Run], drawn: Drawn, visit: Callable[..., Any]
) -> None:
    run = put(build_run(), drawn())
    run.cache.mkdir()
    rng = np.random.default_rng(0)
    for key in ("mix0", "vocals0", "mix1"):  # the second singer's stem is gone
        np.save(run.decoded(key), (3000 * rng.normal(size=9 * 16000)).astype(np.int16))
    (path,) = analyze(run, pages=["spectrograms"], with_audio=True)
    act = """
    const cards = Array.from(document.querySelectorAll(".singer-mels"));
    return cards.map((card) => ({
      name: card.querySelector("h2").textContent, song: card.querySelector("p").textContent,
      pictures: Array.from(card.querySelectorAll("img")).map(
        (one) => [one.alt, one.naturalWidth, one.naturalHeight]),
      sound: Array.from(card.querySelectorAll("audio")).map((one) => one.getAttribute("src")),
    }));"""
    ada, ben, cem = visit(path, act, 390)
    assert (ada["name"], ada["song"]) == ("Ada", "0 tune")
    assert ada["pictures"] == [
        ["Log-mel spectrogram of 3 s of Ada: mixture", 12, 8],
        ["Log-mel spectrogram of 3 s of Ada: vocals", 12, 8],
    ]
    assert ada["sound"] == ["audio/mix0-1-3s.mp3", "audio/vocals0-1-3s.mp3"]
    assert ben["sound"] == ["audio/mix1-2-3s.mp3"]
    assert (len(cem["pictures"]), cem["sound"]) == (1, [])
    assert cem["song"] == "0 tune (no vocal stem)"
    assert soundfile.info(run.pages / ada["sound"][0]).duration == pytest.approx(3, abs=0.1)
    plain = spectrograms_page(read_run_data(run))
    assert "<audio" not in plain
    assert "<script" not in plain


def test_levels_come_back_from_their_colours() -> None:
    levels = np.arange(240, dtype=np.uint8).reshape(12, 20)
    colours = palette()
    address = picture(levels, colours)
    kind, _, data = address.partition(";base64,")
    assert kind == "data:image/png"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (20, 12)
    seen = np.asarray(image.convert("RGB"))
    table = np.array(colours).reshape(256, 3)
    np.testing.assert_array_equal(seen[::-1], table[levels])
    assert picture(levels, colours) == address


def test_louder_is_brighter() -> None:
    red, green, blue = np.array(palette()).reshape(256, 3).T
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert (np.diff(light[::16]) > 0).all()


def test_heights_of_frequencies() -> None:
    centres = [100.0, 200.0, 400.0, 800.0]
    assert height(100, centres) == pytest.approx(0.125)
    assert height(800, centres) == pytest.approx(0.875)
    assert height(300, centres) == pytest.approx(0.5)
