"""What others are handed: a bundle answers as the run does, and networks as torch does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from embedder import __version__
from embedder.artifact import file_fingerprint, read_json, write_json
from embedder.catalogue import read_catalogue
from embedder.config import MemberConfig, SeparatorConfig
from embedder.inference import separate as separation
from embedder.inference.checkpoint import load_member
from embedder.inference.embed import embed_wave
from embedder.models.separators.own import save_vocal_separator
from embedder.models.separators.song_separator import SongSeparator
from embedder.models.separators.stem_record import StemRecord, read_record
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.training.members import train_member
from ensemble.archive import MANIFEST
from ensemble.bundle import requirements

ROOT = Path(__file__).parents[3]
Command = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    """Three files of noise to predict, one of them too short for a whole segment."""
    folder = tmp_path / "unseen"
    for seed, name in enumerate(("0001.wav", "2.flac", "below/live.wav")):
        rng = np.random.default_rng(seed)
        wave = np.cumsum(rng.normal(0, 0.02, 9000 + 20000 * seed))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.4 * wave / np.abs(wave).max(), 16000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix != ".pyc"
    }


def answers(command: Command, unseen: Path, output: Path, *options: object) -> dict[str, bytes]:
    """All that `predict` writes, by name."""
    done = command("predict", "--test_dir", unseen, "--output", output, *options)
    assert done.code == 0, done
    return {p.name: p.read_bytes() for p in output.parent.glob(f"{output.stem}.*")}


# A bundle -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [[], ["triplet"], pytest.param(["triplet", "aam"], marks=pytest.mark.slow)],
)
def test_a_bundle_answers_as_the_run_does(
    members: list[str], command: Command, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    chosen = ["--members", ",".join(members)] if members else []
    wanted = answers(
        command, unseen, tmp_path / "run" / "p.csv", *chosen, "--run_dir", trained.root
    )
    assert len(wanted["p.csv"].splitlines()) == 3
    for name in ("bundle", "bundle.zip"):
        done = command("bundle", "--output", tmp_path / name, *chosen, "--run_dir", trained.root)
        assert done.code == 0, done
        assert (
            f"members {', '.join(members or ['aam', 'triplet'])}, 4 singers, index of" in done.out
        )
        found = answers(
            command, unseen, tmp_path / f"{name}.out" / "p.csv", "--bundle", tmp_path / name
        )
        assert found == wanted
    one = answers(
        command, unseen, tmp_path / "one" / "p.csv",
        "--bundle", tmp_path / "bundle.zip", "--members", "triplet",
    )  # fmt: skip
    alone = answers(
        command, unseen, tmp_path / "alone" / "p.csv",
        "--run_dir", trained.root, "--members", "triplet",
    )  # fmt: skip
    assert one == alone
    assert (one == wanted) == (members == ["triplet"])


def test_a_bundle_holds_what_prediction_needs_and_no_more(
    command: Command, trained: Run, tmp_path: Path
) -> None:
    bundle = tmp_path / "b"
    packing = ("bundle", "--output", bundle, "--run_dir", trained.root)
    assert command(*packing, "--members", "aam").code == 0
    found = contents(bundle)
    inner = {name for name in found if name.startswith("run/")}
    assert inner == {
        "run/run.json",
        "run/members/aam/config.json",
        "run/members/aam/labels.json",
        "run/members/aam/model.safetensors",
        "run/fusion/arrays.npz",
        "run/fusion/fusion.json",
        "run/fusion/index.sqlite",
        "run/fusion/verification.json",
    }
    program = {name for name in found if name.endswith(".py")}
    assert {"app.py", "embedder/inference/embedder.py", "ensemble/identifier.py"} <= program
    assert set(found) == inner | program | {MANIFEST, "requirements.txt", "README.md"}
    singers = read_json(trained.member("aam") / "labels.json")
    manifest = json.loads(found[MANIFEST])
    assert manifest["singers"] == singers
    assert [member["name"] for member in manifest["members"]] == ["aam"]
    needed = found["requirements.txt"].decode().split()
    assert needed == requirements(separates=False)
    assert {line.split("==")[0]: line.split("==")[1] for line in needed} == manifest["packages"]
    readme = found["README.md"].decode().splitlines()
    assert len(readme) == 4
    assert manifest["program"] == __version__
    assert f"of {len(singers)} singers" in readme[0]
    assert "pip install -r requirements.txt" in readme[1]
    assert "python app.py predict --bundle . --test_dir" in readme[2]


def test_no_place_of_the_machine_stands_in_a_bundle(
    command: Command, trained: Run, tmp_path: Path
) -> None:
    songs = read_catalogue(trained.catalogue).songs
    places = {str(trained.root), str(tmp_path), str(Path.home()), str(ROOT), sys.prefix}
    places |= {song.path for song in songs} | {str(Path(song.path).parents[2]) for song in songs}
    assert any(place.encode() in trained.info.read_bytes() for place in places)
    assert command("bundle", "--output", tmp_path / "b", "--run_dir", trained.root).code == 0
    for name, data in contents(tmp_path / "b").items():
        there = [place for place in places if len(place) > 5 and place.encode() in data]
        assert not there, (name, there)


def test_the_same_run_gives_the_same_bytes(command: Command, trained: Run, tmp_path: Path) -> None:
    for name in ("1.zip", "2.zip"):
        assert command("bundle", "--output", tmp_path / name, "--run_dir", trained.root).code == 0
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


# Everything that is installed but does not come with a bundle's requirements is out of reach.
ALONE = """
import importlib.abc, runpy, sys
blocked = set(sys.argv.pop(1).split(","))
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, "")
sys.argv[0] = "app.py"
runpy.run_path("app.py", run_name="__main__")
"""


def not_installed_with(lines: list[str]) -> set[str]:
    """Modules of the installed packages that these requirements do not bring along."""
    todo, brought = [re.split(r"[=<>!~ ;\[]", line)[0] for line in lines], set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in brought:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        brought.add(name)
        todo += [re.split(r"[=<>!~ ;\[(]", need)[0] for need in needs if "extra ==" not in need]
    return {
        module
        for module, packages in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", package).lower() for package in packages} & brought
    }


def test_an_unpacked_bundle_predicts_with_its_own_program_and_requirements_alone(
    command: Command, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    wanted = answers(command, unseen, tmp_path / "run" / "p.csv", "--run_dir", trained.root)
    assert command("bundle", "--output", tmp_path / "b.zip", "--run_dir", trained.root).code == 0
    shutil.rmtree(trained.root)
    with zipfile.ZipFile(tmp_path / "b.zip") as file:
        file.extractall(tmp_path / "elsewhere")
    lines = (tmp_path / "elsewhere" / "requirements.txt").read_text(encoding="utf-8").split()
    blocked = not_installed_with(lines)
    assert {"lightning", "sklearn", "scipy", "plotly", "openunmix", "onnx", "pytest"} <= blocked
    assert not blocked & {"torch", "numpy", "faiss", "typer", "rich", "cffi"}
    output = tmp_path / "alone" / "p.csv"
    command_line = ["-c", ALONE, ",".join(blocked), "predict", "--bundle", "."]
    done = subprocess.run(
        [sys.executable, "-I", *command_line, "--test_dir", unseen, "--output", output],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in output.parent.iterdir()} == wanted
    assert not list((tmp_path / "elsewhere").glob("analysis"))


@pytest.mark.slow
def test_a_detector_goes_with_the_members_that_it_weighs_for(
    command: Command,
    trained: Run,
    unseen: Path,
    tmp_path: Path,
    put_detector: Callable[[Run, float], None],
) -> None:
    put_detector(trained, 0.0)
    bundle = ("bundle", "--output", tmp_path / "b.zip", "--run_dir", trained.root)
    done = command(*bundle)
    assert done.code == 2
    assert "fitted with voice detector none, which is now" in done.err
    assert not (tmp_path / "b.zip").exists()
    assert command("fuse", "--run_dir", trained.root).code == 0
    assert command(*bundle).code == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as file:
        assert [n for n in file.namelist() if "detector/" in n and n.startswith("run/")] == [
            "run/detector/model.safetensors"
        ]
    wanted = answers(command, unseen, tmp_path / "run" / "p.csv", "--run_dir", trained.root)
    found = answers(command, unseen, tmp_path / "out" / "p.csv", "--bundle", tmp_path / "b.zip")
    assert found == wanted


@pytest.fixture
def vocal(trained: Run, tiny: Callable[..., MemberConfig], command: Command) -> Run:
    """A fused run with a member that hears vocals, and a separator of its own that makes them."""
    catalogue = read_catalogue(trained.catalogue)
    config = tiny(stem="vocals", epochs=1)
    train_member(trained, catalogue, "vocal", config, device="cpu", say=lambda _: None)
    torch.manual_seed(0)
    separator = VocalSeparator(
        SeparatorConfig(
            separator_n_fft=256, separator_hop=128, separator_hidden=8, separator_layers=1
        )
    )
    separator(0.1 * torch.randn(2, 4000))
    learnt_from = [song.id for song in catalogue.of("train")]
    save_vocal_separator(trained, separator.eval().requires_grad_(False), {"songs": learnt_from})
    shutil.rmtree(trained.member("triplet"))
    assert command("fuse", "--run_dir", trained.root).code == 0
    return trained


@pytest.mark.parametrize("separated", [pytest.param(False, marks=pytest.mark.slow), True])
def test_members_that_hear_vocals_have_their_separator_along(
    separated: bool, command: Command, vocal: Run, unseen: Path, tmp_path: Path
) -> None:
    if separated:  # the run's own stems too are the separator's
        options = ("--method", "own", "--replace", "--device", "cpu", "--run_dir", vocal.root)
        assert command("separate", *options).code == 0
        assert command("fuse", "--run_dir", vocal.root).code == 0
    wanted = answers(command, unseen, tmp_path / "run" / "p.csv", "--run_dir", vocal.root)
    done = command("bundle", "--output", tmp_path / "b", "--run_dir", vocal.root)
    assert done.code == 0, done
    assert "published" not in done.out
    assert "--stems_dir" not in done.out
    found = answers(command, unseen, tmp_path / "out" / "p.csv", "--bundle", tmp_path / "b")
    assert found == wanted
    inner = tmp_path / "b" / "run"
    assert (inner / "separator" / "model.safetensors").is_file()
    assert (inner / "stems.json").is_file() == separated
    assert len((inner / "catalogue.csv").read_text(encoding="utf-8").splitlines()) == 1
    needed = (tmp_path / "b" / "requirements.txt").read_text(encoding="utf-8").split()
    assert needed == requirements(separates=True)
    # Those that hear the mixture alone do without all that.
    few = ("--members", "aam", "--output", tmp_path / "few", "--run_dir", vocal.root)
    assert command("bundle", *few).code == 0
    assert not {"separator", "catalogue.csv"} & {p.name for p in (tmp_path / "few/run").iterdir()}


def test_the_user_is_told_what_is_not_packed(
    refused: Refused,
    command: Command,
    vocal: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = read_catalogue(vocal.catalogue)
    keys = {song.id: [song.vocals, song.backing] for song in catalogue.songs}
    record = {"format": 1, "method": "umx", "fingerprint": "f1", "weights": "", "songs": keys}
    write_json(vocal.stems, record)
    umx = SongSeparator("umx", (tmp_path / "vocals.pth",), 44100, lambda w: (w, None), 30.0, 1.0)
    monkeypatch.setattr(SongSeparator, "fingerprint", lambda _: "f1")
    monkeypatch.setattr(separation, "separator_of", lambda *_: umx)
    done = command("bundle", "--output", tmp_path / "b", "--run_dir", vocal.root)
    assert "vocals are separated with umx, whose published weights are not packed" in done.out
    inner = Run(tmp_path / "b" / "run")
    assert not inner.separator.exists()
    found = read_record(inner, read_catalogue(inner.catalogue))
    assert found == StemRecord("umx", "f1", "", {})
    write_json(vocal.stems, record | {"weights": str(tmp_path / "mine")})
    line = refused("bundle", "--output", tmp_path / "c", "--run_dir", vocal.root)
    assert re.search(r"with umx and the weights in .*mine, which a bundle does not hold", line)
    assert not (tmp_path / "c").exists()
    monkeypatch.setattr(separation, "separator_of", lambda *_: None)
    done = command("bundle", "--output", tmp_path / "d", "--run_dir", vocal.root)
    assert "vocal take vocals: the bundle needs them from predict --stems_dir" in done.err
    assert not (tmp_path / "d" / "run" / "separator").exists()


def test_an_enrolled_singer_goes_along(
    command: Command, trained: Run, synthesised: Path, unseen: Path, tmp_path: Path
) -> None:
    albums = sorted(path for path in (synthesised / "mix").iterdir() if path.is_dir())
    enrolled = command(
        "enroll", "--singer", "somebody new", "--audio_dir", albums[0], "--run_dir", trained.root
    )
    assert enrolled.code == 0, enrolled
    assert command("bundle", "--output", tmp_path / "b", "--run_dir", trained.root).code == 0
    assert read_json(tmp_path / "b" / MANIFEST)["singers"][-1] == "somebody new"
    wanted = answers(command, unseen, tmp_path / "run" / "p.csv", "--run_dir", trained.root)
    found = answers(command, unseen, tmp_path / "out" / "p.csv", "--bundle", tmp_path / "b")
    assert found == wanted
    for name, data in contents(tmp_path / "b").items():
        assert str(synthesised).encode() not in data, name


def test_bundles_that_cannot_be_packed_are_one_line(
    refused: Refused, command: Command, trained: Run, prepared: Run, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "b.zip"
    into = ("bundle", "--output", output, "--run_dir")
    assert "first run: python app.py train-embedder" in refused(*into, prepared.root)
    assert "member nobody is not in the fusion, which has aam, triplet" in refused(
        *into, trained.root, "--members", "aam,nobody"
    )
    labels = trained.member("aam") / "labels.json"
    names = read_json(labels)
    write_json(labels, names[::-1])
    assert "knows 4 singers in another order or spelling" in refused(*into, trained.root)
    write_json(labels, names)
    assert not output.parent.exists() or not list(output.parent.iterdir())
    assert command(*into, trained.root).code == 0
    before = output.read_bytes()
    line = refused(*into, trained.root)
    again = shlex.split(line.partition("is there already; --overwrite replaces a bundle: ")[2])
    assert again[2:] == ["bundle", "--overwrite", *map(str, into[1:]), str(trained.root)]
    trained.weights("aam").write_bytes(trained.weights("triplet").read_bytes())
    assert "fitted on checkpoint" in refused(*into, trained.root, "--overwrite")
    assert output.read_bytes() == before
    assert command(*into, trained.root, "--overwrite", "--members", "triplet").code == 0
    assert [path.name for path in output.parent.iterdir()] == ["b.zip"]
    assert output.read_bytes() != before


def test_bundles_that_cannot_predict_are_one_line(
    refused: Refused, command: Command, trained: Run, unseen: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "b"
    packing = ("bundle", "--output", bundle, "--run_dir", trained.root, "--members", "triplet")
    assert command(*packing).code == 0
    into = ("predict", "--test_dir", unseen, "--output", tmp_path / "p.csv")
    both = refused(*into, "--bundle", bundle, "--run_dir", trained.root)
    assert both.endswith("are two runs; give one of them")
    assert f"{bundle} has no member 'aam'; it has: triplet" in refused(
        *into, "--bundle", bundle, "--members", "aam"
    )
    assert "there is no bundle at" in refused(*into, "--bundle", tmp_path / "none.zip")
    assert "holds no bundle.json" in refused(*into, "--bundle", trained.root)
    weights = bundle / "run" / "members" / "triplet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert "model.safetensors in" in refused(*into, "--bundle", bundle)
    assert not list(tmp_path.glob("p.*"))


def test_the_requirements_are_pinned_as_the_programs_are() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    every = requirements(separates=True)
    assert set(every) < set(lines)
    assert [line.split("==")[0] for line in every] == [
        "torch",
        "torchaudio",
        "numpy",
        "soundfile",
        "soxr",
        "av",
        "faiss-cpu",
        "safetensors",
        "openunmix",
        "typer",
        "rich",
        "filelock",
        "pydantic",
    ]
    few = requirements(separates=False)
    assert [line for line in every if line not in few] == [
        line for line in every if line.startswith("openunmix==")
    ]


# Networks -------------------------------------------------------------------------------------


def test_exported_networks_answer_as_the_members_do(command: Command, trained: Run) -> None:
    done = command("export", "--run_dir", trained.root)
    assert done.code == 0, done
    files = sorted(path.name for path in trained.exports.iterdir())
    assert files == ["aam.json", "aam.onnx", "triplet.json", "triplet.onnx"]
    rng = np.random.default_rng(0)
    wave = (3000 * rng.normal(size=32000)).astype(np.int16)
    for name in ("aam", "triplet"):
        network = onnxruntime.InferenceSession(trained.exports / f"{name}.onnx")
        wanted = embed_wave(load_member(trained, name), wave)  # one segment of 2 s
        found, *logits = network.run(None, {"wave": wave.astype(np.float32)[None] / 32768})
        np.testing.assert_allclose(found, wanted.embeddings, atol=1e-4)
        if wanted.logits is not None:
            np.testing.assert_allclose(logits[0], wanted.logits, atol=3e-3)
        assert bool(logits) == (wanted.logits is not None)
        told = network.get_modelmeta().custom_metadata_map
        assert told["checkpoint"] == file_fingerprint(trained.weights(name))


def test_what_cannot_be_exported_is_one_line(
    refused: Refused, command: Command, trained: Run, tmp_path: Path
) -> None:
    export = ("export", "--run_dir", trained.root)
    assert refused(*export, "--format", "tf") == "--format tf is not legal; it must be onnx"
    assert "there is no member 'nobody'" in refused(*export, "--members", "nobody")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    line = refused(*export, "--output", tmp_path / "file")
    assert line.endswith("file is a file; it must be a folder")
    assert not trained.exports.exists()
    assert command(*export, "--members", "triplet", "--output", tmp_path / "networks").code == 0
    assert sorted(path.name for path in (tmp_path / "networks").iterdir()) == [
        "triplet.json",
        "triplet.onnx",
    ]
