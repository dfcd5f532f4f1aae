"""Recordings are answered from memory as `predict` answers files, and enrolment is for good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from analysis.web.recogniser import DEFAULT, Recogniser, RunContext, open_recogniser
from analysis.web.schemas import Limits, Recognised
from embedder.catalogue import read_catalogue
from embedder.config import MemberConfig, SeparatorConfig
from embedder.errors import UserError
from embedder.models.separators.own import save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.run import Run
from embedder.training.members import train_member
from ensemble.identifier import SingerIdentifier
from ensemble.index.table import history
from ensemble.predictions import read_table

Command = Callable[..., Any]
Opened = Callable[..., Recogniser]


@pytest.fixture
def opened() -> Any:
    """`opened(run)` or `opened(bundle=path)`: what answers visitors until the test ends."""
    with ExitStack() as stack:

        def call(
            run: Run | None = None,
            bundle: Path | None = None,
            limits: Limits = DEFAULT,
            tell: Callable[[str], None] = lambda _: None,
        ) -> Recogniser:
            place, packed = (run.root, False) if run else (bundle, True)
            assert place is not None
            identifier = stack.enter_context(SingerIdentifier.load(place, packed=packed))
            return open_recogniser(identifier, RunContext(), limits, tell)

        yield call


def songs(run: Run, split: str = "test") -> list[Path]:
    return [Path(song.path) for song in read_catalogue(run.catalogue).of(split)]


def by_predict(command: Command, folder: Path, run: Run, files: list[Path]) -> Any:
    """`predict`'s table of files, in their order."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, folder / f"{number}{file.suffix}")
    output = folder / "p.csv"
    done = command("predict", "--test_dir", folder, "--output", output, "--run_dir", run.root)
    assert done.code == 0, done
    return read_table(output.with_suffix(".npz"))


def check_same(table: Any, row: int, found: Recognised) -> None:
    """The same probabilities, best first, and the same confidence, as in a prediction's table."""
    logs = table.log_probabilities[row].astype(float)
    expected = np.argsort(-logs, kind="stable")[:3]
    assert [choice.singer for choice in found.top] == [table.singers[one] for one in expected]
    probabilities = [choice.probability for choice in found.top]
    assert probabilities == pytest.approx(np.exp(logs[expected]), abs=1e-5)
    assert found.confidence == pytest.approx(table.confidence[row], abs=1e-5)


@pytest.mark.parametrize("members", [1, 2])
def test_a_recording_is_answered_as_predict_answers_its_file(
    members: int,
    command: Command,
    trained: Run,
    opened: Opened,
    put_detector: Callable[[Run, float], None],
    tmp_path: Path,
) -> None:
    if members == 1:
        put_detector(trained, 0.0)
        assert command("fuse", "--members", "aam", "--run_dir", trained.root).code == 0
    files = songs(trained)[:2]
    wave, rate = soundfile.read(files[0])
    short = tmp_path / "short.ogg"
    soundfile.write(short, wave[: round(1.3 * rate)], rate)
    files.append(short)
    table = by_predict(command, tmp_path / "files", trained, files)
    predictor = opened(trained)
    assert predictor.singers() == table.singers
    for row, file in enumerate(files):
        found = predictor.recognise(file.read_bytes(), "../../etc/passwd")
        check_same(table, row, found)
        assert found == predictor.recognise(file.read_bytes())
        assert found.seconds == pytest.approx(soundfile.info(file).duration, abs=1e-4)
        voices = [segment.voice for segment in found.segments]
        expected = 1.0 if table.voice is None else table.voice[row]  # without a detector all is
        assert np.mean(voices) == pytest.approx(expected, abs=1e-6)
    assert len(found.segments) == 1  # 1.3 s, where a segment has 2
    assert found.segments[0].end_s == pytest.approx(1.3, abs=1e-3)


def test_an_enrolled_singer_is_named_at_once_and_after_a_restart_until_taken_back(
    trained: Run, opened: Opened
) -> None:
    predictor = opened(trained)
    known = predictor.singers()
    recording, other = (file.read_bytes() for file in songs(trained)[:2])
    before = predictor.recognise(recording)
    table = trained.index_table.read_bytes()

    assert predictor.enroll(" AC-DC ", recording, "C:\\..\\take <1>.flac").startswith("AC-DC is ")
    assert predictor.singers() == (*known, "AC-DC")
    for one in (predictor, opened(trained)):
        found = one.recognise(recording)
        assert found.top[0].singer == "AC-DC"
        assert not found.unknown
        assert found.nearest[0].title.startswith("take <1> ")
        assert found.nearest[0].album == "recordings"
        assert found.notes == (
            f"The index holds this recording: {found.nearest[0].title} by AC-DC.",
        )
        assert found.segments
        assert {segment.top[0].singer for segment in found.segments} >= {"AC-DC"}
    assert not list(trained.root.rglob("*take*"))

    with pytest.raises(UserError, match="This recording is enrolled under this name already"):
        predictor.enroll("AC-DC", recording, "take <1>.wav")
    said = predictor.enroll("Somebody else", recording)
    assert "It is the same recording as AC-DC/recordings/take <1> " in said
    predictor.enroll(known[0], other)  # a song more of a singer who was trained on

    assert predictor.undo() == (
        f"Taken back: {known[0]} is no longer enrolled with the last recording."
    )
    predictor.undo()
    assert predictor.singers() == (*known, "AC-DC")
    predictor.undo()
    assert predictor.recognise(recording) == before
    assert predictor.singers() == opened(trained).singers() == known
    with pytest.raises(UserError, match="nothing to undo: nobody was enrolled here"):
        predictor.undo()
    assert len(table) > 0
    assert not history(trained.index_table)


def test_what_others_enrolled_is_never_taken_back(
    command: Command, trained: Run, opened: Opened, tmp_path: Path
) -> None:
    first, second = songs(trained)[:2]
    for name, song in (("Mine", first), ("Yours", second)):
        (tmp_path / name).mkdir()
        shutil.copy(song, tmp_path / name / "a.flac")

    def enroll(name: str) -> None:
        options = ("--singer", name, "--audio_dir", tmp_path / name, "--run_dir", trained.root)
        assert command("enroll", *options).code == 0

    enroll("Mine")
    predictor = opened(trained)
    with pytest.raises(UserError, match="nothing to undo: nobody"):
        predictor.undo()
    predictor.enroll("Visitor", songs(trained)[2].read_bytes())
    enroll("Yours")
    with pytest.raises(UserError, match="the index was changed elsewhere"):
        predictor.undo()
    assert [change.singer for change in history(trained.index_table)] == [
        "Mine", "Visitor", "Yours",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", pytest.param(".zip", marks=pytest.mark.slow)])
def test_a_bundle_answers_the_same_and_stays_as_it_was_packed(
    suffix: str, command: Command, trained: Run, opened: Opened, tmp_path: Path
) -> None:
    bundle = tmp_path / f"bundle{suffix}"
    assert command("bundle", "--output", bundle, "--run_dir", trained.root).code == 0
    recording = songs(trained)[0].read_bytes()

    packed = opened(bundle=bundle)
    expected = opened(trained).recognise(recording)
    assert packed.recognise(recording) == expected
    assert packed.song_audio(expected.nearest[0].song_id) is None
    assert "until this program ends" in packed.enroll("Ann", recording)
    assert packed.recognise(recording).top[0].singer == "Ann"
    assert opened(bundle=bundle).recognise(recording) == expected


@pytest.fixture
def with_vocals(trained: Run, tiny: Callable[..., MemberConfig], command: Command) -> Run:
    """A fused run in which one of two members hears vocals."""
    catalogue = read_catalogue(trained.catalogue)
    config = tiny(stem="vocals", epochs=1)
    train_member(trained, catalogue, "vox", config, device="cpu", say=lambda _: None)
    assert command("fuse", "--members", "aam,vox", "--run_dir", trained.root).code == 0
    return trained


def test_members_that_hear_vocals_hear_separated_ones_or_stay_silent(
    command: Command, with_vocals: Run, opened: Opened, tmp_path: Path
) -> None:
    run, file = with_vocals, songs(with_vocals)[0]
    told: list[str] = []
    alone = opened(run, tell=told.append)
    assert told == ["without a separator these are unavailable: vox"]
    found = alone.recognise(file.read_bytes())
    check_same(by_predict(command, tmp_path / "alone", run, [file]), 0, found)
    assert found.notes == ("Answered by 1 of 2 members: no vocals for vox.",)
    with pytest.raises(UserError, match="Nobody can be enrolled: vox cannot take"):
        alone.enroll("Ann", file.read_bytes())

    torch.manual_seed(1)
    separator = (
        VocalSeparator(
            SeparatorConfig(
                separator_n_fft=128, separator_hop=32, separator_hidden=8, separator_layers=1
            )
        )
        .eval()
        .requires_grad_(False)
    )
    train = read_catalogue(run.catalogue).of("train")
    save_vocal_separator(run, separator, {"songs": [song.id for song in train]})
    both = opened(run)
    found = both.recognise(file.read_bytes())
    check_same(by_predict(command, tmp_path / "both", run, [file]), 0, found)
    assert not any("members" in note for note in found.notes)
    assert both.enroll("Ann", file.read_bytes()).startswith("Ann is enrolled")


def test_bad_recordings_get_a_sentence_and_change_nothing(trained: Run, opened: Opened) -> None:
    predictor = opened(trained, limits=Limits(max_mb=0.01, max_minutes=0.05))
    with pytest.raises(UserError, match=r"The file is larger than 0\.01 MB\."):
        predictor.recognise(b"x" * 10_001)
    for act in (predictor.recognise, lambda data: predictor.enroll("Ann", data)):
        with pytest.raises(UserError, match="This is no audio"):
            act(b"x" * 10_000)
    long = opened(trained, limits=Limits(max_minutes=0.05))
    with pytest.raises(UserError, match=r"longer than 3 s\."):
        long.recognise(songs(trained)[0].read_bytes())
    assert not history(trained.index_table)
