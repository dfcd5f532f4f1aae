"""Embedding: a song's numbers are its own, stores say what `embed_wave` says, files are checked."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from embedder.architectures import ARCHITECTURES
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.audio import AudioError, decode
from embedder.data.cache import AudioCache
from embedder.data.voice_activity import sung, voice_share
from embedder.errors import UserError
from embedder.inference.aggregate import song_embedding
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.config import InferenceConfig
from embedder.inference.detector import Detector, Voices, detected, load_detector
from embedder.inference.embed import CHUNK, embed_attenuated, embed_split, embed_wave, stem_key
from embedder.inference.embed_files import check_files, embed_files, vocal_stems
from embedder.inference.store import ATTENUATED, ATTENUATED_DB, Store, read_store
from embedder.models.detector import VoiceDetector
from embedder.models.network import Network
from embedder.run import Run
from embedder.training.members import train_member

Tiny = Callable[..., MemberConfig]


def some_member(config: MemberConfig, name: str = "m", *, head: bool = True) -> Member:
    torch.manual_seed(3)
    network = Network(config).eval().requires_grad_(False)
    weights = torch.randn(4, config.model.embedding_dim) if head else None
    return Member(name, config, ("a", "b", "c", "d"), "", network, weights, "made up")


def noise(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 3000, round(seconds * SAMPLE_RATE))).astype(np.int16)


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


def test_segments_in_whole_chunks_and_in_the_rest_are_heard_alike(tiny: Tiny) -> None:
    member = some_member(tiny())
    wave = noise(CHUNK + 4.0)  # hop 1 s, segment 2 s: CHUNK + 3 segments
    whole = embed_wave(member, wave)
    assert len(whole.start_s) == CHUNK + 3
    assert whole.logits is not None
    assert member.head is not None
    for number in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        start = round(float(whole.start_s[number]) * SAMPLE_RATE)
        piece = torch.from_numpy(wave[start : start + 2 * SAMPLE_RATE].astype(np.float32) / 32768)
        with torch.inference_mode():
            alone = member.network(piece[None])[0].numpy()
        assert np.allclose(whole.embeddings[number], alone, atol=1e-5)
        head = member.head.numpy() / np.linalg.norm(member.head.numpy(), axis=1, keepdims=True)
        expected = member.config.loss.aam_scale * head @ alone
        assert np.allclose(whole.logits[number], expected, atol=1e-3)
    assert np.allclose(np.linalg.norm(whole.embeddings, axis=1), 1, atol=1e-5)


def test_of_a_singer_s_sub_centres_the_nearest_answers(tiny: Tiny) -> None:
    config = tiny(loss="triplet+subcenter", subcenters=2)
    torch.manual_seed(4)
    network = Network(config).eval().requires_grad_(False)
    head = torch.randn(3 * 2, config.model.embedding_dim)
    heard = embed_wave(Member("m", config, ("a", "b", "c"), "", network, head), noise(3.0))
    assert heard.logits is not None
    rows = head.numpy() / np.linalg.norm(head.numpy(), axis=1, keepdims=True)
    cosines = heard.embeddings @ rows.T
    for singer in range(3):
        nearest = np.maximum(cosines[:, 2 * singer], cosines[:, 2 * singer + 1])
        assert np.allclose(heard.logits[:, singer], config.loss.aam_scale * nearest, atol=1e-3)


def test_a_store_holds_what_embed_wave_says_of_each_song(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    for name in ("aam", "triplet"):
        member = load_member(trained, name)
        written = embed_split(trained, catalogue, member, "validation")
        store = read_store(trained.store(name, "validation"))
        songs = catalogue.of("validation")
        assert store.song_ids == tuple(song.id for song in songs)
        assert store.albums == tuple(song.album_id for song in songs)
        assert [catalogue.singers[label] for label in store.labels] == [s.singer for s in songs]
        assert store.split == "validation"
        assert store.made_from["checkpoint"] == member.checkpoint
        assert store.made_from["catalogue"] == catalogue.fingerprint()
        assert np.array_equal(store.embeddings, written.embeddings)
        for number, song in enumerate(songs):
            heard = embed_wave(member, AudioCache(trained.cache).samples(song.audio))
            part = store.segments_of(number)
            assert np.array_equal(store.segment_embeddings[part], heard.embeddings)
            assert np.array_equal(store.segment_start_s[part], heard.start_s)
            assert np.array_equal(store.embeddings[number], song_embedding(heard.embeddings))
            assert (store.segment_weight[part] == 1).all()
            if name == "triplet":
                assert heard.logits is None
                assert store.segment_logits is None
            else:
                assert heard.logits is not None
                assert store.segment_logits is not None
                assert np.array_equal(store.segment_logits[part], heard.logits)


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


def test_another_catalogue_is_refused(trained: Run) -> None:
    member = load_member(trained, "aam")
    before = trained.store("aam", "train").read_bytes()
    write_catalogue(trained.catalogue, Catalogue(read_catalogue(trained.catalogue).songs[1:]))
    with pytest.raises(UserError, match=r"aam was trained on another catalogue .*--overwrite"):
        embed_split(trained, read_catalogue(trained.catalogue), member, "train")
    assert trained.store("aam", "train").read_bytes() == before


def test_a_song_without_the_stem_is_named(trained: Run) -> None:
    song = read_catalogue(trained.catalogue).songs[0]
    assert stem_key(song, "mix") == song.audio
    assert stem_key(song, "vocals") == song.vocals
    bare = Catalogue(()).songs or song.__class__("a/b/c.wav", "", "a", "b", "c")
    with pytest.raises(UserError, match=r"a/b/c\.wav has no vocals stem; .*--stems_dir"):
        stem_key(bare, "vocals")


# Files to predict -------------------------------------------------------------------------------


def test_short_files_work_and_too_short_ones_are_refused(tmp_path: Path, tiny: Tiny) -> None:
    lengths = {"0.02": 0.02, "0.49": 0.49, "0.50": 0.5, "1": 1.0}
    paths = {name: tmp_path / f"{name}.wav" for name in lengths}
    for name, seconds in lengths.items():
        soundfile.write(paths[name], noise(seconds), SAMPLE_RATE)
    bad, _ = check_files(list(paths.values()))
    assert bad == {
        paths["0.02"]: "too short: 0.02 s, needed is 0.5 s",
        paths["0.49"]: "too short: 0.49 s, needed is 0.5 s",
    }
    (batch,) = embed_files([some_member(tiny())], [paths["0.50"]], ["x"])
    assert len(batch[0].segment_start_s) == 1
    assert np.isfinite(batch[0].embeddings).all()


def test_files_of_all_rates_and_channels_are_checked(tmp_path: Path) -> None:
    good = {"cd.wav": (44100, 2), "phone.flac": (8000, 1), "studio.ogg": (48000, 2)}
    for name, (rate, channels) in good.items():
        wave = np.random.default_rng(0).normal(0, 0.1, (rate, channels))
        soundfile.write(tmp_path / name, wave, rate)
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    cut = (tmp_path / "cd.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(cut[: len(cut) * 3 // 4])
    found, notes = check_files(sorted(p for p in tmp_path.iterdir() if p.is_file()))
    assert {path.name: reason for path, reason in found.items()} == {
        "empty.mp3": "empty: it has no bytes",
        "none.wav": "empty: it holds no sample",
        "silence.wav": "silent: its loudest sample is below -60 dB",
        "text.wav": "unreadable: it holds no audio in a known format",
    }
    assert notes == {tmp_path / "cut.wav": ("0.7 of 1.0 s could be decoded",)}
    shown: list[tuple[int, str]] = []

    def progress(items: Iterator[object], total: int, title: str) -> Iterator[object]:
        shown.append((total, title))
        return items

    check_files([tmp_path / "cd.wav"], progress)  # type: ignore[arg-type]
    assert shown == [(1, "checking files")]


def test_no_more_than_two_batches_are_held(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch is heard while the next one is decoded, however many files there are."""
    decoded: list[Path] = []
    held: list[weakref.ref[NDArray[np.int16]]] = []
    most = 0

    def fake(path: Path) -> NDArray[np.int16]:
        wave = noise(1.0)
        decoded.append(path)
        held.append(weakref.ref(wave))
        return wave

    monkeypatch.setattr("embedder.inference.embed_files.decode", fake)
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


def test_a_file_that_fails_while_embedding_is_named(files: list[Path], tiny: Tiny) -> None:
    files[4].write_bytes(b"")
    with pytest.raises(AudioError, match=r"4\.wav is empty"):
        list(embed_files([some_member(tiny())], files, list("0123456"), batch_size=2))


def test_no_files_give_no_batch(tiny: Tiny) -> None:
    assert list(embed_files([some_member(tiny())], [], [])) == []


# Vocal stems ------------------------------------------------------------------------------------


def hears_vocals(tiny: Tiny, name: str) -> Member:
    return some_member(tiny(stem="vocals"), name)


def test_without_stems_members_that_listen_to_vocals_are_left_out(
    files: list[Path], tiny: Tiny
) -> None:
    mix, vocals = some_member(tiny(), "mix"), hears_vocals(tiny, "vox")
    root = files[0].parent
    assert vocal_stems([mix], files, root, None) == ([mix], None, [])
    assert vocal_stems([mix], files, root, root / "anything") == ([mix], None, [])
    assert vocal_stems([mix, vocals], files, root, None) == ([mix], None, ["vox"])
    with pytest.raises(UserError, match=r"all members listen to vocals \(vox\); .*--stems_dir"):
        vocal_stems([vocals], files, root, None)
    with pytest.raises(ValueError, match="listens to vocals, and there are none"):
        list(embed_files([vocals], files, list("0123456")))


def test_members_hear_vocals_that_are_separated_from_the_files(
    files: list[Path], tiny: Tiny
) -> None:
    mix, vocals = some_member(tiny(), "mix"), hears_vocals(tiny, "vox")
    root, names = files[0].parent, [file.stem for file in files]

    def separate(wave: NDArray[np.int16]) -> NDArray[np.int16]:
        return np.cumsum(wave // 64, dtype=np.int16)  # another sound of the same length

    members, heard, dropped = vocal_stems([mix, vocals], files, root, None, separated=True)
    assert ([m.name for m in members], heard, dropped) == (["mix", "vox"], None, [])
    batches = list(embed_files(members, files, names, separate=separate, batch_size=3))
    for number, file in enumerate(files):
        wave = decode(file)
        for store, member, sound in (
            (batches[number // 3][0], mix, wave),
            (batches[number // 3][1], vocals, separate(wave)),
        ):
            found = store.segment_embeddings[store.segments_of(number % 3)]
            assert np.array_equal(found, embed_wave(member, sound).embeddings)
    # Stems that are there go before those that would be made.
    (given,) = embed_files([vocals], files[:1], ["x"], vocals=files[1:2], separate=separate)
    expected = embed_wave(vocals, decode(files[1])).embeddings
    assert np.array_equal(given[0].segment_embeddings, expected)


def test_each_member_hears_its_own_stem(files: list[Path], tmp_path: Path, tiny: Tiny) -> None:
    mix, vocals = some_member(tiny(), "mix"), hears_vocals(tiny, "vox")
    root = files[0].parent
    (tmp_path / "stems/vocals").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no stem of any song"):
        vocal_stems([mix, vocals], files, root, tmp_path / "stems")
    for number, file in enumerate(files):
        stem = tmp_path / "stems/vocals" / f"{file.stem}.flac"  # of another suffix
        if number != 5:
            soundfile.write(stem, noise(1.5, 50 + number), SAMPLE_RATE)
    with pytest.raises(UserError, match=r"1 files have no vocal stem in .*, 5\.wav for one"):
        vocal_stems([mix, vocals], files, root, tmp_path / "stems")
    del files[5]
    members, heard, dropped = vocal_stems([mix, vocals], files, root, tmp_path / "stems")
    assert [m.name for m in members] == ["mix", "vox"]
    assert dropped == []
    assert heard is not None
    assert [p.name for p in heard] == [f"{file.stem}.flac" for file in files]
    names = [file.stem for file in files]
    stores: list[Store] = []
    for batch in embed_files(members, files, names, vocals=heard, batch_size=4):
        stores += batch
    first_mix, first_vocals = stores[:2]
    for store, member, paths in ((first_mix, mix, files), (first_vocals, vocals, heard)):
        expected = embed_wave(member, decode(paths[0])).embeddings
        assert np.array_equal(store.segment_embeddings[store.segments_of(0)], expected)


# Voice, and other grids -------------------------------------------------------------------------


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


def test_a_segment_weighs_its_share_of_voice(tiny: Tiny) -> None:
    member = some_member(tiny())  # 2 s every 1 s
    wave = noise(5.0)
    active = np.zeros(100, bool)
    active[30:50] = True  # 1.5 to 2.5 s
    heard = embed_wave(member, wave, active=active)
    np.testing.assert_allclose(heard.weight, [0.25, 0.5, 0.25, 0], atol=1e-6)
    plain = embed_wave(member, wave)
    assert plain.weight.tolist() == [1, 1, 1, 1]
    assert np.array_equal(heard.embeddings, plain.embeddings)  # only what they count differs


def test_more_and_longer_segments_are_heard_as_asked(tiny: Tiny) -> None:
    member = some_member(tiny())
    wave = noise(9.0)
    listening = InferenceConfig(segment_s=3.0, hop_s=2.0, tta=4)
    heard = embed_wave(member, wave, listening)
    assert len(heard.start_s) == 4 + 4
    for start, row in zip(heard.start_s, heard.embeddings, strict=True):
        first = round(float(start) * SAMPLE_RATE)
        piece = wave[first : first + 3 * SAMPLE_RATE].astype(np.float32) / 32768
        with torch.inference_mode():
            alone = member.network(torch.from_numpy(piece)[None])[0].numpy()
        assert np.allclose(row, alone, atol=1e-5)


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


def test_a_detector_other_than_the_one_that_is_named_is_a_mistake(
    trained: Run, files: list[Path], tiny: Tiny, judge: Detector
) -> None:
    member = some_member(tiny())
    with pytest.raises(ValueError, match="detector d1, not none"):
        list(embed_files([member], files, list("0123456"), detector=judge))
    with pytest.raises(ValueError, match="detector none, not d2"):
        embed_split(
            trained,
            read_catalogue(trained.catalogue),
            load_member(trained, "aam"),
            "test",
            listening=InferenceConfig(detector="d2"),
        )


def test_the_store_holds_the_validation_songs_with_lower_vocals(trained: Run) -> None:
    catalogue = read_catalogue(trained.catalogue)
    trained.store("aam", ATTENUATED).unlink()
    embed_attenuated(trained, catalogue, ["aam"], InferenceConfig())
    plain, found = (read_store(trained.store("aam", split)) for split in ("validation", ATTENUATED))
    assert found.song_ids == plain.song_ids
    assert (found.labels == plain.labels).all()
    assert found.albums == plain.albums
    assert not np.allclose(found.embeddings, plain.embeddings, atol=1e-3)

    cache, member = AudioCache(trained.cache), load_member(trained, "aam", torch.device("cpu"))
    for row, song in enumerate(catalogue.of("validation")[:3]):
        lower_db = np.random.default_rng(row).uniform(0, ATTENUATED_DB)
        vocals, backing = (cache.samples(key).astype(float) for key in (song.vocals, song.backing))
        length = min(len(vocals), len(backing))
        wave = backing[:length] + vocals[:length] / 10 ** (lower_db / 20)
        wanted = embed_wave(member, np.clip(wave.round(), -32768, 32767).astype(np.int16))
        part = found.segments_of(row)
        assert np.allclose(found.segment_embeddings[part], wanted.embeddings, atol=1e-5)


def test_without_a_separator_a_member_that_hears_vocals_hears_them_as_they_were(
    prepared: Run, tiny: Callable[..., MemberConfig]
) -> None:
    from embedder.inference.embed import embed_split

    catalogue = read_catalogue(prepared.catalogue)
    config = tiny(loss="aam", stem="vocals")
    train_member(prepared, catalogue, "sung", config, device="cpu", say=lambda _: None)
    plain = embed_split(
        prepared, catalogue, load_member(prepared, "sung", torch.device("cpu")), "validation"
    )
    embed_attenuated(prepared, catalogue, ["sung"], InferenceConfig())
    found = read_store(prepared.store("sung", ATTENUATED))
    assert found.embeddings == pytest.approx(plain.embeddings, abs=1e-6)
