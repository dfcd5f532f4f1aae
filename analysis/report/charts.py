"""The charts of the deck: each function draws on an empty matplotlib figure of its room's size."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.measures.robustness import Curve
from analysis.page import UNKNOWN_COLOUR, colours
from analysis.pages.training import Log
from analysis.report.deck import ACCENT, INK, LINE, PANEL, SOFT, WRONG, short
from analysis.report.fonts import FAMILY
from embedder.measures.robustness import DEGRADATIONS, EXCERPT
from embedder.run import SPLITS
from embedder.statistics import Estimate

DPI = 220
MARKS = {"train": "o", "validation": "D", "test": "^"}
SPLIT_COLOURS = {"train": "#9fb8cc", "validation": ACCENT, "test": "#b4c34b"}
NAMED = 26  # singers up to which all have a name on an axis or a map
SCORES = {"segment_score": "validation score of segments", "score": "validation score"}
STYLE: dict[str, Any] = {
    "text.parse_math": False,  # a name may hold two dollars
    "font.size": 12, "axes.labelcolor": SOFT, "axes.edgecolor": LINE, "xtick.color": SOFT,
    "ytick.color": SOFT, "ytick.labelcolor": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "grid.color": LINE, "grid.linewidth": 0.6,
    "legend.frameon": False, "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.titlecolor": SOFT,
}  # fmt: skip


def picture(
    draw: Callable[[Any], None], width: float, height: float, families: Sequence[str] = ()
) -> bytes:
    """A chart as PNG, so many inches wide and high; letters that no font has are boxes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    fonts = logging.getLogger("matplotlib.font_manager")  # warns of fonts without bold letters
    level, found = fonts.level, io.BytesIO()
    fonts.setLevel(logging.ERROR)
    try:
        chosen: Any = {**STYLE, "font.family": [FAMILY, *families]}
        with rc_context(chosen), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure = Figure((width, height), layout="constrained", facecolor="white")
            draw(figure)
            figure.savefig(found, format="png", dpi=DPI, metadata={"Software": None})
    finally:
        fonts.setLevel(level)
    return found.getvalue()


def draw_estimates(
    figure: Any, rows: Sequence[tuple[str, Estimate]], axis: str, bold: Sequence[int] = (),
    percent: bool = True,
) -> None:  # fmt: skip
    """A dot with its 95 % interval for each name, the value behind it."""
    axes = figure.subplots()
    values = np.array([one.value for _, one in rows])
    limits = np.array([(one.low, one.high) for _, one in rows])
    places = np.arange(len(rows))
    for strong, colour in ((True, ACCENT), (False, SOFT if bold else ACCENT)):
        mine = [n for n in places if (n in bold) == strong]
        errors = np.maximum(np.abs(limits[mine].T - values[mine]), 0)
        axes.errorbar(values[mine], mine, xerr=errors, fmt="o", color=colour, clip_on=False)
    axes.set_yticks(places, [short(name, 28) for name, _ in rows])
    for n, label in enumerate(axes.get_yticklabels()):
        label.set_fontweight("bold" if n in bold else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    behind = axes.secondary_yaxis("right")
    behind.set_yticks(places, [f"{one:.1%}" if percent else f"{one:.3f}" for one in values])
    behind.tick_params(length=0, pad=12, labelcolor=SOFT)
    behind.spines[:].set_visible(False)
    if percent:
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.xaxis.get_major_locator().set_params(steps=[1, 2, 5, 10], nbins=5)
        axes.set_xlim(max(np.floor(float(limits.min()) * 20 - 0.2) / 20, 0), 1.0)
    axes.grid(axis="x")
    axes.set_xlabel(axis)


def draw_splits(
    figure: Any, names: Sequence[str], counts: NDArray[np.int64], splits: Sequence[str]
) -> None:
    """Songs (singers, splits) as bars, one below the other."""
    axes = figure.subplots()
    start = np.zeros(len(names))
    for column, split in enumerate(splits):
        axes.barh(range(len(names)), counts[:, column], 0.75, start, color=SPLIT_COLOURS[split],
                  label=split)  # fmt: skip
        start += counts[:, column]
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("songs")
    figure.legend(loc="outside upper right", ncols=len(splits))


def draw_method(figure: Any, columns: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """The method as a chain: for each step a heading, and boxes of lines one below the other.

    Boxes of neighbouring steps are joined, each with that beside it, or all with the only one.
    """
    wide, high = figure.get_size_inches()
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(0, high))
    axes.set_axis_off()
    labels = [
        [axes.text(0, (high - 0.4) * (1 - (row + 0.5) / len(boxes)), "\n".join(lines), size=16,
                   ha="center", va="center", linespacing=1.4,
                   bbox={"boxstyle": "round,pad=0.5", "facecolor": PANEL, "edgecolor": ACCENT})
         for row, lines in enumerate(boxes)]
        for _, boxes in columns
    ]  # fmt: skip
    heads = [axes.text(0, high, head, size=13, color=SOFT, ha="center", va="top")
             for head, _ in columns]  # fmt: skip

    def inches(one: Any) -> tuple[float, float]:
        box = one.get_window_extent()
        return box.width / figure.dpi, box.height / figure.dpi

    def widths() -> list[float]:
        return [
            max(inches(one)[0] + pad for one, pad in [*((b, 0.45) for b in boxes), (head, 0.0)])
            for head, boxes in zip(heads, labels, strict=True)
        ]

    gap, room = 0.4, max(len(boxes) for boxes in labels)
    tallest = sum(max(inches(b[n])[1] if n < len(b) else 0 for b in labels) for n in range(room))
    factor = min(1.0, (wide - gap * (len(labels) - 1)) / sum(widths()),
                 (high - 0.4) / (tallest + 0.55 * room))  # fmt: skip
    for one in (*heads, *(box for boxes in labels for box in boxes)):
        one.set_fontsize(one.get_fontsize() * factor)
    found = widths()
    gap = min((wide - sum(found)) / max(len(found) - 1, 1), 1.2)
    left = (wide - sum(found) - gap * (len(found) - 1)) / 2
    for width, head, boxes in zip(found, heads, labels, strict=True):
        for one in (head, *boxes):
            one.set_x(left + width / 2)
        left += width + gap
    for first, second in pairwise(labels):
        many = max(len(first), len(second))
        for n in range(many):
            start, end = first[min(n, len(first) - 1)], second[min(n, len(second) - 1)]
            axes.annotate(
                "", end.get_position(), start.get_position(),
                arrowprops={"arrowstyle": "-|>", "color": SOFT, "patchA": start.get_bbox_patch(),
                            "patchB": end.get_bbox_patch(), "shrinkA": 2, "shrinkB": 2},
            )  # fmt: skip


def draw_training(figure: Any, logs: Sequence[Log]) -> None:
    """Training loss, the validation measure that chose the epoch, and the learning rate."""
    scores = {one.chosen_by for one in logs} - {""}
    panels = ["loss", *sorted(scores), "lr"]
    relative = ", of the first epoch's" * (len(logs) > 1)
    titles = {"loss": f"training loss{relative}", "lr": "learning rate", **SCORES}
    panels = [one for one in panels if any(one in log.columns for log in logs)]
    for axes, name in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        for log, colour in zip(logs, colours(len(logs)), strict=True):
            if name in log.columns:
                epochs, values = log.columns["epoch"], np.array(log.columns[name])
                if name == "loss" and len(logs) > 1:  # losses of different kinds share no scale
                    values = values / values[0]
                label = short(log.member) if name == panels[0] else None
                axes.plot(epochs, values, ".-", color=colour, label=label)
                axes.plot(epochs[log.kept], values[log.kept], "o", color=colour, markersize=9)
        axes.set_title(titles[name])
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=3)


def draw_confusion(figure: Any, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Right songs in blue, mistakes in orange, darker for a larger share of the singer's songs.

    Of more than `NAMED` singers, every few are numbered in the order of `names`.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    axes, count = figure.subplots(), len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(count, dtype=bool)
    shown = ConfusionMatrixDisplay(np.where(right, shares, 0), display_labels=range(1, count + 1))
    shown.plot(ax=axes, cmap="Blues", colorbar=False, include_values=False,
               im_kw={"vmin": 0, "vmax": 1.25, "aspect": "auto"})  # fmt: skip
    wrong = np.ma.masked_array(shares, right | (counts == 0))
    axes.imshow(wrong, cmap="Oranges", vmin=-0.3, vmax=1, aspect="auto")
    size = float(np.clip(7.2 * 72 / 1.5 / count, 6, 12))
    step = 1 if count <= NAMED else int(np.ceil(count / 50) * 5)
    places = range(step - 1, count, step)
    labels = [short(names[n], 24) for n in places] if step == 1 else [str(n + 1) for n in places]
    axes.set_yticks(places, labels, fontsize=size if step == 1 else 10)
    axes.set_xticks(places, labels, fontsize=size if step == 1 else 10, rotation=90)
    if step == 1:
        for true, named in np.argwhere(counts):
            axes.text(named, true, str(counts[true, named]), fontsize=size, ha="center",
                      va="center", color="white" if shares[true, named] > 0.5 else INK)  # fmt: skip
    axes.set(xlabel="singer named first", ylabel="true singer")
    axes.spines[:].set_visible(True)


def draw_map(
    figure: Any, points: NDArray[np.float64], labels: NDArray[np.int64],
    splits: NDArray[np.int64], singers: Sequence[str],
) -> None:  # fmt: skip
    """Points (n, 2), each singer's name at the middle of its songs.

    `labels` (n,) index `singers`, −1 where unknown; `splits` (n,) index `SPLITS`.
    """
    axes = figure.subplots()
    palette = np.array([*colours(len(singers)), UNKNOWN_COLOUR])
    for number, split in enumerate(SPLITS):
        mine = splits == number
        if mine.any():
            train = split == "train"
            axes.scatter(
                *points[mine].T, c=palette[labels[mine]], marker=MARKS[split],
                s=20 if train else 50, alpha=0.7 if train else 1.0, linewidths=0 if train else 0.7,
                edgecolors=INK,
            )  # fmt: skip
            axes.scatter([], [], color=SOFT, marker=MARKS[split], label=split)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    figure.legend(loc="outside lower left", ncols=3)
    if len(singers) <= NAMED:
        _name_clusters(axes, points, labels, singers, palette)


def _name_clusters(
    axes: Any, points: NDArray[np.float64], labels: NDArray[np.int64], singers: Sequence[str],
    palette: NDArray[Any],
) -> None:  # fmt: skip
    """Names beside the middles of clusters, moved upwards until none covers another."""
    from matplotlib.patheffects import withStroke

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    wide, high = axes.figure.get_size_inches()
    letter, line = 0.1 * (right - left) / wide, 0.24 * (top - bottom) / high
    middles = {n: np.median(points[labels == n], axis=0) for n in np.unique(labels[labels >= 0])}
    taken: list[tuple[float, float, float]] = []
    for n, (x, y) in sorted(middles.items(), key=lambda one: one[1][1]):
        name = short(singers[n], 24)
        half = len(name) * letter / 2
        x = float(np.clip(x, left + half, right - half))
        y += 0.8 * line
        for other_x, other_y, other in sorted(taken, key=lambda one: one[1]):
            if abs(x - other_x) < half + other and abs(y - other_y) < line:
                y = other_y + line
        taken.append((x, y, half))
        axes.text(x, y, name, ha="center", va="center", color=palette[n], fontweight="bold",
                  fontsize=11, path_effects=[withStroke(linewidth=3, foreground="white")],
                  )  # fmt: skip
    axes.set_ylim(bottom, max(top, max(y for _, y, _ in taken) + 2 * line))


def draw_reliability(figure: Any, curves: Mapping[str, Any], cells: int) -> None:
    """Accuracy of songs of like confidence against it, over a histogram of the confidences."""
    bins = curves["bins"]
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    value, low, high = (np.array(bins[name]) for name in ("value", "low", "high"))
    above.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    above.errorbar(bins["confidence"], value, np.maximum((value - low, high - value), 0), fmt="o",
                   color=ACCENT, clip_on=False)  # fmt: skip
    above.set(ylim=(0, 1.02), title="right, of songs that are as sure")
    above.grid()
    middles = (np.arange(cells) + 0.5) / cells
    below.bar(middles, curves["right"], 0.9 / cells, color=ACCENT)
    below.bar(middles, curves["wrong"], 0.9 / cells, curves["right"], color=WRONG)
    below.set(xlim=(0, 1.02), title="songs: right (blue), wrong (orange)",
              xlabel="confidence in the first choice")  # fmt: skip
    below.yaxis.get_major_locator().set_params(integer=True, nbins=2)
    below.xaxis.set_major_formatter("{x:.0%}")
    above.yaxis.set_major_formatter("{x:.0%}")


def draw_risk(figure: Any, curves: Mapping[str, Any]) -> None:
    """Wrong answers among the surest songs, against how many songs are answered."""
    axes, risk = figure.subplots(), curves["risk"]
    share = np.array(risk["songs"]) / curves["songs"]
    axes.fill_between(share, risk["low"], risk["high"], color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(share, risk["value"], color=ACCENT, linewidth=2)
    top = min(max(2 * float(risk["high"][-1]), 1.15 * max(risk["value"])), 1.0)
    axes.set(xlim=(0, 1), ylim=(0, top), title="wrong, of the songs answered",
             xlabel="songs answered, the surest first")  # fmt: skip
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.1%}" if top < 0.05 else "{x:.0%}")
    axes.grid()


def draw_ladders(figure: Any, found: Sequence[Curve]) -> None:
    """Top-1 at each level; an open circle is undegraded, a diamond significantly below it."""
    across = min(5, len(found))
    grid = figure.subplots(-(-len(found) // across), across, squeeze=False, sharey=True).ravel()
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    for axes, curve in zip(grid, found, strict=False):
        ladder, spots = DEGRADATIONS[curve.degradation], np.arange(len(curve.points))
        value = np.array([point.top_1.value for point in curve.points])
        axes.vlines(spots, [one.top_1.low for one in curve.points],
                    [one.top_1.high for one in curve.points], color=ACCENT, alpha=0.5)  # fmt: skip
        axes.plot(spots, value, color=ACCENT)
        for spot, point in enumerate(curve.points):
            colour = WRONG if point.falls else ACCENT
            axes.plot(spot, point.top_1.value, "D" if point.falls else "o", color=colour,
                      markerfacecolor="white" if point.level is None else colour)  # fmt: skip
        clean = next(n for n, point in enumerate(curve.points) if point.level is None)
        shown = sorted({0, clean, len(spots) - 1})
        names = [curve.points[n].level for n in shown]
        whole = "full" if curve.degradation == EXCERPT else "clean"
        axes.set_xticks(shown, [whole if one is None else ladder.text(one) for one in names])
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_title(ladder.title, color=INK, fontweight="bold")
        axes.set_xlabel(ladder.says, fontsize=10)
        axes.grid(axis="y")


def draw_mels(figure: Any, names: Sequence[str], levels: NDArray[np.uint8], across: int) -> None:
    """A log-mel spectrogram (mels, frames) of eight bits for each name, low bands below."""
    rows = -(-len(names) // across)
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name, level in zip(grid, names, levels, strict=False):
        axes.imshow(level, aspect="auto", origin="lower", vmin=0, vmax=255, interpolation="none")
        axes.set(xticks=[], yticks=[])
        axes.set_title(short(name, max(8, int(110 / across))), fontsize=11, color=INK)
