"""What figures of pages are made of: plain plotly JSON with every variant prepared.

A figure is `{"data", "layout", "cases", "square"}`. `assets/switch.js` lays the cases whose
conditions are met over the figure, puts the theme's colours in place of `colour(name)`, and draws.
Names of singers, songs and members pass through `label`, for plotly reads texts as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from embedder.statistics import Estimate

Json = dict[str, Any]
MIN_CELL, MAX_CELL = 17, 52  # pixels of a matrix' cells; a finger cannot hit smaller ones


def colour(name: str) -> str:
    """A colour of the theme, by its name in `assets/page.css` without the dashes."""
    return f"var(--{name})"


def label(text: str, letters: int = 40) -> str:
    """A name as plain text for plotly, at most so many characters long."""
    short = text if len(text) <= letters else text[: letters - 1] + "…"
    return html.escape(short.encode("utf-8", "replace").decode("utf-8"), quote=False)


def figure(
    data: Sequence[Json], layout: Json, cases: Sequence[Json] = (), square: Json | None = None
) -> Json:
    """One figure. `data`: traces. `cases`: variants, each from `case`. `square`: from `matrix`."""
    found: Json = {"data": list(data), "layout": layout, "cases": list(cases)}
    return {**found, "square": square} if square else found


def case(data: Sequence[Json] = (), layout: Json | None = None, **when: Any) -> Json:
    """What is laid over a figure where the choices `when` are made, name by value.

    `data`: what changes of each trace in its order. `narrow=True`: on a phone.
    """
    return {"when": when, "data": list(data), "layout": layout or {}}


def axis(title: str = "", **more: Any) -> Json:
    """An axis with a soft title that cannot be zoomed."""
    text = {"text": title, "font": {"color": colour("soft"), "size": 12}, "standoff": 8}
    base: Json = {"gridcolor": colour("line"), "zeroline": False, "fixedrange": True}
    return {**base, "title": text if title else {"text": ""}, **more}


def categories(names: Sequence[str], letters: int, title: str = "", **more: Any) -> Json:
    """An axis with a name at 0, 1, 2 and so on, each at most so many letters long."""
    return axis(
        title,
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[label(name, letters) for name in names],
        **more,
    )


def panel_title(text: str, left: float, top: float) -> Json:
    """A title over a panel whose upper left corner is there, in shares of the figure."""
    place = {"xref": "paper", "yref": "paper", "x": left, "y": top, "yshift": 4}
    anchor = {"xanchor": "left", "yanchor": "bottom", "showarrow": False}
    font = {"size": 13, "color": colour("text")}
    return {"text": f"<b>{label(text)}</b>", **place, **anchor, "font": font}


def markers(x: Sequence[Any], y: Sequence[Any], text: Sequence[str], **more: Any) -> Json:
    """Dots with a text each that is shown on hover."""
    base: Json = {"type": "scatter", "mode": "markers", "hoverinfo": "text"}
    return {**base, "x": x, "y": y, "hovertext": text, **more}


def bars(x: Sequence[Any], y: Sequence[Any], text: Sequence[str], tint: str, **more: Any) -> Json:
    """Bars with a text each that is shown on hover."""
    base: Json = {"type": "bar", "hoverinfo": "text", "textposition": "none"}
    marker = {"color": colour(tint), "line": {"width": 0}}
    return {**base, "x": x, "y": y, "hovertext": text, "marker": marker, **more}


def error_bars(estimates: Sequence[Estimate], **more: Any) -> Json:
    """Intervals of estimates as plotly's error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": rounded([one.high - one.value for one in estimates]),
        "arrayminus": rounded([one.value - one.low for one in estimates]),
        "color": colour("soft"),
        "thickness": 1,
        "width": 3,
        **more,
    }


def matrix(
    count: int, title: tuple[str, str] = ("", ""), least: int = MIN_CELL, most: int = MAX_CELL
) -> tuple[Json, Json]:
    """Layout of a square matrix with `count` rows, and the `square` of its figure.

    `title`: of the columns and of the rows. `least`, `most`: pixels of a cell.
    """
    # A few large cells may be larger, and many small ones scroll.
    size = {"count": count, "least": least, "most": min(most, max(28, 700 / max(count, 1)))}
    plain: Json = {"showgrid": False, "ticks": "", "range": [-0.5, count - 0.5]}
    layout = {
        "xaxis": axis(title[0], **plain, tickangle=-90),
        "yaxis": axis(title[1], **{**plain, "range": [count - 0.5, -0.5]}),
    }
    return layout, size


def heatmap(z: ArrayLike, scale: Sequence[tuple[float, str]], **more: Any) -> Json:
    """A heat map of `z` (rows, columns) between colours of the theme; hover texts in `more`."""
    stops = [[place, colour(name)] for place, name in scale]
    base: Json = {"type": "heatmap", "showscale": False, "hoverinfo": "text", "xgap": 1, "ygap": 1}
    return {**base, "hoverongaps": False, "z": z, "colorscale": stops, **more}


def rounded(values: ArrayLike, digits: int = 4) -> list[Any]:
    """Numbers for JSON; what is not finite becomes null."""
    found = np.round(np.asarray(values, dtype=np.float64), digits)
    plain = found.astype(object)
    plain[~np.isfinite(found)] = None
    listed: list[Any] = plain.tolist()
    return listed


def percent(share: float) -> str:
    """`12.3%`."""
    return f"{100 * share:.1f}%"


def spread(one: Estimate) -> str:
    """`12.3% (95% 10.0% to 15.0%)`."""
    return f"{percent(one.value)} (95% {percent(one.low)} to {percent(one.high)})"
