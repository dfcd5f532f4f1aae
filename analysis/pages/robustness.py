"""The robustness page: how many songs are still named right when they are degraded.

From what `python app.py measure --what robustness` wrote: a curve for each degradation, which level
is the mildest that costs accuracy, and a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis import figures as fig
from analysis.figures import Json
from analysis.measures.robustness import Curve, Point, curves, songs_of, sources
from analysis.page import choice, escape, numbered, page, plot, table, variants
from analysis.run_data import RunData
from analysis.wording import points, points_cell, share_cell
from embedder.errors import Command
from embedder.measures.robustness import DEGRADATIONS, EXCERPT, FULL, SECONDS
from embedder.statistics import Estimate
from embedder.text import counted
from ensemble.fusion.experts import FUSED, member_of
from ensemble.robustness import Measured, fitting

TITLE = "Robustness against degradation"
NOTES = {
    "validation": "Validation songs chose each member's epoch and the fusion was fitted on them, "
    "so all levels here, the undegraded one too, are a little flattering; what is lost between "
    "levels is less so. Other pages answer the same songs cross-fitted.",
    "test": "Nothing was fitted on these songs.",
}
LIMITS = (
    "Intervals: bootstrap over albums, 95%. Significant: exact sign test of albums against the "
    "undegraded songs, adjusted by Holm for all levels together, below 0.05; where few albums were "
    "measured, a level without a mark may still harm. Degradations: those of the "
    "audio degradation toolbox (Mauch and Ewert, 2013), by audiomentations; mp3 by LAME; speed by "
    "soxr; reverberation is a direct sound and exponentially decaying noise of the same energy, no "
    "measured room. A gain above 0 dB clips, as in a file."
)


def robustness_finding(measured: Measured, found: Sequence[Curve]) -> str:
    """What harms the fused answers most, in a sentence."""
    clean = next(curve.clean for curve in found if curve.degradation != EXCERPT)
    songs = counted(len(songs_of(measured)), f"{measured.conditions.split} song")
    length = measured.conditions.seconds
    length_says = "in full" if length == FULL else f"{length:g} s of each"
    start = f"Of {songs}, {length_says}, {clean.top_1.value:.1%} are named right undegraded"
    worst = min(
        ((curve, point) for curve in found for point in curve.degraded),
        key=lambda pair: pair[1].change.value,
    )
    count = sum(len(curve.degraded) for curve in found)
    if worst[1].change.value >= 0:
        return f"{start}, and at none of {count} levels fewer are."
    curve, point = worst
    harm = (
        f"of {count} degraded levels none costs more than {_level(curve, point)}: "
        f"{point.top_1.value:.1%} are right, a change of {points(point.change)}"
    )
    if not point.falls:
        harm += ", which chance may explain"
    return f"{start}; {harm}."


def curve_sentence(curve: Curve, tests: int) -> str:
    """From which level on a degradation costs accuracy, in a sentence.

    `tests`: levels of all degradations, which were tested together.
    """
    title = DEGRADATIONS[curve.degradation].title
    first = [
        point
        for way in curve.directions()
        for point in [next((one for one in way if one.falls), None)]
        if point is not None
    ]
    clean = "the full songs" if curve.degradation == EXCERPT else "undegraded songs"
    if first:
        levels = " and ".join(
            f"{_value(curve, point)} ({point.top_1.value:.1%}, {points(point.change)})"
            for point in first
        )
        mildest = "the mildest level" if len(first) == 1 else "the mildest levels, either way,"
        verb = "is" if len(first) == 1 else "are"
        return f"{title}: {mildest} significantly below {clean} {verb} {levels}."
    lowest = min(curve.degraded, key=lambda point: point.change.value)
    if lowest.change.value >= 0:
        return f"{title}: no level is below {clean} ({curve.clean.top_1.value:.1%})."
    return (
        f"{title}: no level is significantly below {clean} when {tests} levels are tested "
        f"together; lowest at {_value(curve, lowest)} ({lowest.top_1.value:.1%}, "
        f"{points(lowest.change)})."
    )


def robustness_page(run_data: RunData) -> str:
    """The text of `robustness.html`."""
    measured = fitting(run_data.run)
    if isinstance(measured, str):
        return page("robustness.html", TITLE, f'<p id="finding">{escape(measured)}</p>')
    names = sources(measured)
    by_source = {name: curves(measured, name) for name in names}
    fused = by_source[FUSED]
    tests = sum(len(curve.degraded) for curve in fused)
    sentences = "".join(f"<li>{escape(curve_sentence(curve, tests))}</li>" for curve in fused)
    parts = [_table(name, found) for name, found in by_source.items()]
    says = [escape(_says(name, measured, found)) for name, found in by_source.items()]
    controls = choice("source", "Answers of", numbered(names))
    body = f"""<p id="finding">{escape(robustness_finding(measured, fused))}</p>
{_missing(measured, names)}
<div class="controls">{controls}</div>
<div id="shown" aria-live="polite">{variants("p", says, "source", ' class="soft"')}</div>
{plot("plot")}
<p class="soft">Solid: the true singer is named first. Dotted: among the first three. Bars are 95%
intervals. A diamond is significantly below the undegraded songs, which the open circle stands
for. A thin line: the fused answers, where an expert's are shown.</p>
<h2>What costs accuracy, fused answers</h2>
<ul class="findings">{sentences}</ul>
{variants("div", parts, "source")}"""
    note = f"{NOTES[measured.conditions.split]} {LIMITS}"
    title = (
        f"{TITLE}: {measured.conditions.split} split, {counted(len(songs_of(measured)), 'song')}"
    )
    figures = {"plot": robustness_figure(by_source)}
    return page("robustness.html", title, body, note=note, figures=figures)


def _says(source: str, measured: Measured, found: Sequence[Curve]) -> str:
    """How many levels cost a source accuracy, in a sentence."""
    levels = [point for curve in found for point in curve.degraded]
    clean = next(curve.clean for curve in found if curve.degradation != EXCERPT)
    return (
        f"{source}: {len(songs_of(measured))} {measured.conditions.split} songs, "
        f"{fig.percent(clean.top_1.value)} named right undegraded; significantly fewer at "
        f"{sum(point.falls for point in levels)} of {len(levels)} levels."
    )


GAP_PX, ROW_PX, EDGE_PX = 82, 215, 76  # between panels, from row to row, above and below all


def robustness_figure(by_source: Mapping[str, Sequence[Curve]]) -> Json:
    """A panel for each degradation: top-1 and top-3 over its levels, the undegraded among them."""
    fused = by_source[FUSED]
    cases = []
    for number, (source, found) in enumerate(by_source.items()):
        traces = [
            trace
            for place, curve in enumerate(found)
            for trace in _curve_traces(curve, fused[place] if source != FUSED else None, place)
        ]
        cases.append(fig.case(traces, source=str(number)))
    cases += [fig.case(layout=_grid(fused, 1), narrow=True)]
    margin = {"margin": {"l": 48, "r": 14, "t": 30, "b": 46}}
    return fig.figure([], {**margin, **_grid(fused, 3)}, cases)


def _grid(found: Sequence[Curve], columns: int) -> Json:
    """Axes and titles of the panels in so many columns."""
    rows = -(-len(found) // columns)
    height = rows * ROW_PX + 40
    gap = GAP_PX / (height - EDGE_PX)
    each, wide = (1 - (rows - 1) * gap) / rows, (1 - (columns - 1) * 0.06) / columns
    layout: Json = {"height": height, "annotations": []}
    small: Json = {"tickfont": {"size": 11}, "tickangle": 0}
    for number, curve in enumerate(found):
        ladder, suffix = DEGRADATIONS[curve.degradation], str(number + 1) if number else ""
        top = 1 - number // columns * (each + gap)
        left = number % columns * (wide + 0.06)
        layout[f"xaxis{suffix}"] = fig.categories(
            _labels(curve), 40, title=ladder.says, anchor=f"y{suffix}", showgrid=False,
            domain=[left, min(left + wide, 1)], range=[-0.4, len(curve.points) - 0.6], **small,
        )  # fmt: skip
        layout[f"yaxis{suffix}"] = fig.axis(
            domain=[max(0, top - each), top], anchor=f"x{suffix}", range=[-0.04, 1.06],
            tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1], **small,
        )  # fmt: skip
        layout["annotations"].append(fig.panel_title(ladder.title, left, top))
    return layout


def _curve_traces(curve: Curve, fused: Curve | None, place: int) -> list[Json]:
    """Top-3 dotted under top-1; a thin line for the fused answers where an expert's are shown."""
    suffix = str(place + 1) if place else ""
    levels = list(range(len(curve.points)))
    shared = {"mode": "lines+markers", "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    top_1, top_3 = ([getattr(p, name) for p in curve.points] for name in ("top_1", "top_3"))
    third = fig.markers(
        levels, fig.rounded([one.value for one in top_3]), _texts(curve, "top-3", top_3),
        line={"color": fig.colour("soft"), "width": 1.5, "dash": "dot"},
        marker={"color": fig.colour("soft"), "size": 4}, **shared,
    )  # fmt: skip
    clean, falls = ([p.level is None for p in curve.points], [p.falls for p in curve.points])
    marker = {
        "symbol": [
            "circle-open" if is_clean else "diamond" if fall else "circle"
            for is_clean, fall in zip(clean, falls, strict=True)
        ],
        "size": [9 if c else 10 if fall else 7 for c, fall in zip(clean, falls, strict=True)],
        "color": [fig.colour("wrong" if fall else "right") for fall in falls],
        "opacity": 1,
    }
    first = fig.markers(
        levels, fig.rounded([one.value for one in top_1]), _texts(curve, "top-1", top_1),
        line={"color": fig.colour("right"), "width": 2}, error_y=fig.error_bars(top_1),
        marker=marker, **shared,
    )  # fmt: skip
    # Every source has as many traces, so that one is laid over another.
    thin = fig.rounded([point.top_1.value for point in fused.points]) if fused else [None]
    line = {"color": fig.colour("text"), "width": 0.8}
    under = {**fig.markers(levels, thin, []), **shared, "mode": "lines", "hoverinfo": "skip"}
    return [{**under, "line": line}, third, first]


def _texts(curve: Curve, name: str, shares: Sequence[Estimate]) -> list[str]:
    ladder, clean = DEGRADATIONS[curve.degradation], _number(curve, curve.clean)
    found = []
    for point, share in zip(curve.points, shares, strict=True):
        where = f"<b>{fig.label(ladder.title)}: {fig.label(_number(curve, point))}</b>"
        text = f"{where} ({fig.label(ladder.says, 60)})<br>{name} {fig.spread(share)}"
        if name == "top-1" and point.level is not None:
            change, low, high = points_cell(point.change).replace("\n", " to ").split(" to ")
            text += f"<br>{change} against {clean} ({low} to {high})"
            text += ", significant" if point.falls else ""
        found.append(text)
    return found


def _labels(curve: Curve) -> list[str]:
    return [_number(curve, point) for point in curve.points]


def _number(curve: Curve, point: Point) -> str:
    """A level without its unit, as it stands on the axis."""
    if point.level is None:
        return "full" if curve.degradation == EXCERPT else "clean"
    return DEGRADATIONS[curve.degradation].text(point.level)


def _value(curve: Curve, point: Point) -> str:
    """A level with its unit: "10 dB"."""
    unit = DEGRADATIONS[curve.degradation].says.rpartition(", ")[2]
    if DEGRADATIONS[curve.degradation].neutral == 1.0:
        return f"{_number(curve, point)} times"
    return f"{_number(curve, point)} {unit}"


def _level(curve: Curve, point: Point) -> str:
    """A level in words: "white noise at 10 dB"."""
    if curve.degradation == EXCERPT:
        return f"an excerpt of {_value(curve, point)}"
    return f"{DEGRADATIONS[curve.degradation].title.lower()} at {_value(curve, point)}"


def _missing(measured: Measured, names: Sequence[str]) -> str:
    """What is not measured, and what would measure it."""
    found = []
    there = len(songs_of(measured))
    if there < measured.wanted:
        length = measured.conditions.seconds
        seconds = None if length == SECONDS else length
        found.append(
            f"Only {there:,} of {measured.wanted:,} songs are measured so far; this goes on: "
            f"{Command('measure', what='robustness', songs=measured.wanted, seconds=seconds)}"
        )
    unavailable = {member_of(name) for name in measured.conditions.sources[1:] if name not in names}
    unavailable -= {member_of(name) for name in names if name != FUSED}
    if unavailable:
        listed = ", ".join(sorted(unavailable))
        found.append(
            f"Without vocal stems of degraded songs these members gave no answer: {listed}; a "
            f"separator makes stems: {Command('train-separator')}"
        )
    return "".join(f"<p>{escape(one)}</p>" for one in found)


HEAD = ("degradation", "level", "top-1", "top-3", "change of top-1", "p, adjusted")


def _table(name: str, found: Sequence[Curve]) -> str:
    rows = []
    for curve in found:
        ladder = DEGRADATIONS[curve.degradation]
        for number, point in enumerate(curve.points):
            first = f"{ladder.title}\n{ladder.says}" if number == 0 else ""
            clean = point.level is None
            rows.append(
                (
                    first,
                    _number(curve, point),
                    share_cell(point.top_1),
                    share_cell(point.top_3),
                    "" if clean else points_cell(point.change),
                    "" if clean else f"{point.p:.3f}" if point.p >= 0.0005 else "below 0.001",
                )
            )
    songs = counted(found[0].clean.songs, "song")
    heading = f"<h2>All levels, {escape(name)}, {songs}</h2>"
    return heading + table(HEAD, rows, numeric=range(1, len(HEAD)))
