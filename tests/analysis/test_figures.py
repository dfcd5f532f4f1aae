"""Prepared figures: valid plotly in every variant, and texts that stay text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis import figures as fig
from embedder.run import Run
from embedder.statistics import Estimate


def with_colours(text: str) -> Any:
    """A figure whose colours of the theme are replaced by one that plotly knows."""
    for name in ("text", "soft", "line", "back", "accent", "empty", "right", "wrong"):
        for end in ("", "-soft"):
            text = text.replace(fig.colour(name + end), "#123456")
    return json.loads(text)


@pytest.mark.parametrize("name", ["confusion", "albums", "reliability", "members", "training"])
def test_plotly_knows_every_property(
    name: str, analyzed: Run, answered: Run, page_data: Callable[[str], Any]
) -> None:
    """`go.Figure` refuses what it does not know; the browser would pass over it in silence."""
    run = analyzed if name in ("confusion", "albums") else answered
    data = page_data((run.pages / f"{name}.html").read_text(encoding="utf-8"))
    for figure in with_colours(json.dumps(data["figures"])).values():
        go.Figure(figure["data"], figure["layout"])
        kinds = [trace["type"] for trace in figure["data"]]
        for case in figure["cases"]:
            typed = [
                {"type": kinds[place], **trace} if place < len(kinds) else trace
                for place, trace in enumerate(case["data"])
            ]
            go.Figure(typed, case["layout"])


def test_names_are_text_and_cut() -> None:
    assert fig.label("<b>a & b") == "&lt;b&gt;a &amp; b"
    assert fig.label("abcdef", 4) == "abc…"
    assert fig.label("caf\udce9") == "caf?"


def test_numbers_are_json_and_gaps_are_null() -> None:
    found = fig.rounded(np.array([[0.123456, np.nan], [np.inf, 1.0]]), 3)
    assert found == [[0.123, None], [None, 1.0]]
    json.dumps(found, allow_nan=False)


def test_error_bars_reach_from_low_to_high() -> None:
    bars = fig.error_bars([Estimate(0.5, 0.3, 0.9)])
    assert (bars["array"], bars["arrayminus"]) == ([0.4], [0.2])
