"""Training of tiny members on synthesised songs: resumed, refused, replaced, repeated."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedder.architectures import ARCHITECTURES
from embedder.artifact import read_json, write_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import MemberConfig
from embedder.data.prepare import prepare
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.models.network import Network
from embedder.objectives import OBJECTIVES
from embedder.run import Run, create_run
from embedder.training.losses import LOSSES
from embedder.training.members import train_member

Tiny = Callable[..., MemberConfig]
ROOT = Path(__file__).parents[3]

needs_sigkill = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"
)


def train(run: Run, config: MemberConfig, name: str = "m", **options: Any) -> tuple[Member, str]:
    """Train on the CPU; the member, and what was said."""
    said: list[str] = []
    catalogue = read_catalogue(run.catalogue)
    options = {"device": "cpu", "say": said.append, **options}
    return train_member(run, catalogue, name, config, **options), "\n".join(said)


def log_rows(run: Run, name: str = "m") -> list[dict[str, str]]:
    with run.log(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def learnt(run: Run, name: str) -> list[dict[str, str]]:
    """The log without the speeds."""
    return [{k: v for k, v in row.items() if k != "audio_per_s"} for row in log_rows(run, name)]


FINISHED = {"config.json", "labels.json", "log.csv", "model.safetensors", "resume/settings.json"}


def files_of(run: Run) -> set[str]:
    """What lies in the folder of the member "m", temporary files of a killed training too."""
    folder = run.member("m")
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def same_tensors(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


@contextmanager
def no_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be trained inside."""
    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "fit", None)
        yield


# Killed and continued ----------------------------------------------------------------------------

KILLED = tuple(f"{name}={value}" for name, value in {"epochs": 6, "crops_per_song": 6}.items())


@pytest.fixture(scope="module")
def undisturbed(_prepared: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with the member "m" of six epochs, whose training nothing cut off."""
    run = Run(Path(shutil.copytree(_prepared, tmp_path_factory.mktemp("whole") / "run")))
    train(run, tiny(epochs=6, crops_per_song=6))
    return run


@needs_sigkill
def test_killed_after_an_epoch_the_same_command_goes_on_to_the_same_weights(
    prepared: Run,
    tiny_options: list[str],
    undisturbed: Run,
    killed_at: Callable[..., int],
    command: Callable[..., Any],
) -> None:
    words = ["train-embedder", "--name", "m", "--device", "cpu", "--run_dir", str(prepared.root)]
    words += [*tiny_options, "--set", KILLED[0], "--set", KILLED[1]]
    assert killed_at("epoch   1/6", *words) == -signal.SIGKILL
    assert not prepared.weights("m").exists()
    assert prepared.member_names() == []

    lines = command(*words).out.splitlines()
    assert "going on after epoch 1" in lines
    epochs = [line.split()[1] for line in lines if line.startswith("epoch ")]
    assert epochs == [f"{n}/6" for n in range(2, 7)]
    assert same_tensors(prepared.weights("m"), undisturbed.weights("m"))
    assert learnt(prepared, "m") == learnt(undisturbed, "m")
    assert files_of(prepared) == FINISHED


MOMENTS = {
    # which file, the how many-th time, before, during or after it is written; epochs that are kept
    "half of the state is written": ("last.ckpt", 3, "half", 2),
    "the best weights are newer than the state": (
        "best.safetensors", 2, "after", "before the second best",
    ),
    "the first epoch's log is there, its state is not": ("last.ckpt", 1, "before", 0),
    "all epochs are done, the member is not written": ("model.safetensors", 1, "before", 6),
    "the member is written, the state is not cleared": ("model.safetensors", 1, "after", None),
}  # fmt: skip
PROGRAM = """
    import os, signal, sys
    from contextlib import contextmanager
    from pathlib import Path
    file, times, moment, root, *settings = sys.argv[1:]
    import torch
    torch.set_num_threads(1)
    from embedder.artifact import replacing
    from embedder.catalogue import read_catalogue
    from embedder.run import Run
    from embedder.settings import build_config, parse_assignments
    from embedder.training.members import train_member

    seen = 0
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def deadly(path):
        global seen
        seen += path.name == file
        now = path.name == file and seen == int(times)
        if now and moment == "before":
            die()
        with replacing(path) as temporary:
            yield temporary
            if now and moment == "half":
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()
        if now:
            die()

    for module in list(sys.modules.values()):  # whoever writes with it
        if getattr(module, "replacing", None) is replacing and module.__name__ != "__main__":
            module.replacing = deadly
    run = Run(Path(root))
    config = build_config(changes=parse_assignments(settings))
    train_member(run, read_catalogue(run.catalogue), "m", config, device="cpu")
"""


@needs_sigkill
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(name, marks=() if number in (0, 3) else pytest.mark.slow)
        for number, name in enumerate(MOMENTS)
    ],
)
def test_killed_at_a_bad_moment_it_goes_on_to_the_same_weights(
    moment: str, prepared: Run, tiny: Tiny, tiny_options: list[str], undisturbed: Run
) -> None:
    *when, done = MOMENTS[moment]
    if done == "before the second best":
        better = [int(row["epoch"]) for row in log_rows(undisturbed) if row["best"] == "1"]
        done = better[1] - 1
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, when), str(prepared.root)]
    settings = [*tiny_options[1::2], *KILLED]
    killed = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, said = train(prepared, tiny(epochs=6, crops_per_song=6))
    if done is None:
        assert "m is already trained with these settings" in said
    elif done:
        assert f"going on after epoch {done}\n" in f"{said}\n"
    else:
        assert "going on" not in said
    assert said.count("epoch  ") == (0 if done is None else 6 - done)
    assert same_tensors(prepared.weights("m"), undisturbed.weights("m"))
    assert learnt(prepared, "m") == learnt(undisturbed, "m")
    assert files_of(prepared) >= FINISHED
    if done is not None:
        assert files_of(prepared) == FINISHED


# Finished, other, overwritten --------------------------------------------------------------------


def test_a_finished_member_is_not_trained_again(
    trained: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trained.weights("aam").read_bytes()
    with no_training(monkeypatch):
        member, said = train(trained, tiny(loss="aam"), "aam")
    assert said == "aam is already trained with these settings; --overwrite trains it again"
    assert trained.weights("aam").read_bytes() == before
    assert member.checkpoint == load_member(trained, "aam").checkpoint


def test_other_settings_or_songs_are_refused_by_name(
    trained: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in trained.member("aam").rglob("*") if p.is_file()}
    with no_training(monkeypatch):
        with pytest.raises(UserError, match=r"other settings: lr 0\.002 \(now 0\.01\); .*--overwr"):
            train(trained, tiny(loss="aam", lr=0.01), "aam")
        both = r"channels 16 \(now 32\), lr 0\.002 \(now 0\.01\); choose another --name"
        with pytest.raises(UserError, match=both):
            train(trained, tiny(loss="aam", channels=32, lr=0.01), "aam")
        songs = read_catalogue(trained.catalogue).songs
        write_catalogue(trained.catalogue, Catalogue(songs[:-1]))
        with pytest.raises(UserError, match="aam is already there with other songs or splits"):
            train(trained, tiny(loss="aam"), "aam")
    assert {p: p.read_bytes() for p in before} == before


def test_other_settings_are_refused_for_a_training_that_was_cut_off(
    prepared: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(prepared, tiny(epochs=4), 2, monkeypatch)
    with pytest.raises(UserError, match=r"epochs 4 \(now 5\)"):
        train(prepared, tiny(epochs=5))
    _, said = train(prepared, tiny(epochs=5), overwrite=True)
    assert "going on" not in said
    assert len(log_rows(prepared)) == 5


@pytest.mark.parametrize("finished", [False, True])
def test_what_another_version_trained_is_not_gone_on_with(
    finished: bool, prepared: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    if finished:
        train(prepared, tiny(epochs=2))
    else:
        cut_off(prepared, tiny(epochs=2), 1, monkeypatch)
    settings = prepared.resume("m") / "settings.json"
    old = read_json(settings)
    del old["recipe"]  # as before weight decay spared norms and biases
    write_json(settings, old)
    before = files_of(prepared)
    with no_training(monkeypatch), pytest.raises(UserError, match=r"another version.*--overwrite"):
        train(prepared, tiny(epochs=2))
    assert files_of(prepared) == before
    _, said = train(prepared, tiny(epochs=2), overwrite=True)
    assert "going on" not in said


def test_another_detector_is_not_gone_on_with(
    prepared: Run,
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    put_detector: Callable[[Run, float], None],
) -> None:
    """It would weigh the later epochs' segments otherwise."""
    put_detector(prepared, 0.0)
    cut_off(prepared, tiny(epochs=2), 1, monkeypatch)
    put_detector(prepared, 20.0)
    with no_training(monkeypatch), pytest.raises(UserError, match="another detector"):
        train(prepared, tiny(epochs=2))


@pytest.mark.parametrize("finished", [True, False])
def test_other_stems_are_another_training(
    finished: bool, prepared: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = read_catalogue(prepared.catalogue)
    bare = Catalogue(tuple(replace(s, vocals="", backing="") for s in songs.songs))
    backings = [song.backing for song in songs.songs]
    others = zip(songs.songs, (*backings[1:], backings[0]), strict=True)
    exchanged = Catalogue(tuple(replace(song, backing=other) for song, other in others))
    write_catalogue(prepared.catalogue, bare)
    if finished:
        train(prepared, tiny(epochs=1))
    else:
        cut_off(prepared, tiny(), 1, monkeypatch)
    epochs = 1 if finished else 2
    for catalogue in (songs, exchanged):
        write_catalogue(prepared.catalogue, catalogue)
        before = files_of(prepared)
        with pytest.raises(UserError, match=r"m is already there with other stems; .*--overwrite"):
            train(prepared, tiny(epochs=epochs))
        assert files_of(prepared) == before
        train(prepared, tiny(epochs=epochs), overwrite=True)
        assert len(log_rows(prepared)) == epochs
        assert "already trained" in train(prepared, tiny(epochs=epochs))[1]


def test_a_member_of_before_stems_were_recorded_is_not_taken_for_one_of_these(
    trained: Run, tiny: Tiny
) -> None:
    settings = trained.resume("aam") / "settings.json"
    found = read_json(settings)
    assert found.pop("stems")
    write_json(settings, found)
    with pytest.raises(UserError, match="aam is already there with other stems"):
        train(trained, tiny(), "aam")


def test_stems_that_a_training_does_not_hear_do_not_count(prepared: Run, tiny: Tiny) -> None:
    songs = read_catalogue(prepared.catalogue)
    train(prepared, tiny(epochs=1, stem="vocals"))
    without = (replace(s, backing="" if s.split != "test" else s.backing) for s in songs.songs)
    write_catalogue(prepared.catalogue, Catalogue(tuple(without)))
    assert "already trained" in train(prepared, tiny(epochs=1, stem="vocals"))[1]


def cut_off(run: Run, config: MemberConfig, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the member "m" until it has said `after` epochs."""

    class CutOff(BaseException):
        pass

    def say(text: str) -> None:
        if text.startswith(f"epoch {after:>3}"):
            raise CutOff

    with monkeypatch.context(), pytest.raises(CutOff):
        train(run, config, say=say)
    assert len(log_rows(run)) == after


def test_overwrite_trains_anew_but_goes_on_with_its_own_cut_off_training(
    trained: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, said = train(trained, tiny(loss="aam"), "aam", overwrite=True)
    assert said.count("epoch  ") == 2
    assert not trained.store("aam", "train").exists()  # of the old weights
    first = load_file(trained.weights("aam"))
    _, said = train(trained, tiny(loss="aam", seed=3), "aam", overwrite=True)
    assert not all(torch.equal(t, first[k]) for k, t in load_file(trained.weights("aam")).items())
    assert load_member(trained, "aam").config.train.seed == 3
    assert member.config.train.seed == 0

    cut_off(trained, tiny(epochs=3), 1, monkeypatch)
    _, said = train(trained, tiny(epochs=3), overwrite=True)
    assert "going on after epoch 1\n" in said


def test_what_an_interrupted_overwrite_left_is_not_gone_on_with(
    prepared: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(prepared, tiny(epochs=3, lr=0.1), 1, monkeypatch)
    (prepared.resume("m") / "settings.json").unlink()
    _, said = train(prepared, tiny(epochs=3))
    assert "going on" not in said
    train(prepared, tiny(epochs=3), "clean")
    assert same_tensors(prepared.weights("m"), prepared.weights("clean"))


# What every loss and backbone gives --------------------------------------------------------------


TRAINED = [("aam", name) for name in ARCHITECTURES if not ARCHITECTURES[name].fitted]
TRAINED += [(name, "ecapa") for name in (*LOSSES, "triplet+subcenter") if name != "aam"]


@pytest.mark.parametrize(("loss", "backbone"), TRAINED)
def test_every_loss_and_every_backbone_trains(
    loss: str, backbone: str, prepared: Run, tiny: Tiny
) -> None:
    config = tiny(loss=loss, backbone=backbone, n_mels=128, n_fft=1024, hop=512, epochs=1)
    member, said = train(prepared, config)
    catalogue = read_catalogue(prepared.catalogue)
    assert f"{backbone}, " in said
    assert f"{loss} loss" in said
    assert member.singers == catalogue.singers
    assert member.catalogue == catalogue.fingerprint()
    assert (member.head is not None) == (OBJECTIVES[loss.split("+")[-1]].head)
    assert not member.network.training
    torch.manual_seed(config.train.seed)
    start = dict(Network(config).named_parameters())
    moved = [
        name for name, p in member.network.named_parameters() if not torch.equal(p, start[name])
    ]
    assert len(moved) == len(start)  # every weight takes part
    assert np.float64(5e-324) * 1 > 0  # small numbers are flushed to 0 in training, not after it
    (row,) = log_rows(prepared)
    assert 0 < float(row["loss"]) < 100


@pytest.mark.parametrize("loss", ["aam", "triplet", "proxyanchor"])
def test_a_seed_decides_everything_and_another_gives_another(
    loss: str, prepared: Run, tiny: Tiny
) -> None:
    for name, seed in (("m", 0), ("again", 0), ("other", 1)):
        train(prepared, tiny(loss=loss, seed=seed), name)
    assert same_tensors(prepared.weights("m"), prepared.weights("again"))
    assert not same_tensors(prepared.weights("m"), prepared.weights("other"))


def test_aam_learns_its_training_songs(prepared: Run, tiny: Tiny) -> None:
    _, _ = train(prepared, tiny(epochs=12, crops_per_song=12, aam_margin=0, lr=0.01))
    losses = [float(row["loss"]) for row in log_rows(prepared)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_log_has_a_row_for_each_epoch_and_marks_the_best(prepared: Run, tiny: Tiny) -> None:
    member, said = train(prepared, tiny(epochs=5))
    text = prepared.log("m").read_text(encoding="utf-8")
    assert text.splitlines()[0] == (
        "epoch,loss,lr,top1,top3,score,nll,segment_score,audio_per_s,best"
    )
    rows = [{name: float(value) for name, value in row.items()} for row in log_rows(prepared)]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    best: tuple[float, float] | None = None
    for row in rows:
        assert row["score"] == pytest.approx(row["top1"] + 0.5 * row["top3"])
        key = (row["segment_score"], -row["nll"])
        assert row["best"] == float(best is None or key > best)
        best = key if row["best"] else best
    about = read_json(prepared.member("m") / "config.json")["about"]
    assert about["best_epoch"] == max(row["epoch"] for row in rows if row["best"])
    assert about["epochs"] == 5
    assert about["validation_songs"] == 4
    assert about["remixed"] is True
    assert about["validation"]["nll"] == rows[about["best_epoch"] - 1]["nll"]
    assert said.count("epoch  ") == 5
    assert about["parameters"] == sum(p.numel() for p in member.network.parameters())


def test_the_same_training_gives_the_same_files(prepared: Run, tiny: Tiny) -> None:
    train(prepared, tiny())
    described = (prepared.member("m") / "config.json").read_bytes()
    weights = load_file(prepared.weights("m"))
    train(prepared, tiny(), overwrite=True)
    assert (prepared.member("m") / "config.json").read_bytes() == described
    assert all(torch.equal(t, weights[k]) for k, t in load_file(prepared.weights("m")).items())


# Stems ------------------------------------------------------------------------------------------


def test_a_finished_member_without_its_settings_can_be_replaced(trained: Run, tiny: Tiny) -> None:
    (trained.resume("aam") / "settings.json").unlink()
    with pytest.raises(UserError, match=r"settings\.json is missing"):
        train(trained, tiny(), "aam")
    _, said = train(trained, tiny(), "aam", overwrite=True)
    assert said.count("epoch  ") == 2


def test_vocals_need_stems(synthesised: Path, tmp_path: Path, tiny: Tiny) -> None:
    run = create_run(tmp_path / "bare")
    prepare(run, synthesised / "mix", "album")
    with pytest.raises(UserError, match=r"8 songs have no vocal stem, elka_tarrow/.* --stems_dir"):
        train(run, tiny(stem="vocals"))
    assert not run.members.exists()
    _, said = train(run, tiny())
    assert "no stems were prepared" in said
    assert read_json(run.member("m") / "config.json")["about"]["remixed"] is False


def test_with_stems_mixtures_are_remixed_and_vocals_can_be_heard(prepared: Run, tiny: Tiny) -> None:
    _, mix = train(prepared, tiny(remix=0.25), "mix")
    assert "input: mixtures, 25% of them remixed from 4 songs' stems" in mix
    _, vocals = train(prepared, tiny(stem="vocals"), "vocals")
    assert "input: vocal stems" in vocals
    assert read_json(prepared.member("vocals") / "config.json")["about"]["remixed"] is False


# Refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " m", "a/b", "a\\b", "a:b", ".m", "m?"])
def test_a_name_that_is_no_folder_is_refused(name: str, prepared: Run, tiny: Tiny) -> None:
    with pytest.raises(UserError, match="cannot name a member"):
        train(prepared, tiny(), name)
    assert not prepared.members.exists()


def test_training_needs_validation_songs(prepared: Run, tiny: Tiny) -> None:
    songs = read_catalogue(prepared.catalogue).of("train")
    write_catalogue(prepared.catalogue, Catalogue(songs))
    with pytest.raises(UserError, match="has 4 training and 0 validation songs"):
        train(prepared, tiny())


@pytest.mark.slow
def test_workers_draw_the_same_crops(prepared: Run, tiny: Tiny) -> None:
    train(prepared, tiny(), "alone")
    train(prepared, tiny(workers=2), "helped")
    assert same_tensors(prepared.weights("alone"), prepared.weights("helped"))
