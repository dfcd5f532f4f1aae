"""The synthesised set: its files, its stems, and whether the voices differ as they claim to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import find_peaks, periodogram

from embedder.data import synth
from embedder.errors import UserError

RATE = 16000
SMALL = {"seed": 3, "singers": 2, "albums": 2, "songs": 1, "seconds": 6.0}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "songs"
    assert synth.synthesise(folder, **SMALL) == folder / "mix"
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def read(path: Path) -> NDArray[np.int16]:
    wave, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return np.asarray(wave)


def test_layout_is_the_same_below_each_stem(small: Path) -> None:
    expected = {
        synth.song_path(singer, album, 0).as_posix() for singer in range(2) for album in range(2)
    }
    for stem in ("mix", "vocals", "backing"):
        assert set(files(small / stem)) == expected
    assert {len(Path(name).parts) for name in expected} == {3}
    assert set(files(small)) == {f"{s}/{e}" for s in synth.STEMS for e in expected} | {"synth.json"}


def test_names_are_unique_plain_and_albums_sort_in_order() -> None:
    paths = [synth.song_path(*place) for place in np.ndindex(56, 5, 4)]
    assert len(set(paths)) == 56 * 5 * 4
    assert len({p.parts[0] for p in paths}) == 56
    assert all(p.as_posix().isascii() and p.parts[0] == p.parts[0].lower() for p in paths)
    albums = [synth.song_path(4, album, 0).parts[1] for album in range(12)]
    assert albums == sorted(albums)


def test_mix_is_the_sum_of_its_stems_and_does_not_clip(small: Path) -> None:
    for path in (small / "mix").rglob("*.flac"):
        name = path.relative_to(small / "mix")
        vocals, backing = (read(small / stem / name).astype(int) for stem in ("vocals", "backing"))
        mix = read(path)
        np.testing.assert_array_equal(mix, vocals + backing)
        assert len(mix) == 6 * RATE
        assert 1000 < np.abs(mix).max() < 32767


def test_same_seed_gives_the_same_bytes_another_seed_none_of_them(
    small: Path, tmp_path: Path
) -> None:
    synth.synthesise(tmp_path / "again", **SMALL)
    assert files(tmp_path / "again") == files(small)
    synth.synthesise(tmp_path / "other", **SMALL | {"seed": 4, "albums": 1})
    ours, theirs = set(files(small).values()), set(files(tmp_path / "other").values())
    assert not ours & theirs


def test_a_song_made_alone_equals_the_one_in_the_set(small: Path) -> None:
    vocals, backing = synth.render(synth.draw_voice(3, 1), (3, 1, 1, 0), 6.0, RATE)
    np.testing.assert_array_equal(read(small / "vocals" / synth.song_path(1, 1, 0)), vocals)
    np.testing.assert_array_equal(read(small / "backing" / synth.song_path(1, 1, 0)), backing)


def test_goes_on_where_it_was_interrupted(small: Path, tmp_path: Path) -> None:
    folder, calls = tmp_path / "songs", []

    def stop_after_two(done: int, total: int) -> None:
        calls.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.synthesise(folder, **SMALL, progress=stop_after_two)
    finished = files(folder)
    leftover = folder / "mix" / synth.song_path(0, 0, 0).parent / ".01-Song.flac.k3.flac"
    leftover.write_bytes(b"half")
    synth.synthesise(folder, **SMALL, progress=lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert files(folder) == files(small)
    assert len(finished) == 1 + 2 * 3


def test_a_finished_set_is_left_alone(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*.flac")}
    calls: list[tuple[int, int]] = []
    synth.synthesise(small, **SMALL, progress=lambda *call: calls.append(call))
    assert calls == []
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*.flac")} == before


def test_refuses_folders_that_are_not_its_own(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds synthesised songs of other settings"):
        synth.synthesise(small, **SMALL | {"seed": 9})
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not an empty folder"):
        synth.synthesise(tmp_path, **SMALL)
    with pytest.raises(UserError, match=r"is not an empty folder"):
        synth.synthesise(tmp_path / "mine.txt", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"singers": 0}, "singers must lie in 1 to 56"),
        ({"singers": 57}, "singers must lie in 1 to 56"),
        ({"songs": 0}, "albums and songs in 1 to 99"),
        ({"seconds": 2.0}, "seconds in 6 to 600"),
        ({"seconds": float("nan")}, "seconds in 6 to 600"),
        ({"rate": 8000}, "rate in 16000 to 48000 Hz"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_refuses_sizes_before_writing(
    wrong: dict[str, float], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        synth.synthesise(tmp_path / "songs", **SMALL | wrong)
    assert not (tmp_path / "songs").exists()


def test_backing_does_not_depend_on_who_sings() -> None:
    place = (0, 2, 1, 0)
    vocals, backing = synth.render(synth.draw_voice(0, 2), place, 6.0, RATE)
    other_vocals, other_backing = synth.render(synth.draw_voice(0, 4), place, 6.0, RATE)
    np.testing.assert_array_equal(backing, other_backing)
    assert np.corrcoef(vocals, other_vocals)[0, 1] < 0.5


def test_songs_of_an_album_share_band_and_production_but_not_the_notes() -> None:
    voice = synth.draw_voice(0, 0)
    first, second = (synth.render(voice, (0, 0, 1, song), 6.0, RATE)[1] for song in range(2))
    elsewhere = synth.render(voice, (0, 0, 2, 0), 6.0, RATE)[1]
    assert np.corrcoef(first, second)[0, 1] < 0.9

    def tone(wave: NDArray[np.int16]) -> NDArray[np.float64]:
        power = periodogram(wave / 32768, RATE)[1][1:48001].reshape(24, -1).mean(1)
        return 10 * np.log10(power)

    same, other = np.abs(tone(first) - tone(second)), np.abs(tone(first) - tone(elsewhere))
    assert same.mean() < 0.5 * other.mean()


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_levels_and_bandwidth_at_every_rate(rate: int) -> None:
    vocals, backing = synth.render(synth.draw_voice(1, 0), (1, 0, 0, 0), 6.0, rate)
    assert len(vocals) == len(backing) == 6 * rate
    frequency, power = periodogram((vocals.astype(int) + backing) / 32768, rate)
    assert power[frequency > 7900].sum() < 1e-4 * power.sum()
    assert power[(frequency > 2000) & (frequency < 4000)].sum() > 1e-4 * power.sum()


def render_balanced(
    balance: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stems in [-1, 1) of one song without equaliser and room, the vocals at a given balance."""
    drawn = synth.draw_album(0, 0, 0, RATE)
    dry = np.eye(1, 600, synth.DIRECT)[0]
    album = dataclasses.replace(drawn, balance=balance, response=dry)
    with monkeypatch.context() as patch:
        patch.setattr(synth, "draw_album", lambda *_: album)
        vocals, backing = synth.render(synth.draw_voice(0, 0), (0, 0, 0, 0), 6.0, RATE)
    return vocals / 32768, backing / 32768


def test_the_albums_balance_sets_the_vocals_against_the_backing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(30):
        balance_db = 20 * np.log10(synth.draw_album(seed, 0, 0, RATE).balance)
        assert -3 <= balance_db <= 5
    vocals, backing = render_balanced(1.0, monkeypatch)
    assert np.std(backing) == pytest.approx(0.05, rel=0.01)
    levels = np.sqrt((vocals.reshape(-1, 800) ** 2).mean(1))  # 50 ms each
    sung = levels > 0.2 * np.median(levels[levels > 0.005])
    assert np.sqrt((levels[sung] ** 2).mean()) == pytest.approx(0.05, rel=0.1)
    louder, same_backing = render_balanced(1.5, monkeypatch)
    np.testing.assert_allclose(louder, 1.5 * vocals, atol=2 / 32768)
    np.testing.assert_array_equal(same_backing, backing)


def test_a_loud_stem_is_kept_to_half_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    vocals, backing = render_balanced(30.0, monkeypatch)
    assert np.abs(vocals).max() == pytest.approx(0.49, abs=1e-3)
    assert np.abs(vocals + backing).max() < 1


def melody(voice: synth.Voice, seed: int = 0) -> synth.Melody:
    return synth.compose(voice, synth.Plan(2, 2.0, 8), np.random.default_rng(seed))


@pytest.mark.parametrize("singer", range(6))
def test_pitch_stays_in_the_singers_range_and_follows_the_key(singer: int) -> None:
    voice = synth.draw_voice(5, singer)
    track = melody(voice, singer)
    pitch = 69 + 12 * np.log2(track.f0 / 440)
    margin = voice.vibrato + 0.5
    assert pitch.min() > voice.register - voice.span - margin
    assert pitch.max() < voice.register + voice.span + margin
    assert np.ptp(pitch) > 3
    steady = melody(dataclasses.replace(voice, vibrato=0.0), singer)
    notes = 69 + 12 * np.log2(steady.f0[steady.level > 0.3] / 440)
    degrees = np.bincount(np.round(notes).astype(int) % 12, minlength=12)
    in_key = degrees[[(2 + step) % 12 for step in synth.MAJOR]].sum()
    assert in_key > 0.85 * degrees.sum()


def test_sung_pitch_is_the_melodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "CONSONANTS", ((900, 1.0, 0.025, 0.0),) * 6)
    voice = dataclasses.replace(synth.draw_voice(0, 1), breath=0.0)
    track = melody(voice)
    wave = synth.sing(voice, track, 15 * RATE, RATE, np.random.default_rng(0))
    errors = []
    for start in range(0, 14 * synth.FRAMES, 50):
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
    voice = synth.draw_voice(seed, 0)
    for bar_s, bars in ((1.74, 4), (2.7, 3), (2.0, 6)):
        plan = synth.Plan(0, bar_s, bars)
        track = synth.compose(voice, plan, np.random.default_rng(seed))
        per_bar = round(bar_s * synth.FRAMES)
        inner = [track.level[b * per_bar + 20 : (b + 1) * per_bar - 20] for b in range(bars)]
        silent = [bool(levels.max() < 0.01) for levels in inner]
        assert 1 <= sum(silent) <= bars // 2


def test_vocals_are_quiet_where_nobody_sings() -> None:
    voice = synth.draw_voice(0, 0)
    track = melody(voice)
    wave = synth.sing(voice, track, 15 * RATE, RATE, np.random.default_rng(0))
    sung = np.repeat(track.level, 80)[: len(wave)] > 0.3
    away = np.ones(len(wave), dtype=bool)
    for start_s in (s for s, _ in track.consonants):
        away[max(0, int((start_s - 0.05) * RATE)) : int((start_s + 0.2) * RATE)] = False
    rests = np.repeat(track.level, 80)[: len(wave)] < 1e-6
    assert (rests & away).sum() > 2 * RATE
    assert np.std(wave[rests & away]) < 0.01 * np.std(wave[sung])


def formant_peaks(voice: synth.Voice) -> NDArray[np.float64]:
    """The first three formants of an /er/ held by `voice`, read off the rendered waveform."""
    low_three = (*synth.VOWELS["er"], *synth.UPPER_FORMANTS)
    frames = 2 * synth.FRAMES + 1
    formants = np.array(low_three)[:, None] * voice.tract * np.ones(frames)
    glide = np.linspace(80.0, 95.0, frames)  # a glide fills the gaps between harmonics
    track = synth.Melody(glide, np.ones(frames), formants, ())
    wave = synth.sing(voice, track, 2 * RATE, RATE, np.random.default_rng(0))
    wave = np.diff(wave)  # lifts the upper formants
    power = periodogram(wave, RATE)[1][: 2 * 4000]
    smooth = np.convolve(power, np.hanning(300), "same")  # over 75 Hz, about one harmonic
    peaks, _ = find_peaks(np.log(smooth), prominence=0.7, distance=400)
    return np.asarray(peaks[peaks > 500][:3] / 2)


@pytest.mark.parametrize("tract", [0.85, 1.0, 1.2])
def test_formants_of_the_waveform_tell_the_tract_length(tract: float) -> None:
    voice = dataclasses.replace(synth.draw_voice(0, 0), damping=0.8, breath=0.0, tilt_hz=4000.0)
    found = formant_peaks(dataclasses.replace(voice, tract=tract))
    reference = np.array(synth.VOWELS["er"])
    assert found == pytest.approx(reference * tract, rel=0.06)


def test_a_shorter_tract_scales_every_formant_of_the_same_melody() -> None:
    voice = synth.draw_voice(0, 0)
    long, short = (melody(dataclasses.replace(voice, tract=tract)) for tract in (0.9, 1.2))
    np.testing.assert_allclose(short.formants, long.formants * 1.2 / 0.9)
    np.testing.assert_array_equal(short.f0, long.f0)
    lowest, highest = long.formants[0].min(), long.formants[0].max()
    assert lowest < 0.9 * 400 < 0.9 * 600 < highest  # several vowels are sung


def test_tract_resonates_at_its_formants_with_their_bandwidths() -> None:
    formants = np.full((1, 1), 500.0)
    frequency = np.linspace(300.0, 700.0, 8001)[:, None]
    gain = np.abs(synth.tract_response(frequency, formants * np.ones((1, 1)), 1.0))[:, 0]
    assert frequency[np.argmax(gain), 0] == pytest.approx(500, abs=3)
    half_power = frequency[gain**2 > gain.max() ** 2 / 2, 0]
    assert np.ptp(half_power) == pytest.approx(50 * (1 + 500**2 / 6e6), rel=0.02)
    assert synth.tract_response(np.zeros((1, 1)), formants, 1.0)[0, 0] == 1


def test_open_quotient_and_tilt_shape_the_source() -> None:
    pressed = dataclasses.replace(synth.draw_voice(0, 0), open_quotient=0.4, tilt_hz=3000.0)
    lax = dataclasses.replace(pressed, open_quotient=0.8)
    f0 = np.full(1, 100.0)
    frequency = np.array([[100.0], [200.0], [2000.0], [4000.0]])
    pressed_db = 20 * np.log10(np.abs(synth.glottal_source(frequency, f0, pressed)))[:, 0]
    lax_db = 20 * np.log10(np.abs(synth.glottal_source(frequency, f0, lax)))[:, 0]
    assert lax_db[0] - lax_db[1] > pressed_db[0] - pressed_db[1] + 3  # lax voices: strong H1
    dark = dataclasses.replace(pressed, tilt_hz=500.0)
    dark_db = 20 * np.log10(np.abs(synth.glottal_source(frequency, f0, dark)))[:, 0]
    assert pressed_db[2] - pressed_db[3] == pytest.approx(6.02 + 10 * np.log10(25 / 13), abs=0.2)
    assert dark_db[2] - dark_db[3] == pytest.approx(12, abs=0.4)


def test_breath_fills_the_gaps_between_harmonics() -> None:
    clear = dataclasses.replace(synth.draw_voice(0, 0), breath=0.0)
    frames = 201
    formants = np.array((*synth.VOWELS["a"], *synth.UPPER_FORMANTS))[:, None] * np.ones(frames)
    track = synth.Melody(np.full(frames, 200.0), np.ones(frames), formants, ())

    def harmonic_to_noise(voice: synth.Voice) -> float:
        wave = synth.sing(voice, track, RATE, RATE, np.random.default_rng(0))[: RATE - 200]
        power = periodogram(wave[2000:14000], RATE, window="hann")[1]
        near = np.abs((np.arange(len(power)) * RATE / 12000 + 100) % 200 - 100) < 10
        return float(10 * np.log10(power[near].sum() / power[~near].sum()))

    assert harmonic_to_noise(clear) > 40
    breathy = [harmonic_to_noise(dataclasses.replace(clear, breath=b)) for b in (0.01, 0.1)]
    assert breathy[0] - breathy[1] == pytest.approx(20, abs=1.5)


def test_tract_lengths_are_spread_and_registers_overlap() -> None:
    for seed in range(10):
        voices = [synth.draw_voice(seed, singer) for singer in range(6)]
        tracts = np.sort([voice.tract for voice in voices])
        assert np.diff(tracts).min() > 0.02
        assert 0.84 <= tracts[0] < 0.95
        assert 1.06 < tracts[-1] <= 1.22
        lowest = max(voice.register - voice.span for voice in voices)
        highest = min(voice.register + voice.span for voice in voices)
        assert highest - lowest >= 8  # semitones that everybody can sing
    assert synth.draw_voice(0, 1) == synth.draw_voice(0, 1)


def test_albums_say_nothing_of_their_singer() -> None:
    """Over many albums, no setting of the production separates one singer's from another's."""
    table = np.array(
        [
            [
                (a.tempo, a.rolloff, a.decay_s, a.balance, a.snare_s, *a.mixer)
                for album in range(40)
                for a in [synth.draw_album(0, singer, album, RATE)]
            ]
            for singer in range(6)
        ]
    )
    between = table.mean(1).std(0)
    within = table.std(1).mean(0)
    assert (within > 0.05 * np.abs(table.mean((0, 1)))).all()  # albums do differ
    assert (between < 0.35 * within).all()  # 1 / sqrt(40) = 0.16 is expected by chance
