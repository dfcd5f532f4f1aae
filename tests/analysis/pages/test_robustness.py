"""The robustness page: sentences true of the numbers, and what is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from analysis.analyze import analyze
from analysis.measures.robustness import curves
from analysis.pages.robustness import curve_sentence, robustness_finding
from embedder.artifact import file_fingerprint
from embedder.measures.robustness import EXCERPT, severity_levels
from embedder.run import Run
from ensemble.robustness import Conditions, Measured, Row, Step, begin, write_rows

Visit = Callable[..., Any]


def made_up(wrong: dict[Step, int], songs: int = 40, seconds: float = 10.0) -> Measured:
    """The first songs, as many as are told for a step, are taken for another singer."""
    conditions = Conditions("f", "c", "", "validation", seconds, ("A", "B"), ("fused",))
    rows = tuple(
        Row(f"{song}.mp3", "A", step, "A", (2 if song < wrong.get(step, 0) else 1,))
        for song in range(songs)
        for step in severity_levels()
    )
    return Measured(conditions, songs, 100, rows)


def finding(measured: Measured) -> str:
    return robustness_finding(measured, curves(measured, "fused"))


def sentence(measured: Measured, name: str) -> str:
    found = curves(measured, "fused")
    return curve_sentence(next(curve for curve in found if curve.degradation == name), 45)


def test_the_finding_names_the_level_that_costs_most() -> None:
    measured = made_up({(EXCERPT, 10.0): 2, ("noise", 0.0): 12, ("pitch", -4.0): 30})
    assert finding(measured).startswith(
        "Of 40 validation songs, 10 s of each, 95.0% are named right undegraded; of 45 "
        "degraded levels none costs more than pitch at −4 semitones: 25.0% are right, a "
        "change of −70.0 points, 95% interval −8"
    )
    assert "chance" not in finding(measured)
    few = finding(made_up({("speed", 1.25): 3}, seconds=0.0))
    assert few.startswith("Of 40 validation songs, in full, 100.0% are named right")
    assert "costs more than speed at 1.25 times: 92.5% are right" in few
    assert few.endswith(", which chance may explain.")
    short = finding(made_up({(EXCERPT, 1.0): 20}))
    assert "of 45 degraded levels none costs more than an excerpt of 1 s: 50.0% are right" in short


def test_the_finding_says_when_nothing_harms() -> None:
    better = made_up({(EXCERPT, 10.0): 1, (EXCERPT, 0.0): 1})
    same = made_up(dict.fromkeys(severity_levels(), 4))
    assert finding(same) == (
        "Of 40 validation songs, 10 s of each, 90.0% are named right undegraded, and at none of "
        "45 levels fewer are."
    )
    assert finding(better).endswith("and at none of 45 levels fewer are.")


def test_a_degradation_is_said_to_harm_from_the_mildest_significant_level() -> None:
    wrong = {("noise", 20.0): 5, ("noise", 10.0): 14, ("noise", 0.0): 30}
    said = sentence(made_up(wrong), "noise")
    assert said.startswith(
        "White noise: the mildest level significantly below undegraded songs is 10 dB (65.0%, "
        "−35.0 points, 95% interval "
    )
    both = {("pitch", -2.0): 20, ("pitch", -4.0): 40, ("pitch", 4.0): 20}
    said = sentence(made_up(both), "pitch")
    assert said.startswith(
        "Pitch: the mildest levels, either way, significantly below undegraded songs are −2 "
        "semitones (50.0%, −50.0 points, "
    )
    assert " and +4 semitones (50.0%, " in said
    said = sentence(made_up({(EXCERPT, 5.0): 40, (EXCERPT, 3.0): 40}), EXCERPT)
    assert "significantly below the full songs is 5 s (0.0%" in said


def test_a_degradation_without_a_significant_level_is_not_said_to_harm() -> None:
    assert sentence(made_up({("gain", 20.0): 3}), "gain").startswith(
        "Gain: no level is significantly below undegraded songs when 45 levels are tested "
        "together; lowest at +20 dB (92.5%, −7.5"
    )
    assert sentence(made_up({}), "mp3") == "Mp3: no level is below undegraded songs (100.0%)."


@pytest.fixture(scope="module")
def measured_run(answered: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which ten of eleven songs are measured; one of its two members stayed silent."""
    run = Run(Path(shutil.copytree(answered.root, tmp_path_factory.mktemp("robust") / "run")))
    sources = ("fused", "aam/head", "triplet/knn_song")
    made = Conditions(
        file_fingerprint(run.fusion), "c", "", "validation", 10.0, ("Ada", "Ben"), sources
    )
    begin(run, made, 11, 24)
    rows = [
        Row(
            f"<b>{song}</b>.mp3",
            "Ada",
            step,
            "Ada",
            (2 if step == ("noise", 0.0) and song != 3 else 1, 2 if song < 5 else 1, 0),
        )
        for song in range(10)
        for step in severity_levels()
    ]
    write_rows(run, sources, rows)
    analyze(run, pages=["robustness"])
    return run


def test_the_page_has_a_row_for_each_level_and_says_what_is_missing(measured_run: Run) -> None:
    text = (measured_run.pages / "robustness.html").read_text("utf-8")
    assert text.count("<tr><td>") == 2 * (len(severity_levels()) - 1 + 10)
    assert "Only 10 of 11 songs are measured so far" in text
    assert "--what robustness --songs 11" in text
    assert "these members gave no answer: triplet; a separator makes stems" in text
    assert "<td class=number>10.0%<small>1." in text
    assert "Validation songs chose each member&#x27;s epoch" in text
    assert text.count('<div data-when="source=') == 2


def test_a_run_without_the_measure_says_which_command_makes_it(answered: Run, copied: Run) -> None:
    (path,) = analyze(copied, pages=["robustness"])
    text = path.read_text("utf-8")
    assert "Robustness was not measured; run: python app.py measure --what robustness" in text
    assert "<script" not in text
    made = Conditions("another", "c", "", "validation", 10.0, ("Ada", "Ben"), ("fused",))
    begin(copied, made, 1, 1)
    write_rows(
        copied, ["fused"], [Row("1.mp3", "Ada", step, "Ada", (1,)) for step in severity_levels()]
    )
    (path,) = analyze(copied, pages=["robustness"])
    assert "with another fusion than the run has now" in path.read_text("utf-8")
    assert asdict(made)["fusion"] != file_fingerprint(answered.fusion)


def test_panels_follow_the_switch(measured_run: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot");
    const state = () => {
      const noise = plot.data.filter((trace) => trace.error_y)[1];
      return {
        panels: new Set(plot.data.map((trace) => trace.xaxis)).size, y: noise.y,
        symbols: noise.marker.symbol, hover: noise.hovertext.at(-1), first: noise.hovertext[0],
        ticks: plot.layout.xaxis.ticktext,
        shown: document.querySelector("#shown p:not([hidden])").textContent,
        tables: Array.from(document.querySelectorAll("div[data-when]")).map((part) => part.hidden),
        thin: plot.data.filter((trace) => trace.mode === "lines" && trace.y.length > 1).length,
      };
    };
    const states = [state()];
    document.querySelector('input[name="source"][value="1"]').click();
    states.push(state());
    return states;"""
    fused, head = visit(measured_run.pages / "robustness.html", act, width=390)
    assert fused["panels"] == 10
    assert fused["y"] == [1, 1, 1, 1, 0.1]
    assert fused["symbols"] == ["circle-open", "circle", "circle", "circle", "circle"]
    assert fused["ticks"] == ["full", "30", "10", "5", "3", "1"]
    assert fused["first"] == (
        "<b>White noise: clean</b> (signal-to-noise ratio, dB)<br>"
        "top-1 100.0% (95% 74.1% to 100.0%)"
    )
    assert fused["hover"].startswith(
        "<b>White noise: 0</b> (signal-to-noise ratio, dB)<br>top-1 10.0% (95% 1.4% to 47.2%)<br>"
        "−90.0 points against clean (−100.0 to −"
    )
    assert fused["shown"] == (
        "fused: 10 validation songs, 100.0% named right undegraded; significantly fewer at 0 of "
        "45 levels."
    )
    assert (fused["tables"], fused["thin"]) == ([False, True], 0)
    assert head["y"] == [0.5] * 5
    assert head["shown"].startswith("aam/head: 10 validation songs, 50.0% named right")
    assert (head["tables"], head["thin"]) == ([True, False], 10)
