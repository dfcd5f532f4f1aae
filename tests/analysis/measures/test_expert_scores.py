"""What experts said before calibration is what the fusion measured before calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.measures.expert_scores import evidence_of, uncalibrated
from analysis.run_data import read_run_data
from embedder.inference.store import Store, read_store, write_store
from embedder.metrics import ece, nll
from embedder.run import Run


def test_before_calibration_is_what_the_fusion_reports(answered: Run) -> None:
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    found = uncalibrated(run_data)
    table = run_data.predicted[0]
    assert set(found["validation"]) == set(table.experts)
    for row in run_data.fusion.report.calibration:
        if "/knn_" in row.expert:  # whose votes the fusion reports cross-fitted
            continue
        logs = np.log(found["validation"][row.expert])
        assert nll(table.truth, logs) == pytest.approx(row.nll[0])
        assert ece(table.truth, logs) == pytest.approx(row.ece[0])
        assert row.ece[0] != pytest.approx(row.ece[1])


def test_test_songs_differ_from_before_by_the_temperature_only(answered: Run) -> None:
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    found = uncalibrated(run_data)["test"]
    table = run_data.predicted[1]
    assert table.split == "test"
    for name, temperature in run_data.fusion.temperatures.items():
        sharper = found[name] ** (1 / temperature)
        sharper /= sharper.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(sharper, table.experts[name], atol=1e-5)


def test_rows_follow_the_predictions_not_the_store(copied: Run) -> None:
    first = uncalibrated(read_run_data(copied))["validation"]
    for member in ("aam", "triplet"):
        path = copied.store(member, "validation")
        store: Store = read_store(path)
        write_store(path, store.take(np.arange(len(store.song_ids))[::-1]))
    again = uncalibrated(read_run_data(copied))["validation"]
    for name, values in first.items():
        np.testing.assert_allclose(again[name], values, atol=1e-6)


def test_without_fusion_or_part_in_it_there_is_none(answered: Run) -> None:
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    assert evidence_of(replace(run_data, fusion=None), "aam") == {}
    alone = replace(run_data.fusion, made_from={"aam": run_data.fusion.made_from["aam"]})
    assert evidence_of(replace(run_data, fusion=alone), "triplet") == {}
    assert uncalibrated(replace(run_data, fusion=None)) == {"validation": {}, "test": {}}
