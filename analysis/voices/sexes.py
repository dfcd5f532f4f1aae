"""Whether male and female singers are told apart.

Enters: predictions of songs, and the singers' sex from a csv. Leaves: how often the singer named is
of the right sex, and how many mistakes cross from one sex to the other against what chance gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.inputs import Predicted
from analysis.singer_facts import SingerFacts
from embedder.metrics import Estimate, bootstrap_interval, mean_of, ranking


@dataclass(frozen=True)
class Sexes:
    """Songs whose singer, and the singer named, are of known sex."""

    kinds: tuple[str, ...]  # as the csv writes them, sorted
    songs: int
    right: Estimate  # share whose named singer is of the true singer's sex
    mistakes: int  # songs whose named singer is another
    crossing: Estimate | None  # share of the mistakes that name the other sex; None without any
    crossing_chance: float  # of the mistakes, if each named any other singer alike
    given: float  # share of the probability of wrong singers that the other sex gets
    given_chance: float  # if all other singers got alike


def sex_of(facts: Mapping[str, SingerFacts]) -> dict[str, str]:
    """Singer → sex, of those whose sex is known; small and capital letters are alike."""
    return {singer: one.sex.strip().lower() for singer, one in facts.items() if one.sex.strip()}


def sexes(predicted: Predicted, sex: Mapping[str, str]) -> Sexes | None:
    """None unless singers of two sexes have a predicted song."""
    kinds = np.array([sex.get(singer, "") for singer in predicted.singers])
    known = kinds != ""
    named = ranking(predicted.probabilities)[:, 0]
    rows = np.flatnonzero(known[predicted.truth] & known[named])
    groups = np.array(predicted.groups)[rows]
    truth, named = predicted.truth[rows], named[rows]
    if len(set(kinds[truth])) < 2:
        return None
    other = kinds[truth][:, None] != kinds[None]  # (songs, singers)
    wrong_singer = known[None] & (np.arange(len(kinds))[None] != truth[:, None])
    chance = (other & wrong_singer).sum(axis=1) / np.maximum(wrong_singer.sum(axis=1), 1)
    given = np.where(wrong_singer, predicted.probabilities[rows], 0.0)
    total = float(given.sum())
    crossed = kinds[named] != kinds[truth]
    wrong = named != truth
    mistakes = int(wrong.sum())
    return Sexes(
        kinds=tuple(sorted(set(kinds[truth].tolist()))),
        songs=len(rows),
        right=bootstrap_interval(mean_of(~crossed), len(rows), groups=groups),
        mistakes=mistakes,
        crossing=bootstrap_interval(mean_of(crossed[wrong]), mistakes, groups=groups[wrong])
        if mistakes
        else None,
        crossing_chance=float(chance[wrong].mean()) if mistakes else float("nan"),
        given=float(given[other].sum()) / total if total > 0 else 0.0,
        given_chance=float((chance * given.sum(axis=1)).sum()) / total if total > 0 else 0.0,
    )
