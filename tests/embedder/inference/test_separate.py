"""A run's songs get their stems: each song once, whatever stops the work in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from embedder.artifact import read_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import MemberConfig
from embedder.data.audio import decode
from embedder.data.cache import AudioCache, no_progress
from embedder.data.prepare import prepare
from embedder.errors import UserError
from embedder.inference.separate import (
    separate_songs,
    separation_note,
    separator_of,
    split_samples,
    stem_keys,
    take_stems,
)
from embedder.models.separators.song_separator import SongSeparator, Split
from embedder.models.separators.stem_record import read_record
from embedder.run import Run, create_run
from embedder.training.members import train_member

CPU = torch.device("cpu")
Tiny = Callable[..., MemberConfig]


def quarter(wave: Tensor) -> tuple[Tensor, None]:
    return 0.25 * wave, None


def fake(tmp_path: Path, split: Split = quarter, weights: bytes = b"weights") -> SongSeparator:
    path = tmp_path / "weights.pt"
    path.write_bytes(weights)
    return SongSeparator("umx", (path,), 16000, split, 4.0, 0.5)


@pytest.fixture(scope="module")
def _bare(synthesised: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = create_run(tmp_path_factory.mktemp("bare") / "run")
    prepare(run, synthesised / "mix", "album")
    return run.root


@pytest.fixture
def bare(_bare: Path, tmp_path: Path) -> Run:
    """A copy of a run folder whose songs have no stems."""
    return Run(Path(shutil.copytree(_bare, tmp_path / "bare")))


def songs_of(run: Run) -> Catalogue:
    return read_catalogue(run.catalogue)


# Samples ----------------------------------------------------------------------------------------


def test_vocals_and_the_rest_are_the_mixture_sample_by_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixture = rng.integers(-32768, 32768, 100000).astype(np.int16)
    gains = torch.linspace(0, 1, 64000)

    def uneven(wave: Tensor) -> tuple[Tensor, None]:
        return wave * gains[: len(wave)], None

    vocals, backing = split_samples(fake(tmp_path, uneven), mixture)
    assert vocals.dtype == backing.dtype == np.int16
    np.testing.assert_array_equal(vocals.astype(int) + backing, mixture)
    assert 0.2 < np.corrcoef(vocals, backing)[0, 1] < 1  # neither is the mixture or silence


def test_a_backing_of_its_own_is_kept_and_what_is_too_loud_is_clipped(tmp_path: Path) -> None:
    mixture = np.array([8000, -8000, 30000, -30000] * 5000, dtype=np.int16)
    vocals, backing = split_samples(fake(tmp_path, lambda w: (2 * w, 0.5 * w)), mixture)
    assert vocals[:4].tolist() == [16000, -16000, 32767, -32768]
    assert backing[:4].tolist() == [4000, -4000, 15000, -15000]
    _, rest = split_samples(fake(tmp_path, lambda w: (-w, None)), mixture)
    assert rest[:4].tolist() == [16000, -16000, 32767, -32768]


def test_a_separator_that_gives_no_numbers_is_named_with_the_song(
    bare: Run, tmp_path: Path
) -> None:
    broken = fake(tmp_path, lambda wave: (wave / 0, None))
    first = songs_of(bare).songs[0].id
    with pytest.raises(UserError, match=f"{first}: umx gave samples that are not finite numbers"):
        separate_songs(bare, songs_of(bare), broken)


# A run ------------------------------------------------------------------------------------------


def test_all_songs_get_stems_and_the_catalogue_points_to_them(bare: Run, tmp_path: Path) -> None:
    before = songs_of(bare)
    separator = fake(tmp_path)
    done, problems = separate_songs(bare, before, separator, tmp_path / "weights.pt")
    assert problems == []
    assert songs_of(bare) == done
    assert done.fingerprint() == before.fingerprint()  # members of these songs stay what they are
    cache = AudioCache(bare.cache)
    for old, song in zip(before.songs, done.songs, strict=True):
        assert (song.vocals, song.backing) == stem_keys(song.audio, separator.fingerprint())
        assert replace(song, vocals="", backing="") == old
        mixture = cache.samples(song.audio).astype(int)
        vocals = cache.samples(song.vocals).astype(int)
        assert np.abs(vocals - mixture / 4).max() <= 1  # a quarter of 2 may be rounded either way
        np.testing.assert_array_equal(cache.samples(song.backing), mixture - vocals)
    record = read_record(bare, done)
    assert record is not None
    assert (record.method, record.fingerprint) == ("umx", separator.fingerprint())
    assert record.weights == str(tmp_path / "weights.pt")


def test_a_killed_run_goes_on_and_no_finished_song_is_separated_again(
    bare: Run, tmp_path: Path
) -> None:
    heard: list[int] = []

    def watched(wave: Tensor) -> tuple[Tensor, None]:
        heard.append(len(wave))
        return quarter(wave)

    separator = fake(tmp_path, watched)
    seen: list[tuple[int, str]] = []

    def interrupted(items: Iterable[Any], total: int, title: str) -> Iterable[Any]:
        seen.append((total, title))
        for number, item in enumerate(items):
            if number == 5:
                raise KeyboardInterrupt
            yield item

    before = songs_of(bare)
    with pytest.raises(KeyboardInterrupt):
        separate_songs(bare, before, separator, progress=interrupted)
    assert songs_of(bare) == before
    assert not bare.stems.exists()
    chunks = len(heard) // 5
    assert len(heard) == 5 * chunks > 0
    # A song of which one stem was written is not finished.
    half = stem_keys(before.songs[2].audio, separator.fingerprint())[1]
    AudioCache(bare.cache).path(half).unlink()
    done, _ = separate_songs(bare, before, separator, progress=interrupted_never(seen))
    assert seen == [(12, "separating"), (8, "separating")]
    assert len(heard) == 13 * chunks
    assert all(song.vocals and song.backing for song in done.songs)
    again, _ = separate_songs(bare, done, separator)
    assert again == done
    assert len(heard) == 13 * chunks


def interrupted_never(seen: list[tuple[int, str]]) -> Callable[..., Iterable[Any]]:
    def progress(items: Iterable[Any], total: int, title: str) -> Iterable[Any]:
        seen.append((total, title))
        return no_progress(items, total, title)

    return progress


def test_other_weights_give_other_stems_and_take_their_place_only_if_told(
    bare: Run, tmp_path: Path
) -> None:
    first, _ = separate_songs(bare, songs_of(bare), fake(tmp_path))
    other = fake(tmp_path, lambda wave: (0.5 * wave, None), b"others")
    with pytest.raises(UserError) as caught:
        separate_songs(bare, first, other)
    assert str(caught.value) == (
        "12 of 12 songs have stems already, from separate --method umx; --replace takes the new "
        "ones instead"
    )
    assert songs_of(bare) == first
    second, _ = separate_songs(bare, first, other, replacing=True)
    assert songs_of(bare) == second
    assert not {s.vocals for s in first.songs} & {s.vocals for s in second.songs}
    third, _ = separate_songs(bare, second, fake(tmp_path), replacing=True)
    assert third == first  # found again in the cache


def test_stems_that_were_given_are_kept_unless_told_otherwise(
    prepared: Run, tmp_path: Path
) -> None:
    before = songs_of(prepared)
    with pytest.raises(UserError, match=r"12 of 12 songs have stems already, from prepare --stems"):
        separate_songs(prepared, before, fake(tmp_path))
    assert songs_of(prepared) == before
    done, _ = separate_songs(prepared, before, fake(tmp_path), replacing=True)
    assert all(a.vocals != b.vocals for a, b in zip(before.songs, done.songs, strict=True))
    # Given again afterwards, the record no longer holds.
    write_catalogue(prepared.catalogue, before)
    assert read_record(prepared, before) is None
    with pytest.raises(UserError, match="from prepare --stems_dir"):
        separate_songs(prepared, before, fake(tmp_path))


def test_silent_stems_are_not_used_and_are_named(bare: Run, tmp_path: Path) -> None:
    catalogue = songs_of(bare)
    done, problems = separate_songs(bare, catalogue, fake(tmp_path, lambda w: (0 * w, None)))
    assert all((song.vocals, song.backing) == ("", "") for song in done.songs)
    silent, alone = (
        "silent: its loudest sample is below -60 dB",
        "the song has no vocals to go with",
    )
    assert [p.file for p in problems[:2]] == [
        f"{s}/{done.songs[0].id}" for s in ("vocals", "backing")
    ]
    assert problems[0].reason == silent
    assert problems[1].reason.startswith(alone)
    acapella, problems = separate_songs(
        bare, done, fake(tmp_path, lambda w: (w, None), b"all"), replacing=True
    )
    assert all(song.vocals and not song.backing for song in acapella.songs)
    assert {p.file.partition("/")[0] for p in problems} == {"backing"}


# Stems that exist -------------------------------------------------------------------------------


def test_a_folder_of_stems_gives_what_prepare_would(
    bare: Run, prepared: Run, synthesised: Path
) -> None:
    done, problems = take_stems(bare, songs_of(bare), synthesised)
    assert problems == []
    assert done == songs_of(prepared) == songs_of(bare)
    assert take_stems(bare, done, synthesised)[0] == done
    record = read_record(bare, done)
    assert record is not None
    assert (record.method, record.weights) == ("folder", str(synthesised))


def test_another_folder_of_stems_takes_its_place_only_if_told(
    bare: Run, synthesised: Path, tmp_path: Path
) -> None:
    done, _ = take_stems(bare, songs_of(bare), synthesised)
    other = tmp_path / "separated"
    for song in done.songs:
        track = other / "htdemucs" / Path(song.id).with_suffix("")
        track.mkdir(parents=True)
        wave = decode(synthesised / "mix" / song.id) / 32768
        soundfile.write(track / "vocals.wav", wave / 2, 16000)
        soundfile.write(track / "no_vocals.wav", wave / 4, 16000)
    with pytest.raises(UserError, match="from separate --method folder; --replace"):
        take_stems(bare, done, other)
    changed, problems = take_stems(bare, done, other, replacing=True)
    assert problems == []
    cache = AudioCache(bare.cache)
    for song in changed.songs:
        mixture = cache.samples(song.audio).astype(int)
        assert np.abs(cache.samples(song.vocals) - mixture / 2).max() <= 1
        assert np.abs(cache.samples(song.backing) - mixture / 4).max() <= 1


# The separator of new songs ---------------------------------------------------------------------


def test_new_songs_are_separated_as_the_runs_own_were(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, Path | None]] = []
    separator = fake(tmp_path)

    def answer(method: str, run: Run, weights: Path | None, device: torch.device) -> SongSeparator:
        assert (run, device) == (bare, CPU)
        opened.append((method, weights))
        return separator

    monkeypatch.setattr("embedder.inference.separate.open_separator", answer)
    assert separator_of(bare, songs_of(bare), CPU) is None
    done, _ = separate_songs(bare, songs_of(bare), separator, tmp_path / "weights.pt")
    assert separator_of(bare, done, CPU) is separator
    assert opened == [("umx", tmp_path / "weights.pt")]
    separate_songs(bare, done, separator)  # the method's own weights
    assert separator_of(bare, done, CPU) is separator
    assert opened[1] == ("umx", None)
    fake(tmp_path, weights=b"others")
    with pytest.raises(
        UserError, match=r"other weights than .*weights\.pt holds now; run again: py"
    ):
        separator_of(bare, done, CPU)


def test_without_a_separator_of_its_stems_a_run_has_the_one_that_it_trained(
    bare: Run, synthesised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fake(tmp_path)
    monkeypatch.setattr(
        "embedder.inference.separate.open_separator", lambda *asked: (asked[0], own)
    )
    bare.separator.mkdir()
    bare.separator_weights.write_bytes(b"x")
    assert separator_of(bare, songs_of(bare), CPU) == ("own", own)
    done, _ = take_stems(bare, songs_of(bare), synthesised)
    assert separator_of(bare, done, CPU) == ("own", own)
    assert separation_note(bare, done, own).endswith(
        "with umx; the run's own songs had stems from elsewhere, on which fuse measured"
    )
    done, _ = separate_songs(bare, done, own, replacing=True)
    assert separation_note(bare, done, own) == "vocals are separated from the files with umx"


# The whole way ----------------------------------------------------------------------------------


def test_members_train_on_separated_vocals(bare: Run, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="songs have no vocal stem"):
        train_member(bare, songs_of(bare), "x", tiny(stem="vocals"), device="cpu")
    done, _ = separate_songs(bare, songs_of(bare), fake(tmp_path))
    told: list[str] = []
    member = train_member(bare, done, "x", tiny(stem="vocals"), device="cpu", say=told.append)
    assert bare.member_names() == ["x"]
    assert any("input: vocal stems" in line for line in told)
    assert member.config.train.stem == "vocals"
    assert read_json(bare.stems)["method"] == "umx"
