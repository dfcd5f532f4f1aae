"""`pretrain`, and `train-embedder` from what is there already, as their users meet them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import app
from embedder.artifact import read_json
from embedder.inference.checkpoint import load_member
from embedder.run import Run
from embedder.settings import PRETRAIN_SETTINGS, SETTINGS

Command = Callable[..., tuple[int, str, str]]
ONCE = ("--set", "segment_s=1", "--set", "crops_per_song=1", "--set", "batch_singers=3")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """`command("pretrain", …)` → exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app.main([*map(str, words)])
        return code, *capfd.readouterr()

    return call


def test_from_songs_to_a_network_to_a_member_to_a_fine_tuned_one(
    prepared: Run, command: Command, tiny_options: list[str]
) -> None:
    here = ("--device", "cpu", "--run_dir", prepared.root)
    code, out, err = command(
        "pretrain", *tiny_options, "--method", "vicreg", "--epochs", 1, "--set", "batch_songs=2",
        "--stem", "vocals", *here,
    )  # fmt: skip
    assert (code, err) == (0, "")
    folder = prepared.pretrained.member("vicreg-ecapa-vocals")
    assert out.splitlines()[-2] == f"wrote {folder}"
    following = out.splitlines()[-1].removeprefix("next: python app.py ").split()
    assert following[:3] == ["train-embedder", "--init", "vicreg-ecapa-vocals"]

    code, out, err = command(
        *following, *ONCE, "--loss", "aam+triplet", "--epochs", 1, "--device", "cpu"
    )
    assert (code, err) == (0, "")
    assert "ecapa-aam+triplet-vicreg begins from network vicreg-ecapa-vocals" in out
    member = load_member(prepared, "ecapa-aam+triplet-vicreg")
    assert member.config.model == load_member(prepared.pretrained, folder.name).config.model

    code, out, err = command(
        "train-embedder", "--finetune", member.name, "--margin", 0.45, *ONCE, "--segment_s", 1.5,
        "--epochs", 1, *here,
    )  # fmt: skip
    assert (code, err) == (0, "")
    tuned = load_member(prepared, f"{member.name}-lm")
    assert (tuned.config.loss.aam_margin, tuned.config.train.segment_s) == (0.45, 1.5)
    assert tuned.config.loss.loss == "aam+triplet"
    assert tuned.config.augment == member.config.augment
    resume = read_json(prepared.resume(tuned.name) / "settings.json")
    assert resume["start"]


def values(table: str) -> dict[str, str]:
    """Setting → value, of a printed table."""
    rows = [line.split("│")[1:3] for line in table.splitlines() if line.startswith("│")]
    return {name.strip(): value.strip() for name, value in rows}


REFUSED = {
    ("--finetune", "aam", "--preset", "base"): "no --init and no --preset",
    ("--finetune", "aam", "--init", "x"): "no --init and no --preset",
    ("--finetune", "nobody"): "there is no trained member 'nobody' in",
    ("--finetune", "aam", "--backbone", "crnn"): "another network: backbone ecapa (now crnn)",
    ("--init", "nothing"): "there is no trained network 'nothing' in",
    ("--loss", "softmax", "--margin", "0.1"): "--margin: the softmax loss has no margin",
    ("--margin", "7"): "aam_margin = 7.0 is not legal; it must be a number from 0 to 1",
    ("--segment_s", "99"): "segment_s = 99.0 is not legal",
    ("--loss", "aam+aam"): "loss = 'aam+aam' is not legal; it must be aam | subcenter | ",
}


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_what_cannot_be_begun_from_is_one_line(
    options: tuple[str, ...], trained: Run, command: Command
) -> None:
    code, _, err = command("train-embedder", *options, "--run_dir", trained.root)
    assert code == 2
    assert err.startswith("error: ")
    assert REFUSED[options] in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("loss", "setting"), [("cosface", "cosface_margin"), ("triplet+softmax", "triplet_margin")]
)
def test_the_margin_is_the_loss_s_own(loss: str, setting: str, command: Command) -> None:
    options = ("--loss", loss, "--margin", 0.37, "--segment_s", 4.5, "--list_settings")
    code, out, _ = command("train-embedder", *options)
    assert code == 0
    shown = values(out)
    assert (shown[setting], shown["segment_s"], shown["loss"]) == ("0.37", "4.5", loss)


def test_a_pre_training_lists_its_settings_and_the_member_s(command: Command) -> None:
    code, out, _ = command("pretrain", "--list_settings", "--method", "byol", "--seed", 3)
    assert code == 0
    shown = values(out)
    assert (shown["method"], shown["seed"]) == ("byol", "3")
    wanted = {name for name, one in SETTINGS.items() if one.group != "loss"}
    assert {*PRETRAIN_SETTINGS, *wanted} <= set(shown)
    code, _, err = command("pretrain", "--method", "moco")
    assert code == 2
    assert err == "error: method = 'moco' is not legal; it must be simclr | vicreg | byol\n"
