"""Short findings for the deck, each true of the numbers that it is made of.

Enters: predictions, opinions of experts, the album effect. Leaves: sentences; "" where there is
nothing to say. The longer ones are those of the HTML pages.
"""

from __future__ import annotations

import numpy as np

from analysis.measures.album_effect import AlbumEffect
from analysis.pages.confusion import PLACES, true_places
from analysis.pages.experts import Opinions, changes
from analysis.run_data import Predicted
from analysis.wording import counted, interval
from embedder.metrics import bootstrap_interval, mean_of, per_singer_recall, ranking
from embedder.reliability import first_choices
from ensemble.fusion.experts import member_of
from ensemble.fusion.fitted import CalibrationRow, Fusion, ResultRow


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
    """How many songs the ensemble fixes and breaks against its best expert."""
    if best not in found.experts:
        return ""
    single = found.named[found.experts.index(best)]
    moved = changes(found.predicted.truth, single, found.fused)
    fixed, broken = len(moved.fixed), len(moved.broken)
    where = f"of {counted(len(found.predicted.ids), f'{found.predicted.split} song')}"
    if len(found.experts) == 1:
        return f"There is one expert, {best}, so there is nothing to put together."
    start = f"Against the best of {len(found.experts)} experts, {best}, the ensemble"
    if not fixed and not broken:
        return f"{start} names none {where} better or worse."
    return f"{start} fixes {fixed:,} and breaks {broken:,} {where}."


def confidence_sentence(predicted: Predicted) -> str:
    """Mean confidence beside the share of right answers."""
    confidence, right = first_choices(predicted.truth, predicted.probabilities)
    return (
        f"The answers are {confidence.mean():.1%} sure on average, and {right.mean():.1%} of "
        f"{counted(len(right), f'{predicted.split} song')} {'is' if len(right) == 1 else 'are'} "
        "right."
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
    means = "mean " if len(rows) > 1 else ""
    if len(rows) == 1:
        of = "the expert"
    elif better == len(rows):
        of = f"each of {len(rows)} experts"
    else:
        of = f"{better} of {len(rows)} experts"
    moved = "falls for" if better else "does not fall for"
    who = of if better else ("the expert" if len(rows) == 1 else "any expert")
    return f"The NLL {moved} {who}: {means}{before:.3f} before, {after:.3f} after."


def members_sentence(rows: tuple[ResultRow, ...]) -> str:
    """The best expert of each member beside the fused answer, from rows of one split and level."""
    best: dict[str, float] = {}
    fused = None
    for row in rows:
        if "/" in row.expert:
            name = member_of(row.expert)
            best[name] = max(best.get(name, 0.0), row.metrics.top_1.value)
        else:
            fused = row.metrics.top_1.value
    if not best or fused is None:
        return ""
    songs = counted(rows[0].metrics.songs, f"{rows[0].split} song")
    each = ", ".join(f"{name} {value:.1%}" for name, value in best.items())
    return f"Top-1 of {songs}, best expert of each: {each}; all fused: {fused:.1%}."


def gain_sentence(fusion: Fusion) -> str:
    """What the way of fusing in use gains over the best single expert."""
    row = next((one for one in fusion.methods if one.method == fusion.pooling.method), None)
    if row is None or not fusion.best_expert:
        return ""
    gain = row.score_gain
    if gain.value == 0:
        return f"Together they score as the best single expert does, {fusion.best_expert}."
    value, low, high = (
        f"{one:+.3f}".replace("-", "−") for one in (gain.value, gain.low, gain.high)
    )
    return (
        f"Their score together against the best single expert, {fusion.best_expert}, picked with "
        f"hindsight: {value} (95% interval {low} to {high})."
    )
