"""Which stem belongs to which song."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.data.stems import find_stems
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
