"""What synthetic members answer, recomputed from the fusion itself; changes of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.web import recogniser
from analysis.web.recogniser import Recogniser, RunContext, visitors_name
from analysis.web.schemas import Limits, MapPoint, Place
from embedder.data.audio import Audio
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import Store
from embedder.run import InUse
from ensemble.enrollment import copies_of, title_of
from ensemble.fusion.fitted import Fusion
from ensemble.identifier import SingerIdentifier
from ensemble.index.members import songs_of
from ensemble.index.table import enroll, history, write_table
from ensemble.open_set import UNKNOWN
from ensemble.scoring import score_songs, segment_ends, segments_as_songs


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


Embed = Callable[[str], tuple[Store, ...]]


@dataclass
class FakeRecording:
    """Of a text in place of sound."""

    text: str
    seconds: float = 3.5
    notes: tuple[str, ...] = ()
    stems: frozenset[str] = frozenset({"mix"})

    @property
    def fingerprint(self) -> str:
        return f"{self.text:0>16}"


class FakeReader:
    """Gives a text back as it came; the identifier knows no torch, so nothing else is needed."""

    separation = ""

    def prepare(self, audio: Audio, vocals: None = None) -> FakeRecording:
        assert vocals is None
        return FakeRecording(audio.samples.tobytes().decode().strip(), audio.seconds)


@dataclass
class FakeEmbedder:
    """Gives the stores that `hear` says of one recording."""

    name: str
    place: int
    answer: Embed
    stem: str = "mix"
    reader: FakeReader = field(default_factory=FakeReader)

    def embed(self, recordings: Sequence[FakeRecording], names: Sequence[str]) -> Store:
        (one,) = recordings
        return replace(self.answer(one.text)[self.place], song_ids=tuple(names))


def spoken(data: bytes, seconds: float = 3.5) -> Audio:
    """A text as if it were sound."""
    return Audio(np.frombuffer(data + b" " * (len(data) % 2), dtype=np.int16), seconds)


@pytest.fixture(autouse=True)
def _texts_are_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recogniser, "decode_recording", lambda data, _: spoken(data))


def identifier_of(
    world: Any, table: Path, answer: Embed | None = None, **options: Any
) -> SingerIdentifier:
    """Takes "3" for the fourth validation song, "!3" for an unknown singer's."""

    def usual(text: str) -> tuple[Store, ...]:
        stores = world.strangers if text.startswith("!") else world.validation
        return one_song(stores, int(text.strip("!")))

    fusion: Fusion = options.pop("fusion", world.fusion)
    embedders = [FakeEmbedder(n, i, answer or usual) for i, n in enumerate(fusion.members)]
    return SingerIdentifier(fusion, table, lambda: embedders, **options)


def predictor_of(
    world: Any, table: Path, answer: Embed | None = None, **options: Any
) -> Recogniser:
    context, limits = options.pop("context", RunContext()), options.pop("limits", Limits())
    return Recogniser(identifier_of(world, table, answer, **options), context, limits)


def test_the_answer_is_the_fusions(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table)
    threshold = world.fusion.unknown.threshold
    unknown = []
    for sent in ("0", "7", "20", "!0", "!5"):
        stores = world.strangers if sent[0] == "!" else world.validation
        song = int(sent.strip("!"))
        expected = score_songs(
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
    context = RunContext(
        playable=frozenset({"singer 0/train0/0.wav"}), audio=lambda song: song.encode()
    )
    predictor = predictor_of(world, table, context=context)
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


def test_each_segment_is_answered_as_if_it_were_a_recording(world: Any, table: Path) -> None:
    found = predictor_of(world, table).recognise(b"4").segments
    assert [(one.start_s, one.end_s) for one in found] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.5)]
    for number, segment in enumerate(found):
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
        expected = np.exp(score_songs(world.fusion, alone, world.indexes).scores["fused"][0])
        assert segment.top[0].probability == pytest.approx(expected.max())
        assert segment.top[0].singer == world.fusion.singers[expected.argmax()]
        assert segment.voice == 1.0


def test_voice_is_told_where_somebody_listened_for_it(world: Any, table: Path) -> None:
    weights = np.array([0.25, 0.0, 1.0], np.float32)

    def embedded(text: str) -> tuple[Store, ...]:
        return tuple(
            replace(
                store,
                segment_weight=weights * (text != "mute"),
                made_from=store.made_from | {"activity": "detector"},
            )
            for store in one_song(world.validation, 2)
        )

    fusion = replace(world.fusion, listening=InferenceConfig(detector="d"))
    predictor = predictor_of(world, table, embedded, fusion=fusion)
    found = predictor.recognise(b"x")
    assert [segment.voice for segment in found.segments] == [0.25, 0.0, 1.0]
    assert found.notes == ()
    assert predictor.recognise(b"mute").notes == (
        "No voice was found: the whole recording is used.",
    )


def test_a_member_that_finds_no_voice_in_the_vocals_has_no_part(world: Any, table: Path) -> None:
    first, second = one_song(world.validation, 2)
    deaf = replace(
        second,
        segment_weight=np.zeros(3, np.float32),
        made_from=second.made_from | {"activity": "energy"},
    )
    asked: list[Mapping[str, Any]] = []
    context = RunContext(place=lambda embeddings: asked.append(embeddings))
    predictor = predictor_of(world, table, lambda _: (first, deaf), context=context)
    found = predictor.recognise(b"")
    assert found.notes == ("Answered by 1 of 2 members: no vocals for two.",)
    assert list(asked[0]) == ["one"]
    alone = world.indexes["one"].embeddings @ first.embeddings[0]
    assert found.nearest[0].similarity == pytest.approx(alone.max(), abs=1e-6)
    expected = score_songs(world.fusion, [first], world.indexes).scores["fused"][0]
    assert found.top[0].probability == pytest.approx(np.exp(expected.max()))
    assert [segment.voice for segment in found.segments] == [1.0, 1.0, 1.0]


def test_the_place_is_asked_for_with_each_members_embedding(world: Any, table: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    def place(embeddings: Mapping[str, Any]) -> Place:
        asked.append(embeddings)
        return Place(1.0, 2.0)

    points = (MapPoint(0.0, 0.0, "a", "t", "b"),)
    predictor = predictor_of(world, table, context=RunContext(points, place))
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


@pytest.mark.parametrize("name", ["Ann", "AC-DC", "陳 奕迅", " Ann ", "a" * 100])
def test_names_that_are_taken(name: str) -> None:
    assert visitors_name(name) == name.strip()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x00", "\udce9", "a\u2028b", "a\x85b"])
def test_names_that_are_no_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^Give the singer's name, in one line\.$"):
        visitors_name(name)


def test_names_that_are_nobodys_or_too_long() -> None:
    with pytest.raises(UserError, match="“unknown” is what answers call nobody"):
        visitors_name(UNKNOWN)
    with pytest.raises(UserError, match="cannot hold “/”"):
        visitors_name("AC/DC")
    with pytest.raises(UserError, match="100 characters at most"):
        visitors_name("a" * 101)


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
    assert title_of(name) == title


def test_members_with_other_segments_than_the_first_say_nothing_of_segments(world: Any) -> None:
    first, second = one_song(world.validation, 0)
    later = replace(second, segment_start_s=second.segment_start_s + 0.5)
    assert [store.member for store in segments_as_songs([first, second])] == ["one", "two"]
    assert [store.member for store in segments_as_songs([first, later])] == ["one"]


def test_a_segment_ends_where_the_next_begins_if_its_length_is_not_told(world: Any) -> None:
    (store, _) = one_song(world.validation, 0)
    assert segment_ends(replace(store, made_from={}), 3.5) == [1.0, 2.0, 3.5]
    told = replace(store, made_from={"segment_s": "1.25"})
    assert segment_ends(told, 2.5) == [1.25, 2.25, 2.5]


def test_a_copy_of_a_song_of_the_index_is_told(world: Any, table: Path) -> None:
    predictor = predictor_of(world, table, lambda _: one_song(world.train, 5))
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
