"""The reliability page: whether a confidence of 0.8 is right eight times in ten.

Enters: predictions of every expert and of all fused, and what experts said before calibration.
Leaves: the text of `reliability.html`: a reliability diagram over a histogram of confidences, and
risk against coverage, with a switch between answers and between before and after calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.expert_scores import uncalibrated
from analysis.page import choice, escape, page, table
from analysis.run_data import FUSE, Predicted, RunData
from embedder.intervals import wilson
from embedder.metrics import (
    Estimate,
    Groups,
    bootstrap_interval,
    calibration_error,
    ece,
    mean_of,
)
from embedder.reliability import (
    aurc_of,
    first_choices,
    reliability_bins,
    risk_coverage,
)
from ensemble.fusion.experts import FUSED

COVERAGE = 0.9  # of the sentence and the table: the surest nine songs of ten
CELLS = 20  # of the histogram
POINTS = 200  # of a risk-coverage curve at most

Numbers = NDArray[np.float64]


def answers(predicted: Predicted) -> dict[str, tuple[NDArray[np.int64], Numbers]]:
    """Source → (truth, probabilities) of the songs that it answers, the fused one first."""
    found = {FUSED: (predicted.truth, predicted.probabilities)}
    for name, probabilities in predicted.experts.items():
        rows = ~np.isnan(probabilities).any(axis=1)
        if rows.any():
            found[name] = (predicted.truth[rows], probabilities[rows])
    return found


def answered_groups(predicted: Predicted, source: str) -> Groups:
    """The albums of the songs that a source answers, in the order of `answers`."""
    if source == FUSED:
        return predicted.groups
    rows = ~np.isnan(predicted.experts[source]).any(axis=1)
    return predicted.take(np.flatnonzero(rows)).groups


def reliability_finding(predicted: Predicted, seed: int = 0) -> str:
    """Whether the fused answers are as sure as they are right, in a sentence."""
    confidence, right = first_choices(predicted.truth, predicted.probabilities)
    songs = len(right)
    groups = predicted.groups
    gap = bootstrap_interval(mean_of(confidence - right), songs, seed, groups, (-1.0, 1.0))
    accuracy = bootstrap_interval(mean_of(right), songs, seed, groups)
    error = calibration_error(predicted.truth, _logs(predicted.probabilities), seed)
    kept = _surest(songs)
    missed = float(risk_coverage(confidence, right)[kept - 1]) * kept
    return (
        f"On {songs:,} {predicted.split} songs the fused answers are {confidence.mean():.1%} sure "
        f"on average and {right.mean():.1%} are right, "
        f"{_verdict(gap, accuracy)}; the expected calibration error is {error.value:.3f} (with "
        f"exact confidences, chance alone would make it up to {error.limit:.3f}), and "
        f"{_mistakes(missed)} among the {kept:,} surest."
    )


def _verdict(gap: Estimate, accuracy: Estimate) -> str:
    """What the mean confidence minus the accuracy says, as far as its interval lets it."""
    if accuracy.value == 1.0:  # every resample is without mistakes too
        if -gap.value > 1 - accuracy.low:
            return f"so they are underconfident by {-100 * gap.value:.1f} points"
        return (
            "which fits: so many albums without a mistake leave up to "
            f"{1 - accuracy.low:.1%} likely"
        )
    between = f"{abs(100 * gap.value):.1f} points"
    if gap.low > 0:
        return f"so they are overconfident by {between}"
    if gap.high < 0:
        return f"so they are underconfident by {between}"
    return f"a difference of {between} that chance may explain"


def _surest(songs: int) -> int:
    return max(round(COVERAGE * songs), 1)


def _mistakes(count: float) -> str:
    """Mistakes among the surest; a fraction where songs of equal confidence share theirs."""
    if count < 1e-9:
        return "no mistake is"
    if abs(count - 1) < 1e-9:
        return "1 mistake is"
    return f"{count:.3g} mistakes are"


def reliability_page(run_data: RunData) -> str:
    """The text of `reliability.html`."""
    tables, seed = run_data.predicted, run_data.seed
    before = uncalibrated(run_data)
    sources = list(dict.fromkeys(name for one in tables for name in answers(one)))
    controls = choice("split", "Split", [(str(i), one.split) for i, one in enumerate(tables)])
    controls += choice("source", "Answers of", [(name, name) for name in sources])
    stages = [("after", "after"), ("before", "before")]
    controls += choice("stage", "Calibration", stages if any(before.values()) else stages[:1])
    parts = "".join(
        f'<div data-set="{number}"{" hidden" if number else ""}>'
        f"{_table(one, before[one.split], seed)}</div>"
        for number, one in enumerate(tables)
    )
    body = f"""<p id="finding">{escape(reliability_finding(tables[0], seed))}</p>
<div class="controls">{controls}</div>
<p id="shown" class="soft" aria-live="polite"></p>
<div class="plot"><div id="plot"></div></div>
<p class="soft">Each dot holds the same number of songs, sorted by confidence; a dot under the
diagonal is surer than it is right. Bars are 95% intervals of Wilson. Risk and coverage: if only the
surest songs were answered, how many of those answers would be wrong.</p>
{_missing(run_data, sources)}
{parts}"""
    data = {
        "titles": [_title(one) for one in tables],
        "sets": [
            {
                name: {
                    "after": curves(*found),
                    "before": curves(one.truth, before[one.split][name])
                    if name in before[one.split]
                    else None,
                }
                for name, found in answers(one).items()
            }
            for one in tables
        ],
    }
    notes = [one.how for one in tables]
    notes.append("Before calibration: temperature 1, all else as it was fitted on all songs.")
    return page(
        "reliability.html",
        _title(tables[0]),
        body,
        data,
        ["reliability.js"],
        " ".join(notes),
    )


def curves(truth: NDArray[np.int64], probabilities: Numbers) -> dict[str, Any]:
    """What is drawn of one source: bins, histogram, and risk against coverage."""
    confidence, right = first_choices(truth, probabilities)
    songs = len(right)
    bins = reliability_bins(confidence, right)
    cells = np.minimum((confidence * CELLS).astype(int), CELLS - 1)
    risk = risk_coverage(confidence, right)
    kept = np.unique(np.linspace(1, songs, min(songs, POINTS)).round().astype(int))
    bands = [wilson(float(risk[n - 1]) * n, int(n)) for n in kept]
    return {
        "songs": songs,
        "mean": round(float(confidence.mean()), 6),
        "accuracy": round(float(right.mean()), 6),
        "ece": round(ece(truth, _logs(probabilities)), 6),
        "bins": {
            "songs": [one.songs for one in bins],
            "confidence": [round(one.confidence, 6) for one in bins],
            **_columns([one.accuracy for one in bins]),
        },
        "right": np.bincount(cells[right], minlength=CELLS).tolist(),
        "wrong": np.bincount(cells[~right], minlength=CELLS).tolist(),
        "risk": {"songs": kept.tolist(), **_columns(bands)},
    }


def _columns(estimates: Sequence[Estimate]) -> dict[str, list[float]]:
    return {
        name: [round(getattr(one, name), 6) for one in estimates]
        for name in ("value", "low", "high")
    }


HEAD = (
    "answers of", "songs", "right", "mean confidence", "ECE before", "ECE",
    "area under risk-coverage", f"wrong of the surest {COVERAGE:.0%}",
)  # fmt: skip


def _table(predicted: Predicted, before: Mapping[str, Numbers], seed: int) -> str:
    rows = []
    for name, (truth, probabilities) in answers(predicted).items():
        confidence, right = first_choices(truth, probabilities)
        songs = len(right)
        groups = answered_groups(predicted, name)
        accuracy = bootstrap_interval(mean_of(right), songs, seed, groups)
        area = bootstrap_interval(aurc_of(confidence, right), songs, seed, groups)
        kept = _surest(songs)
        share = wilson(float(risk_coverage(confidence, right)[kept - 1]) * kept, kept)
        plain = before.get(name)
        error = calibration_error(truth, _logs(probabilities), seed)
        rows.append(
            (
                "\n".join(name.rsplit("/", 1)),
                f"{songs:,}",
                _percent(accuracy),
                f"{confidence.mean():.1%}",
                "" if plain is None else f"{ece(predicted.truth, _logs(plain)):.3f}",
                f"{error.value:.3f}\nup to {error.limit:.3f} if calibrated",
                _thousandths(area),
                _percent(share),
            )
        )
    heading = f"<h2>All answers, {escape(predicted.split)} split, song level</h2>"
    return heading + table(HEAD, rows, numeric=range(1, len(HEAD)))


def _missing(run_data: RunData, sources: Sequence[str]) -> str:
    """What the page cannot show, and what would make it."""
    if run_data.fusion is None:
        why = "There is no fusion, so nothing is known of before calibration"
        return f"<p>{why}; {escape(str(FUSE))}</p>"
    if len(sources) == 1:
        return f"<p>The predictions hold no single expert's answers; {escape(str(FUSE))}</p>"
    return ""


def _title(predicted: Predicted) -> str:
    return (
        f"Reliability of confidences: {predicted.split} split, song level, "
        f"{len(predicted.ids):,} songs"
    )


def _logs(probabilities: Numbers) -> Numbers:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probabilities))


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}"


def _thousandths(one: Estimate) -> str:
    return f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}"
