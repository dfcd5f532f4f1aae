"""The members page: who is right where, recomputed song by song."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.pages.experts import best_of, changes, members_finding, members_page, opinions
from analysis.run_data import Predicted, read_run_data, song_title
from embedder.run import Run
from embedder.statistics import double_faults, kappas
from ensemble.fusion.fitted import FusionReport

Visit = Callable[..., Any]
Named = Callable[..., Predicted]


def test_the_finding_counts_what_changed(named_table: Named) -> None:
    found = opinions(
        named_table(
            [0, 0, 0, 0, 0, 0, 0, 0, 1, 1], head=[0, 0, 0, 0, 0, 0, 1, 1, 0, 2], probe=[1] * 10
        )
    )
    text = members_finding(found, "m/head", seed=1)
    assert text.startswith(
        "On 10 validation songs the ensemble names the right singer for 80.0% (95% interval "
    )
    assert (
        " and m/head, the best of 2 single experts, for 70.0%: the ensemble fixed 2 songs and "
        "broke 1 (+10.0 points, 95% interval "
    ) in text
    assert members_finding(found, "").endswith("; what single experts say is not known.")


def test_the_page_lists_what_was_fixed_and_broken(answered: Run) -> None:
    run_data = read_run_data(answered)
    text = members_page(run_data)
    table = run_data.predicted[0]
    head = table.experts["aam/head"].argmax(axis=1) == table.truth
    fused = table.probabilities.argmax(axis=1) == table.truth
    assert (~head & fused).sum() == 2
    assert (head & ~fused).sum() == 1
    fixed = text[text.index("Fixed by the ensemble: 2 of 24") : text.index("Broken by the")]
    broken = text[text.index("Broken by the ensemble: 1 of 24") : text.index("Wrong in both")]
    for rows, part in ((~head & fused, fixed), (head & ~fused, broken)):
        assert part.count("<tr>") == 1 + rows.sum()
        for row in np.flatnonzero(rows):
            assert f"<td>{song_title(table.ids[row])}<small>" in part
            assert f"{table.probabilities[row].max():.1%} sure" in part
    assert run_data.fusion is not None
    weight = run_data.fusion.weights["triplet/probe"]
    assert "<td>triplet<small>probe</small></td><td class=number>12 of 24</td>" in text
    assert f"<td class=number>{weight:.3f}</td></tr>" in text


def test_names_stay_text(answered: Run) -> None:
    run_data = read_run_data(answered)
    hostile = ("<b>a<∕b>", "b", "c", "d")
    tables = tuple(replace(one, singers=hostile) for one in run_data.predicted)
    text = members_page(replace(run_data, predicted=tables))
    assert "<b>a" not in text
    assert "&lt;b&gt;a" in text


def test_one_expert_and_none_are_told_apart(build_run: Callable[..., Run], answered: Run) -> None:
    run = build_run(members=("aam",))
    (path,) = analyze(run, pages=["members"])
    text = path.read_text(encoding="utf-8")
    assert "hold no single expert's answers; run: python app.py fuse" in text
    assert "Fixed by the ensemble" not in text
    run_data = read_run_data(answered)
    one = {"aam/head": run_data.predicted[0].experts["aam/head"]}
    alone = replace(run_data, predicted=(replace(run_data.predicted[0], experts=one),))
    text = members_page(alone)
    assert "There is one expert, aam/head, and no other to agree with." in text
    assert "Fixed by the ensemble: 2 of 24" in text


def test_cells_show_pairs_and_list_their_songs(answered: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot");
    const press = (name, value) =>
      document.querySelector(`input[name="${name}"][value="${value}"]`).click();
    const state = () => ({
      z: plot.data[0].z, hover: plot.data[0].hovertext[0][1],
      lists: Array.from(document.querySelectorAll("#panel h2")).map((one) => one.textContent),
      items: document.querySelectorAll("#panel li").length,
    });
    const click = (row, column) => plot.emit(
      "plotly_click", {points: [{customdata: plot.data[0].customdata[row][column]}]});
    const dots = document.getElementById("accuracy").data;
    const states = [state()];
    press("unit", "fault"); states.push(state());
    click(0, 1); states.push(state());
    click(0, 0); states.push(state());
    press("split", "1"); states.push(state());
    return {states, dots: [dots[0].x, dots[0].hovertext[1], dots[1].x]};"""
    run_data = read_run_data(answered)
    found = opinions(run_data.predicted[0])
    seen = visit(answered.pages / "members.html", act, width=390)
    kappa, fault, clicked, own, test = seen["states"]
    values = kappas(found.named).value
    assert kappa["z"][0][1] == pytest.approx(values[0, 1], abs=1e-4)
    assert kappa["z"][0][0] is None
    faults = double_faults(found.predicted.truth, found.named).value
    np.testing.assert_allclose(np.array(fault["z"], float), faults, atol=1e-4)
    assert kappa["hover"].startswith(
        f"<b>aam/head</b><br><b>aam/knn_song</b><br>kappa {values[0, 1]:.3f} (95% "
    )
    both, apart = round(24 * faults[0, 1]), int((found.named[0] != found.named[1]).sum())
    assert clicked["lists"] == [
        f"aam/head and aam/knn_song are both wrong: {both} of 24 songs",
        f"They name different singers: {apart} of 24 songs",
    ]
    assert clicked["items"] == both + apart
    assert own["lists"] == [f"aam/head is wrong: {round(24 * faults[0, 0])} of 24 songs"]
    assert test["lists"] == []
    right = (found.fused == found.predicted.truth).mean()
    assert seen["dots"][0][0] == pytest.approx(right, abs=1e-4)
    assert seen["dots"][1].endswith("<br>the best single expert")
    assert run_data.fusion is not None
    assert seen["dots"][2][1] == pytest.approx(run_data.fusion.weights["aam/head"], abs=1e-4)


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
    run_data = read_run_data(answered)
    assert run_data.fusion is not None
    found = opinions(run_data.predicted[0])
    assert best_of(run_data.fusion, found) == run_data.fusion.report.best_expert == "aam/head"
    assert best_of(None, found) == "aam/head"
    table = opinions(named_table([0, 0], head=[1, 1], probe=[0, 1]))
    assert (
        best_of(replace(run_data.fusion, report=FusionReport(best_expert="x/head")), table)
        == "m/probe"
    )
    assert best_of(None, opinions(named_table([0, 1]))) == ""
