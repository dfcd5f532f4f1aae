"""The pages in a real browser: they draw, answer clicks, and ask for nothing from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from embedder.artifacts import Run

Visit = Callable[..., Any]

STATE = """const state = () => {
    const traces = document.getElementById("plot").data;
    return {
      names: traces.map((trace) => trace.name),
      points: traces.reduce((sum, trace) => sum + trace.x.length, 0),
      clear: [...new Set(traces.filter((t) => t.marker.opacity > 0.5).map((t) => t.name))],
      hovering: [...new Set(traces.filter((t) => t.hoverinfo !== "skip").map((t) => t.name))],
      drawn: document.querySelectorAll("#plot .scatterlayer .point").length,
      text: traces[0].hovertext[0],
      last: traces[traces.length - 1].hovertext[0],
      shown: document.getElementById("shown").textContent,
    };
  };"""


@pytest.mark.parametrize("width", [1200, 390])
def test_map_isolates_a_singer_and_switches(analyzed: Run, visit: Visit, width: int) -> None:
    act = (
        STATE
        + """
    const buttons = document.querySelectorAll("#legend button");
    const states = [state()];
    buttons[1].click(); states.push(state());
    buttons[2].click(); states.push(state());
    buttons[2].click(); states.push(state());
    document.querySelector('input[name="level"][value="segment"]').click(); states.push(state());
    document.querySelector('input[name="member"][value="1"]').click(); states.push(state());
    return states;"""
    )
    start, one, other, back, segments, member = visit(analyzed.pages / "tsne.html", act, width)
    everyone = ["Ada", "Ben &amp; Co", "Cem", "Dörte"]
    assert start["names"] == everyone * 3  # train, validation, test
    assert start["points"] == start["drawn"] == 48
    assert start["clear"] == everyone
    assert one["clear"] == one["hovering"] == ["Ben &amp; Co"]
    assert other["clear"] == other["hovering"] == ["Cem"]
    assert back == start
    assert start["text"] == (
        "<b>0 tune</b><br>Ada<br>album First<br>train split<br>"
        "training song: trained on, so not predicted"
    )
    assert start["last"].endswith("test split<br>predicted Dörte, 70.0% ✓")
    assert segments["points"] == segments["drawn"] == 48 * 6
    assert "<br>segment from 0.0 s<br>" in segments["text"]
    assert segments["last"].endswith("<br>whole song predicted Dörte, 70.0% ✓")
    assert segments["shown"].startswith("Member aam: 288 segments")
    assert member["shown"].startswith("Member triplet: 288 segments")


@pytest.mark.parametrize("width", [1200, 390])
def test_confusion_switches_and_lists_songs(analyzed: Run, visit: Visit, width: int) -> None:
    act = """
    const plot = document.getElementById("plot");
    const state = () => ({
      right: plot.data[1].z.map((row, i) => row[i]),
      wrong: plot.data[2].z[0],
      hover: plot.data[2].hovertext[0][1],
      title: document.getElementById("title").textContent,
      cell: document.getElementById("cell").textContent,
    });
    const states = [state()];
    document.querySelector('input[name="unit"][value="shares"]').click(); states.push(state());
    plot.emit("plotly_click", {points: [{x: 1, y: 0}]}); states.push(state());
    document.querySelector('input[name="split"][value="1"]').click(); states.push(state());
    return states;"""
    counts, shares, clicked, test = visit(analyzed.pages / "confusion.html", act, width)
    assert counts["right"] == [1, 2, 3, 3]
    assert counts["wrong"] == [None, 2, None, None]
    assert counts["title"] == "Confusion of singers: validation split, song level, 12 songs"
    assert counts["hover"] == (
        "<b>Ada</b> identified as <b>Ben &amp; Co</b><br>2 of 3 songs (66.7%)<br>"
        "· 0 tune, Last validation (70.0%)<br>· 1 tune, Last validation (70.0%)"
    )
    assert shares["right"] == pytest.approx([100 / 3, 200 / 3, 100, 100])
    assert shares["wrong"][1] == pytest.approx(200 / 3)
    assert clicked["cell"].startswith("Ada identified as Ben & Co: 2 of 3 songs0 tune, Last")
    assert test["right"] == [100] * 4
    assert test["title"] == "Confusion of singers: test split, song level, 12 songs"
    assert test["cell"] == ""


@pytest.mark.parametrize("name", ["index.html", "tsne.html", "confusion.html"])
def test_hostile_names_run_nothing(name: str, hostile: Run, visit: Visit) -> None:
    """Hover labels are a small HTML dialect of plotly's own, so they are drawn and read back."""
    act = """
    const plot = document.getElementById("plot");
    if (!plot) return null;
    const heat = plot.data.length === 3 && plot.data[0].type === "heatmap";
    const size = plot.getBoundingClientRect();
    if (heat) {
      const cell = plot._fullLayout.xaxis;
      const x = size.left + cell._offset + cell.d2p(1);
      const y = size.top + plot._fullLayout.yaxis._offset + plot._fullLayout.yaxis.d2p(0);
      for (const kind of ["mouseover", "mousemove"])
        document.elementFromPoint(x, y).dispatchEvent(
          new MouseEvent(kind, {bubbles: true, clientX: x, clientY: y}));
    } else Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);
    await wait(400);
    const label = document.querySelector("#plot .hovertext");
    const links = document.querySelectorAll("#plot a, img").length;
    return {text: label && label.textContent, links};
    """
    seen = visit(hostile.pages / name, act)
    if name != "index.html":
        assert "<script>window.broken=1<∕script>" in seen["text"]
        assert seen["links"] == 0
