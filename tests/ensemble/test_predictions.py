"""Prediction files: IDs, their order, exact bytes, and tables that come back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder.errors import UserError
from embedder.inference.store import Store
from ensemble.fusion.calibration import log_softmax
from ensemble.predictions import (
    FORMATS,
    TABLE_FORMAT,
    Table,
    id_order,
    list_files,
    normal_id,
    notes_on,
    prediction_names,
    read_table,
    table_of,
    top_singers,
    write_csv,
    write_json_predictions,
    write_notes,
    write_table,
)

ROOT = Path("songs")


@pytest.mark.parametrize(
    ("file", "ident"),
    [
        ("0001.wav", "1"),
        ("000.mp3", "0"),
        ("10.flac", "10"),
        ("１２.wav", "１２"),  # full-width digits are a name
        ("-1.wav", "-1"),
        ("1.5.wav", "1.5"),
        ("01 intro.ogg", "01 intro"),
        ("live/0001.wav", "live/0001"),
        ("a.b/c.d.mp3", "a.b/c.d"),
    ],
)
def test_ids_follow_the_course_s_rule(file: str, ident: str) -> None:
    (name,) = prediction_names([ROOT / PurePosixPath(file)], ROOT)
    assert name == file.rsplit(".", 1)[0]
    assert normal_id(name) == ident


def test_what_is_no_audio_suffix_belongs_to_the_name() -> None:
    files = [ROOT / "Mr. Jones", ROOT / "Mr. Brown", ROOT / "Mr. White.wav"]
    assert prediction_names(files, ROOT) == ["Mr. Jones", "Mr. Brown", "Mr. White"]


@pytest.mark.parametrize(
    ("first", "second", "ident"),
    [("0001.wav", "1.wav", "1"), ("a.wav", "a.mp3", "a"), ("x/2.wav", "x/2.ogg", "x/2")],
)
def test_two_files_with_one_id_are_both_named(first: str, second: str, ident: str) -> None:
    paths = [ROOT / first, ROOT / "other.wav", ROOT / second]
    with pytest.raises(UserError) as caught:
        prediction_names(paths, ROOT)
    assert str(paths[0]) in str(caught.value)
    assert str(paths[2]) in str(caught.value)
    assert f"the ID {ident};" in str(caught.value)


def test_a_name_that_is_no_text_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UserError, match=r"bad\\udcff\.wav' is not valid text"):
        prediction_names([ROOT / "bad\udcff.wav"], ROOT)


@settings(deadline=None)
@given(number=st.integers(0, 10**30), zeros=st.integers(0, 5))
def test_numbers_lose_their_leading_zeros_and_nothing_else(number: int, zeros: int) -> None:
    assert normal_id("0" * zeros + str(number)) == str(number)
    assert id_order("0" * zeros + str(number)) == id_order(str(number))


def test_numbers_come_first_by_size_then_names_by_code_point() -> None:
    names = ["b", "10", "a/2", "002", "Z", "1", "a", "é", "0"]
    assert sorted(names, key=id_order) == ["0", "1", "002", "10", "Z", "a", "a/2", "b", "é"]


def test_the_best_singers_in_order_and_ties_by_label() -> None:
    logs = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]))
    assert top_singers(logs, ["a", "b", "c", "d"]) == [("d", "c", "b"), ("a", "b", "c")]
    assert top_singers(logs[:, :2], ["a", "b"]) == [("b", "a"), ("a", "b")]


NAMES = ["010", "song, live", "2", 'say "hi"', "x/1"]
CHOICES = [
    ("a", "b", "c"),
    ("Sigur Rós", "a", "b"),
    ("b,c", "a", "Rós"),
    ("c", "b", "a"),
    ("a", "c", "b"),
]


def test_the_csv_is_exactly_the_course_s(tmp_path: Path) -> None:
    path = tmp_path / "prediction.csv"
    write_csv(path, NAMES, CHOICES)
    assert path.read_bytes().decode() == (
        '2,"b,c",a,Rós\n10,a,b,c\n"say ""hi""",c,b,a\n"song, live",Sigur Rós,a,b\nx/1,a,c,b\n'
    )
    with path.open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["2", "b,c", "a", "Rós"]


def test_the_json_is_keyed_by_stem_in_the_csv_s_order(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    write_json_predictions(path, NAMES, CHOICES)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert list(found) == ["2", "010", 'say "hi"', "song, live", "x/1"]
    assert found["010"] == ["a", "b", "c"]


def table(songs: int = 5, **changes: Any) -> Table:
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "ids": tuple(NAMES[:songs]),
        "singers": ("a", "Sigur Rós", "c"),
        "log_probabilities": log_softmax(rng.normal(size=(songs, 3))),
        "truth": np.array([2, -1, 0, 1, 1], np.int64)[:songs],
        "albums": ("a/x", "", "", "c/y", "c/y")[:songs],
        "experts": {name: log_softmax(rng.normal(size=(songs, 3))) for name in ("m/head", "m/knn")},
        "voice": np.array([0.1, 0, 0.3, 0.4, 1])[:songs],
    }
    return Table(**(values | changes))


def test_a_table_comes_back_by_ascending_id(tmp_path: Path) -> None:
    path, written = tmp_path / "t.npz", table()
    write_table(path, written)
    back = read_table(path)
    assert back.ids == ("2", "010", 'say "hi"', "song, live", "x/1")
    order = [written.ids.index(name) for name in back.ids]
    assert back.singers == written.singers
    assert back.albums == tuple(written.albums[song] for song in order)
    np.testing.assert_array_equal(back.truth, written.truth[order])
    np.testing.assert_allclose(back.log_probabilities, written.log_probabilities[order], rtol=1e-6)
    assert list(back.experts) == ["m/head", "m/knn"]
    for name, logs in written.experts.items():
        np.testing.assert_allclose(back.experts[name], logs[order], rtol=1e-6)
    assert written.voice is not None
    assert back.voice is not None
    np.testing.assert_allclose(back.voice, written.voice[order], rtol=1e-6)
    np.testing.assert_allclose(np.exp(back.log_probabilities).sum(axis=1), 1, rtol=1e-5)


def test_the_table_of_a_store_has_its_songs_and_experts(make_store: Callable[..., Store]) -> None:
    store = make_store("m", "validation")
    rng = np.random.default_rng(0)
    scores = {name: log_softmax(rng.normal(size=(96, 8))) for name in ("m/knn", "fused", "m/head")}
    made = table_of(store, scores)
    assert (made.ids, made.albums, made.singers) == (store.song_ids, store.albums, store.singers)
    assert made.log_probabilities is scores["fused"]
    assert list(made.experts) == ["m/knn", "m/head"]
    np.testing.assert_array_equal(made.truth, store.labels)
    ids = [str(number) for number in range(96)]
    assert table_of(store, scores, ids).ids == tuple(ids)
    assert made.voice is None  # nobody listened for it


def test_the_table_of_a_store_says_how_much_voice_was_heard(
    make_store: Callable[..., Store], tmp_path: Path
) -> None:
    weight = np.linspace(0, 1, 96 * 3, dtype=np.float32)
    weight[3:6] = 0
    made_from = {"checkpoint": "m-1", "activity": "d1"}
    store = make_store("m", "validation", segment_weight=weight, made_from=made_from)
    scores = {name: np.log(np.full((96, 8), 1 / 8)) for name in ("m/knn", "fused")}
    made = table_of(store, scores)
    assert made.voice is not None
    np.testing.assert_allclose(made.voice, weight.reshape(96, 3).mean(axis=1), rtol=1e-6)
    assert made.voice[1] == 0
    write_table(tmp_path / "t.npz", table(voice=None))
    assert read_table(tmp_path / "t.npz").voice is None


def test_experts_without_a_part_and_singers_they_cannot_name_come_back(tmp_path: Path) -> None:
    logs = log_softmax(np.random.default_rng(0).normal(size=(5, 3)))
    logs[1] = np.nan  # no part in that song
    logs[:, 2] = -np.inf  # a singer who was enrolled since
    sure = np.linspace(0, 1, 5)
    written = table(experts={"m/knn": logs}, confidence=sure)
    write_table(tmp_path / "t.npz", written)
    back = read_table(tmp_path / "t.npz")
    order = [written.ids.index(song) for song in back.ids]
    np.testing.assert_allclose(back.experts["m/knn"], logs[order], rtol=1e-6)
    assert back.confidence is not None
    np.testing.assert_allclose(back.confidence, sure[order], rtol=1e-6)
    with pytest.raises(ValueError, match=r"confidence is \(2,\), not \(5,\)"):
        write_table(tmp_path / "t.npz", table(confidence=sure[:2]))


def test_a_table_without_songs_or_experts_comes_back(tmp_path: Path) -> None:
    write_table(tmp_path / "none.npz", table(0, experts={}))
    back = read_table(tmp_path / "none.npz")
    assert (back.ids, back.albums, back.experts) == ((), (), {})
    assert back.log_probabilities.shape == (0, 3)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(5)))
@pytest.mark.parametrize("kind", [*FORMATS, "npz"])
def test_the_same_predictions_give_the_same_bytes_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, kind: str, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for path, rows in ((folder / "one", list(range(5))), (folder / "other", order)):
        if kind == "npz":
            whole = table()
            write_table(
                path,
                Table(
                    ids=tuple(whole.ids[row] for row in rows),
                    singers=whole.singers,
                    log_probabilities=whole.log_probabilities[rows],
                    truth=whole.truth[rows],
                    albums=tuple(whole.albums[row] for row in rows),
                    experts={name: logs[rows] for name, logs in whole.experts.items()},
                    voice=None if whole.voice is None else whole.voice[rows],
                ),
            )
        else:
            FORMATS[kind](path, [NAMES[row] for row in rows], [CHOICES[row] for row in rows])
    assert (folder / "one").read_bytes() == (folder / "other").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.array([0, 9])}, r"truth must lie in -1\.\.1"),
        ({"albums": ("one",)}, "not of 2 songs"),
        ({"log_probabilities": np.zeros((2, 3))}, r"fused are \(2, 3\), not \(2, 2\)"),
        ({"voice": np.ones(3)}, r"voice is \(3,\), not \(2,\)"),
    ],
)
def test_a_table_of_other_shapes_cannot_be_made(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"ids": ("1", "2"), "singers": ("a", "b"), "albums": ("x", "x")}
    fields |= {"log_probabilities": np.zeros((2, 2)), "truth": np.array([0, -1])}
    with pytest.raises(ValueError, match=message):
        Table(**fields | change)


def test_a_table_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with pytest.raises(UserError, match=r"t\.npz is missing; .*python app\.py fuse"):
        read_table(path)
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match=r"t\.npz is not a readable table of predictions"):
        read_table(path)
    np.savez(path, format=np.array(TABLE_FORMAT + 1))
    with pytest.raises(UserError, match=f"reads format {TABLE_FORMAT}"):
        read_table(path)
    np.savez(path, format=np.array(TABLE_FORMAT))
    with pytest.raises(UserError, match="is not a readable table"):
        read_table(path)


def test_a_table_of_other_shapes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of m/knn are \(2, 3\), not \(5, 3\)"):
        write_table(tmp_path / "t.npz", table(experts={"m/knn": np.zeros((2, 3))}))
    with pytest.raises(ValueError, match=r"voice is \(2,\), not \(5,\)"):
        write_table(tmp_path / "t.npz", table(voice=np.zeros(2)))
    assert list(tmp_path.iterdir()) == []


def test_files_whose_names_differ_in_unicode_form_alone_are_one_id() -> None:
    composed, taken_apart = ROOT / "\u00e9.wav", ROOT / "e\u0301.wav"
    assert normal_id("e\u0301") == "\u00e9"
    with pytest.raises(UserError) as refusal:
        prediction_names([composed, taken_apart], ROOT)
    assert "would both have the ID \u00e9 (one name in two Unicode forms" in str(refusal.value)
    assert r"\xe9.wav' and '" in str(refusal.value)  # shown so that the two can be told apart
    assert r"e\u0301.wav'" in str(refusal.value)


def test_all_files_that_share_an_id_are_named_at_once() -> None:
    files = [ROOT / name for name in ("1.wav", "1.mp3", "x.wav", "2.wav", "02.wav", "002.wav")]
    with pytest.raises(UserError) as refusal:
        prediction_names(files, ROOT)
    assert str(refusal.value) == (
        f"{files[0]} and {files[1]} would both have the ID 1; {files[3]} and {files[4]} and "
        f"{files[5]} would all have the ID 2; rename all but one of each"
    )


def test_only_answers_with_something_to_be_known_have_notes() -> None:
    names = ["a", "b", "c", "d"]
    silent = [(), ("vox",), ("vox", "low"), ()]
    found = notes_on(names, silent, np.array([False, False, True, True]), 3)
    alone = "no voice was found: the whole recording is used"
    assert found == {
        "b": ["answered by 2 of 3 members: no vocals for vox"],
        "c": ["answered by 1 of 3 members: no vocals for vox and low", alone],
        "d": [alone],
    }
    assert notes_on(names, [()] * 4, np.zeros(4, bool), 3) == {}


def test_notes_are_written_by_id_and_go_when_there_are_none(tmp_path: Path) -> None:
    output = tmp_path / "new" / "p.json"
    path = write_notes(output, {"x, y": ["one"], "0010": ["two", "three"], "9": ["four"]})
    assert path == tmp_path / "new" / "p.json.notes.csv"
    assert path.read_bytes() == b'ID,note\n9,four\n10,two\n10,three\n"x, y",one\n'
    assert write_notes(output, {"a": []}) is None
    assert not path.exists()
    assert write_notes(output, {}) is None


# Files ------------------------------------------------------------------------------------------


def test_files_are_listed_sorted_whatever_lies_beside_them(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/2.mp3", "10.flac", "9.ogg", ".hidden.wav", ".git/x.wav", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in list_files(tmp_path)]
    assert found == ["10.flac", "9.ogg", "a/2.mp3", "b.WAV"]


def test_files_are_listed_whatever_kind_of_audio_they_are(tmp_path: Path) -> None:
    names = [
        "1.m4a",
        "2.oga",
        "3.wave",
        "4.opus",
        "5.aiff",
        "6.WMA",
        "7.flac",
        "no_suffix",
        "x.dat",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"fLaC" if "." not in name or "dat" in name else b"x")
    for name in ("cover.jpg", "list.m3u", "Thumbs.db", "._1.m4a"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_files(tmp_path)] == names


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist; --test_dir takes a folder"):
        list_files(tmp_path / "none")
    (tmp_path / "x.txt").touch()
    with pytest.raises(UserError, match=r"holds no audio file among 1 file$"):
        list_files(tmp_path)
    with pytest.raises(UserError, match=r"x\.txt is a file; --audio_dir takes a folder"):
        list_files(tmp_path / "x.txt", "--audio_dir")
