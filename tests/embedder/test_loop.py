"""The training module step by step against slow arithmetic, and what its keeper keeps."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from embedder.artifacts import Run
from embedder.catalogue import Catalogue, read_catalogue
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.cache import AudioCache
from embedder.loop import COLUMNS, Keeper, Training, WholeSongs
from embedder.train import train_member

Tiny = Callable[..., MemberConfig]


def songs_of(run: Run, split: str, config: MemberConfig) -> WholeSongs:
    catalogue = read_catalogue(run.catalogue)
    songs = catalogue.of(split)
    labels = [catalogue.singers.index(song.singer) for song in songs]
    return WholeSongs(songs, labels, AudioCache(run.cache), config)


def module(run: Run, config: MemberConfig, steps: int = 20) -> Training:
    torch.manual_seed(0)
    return Training(config, 4, steps, songs_of(run, "train", config)).eval()


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


# Songs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["mix", "vocals"])
def test_whole_songs_come_in_segments_that_cover_them(stem: str, prepared: Run, tiny: Tiny) -> None:
    config = tiny(stem=stem, eval_segment_s=2.2)
    songs = songs_of(prepared, "validation", config)
    assert len(songs) == 4
    for index, song in enumerate(songs.songs):
        segments, label = songs[index]
        key = song.audio if stem == "mix" else song.vocals
        samples = AudioCache(prepared.cache).samples(key)
        size = round(2.2 * SAMPLE_RATE)
        starts = [0, size, len(samples) - size]  # 6 s: a third ends where the song does
        assert torch.equal(
            segments, torch.stack([torch.tensor(samples[s:][:size]) for s in starts])
        )
        assert label == songs.labels[index]


def test_middles_are_the_middle_segments_of_all_songs(prepared: Run, tiny: Tiny) -> None:
    songs = songs_of(prepared, "train", tiny())
    ((waves, labels),) = songs.middles()
    assert labels.tolist() == songs.labels
    for index in range(4):
        segments = songs[index][0]
        assert torch.equal(waves[index], segments[len(segments) // 2])
    many = WholeSongs(songs.songs * 9, songs.labels * 9, songs.cache, songs.config)
    batches = list(many.middles())
    assert [len(labels) for _, labels in batches] == [32, 4]
    assert torch.equal(torch.cat([w for w, _ in batches]), waves.repeat(9, 1))


# Validation -------------------------------------------------------------------------------------


def validated(training: Training, songs: WholeSongs) -> None:
    with torch.inference_mode():
        training.on_validation_epoch_start()
        for index in range(len(songs)):
            training.validation_step(songs[index], index)


def test_with_a_head_a_song_s_answer_is_the_mean_of_margin_free_logits(
    prepared: Run, tiny: Tiny
) -> None:
    config = tiny(loss="aam", aam_scale=12)
    training, songs = module(prepared, config), songs_of(prepared, "validation", config)
    validated(training, songs)
    head = training.loss.head()
    assert head is not None
    head = head.detach()
    for index, (answer, parts, label) in enumerate(training.answers):
        segments, expected = songs[index]
        logits = []
        for segment in segments:
            with torch.inference_mode():
                vector = training.network(segment[None].float() / 32768)[0]
            logits.append(torch.tensor([12 * float(vector @ unit(weight)) for weight in head]))
        assert torch.allclose(parts, torch.stack(logits), atol=1e-3)
        assert torch.allclose(answer, torch.stack(logits).mean(dim=0), atol=1e-3)
        assert label == expected


def test_without_a_head_it_is_the_cosines_to_the_singers_mean_embeddings(
    prepared: Run, tiny: Tiny
) -> None:
    config = tiny(loss="triplet", aam_scale=7)
    training, songs = module(prepared, config), songs_of(prepared, "validation", config)
    train = songs_of(prepared, "train", config)
    double = WholeSongs(train.songs * 2, train.labels * 2, train.cache, config)
    training.prototypes = double  # two songs a singer: a mean has something to do
    validated(training, songs)
    centres = []
    with torch.inference_mode():
        for singer in range(4):
            own = [double[i][0] for i in range(len(double)) if double.labels[i] == singer]
            middles = [s[len(s) // 2][None].float() / 32768 for s in own]
            centres.append(unit(torch.stack([training.network(m)[0] for m in middles]).sum(dim=0)))
        for index, (answer, parts, _) in enumerate(training.answers):
            heard = [training.network(s[None].float() / 32768)[0] for s in songs[index][0]]
            cosines = [[7 * float(centre @ part) for centre in centres] for part in heard]
            assert torch.allclose(parts, torch.tensor(cosines), atol=1e-3)
            song = unit(torch.stack(heard).mean(dim=0))
            expected = torch.tensor([7 * float(centre @ song) for centre in centres])
            assert torch.allclose(answer, expected, atol=1e-3)


def test_the_result_is_counted_over_songs(prepared: Run, tiny: Tiny) -> None:
    training = module(prepared, tiny())
    rows = [([3.0, 1, 0, 2], 0), ([3.0, 1, 0, 2], 3), ([3.0, 1, 0, 2], 2), ([0.0, 9, 1, 2], 1)]
    right, wrong = torch.eye(4), torch.full((1, 4), 0.5)  # ties keep the order of the labels
    parts = [right[[0, 0]], wrong, right[[2, 0, 1]], right[[1]]]
    training.answers = [
        (torch.tensor(logits), segments, label)
        for (logits, label), segments in zip(rows, parts, strict=True)
    ]
    result = training.validation_result()
    # Of 7 segments, 2 + 0 + 1 + 1 name their singer first. The second song's comes fourth; the
    # third song's two wrong ones have it third, after the winner and one of equal rank.
    assert result["segment_score"] == pytest.approx(4 / 7 + 0.5 * 6 / 7)
    assert (result["top1"], result["top3"], result["score"]) == (0.5, 0.75, 0.875)
    nll = [-logits[y] + math.log(sum(map(math.exp, logits))) for logits, y in rows]
    assert result["nll"] == pytest.approx(float(np.mean(nll)))


# Optimisation -----------------------------------------------------------------------------------


def test_the_learning_rate_grows_and_falls_as_half_a_cosine(prepared: Run, tiny: Tiny) -> None:
    training = module(prepared, tiny(lr=0.5, lr_warmup=0.2, weight_decay=0.03), steps=20)
    made = training.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    assert optimizer.param_groups[0]["weight_decay"] == 0.03
    covered = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert covered == {id(p) for p in training.parameters()}  # the class weights too
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    for step in range(4, 20):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 4) / 16))
        assert rates[step] == pytest.approx(0.5 * (0.01 + 0.99 * cosine))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


def test_gradients_are_clipped_by_their_common_norm(prepared: Run, tiny: Tiny) -> None:
    training = module(prepared, tiny())
    optimizer = training.configure_optimizers()["optimizer"]
    for parameter in training.parameters():
        parameter.grad = torch.ones_like(parameter)
    numbers = sum(p.numel() for p in training.parameters())
    training.configure_gradient_clipping(optimizer, 2.0)
    for parameter in training.parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, torch.full_like(parameter, 2 / math.sqrt(numbers)))


# The keeper -------------------------------------------------------------------------------------


def scripted(
    run: Run, config: MemberConfig, results: Sequence[tuple[float, float]], patch: Any
) -> tuple[list[dict[str, str]], list[dict[str, Tensor]]]:
    """Train with validation results (segments' score, NLL) from a list.

    Gives the log, and each epoch's weights.
    """
    weights: list[dict[str, Tensor]] = []

    def result(training: Training) -> dict[str, float]:
        score, nll = results[len(weights)]
        weights.append({k: v.clone() for k, v in training.network.state_dict().items()})
        song = 1.0 - score  # the songs' own score does not decide
        return {"top1": song, "top3": 0.0, "score": song, "nll": nll, "segment_score": score}

    catalogue: Catalogue = read_catalogue(run.catalogue)
    with patch.context() as inside:
        inside.setattr(Training, "validation_result", result)
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


def test_the_keeper_tells_when_a_training_is_done(tmp_path: Path, tiny: Tiny) -> None:
    keeper = Keeper(Run(tmp_path), "m", 1.0, lambda _: None)
    assert not keeper.finished(tiny(epochs=1))
    keeper.rows, keeper.best_epoch = [{}, {}, {}], 0
    assert keeper.finished(tiny(epochs=9, patience=2))
    assert not keeper.finished(tiny(epochs=9, patience=3))
    assert keeper.finished(tiny(epochs=3, patience=3))
    other = Keeper(Run(tmp_path), "m", 1.0, lambda _: None)
    keeper.best = (0.5, -1.0)
    other.load_state_dict(keeper.state_dict())
    assert other.state_dict() == keeper.state_dict()


def test_only_the_settings_stay_of_what_an_unfinished_training_needs(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.resume("m").mkdir(parents=True)
    for name in ("settings.json", "last.ckpt", "best.safetensors", ".last.ckpt.x7.ckpt"):
        (run.resume("m") / name).touch()
    for name in ("log.csv", ".model.safetensors.ab.safetensors"):
        (run.member("m") / name).touch()
    Keeper(run, "m", 1.0, lambda _: None).clear()
    assert [p.name for p in run.resume("m").iterdir()] == ["settings.json"]
    assert sorted(p.name for p in run.member("m").iterdir()) == ["log.csv", "resume"]
