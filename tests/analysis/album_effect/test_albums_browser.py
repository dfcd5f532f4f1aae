"""The albums page in a real browser, on a screen as narrow as a phone's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from embedder.artifacts import Run

Visit = Callable[..., Any]


def test_another_embedding_redraws_both_figures(analyzed: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot"), singers = document.getElementById("singers");
    const state = () => ({
      names: plot.data.map((one) => one.name), bars: plot.data.slice(0, 3).map((one) => one.y),
      chance: plot.data[3].y[0], hover: plot.data[0].hovertext[0],
      rows: singers.layout.yaxis.ticktext, seen: singers.data[1].x, said: singers.data[1].hovertext,
      shown: document.getElementById("shown").textContent,
    });
    const states = [state()];
    document.querySelector('input[name="member"][value="1"]').click(); states.push(state());
    Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);
    await wait(300);
    const label = document.querySelector("#plot .hovertext").textContent;
    return { states, label, one: DATA.embeddings[1] };"""
    seen = visit(analyzed.pages / "albums.html", act, width=390)
    together, aam = seen["states"]
    one = seen["one"]
    assert together["names"][:3] == ["same album", "same singer, another album", "another singer"]
    assert together["shown"].startswith("All members together: of 24 training songs")
    assert aam["shown"] == one["says"]
    assert aam["bars"][0] == one["album"]
    assert aam["bars"][1] == one["singer"]
    assert [sum(bars) for bars in zip(*aam["bars"], strict=True)] == pytest.approx([1.0] * 10)
    assert aam["chance"] == one["chance"] == 0.087
    first = f"{100 * one['album'][0]:.1f}% of the 1. nearest songs:"
    assert aam["hover"] == f"{first}<br>same album"
    assert seen["label"].startswith(first)
    assert aam["seen"] == sorted(aam["seen"], reverse=True)  # those whose albums matter most first
    names = ["Ada", "Ben &amp; Co", "Cem", "Dörte"]
    expected = sorted(one["singers"], key=lambda row: (-row[2], row[0]))
    assert aam["rows"] == [names[label] for label, *_ in expected]
    assert aam["said"][0] == (
        f"<b>{aam['rows'][0]}</b><br>same album {100 * expected[0][2]:.1f}% of {expected[0][1]} "
        "songs<br>if albums did not matter 40.0%"
    )
