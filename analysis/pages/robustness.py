"""The robustness page: how many songs are still named right when they are degraded.

Enters: what `python app.py measure --what robustness` wrote. Leaves: the text of `robustness.html`:
a curve for each degradation, which level is the mildest that costs accuracy, and a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.measures.robustness import Curve, Point, curves, songs_of, sources
from analysis.page import choice, escape, page, table
from analysis.run_data import RunData
from analysis.wording import counted, points
from embedder.errors import Command
from embedder.measures.robustness import DEGRADATIONS, EXCERPT, FULL, SECONDS
from embedder.metrics import Estimate
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
    heard = "heard in full" if length == FULL else f"{length:g} s of each"
    start = f"Of {songs}, {heard}, {clean.top_1.value:.1%} are named right undegraded"
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
        told = " and ".join(
            f"{_value(curve, point)} ({point.top_1.value:.1%}, {points(point.change)})"
            for point in first
        )
        mildest = "the mildest level" if len(first) == 1 else "the mildest levels, either way,"
        verb = "is" if len(first) == 1 else "are"
        return f"{title}: {mildest} significantly below {clean} {verb} {told}."
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
    parts = "".join(
        f'<div data-source="{escape(name)}"{"" if name == FUSED else " hidden"}>'
        f"{_table(name, found)}</div>"
        for name, found in by_source.items()
    )
    controls = choice("source", "Answers of", [(name, name) for name in names])
    body = f"""<p id="finding">{escape(robustness_finding(measured, fused))}</p>
{_missing(measured, names)}
<div class="controls">{controls}</div>
<p id="shown" class="soft" aria-live="polite"></p>
<div class="plot"><div id="plot"></div></div>
<p class="soft">Solid: the true singer is named first. Dotted: among the first three. Bars are 95%
intervals. A diamond is significantly below the undegraded songs, which the open circle stands
for. A thin line: the fused answers, where an expert's are shown.</p>
<h2>What costs accuracy, fused answers</h2>
<ul class="findings">{sentences}</ul>
{parts}"""
    data = {
        "songs": len(songs_of(measured)),
        "split": measured.conditions.split,
        "ladders": [
            {"title": ladder.title, "says": ladder.says, "levels": _labels(curve)}
            for curve in fused
            for ladder in [DEGRADATIONS[curve.degradation]]
        ],
        "curves": {name: [_drawn(curve) for curve in found] for name, found in by_source.items()},
    }
    note = f"{NOTES[measured.conditions.split]} {LIMITS}"
    title = (
        f"{TITLE}: {measured.conditions.split} split, {counted(len(songs_of(measured)), 'song')}"
    )
    return page("robustness.html", title, body, data, ["robustness.js"], note)


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
    said = []
    there = len(songs_of(measured))
    if there < measured.wanted:
        length = measured.conditions.seconds
        seconds = None if length == SECONDS else length
        said.append(
            f"Only {there:,} of {measured.wanted:,} songs are measured so far; this goes on: "
            f"{Command('measure', what='robustness', songs=measured.wanted, seconds=seconds)}"
        )
    silent = {member_of(name) for name in measured.conditions.sources[1:] if name not in names}
    silent -= {member_of(name) for name in names if name != FUSED}
    if silent:
        listed = ", ".join(sorted(silent))
        said.append(
            f"Without vocal stems of degraded songs these members stayed silent: {listed}; a "
            f"separator makes stems: {Command('train-separator')}"
        )
    return "".join(f"<p>{escape(one)}</p>" for one in said)


def _drawn(curve: Curve) -> dict[str, Any]:
    """What is drawn of a curve."""

    def columns(estimates: Sequence[Estimate]) -> dict[str, list[float]]:
        return {
            name: [round(getattr(one, name), 6) for one in estimates]
            for name in ("value", "low", "high")
        }

    return {
        "top_1": columns([point.top_1 for point in curve.points]),
        "top_3": columns([point.top_3 for point in curve.points]),
        "change": columns([point.change for point in curve.points]),
        "falls": [point.falls for point in curve.points],
        "clean": [point.level is None for point in curve.points],
    }


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
                    _percent(point.top_1),
                    _percent(point.top_3),
                    "" if clean else _change(point.change),
                    "" if clean else f"{point.p:.3f}" if point.p >= 0.0005 else "below 0.001",
                )
            )
    songs = counted(found[0].clean.songs, "song")
    heading = f"<h2>All levels, {escape(name)}, {songs}</h2>"
    return heading + table(HEAD, rows, numeric=range(1, len(HEAD)))


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}"


def _change(one: Estimate) -> str:
    text = f"{100 * one.value:+.1f} points\n{100 * one.low:+.1f} to {100 * one.high:+.1f}"
    return text.replace("-", "−")
