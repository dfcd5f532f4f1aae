"""`verify`, `similar` and `evaluate --verification` as their users meet them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedder.artifact import read_json, write_json
from embedder.catalogue import Song, read_catalogue
from embedder.inference.store import Store, read_store, write_store
from embedder.run import Run
from ensemble.embedding import EmbeddingJob
from ensemble.fusion.fitted import read_fusion
from ensemble.identifier import SingerIdentifier
from ensemble.index.table import write_table
from ensemble.verification.verification import VERIFICATION

Command = Callable[..., Any]
MEMBERS = ["aam", "triplet"]
ROOT = Path(__file__).parents[3]


def songs_of(run: Run, split: str) -> list[Song]:
    return list(read_catalogue(run.catalogue).of(split))


def cells(text: str) -> dict[str, list[str]]:
    """First cell of each row of all tables printed → the other cells."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def embedding(run: Run, member: str, song: Song) -> np.ndarray:
    store = read_store(run.store(member, song.split))
    return store.embeddings[store.song_ids.index(song.id)].astype(float)


def slow_cosine(run: Run, one: Song, other: Song, members: list[str]) -> float:
    return float(np.mean([embedding(run, m, one) @ embedding(run, m, other) for m in members]))


# verify -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [[], ["--members", "triplet"]])
def test_two_songs_are_verified_as_their_embeddings_say(
    chosen: list[str], command: Command, trained: Run
) -> None:
    members = chosen[1:] or MEMBERS
    one, *_ = songs_of(trained, "test")
    other = next(s for s in songs_of(trained, "train") if s.singer == one.singer)
    files = (one.path, other.path, "--run_dir", trained.root, *chosen)
    done = command("verify", *files, "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["first"], found["second"]) == (one.path, other.path)
    assert found["members"] == members
    line = VERIFICATION.read(trained.verification).of(members)
    assert found["cosine"] == pytest.approx(slow_cosine(trained, one, other, members), abs=1e-5)
    assert found["threshold"] == line.threshold
    log_odds = line.slope * found["cosine"] + line.offset
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-log_odds)))
    assert found["same_singer"] is (found["cosine"] >= line.threshold)
    assert found["same_recording"] is False

    shown = command("verify", *files)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    for name, text in zip(("cosine", "threshold", "probability"), lines, strict=False):
        assert text.replace(",", " ").split()[:2] == [name, f"{found[name]:.3f}"]
    assert lines[0].endswith(f"mean over {', '.join(members)}")
    assert lines[3].startswith("one singer" if found["same_singer"] else "two singers")


def test_a_recording_is_itself(command: Command, trained: Run, tmp_path: Path) -> None:
    song = songs_of(trained, "test")[0]
    copy = tmp_path / "a copy.flac"
    shutil.copy(song.path, copy)
    for other in (song.path, copy):
        files = (song.path, other, "--run_dir", trained.root)
        found = json.loads(command("verify", *files, "--json").out)
        assert found["cosine"] == pytest.approx(1, abs=1e-6)
        assert found["same_recording"] is True
        assert (found["same_singer"], found["probability"]) == (True, 1.0)
        assert command("verify", *files).out.endswith("the same recording, or copies of it\n")


def test_a_curve_that_says_nothing_is_said_and_a_recording_is_still_itself(
    command: Command, trained: Run
) -> None:
    """As where songs of one singer are no more alike than others: the slope is 0."""
    one, other = (song.path for song in songs_of(trained, "test")[:2])
    verification = VERIFICATION.read(trained.verification)
    flat = tuple(replace(c, slope=0.0, offset=0.0) for c in verification.calibrations)
    VERIFICATION.write(trained.verification, replace(verification, calibrations=flat))
    there = ("--run_dir", trained.root, "--json")
    done = command("verify", one, other, *there)
    assert json.loads(done.out)["probability"] == 0.5
    assert "neither the probability nor the threshold says anything" in done.err
    done = command("verify", one, one, *there)
    assert (json.loads(done.out)["probability"], done.err) == (1.0, "")


def test_verification_must_fit_the_fusion(
    refused: Callable[..., str], command: Command, trained: Run
) -> None:
    song = songs_of(trained, "test")[0].path
    words = ("verify", song, song, "--run_dir", trained.root)
    verification = VERIFICATION.read(trained.verification)
    VERIFICATION.write(trained.verification, replace(verification, fusion="another"))
    assert "run again: python app.py fuse" in refused(*words)
    none = replace(verification, calibrations=(), problem="no singer has songs of two albums")
    VERIFICATION.write(trained.verification, none)
    line = refused(*words)
    assert line.startswith("this run cannot verify singers: no singer has songs of two albums;")
    line = refused("evaluate", "--verification", "--run_dir", trained.root)
    assert line.startswith("this run cannot verify singers: no singer has songs of two albums;")
    trained.verification.unlink()
    assert "verification.json is missing; run again: python app.py fuse" in refused(*words)
    assert command("fuse", "--run_dir", trained.root).code == 0
    assert VERIFICATION.read(trained.verification) == verification


def test_fuse_goes_on_where_no_singer_has_two_albums(
    command: Command, refused: Callable[..., str], trained: Run
) -> None:
    for member in MEMBERS:
        train, store = (read_store(trained.store(member, s)) for s in ("train", "validation"))
        albums = dict(zip(train.labels.tolist(), train.albums, strict=True))
        same = tuple(albums[label] for label in store.labels.tolist())
        write_store(trained.store(member, "validation"), replace(store, albums=same))
    there = ("--run_dir", trained.root)
    assert command("fuse", *there).code == 0
    song = songs_of(trained, "test")[0].path
    for words in (("verify", song, song), ("evaluate", "--verification")):
        assert refused(*words, *there) == (
            "this run cannot verify singers: no singer has songs of two albums among the evaluated "
            "and the training songs; prepare it with more albums of each singer"
        )
    assert command("similar", song, *there).code == 0


# similar ----------------------------------------------------------------------------------------


def test_similar_songs_are_those_of_the_embeddings(command: Command, trained: Run) -> None:
    song, train = songs_of(trained, "test")[1], songs_of(trained, "train")
    words = ("similar", song.path, "--run_dir", trained.root)
    done = command(*words, "--top", 3, "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["file"], found["members"], found["songs"]) == (song.path, MEMBERS, 4)
    slow = {other.id: slow_cosine(trained, song, other, MEMBERS) for other in train}
    order = sorted(train, key=lambda other: -slow[other.id])[:3]
    assert [row["rank"] for row in found["nearest"]] == [1, 2, 3]
    for row, other in zip(found["nearest"], order, strict=True):
        assert row["song_id"] == other.id
        assert (row["singer"], row["album"]) == (other.singer, other.album)
        assert row["song"] == Path(other.path).stem
        assert row["similarity"] == pytest.approx(slow[other.id], abs=1e-5)
        assert row["same_recording"] is False

    shown = command(*words)
    assert (shown.code, shown.err) == (0, "")
    assert "The 4 of 4 songs in the index most like" in shown.out
    rows = cells(shown.out)
    for other in order:
        album, title, similarity, note = rows[other.singer]
        assert (album, title, note) == (other.album, Path(other.path).stem, "")
        assert float(similarity) == pytest.approx(slow[other.id], abs=1e-3)
    alone = json.loads(command(*words, "--members", "triplet", "--json").out)
    assert alone["members"] == ["triplet"]
    assert alone["nearest"][0]["similarity"] == pytest.approx(
        max(slow_cosine(trained, song, other, ["triplet"]) for other in train), abs=1e-5
    )


def test_a_song_of_the_index_finds_itself(command: Command, trained: Run, tmp_path: Path) -> None:
    song = songs_of(trained, "train")[2]
    shutil.copy(song.path, tmp_path / "unnamed.flac")
    there = ("--run_dir", trained.root)
    found = json.loads(command("similar", tmp_path / "unnamed.flac", "--json", *there).out)
    assert found["nearest"][0]["song_id"] == song.id
    assert [row["same_recording"] for row in found["nearest"]] == [True, False, False, False]
    shown = command("similar", song.path, *there)
    assert cells(shown.out)[song.singer][-1] == "the same recording"
    assert shown.out.count("the same recording") == 1


# Messages and refusals --------------------------------------------------------------------------


def test_json_stays_alone_where_there_is_something_to_say(
    command: Command, trained: Run, put_detector: Callable[[Run, float], None]
) -> None:
    put_detector(trained, -20.0)  # hears no voice anywhere
    there = ("--run_dir", trained.root)
    assert command("fuse", *there).code == 0
    song = songs_of(trained, "test")[0].path
    for words in (("verify", song, song), ("similar", song)):
        done = command(*words, "--json", *there)
        assert done.code == 0
        assert json.loads(done.out)["members"] == MEMBERS
        assert done.err.startswith(f"warning: no voice was found in {song}")
        plain = command(*words, *there)
        assert f"warning: no voice was found in {song}" in plain.err
        assert "no voice" not in plain.out


def test_files_that_cannot_be_used_are_named(
    refused: Callable[..., str], trained: Run, tmp_path: Path
) -> None:
    good, there = songs_of(trained, "test")[0].path, ("--run_dir", trained.root)
    (tmp_path / "bad.mp3").write_bytes(b"nothing that sounds" * 9)
    (tmp_path / "none.wav").write_bytes(b"")
    soundfile.write(tmp_path / "short.wav", np.full(3000, 0.1), 16000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(32000), 16000)
    expected = {
        "absent.opus": f"{tmp_path / 'absent.opus'} does not exist",
        ".": f"{tmp_path} is a folder",
        "bad.mp3": f"{tmp_path / 'bad.mp3'}: unreadable: ",
        "none.wav": f"{tmp_path / 'none.wav'}: empty: ",
        "short.wav": f"{tmp_path / 'short.wav'}: too short: 0.19 s, needed is 0.5 s",
        "silence.wav": f"{tmp_path / 'silence.wav'}: silent: ",
    }
    for name, said in expected.items():
        for words in (("verify", good, tmp_path / name), ("similar", tmp_path / name)):
            line = refused(*words, *there)
            assert line.startswith(said)
            assert "--skip_bad" not in line
    both = refused("verify", tmp_path / "bad.mp3", tmp_path / "short.wav", *there)
    assert expected["bad.mp3"] in both
    assert expected["short.wav"] in both


def test_what_could_not_be_decoded_of_a_file_is_said(
    command: Command, trained: Run, tmp_path: Path
) -> None:
    song = Path(songs_of(trained, "test")[0].path)
    wave, rate = soundfile.read(song)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    cut = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(cut[: len(cut) // 2])
    done = command("verify", song, tmp_path / "a.wav", "--json", "--run_dir", trained.root)
    assert done.code == 0
    assert json.loads(done.out)["cosine"] < 1
    assert "3.0 of 6.0 s could be decoded" in done.err
    done = command("similar", tmp_path / "a.wav", "--run_dir", trained.root)
    assert "3.0 of 6.0 s could be decoded" in done.err


def test_what_cannot_be_asked_is_one_line(
    refused: Callable[..., str], trained: Run, prepared: Run
) -> None:
    song = songs_of(trained, "test")[0].path
    for words in (("verify", song, song), ("similar", song)):
        line = refused(*words, "--run_dir", trained.root, "--members", "x")
        assert "member x is not in the fusion, which has aam, triplet" in line
        line = refused(*words, "--run_dir", prepared.root)
        assert "python app.py train-embedder" in line
        assert "no run folder at" in refused(*words, "--run_dir", trained.root / "none")
    line = refused("similar", song, "--top", "0", "--run_dir", trained.root)
    assert line.startswith("Invalid value for '--top'")
    assert "Missing argument 'B'" in refused("verify", song, "--run_dir", trained.root)


def test_a_member_that_changed_since_is_not_asked(
    refused: Callable[..., str], trained: Run
) -> None:
    shutil.copytree(trained.member("aam"), trained.root / "kept")
    shutil.rmtree(trained.member("triplet"))
    shutil.copytree(trained.root / "kept", trained.member("triplet"))
    song = songs_of(trained, "test")[0].path
    for words in (("verify", song, song), ("similar", song)):
        line = refused(*words, "--run_dir", trained.root)
        assert "of member triplet" in line
        assert "run again: python app.py fuse" in line


def test_an_index_of_other_checkpoints_is_not_asked(
    refused: Callable[..., str], trained: Run
) -> None:
    other = {"checkpoint": "another"}
    stores = [read_store(trained.store(member, "train")) for member in MEMBERS]
    foreign = [replace(store, made_from=other) for store in stores]
    write_table(trained.index_table, foreign, fusion=read_fusion(trained.fusion).id)
    song = songs_of(trained, "test")[0].path
    line = refused("similar", song, "--run_dir", trained.root)
    assert "checkpoint another" in line
    assert "run again: python app.py fuse" in line


def test_members_that_take_vocals_are_unavailable_or_refused(
    command: Command, refused: Callable[..., str], trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedder.inference import embedder
    from embedder.settings import replaced

    load = embedder.load_member
    deaf = ["triplet"]

    def of_vocals(run: Run, name: str, *more: Any) -> Any:
        member = load(run, name, *more)
        changes = {"stem": "vocals"} if name in deaf else {}
        return replace(member, config=replaced(member.config, changes))

    monkeypatch.setattr(embedder, "load_member", of_vocals)
    one, other = songs_of(trained, "test")[:2]
    words = ("verify", one.path, other.path, "--run_dir", trained.root)
    done = command(*words, "--json")
    assert "without vocal stems these are unavailable: triplet" in done.err
    found = json.loads(done.out)
    assert found["members"] == ["aam"]
    assert found["cosine"] == pytest.approx(slow_cosine(trained, one, other, ["aam"]), abs=1e-5)
    line = VERIFICATION.read(trained.verification).of(["aam"])
    assert found["threshold"] == line.threshold
    deaf.append("aam")
    assert refused(*words) == (
        "all members take vocals (aam, triplet); train a separator: python app.py "
        f"train-separator --run_dir {trained.root}"
    )


def test_a_member_that_finds_no_voice_in_the_vocals_is_unavailable(
    command: Command, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, deaf = EmbeddingJob.run, ["triplet"]

    def without_voice(store: Store, member: str) -> Store:
        if member not in deaf:
            return store
        heard = store.made_from | {"activity": "energy"}
        weight = store.segment_weight * (store.segment_song > 0)  # none in the first file
        return replace(store, made_from=heard, segment_weight=weight.astype(np.float32))

    def of_vocals(job: EmbeddingJob, embedders: Any) -> Any:
        for numbers, stores in run(job, embedders):
            yield numbers, [without_voice(store, store.member) for store in stores]

    monkeypatch.setattr(EmbeddingJob, "run", of_vocals)
    monkeypatch.setattr(SingerIdentifier, "voiced", True)
    one, other = songs_of(trained, "test")[:2]
    words = ("verify", one.path, other.path, "--json", "--run_dir", trained.root)
    done = command(*words)
    assert f"no voice was found in {one.path}: the whole recording is used" in done.err
    assert "found no voice in the vocals and are unavailable: triplet" in done.err
    found = json.loads(done.out)
    assert found["members"] == ["aam"]
    assert found["cosine"] == pytest.approx(slow_cosine(trained, one, other, ["aam"]), abs=1e-5)
    deaf.append("aam")  # nobody finds one: all answer
    assert json.loads(command(*words).out)["members"] == MEMBERS


# evaluate --verification ------------------------------------------------------------------------


def test_verification_is_measured_on_validation_and_test_songs(
    command: Command, trained: Run
) -> None:
    words = ("evaluate", "--verification", "--run_dir", trained.root)
    done = command(*words)
    assert (done.code, done.err) == (0, "")
    validation, test = done.out.split("test songs: 4 of 4 albums")
    for text, how in ((validation, "cross-fitted by album"), (test, "fitted on validation songs")):
        rows = cells(text)
        # Four singers with one song in each split: a song meets 4 training songs and 3 others.
        assert rows["training songs"] == ["4", "12"]
        assert rows["each other"] == ["0", "6"]
        assert rows["in all"] == ["4", "18"]
        for name in (
            "EER",
            "minDCF (p = 0.05)",
            f"misses at the threshold, {how}",
            f"false alarms at the threshold, {how}",
            f"Cllr of the probabilities, {how}",
        ):
            value, interval = rows[name]
            low, high = map(float, interval.split(" to "))
            assert low <= float(value) <= high
    assert "validation songs: 4 of 4 albums, paired across albums" in validation
    assert "the members were trained on the training songs" in test.splitlines()[-1]
    assert command(*words).out == done.out
    threshold = VERIFICATION.read(trained.verification).of(MEMBERS).threshold
    train, songs = songs_of(trained, "train"), songs_of(trained, "test")
    missed = [
        slow_cosine(trained, one, other, MEMBERS) < threshold
        for one in songs
        for other in train
        if one.singer == other.singer
    ]
    value = cells(test)["misses at the threshold, fitted on validation songs"][0]
    assert float(value) == pytest.approx(np.mean(missed), abs=1e-3)


def test_evaluate_says_what_it_needs(
    command: Command, refused: Callable[..., str], trained: Run, tmp_path: Path
) -> None:
    assert refused("evaluate") == (
        "nothing to evaluate; give --prediction P --truth T, or --verification"
    )
    assert refused("evaluate", "--truth", "t.csv") == (
        "--truth says nothing without --prediction; give both"
    )
    line = refused("evaluate", "--verification", "--prediction", "p.csv")
    assert line == "--prediction says nothing without --truth; give both"
    assert "python app.py prepare" in refused("evaluate", "--verification", "--run_dir", tmp_path)
    (tmp_path / "p.csv").write_text("1,a,b,c\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text("1,a\n", encoding="utf-8")
    files = ("--prediction", tmp_path / "p.csv", "--truth", tmp_path / "t.csv")
    done = command("evaluate", *files, "--verification", "--run_dir", trained.root)
    assert done.code == 0
    assert re.search(r"EER +│", done.out)
    assert re.search(r"top-1 +│ +1\.000 ", done.out)


def test_stores_that_changed_since_are_refused(refused: Callable[..., str], trained: Run) -> None:
    trained.store("aam", "validation").unlink()
    line = refused("evaluate", "--verification", "--run_dir", trained.root)
    assert "validation.npz is missing; run again: python app.py fuse" in line
    found = read_json(trained.verification)
    write_json(trained.verification, found | {"format": 0})
    line = refused("evaluate", "--verification", "--run_dir", trained.root)
    assert "verification.json is a verification of format 0, this program reads format 1" in line


# What is imported -------------------------------------------------------------------------------


def loaded(*words: object) -> set[str]:
    """The heavy libraries that a command loads, asked of an interpreter of its own."""
    code = (
        "import sys, app\n"
        "assert app.main(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'lightning', 'sklearn', 'plotly', 'openTSNE', 'audiomentations'}\n"
        "print('heavy:', *sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.splitlines()[-1].split()[1:])


def test_comparing_loads_nothing_that_only_fitting_needs(trained: Run) -> None:
    one, other = songs_of(trained, "test")[:2]
    there = ("--run_dir", trained.root)
    assert loaded("verify", one.path, other.path, *there) == {"torch"}
