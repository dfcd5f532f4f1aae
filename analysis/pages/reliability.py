"""The reliability page: whether a confidence of 0.8 is right eight times in ten.

A reliability diagram over a histogram of confidences, and risk against coverage, with a switch
between the answers of every expert and of all fused, and between before and after calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis import figures as fig
from analysis.figures import Json
from analysis.measures.expert_scores import uncalibrated
from analysis.page import choice, escape, numbered, page, plot, table, variants
from analysis.run_data import FUSE, Predicted, RunData
from analysis.wording import share_cell
from embedder.metrics import (
    aurc_of,
    calibration_error,
    ece,
    first_choices,
    reliability_bins,
    risk_coverage,
)
from embedder.statistics import Estimate, Groups, bootstrap_interval, mean_of, wilson
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
    controls = choice("split", "Split", numbered(one.split for one in tables))
    controls += choice("source", "Answers of", numbered(sources))
    stages = [("after", "after"), ("before", "before")]
    controls += choice("stage", "Calibration", stages if any(before.values()) else stages[:1])
    drawn = list(_variants(tables, before, sources))
    says = "".join(
        f'<p class="soft" hidden data-when="{_when(when)}">{escape(one)}</p>'
        for when, one, _ in drawn
    )
    parts = [_table(one, before[one.split], seed) for one in tables]
    body = f"""<p id="finding">{escape(reliability_finding(tables[0], seed))}</p>
<div class="controls">{controls}</div>
<div id="shown" aria-live="polite">{says}</div>
{plot("plot")}
<p class="soft">Each dot holds the same number of songs, sorted by confidence; a dot under the
diagonal is surer than it is right. Bars are 95% intervals of Wilson. Risk and coverage: if only the
surest songs were answered, how many of those answers would be wrong.</p>
{_missing(run_data, sources)}
{variants("div", parts, "split")}"""
    notes = [one.how for one in tables]
    notes.append("Before calibration: temperature 1, all else as it was fitted on all songs.")
    figures = {"plot": fig.figure([], LAYOUT, [one for *_, one in drawn] + [NARROW])}
    titles = [_title(one) for one in tables]
    return page("reliability.html", titles, body, note=" ".join(notes), figures=figures)


def _variants(
    tables: Sequence[Predicted],
    before: Mapping[str, Mapping[str, Numbers]],
    sources: Sequence[str],
) -> Iterator[tuple[dict[str, str], str, Json]]:
    """For each choice of split, source and stage: the choice, a sentence, and what is drawn."""
    for split, one in enumerate(tables):
        found = answers(one)
        for number, name in enumerate(sources):
            source = name if name in found else FUSED
            for stage in ("after", "before"):
                plain = before[one.split].get(source) if stage == "before" else None
                numbers = found[source] if plain is None else (one.truth, plain)
                if name not in found:
                    says = f"{name} answers no song of this split; this is what all say together."
                else:
                    says = _says(name, "after" if plain is None else "before", *numbers)
                    if stage == "before" and plain is None:
                        says += NO_BEFORE if name == FUSED else " Before calibration is not known."
                when = {"split": str(split), "source": str(number), "stage": stage}
                shapes, layout = traces(curves(*numbers))
                yield when, says, fig.case(shapes, layout, **when)


NO_BEFORE = " All fused together have no answer before calibration: this is the one they have."


def _when(when: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in when.items())


def _says(source: str, stage: str, truth: NDArray[np.int64], probabilities: Numbers) -> str:
    """How sure and how right a source is, in a sentence."""
    confidence, right = first_choices(truth, probabilities)
    when = "as fitted" if source == FUSED else f"{stage} calibration"
    return (
        f"{source}, {when}: {len(right)} songs, {fig.percent(confidence.mean())} sure on average, "
        f"{fig.percent(right.mean())} right, ECE {ece(truth, _logs(probabilities)):.3f}."
    )


SHARES: Json = {"tickformat": ".0%", "range": [0, 1.01]}
LAYOUT: Json = {
    "height": 560,
    "margin": {"l": 58, "r": 16, "t": 16, "b": 48},
    "barmode": "stack",
    "bargap": 0.04,
    "xaxis": fig.axis(**SHARES, domain=[0, 0.46], anchor="y", showticklabels=False),
    "yaxis": fig.axis("share that is right", tickformat=".0%", domain=[0.3, 1], range=[0, 1.03]),
    "xaxis2": fig.axis("confidence", **SHARES, domain=[0, 0.46], anchor="y2"),
    "yaxis2": fig.axis("songs", domain=[0, 0.24], anchor="x2", nticks=4),
    "xaxis3": fig.axis(
        "coverage: share of songs answered, surest first", **SHARES, domain=[0.56, 1], anchor="y3"
    ),
    "yaxis3": fig.axis("risk: share of answers that is wrong", tickformat=".0%", anchor="x3"),
}
WHOLE = {"domain": [0, 1]}
NARROW = fig.case(
    layout={
        "height": 900,
        **{"xaxis": WHOLE, "xaxis2": WHOLE, "xaxis3": WHOLE},
        "yaxis": {"domain": [0.58, 1]},
        "yaxis2": {"domain": [0.41, 0.54]},
        "yaxis3": {"domain": [0, 0.31]},
    },
    narrow=True,
)


def curves(truth: NDArray[np.int64], probabilities: Numbers) -> Json:
    """The numbers of one source: bins, histogram, and risk against coverage."""
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


def traces(one: Json) -> tuple[list[Json], Json]:
    """What is drawn of `curves`, and the layout that it needs."""
    bins, risk = one["bins"], one["risk"]
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}
    dots = fig.markers(
        bins["confidence"],
        bins["value"],
        [
            f"{songs} songs<br>confidence {fig.percent(confidence)}<br>right {fig.spread(share)}"
            for songs, confidence, share in zip(
                bins["songs"], bins["confidence"], _estimates(bins), strict=True
            )
        ],
        mode="lines+markers",
        error_y=fig.error_bars(_estimates(bins)),
        line={"color": fig.colour("right"), "width": 1.5},
        marker={"color": fig.colour("right"), "size": 8},
    )
    width = 1 / CELLS
    middles = [(cell + 0.5) * width for cell in range(CELLS)]
    histograms = [
        fig.bars(
            middles,
            one[kind],
            [
                f"{count} {kind}<br>confidence {fig.percent(cell * width)} to "
                f"{fig.percent((cell + 1) * width)}"
                for cell, count in enumerate(one[kind])
            ],
            kind,
            **{"width": width, "xaxis": "x2", "yaxis": "y2"},
        )
        for kind in ("right", "wrong")
    ]
    coverage = fig.rounded([songs / one["songs"] for songs in risk["songs"]])
    line = {"type": "scatter", "mode": "lines", "x": coverage, "xaxis": "x3", "yaxis": "y3"}
    edge = {**line, "line": {"width": 0}, "hoverinfo": "skip"}
    text = [
        f"the {songs} surest songs ({fig.percent(songs / one['songs'])})<br>"
        f"wrong {fig.spread(share)}"
        for songs, share in zip(risk["songs"], _estimates(risk), strict=True)
    ]
    main = {**line, "y": risk["value"], "line": {"color": fig.colour("wrong"), "width": 2}}
    # The surest few songs have wide bands, which would flatten all the rest.
    most = max(*risk["high"][len(risk["high"]) // 4 :], 0.02)
    shapes = [
        {**diagonal, "line": {"color": fig.colour("soft"), "width": 1, "dash": "dash"}},
        dots,
        *histograms,
        {**edge, "y": risk["high"]},
        {**edge, "y": risk["low"], "fill": "tonexty", "fillcolor": fig.colour("line")},
        {**main, "hoverinfo": "text", "hovertext": text},
    ]
    return shapes, {"yaxis3": {"range": [-0.02 * most, min(1.02, 1.1 * most)]}}


def _estimates(columns: Json) -> list[Estimate]:
    rows = zip(columns["value"], columns["low"], columns["high"], strict=True)
    return [Estimate(*row) for row in rows]


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
                share_cell(accuracy),
                f"{confidence.mean():.1%}",
                "" if plain is None else f"{ece(predicted.truth, _logs(plain)):.3f}",
                f"{error.value:.3f}\nup to {error.limit:.3f} if calibrated",
                _thousandths(area),
                share_cell(share),
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


def _thousandths(one: Estimate) -> str:
    return f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}"
