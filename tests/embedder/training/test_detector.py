"""Training of the voice detector: it learns, it goes on where it was, it refuses what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest

from embedder.artifact import read_json
from embedder.catalogue import Catalogue, read_catalogue
from embedder.errors import UserError
from embedder.inference.detector import load_detector
from embedder.run import Run
from embedder.training import detector as detector_train
from embedder.training.detector import DetectorTrainConfig, train_detector

SMALL = DetectorTrainConfig(epochs=2, steps=1)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_train, "BATCH", 2)


def train(run: Run, plan: DetectorTrainConfig = SMALL, **options: Any) -> list[str]:
    """Train and return what was said."""
    said: list[str] = []
    catalogue = read_catalogue(run.catalogue)
    train_detector(run, catalogue, plan, device="cpu", say=said.append, **options)
    return said


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the log, which holds speeds."""
    files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    assert files.pop("log.csv", b"").startswith(b"epoch,loss,lr,audio_per_s")
    return files


def test_it_learns_where_someone_sings(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds of training on four short songs; the other four are of unheard albums."""
    monkeypatch.setattr(detector_train, "BATCH", 6)
    rows = train_detector(
        prepared,
        read_catalogue(prepared.catalogue),
        DetectorTrainConfig(1, 16),
        device="cpu",
        say=lambda _: None,
    )
    assert [row.condition for row in rows] == ["vocals + backing", "vocals 8 dB lower", "mixture"]
    assert rows[0].auc.value > 0.7
    written = read_json(prepared.detector / "accuracy.json")
    assert [row["auc"]["value"] for row in written] == [row.auc.value for row in rows]
    assert read_json(prepared.detector / "config.json")["training_songs"] == 4


def test_a_training_that_was_cut_off_ends_in_the_same_weights(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = DetectorTrainConfig(epochs=3, steps=1)
    train(prepared, plan)
    whole = contents(prepared.detector)
    assert set(whole) == {"accuracy.json", "config.json", "model.safetensors", "settings.json"}
    save = lightning.Trainer.save_checkpoint

    def cut(trainer: lightning.Trainer, path: Path) -> None:
        save(trainer, path)
        if trainer.current_epoch == 1:
            raise KeyError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", cut)
        with pytest.raises(KeyError, match="cut off"):
            train(prepared, plan, overwrite=True)
    assert load_detector(prepared) is None
    said = train(prepared, plan)
    assert next(line for line in said if line.startswith("epoch")).startswith("epoch   2/3")
    assert contents(prepared.detector) == whole


def test_cut_off_after_the_last_epoch_only_the_measuring_is_left(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    whole: Callable[..., Any] = detector_train.VoicedRemixes

    def spied(songs: Any, *rest: Any) -> Any:
        heard.extend(songs)
        return whole(songs, *rest)

    def cut(*_: object) -> None:
        raise KeyError("cut off")

    monkeypatch.setattr(detector_train, "VoicedRemixes", spied)
    with monkeypatch.context() as patch:
        patch.setattr(detector_train, "measure_detection", cut)
        with pytest.raises(KeyError, match="cut off"):
            train(prepared)
    assert {song.split for song in heard} == {"train"}
    assert load_detector(prepared) is None
    said = train(prepared)
    assert not [line for line in said if line.startswith("epoch")]
    before = contents(prepared.detector)

    assert train(prepared) == [
        "the voice detector is already trained with these settings; --overwrite trains it again"
    ]
    other = replace(SMALL, seed=1)
    with pytest.raises(UserError, match=r"voice detector of other songs or settings; --overwrite"):
        train(prepared, other)
    assert contents(prepared.detector) == before

    # Cut off with other settings, it is not gone on with but begun anew.
    with monkeypatch.context() as patch:
        patch.setattr(detector_train, "measure_detection", cut)
        with pytest.raises(KeyError, match="cut off"):
            train(prepared, other, overwrite=True)
    said = train(prepared)
    assert len([line for line in said if line.startswith("epoch")]) == 2
    assert contents(prepared.detector) == before


def test_without_stems_there_is_nothing_to_learn_from(prepared: Run) -> None:
    songs = read_catalogue(prepared.catalogue).songs
    bare = Catalogue(tuple(replace(song, backing="") for song in songs))
    with pytest.raises(UserError, match=r"no training song in .* --stems_dir S"):
        train_detector(prepared, bare, SMALL, say=lambda _: None)
    assert not prepared.detector.exists()
