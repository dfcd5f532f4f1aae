"""A split becomes a numbered test folder."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedder.catalogue import Catalogue, read_catalogue
from embedder.data.cache import AudioCache
from embedder.data.excerpts import attenuated_mix, write_excerpts
from embedder.errors import UserError
from embedder.run import Run


def truth_of(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return dict(csv.reader(file))  # type: ignore[arg-type]


def test_whole_songs_keep_every_sample_and_their_singer(prepared: Run, tmp_path: Path) -> None:
    catalogue = read_catalogue(prepared.catalogue)
    truth = truth_of(write_excerpts(prepared, catalogue, "validation", tmp_path / "x", None))
    songs = catalogue.of("validation")
    assert sorted(truth.values()) == sorted(song.singer for song in songs)
    assert [p.name for p in sorted((tmp_path / "x").glob("*.flac"))] == [
        f"{n:04d}.flac" for n in range(1, len(songs) + 1)
    ]
    cache = AudioCache(prepared.cache)
    for number, singer in truth.items():
        wave, rate = soundfile.read(tmp_path / "x" / f"{int(number):04d}.flac", dtype="int16")
        assert rate == 16000
        same = [
            song.singer
            for song in songs
            if len(wave) == cache.length(song.audio)
            and np.array_equal(wave, cache.samples(song.audio))
        ]
        assert same == [singer]


def test_excerpts_lie_where_someone_sings(prepared: Run, tmp_path: Path) -> None:
    catalogue = read_catalogue(prepared.catalogue)
    song = catalogue.of("test")[0]
    cache = AudioCache(prepared.cache)
    # Vocals that sound in one stretch of the song only; the mixture counts the samples.
    length = 6 * 16000
    vocals = np.zeros(length, np.int16)
    vocals[40000:64000] = 3000
    cache.write("sung", vocals)
    cache.write("count", (np.arange(length) % 32768).astype(np.int16))
    other = replace(song, audio="count", vocals="sung")
    for seed in range(5):
        folder = tmp_path / str(seed)
        write_excerpts(prepared, Catalogue((other,)), "test", folder, 1.0, seed)
        wave, _ = soundfile.read(folder / "0001.flac", dtype="int16")
        assert len(wave) == 16000
        # 0.7 of the song's level (3000 · √(1/4)) are 1960 sung samples at least, of 16000.
        starts = [whole + int(wave[0]) for whole in range(0, length, 32768)]
        assert any(40000 - 16000 + 1960 <= start <= 64000 - 1960 for start in starts)


def test_the_same_seed_gives_the_same_bytes(prepared: Run, tmp_path: Path) -> None:
    catalogue = read_catalogue(prepared.catalogue)
    for name in ("a", "b"):
        write_excerpts(prepared, catalogue, "train", tmp_path / name, 0.5, seed=3)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        for name in files
    )


def test_what_cannot_be_written_is_said(prepared: Run, tmp_path: Path) -> None:
    catalogue = read_catalogue(prepared.catalogue)
    with pytest.raises(UserError, match=r"0\.2 is too short; it must be 0\.5 or more"):
        write_excerpts(prepared, catalogue, "train", tmp_path / "x", 0.2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UserError, match="is not empty"):
        write_excerpts(prepared, catalogue, "train", tmp_path / "full", None)
    assert (tmp_path / "full" / "mine.txt").read_text(encoding="utf-8") == "keep"
    only = Catalogue(catalogue.of("train"))
    with pytest.raises(UserError, match="split test has no songs"):
        write_excerpts(prepared, only, "test", tmp_path / "x", None)


def test_songs_are_made_anew_with_other_vocals(prepared: Run, tmp_path: Path) -> None:
    catalogue, cache = read_catalogue(prepared.catalogue), AudioCache(prepared.cache)
    song = catalogue.of("test")[0]
    cache.write("v", np.full(40000, 1000, np.int16))
    cache.write("b", np.full(40100, -300, np.int16))
    cache.write("loud", np.full(40000, 32767, np.int16))
    soft = replace(song, vocals="v", backing="b")
    assert set(attenuated_mix(soft, cache, -20.0)) == {-200}
    assert len(attenuated_mix(soft, cache, -20.0)) == 40000
    assert set(attenuated_mix(replace(song, vocals="loud", backing="loud"), cache, 0.0)) == {32767}
    one = Catalogue((soft,))
    write_excerpts(prepared, one, "test", tmp_path / "x", 0.5, vocals_db=-6.0)
    wave, _ = soundfile.read(tmp_path / "x/0001.flac", dtype="int16")
    assert set(wave) == {round(1000 * 10**-0.3) - 300}
    assert len(wave) == 8000


def test_what_has_no_stems_cannot_be_made_anew(prepared: Run, tmp_path: Path) -> None:
    songs = read_catalogue(prepared.catalogue).songs
    bare = Catalogue(tuple(replace(song, backing="") for song in songs))
    with pytest.raises(UserError, match=r"^4 songs have no stems to remix them from, "):
        write_excerpts(prepared, bare, "test", tmp_path / "x", None, vocals_db=-8.0)
    assert not (tmp_path / "x").exists()
