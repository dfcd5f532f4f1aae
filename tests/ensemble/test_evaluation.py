"""Evaluation of prediction files: numbers by hand, both kinds of truth, and every refusal."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.statistics import bootstrap_interval, mean_of
from ensemble.evaluation import Recall, Truth, evaluate, read_predictions, read_truth
from ensemble.fusion.calibration import log_softmax
from ensemble.predictions import FORMATS, top_singers, write_csv

PREDICTED = "1,a,b,c\n2,b,a,c\n3,c,a,b\n10,d,c,b\n"
TRUTH = "ID,singer\n0001,a\n0002,a\n3,b\n10,b\n"


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def layout(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")
    return folder


def test_numbers_by_hand(tmp_path: Path) -> None:
    predictions = read_predictions(written(tmp_path, "p.csv", PREDICTED))
    found = evaluate(predictions, read_truth(written(tmp_path, "t.csv", TRUTH)), seed=4)
    assert (found.songs, found.columns, found.extra) == (4, 3, ())
    assert found.top_1.value == 1 / 4
    assert found.top_3.value == 1.0
    assert found.score.value == 0.75
    # F1 of a: 2·1/(2+1); of b: 0. c and d are predicted but never sing.
    assert found.macro_f1.value == pytest.approx((2 / 3 + 0) / 2)
    assert found.recalls == (Recall("a", 1, 2, 0.5), Recall("b", 0, 2, 0.0))
    assert found.top_1 == bootstrap_interval(mean_of(np.array([1, 0, 0, 0])), 4, 4)
    assert found.score == bootstrap_interval(
        mean_of(np.array([1.5, 0.5, 0.5, 0.5])), 4, 4, limits=(0.0, 1.5)
    )
    assert found.albums == 0


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_predict_writes_is_what_evaluate_reads(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    singers = ['say "hi"', "Sigur Rós", "a, b", "plain"]
    logs = log_softmax(rng.normal(size=(50, 4)))
    names = [f"{number:04}" for number in range(47)] + ["x/1", "live, 2", "é"]
    choices = top_singers(logs, singers)
    path = tmp_path / f"p.{kind}"
    FORMATS[kind](path, names, choices)
    back = read_predictions(path)
    assert back == {
        (str(int(name)) if name.isdigit() else name): row
        for name, row in zip(names, choices, strict=True)
    }
    truth = Truth({name: row[0] for name, row in back.items()}, {})
    assert evaluate(back, truth).score.value == 1.5


def test_a_header_a_byte_order_mark_blank_lines_and_windows_ends_are_fine(tmp_path: Path) -> None:
    text = "\ufeffID,No.1,No.2\r\n1, a ,b\r\n\r\n2,b,a\r\n"
    predictions = read_predictions(written(tmp_path, "p.csv", text))
    assert predictions == {"1": ("a", "b"), "2": ("b", "a")}
    truth = read_truth(written(tmp_path, "t.csv", "\ufeffid,Singer\r\n1,a\r\n2,a\r\n"))
    assert truth.singers == {"1": "a", "2": "a"}
    found = evaluate(predictions, truth)
    assert (found.columns, found.top_1.value, found.top_3.value) == (2, 0.5, 1.0)
    assert read_truth(written(tmp_path, "u.csv", "1,a\n2,a\n")) == truth


def test_more_than_three_columns_do_not_help(tmp_path: Path) -> None:
    predictions = read_predictions(written(tmp_path, "p.csv", "1,a,b,c,d\n"))
    found = evaluate(predictions, Truth({"1": "d"}, {}))
    assert (found.top_3.value, found.columns) == (0, 3)


def test_composed_and_decomposed_accents_are_one(tmp_path: Path) -> None:
    predictions = read_predictions(written(tmp_path, "p.csv", "1,Bjo\u0308rk\n"))
    truth = read_truth(written(tmp_path, "t.csv", "1,Bj\u00f6rk\n"))
    assert evaluate(predictions, truth).top_1.value == 1


def test_a_folder_of_songs_is_a_truth_by_path_or_by_bare_name(tmp_path: Path) -> None:
    root = layout(tmp_path / "t", "a/x/0001.mp3", "a/x/two.wav", "b/y/0003.ogg", "b/y/note.txt")
    truth = read_truth(root)
    assert truth.singers == {"a/x/0001": "a", "a/x/two": "a", "b/y/0003": "b"}
    for ids in (["a/x/0001", "a/x/two", "b/y/0003"], ["1", "two", "0003"], ["1", "a/x/two", "3"]):
        predictions = dict(zip(ids, [("a",), ("b",), ("b",)], strict=True))
        assert evaluate(predictions, truth).recalls == (
            Recall("a", 1, 2, 0.5),
            Recall("b", 1, 1, 1.0),
        )


def test_intervals_resample_albums_where_the_truth_names_them(tmp_path: Path) -> None:
    """A folder does, and a csv whose IDs are paths; with bare IDs, songs are resampled."""
    names = [f"{singer}/{album}/{song}" for singer in "abcd" for album in "xy" for song in range(4)]
    folder = read_truth(layout(tmp_path / "t", *(f"{name}.mp3" for name in names)))
    text = "".join(f"{name},{name[0]}\n" for name in names)
    paths = read_truth(written(tmp_path, "t.csv", text))
    bare = Truth({str(number): name[0] for number, name in enumerate(names)}, {})
    wrong = {"a/x", "c/y"}  # whole albums
    chosen = [("z",) if name[:3] in wrong else (name[0],) for name in names]
    by_path = dict(zip(names, chosen, strict=True))
    one, other = evaluate(by_path, folder), evaluate(by_path, paths)
    assert one == other
    assert (one.albums, one.top_1.groups) == (8, 8)
    songs = evaluate({str(number): row for number, row in enumerate(chosen)}, bare)
    assert (songs.albums, songs.top_1.groups) == (0, 32)
    assert songs.top_1.value == one.top_1.value
    assert one.top_1.high - one.top_1.low > 1.5 * (songs.top_1.high - songs.top_1.low)


def test_a_bare_name_of_two_songs_is_refused_only_if_it_is_used(tmp_path: Path) -> None:
    truth = read_truth(layout(tmp_path / "t", "a/x/01.mp3", "b/y/1.mp3", "b/y/2.mp3"))
    whole = {"a/x/01": ("a",), "b/y/1": ("b",), "b/y/2": ("b",)}
    assert evaluate(whole, truth).top_1.value == 1
    with pytest.raises(UserError, match=r"the prediction 1 could be a/x/01 or b/y/1; predict the"):
        evaluate({"1": ("a",), "2": ("b",)}, truth)
    with pytest.raises(UserError, match="b/y/2 and 2 are of one song, b/y/2"):
        evaluate(whole | {"2": ("b",)}, truth)


def test_a_truth_with_suffixes_matches_ids_without(tmp_path: Path) -> None:
    truth = read_truth(written(tmp_path, "t.csv", "0001.wav,a\nlive/x.MP3,b\n"))
    assert evaluate({"1": ("a",), "live/x": ("b",)}, truth).top_1.value == 1


def test_songs_without_a_prediction_are_never_left_out(tmp_path: Path) -> None:
    truth = read_truth(written(tmp_path, "t.csv", TRUTH))
    with pytest.raises(UserError, match=r"3 of 4 songs have no prediction, such as 1, 2, 3$"):
        evaluate({"10": ("a",)}, truth)
    with pytest.raises(UserError, match=r"3 of 4 .* such as 1, 2, 3; 1 prediction is of other"):
        evaluate({"10": ("a",), "x": ("a",)}, truth)


def test_predictions_of_other_songs_are_reported_and_count_nowhere() -> None:
    truth = Truth({"1": "a", "2": "b"}, {})
    exact = {"1": ("a", "b"), "2": ("a", "b")}
    found = evaluate(exact | {"10": ("z", "b"), "9": ("b", "a")}, truth)
    assert found.extra == ("9", "10")
    assert found.recalls == evaluate(exact, truth).recalls
    assert found.macro_f1 == evaluate(exact, truth).macro_f1


def test_an_evaluation_does_not_depend_on_the_order_of_the_lines() -> None:
    truth = Truth({str(number): "ab"[number % 2] for number in range(30)}, {})
    rows = {str(number): ("ab"[number % 3 % 2],) for number in range(30)}
    turned = Truth(dict(reversed(truth.singers.items())), {})
    assert evaluate(rows, truth) == evaluate(dict(reversed(rows.items())), turned)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "1,a\n0001,b\n", r"p\.csv, line 2: the ID 1 stands twice"),
        ("p.csv", "1,a,b,a\n", "line 1: names a singer twice for one song"),
        ("p.csv", "1,a,b\n2,a\n", "line 2: names another number of singers than the first"),
        ("p.csv", "1,a,\n", "line 1: needs an ID and one to three singers, none empty"),
        ("p.csv", "1\n", "line 1: needs an ID and one to three singers"),
        ("p.csv", ",a,b\n", "line 1: needs an ID"),
        ("p.csv", "1;a;b\n", "none empty; commas stand between columns, not semicolons$"),
        ("p.csv", "1\ta\tb\n", "none empty; commas stand between columns, not tabs$"),
        ("p.csv", "", r"p\.csv holds no prediction; lines are ID,No\.1,No\.2,No\.3"),
        ("p.csv", "ID,No.1,No.2,No.3\n", "holds no prediction"),
        ("p.csv", '1,"a\n', r"p\.csv, line 1: unexpected end of data"),
        ("p.json", '{"0001": ["a"], "1": ["b"]}', "key '1': the ID 1 stands twice"),
        ("p.json", '{"1": ["a"], "1": ["b"]}', "key '1': the ID 1 stands twice"),
        ("p.json", '{"1": ["a", "a"]}', "key '1': names a singer twice"),
        ("p.json", '{"1": "a"}', "must hold one object"),
        ("p.json", '{"1": [1]}', "must hold one object"),
        ("p.json", '[["1", "a"]]', "must hold one object"),
        ("p.json", "3", "must hold one object"),
        ("p.json", "{}", "holds no prediction"),
        ("p.json", '{"1": ["a"]', r"p\.json is not JSON"),
    ],
)
def test_a_bad_prediction_names_the_file_and_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_predictions(written(tmp_path, name, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,a\n01,a\n", r"t\.csv, line 2: the ID 1 stands twice"),
        ("1,a,b\n", "line 1: needs two columns, ID,singer"),
        ("1,\n", "line 1: needs two columns"),
        ("1;a\n", "none empty; commas stand between columns, not semicolons$"),
        ("ID,singer\n", "names no song; lines are ID,singer"),
    ],
)
def test_a_bad_truth_names_the_file_and_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_truth(written(tmp_path, "t.csv", text))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv is missing"):
        read_predictions(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"gone is missing"):
        read_truth(tmp_path / "gone")
    (tmp_path / "latin.csv").write_bytes("1,Björk\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.csv is not UTF-8 text"):
        read_predictions(tmp_path / "latin.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path)
    with pytest.raises(UserError, match=r"holds a/x/1 twice, with different suffixes"):
        read_truth(layout(tmp_path / "t", "a/x/1.mp3", "a/x/1.wav"))


def test_a_space_before_quotes_is_none_of_a_name(tmp_path: Path) -> None:
    predictions = read_predictions(written(tmp_path, "p.csv", '"1", "a", "b, c"\n'))
    assert predictions == {"1": ("a", "b, c")}
    truth = read_truth(written(tmp_path, "t.csv", '1, "b, c"\n'))
    assert evaluate(predictions, truth).top_3.value == 1


@pytest.mark.parametrize(
    "head", ["file,singer", "Audio_path,singer_name", "song_id,artist", "Audio path, Singer name"]
)
def test_headers_of_a_truth_as_people_write_them(tmp_path: Path, head: str) -> None:
    assert read_truth(written(tmp_path, "t.csv", f"{head}\n1,a\n")).singers == {"1": "a"}


@pytest.mark.parametrize(
    "head", ["ID,No.1,No.2", "id,no1,no2", "File,Top 1,Top 2", "id,singer1,no2"]
)
def test_headers_of_a_prediction_as_people_write_them(tmp_path: Path, head: str) -> None:
    found = read_predictions(written(tmp_path, "p.csv", f"{head}\n1,a,b\n"))
    assert found == {"1": ("a", "b")}


def test_a_first_song_with_a_telling_name_is_no_header(tmp_path: Path) -> None:
    found = read_predictions(written(tmp_path, "p.csv", "track,artist1,b,c\n"))
    assert found == {"track": ("artist1", "b", "c")}


def test_predicted_ids_may_have_the_suffix_of_their_file(tmp_path: Path) -> None:
    truth = read_truth(written(tmp_path, "t.csv", "1,a\nlive/x,b\n"))
    found = evaluate({"0001.mp3": ("a",), "live/x.FLAC": ("b",)}, truth)
    assert (found.top_1.value, found.extra) == (1, ())
    with pytest.raises(UserError, match=r"0001\.mp3 and 1\.wav are of one song"):
        evaluate({"0001.mp3": ("a",), "1.wav": ("b",), "live/x": ("b",)}, truth)


def test_a_truth_of_other_songs_is_refused_with_the_ids_of_both(tmp_path: Path) -> None:
    truth = read_truth(written(tmp_path, "t.csv", "x,a\ny,a\n"))
    with pytest.raises(UserError, match=r"no ID of the truth, such as x, y, .* as 1, 2; an ID is"):
        evaluate({"2": ("a",), "1": ("a",)}, truth)
    with pytest.raises(UserError, match=r"0001, which may be written 1 but not 1\.0$"):
        evaluate({"1.0": ("a",), "test/0001.mp3": ("a",)}, truth)


def test_a_truth_of_other_singers_is_refused_with_the_names_of_both() -> None:
    predictions = {"1": ("a", "b"), "2": ("b", "a")}
    with pytest.raises(UserError, match=r"no singer of the truth, such as zz, .* name a, b$"):
        evaluate(predictions, Truth({"1": "zz", "2": "zz"}, {}))
    with pytest.raises(UserError, match=r"differ in case, form or spaces only.*'A' and 'a'"):
        evaluate(predictions, Truth({"1": "A", "2": "B"}, {}))


def test_singers_whom_no_prediction_names_are_said() -> None:
    predictions = {"1": ("a", "b"), "2": ("b", "a")}
    found = evaluate(predictions, Truth({"1": "zz", "2": "b"}, {}))
    assert (found.unnamed, found.alike) == (("zz",), "")
    found = evaluate(predictions, Truth({"1": "A", "2": "b"}, {}))
    assert found.unnamed == ("A",)
    assert "'A' and 'a'" in found.alike
    assert evaluate(predictions, Truth({"1": "a", "2": "b"}, {})).unnamed == ()


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_ids_and_names_like_formulas_are_inert_and_come_back(tmp_path: Path, kind: str) -> None:
    names, singers = ["=1+1", "+x", "-y", "@z"], ("=HYPERLINK(1)", "+44", "-M-")
    path = tmp_path / f"p.{kind}"
    FORMATS[kind](path, names, [singers] * 4)
    assert read_predictions(path) == dict.fromkeys(names, singers)
    if kind == "csv":
        lines = path.read_text(encoding="utf-8").splitlines()
        cells = [cell for row in csv.reader(lines) for cell in row]
        assert all(cell.startswith("'") for cell in cells)


def test_singers_who_differ_in_a_space_alone_are_two_in_a_prediction(tmp_path: Path) -> None:
    write_csv(tmp_path / "p.csv", ["1"], [("abba", "abba ", "b")])
    assert len(read_predictions(tmp_path / "p.csv")["1"]) == 3
