"""A tiny separator learns, goes on after a stop, and hears training songs alone."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import app
from embedder.artifact import read_json
from embedder.catalogue import Catalogue, Song, read_catalogue
from embedder.config import SeparatorConfig, SeparatorTrainConfig
from embedder.data.datasets import Mixtures
from embedder.errors import UserError
from embedder.models.separators.own import load_vocal_separator
from embedder.run import Run
from embedder.training.separator import (
    SeparatorModule,
    TrainedSeparator,
    catalogue_with_stems,
    snr_loss,
    train_separator,
)

SHAPE = SeparatorConfig(
    separator_n_fft=256, separator_hop=128, separator_hidden=16, separator_layers=1
)
SHORT = SeparatorTrainConfig(epochs=2, crops=4, crop_s=0.5, batch=2)


def train(
    run: Run,
    config: SeparatorTrainConfig = SHORT,
    catalogue: Catalogue | None = None,
    shape: SeparatorConfig = SHAPE,
    **options: Any,
) -> tuple[TrainedSeparator, str]:
    """Train on the CPU; what came of it, and what was said."""
    said: list[str] = []
    trained = train_separator(
        run,
        catalogue or read_catalogue(run.catalogue),
        shape,
        config,
        device="cpu",
        **{"say": said.append, **options},
    )
    return trained, "\n".join(said)


def without_stems(run: Run) -> Catalogue:
    songs = read_catalogue(run.catalogue).songs
    return Catalogue(tuple(replace(song, vocals="", backing="") for song in songs))


def test_it_learns_to_hear_voices_on_unheard_songs(prepared: Run) -> None:
    config = SHORT.model_copy(update={"epochs": 1, "crops": 320, "batch": 8, "lr": 0.02})
    trained, _ = train(
        prepared,
        config,
        shape=SeparatorConfig(
            separator_n_fft=512, separator_hop=256, separator_hidden=32, separator_layers=1
        ),
    )
    assert [found["songs"] for found in trained.quality.values()] == [4, 4, 4]
    assert trained.quality["-8 dB"]["gain"]["mean"] > 3


def test_only_training_songs_are_heard(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Song, ...]] = []

    class Watched(Mixtures):
        def __init__(self, songs: tuple[Song, ...], *rest: Any) -> None:
            heard.append(songs)
            super().__init__(songs, *rest)

    monkeypatch.setattr("embedder.training.separator.Mixtures", Watched)
    train(prepared)
    catalogue = read_catalogue(prepared.catalogue)
    assert heard == [catalogue.of("train")]
    about = read_json(prepared.separator / "config.json")["about"]
    assert about["songs"] == [song.id for song in catalogue.of("train")]


class Stopped(BaseException):
    pass


def stop_after_the_first(line: str) -> None:
    if line.startswith("epoch   1/"):
        raise Stopped


def test_stopped_after_an_epoch_it_goes_on_to_the_same_weights(prepared: Run) -> None:
    train(prepared)
    expected = load_file(prepared.separator_weights)
    log = (prepared.separator / "log.csv").read_text(encoding="utf-8")
    with pytest.raises(Stopped):
        train(prepared, overwrite=True, say=stop_after_the_first)
    assert not prepared.separator_weights.is_file()
    _, said = train(prepared)
    assert "going on after epoch 1" in said
    found = load_file(prepared.separator_weights)
    assert all(tensor.equal(found[name]) for name, tensor in expected.items())
    rows = [
        [{k: v for k, v in row.items() if k != "audio_per_s"} for row in csv.DictReader(text)]
        for text in (
            log.splitlines(),
            (prepared.separator / "log.csv").read_text(encoding="utf-8").splitlines(),
        )
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2


def test_a_seed_decides_everything_and_another_gives_another(prepared: Run) -> None:
    weights = []
    for seed in (0, 0, 1):
        train(prepared, SHORT.model_copy(update={"epochs": 1, "seed": seed}), overwrite=True)
        weights.append(prepared.separator_weights.read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_only_what_is_needed_stays(prepared: Run) -> None:
    trained, _ = train(prepared)
    files = {path.name for path in prepared.separator.iterdir()}
    quality = {"quality.csv", "quality.json"}
    assert files == {"model.safetensors", "config.json", "settings.json", "log.csv", *quality}
    assert trained.quality == read_json(prepared.separator / "quality.json")


def test_what_is_trained_is_not_trained_twice(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = train(prepared)
    monkeypatch.setattr(SeparatorModule, "training_step", None)
    again, said = train(prepared)
    assert "already trained with these settings" in said
    assert again.quality == first.quality


def test_other_settings_or_stems_are_refused_unless_overwritten(prepared: Run) -> None:
    train(prepared)
    before = prepared.separator_weights.read_bytes()
    message = r"holds a separator of other songs or settings; --overwrite trains it again"
    with pytest.raises(UserError, match=message):
        train(prepared, SHORT.model_copy(update={"epochs": 1}))
    songs = list(read_catalogue(prepared.catalogue).songs)
    songs = [replace(song, backing=songs[0].backing) for song in songs]
    with pytest.raises(UserError, match=message):
        train(prepared, catalogue=Catalogue(tuple(songs)))
    assert prepared.separator_weights.read_bytes() == before
    train(prepared, SHORT.model_copy(update={"epochs": 1}), overwrite=True)
    assert prepared.separator_weights.read_bytes() != before


def test_without_stems_it_says_where_to_take_them_from(prepared: Run) -> None:
    message = r"no training song .*both a vocal and a backing stem.*train-separator --stems_dir S"
    with pytest.raises(UserError, match=message):
        train(prepared, catalogue=without_stems(prepared))
    assert not prepared.separator.exists()


def test_stems_from_a_folder_are_those_that_preparation_finds(
    prepared: Run, synthesised: Path
) -> None:
    given = catalogue_with_stems(prepared, without_stems(prepared), synthesised)
    assert given == read_catalogue(prepared.catalogue)


def test_the_command_trains_and_prints_the_table(
    prepared: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("embedder.training.separator.SeparatorConfig", lambda: SHAPE)
    monkeypatch.setattr(
        "embedder.config.SeparatorTrainConfig", lambda **given: SHORT.model_copy(update=given)
    )
    options = ["--run_dir", str(prepared.root), "--device", "cpu", "--epochs", "1", "--seed", "3"]
    assert app.main(["train-separator", *options]) == 0
    printed = capsys.readouterr().out
    for text in ("SI-SDR of the vocals of validation songs, dB", "own backing", "-8 dB"):
        assert text in printed
    settings = read_json(prepared.separator / "settings.json")
    assert (settings["seed"], settings["epochs"]) == (3, 1)
    assert load_vocal_separator(prepared).config == SHAPE


def test_weights_are_trained_whole(prepared: Run) -> None:
    """Every parameter of the network moves: none is left out of the graph."""
    torch.manual_seed(SHORT.seed)
    start: dict[str, Tensor] = dict(SeparatorModule(SHAPE, SHORT, 4).separator.named_parameters())
    trained, _ = train(prepared)
    still = [n for n, p in trained.separator.named_parameters() if p.equal(start[n])]
    assert still == []


def waves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    estimate, target, backing = torch.randn(3, 4, 500, generator=torch.Generator().manual_seed(0))
    return estimate, target, target + backing


def test_the_loss_is_the_distortion_to_the_mixture_in_db_and_stops_at_minus_30() -> None:
    estimate, target, mixture = waves()
    expected = 0.0
    for e, t, x in zip(estimate.tolist(), target.tolist(), mixture.tolist(), strict=True):
        distortion = math.fsum((a - b) ** 2 for a, b in zip(e, t, strict=True))
        expected += 10 * math.log10(distortion / math.fsum(a * a for a in x) + 0.001) / 4
    assert float(snr_loss(estimate, target, mixture)) == pytest.approx(expected, abs=1e-4)
    assert float(snr_loss(target, target, mixture)) == pytest.approx(-30, abs=1e-4)


def test_each_crop_counts_alike_however_loud_it_is() -> None:
    estimate, target, mixture = waves()
    gain = torch.tensor([1, 0.1, 10, 0.01])[:, None]
    scaled = snr_loss(gain * estimate, gain * target, gain * mixture)
    assert float(scaled) == pytest.approx(float(snr_loss(estimate, target, mixture)), abs=1e-3)


@pytest.mark.parametrize("silent", ["target", "everything"])
def test_silence_has_a_finite_loss_and_gradient(silent: str) -> None:
    estimate, target, mixture = waves()
    target[0] = 0
    if silent == "everything":
        mixture[0] = estimate[0] = 0
    estimate.requires_grad_()
    loss = snr_loss(estimate, target, mixture)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert estimate.grad is not None
    assert torch.isfinite(estimate.grad).all()
