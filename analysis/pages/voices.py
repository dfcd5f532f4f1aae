"""The voices page: who sings which notes, how voices sound, and whether that explains mistakes.

Enters: `RunData`, and what `measure` found in the songs. Leaves: the text of `voices.html`: vocal
range and timbre of each singer, confusion against the overlap of ranges and against sex, and the
course's questions with answers in sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.measures.voice_confusion import (
    Pairs,
    mistakes_overlap,
    pairs_of,
    relation,
    sex_of,
    sexes,
)
from analysis.measures.voices import (
    Measured,
    ToldBy,
    Voice,
    note,
    read_measured,
    said,
    told_by,
    vocal_ranges,
    voices,
)
from analysis.page import choice, escape, page, table
from analysis.pages.training import Log, read_log, training_finding, training_gap
from analysis.questions import range_sentences, sex_sentences, table_sentences, voices_finding
from analysis.run_data import Predicted, RunData
from analysis.wording import counted
from embedder.errors import Command

SHOWN = (
    ("f0", "vocal range"),
    ("centroid_hz", "brightness"),
    ("tilt_db", "tilt"),
    ("flatness_db", "noise"),
)
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
    told = [] if isinstance(measured, str) else told_by(measured)
    if isinstance(measured, str):
        finding = measured
    elif not found:
        finding = f"No voice is heard in {counted(len(measured.rows), 'measured song')}."
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
            range_sentences(related, len(pairs.first), overlapping, told, predicted.split)
            or ["Vocal ranges are not known."],
            "",
        ),
    ]
    body = f'<p id="finding">{escape(finding)}</p>'
    if found and not isinstance(measured, str):
        body += _range_section(found, measured)
        body += _pair_section(pairs) + _told_section(told)
    body += f"<h2>The course's questions</h2>{_answers(answers)}"
    data = {
        "voices": [_voice_data(one, sex) for one in found.values()],
        "sexes": sorted({sex[name] for name in found if name in sex}),
        "pairs": _pair_data(pairs, predicted),
    }
    note_ = (
        f"{predicted.how} f0: fundamental frequency by pYIN (Mauch and Dixon 2014, librosa), 65 to "
        "1,050 Hz, every 20 ms, in 20 s of each training and validation song, where most is sung."
    )
    scripts = ["voices.js"] if found else []
    title = "Voices: range, timbre and mistakes"
    return page("voices.html", title, body, data, scripts, note_)


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
    controls = choice("show", "Show", SHOWN) + choice("order", "Order", ORDERS)
    return f"""<h2>Each singer's voice</h2>
<div class="controls">{controls}</div>
<div class="plot"><div id="plot"></div></div>
<p class="soft" id="says" aria-live="polite"></p>
<p class="soft">{escape(" ".join(how) + missing)}</p>
{_voice_table(found)}"""


def _voice_table(found: Mapping[str, Voice]) -> str:
    rows = [
        (
            voice.singer,
            f"{note(voice.f0[0])} to {note(voice.f0[-1])}\n{voice.f0[0]:.0f} to "
            f"{voice.f0[-1]:.0f} Hz",
            said(voice.f0[2]),
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
<div class="plot"><div id="pairs"></div></div>
<p class="soft">A dot is a pair of singers, {len(pairs.first):,} in all{cut}. Across: how much of
the notes of either both sing, the intersection of their ranges by the union. Up: the probability
that songs of one give to the other, mean of both ways; at the foot 0.0001% or less. Orange: songs
of one were named as the other. p: the singers are given each other's ranges 2,000 times at random
(Mantel 1967), for pairs that share a singer are not independent.</p>"""


def _told_section(told: Sequence[ToldBy]) -> str:
    if not told:
        return ""
    rows = [
        (
            one.what,
            f"{one.numbers}",
            f"{one.right.value:.1%}\n{one.right.low:.1%} to {one.right.high:.1%}",
            f"{one.songs:,}",
        )
        for one in told
    ]
    head = ("known of a song", "numbers", "right singer named", "validation songs")
    return f"""<h2>What range and timbre alone tell</h2>{table(head, rows, range(1, 4))}
<p class="soft">A linear discriminant with shrinkage, fitted on training songs. Pitch: the 5, 25,
50, 75 and 95% quantiles of the f0. Timbre: spectral centroid, flatness, tilt and 12 mel-frequency
cepstral coefficients of voiced frames. 95% intervals by Wilson.</p>"""


def _voice_data(voice: Voice, sex: Mapping[str, str]) -> dict[str, Any]:
    return {
        "singer": voice.singer,
        "sex": sex.get(voice.singer, ""),
        "songs": voice.songs,
        "stem": voice.stem,
        "f0": [round(one, 1) for one in voice.f0],
        **{name: [round(one, 2) for one in values] for name, values in voice.timbre.items()},
    }


def _pair_data(pairs: Pairs, predicted: Predicted) -> dict[str, Any]:
    shown = sorted(
        range(len(pairs.first)), key=lambda row: (-pairs.mistakes[row], -pairs.probability[row])
    )[:MOST_PAIRS]
    return {
        "singers": predicted.singers,
        "first": pairs.first[shown].tolist(),
        "second": pairs.second[shown].tolist(),
        "overlap": pairs.overlap[shown].round(4).tolist(),
        "probability": [float(f"{one:.3g}") for one in pairs.probability[shown]],
        "mistakes": pairs.mistakes[shown].tolist(),
    }
