"""Which stem belongs to which song."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.data.stems import FURTHEST, find_stems, find_track_folders, lag_of, moved
from embedder.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_stems_lie_at_the_song_s_path_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "vocals/a/A/1. x.flac", "backing/a/A/1. x.OGG", "vocals/a/A/._2.wav")
    touch(tmp_path, "vocals/a/A/1.wav", "vocals/b/A/3.wav", "vocals/b/A/4.txt")
    root = tmp_path.resolve()
    assert find_stems(tmp_path, ["a/A/1. x.mp3", "a/A/2.wav", "b/A/3.wav", "b/A/4.wav"]) == {
        "a/A/1. x.mp3": {
            "vocals": (root / "vocals/a/A/1. x.flac",),
            "backing": (root / "backing/a/A/1. x.OGG",),
        },
        "a/A/2.wav": {},
        "b/A/3.wav": {"vocals": (root / "vocals/b/A/3.wav",)},
        "b/A/4.wav": {},
    }


def test_a_stem_with_the_song_s_own_suffix_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "vocals/a/A/1.wav", "vocals/a/A/1.mp3")
    found = find_stems(tmp_path, ["a/A/1.mp3", "a/A/1.ogg"])
    root = tmp_path.resolve()
    assert found["a/A/1.mp3"]["vocals"] == (root / "vocals/a/A/1.mp3",)
    assert found["a/A/1.ogg"]["vocals"] == (root / "vocals/a/A/1.wav",)


def test_a_folder_that_holds_no_stems_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UserError, match=r"has no folder vocals; --stems_dir .*/vocals\.wav"):
            find_stems(folder, ["a/A/1.mp3"])
    touch(tmp_path, "vocals/mix/a/A/1.mp3", "backing/a/A/1.mp3")
    with pytest.raises(UserError, match=r"holds no stem of any song; expected .*1\.mp3"):
        find_stems(tmp_path, ["a/A/1.mp3"])


def test_stems_and_songs_may_spell_a_name_in_different_unicode_forms(tmp_path: Path) -> None:
    touch(tmp_path, "vocals/e\u0301/A/1.wav", "vocals/b/A/\u00e9.wav")
    root = tmp_path.resolve()
    assert find_stems(tmp_path, ["\u00e9/A/1.mp3", "b/A/\u00e9.mp3"]) == {
        "\u00e9/A/1.mp3": {"vocals": (root / "vocals/e\u0301/A/1.wav",)},
        "b/A/\u00e9.mp3": {"vocals": (root / "vocals/b/A/\u00e9.wav",)},
    }


@pytest.mark.parametrize("lag", [-1105, -1, 0, 529, FURTHEST])
@pytest.mark.parametrize("seconds", [2, 25])
def test_a_lag_is_found_to_the_sample(lag: int, seconds: int) -> None:
    rng = np.random.default_rng(0)
    stems = rng.normal(0, 3000, seconds * 16000).astype(np.int16)
    mixture = moved(stems, lag, len(stems) + 1105)
    noisy = mixture + rng.normal(0, 2000, len(mixture))
    assert lag_of(noisy, stems) == lag


def test_a_loud_bass_does_not_hide_the_lag() -> None:
    rng = np.random.default_rng(1)
    bass = np.cumsum(rng.normal(0, 30, 20 * 16000))
    tone = 8000 * np.sin(2 * np.pi * 500 * np.arange(20 * 16000) / 16000)
    stems = (np.clip(bass, -9000, 9000) + tone + rng.normal(0, 100, 20 * 16000)).astype(np.int16)
    assert lag_of(stems[1105:], stems) == -1105


def test_silence_has_no_lag() -> None:
    some = np.random.default_rng(0).normal(size=16000)
    assert lag_of(np.zeros(16000), some) == 0
    assert lag_of(some, np.zeros(16000)) == 0


def test_moving_by_hand() -> None:
    samples = np.array([1, 2, 3], dtype=np.int16)
    assert moved(samples, 1, 5).tolist() == [0, 1, 2, 3, 0]
    assert moved(samples, -1, 3).tolist() == [2, 3, 0]
    assert moved(samples, 1, 2).tolist() == [0, 1]
    assert moved(samples, -9, 2).tolist() == moved(samples, 9, 2).tolist() == [0, 0]


SONGS = ["a/One/1. x.mp3", "a/Two/Song.mp3", "b/One/Night.flac"]


def found(root: Path, songs: list[str] = SONGS) -> dict[str, dict[str, list[str]]]:
    """song → stem → paths below the folder."""
    return {
        song: {
            stem: [file.relative_to(root.resolve()).as_posix() for file in files]
            for stem, files in stems.items()
        }
        for song, stems in find_track_folders(root, songs).items()
    }


@pytest.mark.parametrize("above", ["", "htdemucs/"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("rest", "suffix"), [("no_vocals", "wav"), ("accompaniment", "wav"), ("no_vocals", "mp3")]
)
def test_a_folder_a_track_with_the_rest_in_one_file(
    above: str, nested: bool, rest: str, suffix: str, tmp_path: Path
) -> None:
    for song in SONGS:
        track = song.rpartition(".")[0]
        place = above + (track if nested else track.rpartition("/")[2])
        touch(tmp_path, f"{place}/vocals.{suffix}", f"{place}/{rest}.{suffix}", f"{place}/x.json")
    start = f"{above}a/One/1. x" if nested else f"{above}1. x"
    assert found(tmp_path)["a/One/1. x.mp3"] == {
        "vocals": [f"{start}/vocals.{suffix}"],
        "backing": [f"{start}/{rest}.{suffix}"],
    }
    assert sorted(found(tmp_path)) == sorted(SONGS)


def test_a_backing_in_parts_is_the_sum_of_all_parts(tmp_path: Path) -> None:
    for part in ("vocals", "bass", "drums", "other"):
        touch(tmp_path, f"mdx/Song/{part}.wav", f"mdx/Night/{part}.flac")
    touch(tmp_path, "mdx/Night/piano.flac", "mdx/Night/guitar.flac", "mdx/Night/notes.flac")
    touch(tmp_path, "mdx/1. x/vocals.wav", "mdx/1. x/drums.wav", "mdx/1. x/bass.wav")
    folders = found(tmp_path)
    assert folders["a/Two/Song.mp3"]["backing"] == [
        f"mdx/Song/{part}.wav" for part in ("bass", "drums", "other")
    ]
    assert folders["b/One/Night.flac"]["backing"] == [
        f"mdx/Night/{part}.flac" for part in ("bass", "drums", "other", "guitar", "piano")
    ]
    assert list(folders["a/One/1. x.mp3"]) == ["vocals"]  # without "other" it is not all of it


def test_one_file_of_the_rest_goes_before_its_parts(tmp_path: Path) -> None:
    names = ("vocals", "bass", "drums", "other", "no_vocals")
    touch(
        tmp_path, *(f"Song/{name}.wav" for name in names), "Song/vocals.mp3", "Song/no_vocals.MP3"
    )
    assert found(tmp_path) == {
        "a/Two/Song.mp3": {"vocals": ["Song/vocals.wav"], "backing": ["Song/no_vocals.wav"]}
    }


def test_folders_of_other_songs_and_other_things_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "Song/vocals.wav", "Night/no_vocals.wav", "Unknown/vocals.wav", "vocals.wav")
    touch(tmp_path, "c/One/1. x/vocals.wav", ".hidden/Night/vocals.wav", "b/One/Night.flac")
    assert found(tmp_path) == {"a/Two/Song.mp3": {"vocals": ["Song/vocals.wav"]}}


def test_titles_that_recur_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    songs = ["a/One/Intro.mp3", "a/Two/Intro.mp3", "b/One/Intro.mp3"]
    for song in songs:
        touch(tmp_path, f"htdemucs/{song.removesuffix('.mp3')}/vocals.wav")
    assert found(tmp_path, songs) == {
        song: {"vocals": [f"htdemucs/{song.removesuffix('.mp3')}/vocals.wav"]} for song in songs
    }
    albums = tmp_path / "albums"
    touch(albums, "One/Intro/vocals.wav", "Two/Intro/vocals.wav", "Three/Intro/vocals.wav")
    assert found(albums, songs[:2]) == {
        "a/One/Intro.mp3": {"vocals": ["One/Intro/vocals.wav"]},
        "a/Two/Intro.mp3": {"vocals": ["Two/Intro/vocals.wav"]},
    }
    with pytest.raises(UserError, match=r"albums/One/Intro could hold .* a/One/.* or of b/One/"):
        find_track_folders(albums, songs)


@pytest.mark.parametrize("above", ["", "htdemucs/"])
def test_a_title_of_two_songs_is_refused(above: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{above}Intro/vocals.wav")
    songs = ["a/One/Intro.mp3", "b/Two/Intro.mp3"]
    message = (
        f"{tmp_path}/{above}Intro could hold the stems of a/One/Intro.mp3 or of b/Two/Intro.mp3; "
        "lay the stems' folders out as the songs: <singer>/<album>/<track>"
    )
    with pytest.raises(UserError) as caught:
        find_track_folders(tmp_path, songs)
    assert str(caught.value) == message


def test_two_folders_of_one_song_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Song/vocals.wav", "a/Two/Song/vocals.wav")
    with pytest.raises(UserError, match=r"of a/Two/Song\.mp3 lie in .*Song and in .*; keep one"):
        find_track_folders(tmp_path, SONGS)


def test_the_output_of_two_models_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "mdx/Song/vocals.wav", "htdemucs/Night/vocals.wav")
    with pytest.raises(
        UserError, match=rf"several models or albums, htdemucs and mdx; .* {tmp_path}/htdemucs"
    ):
        find_track_folders(tmp_path, SONGS)


def test_a_folder_below_another_album_is_not_taken_for_a_models(tmp_path: Path) -> None:
    """With one song found by its path, a title below something else is another album's."""
    touch(tmp_path, "Two/Song/vocals.wav", "Elsewhere/Night/vocals.wav")
    assert list(found(tmp_path)) == ["a/Two/Song.mp3"]


def test_files_to_predict_have_folders_of_their_own_name(tmp_path: Path) -> None:
    touch(tmp_path, "htdemucs/0001/vocals.wav", "htdemucs/0002/vocals.wav")
    stems = find_stems(tmp_path, ["0001.mp3", "0002.wav", "0003.wav"])
    root = tmp_path.resolve() / "htdemucs"
    assert stems == {
        "0001.mp3": {"vocals": (root / "0001/vocals.wav",)},
        "0002.wav": {"vocals": (root / "0002/vocals.wav",)},
        "0003.wav": {},
    }


def test_folders_and_songs_may_spell_a_name_in_different_unicode_forms(tmp_path: Path) -> None:
    touch(tmp_path, *(f"htdemucs/e\u0301/{stem}.wav" for stem in ("vocals", "no_vocals")))
    assert found(tmp_path, ["a/One/\u00e9.mp3"]) == {
        "a/One/\u00e9.mp3": {
            "vocals": ["htdemucs/e\u0301/vocals.wav"],
            "backing": ["htdemucs/e\u0301/no_vocals.wav"],
        }
    }
