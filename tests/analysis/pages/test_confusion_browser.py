"""The confusion table in a real browser: it switches, and a click lists a cell's songs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.neighbourhoods import similar_order, singer_similarities
from embedder.inference.store import read_store
from embedder.run import Run

Visit = Callable[..., Any]

STATE = """
const plot = document.getElementById("plot");
const set = (name, value) =>
  document.querySelector(`input[name="${name}"][value="${value}"]`).click();
const text = (id) => document.getElementById(id).textContent;
const state = () => ({
  right: plot.data[0].z.map((row, i) => row[i]),
  wrong: plot.data[0].z.map((row, i) => row.map((cell, j) => (i === j || !cell ? null : -cell))),
  names: plot.layout.xaxis.ticktext, hover: plot.data[0].hovertext,
  title: document.querySelector("#title span:not([hidden]), #title").innerText.trim(),
  cell: text("panel"),
  nothing: document.querySelectorAll('p[data-when*="kind=missed"]:not([hidden])').length,
  strips: document.querySelectorAll("#panel .strip[style]").length,
  links: [...document.querySelectorAll("#panel a")].map((one) => one.getAttribute("href")),
  findings: document.querySelectorAll('main > p[data-when^="split"]:not([hidden])').length,
});
const click = async (row, column) => {
  const axes = plot._fullLayout, frame = plot.getBoundingClientRect();
  const place = { bubbles: true, clientX: frame.left + axes.xaxis._offset + axes.xaxis.d2p(column),
    clientY: frame.top + axes.yaxis._offset + axes.yaxis.d2p(row) };
  for (const kind of ["mousemove", "mousedown", "mouseup"]) {
    const hit = document.elementFromPoint(place.clientX, place.clientY);
    hit.dispatchEvent(new MouseEvent(kind, place));
    await wait(120);
  }
};
"""


def test_the_table_switches_and_lists_songs(analyzed: Run, visit: Visit) -> None:
    """Songs 0 and 1 of Ada, and song 0 of Ben & Co, are named wrongly in the validation split."""
    act = (
        STATE
        + """
    const states = [state()];
    set("unit", "rows"); states.push(state());
    set("unit", "columns"); states.push(state());
    set("unit", "counts");
    await click(0, 1); states.push(state());
    set("kind", "missed"); states.push(state());
    set("kind", "first");
    set("split", 1); states.push(state());
    return states;"""
    )
    seen = visit(analyzed.pages / "confusion.html", act)
    counts, rows, columns, clicked, missed, test = seen
    assert counts["right"] == [1, 2, 3, 3]
    assert counts["wrong"] == [
        [None, 2, None, None], [None, None, 1, None], [None] * 4, [None] * 4,
    ]  # fmt: skip
    assert counts["title"] == "Confusion of singers: validation split, song level, 12 songs"
    assert counts["hover"][0][1] == (
        "<b>Ada</b> identified as <b>Ben &amp; Co</b><br>2 of 3 songs of Ada (66.7%)<br>50.0% of "
        "the songs named Ben &amp; Co<br>"
        "· 0 tune, Last validation (70.0%; the true singer on place 2, 10.0%)<br>"
        "· 1 tune, Last validation (70.0%; the true singer on place 2, 10.0%)"
    )
    assert rows["right"] == pytest.approx([100 / 3, 200 / 3, 100, 100], abs=1e-3)
    assert rows["wrong"][0][1] == pytest.approx(200 / 3, abs=1e-3)
    assert columns["right"] == pytest.approx([100, 50, 75, 100])
    assert columns["wrong"][0][1] == pytest.approx(50)
    assert clicked["cell"].startswith(
        "Ada identified as Ben & Co: 2 of 3 songs of Ada (66.7%), 50.0% of the songs named Ben & "
        "CoSegments from the song's beginning to its end. Blue: the true singer is named; orange: "
        "the one named for the song; grey: another.0 tune, Last validation (70.0%; the true singer "
        "on place 2, 10.0%)of 6 segments: "
    )
    assert " · timeline1 tune, Last validation" in clicked["cell"]
    assert clicked["links"] == [
        f"timeline.html#Ada%2FLast%20validation%2F{song}%20tune.mp3" for song in (0, 1)
    ]
    assert clicked["strips"] == 2
    assert missed["right"] == [0] * 4  # each true singer is on place 2
    assert (counts["nothing"], missed["nothing"], missed["cell"]) == (0, 1, "")
    assert test["right"] == [3] * 4
    assert test["title"] == "Confusion of singers: test split, song level, 12 songs"
    assert test["cell"] == ""
    assert test["findings"] == 1


def test_similar_singers_stand_together_and_songs_missed_in_three(
    shuffled: Run, visit: Visit
) -> None:
    """On a phone. The order is the tree's; Ada's song 0 has its singer on the last place."""
    act = (
        STATE
        + """
    const states = [state()];
    set("order", "similar"); states.push(state());
    set("order", "alphabet");
    set("kind", "missed"); states.push(state());
    await click(0, 1); states.push(state());
    return states;"""
    )
    alphabet, similar, missed, clicked = visit(shuffled.pages / "confusion.html", act, width=390)
    train = [read_store(shuffled.store("aam", "train"))]
    singers = train[0].singers
    order = [singers[one] for one in similar_order(singer_similarities(train))]
    assert alphabet["names"] == ["Ada", "Ben &amp; Co", "Cem", "Dörte"]
    assert similar["names"] == [name.replace("&", "&amp;") for name in order]
    assert similar["names"] != alphabet["names"]
    assert abs(order.index("Ada") - order.index("Cem")) == 1  # they sound alike
    place = {name: row for row, name in enumerate(order)}
    assert similar["wrong"][place["Ada"]][place["Ben & Co"]] == 1
    assert missed["right"] == [0] * 4
    assert missed["wrong"][0] == [None, 1, None, None]
    assert missed["hover"][0][1].startswith(
        "<b>Ada</b> identified as <b>Ben &amp; Co</b>, missed in top-3<br>1 of 3 songs of Ada"
    )
    assert clicked["cell"].startswith("Ada identified as Ben & Co, missed in top-3: 1 of 3 songs")
    assert "the true singer on place 4, 5.0%" in clicked["cell"]
