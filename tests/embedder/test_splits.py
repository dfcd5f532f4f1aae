"""Split rules as properties over random sets of songs, and every leak that must be refused."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.catalogue import Song, scan
from embedder.errors import UserError
from embedder.splits import SPLITTERS, check_leakage, read_lists, split_songs, write_list


def song(singer: str, album: str, title: str, split: str = "", audio: str = "") -> Song:
    name = f"{singer}/{album}/{title}.wav"
    return Song(name, f"/{name}", singer, album, title, split, audio=audio)


@st.composite
def song_sets(draw: st.DrawFn) -> list[Song]:
    """2 to 5 singers with 3 to 7 albums of 1 to 4 songs, in any order; album names recur."""
    found = []
    for singer in range(draw(st.integers(2, 5))):
        names = draw(st.lists(st.sampled_from("abcdeABC"), min_size=3, max_size=7, unique=True))
        for album in names:
            for title in range(draw(st.integers(1, 4))):
                found.append(song(f"s{singer}", album, str(title), audio=f"{len(found)}"))
    return draw(st.permutations(found))


@pytest.mark.parametrize("rule", [rule for rule in SPLITTERS if rule != "files"])
@given(found=song_sets(), seed=st.integers(0, 2**40))
def test_every_rule_divides_without_leakage(rule: str, found: list[Song], seed: int) -> None:
    divided = split_songs(found, rule, seed)
    assert [replace(s, split="") for s in divided] == found  # order and everything else stays
    check_leakage(divided, rule)
    by_singer: dict[str, Counter[str]] = defaultdict(Counter)
    for s in divided:
        by_singer[s.singer][s.split] += 1
    wanted = {"train", "validation"} | ({"test"} if rule != "course" else set())
    assert all(set(counts) == wanted for counts in by_singer.values())


@pytest.mark.parametrize("rule", [rule for rule in SPLITTERS if rule != "files"])
@given(found=song_sets(), seed=st.integers(0, 99), data=st.data())
def test_splits_depend_on_neither_the_order_nor_the_other_singers(
    rule: str, found: list[Song], seed: int, data: st.DataObject
) -> None:
    splits = {s.id: s.split for s in split_songs(found, rule, seed)}
    shuffled = data.draw(st.permutations(found))
    assert {s.id: s.split for s in split_songs(shuffled, rule, seed)} == splits
    more = [*found, *(song("new", album, "1") for album in "xyz")]
    assert splits.items() <= {s.id: s.split for s in split_songs(more, rule, seed)}.items()


@given(found=song_sets(), seed=st.integers(0, 99))
def test_course_keeps_the_alphabetically_last_album_of_each_singer(
    found: list[Song], seed: int
) -> None:
    for s in split_songs(found, "course", seed):
        albums = [o.album for o in found if o.singer == s.singer]
        later = [a for a in albums if (a.lower(), a) > (s.album.lower(), s.album)]
        assert s.split == ("train" if later else "validation")


@given(found=song_sets(), seed=st.integers(0, 99))
def test_album_gives_one_album_to_validation_and_one_to_test(found: list[Song], seed: int) -> None:
    divided = split_songs(found, "album", seed)
    for singer in {s.singer for s in found}:
        albums = {s.album: s.split for s in divided if s.singer == singer}
        counts = Counter(albums.values())
        assert counts == {"train": len(albums) - 2, "validation": 1, "test": 1}


@given(count=st.integers(3, 120), seed=st.integers(0, 99))
def test_song_gives_a_tenth_to_validation_and_test(count: int, seed: int) -> None:
    found = [song(singer, "A", str(n)) for singer in "ab" for n in range(count)]
    for singer in "ab":
        divided = [s for s in split_songs(found, "song", seed) if s.singer == singer]
        counts = Counter(s.split for s in divided)
        assert counts["validation"] == counts["test"] >= 1
        assert abs(counts["test"] - count / 10) <= max(0.5, 1 - count / 10)
        assert counts["train"] == count - 2 * counts["test"] >= 1


@pytest.mark.parametrize("rule", ["album", "song"])
def test_another_seed_draws_another_split_and_singers_are_drawn_apart(rule: str) -> None:
    found = [song(s, f"A{n}", "1") for s in ("a", "b", "c", "d") for n in range(6)]
    splits = {seed: [s.split for s in split_songs(found, rule, seed)] for seed in range(5)}
    assert len({tuple(s) for s in splits.values()}) == 5
    rows = {tuple(splits[0][at : at + 6]) for at in range(0, 24, 6)}
    assert len(rows) > 1


def test_files_keeps_what_the_lists_say() -> None:
    found = (song("a", "A", "1", "validation"), song("b", "A", "1", "train"))
    assert split_songs(found, "files", 5) == found
    with pytest.raises(UserError, match=r"lists that name b/A/2\.wav; none does"):
        split_songs([*found, song("b", "A", "2")], "files")


def test_what_cannot_be_split() -> None:
    one = [song("a", "A", "1"), song("a", "B", "1")]
    with pytest.raises(UserError, match=r"at least two singers .* found only 'a'"):
        split_songs(one, "course")
    with pytest.raises(UserError, match=r"at least two singers .* found none"):
        split_songs([], "course")
    with pytest.raises(UserError, match="--split random is unknown; choose from course, album, s"):
        split_songs(one, "random")
    two = [*one, song("b", "A", "1"), song("b", "A", "2")]
    with pytest.raises(UserError, match="b has only 'A'; add an album"):
        split_songs(two, "course")
    with pytest.raises(UserError, match="three albums of each singer, but a has 2: A, B"):
        split_songs(two, "album")
    with pytest.raises(UserError, match="three songs of each singer, but a has 2"):
        split_songs(two, "song")
    with pytest.raises(UserError, match="--split files leaves no song for validation"):
        split_songs([replace(s, split="train") for s in two], "files")


TRAIN = [song("a", "A", "1", "train", "k1"), song("b", "A", "1", "train", "k2")]


@pytest.mark.parametrize("rule", SPLITTERS)
def test_a_song_or_a_recording_in_two_splits_is_refused(rule: str) -> None:
    again = replace(TRAIN[0], split="validation")
    expected = r"1 song in more than one split: a/A/1\.wav is in train \(a/A/1\.wav\), validation"
    with pytest.raises(UserError, match=expected):
        check_leakage([*TRAIN, again], rule)
    copy = song("a", "B", "9", "test", "k1")
    expected = r"1 recording in more than one split: train \(a/A/1\.wav\), test \(a/B/9\.wav\)"
    with pytest.raises(UserError, match=expected):
        check_leakage([*TRAIN, copy], rule)
    assert check_leakage([*TRAIN, copy], rule, allow_same_audio=True) == ()
    undecoded = [replace(s, audio="") for s in (*TRAIN, copy)]
    assert check_leakage(undecoded, rule) == ()  # no audio yet is no shared audio


@pytest.mark.parametrize("rule", SPLITTERS)
def test_an_album_in_two_splits_is_refused_or_reported(rule: str) -> None:
    found = [*TRAIN, song("a", "A", "2", "validation", "k3"), song("b", "B", "2", "validation")]
    if rule in ("song", "files"):
        assert check_leakage(found, rule) == ("a/A",)
        return
    expected = r"1 album .*: a/A is in train \(a/A/1\.wav\), validation \(a/A/2\.wav\)"
    with pytest.raises(UserError, match=expected):
        check_leakage(found, rule)


@pytest.mark.parametrize("rule", SPLITTERS)
def test_albums_of_one_name_by_two_singers_are_two_albums(rule: str) -> None:
    found = [*TRAIN, song("a", "Hits", "1", "train"), song("b", "Hits", "1", "validation")]
    assert check_leakage(found, rule) == ()


@pytest.mark.parametrize("rule", SPLITTERS)
def test_every_singer_must_be_in_train(rule: str) -> None:
    with pytest.raises(UserError, match=r"singer 'c' is in test \(c/A/1\.wav\) but has no song"):
        check_leakage([*TRAIN, song("c", "A", "1", "test")], rule)


def test_leakage_under_an_unknown_rule() -> None:
    with pytest.raises(UserError, match="--split random is unknown"):
        check_leakage(TRAIN, "random")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def lists(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_text_lists_give_split_singer_and_title(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/01-x, y.wav", "a/B/1.wav", "b/A/1.wav", "b/A/unlisted.wav")
    lists(
        tmp_path,
        train='Audio_path,singer_name,song_title\n"a/A/01-x, y.wav",a,"x, y"\n\nb/A/1.wav,b,One\n',
        val="\ufeffa/B/1.wav,a,Me, myself and I\r\n",
    )
    songs = {s.id: s for s in read_lists(tmp_path)}
    assert {i: s.split for i, s in songs.items()} == {
        "a/A/01-x, y.wav": "train",
        "b/A/1.wav": "train",
        "a/B/1.wav": "validation",
    }
    assert songs["a/A/01-x, y.wav"].title == "x, y"
    assert songs["a/B/1.wav"].title == "Me, myself and I"
    assert songs["a/B/1.wav"].album == "B"


def test_json_lists_of_the_newer_course_edition(tmp_path: Path) -> None:
    data = tmp_path / "artist20"
    touch(data, "train_val/aerosmith/Aerosmith/01-Make_It.mp3", "train_val/u2/War/01.mp3")
    touch(data, "train_val/u2/Boy/01.mp3")
    (data / "train.json").write_text(
        json.dumps(
            [
                "./artist20/train_val/aerosmith/Aerosmith/01-Make_It.mp3",
                ".\\artist20\\train_val\\u2\\War\\01.mp3",
            ]
        ),
        encoding="utf-8",
    )
    (data / "val.json").write_text('["./artist20/train_val/u2/Boy/01.mp3"]', encoding="utf-8")
    for data_dir in (data, data / "train_val"):  # the lists may lie in the folder above
        songs = read_lists(data_dir)
        assert [(s.singer, s.album, s.title, s.split) for s in songs] == [
            ("aerosmith", "Aerosmith", "01-Make_It", "train"),
            ("u2", "Boy", "01", "validation"),
            ("u2", "War", "01", "train"),
        ]
        assert all((data_dir / s.id).is_file() and Path(s.path).is_file() for s in songs)


def test_lists_may_lie_elsewhere_and_name_files_beside_themselves(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "a/A/1.wav")
    other = touch(tmp_path / "lists", "b/B/2.wav")
    outside = touch(tmp_path / "far", "c/C/3.wav") / "c" / "C" / "3.wav"
    lists(other, train="/old/disk/a/A/1.wav,a,1\n", validation="b/B/2.wav,b,2\n")
    lists(other, test=f"{outside},c,3\n")
    songs = read_lists(data, other)
    assert [(s.id, s.split) for s in songs] == [
        ("a/A/1.wav", "train"),
        ("b/B/2.wav", "validation"),
        ("c/C/3.wav", "test"),
    ]


def test_a_file_of_the_same_name_elsewhere_is_not_taken_for_the_listed_one(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "A/1.wav", "b/A/1.wav")
    lists(tmp_path, train="b/A/1.wav,b,1\n", validation="deep/x/a/A/1.wav,a,1\n")
    with pytest.raises(UserError, match=r"lists 1 file that are not below .*deep/x/a/A/1\.wav"):
        read_lists(tmp_path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train": "a/A/1.wav,a,1\n"}, "no list of validation songs .*val.txt"),
        ({"val": "a/A/1.wav,a,1\n"}, "no list of train songs"),
        ({"train": "a/A/1.wav\n", "val": ""}, "line 1: expected Audio_path,singer_name,song_title"),
        ({"train": "\n\n", "val": ""}, r"train\.txt lists no song"),
        (
            {"train": "a/A/1.wav,a,1\na/A/1.wav,a,1\n", "val": ""},
            "entry 2: a/A/1.wav .*second time",
        ),
        (
            {"train": "a/A/1.wav,a,1\n", "val": "a/A/1.wav,a,1\n", "validation": ""},
            r"validation\.txt and val\.txt are both there; keep one validation list",
        ),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    touch(tmp_path, "a/A/1.wav")
    lists(tmp_path, **texts)
    with pytest.raises(UserError, match=message):
        read_lists(tmp_path)


def test_broken_json_lists(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/1.wav")
    for text, message in [("{", "is not JSON"), ('{"a": 1}', "JSON list of paths")]:
        (tmp_path / "train.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_lists(tmp_path)
    (tmp_path / "train.json").unlink()
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"train\.txt is not UTF-8"):
        read_lists(tmp_path)


def test_written_lists_are_read_back_as_the_same_split(tmp_path: Path) -> None:
    touch(tmp_path, "a/A, B/1, 2.wav", "a/C/1.wav", "b/C\u3000'é/1.wav", "b/D/1.wav")
    split = ["train", "validation", "train", "validation"]
    found = [replace(s, split=name) for s, name in zip(scan(tmp_path), split, strict=True)]
    for name in ("train", "validation"):
        write_list(tmp_path / f"{name}.txt", [s for s in found if s.split == name])
    assert read_lists(tmp_path) == tuple(found)
    lines = (tmp_path / "train.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '"a/A, B/1, 2.wav",a,"1, 2"'


COMPOSED, TAKEN_APART = "Beyonc\u00e9", "Beyonce\u0301"


@pytest.mark.parametrize(("listed", "there"), [(COMPOSED, TAKEN_APART), (TAKEN_APART, COMPOSED)])
def test_lists_and_disk_may_spell_a_name_in_different_unicode_forms(
    tmp_path: Path, listed: str, there: str
) -> None:
    touch(tmp_path, f"{there}/A/1.wav", f"{there}/B/{there}.wav")
    lists(
        tmp_path,
        train=f"old\\{listed}\\A\\1.wav,{listed},x\n",
        validation=f"{listed}/B/{listed}.wav,{there},y\n",
    )
    songs = read_lists(tmp_path)
    assert {song.singer for song in songs} == {COMPOSED}
    assert [song.id for song in songs] == [f"{COMPOSED}/A/1.wav", f"{COMPOSED}/B/{COMPOSED}.wav"]
    write_list(tmp_path / "again" / "train.txt", songs)
    written = (tmp_path / "again" / "train.txt").read_text(encoding="utf-8").splitlines()
    assert all((tmp_path / line.split(",")[0]).is_file() for line in written)


def test_what_only_unicode_calls_a_line_break_ends_no_line_of_a_list(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/A/{number}.wav" for number in range(4)))
    lists(
        tmp_path,
        train="a/A/0.wav,a,one\u2028two\ra/A/1.wav,a,next\x85line\r\na/A/2.wav,a,tab\x0bv\n",
        validation="a/A/3.wav,a,x\n",
    )
    songs = read_lists(tmp_path)
    assert [song.title for song in songs] == ["one two", "next line", "tab v", "x"]
    again = tmp_path / "again"
    for name in ("train", "validation"):
        write_list(again / f"{name}.txt", [song for song in songs if song.split == name])
    assert read_lists(tmp_path, again) == songs


def test_json_lists_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    touch(tmp_path, "a/A/1.wav", "a/B/1.wav")
    (tmp_path / "train.json").write_bytes(b'\xef\xbb\xbf["a/A/1.wav"]')
    (tmp_path / "val.json").write_bytes(b'["a/B/1.wav"]')
    assert [song.split for song in read_lists(tmp_path)] == ["train", "validation"]


@pytest.mark.parametrize("singer", ["AC/DC", "a\u2028b", "a\x07"])
def test_singers_whom_no_folder_could_be_named_after_are_refused(
    tmp_path: Path, singer: str
) -> None:
    touch(tmp_path, "a/A/1.wav", "a/B/1.wav")
    lists(tmp_path, train=f"a/A/1.wav,{singer},x\n", validation="a/B/1.wav,a,x\n")
    with pytest.raises(UserError, match=r"train\.txt, entry 1: the singer's name "):
        read_lists(tmp_path)


def test_names_like_formulas_are_inert_in_lists_and_come_back(tmp_path: Path) -> None:
    touch(tmp_path, "=x/A/1.wav", "-M-/A/1.wav", "a/A/1.wav")
    songs = tuple(replace(song, split="train") for song in scan(tmp_path))
    write_list(tmp_path / "train.txt", songs)
    text = (tmp_path / "train.txt").read_text(encoding="utf-8")
    assert text == "'-M-/A/1.wav,'-M-,1\n'=x/A/1.wav,'=x,1\na/A/1.wav,a,1\n"
    (tmp_path / "validation.txt").write_text("a/A/1.wav,a,1\n", encoding="utf-8")
    assert tuple(song for song in read_lists(tmp_path) if song.split == "train") == songs
