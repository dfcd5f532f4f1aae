"""The timeline page: who sings when, in every song that was predicted.

A list of songs, wrong ones first, and for the chosen song the most probable singers over time,
voice activity under them, and the whole song's answer beside them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.page import choice, escape, page
from analysis.run_data import Predicted, RunData, album_title
from analysis.segment_scores import (
    BYTE,
    SegmentScores,
    TopSingers,
    room,
    segment_scores,
    top_singers,
)
from analysis.wording import interval
from embedder.metrics import ranking
from embedder.statistics import Estimate, bootstrap_interval, mean_of
from ensemble.fusion.experts import FUSED

BUDGET = 2_200_000  # characters for all segments, so that the page opens at once on a phone
PLACES = 3  # singers of a whole song's answer
SUNG = 0.5  # share of voice from which a segment counts as sung


@dataclass(frozen=True, eq=False)
class SongAnswers:
    """The predicted songs of all splits in the order of the list."""

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    albums: tuple[str, ...]
    truth: NDArray[np.int64]  # (songs,)
    answers: dict[str, NDArray[np.float64]]  # source → probabilities (songs, singers); NaN: none


def listed(predicted: Sequence[Predicted]) -> SongAnswers:
    """All songs in one list: wrong ones first, the surest of them first; then the least sure."""
    probabilities = np.concatenate([one.probabilities for one in predicted])
    truth = np.concatenate([one.truth for one in predicted])
    sure = probabilities.max(axis=1)
    right = ranking(probabilities)[:, 0] == truth
    order = np.lexsort((np.where(right, sure, -sure), right))
    answers = {FUSED: probabilities[order]}
    for name in dict.fromkeys(name for one in predicted for name in one.experts):
        parts = [
            one.experts.get(name, np.full_like(one.probabilities, np.nan)) for one in predicted
        ]
        answers[name] = np.concatenate(parts)[order]
    songs = [
        (song, one.split, album)
        for one in predicted
        for song, album in zip(one.ids, one.albums, strict=True)
    ]
    ids, splits, albums = zip(*[songs[row] for row in order], strict=True)
    return SongAnswers(ids, splits, albums, truth[order], answers)


def timeline_finding(songs: SongAnswers, scores: Sequence[SegmentScores], seed: int = 0) -> str:
    """How often single segments are right, with and without voice, against the whole song.

    Of the first split, and of the member whose segments are right most often. Songs count alike.
    """
    split = songs.splits[0] if "validation" not in songs.splits else "validation"
    rows = np.array([one == split for one in songs.splits])
    count = int(rows.sum())
    hits = (ranking(songs.answers[FUSED])[:, 0] == songs.truth)[rows]
    of = np.array([album or song for album, song in zip(songs.albums, songs.ids, strict=True)])
    whole = bootstrap_interval(mean_of(hits), count, seed, of[rows])
    end = (
        f"of {count:,} whole {split} songs, the fused answer is right for {whole.value:.1%} "
        f"({interval(whole, count)})"
    )
    shares = [(segment_shares(one, songs.truth), one) for one in scores]
    if not shares:
        return f"Nothing is known of single segments; {end}."
    (share, sung, other), best = max(shares, key=lambda pair: float(pair[0][0][rows].mean()))
    single = bootstrap_interval(mean_of(share[rows]), count, seed, of[rows])
    parts = [(values, rows & ~np.isnan(values)) for values in (sung, other)]
    middle = ""
    if best.voiced and all(kept.any() for _, kept in parts):
        voiced, rest = (
            bootstrap_interval(mean_of(values[kept]), int(kept.sum()), seed, of[kept])
            for values, kept in parts
        )
        middle = (
            f", in {voiced.value:.1%} of those at least half sung ({_plain(voiced)}) and in "
            f"{rest.value:.1%} of the others ({_plain(rest)})"
        )
    by = "the head of member {} names" if best.how == "head" else "neighbours of member {} name"
    return (
        f"On average, {by.format(best.member)} the right singer in {single.value:.1%} "
        f"of a song's segments ({_plain(single)}){middle}; {end}."
    )


def segment_shares(
    scores: SegmentScores, truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Share of each song's segments that name the right singer: of all, the sung, and the others.

    (songs,) each; NaN where a song has no such segment.
    """
    owners = np.repeat(np.arange(len(truth)), scores.counts)
    right = ranking(scores.probabilities)[:, 0] == truth[owners]
    sung = scores.weights >= SUNG

    def share(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        total = np.bincount(owners[kept], minlength=len(truth))
        hits = np.bincount(owners[kept & right], minlength=len(truth))
        return np.where(total > 0, hits / np.maximum(total, 1), np.nan)

    return share(np.ones_like(sung)), share(sung), share(~sung)


def timeline_page(run_data: RunData) -> str:
    """The text of `timeline.html`."""
    songs = listed(run_data.predicted)
    found = {name: segment_scores(run_data, name, songs.ids) for name in run_data.members}
    scores = [one for one in found.values() if isinstance(one, SegmentScores)]
    singers = run_data.songs.singers
    kept, together = room([one.counts for one in scores], len(singers), BUDGET)
    controls = choice("member", "Member", [(str(i), name) for i, name in enumerate(found)])
    body = f"""<p id="finding">{escape(timeline_finding(songs, scores, run_data.seed))}</p>
<div class="controls">{controls}</div>
<div class="figure chooser"><div><h2 id="song"></h2>
<p id="shown" class="soft" aria-live="polite"></p>
<div class="plot"><div id="plot"></div></div>
<div id="answer"></div></div>
<aside><label for="search">Songs, wrong ones first</label>
<input type="search" id="search" placeholder="song, album or singer">
<div id="songs"></div><p id="more" class="soft"></p></aside></div>
<p class="soft">A row is a singer, the true one first and blue, others orange; the darker, the more
probable in that segment. Each segment shows its {kept} most probable singers
{_together(together)}. Segment probabilities are not calibrated; those of the whole song are. Below:
how much of the segment is voice, which is what it counts in the song.</p>"""
    pool: dict[str, int] = {}
    data = {
        "singers": singers,
        "kept": kept,
        "together": together,
        "wide": len(singers) > BYTE,
        "songs": {
            "id": songs.ids,
            "album": [album_title(album) for album in songs.albums],
            "split": songs.splits,
            "singer": songs.truth.tolist(),
        },
        "answers": [_answer_data(name, p, pool) for name, p in songs.answers.items()],
        "members": [
            _member_data(name, one, songs.truth, kept, together, pool)
            for name, one in found.items()
        ],
    }
    data["pool"] = list(pool)  # texts that several members share stand there once
    notes = " ".join(one.how for one in run_data.predicted)
    title = f"Who sings when: {len(songs.ids):,} songs, segment level"
    return page("timeline.html", title, body, data, ["timeline.js"], notes)


def packed(values: NDArray[Any], kind: str) -> str:
    """An array as base64 of its bytes; `kind` is little-endian "u1" or "<u2"."""
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode("ascii")


def _member_data(
    name: str, scores: SegmentScores | str, truth: NDArray[np.int64], kept: int, together: int,
    pool: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    if isinstance(scores, str):
        return {"name": name, "why": scores}
    found: TopSingers = top_singers(scores, truth, kept, together)
    wide = scores.probabilities.shape[1] > BYTE
    return {
        "name": name,
        "how": scores.how,
        "segment_s": scores.segment_s,
        "voiced": scores.voiced,
        **_pooled(
            pool,
            {
                "counts": packed(found.counts, "<u2"),
                "starts": packed((found.starts_s * 10).round().clip(0, 65535), "<u2"),
                "weights": packed((found.weights * 255).round(), "u1"),
                "labels": packed(found.labels, "<u2" if wide else "u1"),
                "shares": packed((found.probabilities * 255).round(), "u1"),
            },
        ),
    }


def _answer_data(
    name: str, probabilities: NDArray[np.float64], pool: dict[str, int]
) -> dict[str, Any]:
    """The best singers of each song, with 1/65535 for the unit; a song without answer has 0."""
    known = np.nan_to_num(probabilities)
    labels = ranking(known)[:, :PLACES]
    values = np.take_along_axis(known, labels, axis=1)
    parts = {
        "labels": packed(labels, "<u2"),
        "shares": packed((values * 65535).round(), "<u2"),
    }
    return {"name": name, "places": labels.shape[1], **_pooled(pool, parts)}


def _pooled(pool: dict[str, int], texts: Mapping[str, str]) -> dict[str, int]:
    return {key: pool.setdefault(text, len(pool)) for key, text in texts.items()}


def _together(together: int) -> str:
    if together == 1:
        return "and the true one"
    return f"and the true one, as the mean of every {together} segments, to keep this page small"


def _plain(share: Estimate) -> str:
    return f"95% interval {share.low:.1%} to {share.high:.1%}"
