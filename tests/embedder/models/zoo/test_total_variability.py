"""Fitting the i-vector extractor: each step against its definition, and a member as any other."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.linalg import eigh
from scipy.stats import multivariate_normal
from torch import Tensor

from embedder.artifact import read_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.embed import embed_split
from embedder.models.network import Network, count_parameters
from embedder.models.zoo import total_variability
from embedder.models.zoo.ivector import IVector
from embedder.models.zoo.total_variability import (
    fit_background,
    fit_network,
    fit_projection,
    fit_whitening,
    gather_statistics,
    posteriors,
    reestimate,
    sample_frames,
    start_variability,
)
from embedder.run import Run
from embedder.settings import build_config
from embedder.training.members import train_member

SEGMENTS, COMPONENTS, ROWS, DIM = 60, 3, 4, 2


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of segments drawn from the model, with quite different counts, and the true T."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(COMPONENTS, ROWS, DIM, generator=generator, dtype=torch.float64)
    counts = 20 * torch.rand(SEGMENTS, COMPONENTS, generator=generator, dtype=torch.float64)
    places = torch.randn(SEGMENTS, DIM, generator=generator, dtype=torch.float64)
    noise = torch.randn(SEGMENTS, COMPONENTS, ROWS, generator=generator, dtype=torch.float64)
    shifts = counts.unsqueeze(2) * torch.einsum("crd,sd->scr", true, places)
    return counts, shifts + counts.sqrt().unsqueeze(2) * noise, true


def slow_posterior(
    counts: np.ndarray, shifts: np.ndarray, variability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, covariance and log-likelihood ratio of one segment from the joint Gaussian of w and the
    means of each component's frames."""
    stacked = variability.reshape(-1, DIM)
    noise = np.repeat(1 / counts, ROWS)
    seen = (shifts / counts[:, None]).reshape(-1)
    joint = stacked @ stacked.T + np.diag(noise)
    gain = stacked.T @ np.linalg.inv(joint)
    likelihood = multivariate_normal.logpdf(seen, cov=joint)
    without = multivariate_normal.logpdf(seen, cov=np.diag(noise))
    return gain @ seen, np.eye(DIM) - gain @ stacked, float(likelihood - without)


def test_posteriors_are_those_of_the_joint_gaussian(
    drawn: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(total_variability, "BLOCK", 25)  # 25, 25 and 10
    counts, shifts, true = drawn
    done = 0
    for part, mean, covariance, likelihood in posteriors(counts, shifts, true):
        assert part.start == done
        for row, segment in enumerate(range(part.start, part.stop)):
            slow = slow_posterior(counts[segment].numpy(), shifts[segment].numpy(), true.numpy())
            np.testing.assert_allclose(mean[row], slow[0], atol=1e-8)
            np.testing.assert_allclose(covariance[row], slow[1], atol=1e-8)
            assert float(likelihood[row]) == pytest.approx(slow[2], abs=1e-6)
        done = part.stop
    assert done == SEGMENTS


def iterated(
    counts: Tensor, shifts: Tensor, matrix: Tensor, iterations: int
) -> tuple[Tensor, list[float]]:
    """T after several iterations, and the likelihoods before each."""
    likelihoods = []
    for _ in range(iterations):
        matrix, likelihood = reestimate(counts, shifts, matrix)
        likelihoods.append(likelihood)
    return matrix, likelihoods


def test_each_iteration_makes_the_statistics_likelier(
    drawn: tuple[Tensor, Tensor, Tensor],
) -> None:
    counts, shifts, true = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=1)
    fitted, likelihoods = iterated(counts, shifts, start, 8)
    assert all(b > a for a, b in itertools.pairwise(likelihoods))
    ends = [
        float(torch.cat([p[3] for p in posteriors(counts, shifts, matrix)]).mean())
        for matrix in (fitted, true)
    ]
    assert ends[0] > likelihoods[-1]
    assert ends[0] > ends[1]  # at least as likely as under the matrix they were drawn from


def test_the_step_without_turning_is_the_weighted_regression(
    drawn: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Each component's rows maximise the expected likelihood (slopes are 0 there), and the turn
    brings the posteriors' mean second moment to the prior's."""
    counts, shifts, _ = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=2)
    fitted, _ = reestimate(counts, shifts, start)
    moment = np.zeros((DIM, DIM))
    weighted = np.zeros((COMPONENTS, DIM, DIM))
    crossed = np.zeros((COMPONENTS, ROWS, DIM))
    for segment in range(SEGMENTS):
        n, f = counts[segment].numpy(), shifts[segment].numpy()
        mean, covariance, _ = slow_posterior(n, f, start.numpy())
        second = covariance + np.outer(mean, mean)
        moment += second / SEGMENTS
        weighted += n[:, None, None] * second
        crossed += f[:, :, None] * mean
    turn = np.linalg.cholesky(moment)
    for c in range(COMPONENTS):
        regression = fitted[c].numpy() @ np.linalg.inv(turn)
        np.testing.assert_allclose(crossed[c] - regression @ weighted[c], 0, atol=1e-7)


def test_the_true_space_is_found(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    counts, shifts, true = drawn
    start = start_variability((COMPONENTS, ROWS, DIM), seed=3)
    fitted, _ = iterated(20 * counts, 20 * shifts, start, 40)
    one, other = (np.linalg.qr(m.reshape(-1, DIM).numpy())[0] for m in (fitted, true))
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    assert cosines.min() > 0.97


def test_the_start_depends_on_the_seed_alone() -> None:
    one, same, other = (start_variability((2, 3, 2), seed) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


# The other steps ----------------------------------------------------------------------------------

Tiny = Callable[..., MemberConfig]
CEPSTRAL_ROWS = 60


def config_of(**changes: Any) -> MemberConfig:
    small = {"ivector_components": 4, "ivector_dim": 6, "embedding_dim": 8, "epochs": 3}
    return build_config(changes={"backbone": "ivector", "mel_norm": "none"} | small | changes)


def network_of(config: MemberConfig) -> Network:
    torch.manual_seed(0)
    return Network(config).eval().requires_grad_(False)


class Voices:
    """Batches of one-second noises, a crop of each singer: a row of speech sounds, each a colour
    that all singers share, shaped by the singer's own colour and a little by the crop's."""

    def __init__(self, seed: int, batches: int, singers: int = 5) -> None:
        self.seed, self.batches, self.singers = seed, batches, singers
        colours = np.random.default_rng(0)
        self.sounds = 4 * colours.normal(size=(4, 9))
        self.throats = colours.normal(size=(singers, 9))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(self.seed)
        places = np.linspace(0, 8, 1001)
        for _ in range(self.batches):
            said = self.sounds[rng.integers(4, size=(self.singers, 8))]
            crop = 0.5 * rng.normal(size=self.throats.shape)
            shapes = (said + (self.throats + crop)[:, None]).reshape(-1, 9)
            gains = np.stack([np.interp(places, np.arange(9), shape) for shape in shapes])
            spectrum = rng.normal(size=gains.shape) + 1j * rng.normal(size=gains.shape)
            wave = np.fft.irfft(spectrum * np.exp(0.5 * gains), 2000).reshape(self.singers, -1)
            yield torch.from_numpy(wave.astype(np.float32)), torch.arange(self.singers)


# Each step ---------------------------------------------------------------------------------------


def test_frames_are_some_of_each_crop_until_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(total_variability, "CROP_FRAMES", 7)
    monkeypatch.setattr(total_variability, "UBM_FRAMES", 60)
    network, voices = network_of(config_of()), Voices(1, 4)
    frames = sample_frames(network, voices, 0)
    assert len(frames) == 2 * 5 * 7  # 35 are too few, 70 enough
    crops = torch.cat([network.extract_features(wave) for wave, _ in voices])[:10]
    for crop, chosen in zip(crops, frames.view(10, 7, CEPSTRAL_ROWS), strict=True):
        found = [(frame == crop.T).all(dim=1).nonzero().flatten() for frame in chosen]
        assert all(len(f) == 1 for f in found)
        assert len({int(f) for f in found}) == 7
    assert torch.equal(frames, sample_frames(network, voices, 0))
    assert not torch.equal(frames, sample_frames(network, voices, 1))


def test_the_background_model_finds_the_mixture_that_frames_come_from() -> None:
    rng = np.random.default_rng(0)
    means = np.zeros((4, CEPSTRAL_ROWS))
    means[:, ::2], means[:, 1::2] = [[3], [-3], [0], [0]], [[0], [0], [4], [-3]]
    of = rng.choice(4, 4000, p=[0.1, 0.2, 0.3, 0.4])
    deviations = np.array([0.5, 1.0, 1.0, 2.0])
    frames = 3 + 5 * (means[of] + deviations[of, None] * rng.normal(size=(4000, CEPSTRAL_ROWS)))
    network = network_of(config_of())
    backbone = network.backbone
    fit_background(backbone, torch.from_numpy(frames.astype(np.float32)), 0)
    assert isinstance(backbone, IVector)
    deviation = backbone.feature_deviation.numpy()
    raw = backbone.means.numpy() * deviation + backbone.feature_mean.numpy()
    for c in range(4):
        nearest = int(np.argmin(((raw - (3 + 5 * means[c])) ** 2).sum(axis=1)))
        assert float(backbone.weights[nearest]) == pytest.approx((of == c).mean(), abs=0.01)
        np.testing.assert_allclose(raw[nearest], 3 + 5 * means[c], atol=1.5)
        spread = (backbone.variances[nearest].sqrt() * backbone.feature_deviation).numpy()
        np.testing.assert_allclose(spread, 5 * deviations[c], rtol=0.2)


def test_more_components_than_frames_are_refused() -> None:
    backbone = network_of(config_of(ivector_components=50)).backbone
    with pytest.raises(UserError, match="ivector_components = 50 is too many for 49 frames"):
        fit_background(backbone, torch.randn(49, CEPSTRAL_ROWS), 0)


def test_statistics_come_crop_by_crop_with_their_labels() -> None:
    network, voices = network_of(config_of()), Voices(2, 3)
    counts, shifts, labels = gather_statistics(network, voices)
    assert labels.tolist() == [0, 1, 2, 3, 4] * 3
    wave = torch.cat([wave for wave, _ in voices])
    for crop in (0, 7, 14):
        alone = network.backbone.statistics(network.extract_features(wave[crop : crop + 1]))
        torch.testing.assert_close(counts[crop], alone[0][0], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(shifts[crop], alone[1][0], atol=1e-2, rtol=1e-3)


def test_whitened_ivectors_of_training_have_the_identity_for_covariance() -> None:
    backbone = network_of(config_of()).backbone
    torch.manual_seed(1)
    ivectors = (torch.randn(400, 6) @ torch.randn(6, 6) + 5).double()
    fit_whitening(backbone, ivectors)
    turned = (ivectors - backbone.centre) @ backbone.whitening.T.double()
    torch.testing.assert_close(turned.mean(dim=0), torch.zeros(6).double(), atol=1e-4, rtol=0)
    covariance = turned.T @ turned / 400
    torch.testing.assert_close(covariance, torch.eye(6).double(), atol=1e-3, rtol=0)


def test_too_few_crops_are_not_blown_up() -> None:
    backbone = network_of(config_of()).backbone
    torch.manual_seed(2)
    fit_whitening(backbone, torch.randn(4, 6))
    assert float(torch.linalg.matrix_norm(backbone.whitening, 2)) < 200


def classes(seed: int, each: int = 5000) -> tuple[Tensor, np.ndarray]:
    """Points of four classes in six dimensions, of another spread in each direction."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).normal(size=(4, 6))
    labels = np.repeat(np.arange(4), each)
    noise = rng.normal(size=(4 * each, 6)) @ (
        np.eye(6) + 0.2 * np.random.default_rng(1).normal(size=(6, 6))
    )
    return torch.from_numpy((means[labels] + noise).astype(np.float32)), labels


def test_the_projection_is_the_linear_discriminant_analysis() -> None:
    network = network_of(config_of())
    network.projection[1].running_mean.fill_(3.0)  # whatever was there before
    points, labels = classes(3)
    fit_projection(network, points, labels, 4)
    values = points.double().numpy()
    centred = values - values.mean(axis=0)
    means = np.stack([centred[labels == c].mean(axis=0) for c in range(4)])
    inner = centred - means[labels]
    within, between = inner.T @ inner / len(values), means.T @ means / 4
    _, vectors = eigh(between, within)  # vᵗ·within·v = 1, the largest ratio last
    projected = network.projection(points).double().numpy()
    assert np.abs(projected[:, 3:]).max() == 0  # four singers have three discriminants
    np.testing.assert_allclose(projected[:, :3].mean(axis=0), 0, atol=1e-4)
    for place in range(3):
        expected = centred @ vectors[:, -1 - place]
        cosine = expected @ projected[:, place]
        cosine /= np.linalg.norm(expected) * np.linalg.norm(projected[:, place])
        assert abs(cosine) > 0.999
    inside = (
        projected[:, :3]
        - np.stack([projected[labels == c, :3].mean(axis=0) for c in range(4)])[labels]
    )
    np.testing.assert_allclose(inside.T @ inside / len(inside), np.eye(3), atol=0.03)


def test_class_weights_are_the_directions_of_mean_embeddings() -> None:
    network = network_of(config_of())
    points, labels = classes(4)
    head = fit_projection(network, points, labels, 4)
    raw = network.projection(points).double().numpy()
    embeddings = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    for c in range(4):
        mean = embeddings[labels == c].mean(axis=0)
        np.testing.assert_allclose(head[c], mean / np.linalg.norm(mean), atol=1e-4)


def test_it_tells_voices_apart_that_it_never_heard() -> None:
    config = config_of()
    network, said = network_of(config), []
    head, likelihood = fit_network(network, Voices(5, 40), 5, config.train, said.append)
    right = [(network(wave) @ head.T).argmax(dim=1) == labels for wave, labels in Voices(6, 20)]
    assert torch.cat(right).float().mean() > 0.9
    told = [float(line.rsplit(" ", 1)[1]) for line in said if line.startswith("total")]
    assert len(told) == 3
    assert told == sorted(told)
    assert told[-1] == pytest.approx(likelihood, abs=0.1)


def test_every_singer_must_be_heard() -> None:
    config = config_of()
    for singers, heard in ((1, 1), (6, 5)):
        with pytest.raises(UserError, match="needs 2 or more, and crops of each"):
            fit_network(
                network_of(config), Voices(7, 3, heard), singers, config.train, lambda _: None
            )


# The member --------------------------------------------------------------------------------------


def fit(run: Run, config: MemberConfig, name: str = "m", **options: Any) -> tuple[Member, str]:
    said: list[str] = []
    catalogue = read_catalogue(run.catalogue)
    options = {"device": "cpu", "say": said.append, **options}
    return train_member(run, catalogue, name, config, **options), "\n".join(said)


def test_it_becomes_a_member_as_any_other(prepared: Run, tiny: Tiny) -> None:
    config = tiny(backbone="ivector", crops_per_song=9)
    member, said = fit(prepared, config)
    assert "parameters, fitted without a loss, on cpu" in said
    assert "epoch   1/1  loss" in said
    assert member.config == config
    assert member.head is not None
    assert member.head.shape == (4, 16)
    with prepared.log("m").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["best"] == "1"
    about = read_json(prepared.member("m") / "config.json")["about"]
    assert about["validation"]["top1"] == float(row["top1"])
    assert about["remixed"] is True
    buffers = sum(b.numel() for b in member.network.backbone.buffers())
    assert about["parameters"] == buffers + 8 * 16 + 3 * 16  # with the projection and its norm
    assert count_parameters(member.network.backbone) == buffers
    folder = prepared.member("m")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    expected = {"config.json", "labels.json", "log.csv", "model.safetensors"}
    assert files == {*expected, "resume/settings.json"}

    catalogue = read_catalogue(prepared.catalogue)
    store = embed_split(prepared, catalogue, load_member(prepared, "m"), "validation")
    np.testing.assert_allclose(np.linalg.norm(store.embeddings, axis=1), 1, atol=1e-5)
    assert store.segment_logits is not None
    songs = [store.segment_logits[store.segments_of(n)].mean(axis=0).argmax() for n in range(4)]
    agree = np.mean(np.array(songs) == store.labels)
    assert abs(agree - float(row["top1"])) <= 0.25  # another grid, one song more or less

    _, again = fit(prepared, config)
    assert again == "m is already trained with these settings; --overwrite trains it again"


def test_the_same_fit_gives_the_same_weights_and_another_seed_others(
    prepared: Run, tiny: Tiny
) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        fit(prepared, tiny(backbone="ivector", crops_per_song=6, seed=seed), name)
    one, same, other = (load_file(prepared.weights(name)) for name in ("one", "same", "other"))
    assert all(torch.equal(tensor, same[key]) for key, tensor in one.items())
    assert not torch.equal(one["backbone.means"], other["backbone.means"])
    assert not torch.equal(one["backbone.variability"], other["backbone.variability"])


def test_a_fit_that_was_cut_off_begins_anew(prepared: Run, tiny: Tiny) -> None:
    config = tiny(backbone="ivector", crops_per_song=6)

    class CutOff(BaseException):
        pass

    def say(text: str) -> None:
        if text.startswith("total variability   2"):
            raise CutOff

    with pytest.raises(CutOff):
        fit(prepared, config, say=say)
    assert prepared.member_names() == []
    fit(prepared, config)
    fit(prepared, config, "undisturbed")
    one, other = load_file(prepared.weights("m")), load_file(prepared.weights("undisturbed"))
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_a_loss_is_refused(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="ivector is fitted without a loss: leave --loss out"):
        tiny(backbone="ivector", loss="triplet")


def test_one_singer_is_refused(prepared: Run, tiny: Tiny) -> None:
    songs = read_catalogue(prepared.catalogue).songs
    one = tuple(song for song in songs if song.singer == songs[0].singer)
    write_catalogue(prepared.catalogue, Catalogue(one))
    with pytest.raises(UserError, match="it needs 2 or more"):
        fit(prepared, tiny(backbone="ivector", crops_per_song=6))
