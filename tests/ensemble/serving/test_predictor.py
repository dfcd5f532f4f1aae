"""A predictor over made-up members: what it answers, recomputed from the fusion itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.errors import UserError
from embedder.inference.store import Store
from embedder.run import InUse
from ensemble.apply import predict_songs
from ensemble.enrolled.enrolling import copies_of
from ensemble.fusion.fitted import Fusion
from ensemble.index.table import enroll, history, songs_of, write_table
from ensemble.open_set import UNKNOWN
from ensemble.serving.answers import Limits, MapPoint, Place
from ensemble.serving.hearing import Recording, by_segment, ends_of
from ensemble.serving.predictor import Beside, FusionPredictor, named, shown


def one_song(stores: list[Store], song: int) -> tuple[Store, ...]:
    """A recording: one song, whose singer nobody knows."""
    return tuple(
        replace(
            store.take(np.array([song])), split="", song_ids=("recording",), albums=("",),
            labels=np.array([-1]),
        )
        for store in stores
    )  # fmt: skip


@pytest.fixture
def table(world: Any, tmp_path: Path) -> Path:
    path = tmp_path / "index.sqlite"
    write_table(path, world.train)
    return path


def predictor_of(world: Any, table: Path, **options: Any) -> FusionPredictor:
    """Hears b"3" as the fourth validation song, b"!3" as a stranger's."""

    def hear(data: bytes) -> Recording:
        text = data.decode()
        stores = world.strangers if text.startswith("!") else world.validation
        return Recording(3.5, f"{text:0>16}", one_song(stores, int(text.strip("!"))))

    fusion: Fusion = options.pop("fusion", world.fusion)
    return FusionPredictor(fusion, table, hear, **options)


def test_the_answer_is_the_fusions(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table)
    threshold = world.fusion.unknown.threshold
    unknown = []
    for sent in ("0", "7", "20", "!0", "!5"):
        stores = world.strangers if sent[0] == "!" else world.validation
        song = int(sent.strip("!"))
        expected = predict_songs(
            world.fusion, [store.take(np.array([song])) for store in stores], world.indexes
        )
        probabilities = np.exp(expected.scores["fused"][0])
        order = np.argsort(-probabilities, kind="stable")[:3]
        found = predictor.recognise(sent.encode())
        assert [one.singer for one in found.top] == [expected.singers[row] for row in order]
        assert [one.probability for one in found.top] == pytest.approx(probabilities[order])
        assert found.confidence == pytest.approx(expected.confidence[0])
        assert found.threshold == threshold
        assert found.unknown == (expected.confidence[0] < threshold)
        unknown.append(found.unknown)
        assert (found.seconds, found.place, found.notes) == (3.5, None, ())
    assert len(set(unknown)) == 2


def test_nearest_songs_are_those_of_the_mean_cosine(world: Any, table: Path) -> None:
    beside = Beside(playable=frozenset({"singer 0/train0/0.wav"}), audio=lambda song: song.encode())
    predictor = predictor_of(world, table, beside=beside)
    found = predictor.recognise(b"1").nearest
    first, second = (
        index.embeddings.astype(float) @ store.embeddings[1]
        for index, store in zip(world.indexes.values(), world.validation, strict=True)
    )
    means = (first + second) / 2
    order = np.argsort(-means)[:5]
    ids = world.train[0].song_ids
    assert [one.song_id for one in found] == [ids[row] for row in order]
    assert [one.similarity for one in found] == pytest.approx(means[order], abs=1e-6)
    for one in found:
        assert one.song_id == f"{one.singer}/{one.album}/{one.title}.wav"
        assert one.playable == (one.song_id == "singer 0/train0/0.wav")
    assert predictor.song_audio("singer 0/train0/0.wav") == b"singer 0/train0/0.wav"
    for missing in ("singer 0/train0/1.wav", "../../secret", ""):
        assert predictor.song_audio(missing) is None


def test_each_moment_is_answered_as_if_it_were_a_recording(world: Any, table: Path) -> None:
    found = predictor_of(world, table).recognise(b"4").moments
    assert [(one.start_s, one.end_s) for one in found] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.5)]
    for number, moment in enumerate(found):
        alone = []
        for store in one_song(world.validation, 4):
            part = slice(number, number + 1)
            logits = store.segment_logits
            alone.append(
                replace(
                    store,
                    embeddings=store.segment_embeddings[part],
                    segment_embeddings=store.segment_embeddings[part],
                    segment_song=np.zeros(1, np.int64),
                    segment_start_s=store.segment_start_s[part],
                    segment_weight=store.segment_weight[part],
                    segment_logits=None if logits is None else logits[part],
                )
            )
        expected = np.exp(predict_songs(world.fusion, alone, world.indexes).scores["fused"][0])
        assert moment.top[0].probability == pytest.approx(expected.max())
        assert moment.top[0].singer == world.fusion.singers[expected.argmax()]
        assert moment.voice == 1.0


def test_voice_is_told_where_somebody_listened_for_it(world: Any, table: Path) -> None:
    weights = np.array([0.25, 0.0, 1.0], np.float32)

    def hear(data: bytes) -> Recording:
        stores = tuple(
            replace(
                store,
                segment_weight=weights * (data != b"mute"),
                made_from=store.made_from | {"activity": "detector"},
            )
            for store in one_song(world.validation, 2)
        )
        return Recording(3.0, "0" * 16, stores)

    predictor = FusionPredictor(world.fusion, table, hear)
    found = predictor.recognise(b"x")
    assert [moment.voice for moment in found.moments] == [0.25, 0.0, 1.0]
    assert found.notes == ()
    assert predictor.recognise(b"mute").notes == ("No voice was found: heard as a whole.",)


def test_a_member_that_finds_no_voice_in_the_vocals_has_no_part(world: Any, table: Path) -> None:
    first, second = one_song(world.validation, 2)
    deaf = replace(
        second,
        segment_weight=np.zeros(3, np.float32),
        made_from=second.made_from | {"activity": "energy"},
    )
    asked: list[Mapping[str, Any]] = []
    beside = Beside(place=lambda embeddings: asked.append(embeddings))
    predictor = FusionPredictor(
        world.fusion, table, lambda _: Recording(3.0, "0" * 16, (first, deaf)), beside=beside
    )
    found = predictor.recognise(b"")
    assert found.notes == ("Answered by 1 of 2 members: no vocals for two.",)
    assert list(asked[0]) == ["one"]
    alone = world.indexes["one"].embeddings @ first.embeddings[0]
    assert found.nearest[0].similarity == pytest.approx(alone.max(), abs=1e-6)
    expected = predict_songs(world.fusion, [first], world.indexes).scores["fused"][0]
    assert found.top[0].probability == pytest.approx(np.exp(expected.max()))
    assert [moment.voice for moment in found.moments] == [1.0, 1.0, 1.0]


def test_the_place_is_asked_for_with_each_members_embedding(world: Any, table: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    def place(embeddings: Mapping[str, Any]) -> Place:
        asked.append(embeddings)
        return Place(1.0, 2.0)

    points = (MapPoint(0.0, 0.0, "a", "t", "b"),)
    predictor = predictor_of(world, table, beside=Beside(points, place))
    assert predictor.map_points() == points
    assert predictor.recognise(b"6").place == Place(1.0, 2.0)
    assert list(asked[0]) == ["one", "two"]
    for store in world.validation:
        assert np.array_equal(asked[0][store.member], store.embeddings[6])


def test_without_a_threshold_nobody_is_unknown(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table, fusion=replace(world.fusion, unknown=None))
    found = predictor.recognise(b"!0")
    assert (found.unknown, found.threshold) == (False, 0.0)


def test_where_too_few_singers_were_trained_only_they_can_be_enrolled(
    world: Any, table: Path
) -> None:
    predictor = predictor_of(world, table, fusion=replace(world.fusion, gate=None))
    with pytest.raises(UserError, match="knows too few singers"):
        predictor.enroll("Ann", b"!0")
    predictor.enroll("singer 1", b"!0")
    assert predictor.recognise(b"!0").nearest[0].singer == "singer 1"


def test_an_enrolled_strangers_other_songs_are_found_and_undo_forgets_them(
    world: Any, table: Path
) -> None:
    predictor = predictor_of(world, table)
    before = predictor.recognise(b"!2")
    assert predictor.enroll("Ann", b"!0", "one.wav") == "Ann is enrolled with this recording."
    assert predictor.enroll("Ann", b"!1") == "Ann is enrolled with this recording."
    assert predictor.singers()[-1] == "Ann"
    found = predictor.recognise(b"!2")
    assert found.top[0].singer == "Ann"
    assert not found.unknown
    assert {near.song_id.rsplit(" ", 1)[0] for near in found.nearest} >= {"Ann/recordings/one"}
    predictor.undo()
    predictor.undo()
    assert predictor.recognise(b"!2") == before


def test_nobody_is_enrolled_in_the_index_of_another_fusion(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table)
    predictor.enroll("Ann", b"!0")
    before = predictor.recognise(b"!2")
    write_table(table, world.train, fusion="a later one")
    for change in (lambda: predictor.enroll("Ben", b"!5"), predictor.undo):
        with pytest.raises(UserError, match="The run was fused again"):
            change()
    assert history(table) == []
    assert predictor.recognise(b"!2") == before  # of what was loaded


def test_nobody_is_enrolled_while_another_program_fuses(world: Any, table: Path) -> None:
    @contextmanager
    def writing() -> Iterator[None]:
        raise InUse("process 1 is at work on fusion in /srv/run")
        yield

    predictor = predictor_of(world, table, writing=writing)
    with pytest.raises(UserError, match="Another program is changing the index") as refused:
        predictor.enroll("Ann", b"!0")
    assert "/srv" not in str(refused.value)
    assert history(table) == []


def test_only_one_s_own_change_is_taken_back(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table)
    predictor.enroll("Ann", b"!0")
    write_table(table, world.train)  # the same fusion again
    songs = [store.take(np.array([5])) for store in world.strangers]
    enroll(table, "Ben", songs_of(songs))  # a change of the same number
    with pytest.raises(UserError, match="changed elsewhere"):
        predictor.undo()
    assert [change.singer for change in history(table)] == ["Ben"]


def test_files_that_are_too_large_are_not_heard(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table, limits=Limits(max_mb=0.000002))
    assert predictor.recognise(b"10").top
    with pytest.raises(UserError, match=r"^The file is larger than 2e-06 MB\.$"):
        predictor.recognise(b"010")


def test_recordings_are_heard_one_at_a_time(world: Any, table: Path) -> None:
    inside, most = 0, 0

    def hear(data: bytes) -> Recording:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return Recording(3.0, "0" * 16, one_song(world.validation, int(data)))

    predictor = FusionPredictor(world.fusion, table, hear)
    alone = {n: predictor.recognise(b"%d" % n) for n in range(4)}
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = predictor.recognise(b"%d" % (number % 4))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert all(found[number] == alone[number % 4] for number in range(8))


@pytest.mark.parametrize("name", ["Ann", "AC-DC", "陳 奕迅", " Ann ", "a" * 100])
def test_names_that_are_taken(name: str) -> None:
    assert named(name) == name.strip()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x00", "\udce9", "a\u2028b", "a\x85b"])
def test_names_that_are_no_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^Give the singer's name, in one line\.$"):
        named(name)


def test_names_that_are_nobodys_or_too_long() -> None:
    with pytest.raises(UserError, match="“unknown” is what answers call nobody"):
        named(UNKNOWN)
    with pytest.raises(UserError, match="cannot hold “/”"):
        named("AC/DC")
    with pytest.raises(UserError, match="100 characters at most"):
        named("a" * 101)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("song.wav", "song"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\my song.mp3", "my song"),
        ("a\nb\x00.ogg", "ab"),
        ("", "recording"),
        ("/", "recording"),
        ("x" * 200, "x" * 60),
    ],
)
def test_a_title_is_made_of_a_name(name: str, title: str) -> None:
    assert shown(name) == title


def test_members_with_other_segments_than_the_first_say_nothing_of_moments(world: Any) -> None:
    first, second = one_song(world.validation, 0)
    later = replace(second, segment_start_s=second.segment_start_s + 0.5)
    assert [store.member for store in by_segment([first, second])] == ["one", "two"]
    assert [store.member for store in by_segment([first, later])] == ["one"]


def test_a_segment_ends_where_the_next_begins_if_its_length_is_not_told(world: Any) -> None:
    (store, _) = one_song(world.validation, 0)
    assert ends_of(replace(store, made_from={}), 3.5) == [1.0, 2.0, 3.5]
    told = replace(store, made_from={"grid": "1.25 s every 1 s"})
    assert ends_of(told, 2.5) == [1.25, 2.25, 2.5]


def test_a_copy_of_a_song_of_the_index_is_told(world: Any, table: Path) -> None:
    predictor = FusionPredictor(
        world.fusion, table, lambda _: Recording(3.0, "0" * 16, one_song(world.train, 5))
    )
    first = world.train[0]
    title, singer = first.song_ids[5].split("/")[-1].removesuffix(".wav"), "singer 0"
    assert predictor.recognise(b"").notes == (
        f"The index holds this recording: {title} by {singer}.",
    )
    said = predictor.enroll("Ann", b"")
    assert f"It is the same recording as {first.song_ids[5]} of {singer}, which stays" in said
    embeddings = {store.member: store.embeddings[5:6] for store in world.train}
    others = {name: index.embeddings for name, index in world.indexes.items()}
    assert copies_of(embeddings, others).tolist() == [5]
