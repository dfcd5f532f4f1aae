"""The pitch and the timbre of a stretch of singing.

Enters: `wave (samples,)`, float32 at 16 kHz. Leaves: the fundamental frequency of each frame by
pYIN, and a few numbers on the spectrum of chosen frames, by librosa. Frames lie 20 ms apart, the
first is centred on the first sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from embedder.config import SAMPLE_RATE
from embedder.measures.voice_rows import CEPSTRA

HOP = 320  # samples: 20 ms
WINDOW = 1024  # samples: 64 ms, four periods of the lowest pitch
LOWEST, HIGHEST = 65.0, 1050.0  # Hz: C2 to C6, from low male to high female voices
STEP = 0.2  # semitones between pitches that can be told apart: at most 0.1 wrong
MELS = 40
TILT = (100.0, 5000.0)  # Hz
QUIET = 1e-6  # a stretch of less power is silence

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of frames, from which descriptors are taken when all of a song is together."""

    power: Floats  # (bins, frames), of a wave of root mean square 0.1

    def centroid(self) -> Floats:
        """Mean frequency of each frame's magnitudes (frames,), Hz."""
        magnitude = np.sqrt(self.power)
        return np.asarray(librosa.feature.spectral_centroid(S=magnitude, sr=SAMPLE_RATE)[0])

    def flatness(self) -> Floats:
        """Geometric to arithmetic mean of each frame's power (frames,), dB: 0 is noise."""
        found = librosa.feature.spectral_flatness(S=np.sqrt(self.power), power=2.0)[0]
        return np.asarray(10 * np.log10(found))

    def tilt(self) -> float:
        """Slope of the mean spectrum over octaves by least squares, dB an octave."""
        hertz = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=WINDOW)
        inside = (hertz >= TILT[0]) & (hertz <= TILT[1])
        octaves = np.log2(hertz[inside])
        # Bins are evenly spaced in Hz: without weights the highest octave would count for all.
        level = 10 * np.log10(self.power[inside].mean(axis=1) + 1e-10)
        return float(np.polyfit(octaves, level, 1, w=np.sqrt(1 / hertz[inside]))[0])

    def mfcc(self) -> Floats:
        """Means of the cepstral coefficients of the mel spectrum, without the first (CEPSTRA,)."""
        mel = librosa.feature.melspectrogram(S=self.power, sr=SAMPLE_RATE, n_mels=MELS)
        found = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=CEPSTRA + 1)
        return np.asarray(found[1:].mean(axis=1))


def pitch(wave: NDArray[np.float32]) -> Floats:
    """Fundamental frequency of each frame (1 + samples // 320,), Hz; NaN where there is none.

    pYIN (Mauch & Dixon, ICASSP 2014) as librosa has it, from 65 to 1,050 Hz.
    """
    if not _sounds(wave):
        return np.full(1 + len(wave) // HOP, np.nan)
    f0, voiced, _ = librosa.pyin(
        wave,
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=SAMPLE_RATE,
        frame_length=WINDOW,
        hop_length=HOP,
        resolution=STEP,
    )
    return np.where(voiced, f0, np.nan)


def spectra(wave: NDArray[np.float32]) -> Spectra:
    """Spectra of the frames for which `pitch` gives a value, at one level of the stretch."""
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    scale = 0.1 / level if _sounds(wave) else 0.0
    transform = librosa.stft(wave * np.float32(scale), n_fft=WINDOW, hop_length=HOP)
    return Spectra(np.square(np.abs(transform), dtype=np.float64))


def _sounds(wave: NDArray[np.float32]) -> bool:
    return len(wave) > WINDOW and float(np.mean(np.square(wave, dtype=np.float64))) > QUIET
