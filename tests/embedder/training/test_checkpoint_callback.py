"""What survives an epoch: the best weights, the state, the log."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from analysis.pages.training import CURVES, Log, read_log
from embedder.catalogue import Catalogue, read_catalogue
from embedder.config import MemberConfig
from embedder.run import Run
from embedder.training.checkpoint_callback import CheckpointCallback, EpochResult, Schedule
from embedder.training.folder import TrainingFolder
from embedder.training.members import train_member
from embedder.training.module import MemberModule

RESULTS = ("top1", "top3", "score", "nll", "segment_score")
COLUMNS = ("epoch", "loss", "lr", *RESULTS, "audio_per_s", "best")
Tiny = Callable[..., MemberConfig]


def scripted(
    run: Run, config: MemberConfig, results: Sequence[tuple[float, float]], patch: Any
) -> tuple[list[dict[str, str]], list[dict[str, Tensor]]]:
    """Train with validation results (segments' score, NLL) from a list.

    Gives the log, and each epoch's weights.
    """
    weights: list[dict[str, Tensor]] = []

    def result(training: MemberModule) -> dict[str, float]:
        score, nll = results[len(weights)]
        weights.append({k: v.clone() for k, v in training.network.state_dict().items()})
        song = 1.0 - score  # the songs' own score does not decide
        return {"top1": song, "top3": 0.0, "score": song, "nll": nll, "segment_score": score}

    catalogue: Catalogue = read_catalogue(run.catalogue)
    with patch.context() as inside:
        inside.setattr(MemberModule, "validation_result", result)
        train_member(run, catalogue, "m", config, device="cpu", say=lambda _: None)
    with run.log("m").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), weights


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([(0.5, 1.0), (0.9, 2.0), (0.7, 0.1), (0.2, 0.1)], [0, 1]),  # the score decides
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.5, 0.8)], [0, 1, 3]),  # then the lower NLL
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], [0]),  # then the earlier one
        ([(0.1, 1.0), (0.2, 1.0), (0.3, 9.0), (0.4, 99.0)], [0, 1, 2, 3]),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    results: list[tuple[float, float]],
    best: list[int],
    prepared: Run,
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, weights = scripted(prepared, tiny(epochs=4), results, monkeypatch)
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [n for n, row in enumerate(rows) if row["best"] == "1"] == best
    kept = load_file(prepared.weights("m"))
    for epoch, state in enumerate(weights):
        same = all(torch.equal(kept[name], tensor) for name, tensor in state.items())
        assert same == (epoch == best[-1])
    log = read_log(prepared, "m")  # what the training page makes of it
    assert isinstance(log, Log)
    assert (log.kept, set(log.columns)) == (best[-1], {"epoch", *CURVES})
    assert log.columns["segment_score"] == [score for score, _ in results]


@pytest.mark.parametrize(
    ("patience", "scores", "epochs"),
    [
        (1, [0.5, 0.4, 0.9, 0.9, 0.9, 0.9], 2),
        (2, [0.5, 0.4, 0.6, 0.6, 0.6, 0.9], 5),
        (3, [0.5, 0.4, 0.4, 0.6, 0.1, 0.1], 6),
    ],
)
def test_training_stops_when_no_epoch_is_better_for_as_long_as_it_is_patient(
    patience: int,
    scores: list[float],
    epochs: int,
    prepared: Run,
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(epochs=6, patience=patience)
    rows, weights = scripted(prepared, config, [(s, 1.0) for s in scores], monkeypatch)
    assert len(rows) == len(weights) == epochs


def callback(folder: Path, epochs: int, patience: int = 0) -> CheckpointCallback:
    schedule = Schedule(epochs, 0, clip_norm=2.0, epoch_s=1.0, patience=patience)
    files = TrainingFolder(folder, folder / "resume")
    return CheckpointCallback(files, schedule, lambda: EpochResult({}), lambda _: None)


def test_it_tells_when_a_training_is_done(tmp_path: Path) -> None:
    assert not callback(tmp_path, 1).finished
    for epochs, patience, finished in ((9, 2, True), (9, 3, False), (9, 0, False), (3, 3, True)):
        made = callback(tmp_path, epochs, patience)
        made.rows, made.best_epoch, made.best = [{}, {}, {}], 0, (0.5, -1.0)
        assert made.finished == finished
        other = callback(tmp_path, epochs, patience)
        other.load_state_dict(made.state_dict())
        assert other.state_dict() == made.state_dict()


def test_gradients_are_clipped_by_their_common_norm(tmp_path: Path) -> None:
    parts = [torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(10))]
    for part in parts:
        part.grad = torch.ones_like(part)
    optimizer = torch.optim.AdamW([{"params": parts[:1]}, {"params": parts[1:]}])
    callback(tmp_path, 1).on_before_optimizer_step(None, None, optimizer)  # type: ignore[arg-type]
    for part in parts:
        assert part.grad is not None
        assert torch.allclose(part.grad, torch.full_like(part, 2 / 16**0.5))
