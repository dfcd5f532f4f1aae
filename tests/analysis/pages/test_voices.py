"""The voices page: what it says with and without measures, and what it draws."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.analyze import analyze
from analysis.pages.voices import voices_page
from analysis.run_data import read_run_data
from embedder.measures.records import VoiceRow
from embedder.run import Run

Visit = Callable[..., Any]
SEX = "singer,sex\nAda,f\nBen & Co,m\nCem,m\nDörte,f\n"


def test_without_measures_the_questions_are_answered_as_far_as_can_be(analyzed: Run) -> None:
    text = (analyzed.pages / "voices.html").read_text(encoding="utf-8")
    assert '<p id="finding">The singers&#x27; voices are not measured; run again: python' in text
    assert "<script" not in text
    assert "Does it overfit?</b><br>Member " in text
    assert "On the diagonal of the table stand 75.0% of 12 validation songs" in text
    assert "--singers_csv singers.csv" in text
    assert "told apart?</b><br>Vocal ranges are not known." in text


def test_what_was_measured_is_said(measured_run: Run, page_data: Callable[[str], Any]) -> None:
    measured_run.singer_facts.write_text(SEX, encoding="utf-8")
    text = voices_page(read_run_data(measured_run))
    assert "of 4 singers goes from B2 (120 Hz), Cem, to G4 (401 Hz), Dörte; that two" in text
    assert "36 songs of 4 singers, from the vocal stems" in text
    assert "singer named is of the right sex (f and m) for 83.3% of 12 validation songs" in text
    assert "Of 3 mistakes, 67% cross from one sex to the other" in text
    assert "Pitch alone, five quantiles of a song&#x27;s f0, names the right one of 4" in text
    assert "<td>Ben &amp; Co</td>" in text
    figures = page_data(text)["figures"]
    traces = figures["plot"]["cases"][0]["data"]
    assert {trace["name"] for trace in traces if trace["mode"] == "markers"} == {
        "f", "m", "not known",
    }  # fmt: skip
    assert [len(trace["x"]) for trace in figures["pairs"]["data"]] == [4, 2]
    assert text == voices_page(read_run_data(measured_run))


def test_mixtures_and_songs_that_are_missing_are_owned_up_to(
    build_run: Callable[..., Run], measure: Callable[..., Run]
) -> None:
    run = measure(build_run(), {"Ada": 180.0, "Cem": 120.0}, vocals=False)
    text = voices_page(read_run_data(run))
    assert "18 songs of 2 singers, from the mixtures, because there are no vocal stems" in text
    assert 'id="pairs"' not in text
    assert "told apart?</b><br>Pitch alone" in text
    assert "18 songs not measured or changed since: python app.py measure --what voices" in text
    assert "The middle note of 2 singers" in text


def test_a_run_in_which_nobody_sings(
    build_run: Callable[..., Run], measure: Callable[..., Run]
) -> None:
    def silent(row: VoiceRow) -> VoiceRow:
        return VoiceRow(row.id, row.stem, 20.0, 0.0, made_from=row.made_from)

    text = voices_page(read_run_data(measure(build_run(), {"Ada": 180.0}, change=silent)))
    assert '<p id="finding">Nobody sings in 9 measured songs.</p>' in text
    assert "<script" not in text


def test_the_figures_answer(measured_run: Run, visit: Visit) -> None:
    measured_run.singer_facts.write_text(SEX, encoding="utf-8")
    (path,) = analyze(measured_run, pages=["voices"])
    act = """
    const plot = document.getElementById("plot");
    const state = () => ({
      order: plot.layout.yaxis.ticktext,
      dots: plot.data.filter((t) => t.mode === "markers" && t.x.length)
        .map((t) => [t.name, t.hovertext[0]]),
      drawn: document.querySelectorAll("#plot .scatterlayer .point").length,
      says: document.querySelector("#says p:not([hidden])").textContent,
      scale: plot.layout.xaxis.type,
    });
    const states = [state()];
    document.querySelector('input[name="order"][value="alphabet"]').click(); states.push(state());
    document.querySelector('input[name="show"][value="tilt_db"]').click(); states.push(state());
    const pairs = document.getElementById("pairs");
    return [...states, {
      names: pairs.data.map((trace) => trace.name),
      points: pairs.data.map((trace) => trace.x.length), hover: pairs.data[1].hovertext[0],
      drawn: document.querySelectorAll("#pairs .scatterlayer .point").length,
    }];"""
    ranges, alphabet, tilt, pairs = visit(path, act, 390)
    assert ranges["order"] == ["Cem", "Ada", "Ben &amp; Co", "Dörte"]
    assert ranges["drawn"] == 4
    assert ranges["scale"] == "log"
    assert [name for name, _ in ranges["dots"]] == ["f", "m"]
    assert ranges["dots"][0][1] == (
        "<b>Ada</b>, f<br>median F♯3 (180 Hz)<br>middle half E3 (161 Hz) to A♭3 (202 Hz)<br>"
        "nine tenths C3 (128 Hz) to C4 (255 Hz)<br>9 songs, vocal stem"
    )
    assert alphabet["order"] == ["Ada", "Ben &amp; Co", "Cem", "Dörte"]
    assert tilt["scale"] != "log"
    assert tilt["says"].startswith("Tilt:")
    assert "median −8.1 dB an octave" in tilt["dots"][0][1]
    assert pairs["names"] == ["without", "with mistakes"]
    assert pairs["points"] == [4, 2]
    assert pairs["drawn"] == 6
    assert pairs["hover"].startswith("<b>Ada</b> and <b>Ben &amp; Co</b><br>ranges overlap by 74%")
    assert pairs["hover"].endswith("<br>2 songs named as the other")


def test_hostile_names_stay_text(
    hostile: Run, measure: Callable[..., Run], visit: Visit, tmp_path: Path
) -> None:
    names = read_run_data(hostile).songs.singers
    copy = Run(shutil.copytree(hostile.root, tmp_path / "copy"))
    run = measure(copy, {name: 150.0 + 20 * row for row, name in enumerate(names)})
    (path,) = analyze(run, pages=["voices"])
    act = """
    Plotly.Fx.hover(document.getElementById("plot"), [{curveNumber: 2, pointNumber: 0}]);
    await wait(300);
    return document.querySelectorAll("#plot a, #plot img, #pairs img, td img, td a").length;"""
    assert visit(path, act) == 0
