"""Scanning folders, and the catalogue on disk."""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.catalogue import (
    Catalogue,
    Song,
    audio_format,
    is_audio,
    read_catalogue,
    scan,
    stems_fingerprint,
    write_catalogue,
)
from embedder.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_scan_reads_singer_album_and_title_from_the_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b/A1/02-Song. Two.MP3", "a/A1/01.wav", "a/A0/x.flac", "a/A0/y.ogg")
    songs = scan(tmp_path)
    assert [s.id for s in songs] == [
        "a/A0/x.flac",
        "a/A0/y.ogg",
        "a/A1/01.wav",
        "b/A1/02-Song. Two.MP3",
    ]
    last = songs[-1]
    assert (last.singer, last.album, last.title) == ("b", "A1", "02-Song. Two")
    assert last.album_id == "b/A1"
    assert Path(last.path) == tmp_path.resolve() / "b" / "A1" / "02-Song. Two.MP3"
    assert (last.split, last.audio, last.seconds) == ("", "", 0.0)


def test_scan_passes_over_hidden_files_and_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/1.wav", "a/A/._1.wav", ".DS_Store", "a/cover.jpg", ".git/x/y/z/1.wav")
    touch(tmp_path, "README.md", "a/A/old.m4a", ".trash/1.wav", "Thumbs.db", "a/A/desktop.ini")
    touch(tmp_path, "__MACOSX/a/A/1.wav", "a/A/no_suffix", "a/A/list.m3u")
    assert [s.id for s in scan(tmp_path)] == ["a/A/1.wav", "a/A/old.m4a"]


def test_a_film_beside_the_albums_does_not_refuse_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "a/A/1.wav", "a/clip.mkv")
    (tmp_path / "a" / "clip.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(40))
    assert is_audio(tmp_path / "a" / "clip.mkv")
    assert [song.id for song in scan(tmp_path)] == ["a/A/1.wav"]
    assert "a/clip.mkv" in capsys.readouterr().err


def test_audio_is_found_by_its_content_whatever_it_is_called(tmp_path: Path) -> None:
    starts = {
        "wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "flac": b"fLaC\0\0\0\x22",
        "ogg": b"OggS\0\2\0\0",
        "aiff": b"FORM\0\0\0\0AIFC",
        "mov": b"\0\0\0\x20ftypM4A ",
        "mp3": b"\xff\xfb\x90\x64",
        "aac": b"\xff\xf1\x50\x80",
        "": b"\0\0\0\x20ftypheic",  # a photograph
    }
    for form, start in starts.items():
        file = tmp_path / "track"
        file.write_bytes(start + bytes(40))
        assert audio_format(io.BytesIO(start + bytes(40))) == form
        assert is_audio(file) == bool(form)
    for start in (b"RIFF\x24\0\0\0AVI LIST", b"\xff\xfeh\0i\0", b"\xff\xd8\xff\xe0", b"text", b""):
        (tmp_path / "track").write_bytes(start)
        assert not is_audio(tmp_path / "track")
    assert is_audio(tmp_path / "gone.M4A")  # by its name: whoever opens it says what is wrong


def test_scan_one_folder_too_high_names_the_file_and_the_folder_that_fits(tmp_path: Path) -> None:
    touch(tmp_path, "mix/a/A/1.wav", "mix/b/A/1.wav")
    with pytest.raises(
        UserError, match=r"mix/a/A/1\.wav lies 3 folders deep instead of 2"
    ) as error:
        scan(tmp_path)
    assert f"did you mean {tmp_path / 'mix'}?" in str(error.value)
    assert "2 of 2 songs" in str(error.value)
    assert len(scan(tmp_path / "mix")) == 2


def test_scan_names_all_sub_folders_that_would_fit(tmp_path: Path) -> None:
    touch(tmp_path, "mix/a/A/1.wav", "vocals/a/A/1.wav")
    expected = f"did you mean {tmp_path / 'mix'} or {tmp_path / 'vocals'}?"
    with pytest.raises(UserError) as error:
        scan(tmp_path)
    assert expected in str(error.value)


@pytest.mark.parametrize(("below", "levels"), [("a", "1 folder"), ("a/A", "no folder")])
def test_scan_too_low_names_the_folder_above_that_fits(
    tmp_path: Path, below: str, levels: str
) -> None:
    touch(tmp_path, "a/A/1.wav")
    with pytest.raises(UserError, match=f"lies {levels} deep instead of 2") as error:
        scan(tmp_path / below)
    assert f"did you mean the folder above, {tmp_path.resolve()}?" in str(error.value)


def test_scan_refuses_one_stray_song_among_good_ones(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/1.wav", "a/A/2.wav", "a/stray.wav")
    with pytest.raises(UserError, match=r"a/stray\.wav lies 1 folder deep .*1 of 3 songs.*move"):
        scan(tmp_path)


def test_scan_says_what_it_found_instead_of_songs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no songs in .*: found no file"):
        scan(tmp_path)
    touch(tmp_path, "a/A/1.txt", "a/A/2.txt", "notes")
    with pytest.raises(UserError, match=r"found 2 files \.txt, 1 file without suffix"):
        scan(tmp_path)
    with pytest.raises(UserError, match="is a file, not a folder"):
        scan(tmp_path / "notes")
    with pytest.raises(UserError, match="does not exist"):
        scan(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights, names are restricted")
def test_scan_follows_links_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "A/1.wav")
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "A" / "loop").symlink_to(data, target_is_directory=True)
    assert [s.id for s in scan(data)] == ["a/A/1.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
def test_scan_refuses_names_that_no_list_could_hold(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/two\nlines.wav")
    with pytest.raises(UserError, match="holds a line break"):
        scan(tmp_path)
    (tmp_path / "a" / "A" / "two\nlines.wav").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/A/\xff.wav")).write_bytes(b"x")
    with pytest.raises(UserError, match="not UTF-8"):
        scan(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
songs = st.builds(
    Song,
    id=texts,
    path=texts,
    singer=texts,
    album=texts,
    title=texts,
    split=st.sampled_from(["train", "validation", "test"]),
    seconds=st.floats(0, 1e5),
    audio=texts,
    vocals=st.just("") | texts,
    backing=st.just(""),
)


@given(st.lists(songs, unique_by=lambda s: s.id, max_size=5))
def test_catalogue_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, found: list[Song]
) -> None:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.csv"
    catalogue = Catalogue(tuple(found))
    write_catalogue(path, catalogue)
    assert read_catalogue(path) == catalogue
    assert read_catalogue(path).fingerprint() == catalogue.fingerprint()


def test_singers_and_splits_of_a_catalogue() -> None:
    found = (Song("2", "", "b", "", "", "train"), Song("1", "", "B", "", "", "test"))
    catalogue = Catalogue(found)
    assert catalogue.singers == ("B", "b")
    assert catalogue.of("test") == found[1:]
    assert catalogue.of("validation") == ()
    with pytest.raises(ValueError, match="no split 'valid'; splits are train, validation, test"):
        catalogue.of("valid")


def test_fingerprint_changes_with_id_split_audio_singer_and_album() -> None:
    first = Song("1", "/p", "a", "A", "t", "train", 2.0, "k1", "v", "b")
    second = Song("2", "/p", "b", "A", "t", "train", 2.0, "k2")
    third = Song("3", "/p", "b", "B", "t", "train", 2.0, "k3")
    before = Catalogue((first, second, third)).fingerprint()
    assert Catalogue((third, second, first)).fingerprint() == before
    same = replace(first, path="/q", seconds=3.0, vocals="", backing="")  # stems are apart
    assert Catalogue((same, second, third)).fingerprint() == before
    for change in (
        {"id": "4"}, {"split": "test"}, {"audio": "k2"}, {"singer": "c"}, {"album": "C"},
    ):  # fmt: skip
        changed = Catalogue((replace(first, **change), second, third))
        assert changed.fingerprint() != before
    relabelled = Catalogue((first, replace(second, singer="a"), third))  # by a list
    assert relabelled.singers == ("a", "b")
    assert relabelled.fingerprint() != before


def test_the_stems_fingerprint_is_of_the_named_stems() -> None:
    first = Song("1", "/p", "a", "A", "t", "train", 2.0, "k1", "v1", "b1")
    second = Song("2", "/p", "b", "A", "t", "train", 2.0, "k2", "v2")
    both = stems_fingerprint((first, second), "vocals", "backing")
    vocals = stems_fingerprint((first, second), "vocals")
    assert len({"", both, vocals}) == 3
    assert stems_fingerprint((second, first), "vocals") == vocals
    other = replace(first, backing="b2", audio="k3")
    assert stems_fingerprint((other, second), "vocals") == vocals
    assert stems_fingerprint((other, second), "vocals", "backing") != both
    swapped = (replace(first, vocals="v2"), replace(second, vocals="v1"))
    assert stems_fingerprint(swapped, "vocals") != vocals
    assert stems_fingerprint([replace(second, vocals="")], "vocals", "backing") == ""


def test_a_catalogue_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    with pytest.raises(UserError, match=r"is missing; run again: python app\.py prepare"):
        read_catalogue(path)
    write_catalogue(path, Catalogue((Song("1", "p", "a", "A", "t", "train", 1.0, "k"),)))
    header, line = path.read_text(encoding="utf-8").splitlines()
    for text, message in [
        ("", "is no catalogue"),
        ("id,path\n", "header must be id,path,singer"),
        (f"{header}\n{line},more\n", "line 2: 11 cells instead of 10"),
        (f"{header}\n{line}\n{line}\n", "line 3: song 1 stands there twice"),
        (f"{header}\n{line.replace('train', 'dev')}\n", "split 'dev' is none of train, valid"),
        (f"{header}\n{line.replace('1.0', 'long')}\n", "line 2: seconds is no number"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_catalogue(path)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        read_catalogue(path)


COMPOSED, TAKEN_APART = "Beyonc\u00e9", "Beyonce\u0301"


def test_a_singer_in_two_unicode_forms_is_one_and_files_stay_as_on_disk(tmp_path: Path) -> None:
    touch(tmp_path, f"{COMPOSED}/A/1.wav", f"{TAKEN_APART}/B/e\u0301.wav", f"{TAKEN_APART}/A/2.wav")
    songs = scan(tmp_path)
    assert {song.singer for song in songs} == {COMPOSED}
    assert [song.id for song in songs] == sorted(
        f"{COMPOSED}/{rest}" for rest in ("A/1.wav", "A/2.wav", "B/\u00e9.wav")
    )
    assert {song.album_id for song in songs} == {f"{COMPOSED}/A", f"{COMPOSED}/B"}
    assert all(Path(song.path).is_file() and (tmp_path / song.file).is_file() for song in songs)


def test_two_files_whose_names_differ_in_form_alone_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, f"{COMPOSED}/A/1.wav", f"{TAKEN_APART}/A/1.wav")
    with pytest.raises(UserError, match=r"u0301/A/1\.wav' .* differ in Unicode form only"):
        scan(tmp_path)


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+cmd", "-M-", "@x", "'=x", " a", "a "])
def test_a_catalogue_of_names_like_formulas_is_inert_and_comes_back(
    tmp_path: Path, name: str
) -> None:
    touch(tmp_path, f"{name}/A/1.wav")
    catalogue = Catalogue((replace(scan(tmp_path)[0], split="train", seconds=1.5),))
    write_catalogue(tmp_path / "c.csv", catalogue)
    assert read_catalogue(tmp_path / "c.csv") == catalogue
    row = list(csv.reader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()))[1]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_data_folder_whose_path_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "caf\udce9", "a/A/1.wav")
    with pytest.raises(UserError, match="is not UTF-8; rename the folder"):
        scan(tmp_path / "caf\udce9")
