"""Commands that messages name: each can be pasted, and is for the run folder that it speaks of."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import app
from embedder.catalogue import read_catalogue
from embedder.errors import Command, UserError, working_in
from embedder.run import Run

ROOT = Path(__file__).parents[1]
COMMANDS = get_command(app.app).commands  # type: ignore[attr-defined]
SOURCES = [
    path
    for place in ("app.py", "embedder", "ensemble", "analysis")
    for path in sorted((ROOT / place).rglob("*.py") if (ROOT / place).is_dir() else [ROOT / place])
]
MAKES = {"Command", "prepare_again", "train_again", "train_command"}  # what makes a command


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a command line, which the program must accept."""
    python, program, name, *words = shlex.split(command)
    assert (python, program) == ("python", "app.py")
    with COMMANDS[name].make_context(name, words) as context:
        return name, dict(context.params)


def commands_in(text: str) -> Iterator[str]:
    """All command lines of a text, each with everything that follows it on its line."""
    for line in text.splitlines():
        if "python app.py" in line:
            yield line[line.index("python app.py") :]


# The sources ------------------------------------------------------------------------------------


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of nodes that are docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = (node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and node.body)
    return {id(first.value) for first in bodies if isinstance(first, ast.Expr)}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def made(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls that make a command."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKES:
            yield node


def test_no_message_spells_a_command_by_itself() -> None:
    spelt = []
    for path, tree in sources():
        prose = docstrings(tree)
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else ""
            if isinstance(text, str) and "app.py " in text and id(node) not in prose:
                spelt.append(f"{path}:{node.lineno}")  # type: ignore[attr-defined]
    # What a bundle says of itself, for the folder that it lies in.
    assert [where.partition(":")[0] for where in spelt] == ["ensemble/bundle.py"]


def test_every_command_in_the_sources_exists_with_its_options() -> None:
    for path, tree in sources():
        for call in made(tree):
            makes = getattr(call.func, "id", "")
            usual = "prepare" if makes == "prepare_again" else "train-embedder"
            name = call.args[0] if makes == "Command" else ast.Constant(usual)
            if not isinstance(name, ast.Constant):
                continue  # tested where it is printed
            parameters = COMMANDS[name.value].params
            given = {keyword.arg for keyword in call.keywords} - {"before"}
            known = {option.lstrip("-") for one in parameters for option in one.opts}
            where = f"{path}:{call.lineno}"
            assert given - {"run_dir", None} <= known, where
            needed = {one.opts[0].lstrip("-") for one in parameters if one.required}
            assert needed <= given or None in given or makes != "Command", where


def test_nothing_sticks_to_a_command() -> None:
    for path, tree in sources():
        names = {"AGAIN", "FUSE", "again"}
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for part, behind in pairwise(parts):
                if isinstance(part, ast.FormattedValue) and isinstance(behind, ast.Constant):
                    inside = {getattr(one, "id", "") for one in ast.walk(part.value)}
                    if inside & {*MAKES, *names}:
                        allowed = (" && ", "\n", "</p>")
                        assert str(behind.value).startswith(allowed), f"{path}:{node.lineno}"  # type: ignore[attr-defined]


# What is printed --------------------------------------------------------------------------------


def put_at(run: Run, folder: Path) -> Run:
    return Run(Path(shutil.move(run.root, folder)))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A run folder's path as only quotes carry it into a shell."""
    return tmp_path / "it's  my & run"


def song(run: Run) -> Path:
    return Path(read_catalogue(run.catalogue).songs[0].path)


# What needs a fused run; TEST is a folder of songs, SONG one of them.
FUSED = {
    "predict": "--test_dir TEST",
    "verify": "SONG SONG",
    "similar": "SONG",
    "enroll": "--singer new --audio_dir TEST",
    "unenroll": "--undo",
    "analyze": "",
    "report": "",
    "serve": "--port 0",
    "bundle": "--output OUT",
    "evaluate": "--verification",
}
TRAINED = {"fuse": "", "export": ""}
PREPARED = {
    "train-embedder": "",
    "pretrain": "",
    "separate": "--method umx",
    "train-separator": "",
    "train-detector": "",
    "excerpts": "--output_dir OUT",
    "measure": "",
}


def test_a_command_that_comes_too_early_names_the_first_missing_step(
    refused: Callable[..., str], prepared: Run, trained: Run, odd: Path, tmp_path: Path
) -> None:
    songs = song(prepared)
    data_dir = songs.parents[2]

    def first_step(name: str, words: str, run_dir: Path) -> tuple[str, dict[str, Any]]:
        places = {"TEST": songs.parent, "SONG": songs, "OUT": tmp_path / "out"}
        given = [str(places.get(word, word)) for word in words.split()]
        (command,) = commands_in(refused(name, *given, "--run_dir", run_dir))
        step, options = parsed(command)
        assert options["run_dir"] == run_dir
        return step, options

    def each(commands: dict[str, str], run_dir: Path) -> Iterator[str]:
        return (first_step(name, words, run_dir)[0] for name, words in commands.items())

    assert set(each(FUSED | TRAINED | PREPARED, odd)) == {"prepare"}
    assert first_step("fuse", "", odd)[1]["data_dir"] == Path("SONGS")
    run = put_at(prepared, odd)
    assert set(each(FUSED | TRAINED, odd)) == {"train-embedder"}
    run.catalogue.unlink()
    assert set(each(FUSED | TRAINED | PREPARED, odd)) == {"prepare"}
    again = first_step("fuse", "", odd)[1]
    assert (again["data_dir"], again["split"]) == (data_dir, "album")
    shutil.rmtree(odd)
    run = put_at(trained, odd)
    run.fusion.unlink()
    assert set(each(FUSED, odd)) == {"fuse"}


def test_a_folder_that_is_something_else_is_not_to_be_prepared(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("all of it", encoding="utf-8")
    (command,) = commands_in(refused("fuse", "--run_dir", tmp_path))
    assert parsed(command)[1]["run_dir"] != tmp_path


def without_stems(run: Run) -> None:
    text = run.catalogue.read_text(encoding="utf-8")
    head, *lines = text.splitlines()
    columns = head.split(",")
    places = [columns.index(name) for name in ("vocals", "backing")]
    rows = [line.split(",") for line in lines]
    for row in rows:
        for place in places:
            row[place] = ""
    run.catalogue.write_text("\n".join([head, *map(",".join, rows)]) + "\n", encoding="utf-8")


def gone(*parts: str) -> Callable[[Run], None]:
    return lambda run: run.root.joinpath(*parts).unlink()


def spoilt(*parts: str) -> Callable[[Run], None]:
    return lambda run: run.root.joinpath(*parts).write_bytes(b"no")  # type: ignore[func-returns-value]


BROKEN: dict[str, tuple[str, Callable[[Run], None], str]] = {
    "no stems for a member": ("train-embedder --stem vocals", without_stems, "separate"),
    "no stems for a separator": ("train-separator", without_stems, "train-separator"),
    "no stems for a detector": ("train-detector", without_stems, "prepare"),
    "no stems to pretrain with": ("pretrain --stem vocals", without_stems, "prepare"),
    "no stems for excerpts": (
        "excerpts --output_dir OUT --vocals_db -8", without_stems, "prepare",
    ),
    "no separator": ("separate --method own", lambda _: None, "train-separator"),
    "no catalogue that can be read": ("fuse", spoilt("catalogue.csv"), "prepare"),
    "no weights that can be read": (
        "export", spoilt("members", "aam", "model.safetensors"), "train-embedder",
    ),
    "other labels": (
        "predict --test_dir TEST", spoilt("members", "aam", "labels.json"), "train-embedder",
    ),
    "no index": ("similar SONG", gone("fusion", "index.sqlite"), "fuse"),
    "a broken fusion": ("predict --test_dir TEST", spoilt("fusion", "fusion.json"), "fuse"),
    "no verification": ("verify SONG SONG", gone("fusion", "verification.json"), "fuse"),
    "a broken store": (
        "evaluate --verification", spoilt("members", "aam", "stores", "train.npz"), "fuse",
    ),
    "no predictions": ("analyze", gone("fusion", "predictions", "validation.npz"), "fuse"),
    "a member too many": ("predict --test_dir TEST --members other", lambda _: None, "fuse"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_mends_a_broken_run_can_be_pasted(
    kind: str, refused: Callable[..., str], trained: Run, odd: Path, tmp_path: Path
) -> None:
    words, damage, mends = BROKEN[kind]
    run = put_at(trained, odd)
    songs = song(run)
    places = {"TEST": songs.parent, "SONG": songs, "OUT": tmp_path / "out"}
    damage(run)
    given = [str(places.get(word, word)) for word in words.split()]
    (command,) = commands_in(refused(*given, "--run_dir", odd))
    name, options = parsed(command)
    assert (name, options["run_dir"]) == (mends, odd)


def test_next_commands_can_be_pasted(
    command: Callable[..., Any], trained: Run, odd: Path, tmp_path: Path
) -> None:
    run = put_at(trained, odd)
    songs, there = song(run), ("--run_dir", odd)
    short = tmp_path / "short songs"
    for words in (
        ("fuse",),
        ("excerpts", "--output_dir", short),
        ("predict", "--test_dir", short, "--output", tmp_path / "a b.csv"),
        ("enroll", "--singer", "new", "--audio_dir", songs.parent),
        ("unenroll", "--singer", "new"),
        ("bundle", "--output", tmp_path / "my bundle.zip"),
    ):
        done = command(*words, *there)
        assert done.code == 0, done.err
        named = list(commands_in(done.out))
        assert named, words
        for one in named:
            name, options = parsed(one)
            if name == "evaluate":
                assert options["prediction"] == tmp_path / "a b.csv"
            elif options.get("bundle"):
                assert options["bundle"] == tmp_path / "my bundle.zip"
            else:
                assert options["run_dir"] == odd


def test_a_bundle_names_no_folder_that_is_gone_when_the_command_ends(
    command: Callable[..., Any], refused: Callable[..., str], trained: Run, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.zip"
    assert command("bundle", "--output", bundle, "--run_dir", trained.root).code == 0
    line = refused("predict", "--bundle", bundle, "--test_dir", tmp_path, "--members", "aam,x")
    assert "python app.py" not in line or parsed(next(commands_in(line)))[1]["run_dir"] == Path(
        "RUN"
    )
    spoilt("b.zip")(Run(tmp_path))
    (again,) = commands_in(refused("predict", "--bundle", bundle, "--test_dir", tmp_path))
    assert parsed(again)[0] == "bundle"


# What was probably meant ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("fus", "fuse"),
        ("fuse --membrs a", "--members"),
        ("train-embedder --set epoch=3", "epochs"),
        ("train-embedder --loss tripplet", "triplet"),
        ("train-embedder --backbone ecappa", "ecapa"),
        ("train-embedder --stem vocal", "vocals"),
        ("train-embedder --preset lap-top", "laptop"),
        ("train-embedder --config CONFIG", "epochs"),
        ("train-embedder --finetune aan", "aam"),
        ("pretrain --set epoch=3", "epochs"),
        ("pretrain --method simcl", "simclr"),
        ("prepare --data_dir SONGS --split albun", "album"),
        ("excerpts --output_dir OUT --split tests", "test"),
        ("separate --method hdemuc", "hdemucs"),
        ("recipe laptp --data_dir SONGS", "laptop"),
        ("benchmark --data_dir SONGS --splits albun", "album"),
        ("benchmark --data_dir SONGS --members crnn-plan", "crnn-plain"),
        ("fuse --members aan", "aam"),
        ("fuse --method log_liner", "log_linear"),
        ("fuse --index hsnw", "hnsw"),
        ("fuse --aggregate men", "mean"),
        ("predict --test_dir SONGS --members aan", "aam"),
        ("predict --test_dir SONGS --format cvs", "csv"),
        ("analyze --pages tnse", "tsne"),
        ("analyze --members aan", "aam"),
        ("measure --what voice", "voices"),
        ("export --format onx", "onnx"),
        ("similar NEAR", "01.flac"),
    ],
)
def test_a_word_that_is_nearly_right_is_named(
    words: str, meant: str, refused: Callable[..., str], trained: Run, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"epoch": 3}', encoding="utf-8")
    near = tmp_path / "O1.flac"
    (tmp_path / "01.flac").touch()
    songs = song(trained).parents[2]
    places = {"CONFIG": config, "SONGS": songs, "OUT": tmp_path / "out", "NEAR": near}
    given = [str(places.get(word, word)) for word in words.split()]
    if given[0] not in ("fus", "recipe", "benchmark", "prepare"):
        given += ["--run_dir", str(trained.root)]
    elif given[0] != "fus":
        given += ["--run_dir", str(tmp_path / "new")]
    line = refused(*given)
    said = re.search(r"[Dd]id you mean '?([^'?]+)'?\?|Possible options: ([^)]+)", line)
    assert said, line
    assert meant in said.groups()


def test_an_enrolled_singer_that_is_nearly_right_is_named(
    command: Callable[..., Any], refused: Callable[..., str], trained: Run
) -> None:
    there = ("--run_dir", trained.root)
    songs = song(trained).parent
    assert command("enroll", "--singer", "Aimee Mann", "--audio_dir", songs, *there).code == 0
    assert "did you mean Aimee Mann?" in refused("unenroll", "--singer", "aimee man", *there)


def test_what_a_command_warned_of_stands_in_its_last_lines(
    command: Callable[..., Any], trained: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    shutil.copytree(song(trained).parent, folder)
    (folder / "broken.flac").write_bytes(b"no music")
    done = command(
        "predict", "--test_dir", folder, "--skip_bad", "--run_dir", trained.root,
        "--output", tmp_path / "p.csv",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.err.splitlines()[0].startswith("warning: 1 file has no answer, broken.flac")
    assert done.err.splitlines()[-1].startswith("- 1 file has no answer, broken.flac")


def test_demo_and_benchmark_name_the_run_inside_their_folder(
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    synthesised: Path,
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise UserError(f"stopped; run again: {Command('fuse')}")

    monkeypatch.setattr(app, "prepare_songs", stop)
    monkeypatch.setattr("embedder.data.synth.synthesise", lambda *_, **__: None)
    (inner,) = commands_in(refused("demo", "--run_dir", tmp_path / "d"))
    assert parsed(inner)[1]["run_dir"] == tmp_path / "d" / "run"
    monkeypatch.setattr("embedder.recipes.benchmark.prepared", stop)
    words = ("benchmark", "--data_dir", synthesised / "mix", "--splits", "album")
    (inner,) = commands_in(refused(*words, "--run_dir", tmp_path / "b"))
    assert parsed(inner)[1]["run_dir"] == tmp_path / "b" / "album"


def test_a_command_that_a_thread_names_is_for_the_run_of_the_command(tmp_path: Path) -> None:
    """Threads of a pool that was there before, and new ones."""
    with ThreadPoolExecutor(1) as pool:
        assert "--run_dir" not in pool.submit(str, Command("fuse")).result()
        with working_in(tmp_path / "a"), working_in(tmp_path / "b"), ThreadPoolExecutor(1) as new:
            for one in (pool, new):
                line = one.submit(str, Command("fuse")).result()
                assert parsed(line)[1]["run_dir"] == tmp_path / "b"
        assert "--run_dir" not in pool.submit(str, Command("fuse")).result()
