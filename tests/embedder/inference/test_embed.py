"""Embedding: a song's numbers are its own, stores say what `embed_wave` says, files are checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.cache import AudioCache
from embedder.errors import UserError
from embedder.inference.aggregate import song_embedding
from embedder.inference.checkpoint import Member, load_member
from embedder.inference.config import InferenceConfig
from embedder.inference.detector import Detector
from embedder.inference.embed import CHUNK, embed_attenuated, embed_split, embed_wave, stem_key
from embedder.inference.embedder import Embedder, RecordingReader
from embedder.inference.store import ATTENUATED, ATTENUATED_DB, read_store
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


def test_a_detector_other_than_the_one_that_is_named_is_a_mistake(
    trained: Run, tiny: Tiny, judge: Detector
) -> None:
    member = some_member(tiny())
    reader = RecordingReader({"mix"}, judge)
    with pytest.raises(ValueError, match="detector d1, not none"):
        Embedder(member, reader)
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
