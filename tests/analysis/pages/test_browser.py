"""The pages in a real browser: whatever singers and albums are called, it stays text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from embedder.run import Run

Visit = Callable[..., Any]


@pytest.mark.parametrize("name", ["index.html", "tsne.html", "confusion.html", "albums.html"])
def test_hostile_names_run_nothing(name: str, hostile: Run, visit: Visit) -> None:
    """Hover labels are a small HTML dialect of plotly's own, so they are drawn and read back."""
    act = """
    let plot = document.getElementById("plot");
    if (!plot) return null;
    const size = plot.getBoundingClientRect();
    const { xaxis, yaxis } = plot._fullLayout;
    if (plot.data[0].type === "heatmap") {
      const script = (text) => text.startsWith("<b>&lt;script");
      const row = plot.data[0].hovertext.findIndex((texts) => texts.some(script));
      const column = plot.data[0].hovertext[row].findIndex(script);
      const place = { bubbles: true, clientX: size.left + xaxis._offset + xaxis.d2p(column),
        clientY: size.top + yaxis._offset + yaxis.d2p(row) };
      const hit = document.elementFromPoint(place.clientX, place.clientY);
      for (const kind of ["mouseover", "mousemove"]) hit.dispatchEvent(new MouseEvent(kind, place));
    } else if (plot.data[0].type === "bar") {
      plot = document.getElementById("singers");
      const row = plot.data[1].hovertext.findIndex((one) => one.startsWith("<b>&lt;script"));
      Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: row}]);
    } else Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);
    await wait(400);
    const label = plot.querySelector(".hovertext");
    const links = document.querySelectorAll(".plot a, img").length;
    return {text: label && label.textContent, links};
    """
    seen = visit(hostile.pages / name, act)
    if name != "index.html":
        assert "<script>window.broken=1<∕script>" in seen["text"]
        assert seen["links"] == 0
