"""The program as its users meet it: the whole way, and one clear line for whatever goes wrong."""

from __future__ import annotations

import csv
import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.main import get_command
from typer.testing import CliRunner

import app
from embedder.artifact import read_json, write_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.cli import arguments
from embedder.inference.aggregate import AGGREGATES
from embedder.models.network import DEVICES
from embedder.run import Run
from embedder.settings import SETTINGS
from embedder.splits import SPLITTERS
from ensemble.cli import predict as predict_module
from ensemble.fusion.experts import EXPERTS
from ensemble.fusion.fitted import read_fusion
from ensemble.fusion.fusers import FUSERS
from ensemble.predictions import FORMATS, read_table

ROOT = Path(__file__).parents[1]
Command = Callable[..., Any]
COMMANDS = sorted(get_command(app.app).commands)  # type: ignore[attr-defined]


def program(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python app.py …` in a process of its own."""
    command = [sys.executable, str(ROOT / "app.py"), *map(str, words)]
    options = {"capture_output": True, "text": True, "encoding": "utf-8", **options}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, env=environment, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != ".locks"
    }


def put(path: Path, seed: int, seconds: float = 1.5, rate: int = 16000, channels: int = 1) -> None:
    """A file of noise whose colour depends on the seed."""
    rng = np.random.default_rng(seed)
    wave = np.cumsum(rng.normal(0, 0.02, (round(seconds * rate), channels)), axis=0)
    wave -= np.linspace(0, 1, len(wave))[:, None] * wave[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * wave / np.abs(wave).max(), rate)


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    """Files of all kinds to predict: numbers, a name, a folder, two rates, stereo."""
    folder = tmp_path / "unseen"
    for seed, name in enumerate(("0001.wav", "0010.flac", "2.wav", "live at home.ogg")):
        put(folder / name, seed)
    put(folder / "0003.wav", 7, rate=44100, channels=2)
    put(folder / "below/0004.wav", 8, rate=8000)
    put(folder / "0000.wav", 9, seconds=0.5)
    (folder / "notes.txt").write_text("no song", encoding="utf-8")
    (folder / ".hidden.wav").write_bytes(b"")
    return folder


# Help and spelling ------------------------------------------------------------------------------


def test_every_command_of_the_main_job_is_there() -> None:
    wanted = {"prepare", "train_embedder", "fuse", "predict", "evaluate", "analyze", "demo"}
    assert wanted <= {name.replace("-", "_") for name in COMMANDS}


def test_the_choices_named_in_the_help_are_those_of_the_dicts() -> None:
    assert " | ".join(SPLITTERS) == arguments.SPLIT_RULES
    assert " | ".join(AGGREGATES) == predict_module.AGGREGATES
    assert " | ".join(("auto", *FUSERS)) == predict_module.METHODS
    shown = get_command(app.app).commands["predict"].params  # type: ignore[attr-defined]
    assert " | ".join(FORMATS) + "." in {option.help for option in shown}
    shown = get_command(app.app).commands["fuse"].params  # type: ignore[attr-defined]
    assert " | ".join(("auto", *sorted(DEVICES))) + "." in {option.help for option in shown}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_has_an_example_of_itself(name: str) -> None:
    shown = CliRunner().invoke(app.app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"Example: python app.py {name}" in " ".join(shown.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_that_exists(name: str) -> None:
    command = get_command(app.app).commands[name]  # type: ignore[attr-defined]
    _, _, example = (command.help or "").partition("Example: python app.py ")
    words = example.split()
    assert words[0] == name
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words[1:]:
        if word.startswith("--"):
            assert word in known


@pytest.mark.parametrize("spelling", ["--run_dir", "--run-dir"])
def test_dashes_and_underscores_are_the_same(
    spelling: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert f"no run folder at {tmp_path / 'none'}" in refused("fuse", spelling, tmp_path / "none")


def test_settings_are_listed_with_their_values(command: Command) -> None:
    shown = command("train-embedder", "--list-settings", "--set", "lr=0.125", "--loss", "triplet")
    assert shown.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines()]
    values = {row[0]: row[1] for row in rows if len(row) == 4}
    assert (values["lr"], values["loss"], values["backbone"]) == ("0.125", "triplet", "ecapa")


# The main job -----------------------------------------------------------------------------------


def test_the_whole_job(
    command: Command, synthesised: Path, tmp_path: Path, tiny_options: list[str]
) -> None:
    run_dir = tmp_path / "my run"
    there = ("--run_dir", run_dir)
    done = command("prepare", "--data_dir", synthesised / "mix", *there)
    assert (done.code, done.err) == (0, "")
    assert "no stems: training cannot mix vocals" in done.out
    stems = ("--stems_dir", synthesised)
    done = command("prepare", "--data_dir", synthesised / "mix", *stems, *there)
    assert (done.code, done.err) == (0, "")
    assert re.search(r"train +8 songs", done.out)
    assert done.out.splitlines()[-1].startswith("next: python app.py train-embedder --loss aam")

    for loss in ("aam", "triplet"):
        done = command("train-embedder", "--loss", loss, *tiny_options, *there)
        assert (done.code, done.err) == (0, "")
        assert (run_dir / "members" / f"ecapa-{loss}" / "model.safetensors").is_file()
        assert "python app.py fuse" in done.out.splitlines()[-1]

    done = command("fuse", *there)
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines()]
    names = [row[0] for row in rows if len(row) == 8]
    experts = [
        "ecapa-aam/head",
        *(f"ecapa-{loss}/{k}" for loss in ("aam", "triplet") for k in EXPERTS if k != "head"),
    ]
    assert [name.removesuffix(" *") for name in names] == [*experts, "fused", *FUSERS]
    assert "validation songs: 4 of 4 albums, song level, cross-fitted by album" in done.out

    # The training songs themselves, named as a course names its files.
    songs = read_catalogue(run_dir / "catalogue.csv").of("train")
    singers = sorted({song.singer for song in songs})
    for number, song in enumerate(songs, 1):
        (tmp_path / "test").mkdir(exist_ok=True)
        shutil.copy(song.path, tmp_path / "test" / f"{number:04d}.flac")
    output = tmp_path / "out" / "prediction.csv"
    done = command("predict", "--test_dir", tmp_path / "test", "--output", output, *there)
    assert (done.code, done.err) == (0, "")
    rows = list(csv.reader(output.read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows] == [str(n) for n in range(1, 9)]
    assert all(len(row) == 4 and set(row[1:]) < set(singers) for row in rows)
    assert all(len(set(row)) == 4 for row in rows)
    table = read_table(output.with_suffix(".npz"))
    assert table.ids == tuple(f"{n:04d}" for n in range(1, 9))
    assert list(table.experts) == experts
    for row, logs in zip(rows, table.log_probabilities, strict=True):
        assert row[1:] == [singers[i] for i in np.argsort(-logs, kind="stable")[:3]]
        assert np.exp(logs).sum() == pytest.approx(1, abs=1e-5)

    truth = tmp_path / "truth.csv"
    lines = [f"{n:04d},{song.singer}" for n, song in enumerate(songs, 1)]
    truth.write_text("ID,singer\n" + "\n".join(lines) + "\n", encoding="utf-8")
    done = command("evaluate", "--prediction", output, "--truth", truth)
    assert (done.code, done.err) == (0, "")
    right = sum(row[1] == song.singer for row, song in zip(rows, songs, strict=True))
    assert re.search(rf"top-1 +│ +{right / 8:.3f} ", done.out)
    for singer in singers:
        assert re.search(rf"{singer} +│ +\d\.\d{{3}} +│ +\d/2", done.out)

    done = command("analyze", *there)
    assert (done.code, done.err) == (0, "")
    for page in ("index", "tsne", "confusion"):
        assert (run_dir / "pages" / f"{page}.html").stat().st_size > 1000
    assert f"open {run_dir / 'pages' / 'index.html'}" in done.out.splitlines()[-1]


def test_a_run_with_test_songs_has_rows_for_them(command: Command, trained: Run) -> None:
    done = command(
        "fuse", "--run_dir", trained.root, "--members", "triplet,aam", "--aggregate=vote"
    )
    assert done.code == 0
    assert "test songs: 4 of 4 albums, song level, nothing was fitted or chosen on them" in done.out
    assert read_fusion(trained.fusion).aggregate == "vote"
    assert read_fusion(trained.fusion).members == ("triplet", "aam")


# Predictions ------------------------------------------------------------------------------------


def predict(command: Command, run: Run, folder: Path, output: Path, *more: object) -> Any:
    there = ("--run_dir", run.root, "--output", output)
    return command("predict", "--test_dir", folder, *there, *more)


def test_the_csv_is_exactly_the_course_s(
    command: Command, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    output = tmp_path / "p.csv"
    assert predict(command, trained, unseen, output).code == 0
    text = output.read_bytes().decode()
    assert text.endswith("\n")
    assert "\r" not in text
    rows = [line.split(",") for line in text.splitlines()]
    expected = ["0", "1", "2", "3", "10", "below/0004", "live at home"]
    assert [row[0] for row in rows] == expected
    singers = set(read_catalogue(trained.catalogue).singers)
    assert all(len(row) == 4 and len(set(row[1:])) == 3 and set(row[1:]) < singers for row in rows)
    assert not output.with_name("p.csv.skipped.csv").exists()

    again = tmp_path / "p.json"
    assert predict(command, trained, unseen, again, "--format", "json").code == 0
    found = read_json(again)
    keys = ["0000", "0001", "2", "0003", "0010", "below/0004", "live at home"]
    assert list(found) == keys
    assert list(found.values()) == [row[1:] for row in rows]
    assert output.with_suffix(".npz").read_bytes() == again.with_suffix(".npz").read_bytes()
    assert list(read_table(again.with_suffix(".npz")).ids) == keys


def test_the_same_files_give_the_same_bytes(
    command: Command, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    assert predict(command, trained, unseen, tmp_path / "out/1.csv").code == 0
    for size in (1, 3):
        output = tmp_path / f"out/{size + 1}.csv"
        assert predict(command, trained, unseen, output, "--batch_size", size).code == 0
    turned = tmp_path / "turned"
    for file in sorted((f for f in unseen.rglob("*") if f.is_file()), reverse=True):
        target = turned / file.relative_to(unseen)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    assert predict(command, trained, turned, tmp_path / "out/5.csv").code == 0
    found = contents(tmp_path / "out")
    assert len(found) == 8
    assert len({data for name, data in found.items() if name.endswith(".csv")}) == 1
    assert len({data for name, data in found.items() if name.endswith(".npz")}) == 1


def test_every_kind_of_audio_is_answered_and_what_was_missing_is_noted(
    command: Command, trained: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "kinds"
    folder.mkdir()
    wave = np.cumsum(np.random.default_rng(0).normal(0, 0.02, 48000)) % 0.5 - 0.25
    for name, form in {"1.wave": "WAV", "2.aiff": "AIFF", "3.oga": "OGG", "4": "FLAC"}.items():
        soundfile.write(folder / name, wave, 16000, format=form)
    opposed = np.stack([wave, -wave], axis=1)
    soundfile.write(folder / "5.wav", opposed, 16000)
    cut = (folder / "2.aiff").read_bytes()
    (folder / "2.aiff").write_bytes(cut[: len(cut) * 2 // 3])
    (folder / "cover.jpg").write_bytes(b"x")
    output = tmp_path / "p.csv"
    done = command("predict", "--test_dir", folder, "--output", output, "--run_dir", trained.root)
    assert done.code == 0, done
    rows = output.read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4", "5"]
    text = (tmp_path / "p.csv.notes.csv").read_text(encoding="utf-8")
    notes = list(csv.reader(text.splitlines()))
    assert ["2", "2.0 of 3.0 s could be decoded"] in notes
    assert any(row[0] == "5" and "channels cancel" in row[1] for row in notes)
    assert "2.0 of 3.0 s could be decoded" in done.err


def test_bad_files_are_listed_together_and_nothing_is_written(
    command: Command, refused: Callable[..., str], trained: Run, unseen: Path, tmp_path: Path
) -> None:
    (unseen / "5.wav").write_bytes(b"")
    (unseen / "6.mp3").write_bytes(b"nothing that sounds" * 9)
    put(unseen / "7.wav", 1, seconds=0.3)
    soundfile.write(unseen / "8.wav", np.zeros(32000), 16000)
    output = tmp_path / "out" / "p.csv"
    options = ("--test_dir", unseen, "--output", output, "--run_dir", trained.root)
    line = refused("predict", *options)
    assert line.startswith("4 of 11 files cannot be used: ")
    bad = {"5.wav": "empty", "6.mp3": "unreadable", "7.wav": "too short", "8.wav": "silent"}
    for name, reason in bad.items():
        assert f"{unseen / name}: {reason}" in line
    words = shlex.split(line.partition("; --skip_bad leaves them out: ")[2])
    assert words[:4] == ["python", "app.py", "predict", "--skip_bad"]
    assert words[4:] == [str(word) for word in options]
    assert not output.parent.exists()

    done = command(*words[2:])
    assert done.code == 0
    rows = output.read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[:5]] == ["0", "1", "2", "3", "10"]
    assert len(rows) == 7
    lines = (tmp_path / "out/p.csv.skipped.csv").read_text(encoding="utf-8").splitlines()
    skipped = list(csv.reader(lines))
    assert {row[0]: row[1].partition(":")[0] for row in skipped} == bad
    good = output.read_bytes()

    for name in bad:
        (unseen / name).unlink()
    assert command("predict", *options).code == 0
    assert output.read_bytes() == good
    assert not (tmp_path / "out/p.csv.skipped.csv").exists()  # nothing was left out this time

    for file in unseen.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    line = refused("predict", *options, "--skip_bad")
    assert line.startswith("7 of 7 files cannot be used")
    assert "--skip_bad" not in line
    assert output.read_bytes() == good


def test_one_name_for_each_song_gives_one_row_of_top_1(command: Command, tmp_path: Path) -> None:
    for name in ("p.csv", "t.csv"):
        (tmp_path / name).write_text("1,a\n2,b\n", encoding="utf-8")
    done = command("evaluate", "--prediction", tmp_path / "p.csv", "--truth", tmp_path / "t.csv")
    assert (done.code, done.out.count("top-")) == (0, 1)


def test_two_singers_give_two_columns(
    command: Command, tmp_path: Path, unseen: Path, tiny_options: list[str]
) -> None:
    data, run_dir = tmp_path / "data", tmp_path / "two"
    names = ("Zoë & the Q, live", "ann")
    for singer in names:
        for album in ("1", "2"):
            for song in ("x", "y"):
                put(data / singer / album / f"{song}.wav", hash_of(singer, album, song), 2.5)
    there = ("--run_dir", run_dir)
    assert command("prepare", "--data_dir", data, *there).code == 0
    options = (*tiny_options, "--set", "batch_singers=2", "--name", "only")
    assert command("train-embedder", *options, *there).code == 0
    done = command("fuse", *there)
    assert done.code == 0
    output = tmp_path / "p.csv"
    assert predict(command, Run(run_dir), unseen, output).code == 0
    rows = list(csv.reader(output.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 7
    assert all(sorted(row[1:]) == sorted(names) for row in rows)
    truth = tmp_path / "truth.csv"
    truth.write_text("".join(f"{row[0]},ann\n" for row in rows), encoding="utf-8")
    done = command("evaluate", "--prediction", output, "--truth", truth)
    assert done.code == 0
    assert "top-2" in done.out


def hash_of(*texts: str) -> int:
    return sum(ord(letter) * (n + 1) for n, letter in enumerate("/".join(texts)))


def test_some_members_alone_can_predict(
    command: Command, refused: Callable[..., str], trained: Run, unseen: Path, tmp_path: Path
) -> None:
    output = tmp_path / "p.csv"
    assert predict(command, trained, unseen, output, "--members", "triplet").code == 0
    assert list(read_table(output.with_suffix(".npz")).experts) == [
        f"triplet/{kind}" for kind in EXPERTS if kind != "head"
    ]
    line = refused("predict", "--test_dir", unseen, "--run_dir", trained.root, "--members", "x")
    assert "member x is not in the fusion, which has aam, triplet" in line


# Bad input --------------------------------------------------------------------------------------


def test_bad_data_folders_are_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    there = ("--run_dir", tmp_path / "run")
    assert "none does not exist" in refused("prepare", "--data_dir", tmp_path / "none", *there)
    (tmp_path / "empty").mkdir()
    assert "no songs in" in refused("prepare", "--data_dir", tmp_path / "empty", *there)
    for album in "12":
        put(tmp_path / "one/ann" / album / "song.wav", int(album))
    line = refused("prepare", "--data_dir", tmp_path / "one", *there)
    assert "at least two singers" in line
    assert "'ann'" in line
    line = refused("prepare", "--data_dir", tmp_path / "one", "--split", "alubm", *there)
    assert "is unknown; choose from course, album, song, files" in line
    assert not (tmp_path / "run/catalogue.csv").exists()


def test_prepare_leaves_a_folder_that_is_no_run_alone(
    refused: Callable[..., str], synthesised: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("precious", encoding="utf-8")
    data = ("--data_dir", synthesised / "mix")
    assert "is no run folder" in refused("prepare", *data, "--run_dir", tmp_path / "thesis")
    assert "is a file" in refused("prepare", *data, "--run_dir", tmp_path / "thesis/chapter.txt")
    assert contents(tmp_path) == {"thesis/chapter.txt": b"precious"}


def test_a_run_folder_of_another_format_is_refused_by_every_command(
    refused: Callable[..., str], trained: Run, unseen: Path, synthesised: Path
) -> None:
    info = read_json(trained.info)
    write_json(trained.info, info | {"format": 99})
    before = contents(trained.root)
    for words in (
        ("prepare", "--data_dir", synthesised / "mix"),
        ("train-embedder",),
        ("fuse",),
        ("predict", "--test_dir", unseen),
        ("analyze",),
    ):
        line = refused(*words, "--run_dir", trained.root)
        assert "is a run folder of format 99, this program reads format 1" in line
    assert contents(trained.root) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--loss", "amm"], f"is not legal; it must be {SETTINGS['loss'].legal}"),
        (["--backbone", "ecappa"], "is not legal; it must be ecapa | crnn | "),
        (["--stem", "drums"], "stem = 'drums' is not legal; it must be mix | vocals"),
        (["--preset", "huge"], "there is no preset 'huge'; presets are: laptop, base"),
        (
            ["--set", "lrr=1"],
            "there is no setting 'lrr' (did you mean lr?); settings are: n_mels, ",
        ),
        (["--set", "lr"], "--set takes name=value"),
        (["--set", "lr=9"], "lr = '9' is not legal; it must be a number from 1e-07 to 1"),
        (["--set", "epochs=1.5"], "epochs = '1.5' is not legal; it must be a whole number"),
        (["--epochs", "0"], "epochs = 0 is not legal"),
        (["--config", "none.json"], "none.json is missing"),
        (["--name", "a/b"], "'a/b' cannot name a member"),
        (["--name", "aam", "--loss", "triplet"], "member aam is already there with other settings"),
    ],
)
def test_a_training_that_cannot_be_is_one_line(
    words: list[str], expected: str, refused: Callable[..., str], trained: Run
) -> None:
    before = contents(trained.root)
    assert expected in refused("train-embedder", *words, "--run_dir", trained.root)
    assert contents(trained.root) == before


def test_commands_say_what_has_to_come_before(
    refused: Callable[..., str], prepared: Run, unseen: Path, tmp_path: Path
) -> None:
    there = ("--run_dir", prepared.root)
    assert "python app.py prepare" in refused("fuse", "--run_dir", tmp_path / "nowhere")
    assert "no member is trained" in refused("fuse", *there)
    assert "python app.py train-embedder" in refused("predict", "--test_dir", unseen, *there)
    assert "python app.py train-embedder" in refused("analyze", *there)
    prepared.catalogue.unlink()
    assert "python app.py prepare" in refused("train-embedder", *there)
    assert "python app.py prepare" in refused("predict", "--test_dir", unseen, *there)


def test_a_member_of_another_catalogue_is_not_fused(
    refused: Callable[..., str], trained: Run
) -> None:
    songs = read_catalogue(trained.catalogue).songs
    gone = songs[0].singer
    write_catalogue(trained.catalogue, Catalogue(tuple(s for s in songs if s.singer != gone)))
    before = contents(trained.root)
    line = refused("fuse", "--run_dir", trained.root)
    assert "member aam was trained on another catalogue" in line
    assert "train it again: python app.py train-embedder" in line
    assert "--name aam --overwrite" in line
    assert contents(trained.root) == before


def test_a_store_that_does_not_fit_is_embedded_again(command: Command, trained: Run) -> None:
    whole = contents(trained.root)
    shutil.copy(trained.store("triplet", "train"), trained.store("aam", "train"))
    trained.store("aam", "validation").write_bytes(b"half a st")
    trained.store("triplet", "test").unlink()
    done = command("fuse", "--run_dir", trained.root)
    assert done.code == 0
    shown = [line.partition(" songs:")[0] for line in done.out.splitlines() if ": 4 in " in line]
    assert shown == ["aam: train", "aam: validation", "triplet: test"]
    # SQLite counts in its header how often a table was changed.
    now, table = contents(trained.root), trained.index_table.relative_to(trained.root).as_posix()
    assert {**now, table: b""} == {**whole, table: b""}


def test_after_a_member_is_trained_anew_predict_asks_for_fuse(
    command: Command,
    refused: Callable[..., str],
    trained: Run,
    unseen: Path,
    tmp_path: Path,
    tiny_options: list[str],
) -> None:
    there = ("--run_dir", trained.root)
    anew = ("--loss", "aam", "--name", "aam", "--seed", "5", "--overwrite", *tiny_options)
    assert command("train-embedder", *anew, *there).code == 0
    line = refused("predict", "--test_dir", unseen, "--output", tmp_path / "p.csv", *there)
    assert "of member aam" in line
    assert "run again: python app.py fuse" in line
    assert not (tmp_path / "p.csv").exists()
    assert "python app.py fuse" in refused("analyze", *there)
    assert command("fuse", *there).code == 0
    assert predict(command, trained, unseen, tmp_path / "p.csv").code == 0


def test_bad_test_folders_and_outputs_are_one_line(
    refused: Callable[..., str], trained: Run, unseen: Path, tmp_path: Path
) -> None:
    there = ("--run_dir", trained.root)
    line = refused("predict", "--test_dir", tmp_path / "none", *there)
    assert "none does not exist; --test_dir takes a folder of audio files" in line
    (tmp_path / "empty").mkdir()
    assert "holds no audio file" in refused("predict", "--test_dir", tmp_path / "empty", *there)
    line = refused("predict", "--test_dir", unseen, "--format", "xml", *there)
    assert "--format xml is not legal; it must be csv | json" in line
    line = refused("predict", "--test_dir", unseen, "--output", tmp_path, *there)
    assert "must be a file" in line
    line = refused("predict", "--test_dir", unseen, "--output", tmp_path / "a.npz", *there)
    assert "does not end in .npz" in line
    put(unseen / "1.flac", 5)
    line = refused("predict", "--test_dir", unseen, *there)
    assert "would both have the ID 1; rename all but one of each" in line
    line = refused("fuse", "--aggregate", "median", *there)
    assert "is unknown; choose from probability, mean, vote" in line
    line = refused("fuse", "--members", "aam,bob", *there)
    assert "there is no member 'bob'; members are: aam, triplet" in line


def test_a_prediction_that_cannot_be_measured_is_one_line(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("1,a,b,c\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text("1,a\n2,b\n", encoding="utf-8")
    both = ("--prediction", tmp_path / "p.csv", "--truth")
    assert "2" in refused("evaluate", *both, tmp_path / "t.csv")
    assert "none.csv" in refused("evaluate", *both, tmp_path / "none.csv")


def test_ctrl_c_says_how_to_go_on(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_module, "open_run", interrupted)
    assert app.main(["fuse", "--run_dir", str(trained.root)]) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


def test_a_prediction_whose_table_does_not_fit_on_the_disk_is_not_written(
    trained: Run, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "p.npz")

    monkeypatch.setattr("ensemble.results.write_table", full)
    words = ("predict", "--test_dir", unseen, "--run_dir", trained.root, "--output")
    assert app.main([str(word) for word in (*words, tmp_path / "p.csv")]) == 2
    assert not list(tmp_path.glob("p.*"))


def test_a_real_process_ends_with_code_2_and_one_line(trained: Run, tmp_path: Path) -> None:
    ended = program("train-embedder", "--loss", "amm", "--run_dir", trained.root)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: loss = 'amm' is not legal")
    assert "did you mean aam" in ended.stderr
    assert ended.stderr.count("\n") == 1
    ended = program("predict", "--test_dir", tmp_path / "none", "--run_dir", trained.root)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: .*none does not exist; .*\n", ended.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare"], "Missing option '--data_dir'."),
        (["predict", "--nonsense", "3"], "No such option: --nonsense"),
        (["prdict"], "No such command 'prdict'. Did you mean 'predict'?"),
        (["fuse", "--seed", "-1"], "Invalid value for '--seed'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_too(
    refused: Callable[..., str], words: list[str], said: str
) -> None:
    assert refused(*words).startswith(said)


def test_no_command_shows_the_help(command: Command) -> None:
    outcome = command()
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: python app.py [OPTIONS] COMMAND")


def test_a_defect_of_the_program_is_not_taken_for_the_user_s(
    monkeypatch: pytest.MonkeyPatch, trained: Run
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ensemble.fusion.pipeline.fuse_stores", broken)
    with pytest.raises(OSError, match="Input/output error"):
        app.main(["fuse", "--run_dir", str(trained.root)])


# What a stream cannot encode --------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_stream_that_cannot_encode_a_name_ends_no_command(
    trained: Run, tmp_path: Path, encoding: str
) -> None:
    names = ("\u521d\u97f3\u30df\u30af", "Sigur R\u00f3s \u2192")
    for name in names:
        for album in "AB":
            put(tmp_path / "data" / name / album / "1.wav", len(name) + ord(album))
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(names))
    (tmp_path / "p.csv").write_text(rows, encoding="utf-8")
    prepare = ["prepare", "--data_dir", tmp_path / "data", "--run_dir", tmp_path / names[0]]
    evaluate = ["evaluate", "--prediction", tmp_path / "p.csv", "--truth"]
    commands = [
        (0, prepare),
        (0, [*evaluate, tmp_path / "p.csv"]),
        (2, [*evaluate, tmp_path / "none \u2192"]),
        (0, ["fuse", "--run_dir", trained.root]),
        (0, ["verify", "--help"]),
    ]
    texts = [(code, [str(word) for word in words]) for code, words in commands]
    lines = [f"assert app.main({words!r}) == {code}, {words!r}" for code, words in texts]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import app", *lines])],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    said = (done.stdout + done.stderr).decode(encoding)
    for name in names:
        assert name.encode(encoding, "backslashreplace").decode(encoding) in said
    assert said.count("\nerror: ") + said.startswith("error: ") == 1


# Readers that leave, and Ctrl-C -----------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Unix pipes")
@pytest.mark.parametrize("shut", ["stdout", "both"])
def test_work_goes_on_when_nobody_reads_the_output_any_more(
    shut: str, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": write, "stderr": write if shut == "both" else None}
    there = ("--run_dir", trained.root)
    try:
        for words in (
            ("predict", "--test_dir", unseen, "--output", tmp_path / "p.csv", *there),
            ("similar", next(unseen.iterdir()), "--json", *there),
            ("fuse", "--aggregate", "vote", *there),
            ("--help",),
        ):
            assert program(*words, capture_output=False, **streams).returncode == 0, words
        assert (tmp_path / "p.csv").is_file()
        assert read_fusion(trained.fusion).aggregate == "vote"
        assert program("predict", capture_output=False, **streams).returncode == 2
    finally:
        os.close(write)


def test_ctrl_c_while_the_program_is_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "app.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "stopped before anything was done\n"


# A full disk ------------------------------------------------------------------------------------

FULL = Path("/dev/full")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """`full_disk("last.ckpt")`: from now on, what is written for a file of that name finds no room.

    The temporary file is a link to /dev/full, so numpy and Python meet the system's own error.
    safetensors and lightning rename files of their own onto it: for them see `small_disk`.
    """
    from contextlib import contextmanager

    from embedder import artifact as artifacts

    whole = artifacts.replacing

    def fill(ending: str) -> None:
        @contextmanager
        def replacing(path: Path) -> Any:
            if not path.name.endswith(ending):
                with whole(path) as temporary:
                    yield temporary
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            link = tmp_path / f"full{path.suffix}"
            link.symlink_to(FULL)
            try:
                yield link
                raise AssertionError(f"{path} was written to a full disk without a complaint")
            finally:
                link.unlink()

        for module in list(sys.modules.values()):
            if getattr(module, "replacing", None) is whole:
                monkeypatch.setattr(module, "replacing", replacing)

    return fill


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (["prepare"], "train.txt"),
        (["prepare"], "catalogue.csv"),
        (["train-embedder", "--name", "new"], "settings.json"),
        (["train-embedder", "--name", "new"], "log.csv"),
        (["fuse", "--aggregate", "vote"], "train.npz"),
        (["fuse", "--aggregate", "vote"], "verification.json"),
        (["fuse", "--aggregate", "vote"], "fusion.json"),
        (["fuse", "--aggregate", "vote"], "validation.npz"),
        (["predict"], "p.csv"),
        (["predict"], "p.npz"),
        (["analyze"], "tsne.html"),
    ],
)
def test_a_full_disk_is_one_line_and_nothing_is_lost(
    words: list[str],
    ending: str,
    trained: Run,
    unseen: Path,
    synthesised: Path,
    tmp_path: Path,
    tiny_options: list[str],
    refused: Callable[..., str],
    full_disk: Callable[[str], None],
) -> None:
    import embedder.training.members  # noqa: F401 - what a command imports later must be replaced too
    from analysis.analyze import analyze  # noqa: F401
    from ensemble.fusion import pipeline  # noqa: F401

    options: dict[str, list[object]] = {
        "prepare": ["--data_dir", synthesised / "mix", "--overwrite"],
        "train-embedder": list(tiny_options),
        "predict": ["--test_dir", unseen, "--output", tmp_path / "out/p.csv"],
    }
    if ending == "train.npz":
        trained.store("aam", "train").unlink()
    for name in ("p.csv", "p.npz"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"yesterday's")
    before, output = contents(trained.root), contents(tmp_path / "out")
    full_disk(ending)
    line = refused(*words, *options.get(words[0], []), "--run_dir", trained.root)
    assert "No space left on device" in line
    after = contents(trained.root)
    assert before.keys() <= after.keys()
    kept = [name for name in after if not name.startswith(".locks/")]
    assert not [name for name in kept if "/." in name or name.startswith(".")]
    left = {name for name in before if after[name] != before[name]}
    assert ending not in {name.rpartition("/")[2] for name in left}
    if words[0] != "fuse":
        assert left <= {"train.txt", "validation.txt", "test.txt", "run.json"}
    assert (
        contents(tmp_path / "out")[ending if words[0] == "predict" else "p.csv"] == b"yesterday's"
    )
    assert output.keys() == contents(tmp_path / "out").keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own; the test is skipped where none can be mounted."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or not shutil.which("mount"):
        pytest.skip("only Linux mounts a small file system this way")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", [0, 20, 150, 400, 650])
def test_training_on_a_disk_that_really_is_full(
    room: int,
    trained: Run,
    small_disk: Path,
    tiny_options: list[str],
    command: Command,
    refused: Callable[..., str],
) -> None:
    run = Run(Path(shutil.copytree(trained.root, small_disk / "run")))
    before = contents(run.root)
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(b"x" * max(0, free - room * 1024))
    words = ("train-embedder", "--name", "new", *tiny_options, "--run_dir", run.root)
    assert "No space left on device" in refused(*words)
    after = contents(run.root)
    assert {name: after[name] for name in before} == before
    assert run.member_names() == ["aam", "triplet"]
    ballast.unlink()
    assert command(*words).code == 0
    from safetensors.torch import load_file
    from torch import equal

    first, second = (load_file(run.weights(name)) for name in ("aam", "new"))  # of one config
    assert all(equal(tensor, second[name]) for name, tensor in first.items())


def test_after_a_full_disk_training_goes_on(
    command: Command,
    refused: Callable[..., str],
    prepared: Run,
    tiny_options: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import lightning

    there = ("--run_dir", prepared.root, "--name", "m", *tiny_options)
    whole = lightning.Trainer.save_checkpoint

    def full(trainer: lightning.Trainer, path: Path) -> None:
        if trainer.current_epoch == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(trainer, path)

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", full)
        assert "No space left on device" in refused("train-embedder", *there)
    done = command("train-embedder", *there)
    assert done.code == 0
    assert "going on after epoch 1\n" in done.out


# What is imported -------------------------------------------------------------------------------


def heavy_imports(*words: object) -> set[str]:
    """The heavy libraries that a command imports, asked of the interpreter itself."""
    code = (
        "import sys, runpy\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'app.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'torchaudio', 'lightning', 'pytorch_metric_learning', 'faiss',\n"
        "         'audiomentations', 'plotly', 'openTSNE', 'sklearn'}\n"
        "print('heavy:', *sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.splitlines()[-1].split()[1:])


def test_light_commands_import_no_torch(trained: Run) -> None:
    assert heavy_imports("--help") == set()
    assert "torch" not in heavy_imports("fuse", "--run_dir", trained.root)
    assert "torch" not in heavy_imports("analyze", "--run_dir", trained.root)


def test_predicting_imports_nothing_of_training(trained: Run, unseen: Path, tmp_path: Path) -> None:
    there = ("--run_dir", trained.root, "--output", tmp_path / "p.csv")
    found = heavy_imports("predict", "--test_dir", unseen, *there)
    assert not found & {"lightning", "pytorch_metric_learning", "audiomentations", "plotly"}


# The demo ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_runs_and_is_far_above_chance(tmp_path: Path) -> None:
    ended = program("demo", "--run_dir", tmp_path / "demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("top-1 on ")]
    assert float(line.split(": ")[1].split()[0]) >= 0.5  # chance is 0.167
    assert (tmp_path / "demo/run/pages/index.html").is_file()
