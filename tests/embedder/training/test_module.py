"""The module of a member step by step against slow arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.catalogue import read_catalogue
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.cache import AudioCache
from embedder.inference.checkpoint import Member
from embedder.inference.config import InferenceConfig, detector_fingerprint
from embedder.inference.detector import Voices, load_detector
from embedder.inference.embed import embed_wave
from embedder.run import Run
from embedder.training.module import MemberModule, SongScores, SongSegments

Tiny = Callable[..., MemberConfig]


def songs_of(run: Run, split: str, config: MemberConfig) -> SongSegments:
    catalogue = read_catalogue(run.catalogue)
    songs = catalogue.of(split)
    labels = [catalogue.singers.index(song.singer) for song in songs]
    return SongSegments(songs, labels, AudioCache(run.cache), config, load_detector(run))


def module(run: Run, config: MemberConfig, steps: int = 20) -> MemberModule:
    torch.manual_seed(0)
    return MemberModule(config, 4, steps, songs_of(run, "train", config)).eval()


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


# Songs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["mix", "vocals"])
def test_whole_songs_come_in_segments_that_cover_them(stem: str, prepared: Run, tiny: Tiny) -> None:
    config = tiny(stem=stem, eval_segment_s=2.2)
    songs = songs_of(prepared, "validation", config)
    assert len(songs) == 4
    for index, song in enumerate(songs.songs):
        segments, weight, label = songs[index]
        key = song.audio if stem == "mix" else song.vocals
        samples = AudioCache(prepared.cache).samples(key)
        size = round(2.2 * SAMPLE_RATE)
        starts = [0, size, len(samples) - size]  # 6 s: a third ends where the song does
        assert torch.equal(
            segments, torch.stack([torch.tensor(samples[s:][:size]) for s in starts])
        )
        assert label == songs.labels[index]
        assert weight.tolist() == [1, 1, 1]  # nothing says where someone sings


def test_segments_weigh_what_they_weigh_in_prediction(
    prepared: Run, tiny: Tiny, put_detector: Callable[[Run, float], None]
) -> None:
    put_detector(prepared, 0.0)
    config = tiny(eval_segment_s=2.0, eval_hop_s=2.0)
    songs = songs_of(prepared, "validation", config)
    training = module(prepared, config)
    head = training.loss.head()
    member = Member("m", config, tuple("abcd"), "", training.network, head)
    listening = InferenceConfig(detector=detector_fingerprint(prepared))
    voices = Voices(load_detector(prepared), songs.cache)
    shares = []
    for index, song in enumerate(songs.songs):
        active = voices.of(song.audio, "mix")
        heard = embed_wave(member, songs.cache.samples(song.audio), listening, active)
        np.testing.assert_array_equal(songs[index][1], heard.weight)
        shares += heard.weight.tolist()
    assert min(shares) < 0.5 < max(shares)


def test_middles_are_the_middle_segments_of_all_songs(prepared: Run, tiny: Tiny) -> None:
    songs = songs_of(prepared, "train", tiny())
    ((waves, labels),) = songs.middles()
    assert labels.tolist() == songs.labels
    for index in range(4):
        segments = songs[index][0]
        assert torch.equal(waves[index], segments[len(segments) // 2])
    many = SongSegments(songs.songs * 9, songs.labels * 9, songs.cache, songs.config)
    batches = list(many.middles())
    assert [len(labels) for _, labels in batches] == [32, 4]
    assert torch.equal(torch.cat([w for w, _ in batches]), waves.repeat(9, 1))


# Validation -------------------------------------------------------------------------------------


def validated(training: MemberModule, songs: SongSegments) -> None:
    with torch.inference_mode():
        training.on_validation_epoch_start()
        for index in range(len(songs)):
            training.validation_step(songs[index], index)


@pytest.mark.parametrize("half", [False, True])
def test_with_a_head_a_song_is_validated_as_it_is_predicted(
    half: bool, prepared: Run, tiny: Tiny, put_detector: Callable[[Run, float], None]
) -> None:
    """By the softened mean of its segments' probabilities, weighted by voice, and in float32."""
    put_detector(prepared, 0.0)
    config = tiny(loss="aam", aam_scale=12)
    training, songs = module(prepared, config), songs_of(prepared, "validation", config)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        validated(training, songs)
    head = training.loss.head()
    assert head is not None
    head = head.detach()
    for index, answer in enumerate(training.song_scores):
        segments, weight, expected = songs[index]
        logits = []
        for segment in segments:
            with torch.inference_mode():
                vector = training.network(segment[None].float() / 32768)[0]
            logits.append(torch.tensor([12 * float(vector @ unit(weight)) for weight in head]))
        np.testing.assert_allclose(answer.segments, torch.stack(logits), atol=1e-4)
        softened = torch.softmax(torch.stack(logits) / 2, dim=1).numpy()
        shares = np.average(softened, axis=0, weights=weight)
        np.testing.assert_allclose(answer.song, np.log(shares), atol=1e-4)
        assert answer.label == expected


def test_without_a_head_it_is_the_cosines_to_the_singers_mean_embeddings(
    prepared: Run, tiny: Tiny, put_detector: Callable[[Run, float], None]
) -> None:
    put_detector(prepared, 0.0)
    config = tiny(loss="triplet", aam_scale=7)
    training, songs = module(prepared, config), songs_of(prepared, "validation", config)
    train = songs_of(prepared, "train", config)
    double = SongSegments(train.songs * 2, train.labels * 2, train.cache, config)
    training.prototypes = double  # two songs a singer: a mean has something to do
    validated(training, songs)
    centres = []
    with torch.inference_mode():
        for singer in range(4):
            own = [double[i][0] for i in range(len(double)) if double.labels[i] == singer]
            middles = [s[len(s) // 2][None].float() / 32768 for s in own]
            centres.append(unit(torch.stack([training.network(m)[0] for m in middles]).sum(dim=0)))
        for index, answer in enumerate(training.song_scores):
            segments, weight, _ = songs[index]
            heard = [training.network(s[None].float() / 32768)[0] for s in segments]
            cosines = [[7 * float(centre @ part) for centre in centres] for part in heard]
            np.testing.assert_allclose(answer.segments, cosines, atol=1e-3)
            song = unit((torch.stack(heard) * weight[:, None]).sum(dim=0))
            expected = [7 * float(centre @ song) for centre in centres]
            np.testing.assert_allclose(answer.song, expected, atol=1e-3)


def test_the_result_is_counted_over_songs(prepared: Run, tiny: Tiny) -> None:
    training = module(prepared, tiny())
    rows = [([3.0, 1, 0, 2], 0), ([3.0, 1, 0, 2], 3), ([3.0, 1, 0, 2], 2), ([0.0, 9, 1, 2], 1)]
    right, wrong = torch.eye(4), torch.full((1, 4), 0.5)  # ties keep the order of the labels
    parts = [right[[0, 0]], wrong, right[[2, 0, 1]], right[[1]]]
    voice = [[1.0, 1], [1.0], [3.0, 0, 0], [1.0]]  # the third song is sung in its first segment
    training.song_scores = [
        SongScores(np.array(logits), segments.double().numpy(), np.array(weights), label)
        for (logits, label), segments, weights in zip(rows, parts, voice, strict=True)
    ]
    result = training.validation_result()
    # Of 7 segments, 2 + 0 + 3 + 1 name their singer first: one of the third song's stands for all.
    # The second song's comes fourth.
    assert result["segment_score"] == pytest.approx(6 / 7 + 0.5 * 6 / 7)
    assert (result["top1"], result["top3"], result["score"]) == (0.5, 0.75, 0.875)
    nll = [-logits[y] + math.log(sum(map(math.exp, logits))) for logits, y in rows]
    assert result["nll"] == pytest.approx(float(np.mean(nll)))


# Optimisation -----------------------------------------------------------------------------------


def test_the_learning_rate_grows_and_falls_as_half_a_cosine(prepared: Run, tiny: Tiny) -> None:
    training = module(prepared, tiny(lr=0.5, lr_warmup=0.2, weight_decay=0.03), steps=20)
    made = training.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    covered = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(p) for p in training.parameters())  # class weights too
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


def decay_and_rate(training: MemberModule) -> dict[str, tuple[float, float]]:
    """Of each parameter by name, its weight decay and its highest learning rate."""
    found = training.configure_optimizers()["optimizer"].param_groups
    groups = {id(p): (g["weight_decay"], g["initial_lr"]) for g in found for p in g["params"]}
    return {name: groups[id(p)] for name, p in training.named_parameters()}


@pytest.mark.parametrize("backbone", ["ecapa", "crnn", "attention"])
def test_only_matrices_and_convolution_kernels_decay(
    backbone: str, prepared: Run, tiny: Tiny
) -> None:
    training = module(prepared, tiny(backbone=backbone, n_mels=128, weight_decay=0.03, lr=0.5))
    kinds = {"BatchNorm1d", "BatchNorm2d", "LayerNorm"}
    modules = dict(training.named_modules())
    for name, (decay, rate) in decay_and_rate(training).items():
        owner, _, kind = name.rpartition(".")
        spared = kind in ("token", "W") or "bias" in kind
        spared = spared or type(modules[owner]).__name__ in kinds
        assert decay == (0 if spared else 0.03), name
        assert rate == 0.5


def test_proxies_learn_at_a_rate_of_their_own(prepared: Run, tiny: Tiny) -> None:
    """Kim et al. 2020: 100 times the network's; of a sum of losses, the proxies alone."""
    changes = {"lr": 0.5, "weight_decay": 0.03, "proxy_lr": 100}
    training = module(prepared, tiny(loss="aam+proxyanchor", **changes))
    found = decay_and_rate(training)
    assert found["loss.parts.1.loss.proxies"] == (0, 50)
    assert found["loss.parts.0.loss.W"] == (0, 0.5)
    assert {rate for name, (_, rate) in found.items() if name.startswith("network.")} == {0.5}
    assert decay_and_rate(module(prepared, tiny(loss="proxyanchor", proxy_lr=3, lr=0.5)))[
        "loss.loss.proxies"
    ] == (0, 1.5)
