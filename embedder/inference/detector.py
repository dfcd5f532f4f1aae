"""A voice detector on disk, and where someone sings in a song: `active (frames,)`, 50 ms each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.artifact import file_fingerprint, write_json
from embedder.catalogue import Song
from embedder.data.audio import FULL_SCALE
from embedder.data.cache import AudioCache
from embedder.data.voice_activity import FRAME, Active, smoothed, sung
from embedder.errors import Command
from embedder.models.detector import VoiceDetector
from embedder.models.weights import load_weights, read_weights, save_weights, tensors_of
from embedder.run import Run

THRESHOLD = 0.5  # probability from which a frame counts as sung; fixed, not fitted
CHUNK = 200  # frames that the network takes at once: 10 s
EDGE = 20  # frames next to a chunk's start that the chunk before answers for: 1 s
BATCH = 8  # chunks of one song at a time
AGAIN = Command("train-detector", before="train it again", overwrite=True)


@dataclass(frozen=True, eq=False)
class Detector:
    """A trained network in eval mode."""

    network: VoiceDetector
    fingerprint: str  # of the weights file


def save_detector(
    run: Run, network: VoiceDetector, about: dict[str, Any], accuracy: list[dict[str, Any]]
) -> None:
    """Write the detector's folder: how it was trained and how good it is, and the weights last."""
    write_json(run.detector / "accuracy.json", accuracy)
    write_json(run.detector / "config.json", {"format": 1, **about})
    beside = [run.detector / "config.json", run.detector / "accuracy.json"]
    save_weights(run.detector_weights, "voice detector", tensors_of(network), beside)


def load_detector(run: Run, device: torch.device | None = None) -> Detector | None:
    """The run's voice detector, read strictly; None where none is trained.

    Raises:
        UserError: the file cannot be read, is of another format, or does not fit the network.
    """
    path = run.detector_weights
    if not path.is_file():
        return None
    network = VoiceDetector()
    tensors = read_weights(path, "voice detector", [], AGAIN)
    load_weights(network, tensors, path, "the voice detector", AGAIN)
    return Detector(network.to(device or torch.device("cpu")), file_fingerprint(path))


def voice_probability(network: VoiceDetector, wave: NDArray[np.int16]) -> NDArray[np.float32]:
    """The probability of voice in each 50 ms of a mixture `(samples,)`: (ceil(samples / 800),).

    The network, in eval mode, takes 10 s at a time, of which it has the first second for context. A
    song shorter than that is repeated: silence would be something that it never met in training.
    """
    frames = -(-len(wave) // FRAME)
    if frames < CHUNK:
        whole = np.resize(wave, CHUNK * FRAME)
        starts = np.zeros(1, dtype=np.int64)
    else:
        whole = np.zeros(frames * FRAME, dtype=np.int16)
        whole[: len(wave)] = wave
        starts = np.append(np.arange(0, frames - CHUNK, CHUNK - 2 * EDGE), frames - CHUNK)
    windows = np.lib.stride_tricks.sliding_window_view(whole, CHUNK * FRAME)
    device = next(network.parameters()).device
    found = np.zeros(max(frames, CHUNK), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(starts), BATCH):
            part = starts[first : first + BATCH]
            batch = torch.from_numpy(windows[part * FRAME].astype(np.float32) / FULL_SCALE)
            voice = torch.sigmoid(network(batch.to(device))).cpu().numpy()
            for start, values in zip(part, voice, strict=True):
                skipped = EDGE if start else 0
                found[start + skipped : start + CHUNK] = values[skipped:]
    return found[:frames]


def detected(detector: Detector, wave: NDArray[np.int16]) -> Active:
    """Whether someone sings in each 50 ms of a mixture `(samples,)`: `active (frames,)`."""
    return smoothed(voice_probability(detector.network, wave) >= THRESHOLD)


def active_frames(detector: Detector | None, wave: NDArray[np.int16], stem: str) -> Active | None:
    """`active (frames,)` of the input of a member with this `stem`; None without a detector.

    A vocal stem is judged by its energy, all else by the detector.
    """
    if detector is None:
        return None
    return sung(wave) if stem == "vocals" else detected(detector, wave)


class Voices:
    """Where someone sings in a run's songs; each recording is judged once, for all members."""

    def __init__(self, detector: Detector | None, cache: AudioCache) -> None:
        self.detector, self.cache = detector, cache
        self.known: dict[tuple[str, str], Active | None] = {}

    def of(self, key: str, stem: str) -> Active | None:
        """`active (frames,)` of the cache's recording `key`, the input of a member with `stem`."""
        if (key, stem) not in self.known:
            self.known[key, stem] = active_frames(self.detector, self.cache.samples(key), stem)
        return self.known[key, stem]

    def of_song(self, song: Song) -> Active | None:
        """`active (frames,)` of a song: by its vocal stem, else by the detector, else None."""
        if song.vocals:
            return sung(self.cache.samples(song.vocals))
        return self.of(song.audio, "mix")
