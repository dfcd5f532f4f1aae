"""One row of the benchmark: trained once, measured as it should be, found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedder.artifact import read_json
from embedder.catalogue import read_catalogue
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.excerpts import attenuated_mix, excerpt
from embedder.errors import UserError
from embedder.inference.checkpoint import load_member
from embedder.inference.embed import embed_wave
from embedder.recipes import benchmark
from embedder.recipes.benchmark import (
    Condition,
    config_of,
    measure_member,
    numbers_in,
    planned_rows,
    prepared,
    read_members,
    read_rows,
    run_row,
    singer_centres,
    training_seconds,
)
from embedder.run import Run

Tiny = Callable[..., MemberConfig]


def test_rows_are_every_combination_member_by_member(tmp_path: Path) -> None:
    members = tmp_path / "members.json"
    members.write_text('{"a": {"lr": 0.1}, "b": {"lr": 0.2}}', encoding="utf-8")
    rows = planned_rows(members, None, ["song", "album"], "3,2.5", "0,7", "demo", {"epochs": 1})
    assert {one.member: row.train.lr for one, row in rows.items()} == {"a": 0.1, "b": 0.2}
    assert {row.train.epochs for row in rows.values()} == {1}
    found = [one.name for one in rows]
    assert found[:4] == ["a-song-3s-s0", "a-song-3s-s7", "a-song-2.5s-s0", "a-song-2.5s-s7"]
    assert len(found) == len(set(found)) == 16
    assert [name[0] for name in found] == ["a"] * 8 + ["b"] * 8


def test_a_condition_decides_length_and_seed_above_the_settings() -> None:
    condition = Condition("a", "song", 5, 3)
    config = config_of(condition, "laptop", {"segment_s": 2, "seed": 9, "lr": 0.01})
    assert (config.train.segment_s, config.train.seed, config.train.lr) == (5, 3, 0.01)
    assert (config.embed.eval_segment_s, config.embed.eval_hop_s) == (5, 2.5)


@pytest.mark.parametrize("loss", ["aam", "triplet"])
def test_a_row_says_what_the_member_answers(trained: Run, loss: str) -> None:
    catalogue, member = read_catalogue(trained.catalogue), load_member(trained, loss)
    found = measure_member(trained, catalogue, member, "test")
    cache = AudioCache(trained.cache)
    songs = catalogue.of("test")
    truth = [catalogue.singers.index(song.singer) for song in songs]
    centres = np.zeros((len(catalogue.singers), 16))
    for song in catalogue.of("train"):
        vectors = embed_wave(member, cache.samples(song.audio)).embeddings
        centres[catalogue.singers.index(song.singer)] += vectors.mean(axis=0)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    right: dict[str, list[bool]] = {
        name: [] for name in ("segment", "song", "excerpt", "hard", "hard_excerpt")
    }
    for number, (song, label) in enumerate(zip(songs, truth, strict=True)):
        mixture, hard = cache.samples(song.audio), attenuated_mix(song, cache, -8.0)
        for level, wave in (("song", mixture), ("hard", hard)):
            rng = np.random.default_rng((0, number))
            short = excerpt(wave, song, cache, 5.0, rng)
            for name, heard in (
                (level, embed_wave(member, wave)),
                ("excerpt" if level == "song" else "hard_excerpt", embed_wave(member, short)),
            ):
                logits = heard.embeddings @ centres.T if heard.logits is None else heard.logits
                right[name].append(bool(logits.mean(axis=0).argmax() == label))
                if name == "song":
                    right["segment"] += list(logits.argmax(axis=1) == label)
    assert set(found) == set(right)
    for level, hits in right.items():
        assert found[level]["count"] == len(hits)
        assert found[level]["accuracy"] == pytest.approx(np.mean(hits))
        assert found[level]["low"] <= found[level]["accuracy"] <= found[level]["high"]
    np.testing.assert_allclose(singer_centres(catalogue, member, cache), centres, atol=1e-6)


def test_a_row_is_made_once(
    tmp_path: Path, synthesised: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, catalogue = prepared(tmp_path, synthesised / "mix", synthesised, "album")
    condition, config = Condition("m", "album", 1, 0), tiny(epochs=1)
    quiet = {"device": "cpu", "say": lambda _: None}
    row = run_row(tmp_path, run, catalogue, condition, config, **quiet)  # type: ignore[arg-type]
    assert (row["member"], row["split"], row["seed"]) == ("m", "album", 0)
    assert (row["backbone"], row["loss"], row["measured_on"]) == ("ecapa", "aam", "test")
    assert row["training_s"] > 0
    assert list(read_rows(tmp_path)) == [row]

    again = tiny(epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "train_member", None)  # nothing may be trained
        assert run_row(tmp_path, run, catalogue, condition, again, **quiet) == row  # type: ignore[arg-type]
    other = run_row(tmp_path, run, catalogue, condition, tiny(epochs=1, lr=0.01), **quiet)  # type: ignore[arg-type]
    assert other["made_from"] != row["made_from"]
    assert list(read_rows(tmp_path)) == [other]


def test_splits_share_what_was_decoded(tmp_path: Path, synthesised: Path) -> None:
    album, _ = prepared(tmp_path, synthesised / "mix", None, "album")
    decoded = {path: path.stat().st_mtime_ns for path in album.cache.glob("*.npy")}
    song, catalogue = prepared(tmp_path, synthesised / "mix", None, "song")
    assert song.root != album.root
    assert song.cache == album.cache
    assert len(decoded) == len(catalogue.songs)
    assert decoded == {path: path.stat().st_mtime_ns for path in song.cache.glob("*.npy")}


def test_rows_of_one_table_are_of_the_same_songs(tmp_path: Path, synthesised: Path) -> None:
    root, songs = tmp_path / "benchmark", Path(shutil.copytree(synthesised, tmp_path / "songs"))
    run, catalogue = prepared(root, songs / "mix", songs, "album")
    again, same = prepared(root, songs / "mix", songs, "album")
    assert (again, same) == (run, catalogue)
    for file in (songs / "mix").rglob("*.*"):
        file.touch()  # the songs are what they were
    assert prepared(root, songs / "mix", songs, "album")[1] == catalogue
    with pytest.raises(UserError, match=r"with stems of .*choose another --run_dir"):
        prepared(root, songs / "mix", None, "album")
    other = Path(shutil.copytree(songs / "mix", tmp_path / "other"))
    shutil.rmtree(next(other.iterdir()))
    for split in ("album", "song"):  # a split that is not prepared yet, too
        with pytest.raises(UserError) as refused:
            prepared(root, other, songs, split)
        assert str(songs / "mix") in str(refused.value)
        assert str(other) in str(refused.value)
    assert read_catalogue(run.catalogue) == catalogue
    assert not (root / "song").exists()


def test_a_row_that_was_cut_off_while_measuring_is_not_trained_again(
    tmp_path: Path, synthesised: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, catalogue = prepared(tmp_path, synthesised / "mix", synthesised, "album")
    condition, config = Condition("m", "album", 1, 0), tiny(epochs=1)
    quiet = {"device": "cpu", "say": lambda _: None}
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "measure_member", None)
        with pytest.raises(TypeError):
            run_row(tmp_path, run, catalogue, condition, config, **quiet)  # type: ignore[arg-type]
    trained = run.weights(condition.name).stat()
    assert list(read_rows(tmp_path)) == []
    run_row(tmp_path, run, catalogue, condition, config, **quiet)  # type: ignore[arg-type]
    assert len(list(read_rows(tmp_path))) == 1
    assert run.weights(condition.name).stat() == trained


def test_training_time_is_that_of_the_logged_epochs(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log("m").parent.mkdir(parents=True)
    run.log("m").write_text("epoch,audio_per_s\n1,100\n2,50\n", encoding="utf-8")
    changes = {"crops_per_song": 4, "batch_singers": 2, "batch_crops": 4, "segment_s": 5}
    config = config_of(Condition("m", "song", 5, 0), "laptop", changes)
    # 10 songs × 4 crops are 5 batches of 8 crops of 5 s: 200 s of audio an epoch
    assert training_seconds(run, "m", config, songs=10) == pytest.approx(2 + 4)


def test_a_list_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"mine": {"backbone": "crnn"}}), encoding="utf-8")
    assert read_members(path) == {"mine": {"backbone": "crnn"}}
    path.write_text('["crnn"]', encoding="utf-8")
    with pytest.raises(UserError, match="must hold one JSON object: member names, each with its"):
        read_members(path)


@pytest.mark.parametrize(
    ("text", "whole"), [("3,x", False), ("", False), ("1.5", True), ("-1", True)]
)
def test_what_is_no_list_of_numbers_is_refused(text: str, whole: bool) -> None:
    with pytest.raises(UserError, match=rf"^--seeds takes .*numbers.* not '{text}'$"):
        numbers_in("--seeds", text, whole)


def test_numbers_with_commas() -> None:
    assert numbers_in("--segments", "3, 5,10.5") == [3, 5, 10.5]


def test_rows_are_plain_files(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path)) == []
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/b.json").write_text('{"member": "b"}', encoding="utf-8")
    (tmp_path / "rows/a.json").write_text('{"member": "a"}', encoding="utf-8")
    assert [row["member"] for row in read_rows(tmp_path)] == ["a", "b"]
    assert read_json(tmp_path / "rows/a.json") == {"member": "a"}
