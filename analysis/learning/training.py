"""The training page: how every member learned, and whether it learned its songs by heart.

Enters: each member's log and its stores. Leaves: the text of `training.html`: loss, validation
score, NLL and learning rate over epochs with the kept one marked, and what the kept one knows of
training songs against validation songs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.learning.curves import Gap, Log, read_log, training_gap
from analysis.material import Material
from analysis.page import colours, escape, page, table
from analysis.wording import counted, points
from embedder.metrics import Estimate

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


def training_page(material: Material) -> str:
    """The text of `training.html`."""
    read = [read_log(material.run, name) for name in material.members]
    logs = [one for one in read if isinstance(one, Log)]
    gaps = [
        gap
        for name in material.members
        if (gap := training_gap(material.stores(name), material.seed)) is not None
    ]
    missing = "".join(f"<p>{escape(one)}</p>" for one in read if isinstance(one, str))
    sentences = "".join(f"<li>{escape('; '.join(member_sentences(log)))}.</li>" for log in logs)
    figure = f"""<h2>Epochs</h2>
<div class="plot"><div id="plot"></div></div>
<p class="soft">A star marks the epoch that is kept: the one with the highest validation score of
single segments (solid; dotted: of whole songs), top-1 + 0.5 · top-3. The loss is that of augmented
training crops with the margin of its kind, so it may rise while a margin grows, and cannot be
compared with the NLL.</p>
<ul class="findings">{sentences}</ul>"""
    body = f"""<p id="finding">{escape(training_finding(logs, gaps))}</p>
{_gap_table(gaps)}{figure if logs else ""}{missing}"""
    tints = dict(zip(material.members, colours(len(material.members)), strict=True))
    data = {
        "logs": [
            {
                "name": log.member,
                "colour": tints[log.member],
                "kept": log.kept,
                "columns": log.columns,
            }
            for log in logs
        ]
    }
    scripts = ["learning/training.js"] if logs else []
    note = (
        "Validation songs choose the epoch, so what is said of them here is a little flattering. "
        "Intervals: bootstrap over albums, 2,000 resamples, 95%; of differences by Zou and Donner."
    )
    return page("training.html", "Training of the members", body, data, scripts, note)


def _gap_table(gaps: Sequence[Gap]) -> str:
    """Training songs against validation songs, for each member."""
    if not gaps:
        return ""
    rows = [
        (
            f"{gap.member}\n{WHAT[gap.how]}",
            f"{_percent(gap.train)}, {counted(gap.train_songs, 'song')}",
            f"{_percent(gap.validation)}, {counted(gap.validation_songs, 'song')}",
            f"{100 * gap.value.value:+.1f} points\n{100 * gap.value.low:+.1f} to "
            f"{100 * gap.value.high:+.1f}".replace("-", "−"),
        )
        for gap in gaps
    ]
    head = ("member, kept epoch", "training songs", "validation songs", "gap")
    return "<h2>Training songs against validation songs</h2>" + table(head, rows, range(1, 4))


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%}\n{one.low:.1%} to {one.high:.1%}"
