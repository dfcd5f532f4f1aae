"""The reliability page: sentences true of the numbers, curves that are the metrics' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.pages.reliability import answers, curves, reliability_finding, reliability_page
from analysis.run_data import Predicted, read_run_data
from embedder.metrics import calibration_error, ece, reliability_bins
from embedder.run import Run

Visit = Callable[..., Any]


def predicted(confidences: list[float], right: list[bool]) -> Predicted:
    """Songs of three singers whose first choice is singer 0, and is right or not."""
    first = np.array(confidences)
    probabilities = np.stack([first, 0.6 * (1 - first), 0.4 * (1 - first)], axis=1)
    truth = np.where(right, 0, 1)
    ids = tuple(f"a/{row}/b.mp3" for row in range(len(truth)))
    albums = tuple(f"a/{row}" for row in range(len(truth)))
    return Predicted("test", ids, ("A", "B", "C"), probabilities, truth, albums, {})


def test_the_finding_says_overconfident_only_where_it_is() -> None:
    sure_and_wrong = predicted([0.95] * 100, [row % 2 == 0 for row in range(100)])
    found = reliability_finding(sure_and_wrong, seed=3)
    logs = np.log(sure_and_wrong.probabilities)
    error = calibration_error(sure_and_wrong.truth, logs, seed=3)
    assert found == (
        "On 100 test songs the fused answers are 95.0% sure on average and 50.0% are right, so "
        "they are overconfident by 45.0 points; the expected calibration error is 0.450 (with "
        f"exact confidences, chance alone would make it up to {error.limit:.3f}), and 45 mistakes "
        "are among the 90 surest."
    )
    modest = predicted([0.5] * 100, [row % 10 > 0 for row in range(100)])
    assert "so they are underconfident by 40.0 points;" in reliability_finding(modest)
    fitting = predicted([0.9] * 100, [row % 10 > 0 for row in range(100)])
    assert "a difference of 0.0 points that chance may explain;" in reliability_finding(fitting)


def test_the_finding_counts_the_mistakes_of_the_surest() -> None:
    last = predicted([0.99] * 9 + [0.6], [True] * 9 + [False])
    assert reliability_finding(last).endswith(", and no mistake is among the 9 surest.")
    first = predicted([0.99, *[0.6] * 9], [False] + [True] * 9)
    assert reliability_finding(first).endswith(", and 1 mistake is among the 9 surest.")


def test_no_mistake_says_nothing_of_overconfidence() -> None:
    fits = reliability_finding(predicted([0.98] * 100, [True] * 100))
    assert "which fits: so many albums without a mistake leave up to 3.0% likely" in fits
    modest = reliability_finding(predicted([0.9] * 100, [True] * 100))
    assert "so they are underconfident by 10.0 points" in modest


def test_curves_count_every_song_once() -> None:
    table = predicted([0.42, 0.42, 0.77, 0.99, 1.0], [True, False, False, True, True])
    found = curves(table.truth, table.probabilities)
    assert sum(found["right"]) == 3
    assert sum(found["wrong"]) == 2
    assert found["right"][8] == found["wrong"][8] == 1  # 0.40 to 0.45
    assert found["right"][19] == 2  # 1.0 lies in the last
    assert found["wrong"][15] == 1
    assert found["ece"] == pytest.approx(ece(table.truth, np.log(table.probabilities + 1e-30)))
    assert found["risk"]["songs"] == [1, 2, 3, 4, 5]
    assert found["risk"]["value"] == pytest.approx([0, 0, 1 / 3, 3 / 8, 2 / 5], abs=1e-4)
    bins = reliability_bins(table.probabilities.max(axis=1), table.truth == 0)
    assert found["bins"]["low"] == [round(one.accuracy.low, 6) for one in bins]


def test_an_expert_is_measured_on_the_songs_that_it_answers() -> None:
    table = predicted([0.9, 0.8, 0.7], [True, False, True])
    table.experts["m/head"] = table.probabilities.copy()
    table.experts["m/head"][1] = np.nan
    table.experts["m/probe"] = np.full_like(table.probabilities, np.nan)
    found = answers(table)
    assert list(found) == ["fused", "m/head"]
    np.testing.assert_array_equal(found["m/head"][0], [0, 0])


def test_the_table_has_the_fusions_numbers(answered: Run) -> None:
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    text = reliability_page(run_data)
    for row in run_data.fusion.report.calibration:
        if row.expert == "aam/head":
            assert f"<td class=number>{row.ece[0]:.3f}</td>" in text
    fused = next(row.metrics for row in run_data.fusion.report.results if row.expert == "fused")
    assert f"<td>fused</td><td class=number>24</td><td class=number>{fused.top_1.value:.1%}" in text
    assert text.count("cross-fitted by album") == 1


def test_a_run_without_experts_says_what_is_missing(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    (path,) = analyze(run, pages=["reliability"])
    text = path.read_text(encoding="utf-8")
    assert "hold no single expert's answers; run: python app.py fuse" in text
    run.fusion.unlink()
    (path,) = analyze(run, pages=["reliability"])
    assert "There is no fusion, so nothing is known of before" in path.read_text("utf-8")


def test_the_figure_follows_the_switches(answered: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot");
    const press = (name, value) =>
      document.querySelector(`input[name="${name}"][value="${value}"]`).click();
    const state = () => ({
      shown: document.querySelector("#shown p:not([hidden])").textContent,
      title: document.querySelector("#title span:not([hidden])").textContent,
      confidence: plot.data[1].x,
      songs: plot.data[2].y.concat(plot.data[3].y).reduce((a, b) => a + b),
      hover: plot.data[1].hovertext[0], curve: plot.data[6].hovertext.at(-1),
      table: Array.from(document.querySelectorAll("div[data-when]")).map((part) => part.hidden),
    });
    const states = [state()];
    press("source", "1"); states.push(state());
    press("stage", "before"); states.push(state());
    press("source", "0"); states.push(state());
    press("split", "1"); states.push(state());
    return states;"""
    run_data = read_run_data(answered)
    table = run_data.predicted[0]
    states = visit(answered.pages / "reliability.html", act, width=390)
    fused, head, before, again, test = states
    found = curves(table.truth, table.probabilities)
    assert fused["confidence"] == found["bins"]["confidence"]
    assert fused["songs"] == 24
    assert fused["shown"].startswith("fused, as fitted: 24 songs, ")
    assert fused["hover"].startswith("2 songs<br>confidence ")
    assert fused["curve"].startswith("the 24 surest songs (100.0%)<br>wrong 8.3% (95% ")
    assert (
        head["confidence"] == curves(table.truth, table.experts["aam/head"])["bins"]["confidence"]
    )
    assert head["shown"].startswith("aam/head, after calibration: 24 songs")
    assert before["shown"].startswith("aam/head, before calibration: 24 songs")
    assert before["confidence"] != head["confidence"]
    assert again["confidence"] == fused["confidence"]
    assert "All fused together have no answer before calibration" in again["shown"]
    assert test["songs"] == 12
    assert test["title"] == "Reliability of confidences: test split, song level, 12 songs"
    assert (fused["table"], test["table"]) == ([False, True], [True, False])
