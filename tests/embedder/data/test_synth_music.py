"""The bands and productions: whether albums differ, and alike for every singer."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks, periodogram

from embedder.data import synth_music
from embedder.data.synth_music import (
    FRAMES,
    MAJOR,
    UPPER_FORMANTS,
    VOWELS,
    Melody,
    Plan,
    Voice,
    compose,
    draw_album,
    draw_voice,
    glottal_source,
    sing,
    tract_response,
)

RATE = 16000


def test_albums_say_nothing_of_their_singer() -> None:
    """Over many albums, no setting of the production separates one singer's from another's."""
    table = np.array(
        [
            [
                (a.tempo, a.rolloff, a.decay_s, a.balance, a.snare_s, *a.mixer)
                for album in range(40)
                for a in [draw_album(0, singer, album, RATE)]
            ]
            for singer in range(6)
        ]
    )
    between = table.mean(1).std(0)
    within = table.std(1).mean(0)
    assert (within > 0.05 * np.abs(table.mean((0, 1)))).all()  # albums do differ
    assert (between < 0.35 * within).all()  # 1 / sqrt(40) = 0.16 is expected by chance


def test_the_balance_of_an_album_lies_between_0_and_8_db() -> None:
    for seed in range(30):
        balance_db = 20 * np.log10(draw_album(seed, 0, 0, RATE).balance)
        assert 0 <= balance_db <= 8


def melody(voice: Voice, seed: int = 0) -> Melody:
    return compose(voice, Plan(2, 2.0, 8), np.random.default_rng(seed))


@pytest.mark.parametrize("singer", range(6))
def test_pitch_stays_in_the_singers_range_and_follows_the_key(singer: int) -> None:
    voice = draw_voice(5, singer)
    track = melody(voice, singer)
    pitch = 69 + 12 * np.log2(track.f0 / 440)
    margin = voice.vibrato + 0.5
    assert pitch.min() > voice.register - voice.span - margin
    assert pitch.max() < voice.register + voice.span + margin
    assert np.ptp(pitch) > 3
    steady = melody(dataclasses.replace(voice, vibrato=0.0), singer)
    notes = 69 + 12 * np.log2(steady.f0[steady.level > 0.3] / 440)
    degrees = np.bincount(np.round(notes).astype(int) % 12, minlength=12)
    in_key = degrees[[(2 + step) % 12 for step in MAJOR]].sum()
    assert in_key > 0.85 * degrees.sum()


def test_sung_pitch_is_the_melodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth_music, "CONSONANTS", ((900, 1.0, 0.025, 0.0),) * 6)
    voice = dataclasses.replace(draw_voice(0, 1), breath=0.0)
    track = melody(voice)
    wave = sing(voice, track, 15 * RATE, RATE, np.random.default_rng(0))
    errors = []
    for start in range(0, 14 * FRAMES, 50):
        here = slice(start, start + 12)  # 60 ms
        if track.level[here].min() < 0.3 or np.ptp(track.f0[here]) > 4:
            continue
        part = wave[start * 80 : (start + 12) * 80] * np.hanning(960)
        correlation = np.correlate(part, part, "full")[960:]
        lags = np.arange(1, 960)[: len(correlation)]
        allowed = (lags > RATE / 600) & (lags < RATE / 80)
        found = RATE / lags[allowed][np.argmax(correlation[: len(lags)][allowed])]
        errors.append(abs(12 * np.log2(found / track.f0[here].mean())))
    assert len(errors) > 10
    assert np.median(errors) < 0.5  # semitones; one lag is a tenth to a third of one


@pytest.mark.parametrize("seed", range(8))
def test_some_bars_are_sung_and_some_are_not(seed: int) -> None:
    voice = draw_voice(seed, 0)
    for bar_s, bars in ((1.74, 4), (2.7, 3), (2.0, 6)):
        plan = Plan(0, bar_s, bars)
        track = compose(voice, plan, np.random.default_rng(seed))
        per_bar = round(bar_s * FRAMES)
        inner = [track.level[b * per_bar + 20 : (b + 1) * per_bar - 20] for b in range(bars)]
        silent = [bool(levels.max() < 0.01) for levels in inner]
        assert 1 <= sum(silent) <= bars // 2


def test_vocals_are_quiet_where_nobody_sings() -> None:
    voice = draw_voice(0, 0)
    track = melody(voice)
    wave = sing(voice, track, 15 * RATE, RATE, np.random.default_rng(0))
    sung = np.repeat(track.level, 80)[: len(wave)] > 0.3
    away = np.ones(len(wave), dtype=bool)
    for start_s in (s for s, _ in track.consonants):
        away[max(0, int((start_s - 0.05) * RATE)) : int((start_s + 0.2) * RATE)] = False
    rests = np.repeat(track.level, 80)[: len(wave)] < 1e-6
    assert (rests & away).sum() > 2 * RATE
    assert np.std(wave[rests & away]) < 0.01 * np.std(wave[sung])


def formant_peaks(voice: Voice) -> NDArray[np.float64]:
    """The first three formants of an /er/ held by `voice`, read off the rendered waveform."""
    low_three = (*VOWELS["er"], *UPPER_FORMANTS)
    frames = 2 * FRAMES + 1
    formants = np.array(low_three)[:, None] * voice.tract * np.ones(frames)
    glide = np.linspace(80.0, 95.0, frames)  # a glide fills the gaps between harmonics
    track = Melody(glide, np.ones(frames), formants, ())
    wave = sing(voice, track, 2 * RATE, RATE, np.random.default_rng(0))
    wave = np.diff(wave)  # lifts the upper formants
    power = periodogram(wave, RATE)[1][: 2 * 4000]
    smooth = np.convolve(power, np.hanning(300), "same")  # over 75 Hz, about one harmonic
    peaks, _ = find_peaks(np.log(smooth), prominence=0.7, distance=400)
    return np.asarray(peaks[peaks > 500][:3] / 2)


@pytest.mark.parametrize("tract", [0.85, 1.0, 1.2])
def test_formants_of_the_waveform_tell_the_tract_length(tract: float) -> None:
    voice = dataclasses.replace(draw_voice(0, 0), damping=0.8, breath=0.0, tilt_hz=4000.0)
    found = formant_peaks(dataclasses.replace(voice, tract=tract))
    reference = np.array(VOWELS["er"])
    assert found == pytest.approx(reference * tract, rel=0.06)


def test_a_shorter_tract_scales_every_formant_of_the_same_melody() -> None:
    voice = draw_voice(0, 0)
    long, short = (melody(dataclasses.replace(voice, tract=tract)) for tract in (0.9, 1.2))
    np.testing.assert_allclose(short.formants, long.formants * 1.2 / 0.9)
    np.testing.assert_array_equal(short.f0, long.f0)
    lowest, highest = long.formants[0].min(), long.formants[0].max()
    assert lowest < 0.9 * 400 < 0.9 * 600 < highest  # several vowels are sung


def test_tract_resonates_at_its_formants_with_their_bandwidths() -> None:
    formants = np.full((1, 1), 500.0)
    frequency = np.linspace(300.0, 700.0, 8001)[:, None]
    gain = np.abs(tract_response(frequency, formants * np.ones((1, 1)), 1.0))[:, 0]
    assert frequency[np.argmax(gain), 0] == pytest.approx(500, abs=3)
    half_power = frequency[gain**2 > gain.max() ** 2 / 2, 0]
    assert np.ptp(half_power) == pytest.approx(50 * (1 + 500**2 / 6e6), rel=0.02)
    assert tract_response(np.zeros((1, 1)), formants, 1.0)[0, 0] == 1


def test_open_quotient_and_tilt_shape_the_source() -> None:
    pressed = dataclasses.replace(draw_voice(0, 0), open_quotient=0.4, tilt_hz=3000.0)
    lax = dataclasses.replace(pressed, open_quotient=0.8)
    f0 = np.full(1, 100.0)
    frequency = np.array([[100.0], [200.0], [2000.0], [4000.0]])
    pressed_db = 20 * np.log10(np.abs(glottal_source(frequency, f0, pressed)))[:, 0]
    lax_db = 20 * np.log10(np.abs(glottal_source(frequency, f0, lax)))[:, 0]
    assert lax_db[0] - lax_db[1] > pressed_db[0] - pressed_db[1] + 3  # lax voices: strong H1
    dark = dataclasses.replace(pressed, tilt_hz=500.0)
    dark_db = 20 * np.log10(np.abs(glottal_source(frequency, f0, dark)))[:, 0]
    assert pressed_db[2] - pressed_db[3] == pytest.approx(6.02 + 10 * np.log10(25 / 13), abs=0.2)
    assert dark_db[2] - dark_db[3] == pytest.approx(12, abs=0.4)


def test_breath_fills_the_gaps_between_harmonics() -> None:
    clear = dataclasses.replace(draw_voice(0, 0), breath=0.0)
    frames = 201
    formants = np.array((*VOWELS["a"], *UPPER_FORMANTS))[:, None] * np.ones(frames)
    track = Melody(np.full(frames, 200.0), np.ones(frames), formants, ())

    def harmonic_to_noise(voice: Voice) -> float:
        wave = sing(voice, track, RATE, RATE, np.random.default_rng(0))[: RATE - 200]
        power = periodogram(wave[2000:14000], RATE, window="hann")[1]
        near = np.abs((np.arange(len(power)) * RATE / 12000 + 100) % 200 - 100) < 10
        return float(10 * np.log10(power[near].sum() / power[~near].sum()))

    assert harmonic_to_noise(clear) > 40
    breathy = [harmonic_to_noise(dataclasses.replace(clear, breath=b)) for b in (0.01, 0.1)]
    assert breathy[0] - breathy[1] == pytest.approx(20, abs=1.5)


def test_tract_lengths_are_spread_and_registers_overlap() -> None:
    for seed in range(10):
        voices = [draw_voice(seed, singer) for singer in range(6)]
        tracts = np.sort([voice.tract for voice in voices])
        assert np.diff(tracts).min() > 0.02
        assert 0.84 <= tracts[0] < 0.95
        assert 1.06 < tracts[-1] <= 1.22
        lowest = max(voice.register - voice.span for voice in voices)
        highest = min(voice.register + voice.span for voice in voices)
        assert highest - lowest >= 8  # semitones that everybody can sing
    assert draw_voice(0, 1) == draw_voice(0, 1)
