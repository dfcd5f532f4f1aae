"""The detector's numbers, recomputed with scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from embedder.catalogue import read_catalogue
from embedder.data.cache import AudioCache, no_progress
from embedder.data.voice_activity import smoothed, sung
from embedder.models.detector import VoiceDetector
from embedder.run import Run
from embedder.training import detector_accuracy as detector_accuracy
from embedder.training.detector_accuracy import Frames, accuracy_of, measure_detection, rows_of


def songs(count: int = 6, skill: float = 1.0, seed: int = 0) -> list[Frames]:
    """Songs of different lengths; probabilities know the truth as well as `skill` says."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = np.repeat(rng.random(30) < 0.6, rng.integers(4, 12))
        logits = skill * (2 * truth - 1) + rng.normal(0, 1, len(truth))
        found.append((1 / (1 + np.exp(-logits)), truth))
    return found


def test_every_number_is_the_library_s() -> None:
    some = songs()
    row = accuracy_of("x", some)
    truth = np.concatenate([t for _, t in some])
    said = np.concatenate([smoothed(p >= 0.5) for p, _ in some])
    probability = np.concatenate([p for p, _ in some])
    assert (row.songs, row.frames) == (6, len(truth))
    assert row.sung == pytest.approx(truth.mean())
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, said),
        "precision": sklearn_metrics.precision_score(truth, said),
        "recall": sklearn_metrics.recall_score(truth, said),
        "f1": sklearn_metrics.f1_score(truth, said),
        "auc": sklearn_metrics.roc_auc_score(truth, probability),
    }
    for name, value in expected.items():
        found = getattr(row, name)
        assert found.value == pytest.approx(value, abs=1e-3 if name == "auc" else 1e-9), name
        assert found.low <= found.value <= found.high
        assert found.low < found.high


def test_the_area_counts_ties_half() -> None:
    """Four levels of probability: the library's area is met exactly."""
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.5
    probability = np.round(0.4 * truth + 0.6 * rng.random(300), 1) * 0.9
    row = accuracy_of("x", [(probability[:100], truth[:100]), (probability[100:], truth[100:])])
    expected = sklearn_metrics.roc_auc_score(truth, probability)
    assert row.auc.value == pytest.approx(expected, abs=1e-12)
    assert accuracy_of("x", [(np.full(300, 0.3), truth)] * 2).auc.value == 0.5


def test_intervals_are_over_songs_not_frames() -> None:
    """The same frames as two good songs and one bad one, or cut into many mixed songs."""
    good, bad = songs(2, 6.0), songs(1, -6.0, seed=1)
    whole = accuracy_of("x", [*good, *bad])
    order = np.random.default_rng(0).permutation(sum(len(t) for _, t in (*good, *bad)))
    frames = [np.concatenate(parts)[order] for parts in zip(*good, *bad, strict=True)]
    cuts = [np.array_split(part, 30) for part in frames]
    mixed = accuracy_of("x", list(zip(*cuts, strict=True)))
    assert mixed.auc.value == pytest.approx(whole.auc.value, abs=1e-3)
    assert whole.auc.high - whole.auc.low > 3 * (mixed.auc.high - mixed.auc.low)


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_frame_alone_measures_nothing(value: bool) -> None:
    with pytest.raises(ValueError, match="frames with and frames without voice"):
        accuracy_of("x", [(np.full(9, 0.5), np.full(9, value))])


def test_a_run_s_songs_are_heard_under_three_conditions(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ear that hears nothing but where the wave is loud at 0 Hz: the vocals are marked by it."""
    cache = AudioCache(prepared.cache)
    songs = read_catalogue(prepared.catalogue).of("validation")
    moved = []
    for number, song in enumerate(songs):
        late = np.concatenate([np.zeros(1105, np.int16), cache.samples(song.audio)])
        cache.write(f"late{number}", late[:-1105])
        moved.append(replace(song, audio=f"late{number}"))
    heard: list[np.ndarray] = []

    def oracle(_: VoiceDetector, wave: np.ndarray) -> np.ndarray:
        heard.append(np.array(wave))
        vocals = cache.samples(moved[(len(heard) - 1) // 3].vocals)
        if len(heard) % 3 == 0:
            vocals = np.concatenate([np.zeros(1105, np.int16), vocals])[: len(wave)]
        return sung(vocals).astype(np.float32)

    monkeypatch.setattr(detector_accuracy, "voice_probability", oracle)
    rows = measure_detection(VoiceDetector(), moved, cache, no_progress)
    assert [row.condition for row in rows] == ["vocals + backing", "vocals 8 dB lower", "mixture"]
    for row in rows:  # the truth of the mixture has moved with the mixture
        assert (row.songs, row.accuracy.value, row.auc.value) == (4, 1, 1), row.condition
    vocals, backing = (cache.samples(k).astype(int) for k in (moved[0].vocals, moved[0].backing))
    assert np.array_equal(heard[0], vocals + backing)
    np.testing.assert_allclose(heard[1], 10**-0.4 * vocals + backing, atol=1)
    assert np.array_equal(heard[2], cache.samples("late0"))


def test_of_many_songs_some_are_measured(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_accuracy, "MOST_SONGS", 3)
    counts = []

    def progress(items: object, total: int, _: str) -> object:
        counts.append(total)
        return items

    torch.manual_seed(0)
    songs = read_catalogue(prepared.catalogue).songs
    rows = measure_detection(VoiceDetector().eval(), songs, AudioCache(prepared.cache), progress)  # type: ignore[arg-type]
    assert counts == [3]
    assert {row.songs for row in rows} == {3}
    assert rows_of(rows)[0]["frame_s"] == 0.05


def test_songs_without_a_pause_give_no_row(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    always = lambda wave: np.ones(-(-len(wave) // 800), bool)  # noqa: E731
    monkeypatch.setattr(detector_accuracy, "sung", always)
    songs = read_catalogue(prepared.catalogue).of("validation")[:1]
    assert measure_detection(VoiceDetector().eval(), songs, AudioCache(prepared.cache)) == []
