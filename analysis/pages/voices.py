"""The voices page: who sings which notes, how voices sound, and whether that explains mistakes.

Vocal range and timbre of each singer, confusion against the overlap of ranges and against sex, and
the course's questions with answers in sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis import figures as fig
from analysis.figures import Json
from analysis.measures.questions import (
    range_sentences,
    sex_sentences,
    table_sentences,
    voices_finding,
)
from analysis.measures.voice_confusion import (
    Pairs,
    mistakes_overlap,
    pairs_of,
    relation,
    sex_of,
    sexes,
)
from analysis.measures.voices import (
    FeatureProbe,
    Measured,
    Voice,
    feature_probes,
    note,
    note_and_hz,
    read_measured,
    vocal_ranges,
    voices,
)
from analysis.page import choice, escape, page, plot, table
from analysis.pages.training import Log, read_log, training_finding, training_gap
from analysis.run_data import Predicted, RunData
from analysis.wording import share_cell
from embedder.errors import Command
from embedder.text import counted


@dataclass(frozen=True)
class Shown:
    """A measure of voices that the figure can show."""

    name: str
    title: str
    unit: str
    digits: int
    in_hertz: bool
    says: str


HALF = (
    "Dot: median over the singer's songs. Thick: the middle half of the songs, thin: nine tenths."
)
SHOWN = {
    "f0": Shown(
        "vocal range", "f0", "Hz", 0, True,
        "Thin line: nine tenths of what is sung, between the 5 and the 95% quantile of the f0. "
        "Thick: the middle half. Dot: the median. Each is the median over the singer's songs.",
    ),
    "centroid_hz": Shown(
        "brightness", "spectral centroid, Hz", "Hz", 0, True,
        "Brightness: the spectral centroid, the mean frequency of the spectrum of voiced frames. "
        f"{HALF}",
    ),
    "tilt_db": Shown(
        "tilt", "dB an octave", "dB an octave", 1, False,
        "Tilt: by how much the mean spectrum of voiced frames falls with each octave from 100 Hz "
        f"to 5 kHz; further left is darker. {HALF}",
    ),
    "flatness_db": Shown(
        "noise", "spectral flatness, dB", "dB", 1, False,
        "Noise: the spectral flatness of voiced frames; 0 dB would be white noise, further left is "
        f"more tonal. {HALF}",
    ),
}  # fmt: skip
TINTS = ("right", "wrong", "accent")  # of the sexes; those that are not known are grey
NOT_KNOWN = "not known"
ORDERS = (("pitch", "low to high"), ("alphabet", "alphabetical"))
MOST_PAIRS = 5000  # points of the figure; of more pairs those that are confused most
HOW = {
    "vocals": (
        "from the vocal stems, so that the pitch is the voice's; a separator that leaves "
        "instruments in a stem, or takes harmonics out of it, shifts it"
    ),
    "mix": (
        "from the mixtures, because there are no vocal stems (the command separate makes them). "
        "The pitch of a mixture is mostly that of the bass or of a chord (in 50 synthesised songs "
        "whose stems are known, ten semitones below the voice in the median), and its timbre is "
        "the whole band's: these say little of a voice, and mistakes are not held against them"
    ),
}


def voices_page(run_data: RunData) -> str:
    """The text of `voices.html`."""
    measured = read_measured(run_data.run)
    predicted = run_data.predicted[0]
    sex = sex_of(run_data.facts)
    found = {} if isinstance(measured, str) else voices(measured)
    ranges = vocal_ranges(found)
    pairs = pairs_of(predicted, ranges)
    related = relation(pairs, run_data.seed) if len(pairs.first) else None
    probes = [] if isinstance(measured, str) else feature_probes(measured)
    if isinstance(measured, str):
        finding = measured
    elif not found:
        finding = f"Nobody sings in {counted(len(measured.rows), 'measured song')}."
    else:
        finding = voices_finding(found, related, len(pairs.first), predicted.split)
    overlapping = mistakes_overlap(predicted, ranges)
    answers = [
        ("Does it overfit?", [_overfitting(run_data)], "training"),
        (
            "Does the confusion table look right?",
            table_sentences(predicted, run_data.seed),
            "confusion",
        ),
        (
            "Are male and female singers told apart?",
            sex_sentences(sexes(predicted, sex), bool(sex), predicted.split),
            "",
        ),
        (
            "Are singers of different range told apart?",
            range_sentences(related, len(pairs.first), overlapping, probes, predicted.split)
            or ["Vocal ranges are not known."],
            "",
        ),
    ]
    body = f'<p id="finding">{escape(finding)}</p>'
    if found and not isinstance(measured, str):
        body += _range_section(found, measured)
        body += _pair_section(pairs) + _probe_section(probes)
    body += f"<h2>The course's questions</h2>{_answers(answers)}"
    note_ = (
        f"{predicted.how} f0: fundamental frequency by pYIN (Mauch and Dixon 2014, librosa), 65 to "
        "1,050 Hz, every 20 ms, in 20 s of each training and validation song, where most is sung."
    )
    figures = {"plot": voices_figure(list(found.values()), sex)} if found else {}
    if found and len(pairs.first):
        figures["pairs"] = pairs_figure(pairs, predicted)
    title = "Voices: range, timbre and mistakes"
    return page("voices.html", title, body, note=note_, figures=figures)


def voices_figure(found: Sequence[Voice], sex: Mapping[str, str]) -> Json:
    """For each measure and order an interval a singer, in colours of the sexes where known."""
    kinds = sorted({sex[one.singer] for one in found if one.singer in sex})
    groups = [*kinds, ""] if len(kinds) > 1 else [""]
    head = 34 if len(groups) > 1 else 12
    layout: Json = {
        "height": head + 64 + 25 * len(found),
        "margin": {"l": 14, "r": 26, "t": head, "b": 52},
        "showlegend": len(groups) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemclick": False},
        "yaxis": fig.axis(showgrid=False, range=[-0.6, len(found) - 0.4], automargin=True),
    }
    cases = []
    for order, _ in ORDERS:
        for show in SHOWN:
            voices = sorted(found, key=lambda one: _key(one, show, order))
            traces = []
            for number, kind in enumerate(groups):
                rows = [i for i, one in enumerate(voices) if _in_group(one, kind, groups, sex)]
                tint = TINTS[number % len(TINTS)] if kind or len(groups) == 1 else "soft"
                traces += _group_traces(voices, rows, show, tint, kind, sex)
            names = fig.categories([one.singer for one in voices], 26)
            ticks = {"yaxis": {key: names[key] for key in ("tickmode", "tickvals", "ticktext")}}
            cases.append(fig.case(traces, ticks, show=show, order=order))
            short = [fig.label(one.singer, 13) for one in voices]
            narrow = {"yaxis": {"ticktext": short, "tickfont": {"size": 11}}}
            cases.append(fig.case(layout=narrow, show=show, order=order, narrow=True))
    for show, about in SHOWN.items():
        for narrow_ in (False, True):
            scale = {"xaxis": _scale(found, show, about, narrow_)}
            cases.append(fig.case(layout=scale, show=show, narrow=narrow_))
    return fig.figure([], layout, cases)


def _values(voice: Voice, show: str) -> Sequence[float]:
    return voice.f0 if show == "f0" else voice.timbre[show]


def _key(voice: Voice, show: str, order: str) -> tuple[float, str]:
    return (0.0 if order == "alphabet" else _values(voice, show)[2], voice.singer.casefold())


def _in_group(voice: Voice, kind: str, groups: Sequence[str], sex: Mapping[str, str]) -> bool:
    return len(groups) == 1 or sex.get(voice.singer, "") == kind


def _group_traces(
    voices: Sequence[Voice], rows: Sequence[int], show: str, tint: str, kind: str,
    sex: Mapping[str, str],
) -> list[Json]:  # fmt: skip
    """Nine tenths as a thin line, the middle half as a thick one, the median as a dot."""
    digits = 1 if show == "f0" else 2

    def lines(low: int, high: int, width: int) -> Json:
        x: list[float | None] = []
        y: list[int | None] = []
        for row in rows:
            values = fig.rounded(_values(voices[row], show), digits)
            x += [values[low], values[high], None]
            y += [row, row, None]
        line = {"color": fig.colour(tint), "width": width}
        return {
            **{"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line},
            **{"hoverinfo": "skip", "showlegend": False},
        }

    line = {"color": fig.colour(tint), "width": 3}
    dots = fig.markers(
        fig.rounded([_values(voices[row], show)[2] for row in rows], digits),
        list(rows),
        [_hover(voices[row], show, sex) for row in rows],
        name=fig.label(kind or NOT_KNOWN, 20),
        showlegend=bool(rows),
        marker={"size": 11, "color": fig.colour("back"), "line": line, "opacity": 1},
    )
    return [lines(0, 4, 2), lines(1, 3, 8), dots]


def _hover(voice: Voice, show: str, sex: Mapping[str, str]) -> str:
    about = SHOWN[show]

    def value(number: float) -> str:
        if show == "f0":
            return note_and_hz(number)
        return f"{number:.{about.digits}f} {about.unit}".replace("-", "−")

    low, first, middle, third, high = map(value, _values(voice, show))
    kind = f", {fig.label(sex[voice.singer], 20)}" if voice.singer in sex else ""
    stem = "vocal stem" if voice.stem == "vocals" else "mixture"
    return (
        f"<b>{fig.label(voice.singer)}</b>{kind}<br>median {middle}<br>middle half {first} to "
        f"{third}<br>nine tenths {low} to {high}<br>{counted(voice.songs, 'song')}, {stem}"
    )


def _scale(found: Sequence[Voice], show: str, about: Shown, narrow: bool) -> Json:
    """The axis of a measure: logarithmic where it is in Hz, with notes under the pitch."""
    every = [value for one in found for value in _values(one, show)]
    low, high = min(every), max(every)
    if not about.in_hertz:
        room = 0.05 * ((high - low) or 1)
        ends = [low - room, high + room]
        return fig.axis(about.title, range=ends, nticks=5 if narrow else 9)
    low, high = low / 1.06, high * 1.06
    scale: Json = {"type": "log", "range": [math.log10(low), math.log10(high)]}
    if show != "f0":
        return fig.axis(about.title, **scale, dtick="D2", tickformat="~s")
    octaves = math.log2(high / low)
    step = 12 if octaves > 3 or (narrow and octaves > 1.5) else 6 if narrow else 4
    first, last = (69 + 12 * math.log2(hertz / 440) for hertz in (low, high))
    numbers = range(math.ceil(first / step) * step, math.floor(last) + 1, step)
    hertz = [440 * 2 ** ((number - 69) / 12) for number in numbers]
    text = [f"{note(one)}<br>{one:.0f} Hz" for one in hertz]
    return fig.axis(**scale, tickmode="array", tickvals=fig.rounded(hertz), ticktext=text)


LOWEST = 1e-6  # what is drawn at the foot: a logarithm has no 0


def pairs_figure(pairs: Pairs, predicted: Predicted) -> Json:
    """A dot for each two singers: overlap of their ranges against their confusion."""
    shown = sorted(
        range(len(pairs.first)), key=lambda row: (-pairs.mistakes[row], -pairs.probability[row])
    )[:MOST_PAIRS]
    traces = []
    for wrong in (False, True):
        rows = [row for row in shown if (pairs.mistakes[row] > 0) == wrong]
        marker = {
            "color": fig.colour("wrong" if wrong else "right"),
            "opacity": 1 if wrong else 0.55,
            "size": [8 + 3 * min(int(pairs.mistakes[r]), 5) if wrong else 7 for r in rows],
            "line": {"width": int(wrong), "color": fig.colour("back")},
        }
        heights = [float(f"{100 * max(pairs.probability[row], LOWEST):.3g}") for row in rows]
        x, text = (
            fig.rounded([100 * pairs.overlap[row] for row in rows], 2),
            [_pair_text(pairs, row, predicted.singers) for row in rows],
        )
        name = "with mistakes" if wrong else "without"
        traces.append(fig.markers(x, heights, text, name=name, marker=marker))
    layout = {
        "height": 420,
        "margin": {"l": 70, "r": 16, "t": 14, "b": 50},
        "xaxis": fig.axis("overlap of the ranges", ticksuffix="%", range=[-3, 103]),
        "yaxis": fig.axis(
            "probability given to each other", type="log", dtick=1, tickformat="~g", ticksuffix="%"
        ),
    }
    return fig.figure(traces, layout)


def _pair_text(pairs: Pairs, row: int, singers: Sequence[str]) -> str:
    first, second = (
        f"<b>{fig.label(singers[one[row]], 30)}</b>" for one in (pairs.first, pairs.second)
    )
    share, songs = float(pairs.probability[row]), int(pairs.mistakes[row])
    given = fig.percent(share) if share >= 0.001 else f"{100 * share:.2g}%"
    mistakes = f"{counted(songs, 'song')} named as the other" if songs else "no song named so"
    return (
        f"{first} and {second}<br>ranges overlap by {pairs.overlap[row]:.0%}"
        f"<br>probability given to each other {given}<br>{mistakes}"
    )


def _overfitting(run_data: RunData) -> str:
    logs = [read_log(run_data.run, name) for name in run_data.members]
    gaps = [training_gap(run_data.stores(name), run_data.seed) for name in run_data.members]
    return training_finding(
        [one for one in logs if isinstance(one, Log)], [one for one in gaps if one is not None]
    )


def _answers(answers: Sequence[tuple[str, Sequence[str], str]]) -> str:
    items = ""
    for question, sentences, where in answers:
        link = f' <a href="{where}.html">More on this</a>' if where else ""
        items += f"<li><b>{escape(question)}</b><br>{escape(' '.join(sentences))}{link}</li>"
    return f'<ul class="findings" id="answers">{items}</ul>'


def _range_section(found: Mapping[str, Voice], measured: Measured) -> str:
    how = []
    for stem, words in HOW.items():
        mine = [voice for voice in found.values() if voice.stem == stem]
        if mine:
            songs, singers = sum(voice.songs for voice in mine), len(mine)
            how.append(f"{counted(songs, 'song')} of {counted(singers, 'singer')}, {words}.")
    missing = (
        f" {counted(measured.missing, 'song')} not measured or changed since: "
        f"{Command('measure', what='voices')}"
        if measured.missing
        else ""
    )
    controls = choice("show", "Show", [(key, one.name) for key, one in SHOWN.items()]) + choice(
        "order", "Order", ORDERS
    )
    says = "".join(
        f'<p class="soft" hidden data-when="show={key}">{escape(one.says)}</p>'
        for key, one in SHOWN.items()
    )
    return f"""<h2>Each singer's voice</h2>
<div class="controls">{controls}</div>
{plot("plot")}
<div id="says" aria-live="polite">{says}</div>
<p class="soft">{escape(" ".join(how) + missing)}</p>
{_voice_table(found)}"""


def _voice_table(found: Mapping[str, Voice]) -> str:
    rows = [
        (
            voice.singer,
            f"{note(voice.f0[0])} to {note(voice.f0[-1])}\n{voice.f0[0]:.0f} to "
            f"{voice.f0[-1]:.0f} Hz",
            note_and_hz(voice.f0[2]),
            f"{voice.timbre['centroid_hz'][2]:,.0f} Hz",
            f"{voice.timbre['tilt_db'][2]:.1f} dB".replace("-", "−"),
            f"{voice.songs:,}",
        )
        for voice in sorted(found.values(), key=lambda one: one.f0[2])
    ]
    head = ("singer", "nine tenths of the notes", "middle", "brightness", "tilt an octave", "songs")
    return f"<details><summary>As a table</summary>{table(head, rows, range(1, 6))}</details>"


def _pair_section(pairs: Pairs) -> str:
    if not len(pairs.first):
        return ""
    cut = f", the {MOST_PAIRS:,} most confused" if len(pairs.first) > MOST_PAIRS else ""
    return f"""<h2>Are singers of similar range confused more?</h2>
{plot("pairs")}
<p class="soft">A dot is a pair of singers, {len(pairs.first):,} in all{cut}. Across: how much of
the notes of either both sing, the intersection of their ranges by the union. Up: the probability
that songs of one give to the other, mean of both ways; at the foot 0.0001% or less. Orange: songs
of one were named as the other. p: the singers are given each other's ranges 2,000 times at random
(Mantel 1967), for pairs that share a singer are not independent.</p>"""


def _probe_section(probes: Sequence[FeatureProbe]) -> str:
    if not probes:
        return ""
    rows = [
        (
            one.what,
            f"{one.numbers}",
            share_cell(one.right),
            f"{one.songs:,}",
        )
        for one in probes
    ]
    head = ("known of a song", "numbers", "right singer named", "validation songs")
    return f"""<h2>What range and timbre alone tell</h2>{table(head, rows, range(1, 4))}
<p class="soft">A linear discriminant with shrinkage, fitted on training songs. Pitch: the 5, 25,
50, 75 and 95% quantiles of the f0. Timbre: spectral centroid, flatness, tilt and 12 mel-frequency
cepstral coefficients of voiced frames. 95% intervals by Wilson.</p>"""
