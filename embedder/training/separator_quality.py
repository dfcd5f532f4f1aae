"""How well a separator separates: SI-SDR of the vocals of validation songs, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embedder.artifact import read_json, write_json, write_text
from embedder.catalogue import Song
from embedder.config import SAMPLE_RATE
from embedder.data.augment import QUIET, rms
from embedder.data.cache import AudioCache, Progress, no_progress
from embedder.data.datasets import cross_mixture, own_mixture
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.statistics import bootstrap_interval, mean_of
from embedder.text import to_csv

MIXTURES = {
    "own backing": "the song's own stems, as they are",
    "0 dB": "the vocals as loud as another song's backing",
    "-8 dB": "the vocals 8 dB below another song's backing",
}
QUICK_SONGS, QUICK_S = 40, 10.0  # what is measured after each epoch


@dataclass(frozen=True)
class SongQuality:
    """SI-SDR of one song's vocals in one mixture, dB."""

    song: str
    album: str  # "singer/album"
    mixture: str  # key of `MIXTURES`
    before: float  # of the mixture itself
    after: float  # of the separated vocals

    @property
    def gain(self) -> float:
        return self.after - self.before


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio, `(…, samples)` → `(…,)`, dB, in float64.

    Source: Le Roux et al., SDR – half-baked or well done?, ICASSP 2019, by torchmetrics.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    return scale_invariant_signal_distortion_ratio(estimate.double(), target.double())


def measure_separation(
    separator: VocalSeparator,
    songs: Sequence[Song],
    cache: AudioCache,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[SongQuality]:
    """Every song in every kind of mixture; songs without any voice are left out.

    The other backing is that of the song some places further on, a random number of them, so
    that each is used once and never with its own vocals. A single song has no other backing.
    """
    sung = [s for s in songs if rms(cache.read(s.vocals, 0, cache.length(s.vocals))) >= QUIET]
    shift = int(np.random.default_rng(seed).integers(1, len(sung))) if len(sung) > 1 else 0
    rows = []
    for number, song in enumerate(progress(sung, len(sung), "separating validation songs")):
        other = sung[(number + shift) % len(sung)]
        mixed = {"own backing": own_mixture(song, cache)}
        if shift:
            mixed["0 dB"] = cross_mixture(song, other, cache, 0.0)
            mixed["-8 dB"] = cross_mixture(song, other, cache, -8.0)
        for kind, (mixture, vocals) in mixed.items():
            rows.append(_quality(separator, song, kind, mixture, vocals))
    return rows


def _quality(
    separator: VocalSeparator, song: Song, kind: str, mixture: Any, vocals: Any
) -> SongQuality:
    device = next(separator.parameters()).device
    mixed, target = torch.from_numpy(mixture), torch.from_numpy(vocals)
    with torch.inference_mode():
        estimate = separator.refined(mixed[None].to(device))[0].cpu()
    before, after = float(si_sdr(mixed, target)), float(si_sdr(estimate, target))
    return SongQuality(song.id, song.album_id, kind, before, after)


def summary(rows: Sequence[SongQuality], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per kind of mixture: songs; mean, 95 % interval and median before, after and of the gain."""
    found: dict[str, dict[str, Any]] = {}
    for kind, meaning in MIXTURES.items():
        own = [row for row in rows if row.mixture == kind]
        if not own:
            continue
        found[kind] = {"mixture": meaning, "songs": len(own)}
        for name in ("before", "after", "gain"):
            values = np.array([getattr(row, name) for row in own])
            estimate = bootstrap_interval(
                mean_of(values),
                len(values),
                seed,
                [row.album for row in own],
                limits=(-np.inf, np.inf),
            )
            found[kind][name] = {
                "mean": round(estimate.value, 3),
                "low": round(estimate.low, 3),
                "high": round(estimate.high, 3),
                "median": round(float(np.median(values)), 3),
            }
    return found


def write_quality(run: Run, rows: Sequence[SongQuality], seed: int) -> dict[str, dict[str, Any]]:
    """Write `quality.csv` (a row a song and mixture) and `quality.json` (`summary`)."""
    lines = ((row.song, row.mixture, round(row.before, 3), round(row.after, 3)) for row in rows)
    table = to_csv([("song", "mixture", "before", "after"), *lines])
    write_text(run.separator / "quality.csv", table)
    result = summary(rows, seed)
    write_json(run.separator / "quality.json", result)
    return result


def read_quality(run: Run) -> dict[str, dict[str, Any]]:
    """What `write_quality` wrote; `UserError` if it is missing or no JSON."""
    found: dict[str, dict[str, Any]] = read_json(run.separator / "quality.json")
    return found


class QuickCheck:
    """A look after each epoch: the middles of some songs, from their own stems as they are."""

    def __init__(self, songs: Sequence[Song], cache: AudioCache) -> None:
        every = max(1, -(-len(songs) // QUICK_SONGS))
        samples = round(QUICK_S * SAMPLE_RATE)
        self.pairs: list[tuple[Tensor, Tensor]] = []
        for song in songs[::every]:
            mixture, vocals = own_mixture(song, cache)
            start = max(0, (len(vocals) - samples) // 2)
            if rms(vocals[start : start + samples]) >= QUIET:
                piece = slice(start, start + samples)
                self.pairs.append(
                    (torch.from_numpy(mixture[piece]), torch.from_numpy(vocals[piece]))
                )

    def gain(self, separator: VocalSeparator) -> float:
        """Mean of SI-SDR after − before, dB; NaN without songs. The mode is as it was."""
        was, device = separator.training, next(separator.parameters()).device
        separator.eval()
        gains = []
        with torch.inference_mode():
            for mixture, vocals in self.pairs:
                estimate = separator(mixture[None].to(device))[0].cpu()
                gains.append(float(si_sdr(estimate, vocals) - si_sdr(mixture, vocals)))
        separator.train(was)
        return float(np.mean(gains)) if gains else float("nan")
