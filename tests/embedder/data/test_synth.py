"""The synthesised set: its files and its stems, and what songs and albums share."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import periodogram

from embedder.data import synth
from embedder.data.synth_music import DIRECT, draw_album, draw_voice
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
    one = {"singers": 1, "albums": 1}
    synth.synthesise(tmp_path / "again", **SMALL | one)
    again = files(tmp_path / "again")
    del again["synth.json"]  # names the sizes, and a song does not depend on them
    assert len(again) == 3
    assert again.items() <= files(small).items()
    synth.synthesise(tmp_path / "other", **SMALL | one | {"seed": 4})
    ours, theirs = set(files(small).values()), set(files(tmp_path / "other").values())
    assert not ours & theirs


def test_a_song_made_alone_equals_the_one_in_the_set(small: Path) -> None:
    vocals, backing = synth.render(draw_voice(3, 1), (3, 1, 1, 0), 6.0, RATE)
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


def test_backing_does_not_depend_on_who_sings(small: Path) -> None:
    vocals, backing = (read(small / s / synth.song_path(1, 0, 0)) for s in ("vocals", "backing"))
    other_vocals, other_backing = synth.render(draw_voice(3, 5), (3, 1, 0, 0), 6.0, RATE)
    np.testing.assert_array_equal(backing, other_backing)
    assert np.corrcoef(vocals, other_vocals)[0, 1] < 0.5


def test_songs_of_an_album_share_band_and_production_but_not_the_notes(
    small: Path,
) -> None:
    first, elsewhere = (read(small / "backing" / synth.song_path(0, a, 0)) for a in range(2))
    second = synth.render(draw_voice(3, 0), (3, 0, 0, 1), 6.0, RATE)[1]
    assert np.corrcoef(first, second)[0, 1] < 0.9

    def tone(wave: NDArray[np.int16]) -> NDArray[np.float64]:
        power = periodogram(wave / 32768, RATE)[1][1:48001].reshape(24, -1).mean(1)
        return 10 * np.log10(power)

    same, other = np.abs(tone(first) - tone(second)), np.abs(tone(first) - tone(elsewhere))
    assert same.mean() < 0.5 * other.mean()


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_levels_and_bandwidth_at_every_rate(rate: int) -> None:
    vocals, backing = synth.render(draw_voice(1, 0), (1, 0, 0, 0), 4.0, rate)
    assert len(vocals) == len(backing) == 4 * rate
    frequency, power = periodogram((vocals.astype(int) + backing) / 32768, rate)
    assert power[frequency > 7900].sum() < 1e-4 * power.sum()
    assert power[(frequency > 2000) & (frequency < 4000)].sum() > 1e-4 * power.sum()


def render_balanced(
    balance: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stems in [-1, 1) of one song without equaliser and room, the vocals at a given balance."""
    drawn = draw_album(0, 0, 0, RATE)
    dry = np.eye(1, 600, DIRECT)[0]
    album = dataclasses.replace(drawn, balance=balance, response=dry)
    with monkeypatch.context() as patch:
        patch.setattr(synth, "draw_album", lambda *_: album)
        vocals, backing = synth.render(draw_voice(0, 0), (0, 0, 0, 0), 6.0, RATE)
    return vocals / 32768, backing / 32768


def test_the_albums_balance_sets_the_vocals_against_the_backing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
