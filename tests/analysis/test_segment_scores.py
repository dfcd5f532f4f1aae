"""Segments on a page: probabilities are the member's own, and what is left out is the least."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.measures.expert_scores import evidence_of
from analysis.run_data import read_run_data
from analysis.segment_scores import (
    FEWEST,
    MOST,
    FirstChoices,
    SegmentScores,
    first_choices,
    room,
    segment_scores,
    top_singers,
)
from embedder.inference.store import read_store, write_store
from embedder.run import Run
from ensemble.fusion.experts import expert_name
from ensemble.fusion.knn import SegmentNeighbours


def scores(counts: list[int], singers: int = 6, seed: int = 0) -> SegmentScores:
    rng = np.random.default_rng(seed)
    total = sum(counts)
    return SegmentScores(
        "m",
        "head",
        np.array(counts),
        np.concatenate([np.arange(count) * 1.5 for count in counts]),
        rng.random(total),
        rng.dirichlet(np.ones(singers) / 2, total).astype(np.float32),
        3.0,
        True,
    )


def test_a_head_gives_the_softmax_of_its_logits_by_start(copied: Run) -> None:
    path = copied.store("aam", "validation")
    store = read_store(path)
    rows = np.concatenate([np.arange(6 * song, 6 * song + 6)[::-1] for song in range(24)])
    assert store.segment_logits is not None
    backwards = {
        name: getattr(store, name)[rows]
        for name in ("segment_start_s", "segment_weight", "segment_logits", "segment_embeddings")
    }
    write_store(path, replace(store, **backwards))  # as places that chance chose would lie
    songs = [
        store.song_ids[5],
        read_store(copied.store("aam", "test")).song_ids[0],
        store.song_ids[2],
    ]
    found = segment_scores(read_run_data(copied), "aam", songs)
    assert isinstance(found, SegmentScores)
    assert (found.how, found.segment_s, found.voiced) == ("head", 3.0, True)
    assert found.counts.tolist() == [6, 6, 6]
    np.testing.assert_allclose(found.starts_s[:6], [0, 2.5, 5, 7.5, 10, 12.5])
    part = store.segments_of(2)
    expected = np.exp(store.segment_logits[part].astype(float))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[12:], expected, atol=1e-6)
    np.testing.assert_allclose(found.weights[12:], store.segment_weight[part])


def test_without_a_head_the_neighbours_vote(answered: Run) -> None:
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    store = read_store(answered.store("triplet", "validation"))
    found = segment_scores(run_data, "triplet", store.song_ids)
    assert isinstance(found, SegmentScores)
    assert (found.how, found.segment_s, found.voiced) == ("neighbours", None, False)
    name = expert_name("triplet", "knn_segment")
    _, evidence = evidence_of(run_data, "triplet")["validation"]
    raw = evidence.raw[name]
    assert isinstance(raw, SegmentNeighbours)
    songs = raw.logits(4, run_data.fusion.votes[name])  # the mean over a song's segments
    means = found.probabilities.reshape(24, 6, 4).mean(axis=1)
    np.testing.assert_allclose(means, np.exp(songs), atol=1e-6)


def test_a_member_that_can_say_nothing_says_why(answered: Run) -> None:
    run_data = replace(read_run_data(answered), fusion=None)
    assert segment_scores(run_data, "triplet", ()) == (
        "Member triplet has no classification head, and no fusion says how its neighbours vote; "
        "run: python app.py fuse"
    )


@pytest.mark.parametrize("together", [1, 2, 3, 7])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_few_are_the_most_probable_and_the_true_one(kept: int, together: int) -> None:
    full = scores([7, 1, 3])
    truth = np.array([4, 0, 5])
    found = top_singers(full, truth, kept, together)
    row = 0
    for song, (first, count) in enumerate(zip((0, 7, 8), (7, 1, 3), strict=True)):
        assert found.counts[song] == -(-count // together)
        for start in range(first, first + count, together):
            part = slice(start, min(start + together, first + count))
            means = full.probabilities[part].astype(float).mean(axis=0)
            best = list(np.argsort(-means)[:kept])
            if truth[song] not in best:
                best[-1] = truth[song]
            assert found.labels[row].tolist() == best
            np.testing.assert_allclose(found.probabilities[row], means[best], atol=1e-6)
            assert found.starts_s[row] == pytest.approx(full.starts_s[part].mean())
            assert found.weights[row] == pytest.approx(full.weights[part].mean())
            row += 1
    assert row == len(found.labels)


@pytest.mark.parametrize("singers", [2, 20, 257])
@pytest.mark.parametrize("budget", [1_000, 30_000, 60_000, 100_000, 10_000_000])
def test_room_is_used_and_not_overdrawn(singers: int, budget: int) -> None:
    counts = [np.full(50, 40), np.full(50, 20)]

    def size(kept: int, together: int) -> float:
        rows = sum(-(-int(n) // together) for count in counts for n in count)
        return rows * (2 + 1 + kept * (1 if singers <= 256 else 2) + kept) * 4 / 3

    kept, together = room(counts, singers, budget)
    most, fewest = min(MOST, singers), min(FEWEST, singers)
    assert fewest <= kept <= most
    assert size(kept, together) <= budget or together == 40  # a row a song cannot be less
    if together > 1:
        assert kept == fewest
        assert size(kept, together - 1) > budget
    elif kept < most:
        assert size(kept + 1, 1) > budget


def test_runs_read_back_as_the_choices() -> None:
    labels = np.array([2, 2, 2, 0, 0, 2, 1, 1, 1, 1])
    found = FirstChoices("", np.array([0, 6, 7, 10]), labels)
    assert [found.runs(song) for song in range(3)] == [[2, 3, 0, 2, 2, 1], [1, 1], [1, 3]]
    for song in range(3):
        runs = found.runs(song)
        said = np.repeat(runs[::2], runs[1::2])
        assert said.tolist() == labels[found.ends[song] : found.ends[song + 1]].tolist()


def test_members_that_hear_the_same_segments_speak_together(answered: Run) -> None:
    run_data = read_run_data(answered)
    ids = run_data.predicted[0].ids[::-1]
    found = first_choices(run_data, ids)
    assert isinstance(found, FirstChoices)
    assert found.how == (
        "Segments: mean of what aam (its head), triplet (its neighbours' votes) say."
    )
    parts = [segment_scores(run_data, member, ids) for member in run_data.members]
    sums = sum(part.probabilities for part in parts if isinstance(part, SegmentScores))
    assert found.labels.tolist() == [int(np.argmax(row)) for row in np.asarray(sums)]
    assert found.ends.tolist() == list(range(0, 6 * len(ids) + 1, 6))
    alone = first_choices(read_run_data(answered, ["aam"]), ids)
    assert isinstance(alone, FirstChoices)
    assert alone.how == "Segments are those of aam (its head)."
    assert alone.labels.tolist() != found.labels.tolist()


def test_members_that_hear_other_segments_do_not(copied: Run) -> None:
    path = copied.store("triplet", "validation")
    store = read_store(path)
    write_store(path, replace(store, segment_start_s=store.segment_start_s + np.float32(1)))
    run_data = read_run_data(copied)
    found = first_choices(run_data, run_data.predicted[0].ids)
    assert isinstance(found, FirstChoices)
    assert found.how == "Segments are those of aam (its head)."


def test_where_nobody_says_anything_of_segments_it_says_why(analyzed: Run) -> None:
    run_data = replace(read_run_data(analyzed), fusion=None)
    found = first_choices(run_data, run_data.predicted[0].ids)
    assert isinstance(found, str)
    assert "Member aam has no classification head" in found
    assert "python app.py fuse" in found
