"""The course's questions, answered in sentences with the run's numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.measures.voice_confusion import Mistakes, Relation, Sexes
from analysis.measures.voices import FeatureProbe, Voice, note_and_hz
from analysis.pages.confusion import mistakes
from analysis.run_data import Predicted
from analysis.wording import interval
from embedder.errors import Command
from embedder.metrics import ranking
from embedder.statistics import bootstrap_interval, mean_of
from embedder.text import counted

SURE = 0.05  # p from which on a relation is called none
NO_SEX = "The singers' sex is not known; a csv with the columns singer and sex gives it"


def voices_finding(
    voices: Mapping[str, Voice], relation: Relation | None, pairs: int, split: str
) -> str:
    """From which note to which the singers sing, and whether range explains confusion."""
    ordered = sorted(voices.values(), key=lambda voice: voice.f0[2])
    low, high = ordered[0], ordered[-1]
    if len(ordered) == 1:
        start = f"The middle note of {low.singer} is {note_and_hz(low.f0[2])}"
    else:
        start = (
            f"The middle note of {len(ordered)} singers goes from {note_and_hz(low.f0[2])}, "
            f"{low.singer}, to {note_and_hz(high.f0[2])}, {high.singer}"
        )
    stems = {voice.stem for voice in ordered}
    if "mix" in stems:
        start += (
            ", by the mixtures, whose pitch is mostly the band's"
            if stems == {"mix"}
            else ", of some by the mixtures, whose pitch is mostly the band's"
        )
    if relation is None:
        return f"{start}."
    return f"{start}; {relation_says(relation, pairs, split)}."


def relation_says(relation: Relation, pairs: int, split: str) -> str:
    """Whether singers of similar range are confused more, without capital and full stop."""
    if math.isnan(relation.rho):
        return "all pairs of singers overlap alike, so range cannot explain who is confused"
    if relation.p > SURE:
        verdict = "that two singers' ranges overlap is not seen to make them more confused"
    else:
        how = "more" if relation.rho > 0 else "less"
        verdict = f"the more two singers' ranges overlap, the {how} they are confused"
    rho = f"{relation.rho:+.2f}".replace("-", "−")
    p = f"p\xa0=\xa0{relation.p:.3f}" if relation.p >= 0.001 else "p\xa0<\xa00.001"
    return (
        f"{verdict} (Spearman's ρ\xa0=\xa0{rho} between overlap and the probability that their "
        f"{split} songs give to each other, {counted(pairs, 'pair')}, {p})"
    )


def range_sentences(
    relation: Relation | None,
    pairs: int,
    found: Mistakes | None,
    probes: Sequence[FeatureProbe],
    split: str,
) -> list[str]:
    """Whether singers of different range are told apart, and whether by their range."""
    sentences = []
    if relation is not None:
        says = relation_says(relation, pairs, split)
        sentences.append(f"{says[0].upper()}{says[1:]}.")
    if found is not None:
        mean = " on average" if found.songs > 1 else ""
        sentences.append(
            f"Where a song is given to another singer, {counted(found.songs, 'time')}, the ranges "
            f"of the two overlap by {found.mean:.0%}{mean}; naming any other singer alike would "
            f"make it {found.chance:.0%}."
        )
    for one in probes:
        if one.what == "pitch":
            sentences.append(
                f"Pitch alone, five quantiles of a song's f0, names the right one of "
                f"{one.singers} singers for {one.right.value:.1%} of "
                f"{counted(one.songs, 'validation song')} ({interval(one.right, one.songs)}), "
                f"where chance is {1 / one.singers:.1%}."
            )
        elif one.what == "pitch and timbre":
            sentences.append(
                f"With {one.numbers - 5} numbers on timbre it is {one.right.value:.1%} "
                f"({interval(one.right, one.songs)})."
            )
    return sentences


def sex_sentences(found: Sexes | None, known: bool, split: str) -> list[str]:
    """Whether male and female singers are told apart. `known`: somebody's sex is given."""
    if found is None:
        if not known:
            return [f"{NO_SEX}: {Command('analyze', singers_csv='singers.csv')}"]
        return ["Fewer than two sexes are known among the singers of these songs."]
    names = " and ".join(found.kinds)
    songs = counted(found.songs, f"{split} song")
    sentences = [
        f"The singer named is of the right sex ({names}) for {found.right.value:.1%} of {songs} "
        f"({interval(found.right, found.songs)})."
    ]
    if found.mistakes == 1 and found.crossing is not None:
        what = "crosses" if found.crossing.value else "does not cross"
        sentences.append(
            f"The one mistake {what} from one sex to the other; by chance it would at "
            f"{found.crossing_chance:.0%}."
        )
    elif found.crossing is None:
        sentences.append("No song is given to a wrong singer, so no mistake crosses the sexes.")
    else:
        crossing = found.crossing
        if crossing.high < found.crossing_chance:
            verdict = "fewer than"
        elif crossing.low > found.crossing_chance:
            verdict = "more than"
        else:
            verdict = "not to be told from"
        sentences.append(
            f"Of {counted(found.mistakes, 'mistake')}, {crossing.value:.0%} cross from one sex to "
            f"the other (95% interval {crossing.low:.0%} to {crossing.high:.0%}), {verdict} the "
            f"{found.crossing_chance:.0%} that chance would give."
        )
    sentences.append(
        f"Of the probability that goes to wrong singers, {found.given:.0%} goes to the other sex; "
        f"it would be {found.given_chance:.0%} if all singers got alike."
    )
    return sentences


def table_sentences(predicted: Predicted, seed: int = 0) -> list[str]:
    """Whether the confusion table looks right: a filled diagonal, and mistakes without a pattern.

    All songs of `predicted` are of known singers.
    """
    truth, names = predicted.truth, predicted.singers
    order = ranking(predicted.probabilities)
    right = order[:, 0] == truth
    first = bootstrap_interval(mean_of(right), len(truth), seed, predicted.groups)
    songs = counted(len(truth), f"{predicted.split} song")
    sentences = [
        f"On the diagonal of the table stand {first.value:.1%} of {songs} "
        f"({interval(first, len(truth))})."
    ]
    occurring = sorted(set(truth.tolist()))
    most = [
        one
        for one in occurring
        if (counts := [int((order[truth == one, 0] == other).sum()) for other in range(len(names))])
        and counts[one] == max(counts)
    ]
    if len(most) == len(occurring):
        whose = f"each of the {len(occurring)} singers" if len(occurring) > 1 else "the one singer"
        sentences.append(
            f"The songs of {whose} are given to that singer at least as often as to any other."
        )
    else:
        others = [names[one] for one in occurring if one not in most]
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        sentences.append(
            f"For {len(others)} of {counted(len(occurring), 'singer')} more songs go to one other "
            f"singer than to the right one: {listed}."
        )
    wrong = np.flatnonzero(~right)
    if len(wrong):
        kinds = mistakes(predicted)
        near = sum(int(truth[row] in order[row, 1:3]) for row in wrong)
        if len(wrong) == 1:
            true, named, _ = kinds[0]
            place = "is" if near else "is not"
            sentences.append(
                f"The one mistake gives a song of {names[true]} to {names[named]}; the right "
                f"singer {place} second or third."
            )
        else:
            sentences.append(
                f"{counted(len(wrong), 'mistake')} fall on {counted(len(kinds), 'pair')} of true "
                f"and named singer, at most {len(kinds[0][2])} on one pair; in {near} of them the "
                "right singer is second or third."
            )
    return sentences
