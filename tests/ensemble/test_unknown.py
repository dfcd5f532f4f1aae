"""Who is nobody: the confidence recomputed, and each case of the decision."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from embedder.artifact import read_json, write_json
from embedder.metrics import Estimate
from ensemble.open_set import LEAST_PREFERENCE, Unknown, confidence, is_unknown


def made_up(threshold: float) -> Unknown:
    numbers = iter(np.linspace(0, 1, 15))
    one = [Estimate(*(next(numbers) for _ in range(3))) for _ in range(5)]
    scales = {"energy": {"one": (1 / 3, 2.0)}, "distance": {"one": (0.5, 0.1)}}
    return Unknown("both", scales, threshold, 0.2, 40, 8, {"confidence": one[0]}, *one[1:])


def test_the_confidence_is_the_largest_mean_share_of_softened_logits() -> None:
    rng = np.random.default_rng(0)
    logits = {name: 6 * rng.normal(size=(7, 4)) for name in "abc"}
    found = confidence(logits)
    for song in range(7):
        shares = []
        for values in logits.values():
            raised = [np.exp(value / 2) for value in values[song]]
            shares.append([one / sum(raised) for one in raised])
        means = [sum(column) / 3 for column in zip(*shares, strict=True)]
        assert found[song] == pytest.approx(max(means))


def test_experts_that_disagree_are_less_sure_than_one_of_them() -> None:
    one, other = np.array([[9.0, 0, 0]]), np.array([[0, 9.0, 0]])
    assert confidence({"a": one, "b": one})[0] > 0.95
    assert confidence({"a": one, "b": other})[0] == pytest.approx(0.5, abs=0.02)
    assert confidence({"a": np.zeros((1, 3))})[0] == pytest.approx(1 / 3)
    assert confidence({"a": one + 100}) == pytest.approx(confidence({"a": one}))
    with pytest.raises(ValueError, match="no expert"):
        confidence({})


def test_trained_singers_are_judged_by_confidence_and_enrolled_ones_by_preference() -> None:
    edge = LEAST_PREFERENCE
    cases = [  # confidence, enrolled first, preference → nobody's
        (0.29, False, -np.inf, True),
        (0.30, False, -np.inf, False),
        (0.29, False, 5.0, True),  # the preference says nothing of a trained singer
        (0.99, True, edge - 0.01, True),
        (0.01, True, edge, False),  # nor the confidence of an enrolled one
    ]
    sure, enrolled, preference, expected = map(np.array, zip(*cases, strict=True))
    assert is_unknown(made_up(0.3), sure, enrolled, preference).tolist() == expected.tolist()
    assert not is_unknown(made_up(0.0), sure[:3], enrolled[:3], preference[:3]).any()


def test_it_survives_json(tmp_path: Path) -> None:
    unknown = made_up(1 / 3)
    path = tmp_path / "unknown.json"
    write_json(path, asdict(unknown))
    assert Unknown.from_dict(read_json(path)) == unknown
