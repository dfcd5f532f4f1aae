"""Recordings on their way through the members: what each takes, batches, stems, and what is bad."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from embedder.architectures import ARCHITECTURES
from embedder.catalogue import read_catalogue
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.audio import Audio, decode
from embedder.data.cache import AudioCache
from embedder.data.voice_activity import sung, voice_share
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.config import InferenceConfig
from embedder.inference.detector import Detector, Voices, detected, load_detector
from embedder.inference.embed import AS_TRAINED, CHUNK, embed_split, embed_wave
from embedder.inference.embedder import Embedder, RecordingReader
from embedder.inference.store import Store, read_store
from embedder.models.detector import VoiceDetector
from embedder.models.network import Network
from embedder.run import Run
from ensemble.embedding import (
    EmbeddingJob,
    Sources,
    UnusableAudioFilesError,
    sources_of,
    vocal_stems,
)

Tiny = Callable[..., MemberConfig]


def some_member(config: MemberConfig, name: str = "m", *, head: bool = True) -> Member:
    torch.manual_seed(3)
    network = Network(config).eval().requires_grad_(False)
    weights = torch.randn(4, config.model.embedding_dim) if head else None
    return Member(name, config, ("a", "b", "c", "d"), "", network, weights, "made up")


def noise(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 3000, round(seconds * SAMPLE_RATE))).astype(np.int16)


@pytest.fixture(scope="module")
def judge() -> Detector:
    """A voice detector of random weights that hears voice here and there."""
    torch.manual_seed(0)
    network = VoiceDetector().eval().requires_grad_(False)
    answer = network.answer[1]
    heard = network(torch.from_numpy(noise(10.0) / np.float32(32768))[None])
    for part in (answer.bias.sub_(heard.median()), answer.weight):
        part.mul_(5 / heard.std())  # around 0, and far from it to either side
    return Detector(network, "d1")


def embed_files(
    members: Sequence[Member],
    files: Sequence[Path],
    names: Sequence[str],
    *,
    vocals: Sequence[Path] | None = None,
    listening: InferenceConfig = AS_TRAINED,
    detector: Detector | None = None,
    batch_size: int = 8,
) -> Iterator[list[Store]]:
    """Stores of files, a batch after the other."""
    job = EmbeddingJob(given(files, names), vocals or [None] * len(files), batch_size=batch_size)
    for numbers, stores in job.run(embedders_of(members, listening, detector)):
        yield [replace(store, song_ids=tuple(names[n] for n in numbers)) for store in stores]


def given(files: Sequence[Path], names: Sequence[str] | None = None) -> Sources:
    return Sources(files, names or [file.stem for file in files], [str(file) for file in files])


def embedders_of(
    members: Sequence[Member],
    listening: InferenceConfig = AS_TRAINED,
    detector: Detector | None = None,
    separate: Callable[[NDArray[np.int16]], NDArray[np.int16]] | None = None,
) -> list[Embedder]:
    """Members with one reader, whose separator is a function."""
    reader = RecordingReader({m.config.train.recording for m in members}, detector)
    reader.__dict__["separator"] = separate
    return [Embedder(member, reader, listening) for member in members]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Seven files of 0.5 to 11 s; the longest has more segments than the network hears at once."""
    folder = tmp_path / "files"
    folder.mkdir()
    paths = []
    for number, seconds in enumerate((0.5, 2.0, 11.0, 0.7, 5.3, 3.0, 9.9)):
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], noise(seconds, number), SAMPLE_RATE)
    return paths


def stores_of(
    members: list[Member], files: list[Path], batch_size: int
) -> dict[tuple[str, str], tuple[NDArray[np.float32], ...]]:
    """(member, song) → its embedding, segment starts, segment embeddings and segment logits."""
    found = {}
    for batch in embed_files(members, files, [f.stem for f in files], batch_size=batch_size):
        assert [store.member for store in batch] == [member.name for member in members]
        for store in batch:
            for song, name in enumerate(store.song_ids):
                part = store.segments_of(song)
                logits = store.segment_logits
                found[store.member, name] = (
                    store.embeddings[song],
                    store.segment_start_s[part],
                    store.segment_embeddings[part],
                    np.zeros(0, np.float32) if logits is None else logits[part],
                )
    return found


@pytest.mark.parametrize("backbone", ARCHITECTURES)
def test_a_song_s_numbers_depend_on_no_other_song(
    backbone: str, files: list[Path], tiny: Tiny
) -> None:
    config = tiny(backbone=backbone, n_mels=128, n_fft=1024, hop=512)
    members, heard = [some_member(config)], files[2:5]  # one of them has more than a chunk
    if backbone == "ecapa":
        members, heard = [*members, some_member(config, "headless", head=False)], files
    together = stores_of(members, heard, 7)
    assert len(together) == len(members) * len(heard)
    others = [stores_of(members, heard[::-1], 2)]
    if backbone == "ecapa":
        others += [stores_of(members, heard, size) for size in (1, 3)]
        others.append(stores_of(members, heard[2:3], 1) | stores_of(members, heard[:2], 8))
    for other in others:
        for key, numbers in other.items():
            for one, same in zip(numbers, together[key], strict=True):
                assert np.array_equal(one, same), key
    assert max(len(numbers[1]) for numbers in together.values()) > CHUNK


def test_a_predicted_file_has_the_numbers_of_the_same_song_in_a_store(trained: Run) -> None:
    songs = read_catalogue(trained.catalogue).of("test")
    member = load_member(trained, "aam")
    paths = [Path(song.path) for song in songs]
    (batch,) = embed_files([member], paths, ["w", "x", "y", "z"])
    store = read_store(trained.store("aam", "test"))
    assert batch[0].song_ids == ("w", "x", "y", "z")
    assert batch[0].split == ""
    assert batch[0].labels.tolist() == [-1] * 4
    assert np.array_equal(batch[0].segment_embeddings, store.segment_embeddings)


def hears_vocals(tiny: Tiny, name: str) -> Member:
    return some_member(tiny(stem="vocals"), name)


def test_with_a_detector_a_song_s_numbers_are_still_its_own(
    files: list[Path], tiny: Tiny, judge: Detector
) -> None:
    files = files[:4]
    listening = InferenceConfig(1.5, 1.0, 5, judge.fingerprint)
    members = [some_member(tiny())]

    def stores(paths: list[Path], batch_size: int) -> dict[str, tuple[NDArray[np.float32], ...]]:
        found = {}
        names = [path.stem for path in paths]
        more = {"listening": listening, "detector": judge, "batch_size": batch_size}
        for (store,) in embed_files(members, paths, names, **more):  # type: ignore[arg-type]
            for song, name in enumerate(store.song_ids):
                part = store.segments_of(song)
                numbers = (store.segment_weight[part], store.segment_start_s[part])
                found[name] = (store.embeddings[song], store.logits()[song], *numbers)
        return found

    together = stores(files, 4)
    for other in (stores(files, 1), stores(files[::-1], 3)):
        for name, numbers in other.items():
            for one, same in zip(numbers, together[name], strict=True):
                assert np.array_equal(one, same), name
    weights = np.concatenate([numbers[2] for numbers in together.values()])
    assert 0 < weights.mean() < 1


def test_a_song_is_the_weighted_mean_of_its_segments(
    files: list[Path], tiny: Tiny, judge: Detector
) -> None:
    listening = InferenceConfig(detector=judge.fingerprint)
    (batch,) = embed_files(
        [some_member(tiny())], [files[2]], ["x"], listening=listening, detector=judge
    )
    (store,) = batch
    wave = decode(files[2])
    starts = np.round(store.segment_start_s * SAMPLE_RATE).astype(int)
    expected = voice_share(detected(judge, wave), starts, 2 * SAMPLE_RATE)
    assert np.array_equal(store.segment_weight, expected)
    assert len(np.unique(expected)) > 2
    total = (expected[:, None] * store.segment_embeddings.astype(float)).sum(axis=0)
    np.testing.assert_allclose(store.embeddings[0], total / np.linalg.norm(total), atol=1e-6)
    assert store.segment_logits is not None
    logits = (expected[:, None] * store.segment_logits).sum(axis=0) / expected.sum()
    np.testing.assert_allclose(store.logits("mean")[0], logits, rtol=1e-5)
    assert store.made_from["activity"] == "d1"


def test_a_song_in_which_nobody_sings_is_heard_as_a_whole(
    files: list[Path], tiny: Tiny, judge: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stores_of([some_member(tiny())], files[2:4], 2)
    monkeypatch.setattr(
        "embedder.inference.detector.detected", lambda _, wave: np.zeros(-(-len(wave) // 800), bool)
    )
    listening = InferenceConfig(detector=judge.fingerprint)
    ((store,),) = embed_files(
        [some_member(tiny())], files[2:4], ["2", "3"], listening=listening, detector=judge
    )
    assert store.voice().tolist() == [0, 0]
    for song, name in enumerate(store.song_ids):
        assert np.array_equal(store.embeddings[song], plain["m", name][0])


def test_members_that_hear_vocals_weigh_by_energy(
    files: list[Path], tmp_path: Path, tiny: Tiny, judge: Detector
) -> None:
    members = [some_member(tiny(), "mix"), hears_vocals(tiny, "vox")]
    stem = tmp_path / "vocals.wav"
    wave = noise(11.0, 5)
    wave[3 * SAMPLE_RATE : 8 * SAMPLE_RATE] //= 1000
    soundfile.write(stem, wave, SAMPLE_RATE)
    listening = InferenceConfig(detector=judge.fingerprint)
    ((mix, vox),) = embed_files(
        members, [files[2]], ["x"], vocals=[stem], listening=listening, detector=judge
    )
    starts = np.round(vox.segment_start_s * SAMPLE_RATE).astype(int)
    expected = voice_share(sung(wave), starts, 2 * SAMPLE_RATE)
    assert np.array_equal(vox.segment_weight, expected)
    assert expected.tolist() == [1, 1, 0.5, 0, 0, 0, 0, 0.5, 1, 1]
    assert not np.array_equal(mix.segment_weight, expected)
    assert (mix.made_from["activity"], vox.made_from["activity"]) == ("d1", "energy")


def test_a_store_and_a_predicted_file_have_the_same_weights_and_grid(
    trained: Run, put_detector: Callable[[Run, float], None]
) -> None:
    put_detector(trained, 0.0)
    detector, member = load_detector(trained), load_member(trained, "aam")
    assert detector is not None
    listening = InferenceConfig(1.5, 0.5, 6, detector.fingerprint)
    catalogue = read_catalogue(trained.catalogue)
    voices = Voices(detector, AudioCache(trained.cache))
    store = embed_split(trained, catalogue, member, "test", listening=listening, voices=voices)
    paths = [Path(song.path) for song in catalogue.of("test")]
    ((same,),) = embed_files(
        [member], paths[::-1], list("abcd"), listening=listening, detector=detector
    )
    for song in range(4):
        one, other = store.segments_of(song), same.segments_of(3 - song)
        assert np.array_equal(store.segment_start_s[one], same.segment_start_s[other])
        assert np.array_equal(store.segment_weight[one], same.segment_weight[other])
        assert np.array_equal(store.embeddings[song], same.embeddings[3 - song])
    assert 0 < store.segment_weight.mean() < 1
    assert store.made_from["grid"] == "1.5 s every 0.5 s and 6 more"


def test_files_of_all_rates_and_channels_are_taken_or_named(tmp_path: Path, tiny: Tiny) -> None:
    good = {"cd.wav": (44100, 2), "phone.flac": (8000, 1), "studio.ogg": (48000, 2)}
    for name, (rate, channels) in good.items():
        wave = np.random.default_rng(0).normal(0, 0.1, (rate, channels))
        soundfile.write(tmp_path / name, wave, rate)
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "short.wav", noise(0.49), 16000)
    soundfile.write(tmp_path / "enough.wav", noise(0.5), 16000)
    cut = (tmp_path / "cd.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(cut[: len(cut) * 3 // 4])
    files = sorted(p for p in tmp_path.iterdir() if p.is_file())
    expected = {
        "empty.mp3": "empty: it has no bytes",
        "none.wav": "empty: it holds no sample",
        "short.wav": "too short: 0.49 s, needed is 0.5 s",
        "silence.wav": "silent: its loudest sample is below -60 dB",
        "text.wav": "unreadable: it holds no audio in a known format",
    }
    embedders = embedders_of([some_member(tiny())])
    job = EmbeddingJob(given(files), [None] * len(files), skip_bad=True, batch_size=3)
    taken = [files[n].name for numbers, _ in job.run(embedders) for n in numbers]
    assert taken == [file.name for file in files if file.name not in expected]
    assert {Path(p).name: why for p, why in job.by_label(job.problems).items()} == expected
    assert job.by_label(job.notes) == {
        str(tmp_path / "cut.wav"): ("0.7 of 1.0 s could be decoded",)
    }
    job = EmbeddingJob(given(files), [None] * len(files), batch_size=3)
    with pytest.raises(UnusableAudioFilesError) as refused:
        list(job.run(embedders))
    assert {Path(p).name: why for p, why in refused.value.problems.items()} == expected
    assert refused.value.total == len(files)
    bad = [file for file in files if file.name in expected]
    with pytest.raises(UnusableAudioFilesError):
        list(EmbeddingJob(given(bad), [None] * 5, skip_bad=True).run(embedders))
    with pytest.raises(ValueError, match="0 recordings"):
        sources_of([])


def test_each_file_is_decoded_once_and_no_more_than_two_batches_are_held(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch is embedded while the next one is decoded, however many files there are."""
    decoded: list[Path] = []
    held: list[weakref.ref[NDArray[np.int16]]] = []
    most = 0

    def fake(path: Path) -> Audio:
        wave = noise(1.0)
        decoded.append(path)
        held.append(weakref.ref(wave))
        return Audio(wave, 1.0)

    monkeypatch.setattr("embedder.inference.embedder.read_audio", fake)
    size, paths = 3, [tmp_path / f"{n}.wav" for n in range(25)]
    batches = embed_files([some_member(tiny())], paths, [p.stem for p in paths], batch_size=size)
    seen = 0
    for number, (store,) in enumerate(batches):
        seen += len(store.song_ids)
        assert len(decoded) <= (number + 2) * size
        most = max(most, sum(ref() is not None for ref in held))
    assert seen == 25
    assert sorted(decoded) == sorted(paths)
    assert size <= most <= 2 * size


def test_members_that_take_vocals_take_separated_ones_or_are_unavailable(
    files: list[Path], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [some_member(tiny(), "mix"), hears_vocals(tiny, "vox")]
    names = [file.stem for file in files]

    def separate(wave: NDArray[np.int16]) -> NDArray[np.int16]:
        return np.cumsum(wave // 64, dtype=np.int16)  # another sound of the same length

    monkeypatch.setattr("embedder.inference.separate.separated_vocals", lambda by, wave: by(wave))
    job = EmbeddingJob(given(files, names), [None] * len(files), batch_size=3)
    batches = list(job.run(embedders_of(members, separate=separate)))
    for number, file in enumerate(files):
        wave = decode(file)
        _, stores = batches[number // 3]
        for store, member, sound in zip(stores, members, (wave, separate(wave)), strict=True):
            found = store.segment_embeddings[store.segments_of(number % 3)]
            assert np.array_equal(found, embed_wave(member, sound).embeddings)
    # Stems that are there go before those that would be made.
    job = EmbeddingJob(given(files[:1]), files[1:2])
    ((_, (store,)),) = job.run(embedders_of(members[1:], separate=separate))
    assert np.array_equal(
        store.segment_embeddings, embed_wave(members[1], decode(files[1])).embeddings
    )
    # Without either, the others answer.
    ((mix,),) = embed_files(members, files[:1], ["x"])
    assert mix.member == "mix"


def test_each_member_takes_its_own_stem(files: list[Path], tmp_path: Path, tiny: Tiny) -> None:
    members = [some_member(tiny(), "mix"), hears_vocals(tiny, "vox")]
    embedders = embedders_of(members)
    folder = sources_of(files[0].parent)
    said: list[str] = []

    def stems_of(chosen: Sequence[Embedder], stems_dir: Path | None) -> list[Path | None]:
        return vocal_stems(chosen, folder, stems_dir, said.append, said.append)

    nothing = [None] * len(files)
    assert stems_of(embedders[:1], tmp_path / "anything") == nothing
    assert said == []
    assert stems_of(embedders, None) == nothing
    assert said == ["without vocal stems (--stems_dir) these are unavailable: vox"]
    with pytest.raises(UserError, match=r"all members take vocals \(vox\); .*--stems_dir"):
        stems_of(embedders[1:], None)
    stems = tmp_path / "stems"
    (stems / "vocals").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no stem of any song"):
        stems_of(embedders, stems)
    for number, file in enumerate(files):
        if number != 5:  # of another suffix
            soundfile.write(stems / "vocals" / f"{file.stem}.flac", noise(1.5, 50 + number), 16000)
    with pytest.raises(UserError, match=r"1 file has no vocal stem in .*5\.wav for one"):
        stems_of(embedders[1:], stems)
    found = stems_of(embedders, stems)
    assert [path and path.name for path in found] == [
        None if n == 5 else f"{file.stem}.flac" for n, file in enumerate(files)
    ]
    seen: dict[int, list[str]] = {}
    for numbers, stores in EmbeddingJob(folder, found, batch_size=4).run(embedders):
        for row, number in enumerate(numbers):
            seen[number] = [store.member for store in stores]
            if number == 0:
                for store, path in zip(stores, (files[0], found[0]), strict=True):
                    member = members[store.member == "vox"]
                    expected = embed_wave(member, decode(path)).embeddings
                    part = store.segments_of(row)
                    assert np.array_equal(store.segment_embeddings[part], expected)
    assert seen == {n: ["mix"] if n == 5 else ["mix", "vox"] for n in range(len(files))}


def test_threads_share_members_one_at_a_time(
    files: list[Path], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = embedders_of([some_member(tiny())])
    alone = [one.embed(file).embeddings for file in files]
    inside, most = 0, 0

    def counted(*given: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        found = embed_wave(*given)
        inside -= 1
        return found

    monkeypatch.setattr("embedder.inference.embedder.embed_wave", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda file: one.embed(file).embeddings, files))
    assert most == 1
    assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))
