"""A voice detector on disk and at work: strict files, whole songs in pieces, each judged once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from embedder.artifact import file_fingerprint, read_json
from embedder.catalogue import read_catalogue
from embedder.data.cache import AudioCache
from embedder.data.voice_activity import FRAME, smoothed, sung
from embedder.errors import UserError
from embedder.inference import detector as detector
from embedder.inference.config import detector_fingerprint
from embedder.inference.detector import (
    CHUNK,
    EDGE,
    Detector,
    Voices,
    active_frames,
    detected,
    load_detector,
    save_detector,
    voice_probability,
)
from embedder.models.detector import VoiceDetector
from embedder.run import Run, create_run


@pytest.fixture(scope="module")
def network() -> VoiceDetector:
    torch.manual_seed(0)
    return VoiceDetector().eval().requires_grad_(False)


def noise(frames: float, seed: int = 0) -> NDArray[np.int16]:
    """Noise that comes and goes, as no part of a song is like the next."""
    rng = np.random.default_rng(seed)
    samples = round(frames * FRAME)
    swell = 1 + np.sin(np.arange(samples) / 3000 + rng.uniform(0, 6))
    return np.round(swell * rng.normal(0, 2000, samples)).astype(np.int16)


@pytest.fixture
def run(tmp_path: Path, network: VoiceDetector) -> Run:
    made = create_run(tmp_path / "run")
    save_detector(made, network, {"seed": 0}, [{"condition": "mixture"}])
    return made


# On disk ----------------------------------------------------------------------------------------


def test_a_detector_comes_back_as_it_was_saved(run: Run, network: VoiceDetector) -> None:
    found = load_detector(run)
    assert found is not None
    assert not found.network.training
    wave = noise(30)
    assert np.array_equal(voice_probability(found.network, wave), voice_probability(network, wave))
    assert found.fingerprint == file_fingerprint(run.detector_weights) == detector_fingerprint(run)
    assert read_json(run.detector / "accuracy.json") == [{"condition": "mixture"}]
    first = run.detector_weights.read_bytes()
    save_detector(run, network, {"seed": 0}, [{"condition": "mixture"}])
    assert run.detector_weights.read_bytes() == first
    save_detector(run, network, {"seed": 1}, [{"condition": "mixture"}])
    assert run.detector_weights.read_bytes() != first


def test_a_run_without_one_has_none(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    assert load_detector(run) is None
    assert detector_fingerprint(run) == ""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"model\.safetensors is not a readable voice detector"),
        ("text", "is not a readable voice detector"),
        ("bare", "of format unknown, this program reads format 1"),
        ("future", "of format 2, this program reads format 1; use the newer program"),
        ("other", "does not fit the voice detector .*Missing key"),
        ("shape", "does not fit the voice detector .*size mismatch"),
    ],
)
def test_a_file_that_is_no_detector_is_one_clear_line(run: Run, kind: str, message: str) -> None:
    path = run.detector_weights
    tensors = load_file(path)
    metadata = {"made_from": json.dumps({"format": "1"})}
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "text":
        path.write_text("hello", encoding="utf-8")
    elif kind == "bare":
        save_file(tensors, path)
    elif kind == "future":
        save_file(tensors, path, {"made_from": json.dumps({"format": "2"})})
    elif kind == "other":
        save_file({"weight": torch.zeros(3)}, path, metadata)
    else:
        save_file({**tensors, "answer.1.bias": torch.zeros(2)}, path, metadata)
    with pytest.raises(UserError, match=message) as raised:
        load_detector(run)
    assert "python app.py train-detector --overwrite" in str(raised.value)
    assert "\n" not in str(raised.value)


# At work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [CHUNK, CHUNK + 1, 3 * CHUNK + 57.3])
def test_a_long_song_is_heard_in_pieces_with_context(frames: float, network: VoiceDetector) -> None:
    wave = noise(frames)
    found = voice_probability(network, wave)
    total = int(np.ceil(frames))
    assert found.shape == (total,)
    whole = np.zeros(total * FRAME, np.float32)
    whole[: len(wave)] = wave / 32768
    starts = [*range(0, total - CHUNK, CHUNK - 2 * EDGE), total - CHUNK]
    for frame in range(total):
        # The latest piece that began a second before the frame, or the first.
        start = max(s for s in starts if s == 0 or s + EDGE <= frame)
        piece = torch.from_numpy(whole[start * FRAME : (start + CHUNK) * FRAME])[None]
        if frame % 37 == 0 or frame == total - 1:
            slow = torch.sigmoid(network(piece))[0, frame - start]
            assert found[frame] == pytest.approx(float(slow), abs=1e-5)


def test_pieces_hear_nearly_what_the_whole_song_says(network: VoiceDetector) -> None:
    """A second of context is enough: the seams are not to be heard."""
    wave = noise(3 * CHUNK)
    whole = torch.sigmoid(network(torch.from_numpy(wave / np.float32(32768))[None]))[0].numpy()
    found = voice_probability(network, wave)
    assert np.abs(found - whole).max() < 0.1 * np.ptp(whole)


def test_a_short_song_is_repeated_not_followed_by_silence(network: VoiceDetector) -> None:
    wave = noise(10.5)
    found = voice_probability(network, wave)
    assert found.shape == (11,)
    repeated = np.resize(wave, CHUNK * FRAME)
    assert np.array_equal(found, voice_probability(network, repeated)[:11])


def test_a_frame_counts_from_a_probability_of_a_half(
    network: VoiceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.repeat(np.array([0.1, 0.5, 0.49, 0.9], np.float32), 10)
    monkeypatch.setattr(detector, "voice_probability", lambda *_: values)
    found = detected(Detector(network, "x"), noise(40))
    assert np.array_equal(found, smoothed(values >= 0.5))
    assert found.tolist() == [False] * 10 + [True] * 10 + [False] * 10 + [True] * 10


def test_vocals_are_judged_by_energy_and_mixtures_by_the_detector(network: VoiceDetector) -> None:
    wave, judge = noise(60), Detector(network, "x")
    assert active_frames(None, wave, "mix") is None
    assert active_frames(None, wave, "vocals") is None
    by_energy, by_ear = active_frames(judge, wave, "vocals"), active_frames(judge, wave, "mix")
    assert by_energy is not None
    assert by_ear is not None
    assert np.array_equal(by_energy, sung(wave))
    assert np.array_equal(by_ear, detected(judge, wave))


def test_a_recording_is_judged_once(
    prepared: Run,
    put_detector: Callable[[Run, float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_detector(prepared, 20.0)
    judged = []
    whole = detector.detected

    def counted(judge: Detector, wave: NDArray[np.int16]) -> NDArray[np.bool_]:
        judged.append(len(wave))
        return whole(judge, wave)

    monkeypatch.setattr(detector, "detected", counted)
    song = read_catalogue(prepared.catalogue).songs[0]
    voices = Voices(load_detector(prepared), AudioCache(prepared.cache))
    first, second = (voices.of(song.audio, "mix") for _ in range(2))
    assert first is second
    assert first is not None
    assert first.all()
    assert len(judged) == 1
    stem = voices.of(song.vocals, "vocals")
    assert stem is not None
    assert np.array_equal(stem, sung(AudioCache(prepared.cache).samples(song.vocals)))
    assert len(judged) == 1


def test_a_song_s_own_stem_is_believed_before_the_detector(
    prepared: Run, put_detector: Callable[[Run, float], None]
) -> None:
    put_detector(prepared, 20.0)
    cache = AudioCache(prepared.cache)
    song = read_catalogue(prepared.catalogue).songs[0]
    bare = song.__class__(**{**vars(song), "vocals": "", "backing": ""})
    voices = Voices(load_detector(prepared), cache)
    by_stem, by_ear = voices.of_song(song), voices.of_song(bare)
    assert by_stem is not None
    assert by_ear is not None
    assert np.array_equal(by_stem, sung(cache.samples(song.vocals)))
    assert by_ear.all()
    assert not by_stem.all()
    shutil.rmtree(prepared.detector)
    assert Voices(load_detector(prepared), cache).of_song(bare) is None
