"""The front page: each sentence carries the numbers that the metrics give."""

from __future__ import annotations

import numpy as np

from analysis.page import PAGES
from analysis.pages.overview import CARDS, findings, results_tables
from analysis.run_data import Predicted, read_predicted
from embedder.metrics import summarise
from embedder.run import Run
from ensemble.fusion.fitted import read_fusion


def test_findings_state_the_metrics(analyzed: Run) -> None:
    predicted = read_predicted(analyzed)[0]
    found = summarise(predicted.truth, np.log(predicted.probabilities), 5, predicted.groups)
    first, second, third, fourth, fifth = findings(predicted, seed=5)
    assert first.startswith(
        "The right singer is named first for 75.0% of 12 validation songs (95% interval "
        f"{found.top_1.low:.1%} to {found.top_1.high:.1%}),"
    )
    assert f"is {found.score.value:.3f} of 1.5" in second
    assert f"{found.score.low:.3f} to {found.score.high:.3f}" in second
    assert third == (
        "3 of 12 validation songs are identified wrongly; most often Ada is taken for Ben & Co "
        "(2 of 3 songs)."
    )
    assert fourth == "The hardest singer is Ada: 1 of 3 songs are identified."
    assert "confidence in the first choice is 70.0%, and 75.0% of the choices are right" in fifth


def test_one_mistake_is_told_as_one() -> None:
    truth = np.arange(6) % 2
    probabilities = np.full((6, 2), 0.2)
    probabilities[np.arange(6), [0, 1, 0, 1, 0, 0]] = 0.8
    one = Predicted("test", tuple("abcdef"), ("A", "B"), probabilities, truth, ("",) * 6)
    wanted = "1 of 6 test songs is identified wrongly; B is taken for A (1 of 3 songs)."
    assert wanted in findings(one)


def test_every_page_has_a_card() -> None:
    assert set(CARDS) == {file for file, _ in PAGES} - {"index.html"}


def test_no_mistake_is_not_called_certain() -> None:
    songs = 30
    truth = np.arange(songs) % 3
    probabilities = np.eye(3)[truth]
    perfect = Predicted(
        "test", tuple(map(str, range(songs))), ("a", "b", "c"), probabilities, truth, ("",) * songs
    )
    sentences = findings(perfect)
    assert "(no mistake in 30 songs, so up to 9.5% is likely)" in sentences[0]
    assert "None of the 30 test songs is identified wrongly." in sentences
    assert not any("hardest" in sentence for sentence in sentences)


def test_results_table_has_the_experts_then_the_fused_row(analyzed: Run) -> None:
    fusion = read_fusion(analyzed.fusion)
    ((heading, text),) = results_tables(fusion)
    assert heading == ("Experts, validation split, song level, 12 songs, cross-fitted by album")
    found = fusion.report.results[0].metrics.top_1
    interval = f"0.750<small>{found.low:.3f} to {found.high:.3f}</small>"
    row = f"<tr><td>aam/knn_song</td><td class=number>0.62</td><td class=number>{interval}"
    assert row in text
    assert text.index("aam/knn_song") < text.index("triplet/knn_song") < text.index("fused")
