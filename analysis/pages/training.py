"""The training page: how every member learned, and whether it learned its songs by heart.

Loss, validation score, NLL and learning rate over epochs with the kept one marked, from each
member's log, and what the kept one knows of training songs against validation songs.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis import figures as fig
from analysis.figures import Json
from analysis.page import colours, escape, page, plot, table
from analysis.run_data import RunData
from analysis.wording import points, points_cell, share_cell
from embedder.inference.store import Store
from embedder.metrics import ranking
from embedder.run import Run
from embedder.settings import train_again
from embedder.statistics import Estimate, bootstrap_interval, mean_of, unpaired_difference
from embedder.text import counted

WHAT = {
    "head": "segments that the head names right, mean over songs",
    "neighbours": "songs whose nearest training song of another album is by the same singer",
}


def training_finding(logs: Sequence[Log], gaps: Sequence[Gap]) -> str:
    """Whether the member with the largest gap learned its songs by heart, in a sentence."""
    if not gaps:
        return "Whether a member overfits is not known: none can be asked about training songs."
    worst = max(gaps, key=lambda gap: gap.value.value)
    verdict = "knows its training songs better than new ones"
    if worst.value.low <= 0:
        verdict = "knows its training songs no better than new ones, as far as can be told"
    among = f", the largest of {counted(len(gaps), 'member')}" if len(gaps) > 1 else ""
    gap = f"a gap of {points(worst.value)}"
    sentence = f"Member {worst.member} {verdict}: {_compared(worst)}, {gap}{among}"
    log = next((one for one in logs if one.member == worst.member and one.chosen_by), None)
    return f"{sentence}; {_course(log)}." if log else f"{sentence}."


def _compared(gap: Gap) -> str:
    first, second = f"{gap.train.value:.1%}", f"{gap.validation.value:.1%}"
    songs = counted(gap.validation_songs, "validation song")
    if gap.how == "head":
        return (
            f"its head names the right singer in {first} of their segments and in {second} of "
            f"those of {songs}"
        )
    return (
        f"the nearest training song of another album is by the same singer for {first} of them "
        f"and for {second} of {songs}"
    )


def _course(log: Log) -> str:
    """When the validation score was best, and what came after."""
    scores = log.columns[log.chosen_by]
    if log.kept == log.epochs - 1:
        return f"the validation score was best in the last of {counted(log.epochs, 'epoch')}"
    lost = scores[log.kept] - scores[-1]
    after = f"{lost:.3f} lower" if lost >= 0.0005 else "less than 0.001 lower"
    if lost <= 0:
        after = "no lower"
    return (
        f"the validation score was best in epoch {log.columns['epoch'][log.kept]:.0f} of "
        f"{log.epochs} and {after} in the last"
    )


def member_sentences(log: Log) -> list[str]:
    """What a member's log says, in sentences with numbers."""
    epochs, loss = log.columns["epoch"], log.columns.get("loss")
    found = []
    if loss:
        found.append(
            f"Member {log.member}: the training loss went from {loss[0]:.3f} to {loss[-1]:.3f} in "
            f"{counted(log.epochs, 'epoch')}"
        )
    if log.chosen_by:
        found.append(_course(log))
    nll = log.columns.get("nll")
    if nll:
        lowest = int(np.argmin(nll))
        found.append(
            f"the NLL of the validation songs was lowest in epoch {epochs[lowest]:.0f} "
            f"({nll[lowest]:.3f}) and is {nll[-1]:.3f} in the last"
        )
    return found


def training_page(run_data: RunData) -> str:
    """The text of `training.html`."""
    read = [read_log(run_data.run, name) for name in run_data.members]
    logs = [one for one in read if isinstance(one, Log)]
    gaps = [
        gap
        for name in run_data.members
        if (gap := training_gap(run_data.stores(name), run_data.seed)) is not None
    ]
    missing = "".join(f"<p>{escape(one)}</p>" for one in read if isinstance(one, str))
    sentences = "".join(f"<li>{escape('; '.join(member_sentences(log)))}.</li>" for log in logs)
    figure = f"""<h2>Epochs</h2>
{plot("plot")}
<p class="soft">A star marks the epoch that is kept: the one with the highest validation score of
single segments (solid; dotted: of whole songs), top-1 + 0.5 · top-3. The loss is that of augmented
training crops with the margin of its kind, so it may rise while a margin grows, and cannot be
compared with the NLL.</p>
<ul class="findings">{sentences}</ul>"""
    body = f"""<p id="finding">{escape(training_finding(logs, gaps))}</p>
{_gap_table(gaps)}{figure if logs else ""}{missing}"""
    note = (
        "Validation songs choose the epoch, so what is said of them here is a little flattering. "
        "Intervals: bootstrap over albums, 2,000 resamples, 95%; of differences by Zou and Donner."
    )
    tints = dict(zip(run_data.members, colours(len(run_data.members)), strict=True))
    figures = {"plot": training_figure(logs, tints)} if logs else {}
    return page("training.html", "Training of the members", body, note=note, figures=figures)


@dataclass(frozen=True)
class Panel:
    """One panel of the figure."""

    title: str
    curves: Mapping[str, str]  # column of the log → how its line is dashed
    log: bool = False


PANELS = (
    Panel("training loss", {"loss": "solid"}),
    Panel("validation score", {"segment_score": "solid", "score": "dot"}),
    Panel("validation NLL, nats", {"nll": "solid"}, log=True),
    Panel("learning rate", {"lr": "solid"}, log=True),
)
SAYS = {
    "loss": "loss",
    "segment_score": "score of segments",
    "score": "score of songs",
    "nll": "NLL of songs",
    "lr": "learning rate",
}


def training_figure(logs: Sequence[Log], tints: Mapping[str, str]) -> Json:
    """Panels over epochs, one colour a member; a star marks the epoch that is kept."""
    several = len(logs) > 1
    traces = []
    for number, panel in enumerate(PANELS):
        for log in logs:
            tint = tints[log.member] if several else fig.colour("right")
            there = [name for name in panel.curves if name in log.columns]
            for order, name in enumerate(there):
                one = _trace(log, name, panel.curves[name], number, tint)
                traces.append({**one, "showlegend": number == order == 0})
    legend = {"orientation": "h", "x": 0, "y": 1.05, "yanchor": "bottom"}
    layout = {
        "showlegend": several,
        "legend": {**legend, "itemdoubleclick": False},
        **_panels(2, 640 + 30 * several, 34 + 30 * -(-len(logs) // 4) * several),
    }
    narrow = _panels(1, 1040 + 30 * several, 34 + 30 * len(logs) * several)
    return fig.figure(traces, layout, [fig.case(layout=narrow, narrow=True)])


def _panels(columns: int, height: int, head: int) -> Json:
    """Axes and titles of the panels in one or two columns."""
    gap, rows = (0.07 if columns == 1 else 0.14), len(PANELS) // columns
    each = (1 - (rows - 1) * gap) / rows
    margin = {"l": 62, "r": 16, "t": head, "b": 44}
    layout: Json = {"height": height, "margin": margin, "annotations": []}
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, columns)
        suffix, top = str(number + 1) if number else "", 1 - row * (each + gap)
        domain = [0.0, 1.0] if columns == 1 else [(0.0, 0.46), (0.55, 1.0)][column]
        last = "epoch" if row == rows - 1 else ""
        layout[f"xaxis{suffix}"] = fig.axis(
            last, domain=domain, anchor=f"y{suffix}", rangemode="tozero", nticks=8
        )
        scale: Json = {"type": "log", "dtick": "D2", "tickformat": "~g"} if panel.log else {}
        place: Json = {"domain": [max(0, top - each), top], "anchor": f"x{suffix}", "nticks": 6}
        layout[f"yaxis{suffix}"] = fig.axis(**{**place, **scale})
        layout["annotations"].append(fig.panel_title(panel.title, domain[0], top))
    return layout


def _trace(log: Log, name: str, dash: str, panel: int, tint: str) -> Json:
    suffix = str(panel + 1) if panel else ""
    epochs, values = log.columns["epoch"], log.columns[name]
    kept = [row == log.kept for row in range(log.epochs)]
    marker = {
        "color": tint,
        "symbol": ["star" if one else "circle" for one in kept],
        "size": [15 if one else 4 for one in kept],
        "opacity": 1,
        "line": {"color": fig.colour("text"), "width": [int(one) for one in kept]},
    }
    text = [
        f"<b>{fig.label(log.member)}</b><br>epoch {epoch:g}{', kept' if is_kept else ''}<br>"
        f"{SAYS[name]} {value:.4g}"
        for epoch, value, is_kept in zip(epochs, values, kept, strict=True)
    ]
    return fig.markers(
        epochs, values, text, mode="lines+markers", xaxis=f"x{suffix}", yaxis=f"y{suffix}",
        name=fig.label(log.member, 30), legendgroup=log.member, marker=marker,
        line={"color": tint, "width": 2, "dash": dash},
    )  # fmt: skip


def _gap_table(gaps: Sequence[Gap]) -> str:
    """Training songs against validation songs, for each member."""
    if not gaps:
        return ""
    rows = [
        (
            f"{gap.member}\n{WHAT[gap.how]}",
            f"{share_cell(gap.train)}, {counted(gap.train_songs, 'song')}",
            f"{share_cell(gap.validation)}, {counted(gap.validation_songs, 'song')}",
            points_cell(gap.value),
        )
        for gap in gaps
    ]
    head = ("member, kept epoch", "training songs", "validation songs", "gap")
    return "<h2>Training songs against validation songs</h2>" + table(head, rows, range(1, 4))


SCORES = ("segment_score", "score")  # what an epoch is chosen by; older logs lack the first
CURVES = ("loss", *SCORES, "nll", "lr")


@dataclass(frozen=True)
class Log:
    """What a member's training wrote after each epoch."""

    member: str
    columns: dict[str, list[float]]  # name → a value an epoch
    kept: int  # row of the epoch whose weights the member has

    @property
    def epochs(self) -> int:
        return len(self.columns["epoch"])

    @property
    def chosen_by(self) -> str:
        """The column by which epochs are compared."""
        return next((name for name in SCORES if name in self.columns), "")


@dataclass(frozen=True)
class Gap:
    """What a member gets right of songs that it was trained on, and of others."""

    member: str
    how: str  # "head": share of segments; "neighbours": share of songs
    train: Estimate
    train_songs: int
    validation: Estimate
    validation_songs: int

    @property
    def value(self) -> Estimate:
        """train − validation."""
        return unpaired_difference(self.train, self.validation)


def read_log(run: Run, member: str) -> Log | str:
    """A member's log, or why there is none to draw."""
    path = run.log(member)
    again = train_again(run, member)
    if not path.is_file():
        return f"Member {member} has no log of its training; {again}"
    broken = f"The log of member {member} cannot be read; {again}"
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        names = ["epoch", *CURVES]
        there = [name for name in names if rows and rows[0].get(name) not in (None, "")]
        columns = {name: [float(row[name]) for row in rows] for name in there}
        best = [number for number, row in enumerate(rows) if row.get("best") == "1"]
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return broken
    finite = all(math.isfinite(value) for column in columns.values() for value in column)
    if "epoch" not in columns or not best or not finite:
        return broken
    return Log(member, columns, best[-1])


def training_gap(stores: Sequence[Store], seed: int = 0) -> Gap | None:
    """What the kept epoch gets right of training and of validation songs, each song counting once.

    With a head: the share of a song's segments that it names right. Without one: whether the
    nearest training song of another album is by the same singer. None where neither can be asked.
    """
    by_split = {store.split: store for store in stores}
    if not {"train", "validation"} <= by_split.keys():
        return None
    train = by_split["train"]
    if all(by_split[split].segment_logits is not None for split in ("train", "validation")):
        how = "head"
        parts = [segments_right(by_split[split]) for split in ("train", "validation")]
    else:
        how = "neighbours"
        parts = [nearest_right(train, by_split[split]) for split in ("train", "validation")]
    kept = [np.flatnonzero(~np.isnan(part)) for part in parts]
    if not all(len(rows) for rows in kept):
        return None
    first, second = (
        bootstrap_interval(
            mean_of(part[rows]), len(rows), seed, np.array(by_split[split].groups)[rows]
        )
        for part, rows, split in zip(parts, kept, ("train", "validation"), strict=True)
    )
    return Gap(train.member, how, first, len(kept[0]), second, len(kept[1]))


def segments_right(store: Store) -> NDArray[np.float64]:
    """Share of each song's segments whose highest logit is that of the true singer (songs,).

    NaN where the singer is unknown.
    """
    if store.segment_logits is None:
        raise ValueError(f"member {store.member!r} has no classification head")
    right = ranking(store.segment_logits)[:, 0] == store.labels[store.segment_song]
    hits = np.bincount(store.segment_song, right, len(store.song_ids))
    counts = np.bincount(store.segment_song, minlength=len(store.song_ids))
    return np.where(store.labels >= 0, hits / counts, np.nan)


def nearest_right(train: Store, queries: Store) -> NDArray[np.float64]:
    """Whether the nearest training song by cosine that is of another album has the same singer.

    (songs,), NaN where the singer is unknown or has no such song. A song without an album is its
    own.
    """
    albums = np.array(train.groups)
    found = np.full(len(queries.labels), np.nan)
    for row, (label, album) in enumerate(zip(queries.labels, queries.groups, strict=True)):
        allowed = albums != album
        if label >= 0 and (train.labels[allowed] == label).any():
            cosines = np.where(allowed, train.embeddings @ queries.embeddings[row], -np.inf)
            found[row] = float(train.labels[int(cosines.argmax())] == label)
    return found
