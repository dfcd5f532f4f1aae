"""Short findings for the deck, each true of the numbers that it is made of.

"" where there is nothing to say. The longer ones are those of the HTML pages.
"""

from __future__ import annotations

import numpy as np

from analysis.measures.album_effect import AlbumEffect
from analysis.pages.confusion import PLACES, true_places
from analysis.pages.experts import Opinions, changes
from analysis.run_data import Predicted
from analysis.wording import interval
from embedder.metrics import per_singer_recall, ranking
from embedder.statistics import bootstrap_interval, mean_of
from embedder.text import counted
from ensemble.fusion.fitted import CalibrationRow


def result_sentence(predicted: Predicted, seed: int = 0) -> str:
    """How often the right singer is named first, and among the first three."""
    places, songs = true_places(predicted), len(predicted.ids)
    first = bootstrap_interval(mean_of(places == 1), songs, seed, predicted.groups)
    where = counted(songs, f"{predicted.split} song")
    if first.value == 1:
        return f"The right singer is named first for each of {where} ({interval(first, songs)})."
    third = int((places <= PLACES).sum())
    within = "all" if third == songs else f"{third:,}"
    return (
        f"The right singer is named first for {first.value:.1%} of {where} "
        f"({interval(first, songs)}) and stands among the first three for {within} of them."
    )


def hardest_sentence(predicted: Predicted) -> str:
    """Which singer's songs are named wrongly most often, by share."""
    recall, songs = per_singer_recall(
        predicted.truth, ranking(predicted.probabilities)[:, 0], len(predicted.singers)
    )
    there = int((songs > 0).sum())
    least = float(np.nanmin(recall))
    if least == 1:
        who = "The one singer has" if there == 1 else f"Each of the {there} singers has"
        return f"{who} all {predicted.split} songs named right."
    worst = int(np.nanargmin(recall))
    right = round(recall[worst] * songs[worst])
    alike = int((np.abs(recall - least) < 1e-12).sum()) - 1
    ties = f"; the share is the same for {counted(alike, 'other singer')}" if alike else ""
    return (
        f"The hardest singer is {predicted.singers[worst]}: {right} of "
        f"{counted(int(songs[worst]), f'{predicted.split} song')} "
        f"{'is' if songs[worst] == 1 else 'are'} named right{ties}."
    )


def change_sentence(found: Opinions, best: str) -> str:
    """Whether fusing helps against the best single expert, in songs fixed and broken."""
    if best not in found.experts:
        return ""
    if len(found.experts) == 1:
        return f"There is one expert, {best}, so there is nothing to fuse."
    moved = changes(
        found.predicted.truth, found.named[found.experts.index(best)], found.fused
    )  # fmt: skip
    fixed, broken = len(moved.fixed), len(moved.broken)
    verdict = (
        "better" if fixed > broken else "worse" if fixed < broken else "neither better nor worse"
    )
    songs = counted(len(found.predicted.ids), f"{found.predicted.split} song")
    return (
        f"Fused, the {len(found.experts)} experts are {verdict} than the best one alone, {best}: "
        f"fusing fixes {fixed:,} and breaks {broken:,} of {songs}."
    )


def album_sentence(effect: AlbumEffect) -> str:
    """How often the nearest song is of the same album, beside chance and the voice alone."""
    return (
        f"The nearest other training song is of the same album for {effect.album.value:.1%} of "
        f"{counted(effect.songs, 'song')}; by chance it would be {effect.album_chance:.1%}, and "
        f"{effect.voice_chance:.1%} if all of a singer's songs were equally near."
    )


def calibration_sentence(rows: tuple[CalibrationRow, ...]) -> str:
    """What the temperatures do to the experts' NLL, cross-fitted."""
    if not rows:
        return ""
    before, after = (float(np.mean([row.nll[place] for row in rows])) for place in (0, 1))
    better = sum(row.nll[1] < row.nll[0] for row in rows)
    if len(rows) == 1:
        who, mean = "the expert", ""
    else:
        each = f"each of {len(rows)}" if better == len(rows) else f"{better} of {len(rows)}"
        who, mean = f"{each} experts" if better else "any expert", "mean "
    moved = "falls for" if better else "does not fall for"
    return f"The NLL {moved} {who}: {mean}{before:.3f} before, {after:.3f} after."
