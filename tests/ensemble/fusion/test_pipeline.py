"""The ensemble over a run folder: what is stale, what is written, what is refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.embed import embed_attenuated, embed_songs
from embedder.inference.store import ATTENUATED, read_store, write_store
from embedder.run import SPLITS, Run
from embedder.training.members import train_member
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import read_fusion, write_fusion
from ensemble.fusion.fusers import FUSERS
from ensemble.fusion.pipeline import (
    Choices,
    RunStores,
    choose_members,
    fuse_run,
    open_fusion,
)
from ensemble.index.table import enroll, history, read_indexes, songs_of, unenroll
from ensemble.predictions import read_table
from ensemble.scoring import score_songs, without_vocals

MEMBERS = ["aam", "triplet"]
KINDS = ("head", "knn_song", "knn_segment", "probe")
EXPERTS = [f"{m}/{kind}" for m in MEMBERS for kind in KINDS if (m, kind) != ("triplet", "head")]
QUICK = Choices(method="log_linear")


def contents(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(found)}


def tables(run: Run) -> list[str]:
    """All that the song table says: its file keeps the pages of what was there before."""
    with closing(sqlite3.connect(run.index_table)) as connection:
        return list(connection.iterdump())


def rewrite(run: Run, member: str, split: str, **changes: Any) -> None:
    """Write a store again with other fields."""
    path = run.store(member, split)
    write_store(path, replace(read_store(path), **changes))


# Members and stores -----------------------------------------------------------------------------


def test_members_are_all_or_those_that_are_named(trained: Run, tmp_path: Path) -> None:
    assert choose_members(trained, None) == MEMBERS
    assert choose_members(trained, ["triplet", "aam", "triplet"]) == ["triplet", "aam"]
    with pytest.raises(UserError, match="there is no member 'x'; members are: aam, triplet"):
        choose_members(trained, ["aam", "x"])
    with pytest.raises(UserError, match=r"no member is trained in .*train-embedder"):
        choose_members(Run(tmp_path), None)


def test_a_fresh_run_has_no_stale_store_and_a_changed_one_those_that_changed(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    assert RunStores(trained, catalogue, MEMBERS).stale() == []
    trained.store("aam", "validation").unlink()
    trained.store("triplet", "test").write_bytes(b"PK broken")
    made_from = read_store(trained.store("triplet", "train")).made_from
    rewrite(trained, "triplet", "train", made_from={**made_from, "checkpoint": "other"})
    stale = [("aam", "validation"), ("triplet", "train"), ("triplet", "test")]
    assert RunStores(trained, catalogue, MEMBERS).stale() == stale
    assert RunStores(trained, catalogue, ["aam"]).stale() == stale[:1]
    trained.weights("aam").write_bytes(trained.weights("aam").read_bytes() + b"\0")  # retrained
    assert RunStores(trained, catalogue, ["aam"]).stale() == [("aam", s) for s in SPLITS]


def test_with_other_songs_every_store_is_stale(trained: Run) -> None:
    songs = read_catalogue(trained.catalogue).songs
    fewer = Catalogue(tuple(s for s in songs if s.split != "test"))
    expected = [(m, s) for m in MEMBERS for s in ("train", "validation")]  # no test songs, no store
    assert RunStores(trained, fewer, MEMBERS).stale() == expected


def test_another_grid_or_detector_makes_every_store_stale(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    every = [(m, s) for m in MEMBERS for s in SPLITS]
    assert (
        RunStores(trained, catalogue, MEMBERS, InferenceConfig(2.0, 1.0)).stale() == []
    )  # as trained
    for other in (
        InferenceConfig(2.5),
        InferenceConfig(hop_s=0.5),
        InferenceConfig(tta=1),
        InferenceConfig(detector="d"),
    ):
        assert RunStores(trained, catalogue, MEMBERS, other).stale() == every
    before = contents(trained.root)
    with pytest.raises(
        UserError, match=r"made from grid 2 s every 1 s, but .* now 2 s every 1 s a"
    ):
        fuse_run(trained, catalogue, MEMBERS, QUICK, InferenceConfig(tta=1))
    with pytest.raises(UserError, match=r"made from activity none, but the activity is now d;"):
        fuse_run(trained, catalogue, MEMBERS, QUICK, InferenceConfig(detector="d"))
    assert contents(trained.root) == before


def exchanged(catalogue: Catalogue, *stems: str, split: str = "") -> Catalogue:
    """The catalogue with the named stems of each song given to the next one, of a split or all."""
    songs = [song for song in catalogue.songs if split in ("", song.split)]
    others = dict(zip((song.id for song in songs), (*songs[1:], songs[0]), strict=True))
    return Catalogue(
        tuple(
            replace(song, **{stem: getattr(others.get(song.id, song), stem) for stem in stems})
            for song in catalogue.songs
        )
    )


def test_exchanged_stems_make_stale_what_was_embedded_from_them_and_nothing_else(
    trained: Run, tiny: Callable[..., MemberConfig]
) -> None:
    catalogue = read_catalogue(trained.catalogue)
    members = ["aam", "voice"]
    train_member(
        trained, catalogue, "voice", tiny(stem="vocals", epochs=1), device="cpu",
        say=lambda _: None,
    )  # fmt: skip

    def embed() -> tuple[list[tuple[str, str]], list[str]]:
        stale = (
            RunStores(trained, catalogue, members).stale(),
            RunStores(trained, catalogue, members).stale_attenuated(),
        )
        embed_songs(trained, catalogue, stale[0], InferenceConfig(), "cpu")
        embed_attenuated(trained, catalogue, stale[1], InferenceConfig(), "cpu")
        assert RunStores(trained, catalogue, members).stale() == []
        assert RunStores(trained, catalogue, members).stale_attenuated() == []
        return stale

    assert embed() == ([("voice", split) for split in SPLITS], ["voice"])
    fuse_run(trained, catalogue, members, QUICK)
    for stems, split, stale, attenuated in (
        (("vocals", "backing"), "test", [("voice", "test")], []),
        (("backing",), "", [], members),
        (("vocals",), "", [("voice", split) for split in SPLITS], members),
    ):
        catalogue = exchanged(catalogue, *stems, split=split)
        write_catalogue(trained.catalogue, catalogue)
        if "vocals" in stems:  # what answered with the old ones answers no longer
            with pytest.raises(UserError, match="other vocal stems"):
                open_fusion(trained, None)
        assert embed() == (stale, attenuated)
        fuse_run(trained, catalogue, members, QUICK)
        open_fusion(trained, None)
    trained.separator.mkdir()
    trained.separator_weights.write_bytes(b"another separator")  # of vocals to attenuated songs
    assert RunStores(trained, catalogue, members).stale() == []
    assert RunStores(trained, catalogue, members).stale_attenuated() == ["voice"]


def test_stems_that_come_later_make_no_store_of_mixtures_stale(trained: Run) -> None:
    with_stems = read_catalogue(trained.catalogue)
    bare = Catalogue(tuple(replace(s, vocals="", backing="") for s in with_stems.songs))
    assert RunStores(trained, bare, MEMBERS).stale() == []
    write_catalogue(trained.catalogue, bare)
    open_fusion(trained, None)


# Fusing -----------------------------------------------------------------------------------------


FILES = ("fusion.json", "arrays.npz", "results.json", "verification.json", "index.sqlite")


def test_fusing_writes_everything_and_the_same_bytes_again(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    first = fuse_run(trained, catalogue, MEMBERS)
    written, songs = contents(trained.root), tables(trained)
    made = {name for name in written if name.startswith("fusion")}
    vectors = {name for name in made if name.endswith(".faiss")}
    assert {name.split(".")[0] for name in vectors} == {f"fusion/{name}" for name in MEMBERS}
    fitted = {f"fusion/{name}" for name in FILES}
    predicted = {f"fusion/predictions/{split}.npz" for split in ("validation", "test")}
    assert made == {*fitted, *vectors, *predicted}
    shutil.rmtree(trained.fusion_folder)
    again = fuse_run(trained, catalogue, MEMBERS)
    assert (
        again.report.results == first.report.results == read_fusion(trained.fusion).report.results
    )
    assert tables(trained) == songs
    del written["fusion/index.sqlite"]
    assert {**contents(trained.root), **written} == contents(trained.root)
    assert again.members == tuple(MEMBERS)
    assert list(again.experts) == EXPERTS
    assert [row.method for row in again.report.methods] == list(FUSERS)
    other = fuse_run(trained, catalogue, MEMBERS, Choices(seed=1))  # other folds
    assert other.report.results != first.report.results
    assert other.temperatures == first.temperatures  # which are fitted on all songs


def test_test_songs_have_rows_and_a_table_of_their_own(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    fusion = fuse_run(trained, catalogue, MEMBERS, QUICK)
    names = [*EXPERTS, FUSED]
    rows = [(row.split, row.expert, row.cross_fitted) for row in fusion.report.results]
    assert rows == [
        *(("validation", name, True) for name in names),
        *(("test", name, False) for name in names),
    ]
    table = read_table(trained.predictions / "test.npz")
    songs = sorted(catalogue.of("test"), key=lambda s: s.id)
    assert table.ids == tuple(s.id for s in songs)
    assert [table.singers[label] for label in table.truth] == [s.singer for s in songs]
    top1 = float(np.mean(table.log_probabilities.argmax(axis=1) == table.truth))
    (fused,) = [row for row in fusion.report.results if (row.split, row.expert) == ("test", FUSED)]
    assert fused.metrics.top_1.value == pytest.approx(top1)
    stores = [read_store(trained.store(m, "test")) for m in MEMBERS]
    loaded, found = open_fusion(trained, None)
    scores = score_songs(loaded, stores, found, without_vocals(stores)).scores
    assert np.allclose(scores[FUSED], table.log_probabilities, atol=1e-5)


def test_without_test_songs_an_old_test_table_goes(trained: Run) -> None:
    songs = read_catalogue(trained.catalogue).songs
    fewer = Catalogue(tuple(s for s in songs if s.split != "test"))
    write_catalogue(trained.catalogue, fewer)
    for member in MEMBERS:
        for split in ("train", "validation", ATTENUATED):
            made_from = read_store(trained.store(member, split)).made_from
            changed = {**made_from, "catalogue": fewer.fingerprint()}
            rewrite(trained, member, split, made_from=changed)
    fusion = fuse_run(trained, fewer, MEMBERS, QUICK)
    assert {row.split for row in fusion.report.results} == {"validation"}
    assert not (trained.predictions / "test.npz").exists()


def test_remade_songs_are_heard_again_when_they_no_longer_fit(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    assert RunStores(trained, catalogue, MEMBERS).stale_attenuated() == []
    assert (
        RunStores(trained, catalogue, MEMBERS, InferenceConfig(tta=1)).stale_attenuated() == MEMBERS
    )
    made_from = read_store(trained.store("aam", ATTENUATED)).made_from
    rewrite(trained, "aam", ATTENUATED, made_from={**made_from, ATTENUATED: "vocals 3 dB lower"})
    assert RunStores(trained, catalogue, MEMBERS).stale_attenuated() == ["aam"]
    with pytest.raises(UserError, match="attenuated store of member aam was made from"):
        fuse_run(trained, catalogue, MEMBERS, QUICK)
    trained.store("aam", ATTENUATED).unlink()
    assert RunStores(trained, catalogue, MEMBERS).stale_attenuated() == ["aam"]


def test_weights_are_learnt_on_remade_songs_where_there_are_stems(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    with_stems = fuse_run(trained, catalogue, MEMBERS, QUICK)
    bare = Catalogue(tuple(replace(song, vocals="", backing="") for song in catalogue.songs))
    write_catalogue(trained.catalogue, bare)
    for member in MEMBERS:
        trained.store(member, ATTENUATED).unlink()
        for split in SPLITS:
            made_from = read_store(trained.store(member, split)).made_from
            changed = {**made_from, "catalogue": bare.fingerprint()}
            rewrite(trained, member, split, made_from=changed)
    assert RunStores(trained, bare, MEMBERS).stale_attenuated() == []
    without = fuse_run(trained, bare, MEMBERS, QUICK)
    assert with_stems.weights != without.weights  # learnt on other pieces
    assert with_stems.temperatures == without.temperatures  # of the songs as they are


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(aggregate="median"), r"--aggregate median .*is unknown"),
        (Choices(method="best"), r"--method best is not legal; it must be auto \| best_single \|"),
        (Choices(score_norm="z"), r"--score_norm z is not legal; it must be none \| as_norm"),
        (Choices(index="lsh"), r"--index lsh is not legal; it must be flat \| ivfpq \| hnsw"),
        (Choices(index="ivfpq"), r"--index ivfpq, member aam: .*needs at least"),
        (Choices(target_fpr=0), "--target_fpr 0 must lie between 0 and 1"),
        (Choices(target_fpr=1), "--target_fpr 1 must lie between 0 and 1"),
        (Choices(target_fpr=float("nan")), "--target_fpr nan must lie between 0 and 1"),
    ],
)
def test_choices_that_are_not_legal_are_refused_and_nothing_is_written(
    choices: Choices, message: str, trained: Run
) -> None:
    before = contents(trained.root)
    with pytest.raises(UserError, match=message):
        fuse_run(trained, read_catalogue(trained.catalogue), MEMBERS, choices)
    assert contents(trained.root) == before


def test_choices_are_kept(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    said: list[str] = []
    chosen = Choices("vote", "mean", "as_norm", 0.3, "hnsw")
    fuse_run(trained, catalogue, MEMBERS, chosen, say=said.append)
    fusion, indexes = open_fusion(trained, None)
    assert (fusion.aggregate, fusion.method, fusion.score_norm) == chosen_names(chosen)
    assert fusion.unknown is not None
    assert fusion.unknown.target_fpr == 0.3
    assert {index.segments.kind for index in indexes.values()} == {"hnsw"}
    assert len(said) == 2
    assert all("recall@10" in line for line in said)
    plain = fuse_run(trained, catalogue, MEMBERS, replace(chosen, aggregate="mean"))
    assert plain.temperatures["aam/head"] != fusion.temperatures["aam/head"]


def chosen_names(choices: Choices) -> tuple[str, str, str]:
    return choices.aggregate, choices.method, choices.score_norm


@pytest.mark.parametrize(
    ("split", "changes", "message"),
    [
        ("train", {"made_from": {"checkpoint": "old"}}, "made from checkpoint old, .*app.py fuse"),
        ("validation", {"made_from": {}}, "made from checkpoint none"),
    ],
)
def test_a_store_that_does_not_fit_is_refused_and_nothing_is_written(
    split: str, changes: dict[str, Any], message: str, trained: Run
) -> None:
    rewrite(trained, "triplet", split, **changes)
    before = contents(trained.root)
    with pytest.raises(UserError, match=message):
        fuse_run(trained, read_catalogue(trained.catalogue), MEMBERS, QUICK)
    assert contents(trained.root) == before
    trained.store("triplet", split).unlink()
    with pytest.raises(UserError, match=r"is missing; run again: python app\.py fuse"):
        fuse_run(trained, read_catalogue(trained.catalogue), MEMBERS, QUICK)


def test_a_fusion_opens_with_the_indexes_of_the_members_that_are_named(
    trained: Run, tmp_path: Path
) -> None:
    fusion, indexes = open_fusion(trained, None)
    assert list(indexes) == list(fusion.members) == MEMBERS
    assert list(open_fusion(trained, ["triplet"])[1]) == ["triplet"]
    with pytest.raises(UserError, match="member x is not in the fusion, which has aam, triplet"):
        open_fusion(trained, ["x"])
    trained.index_table.unlink()
    with pytest.raises(UserError, match=r"index\.sqlite is missing; run again: python"):
        open_fusion(trained, None)
    with pytest.raises(UserError, match=r"fusion\.json is missing; run again: python"):
        open_fusion(Run(tmp_path), None)


# Enrolled singers -------------------------------------------------------------------------------


@pytest.fixture
def enrolled(trained: Run) -> Run:
    """Two test songs are enrolled: as of a new singer, and of a known one."""
    stores = [read_store(trained.store(member, "test")) for member in MEMBERS]
    singers = read_fusion(trained.fusion).singers
    for row, name in enumerate(("new", singers[1])):
        enroll(trained.index_table, name, songs_of([s.take(np.array([row])) for s in stores]))
    return trained


def test_who_was_enrolled_stays_so(enrolled: Run) -> None:
    catalogue, said = read_catalogue(enrolled.catalogue), list[str]()
    before = read_indexes(enrolled.index_table)
    fusion = fuse_run(enrolled, catalogue, MEMBERS, QUICK, say=said.append)
    assert said == [f"still enrolled: new, {fusion.singers[1]}"]
    assert fusion.singers == before["aam"].singers[:-1]
    for member, index in read_indexes(enrolled.index_table).items():
        assert index.singers == before[member].singers
        assert index.song_ids == before[member].song_ids
        assert np.array_equal(index.embeddings, before[member].embeddings)
    assert [change.singer for change in history(enrolled.index_table)] == [
        "new",
        fusion.singers[1],
    ]
    fuse_run(enrolled, catalogue, ["triplet"], QUICK)  # one of those that embedded them
    assert read_indexes(enrolled.index_table)["triplet"].singers[-1] == "new"
    table = read_table(enrolled.predictions / "validation.npz")
    assert table.singers == fusion.singers  # what is reported is of trained singers


def test_who_would_be_lost_is_named_and_must_be_let_go(enrolled: Run) -> None:
    catalogue, said = read_catalogue(enrolled.catalogue), list[str]()
    fuse_run(enrolled, catalogue, ["triplet"], QUICK)
    known = read_fusion(enrolled.fusion).singers[1]
    before = contents(enrolled.root)
    message = rf"what was enrolled of new, {known} was embedded .*; --drop_enrolled lets it go"
    with pytest.raises(UserError, match=message):
        fuse_run(enrolled, catalogue, MEMBERS, QUICK)
    assert contents(enrolled.root) == before
    dropping = replace(QUICK, drop_enrolled=True)
    fuse_run(enrolled, catalogue, MEMBERS, dropping, say=said.append)
    assert said == [f"no longer enrolled: new, {known}"]
    assert history(enrolled.index_table) == []
    assert read_indexes(enrolled.index_table)["aam"].singers == read_fusion(enrolled.fusion).singers


def test_after_all_are_taken_out_nobody_is_asked(enrolled: Run) -> None:
    for name in ("new", read_fusion(enrolled.fusion).singers[1]):
        unenroll(enrolled.index_table, name)
    fusion = read_fusion(enrolled.fusion)
    write_fusion(enrolled.fusion, replace(fusion, listening=InferenceConfig(tta=5)))
    fuse_run(enrolled, read_catalogue(enrolled.catalogue), MEMBERS, QUICK)
    assert history(enrolled.index_table) == []


# Interruptions ----------------------------------------------------------------------------------

KILLED = """
import os, shutil, signal, sys
from pathlib import Path

from embedder.run import SPLITS, open_run
from embedder.catalogue import read_catalogue
from embedder.inference.config import InferenceConfig
from embedder.inference.store import read_store
from ensemble.fusion import pipeline
from ensemble.scoring import score_songs, without_vocals
from ensemble.fusion.pipeline import Choices, fuse_run, open_fusion

root, kept = Path(sys.argv[1]), Path(sys.argv[2])
run = open_run(root)
catalogue = read_catalogue(run.catalogue)
members = ["aam", "triplet"]
validation = [read_store(run.store(name, "validation")) for name in members]

def state():
    '''Everything that the fusion answers with, after the run was opened.'''
    run = open_run(root)
    fusion, indexes = open_fusion(run, None)
    found = score_songs(fusion, validation, indexes, without_vocals(validation))
    answers = found.scores["fused"].tobytes()
    files = (run.fusion, run.verification, *sorted(run.predictions.iterdir()))
    return [answers, *((path.name, path.read_bytes()) for path in files)]

def fuse():
    fuse_run(run, catalogue, members, Choices(aggregate="vote", seed=1))

old = state()
shutil.copytree(run.fusion_folder, kept)
fitted = {}
for name in ("fit_fusion", "fit_verification", "score_songs"):  # once: only writing matters here
    def once(*arguments, name=name, fit=getattr(pipeline, name), **named):
        if name not in fitted:
            fitted[name] = fit(*arguments, **named)
        return fitted[name]
    setattr(pipeline, name, once)
fuse()
new = state()
assert old[0] != new[0] and old[1] != new[1]

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "sqlite3.connect")
seen, limit = 0, 0

def watch(event, arguments):
    global seen
    writes = event in WRITES or (
        event == "open" and isinstance(arguments[2], int)
        and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    )
    if limit and writes and str(root) in str(arguments[0]):
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
found, number = [], 0
while True:
    shutil.rmtree(run.fusion_folder)
    shutil.copytree(kept, run.fusion_folder)
    number += 1
    child = os.fork()
    if not child:
        limit = number
        fuse()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    after = state()
    assert after in (old, new), number
    found.append("new" if after == new else "old")
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(*found)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")
def test_a_kill_at_any_write_leaves_a_whole_fusion(trained: Run, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(trained.root), str(tmp_path / "kept")],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    states = done.stdout.split()
    assert len(states) > 20
    assert states == sorted(states, reverse=True)  # the old one until it is replaced, then the new
    assert states[0] == "old"
    assert states[-1] == "new"


def test_files_of_two_fusions_are_refused(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    old = contents(trained.fusion_folder)
    fuse_run(trained, catalogue, MEMBERS, Choices(aggregate="vote"))
    new = contents(trained.fusion_folder)
    for name in ("fusion.json", "index.sqlite"):
        (trained.fusion_folder / name).write_bytes(old[name])
        with pytest.raises(UserError, match="another fusion"):
            open_fusion(trained, None)
        (trained.fusion_folder / name).write_bytes(new[name])
    open_fusion(trained, None)
