"""A folder of songs becomes a run folder, with each thing that can be wrong with a song."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedder.artifact import read_json
from embedder.catalogue import Song, read_catalogue
from embedder.data.audio import decode
from embedder.data.cache import AudioCache
from embedder.data.prepare import KINDS, Problem, is_prepared, prepare, summarise
from embedder.errors import UserError
from embedder.run import INFO, Run, create_run

RATE = 8000


def put(path: Path, seed: int, seconds: float = 1.2, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, wave, RATE)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """2 singers x 3 albums x 2 songs; each song sounds different."""
    names = [f"{s}/{a}/{t}.wav" for s in "ab" for a in ("One", "three", "Two") for t in "12"]
    for seed, name in enumerate(names):
        put(tmp_path / "data" / name, seed)
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run")


def files_of(run: Run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.root.iterdir() if p.is_file()}


def test_course_writes_catalogue_lists_cache_and_what_was_prepared(run: Run, data: Path) -> None:
    report = prepare(run, data)
    catalogue = read_catalogue(run.catalogue)
    assert catalogue.singers == ("a", "b")
    assert {s.album for s in catalogue.of("validation")} == {"Two"}  # one, three, two
    assert (report.songs, report.singers) == ({"train": 8, "validation": 4, "test": 0}, 2)
    assert report.minutes["train"] == pytest.approx(8 * 1.2 / 60)
    assert report.problems == report.albums_crossing == ()
    cache = AudioCache(run.cache)
    for song in catalogue.songs:
        assert Path(song.path) == data.resolve() / song.id
        assert song.seconds == cache.length(song.audio) / 16000 == pytest.approx(1.2)
        assert (song.vocals, song.backing) == ("", "")
    validation = run.song_list("validation").read_text(encoding="utf-8")
    assert validation.splitlines()[0] == "a/Two/1.wav,a,1"
    assert len(run.song_list("train").read_text(encoding="utf-8").splitlines()) == 8
    assert not run.song_list("test").exists()
    info = read_json(run.info)
    assert info["format"] == INFO.version
    assert len(info["prepared"].pop("files")) == 16
    assert info["prepared"] == {
        "data_dir": str(data.resolve()),
        "split": "course",
        "seed": 0,
        "stems_dir": None,
        "lists_dir": None,
        "keep_duplicates": False,
        "keep_duets": False,
    }


def test_the_same_arguments_give_the_same_bytes_and_decode_nothing(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(run, data, "album", seed=3, jobs=4)
    before = files_of(run)
    other = create_run(tmp_path / "other")
    prepare(other, data, "album", seed=3, jobs=1)
    assert files_of(other) == before
    monkeypatch.setattr("embedder.data.cache.read_audio", None)  # calling it would be an error
    assert prepare(run, data, "album", seed=3) == first
    assert files_of(run) == before


def test_another_split_rewrites_the_lists_and_shows_in_the_fingerprint(
    run: Run, data: Path
) -> None:
    fingerprints = set()
    for split, has_test in [("album", True), ("course", False), ("song", True)]:
        report = prepare(run, data, split)
        assert run.song_list("test").exists() is has_test is bool(report.songs["test"])
        fingerprints.add(read_catalogue(run.catalogue).fingerprint())
        assert read_json(run.info)["prepared"]["split"] == split
    assert len(fingerprints) == 3


def test_song_split_reports_albums_that_cross(run: Run, data: Path) -> None:
    report = prepare(run, data, "song")
    catalogue = read_catalogue(run.catalogue)
    crossing = {
        s.album_id
        for s in catalogue.songs
        if len({o.split for o in catalogue.songs if o.album_id == s.album_id}) > 1
    }
    assert crossing
    assert report.albums_crossing == tuple(sorted(crossing))


def test_files_takes_the_lists_as_they_are(run: Run, data: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.json").write_text(json.dumps(["./x/a/One/1.wav", "./x/b/Two/2.wav"]))
    (lists / "val.json").write_text(json.dumps(["./x/a/One/2.wav"]))
    report = prepare(run, data, "files", lists_dir=lists)
    splits = {s.id: s.split for s in read_catalogue(run.catalogue).songs}
    expected = {"a/One/1.wav": "train", "a/One/2.wav": "validation", "b/Two/2.wav": "train"}
    assert splits == expected
    assert report.albums_crossing == ("a/One",)
    assert read_json(run.info)["prepared"]["lists_dir"] == str(lists.resolve())
    again = create_run(tmp_path / "again")  # a run's own lists mean the same split
    prepare(again, data, "files", lists_dir=run.root)
    assert again.catalogue.read_bytes() == run.catalogue.read_bytes()


def test_files_refuses_a_song_in_two_lists_and_a_singer_without_training(
    run: Run, data: Path
) -> None:
    (data / "train.txt").write_text("a/One/1.wav,a,1\nb/One/1.wav,b,1\n", encoding="utf-8")
    (data / "val.txt").write_text("a/One/1.wav,a,1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"leakage: 1 song .*a/One/1\.wav is in train"):
        prepare(run, data, "files")
    (data / "train.txt").write_text("b/One/1.wav,b,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="singer 'a' is in validation"):
        prepare(run, data, "files")
    assert not run.catalogue.exists()


def test_what_could_not_be_decoded_of_a_song_is_in_the_report(run: Run, data: Path) -> None:
    song = data / "a/One/1.wav"
    whole = song.read_bytes()
    song.write_bytes(whole[: 44 + (len(whole) - 44) * 9 // 10 // 2 * 2])
    report = prepare(run, data)
    (problem,) = report.of("odd")
    assert problem.file == "a/One/1.wav"
    assert "could be decoded" in problem.reason
    assert any(problem.reason in line for line in report.lines())
    assert "a/One/1.wav" in {song.id for song in read_catalogue(run.catalogue).songs}


def test_songs_that_cannot_be_used_are_left_out_with_their_reason(run: Run, data: Path) -> None:
    (data / "a/One/1.wav").write_bytes(b"")
    (data / "a/One/2.wav").write_bytes(b"no audio at all" * 50)
    put(data / "a/three/1.wav", 1, seconds=0.99)
    put(data / "a/three/2.wav", 2, level=1e-4)
    nan = np.full(RATE * 2, np.nan)
    soundfile.write(data / "b/One/1.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(data / "b/One/2.wav", np.zeros(0), RATE)
    (data / "b/One/3.m4a").write_bytes(b"x")
    put(data / "a/four/ok.wav", 77)
    report = prepare(run, data)
    assert report.problems == (
        Problem("a/One/1.wav", "empty", "it has no bytes"),
        Problem("a/One/2.wav", "unreadable", "it holds no audio in a known format"),
        Problem("a/three/1.wav", "short", "0.99 s, needed is 1 s"),
        Problem("a/three/2.wav", "silent", "its loudest sample is below -60 dB"),
        Problem("b/One/1.wav", "unreadable", "it holds samples that are not finite numbers"),
        Problem("b/One/2.wav", "empty", "it holds no sample"),
        Problem("b/One/3.m4a", "unreadable", "it holds no audio in a known format"),
    )
    assert len(report.left_out) == 7
    ids = {song.id for song in read_catalogue(run.catalogue).songs}
    assert ids == {f"b/{a}/{t}.wav" for a in ("three", "Two") for t in "12"} | {
        "a/four/ok.wav",
        "a/Two/1.wav",
        "a/Two/2.wav",
    }


def test_an_album_of_bad_songs_only_does_not_count_as_the_last_one(run: Run, data: Path) -> None:
    for title in "12":
        (data / f"a/Two/{title}.wav").write_bytes(b"")
    prepare(run, data)
    validation = read_catalogue(run.catalogue).of("validation")
    assert {s.album_id for s in validation} == {"a/three", "b/Two"}


def test_when_no_song_can_be_used_nothing_is_written(run: Run, data: Path) -> None:
    for file in data.rglob("*.wav"):
        file.write_bytes(b"")
    before = files_of(run)
    with pytest.raises(UserError, match=r"none of the 12 songs .* a/One/1\.wav: it has no bytes"):
        prepare(run, data)
    assert files_of(run) == before


def test_of_a_recording_in_two_splits_the_training_copy_is_left_out(run: Run, data: Path) -> None:
    shutil.copy(data / "a/Two/1.wav", data / "a/One/copy.wav")  # validation, again in train
    wave, rate = soundfile.read(data / "b/Two/2.wav", dtype="int16")
    soundfile.write(data / "b/One/lossless.flac", wave, rate)
    shutil.copy(data / "b/three/1.wav", data / "b/three/twice.wav")  # twice in train
    report = prepare(run, data)
    assert report.problems == (
        Problem(
            "a/One/copy.wav",
            "in two splits",
            "train song byte for byte the same as a/Two/1.wav (validation)",
        ),
        Problem(
            "b/One/lossless.flac",
            "in two splits",
            "train song decodes to the same audio as b/Two/2.wav (validation)",
        ),
        Problem(
            "b/three/twice.wav",
            "duplicate",
            "train song byte for byte the same as b/three/1.wav (train)",
        ),
    )
    ids = {song.id for song in read_catalogue(run.catalogue).songs}
    assert {"a/Two/1.wav", "b/Two/2.wav", "b/three/1.wav", "b/three/twice.wav"} <= ids
    assert not {"a/One/copy.wav", "b/One/lossless.flac"} & ids
    assert (data / "a/One/copy.wav").is_file()

    kept = prepare(run, data, keep_duplicates=True)
    assert kept.left_out == ()
    assert [p.kind for p in kept.problems] == ["duplicate", "decoded duplicate", "duplicate"]
    assert len(read_catalogue(run.catalogue).songs) == 15


def test_of_a_recording_in_validation_and_test_the_validation_copy_is_left_out(
    run: Run, data: Path
) -> None:
    shutil.copy(data / "a/One/1.wav", data / "a/Two/copy.wav")
    lines = {
        "train": ["a/three/1", "b/One/1"],
        "val": ["a/One/1", "b/Two/1"],
        "test": ["a/Two/copy"],
    }
    for name, ids in lines.items():
        text = "".join(f"{i}.wav,{i[0]},t\n" for i in ids)
        (data / f"{name}.txt").write_text(text, encoding="utf-8")
    report = prepare(run, data, "files")
    assert [p.file for p in report.left_out] == ["a/One/1.wav"]
    assert report.songs == {"train": 2, "validation": 1, "test": 1}


def test_a_remaster_counts_as_its_recording(run: Run, data: Path) -> None:
    for name, seed in (("a/Two/1.wav", 50), ("b/three/1.wav", 51)):
        put(data / name, seed, seconds=10)
    wave, _ = soundfile.read(data / "a/Two/1.wav")
    louder = np.clip(3 * np.concatenate([np.zeros(2400), wave]), -0.5, 0.5)
    soundfile.write(data / "a/One/later.ogg", louder, RATE)  # validation, again in train
    wave, _ = soundfile.read(data / "b/three/1.wav")
    soundfile.write(data / "b/One/encoded.ogg", wave, RATE)  # twice in train
    report = prepare(run, data)
    kinds = {problem.file: problem.kind for problem in report.problems}
    assert kinds == {"a/One/later.ogg": "in two splits", "b/three/1.wav": "same recording"}
    assert "a/Two/1.wav" in report.of("in two splits")[0].reason
    ids = {song.id for song in read_catalogue(run.catalogue).songs}
    assert "a/One/later.ogg" not in ids
    assert {"a/Two/1.wav", "b/three/1.wav", "b/One/encoded.ogg"} <= ids
    before = files_of(run)
    assert prepare(run, data) == report
    assert files_of(run) == before
    assert prepare(run, data, keep_duplicates=True).left_out == ()
    report = prepare(run, data, "song")  # whatever the split, no two copies are apart
    splits = {song.id: song.split for song in read_catalogue(run.catalogue).songs}
    for one, two in (("a/Two/1.wav", "a/One/later.ogg"), ("b/three/1.wav", "b/One/encoded.ogg")):
        assert len({splits[name] for name in (one, two) if name in splits}) == 1


def test_one_recording_under_two_singers_is_left_out_of_training(run: Run, data: Path) -> None:
    shutil.copy(data / "b/three/2.wav", data / "a/One/duet.wav")
    put(data / "b/three/1.wav", 51, seconds=10)
    wave, _ = soundfile.read(data / "b/three/1.wav")
    soundfile.write(data / "a/Two/duet.ogg", 0.5 * wave, RATE)  # validation
    report = prepare(run, data)
    duets = {problem.file for problem in report.of("duet")}
    assert duets == {"a/One/duet.wav", "b/three/2.wav", "b/three/1.wav"}
    assert [problem.file for problem in report.of("duet in use")] == ["a/Two/duet.ogg"]
    ids = {song.id for song in read_catalogue(run.catalogue).songs}
    assert not duets & ids
    assert "a/Two/duet.ogg" in ids
    report = prepare(run, data, keep_duets=True)
    assert {p.file for p in report.of("duet in use")} >= {"a/One/duet.wav", "b/three/2.wav"}
    assert [p.file for p in report.left_out] == ["b/three/1.wav"]  # in two splits
    assert read_json(run.info)["prepared"]["keep_duets"] is True


def stems_for(data: Path, folder: Path, *, backing: bool = True) -> Path:
    for number, song in enumerate(sorted(data.rglob("*.wav"))):
        below = song.relative_to(data).with_suffix(".flac")
        put(folder / "vocals" / below, 100 + number)
        if backing:
            put(folder / "backing" / below, 200 + number)
    return folder


def test_stems_are_decoded_and_missing_or_misfitting_ones_are_named(
    run: Run, data: Path, tmp_path: Path
) -> None:
    stems = stems_for(data, tmp_path / "stems")
    (stems / "vocals/a/One/1.flac").unlink()
    (stems / "backing/a/One/2.flac").unlink()
    put(stems / "vocals/a/Two/1.flac", 1, seconds=1.5)
    put(stems / "backing/a/Two/2.flac", 1, seconds=1.4)  # within what padding explains
    (stems / "vocals/b/One/1.flac").write_bytes(b"broken")
    put(stems / "backing/b/One/2.flac", 1, level=0.0)
    report = prepare(run, data, stems_dir=stems)
    alone = "the song has no vocals to go with it"
    assert [(p.file, p.reason) for p in report.problems] == [
        ("vocals/a/One/1.wav", "there is no such file"),
        ("backing/a/One/1.wav", alone),
        ("backing/a/One/2.wav", "there is no such file"),
        ("vocals/a/Two/1.wav", "1.50 s long, but the mixture is 1.20 s"),
        ("backing/a/Two/1.wav", alone),
        ("vocals/b/One/1.wav", "unreadable: it holds no audio in a known format"),
        ("backing/b/One/1.wav", alone),
        ("backing/b/One/2.wav", "silent: its loudest sample is below -60 dB"),
    ]
    assert {p.kind for p in report.problems} == {"stem"}
    assert (report.vocals, report.backing, report.left_out) == (9, 7, ())
    songs = {song.id: song for song in read_catalogue(run.catalogue).songs}
    cache = AudioCache(run.cache)
    whole = songs["b/three/1.wav"]
    assert len({whole.audio, whole.vocals, whole.backing}) == 3
    assert cache.length(whole.vocals) == cache.length(whole.backing) == cache.length(whole.audio)
    assert (songs["a/One/1.wav"].vocals, songs["a/One/1.wav"].backing) == ("", "")
    assert songs["a/One/2.wav"].vocals
    assert songs["a/One/2.wav"].backing == ""


def test_what_demucs_wrote_serves_as_stems(run: Run, data: Path, tmp_path: Path) -> None:
    """Its four stems a track: the backing is the sum of three, whatever they are called."""
    parts = ("vocals", "bass", "drums", "other")
    for number, song in enumerate(sorted(data.rglob("*.wav"))):
        folder = tmp_path / "separated/htdemucs" / song.relative_to(data).with_suffix("")
        for shift, part in enumerate(parts):
            put(folder / f"{part}.wav", 100 * shift + number, level=0.1)
    report = prepare(run, data, stems_dir=tmp_path / "separated")
    assert (report.vocals, report.backing, report.problems) == (12, 12, ())
    cache = AudioCache(run.cache)
    for song in read_catalogue(run.catalogue).songs:
        folder = tmp_path / "separated/htdemucs" / Path(song.id).with_suffix("")
        vocals, *others = (decode(folder / f"{part}.wav").astype(int) for part in parts)
        assert np.array_equal(cache.samples(song.vocals), vocals)
        assert np.array_equal(cache.samples(song.backing), sum(others))


def test_vocals_alone_are_no_problem(run: Run, data: Path, tmp_path: Path) -> None:
    report = prepare(run, data, stems_dir=stems_for(data, tmp_path / "stems", backing=False))
    assert (report.vocals, report.backing, report.problems) == (12, 0, ())


def test_bad_input_is_refused_before_anything_is_decoded(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedder.data.prepare.decode_files", None)
    for message, arguments in [
        ("does not exist", {"data_dir": tmp_path / "none"}),
        (r"a/One/1\.wav .*did you mean", {"data_dir": data.parent}),
        ("did you mean the folder above", {"data_dir": data / "a"}),
        ("--split bits is unknown; choose from course, album, song, files", {"split": "bits"}),
        ("has no folder vocals", {"stems_dir": tmp_path}),
        ("seed = -1 is not legal", {"seed": -1}),
        ("lists are read with --split files only", {"lists_dir": tmp_path}),
        ("no list of train songs", {"split": "files"}),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(run, **{"data_dir": data, **arguments})
    shutil.rmtree(data / "b")
    with pytest.raises(UserError, match=r"at least two singers .* found only 'a'"):
        prepare(run, data)
    put(data / "b/Only/1.wav", 5)
    with pytest.raises(UserError, match="b has only 'Only'"):
        prepare(run, data)
    assert list(files_of(run)) == ["run.json"]


def test_a_run_folder_that_takes_nothing_is_one_line(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("embedder.data.prepare.write_catalogue", full)
    with pytest.raises(UserError, match=r"cannot write into .*: No space left on device"):
        prepare(run, data)


def test_killed_and_started_again_it_ends_in_the_same_files(
    run: Run, data: Path, tmp_path: Path
) -> None:
    program = """
        import sys
        from pathlib import Path
        from embedder.run import Run
        from embedder.data.prepare import is_prepared, prepare

        def slow(items, total, description):
            for number, item in enumerate(items):
                if description == "decoding" and number == 4:
                    print("now", flush=True)
                    sys.stdin.read()  # until killed
                yield item

        prepare(Run(Path(sys.argv[1])), Path(sys.argv[2]), progress=slow, jobs=1)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(run.root), str(data)]
    root = Path(__file__).parents[3]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=root, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert list(files_of(run)) == ["run.json"]
    decoded = len(list(run.cache.glob("*.npy")))
    assert decoded >= 4
    prepare(run, data)
    undisturbed = create_run(tmp_path / "undisturbed")
    prepare(undisturbed, data)
    assert files_of(run) == files_of(undisturbed)
    for entry in undisturbed.cache.iterdir():
        assert (run.cache / entry.name).read_bytes() == entry.read_bytes()


VOICES = Path(__file__).parents[4] / "shared" / "voices"


@pytest.mark.slow
@pytest.mark.skipif(not VOICES.is_dir(), reason="the real-voice set is not beside the project")
def test_the_real_voice_set(run: Run) -> None:
    report = prepare(run, VOICES / "mix", stems_dir=VOICES)
    assert report.songs == {"train": 400, "validation": 100, "test": 0}
    assert (report.singers, report.vocals, report.backing) == (20, 500, 500)
    assert sum(report.minutes.values()) == pytest.approx(294, abs=1)
    assert report.problems == ()
    with pytest.raises(UserError, match=r"backing/alys/.* lies 3 folders deep") as error:
        prepare(run, VOICES)
    assert str(VOICES / "mix") in str(error.value)


# Other songs ------------------------------------------------------------------------------------


def test_songs_that_members_were_trained_on_are_replaced_only_if_told(
    run: Run, data: Path, tmp_path: Path
) -> None:
    prepare(run, data, "album")
    other = Path(shutil.copytree(data, tmp_path / "other songs"))
    put(other / "c" / "One" / "1.wav", 90)
    put(other / "c" / "Two" / "1.wav", 91)
    put(other / "c" / "three" / "1.wav", 92)
    prepare(run, other, "album")  # nothing was made from the first ones
    prepare(run, data, "album")
    run.member("m").mkdir(parents=True)
    before = files_of(run)
    for folder, split in ((other, "album"), (data, "course")):
        with pytest.raises(UserError) as refused:
            prepare(run, folder, split)
        assert f"12 songs of {data.resolve()}" in str(refused.value)
        command = shlex.split(str(refused.value).partition(", or: ")[2])
        assert command[:5] == ["python", "app.py", "prepare", "--data_dir", str(folder.resolve())]
        assert command[-3:] == ["--run_dir", str(run.root), "--overwrite"]
        assert files_of(run) == before
    moved = Path(shutil.copytree(data, tmp_path / "moved"))  # the same songs
    prepare(run, moved, "album")
    prepare(run, other, "album", overwrite=True)
    assert len(read_catalogue(run.catalogue).songs) == 15


def test_a_run_is_prepared_as_long_as_the_files_are_those_that_were_read(
    run: Run, data: Path
) -> None:
    assert not is_prepared(run, data, "album")
    prepare(run, data, "album")

    def prepared() -> bool:
        return is_prepared(run, data, "album")

    assert prepared()
    assert not is_prepared(run, data, "course")
    put(data / "a" / "Two" / "3.wav", 70)
    assert not prepared()
    prepare(run, data, "album")
    assert prepared()
    put(data / "a" / "Two" / "3.wav", 71)  # of the same size
    assert not prepared()
    (data / "a" / "Two" / "3.wav").unlink()
    assert not prepared()
    prepare(run, data, "album")
    assert prepared()
    assert not is_prepared(run, data, "album", stems_dir=data)
    shutil.rmtree(data)
    assert not prepared()


def test_files_that_cannot_be_used_are_named_where_the_others_cannot_be_split(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [f"b/{album}/{title}.wav" for album in ("three", "Two") for title in "12"]
    for name in gone:
        (data / name).write_bytes(b"gone")
    with pytest.raises(UserError, match=r"only 'One', without 4 files .* b/Two/1\.wav") as caught:
        prepare(run, data)
    assert "add an album" not in str(caught.value)
    assert "replace these files" in str(caught.value)
    said = capsys.readouterr().out
    assert all(name in said for name in gone)


def test_a_singer_in_two_unicode_forms_is_one_with_the_stems_of_both(
    run: Run, tmp_path: Path
) -> None:
    forms = ("Beyonc\u00e9", "Beyonce\u0301")
    songs = [f"{form}/{album}/1.wav" for form, album in zip(forms, "AB", strict=True)]
    for seed, song in enumerate((*songs, "b/A/1.wav", "b/B/1.wav")):
        put(tmp_path / "data" / song, seed)
        form = forms[seed % 2]  # the other one than the song's
        put(tmp_path / "stems" / "vocals" / song.replace(forms[0], form), seed + 10)
    report = prepare(run, tmp_path / "data", stems_dir=tmp_path / "stems")
    assert (report.singers, report.vocals, report.problems) == (2, 4, ())
    assert read_catalogue(run.catalogue).singers == (forms[0], "b")


def test_singers_who_hardly_differ_are_warned_of_and_kept_apart(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, singer in ((50, "A"), (60, "a ")):
        for seed, song in enumerate(sorted((data / "a").glob("*/*.wav")), first):
            put(data / singer / song.relative_to(data / "a"), seed)
    report = prepare(run, data)
    assert report.singers == 4
    assert "'A', 'a', 'a '" in capsys.readouterr().err


def test_singers_who_hardly_differ_are_named_where_their_songs_are_the_same(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "a", data / "A")
    with pytest.raises(UserError, match="8 files that were left out"):
        prepare(run, data)
    assert "'A', 'a'" in capsys.readouterr().err


def test_a_singer_whose_name_stands_for_nobody_is_warned_of(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(run, data, "album")
    assert "unknown" not in capsys.readouterr().err
    for album in "ABC":
        put(data / f"unknown/{album}/1.wav", 90 + ord(album))
    prepare(run, data, "album", overwrite=True)
    assert "a singer is named unknown, which is what predict --unknown" in capsys.readouterr().err


SONGS = [
    Song("a/A/1", "", "a", "A", "1", "train", 90.0, "k1", "v", "b"),
    Song("a/A/2", "", "a", "A", "2", "train", 60.0, "k2", "v", ""),
    Song("b/A/1", "", "b", "A", "1", "train", 30.0, "k3"),
    Song("a/B/1", "", "a", "B", "1", "validation", 45.0, "k4", "v", "b"),
]


def test_numbers_are_counted_by_split() -> None:
    report = summarise(SONGS, [], (), stems_wanted=True)
    assert report.songs == {"train": 3, "validation": 1, "test": 0}
    assert report.minutes == {"train": 3.0, "validation": 0.75, "test": 0.0}
    assert (report.singers, report.vocals, report.backing) == (2, 3, 2)
    assert [" ".join(line.split()) for line in report.lines()] == [
        "train 3 songs 3.0 minutes",
        "validation 1 song 0.8 minutes",
        "all 4 songs 3.8 minutes 2 singers",
        "stems: vocals of 3, backing of 2 songs",
    ]


def test_songs_too_short_to_be_compared_by_sound_are_counted_in_a_line() -> None:
    assert not any("by sound" in line for line in summarise(SONGS, [], (), False).lines())
    short = [replace(SONGS[0], seconds=6.9), replace(SONGS[1], seconds=7.0), *SONGS[2:]]
    (line,) = [line for line in summarise(short, [], (), False).lines() if "by sound" in line]
    assert line.startswith("1 song is shorter than 6.9 s and not compared by sound")


def test_without_a_stems_folder_stems_are_not_mentioned() -> None:
    assert not any("stems" in line for line in summarise(SONGS, [], (), False).lines())


def test_every_problem_is_named_under_its_kind_with_what_is_done_about_it() -> None:
    problems = [Problem(f"file of {kind}", kind, f"reason {n}") for n, kind in enumerate(KINDS)]
    report = summarise(SONGS, problems, ("a/A", "b/B"), False)
    lines = report.lines()
    for number, (kind, fate) in enumerate(KINDS.items()):
        at = lines.index(f"{kind} (1, {fate}):")
        assert lines[at + 1] == f"  file of {kind}: reason {number}"
        assert report.of(kind) == (problems[number],)
    assert any(line.startswith("2 albums have songs in more than one") for line in lines)
    expected = {"unreadable", "empty", "short", "silent", "in two splits", "duet"}
    assert {p.kind for p in report.left_out} == expected


def test_a_problem_of_no_kind_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*not 'puzzling'"):
        Problem("x", "puzzling", "y")
