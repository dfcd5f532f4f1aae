"""What experts name, and what the ensemble changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from analysis.experts.opinions import best_of, changes, opinions
from analysis.inputs import Predicted
from analysis.material import read_material
from embedder.artifacts import Run

Named = Callable[..., Predicted]


def test_changes_part_the_songs() -> None:
    truth = np.array([0, 0, 0, 0, 1])
    found = changes(truth, np.array([0, 1, 0, 2, 1]), np.array([0, 0, 1, 1, 1]))
    assert found.fixed.tolist() == [1]
    assert found.broken.tolist() == [2]
    assert found.missed.tolist() == [3]


def test_only_songs_that_all_experts_answer_count(named_table: Named) -> None:
    found = opinions(
        named_table([0, 1, 0], head=[0, 0, 1], probe=[0, -1, 2], knn_song=[-1, -1, -1])
    )
    assert found.experts == ("m/head", "m/probe")
    assert found.predicted.ids == ("A/x/0.mp3", "A/x/2.mp3")
    np.testing.assert_array_equal(found.named, [[0, 1], [0, 2]])
    np.testing.assert_array_equal(found.fused, [0, 0])
    never = opinions(named_table([0, 1], head=[0, -1], probe=[-1, 0]))
    assert never.experts == ()
    assert len(never.predicted.ids) == 2


def test_the_best_expert_is_the_fusions_or_the_one_with_the_highest_score(
    answered: Run, named_table: Named
) -> None:
    material = read_material(answered)
    assert material.fusion is not None
    found = opinions(material.predicted[0])
    assert best_of(material.fusion, found) == material.fusion.best_expert == "aam/head"
    assert best_of(None, found) == "aam/head"
    table = opinions(named_table([0, 0], head=[1, 1], probe=[0, 1]))
    assert best_of(replace(material.fusion, best_expert="x/head"), table) == "m/probe"
    assert best_of(None, opinions(named_table([0, 1]))) == ""
