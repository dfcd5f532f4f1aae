"""What each segment names first: of all members where they can be compared, in runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.material import read_material
from analysis.segments.first_choices import FirstChoices, first_choices
from analysis.segments.heard import Heard, heard_segments
from embedder.artifacts import Run
from embedder.inference.store import read_store, write_store


def test_runs_read_back_as_the_choices() -> None:
    labels = np.array([2, 2, 2, 0, 0, 2, 1, 1, 1, 1])
    found = FirstChoices("", np.array([0, 6, 7, 10]), labels)
    assert [found.runs(song) for song in range(3)] == [[2, 3, 0, 2, 2, 1], [1, 1], [1, 3]]
    for song in range(3):
        runs = found.runs(song)
        said = np.repeat(runs[::2], runs[1::2])
        assert said.tolist() == labels[found.ends[song] : found.ends[song + 1]].tolist()


def test_members_that_hear_the_same_segments_speak_together(answered: Run) -> None:
    material = read_material(answered)
    ids = material.predicted[0].ids[::-1]
    found = first_choices(material, ids)
    assert isinstance(found, FirstChoices)
    assert found.how == (
        "Segments: mean of what aam (its head), triplet (its neighbours' votes) say."
    )
    parts = [heard_segments(material, member, ids) for member in material.members]
    sums = sum(part.probabilities for part in parts if isinstance(part, Heard))
    assert found.labels.tolist() == [int(np.argmax(row)) for row in np.asarray(sums)]
    assert found.ends.tolist() == list(range(0, 6 * len(ids) + 1, 6))
    alone = first_choices(read_material(answered, ["aam"]), ids)
    assert isinstance(alone, FirstChoices)
    assert alone.how == "Segments are those of aam (its head)."
    assert alone.labels.tolist() != found.labels.tolist()


def test_members_that_hear_other_segments_do_not(copied: Run) -> None:
    path = copied.store("triplet", "validation")
    store = read_store(path)
    write_store(path, replace(store, segment_start_s=store.segment_start_s + np.float32(1)))
    material = read_material(copied)
    found = first_choices(material, material.predicted[0].ids)
    assert isinstance(found, FirstChoices)
    assert found.how == "Segments are those of aam (its head)."


def test_where_nobody_says_anything_of_segments_it_says_why(analyzed: Run) -> None:
    material = replace(read_material(analyzed), fusion=None)
    found = first_choices(material, material.predicted[0].ids)
    assert isinstance(found, str)
    assert "Member aam has no classification head" in found
    assert "python app.py fuse" in found
