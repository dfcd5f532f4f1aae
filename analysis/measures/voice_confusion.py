"""Whether singers of similar range, or of the same sex, are taken for each other.

For each two singers: how far their ranges overlap and how much each is taken for the other, with
the rank correlation of the two; and how many mistakes cross from one sex to the other against what
chance gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.measures.voices import Range, overlap
from analysis.run_data import Predicted
from analysis.singer_facts import SingerFacts
from embedder.metrics import confusion_matrix, ranking
from embedder.statistics import Estimate, bootstrap_interval, mean_of

PERMUTATIONS = 2000
FEWEST = 4  # singers; with fewer there are hardly any orders to compare with

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Each two singers who have a range and a predicted song."""

    first: NDArray[np.int64]  # (pairs,), index into the singers, below `second`
    second: NDArray[np.int64]
    overlap: Floats  # (pairs,), 0 to 1
    probability: Floats  # (pairs,), mean of what one's songs give to the other, both ways
    mistakes: NDArray[np.int64]  # (pairs,), songs of one named as the other, both ways


@dataclass(frozen=True)
class Relation:
    """How overlap and confusion go together."""

    rho: float  # Spearman's rank correlation, −1 to 1; NaN where one of the two is constant
    p: float  # share of random orders of the singers that give as much, either sign


@dataclass(frozen=True)
class Mistakes:
    """Overlap of the ranges of a song's singer and of the one named, where these differ."""

    songs: int
    mean: float  # over the mistakes
    chance: float  # if each mistake named any other singer alike


def pairs_of(predicted: Predicted, ranges: Mapping[str, Range]) -> Pairs:
    """All pairs, in the singers' order; all songs of `predicted` are of known singers."""
    count = len(predicted.singers)
    songs = np.bincount(predicted.truth, minlength=count)
    there = [i for i, name in enumerate(predicted.singers) if songs[i] and name in ranges]
    sums = np.zeros((count, count))
    np.add.at(sums, predicted.truth, predicted.probabilities)
    given = sums / np.maximum(songs, 1)[:, None]
    named = ranking(predicted.probabilities)[:, 0]
    counts = confusion_matrix(predicted.truth, named, count)
    rows, columns = np.triu_indices(len(there), 1)
    first, second = (np.array(there, dtype=np.int64)[one] for one in (rows, columns))
    shared = [
        overlap(ranges[predicted.singers[a]], ranges[predicted.singers[b]])
        for a, b in zip(first, second, strict=True)
    ]
    return Pairs(
        first,
        second,
        np.array(shared, dtype=np.float64),
        (given[first, second] + given[second, first]) / 2,
        counts[first, second] + counts[second, first],
    )


def relation(pairs: Pairs, seed: int = 0) -> Relation | None:
    """Whether pairs that overlap more are confused more; None with fewer than 4 singers.

    Pairs that share a singer are not independent, so the singers are permuted, not the pairs
    (Mantel 1967): p is (1 + orders with at least as large a |ρ|) / (1 + orders).
    """
    labels, places = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    if len(labels) < FEWEST:
        return None
    rows, columns = np.split(places, 2)
    one, other = _standard(pairs.overlap), _standard(pairs.probability)
    if not one.any() or not other.any():
        return Relation(float("nan"), 1.0)
    square = np.zeros((len(labels), len(labels)))
    square[rows, columns] = square[columns, rows] = one
    rho = float(one @ other)
    rng = np.random.default_rng(seed)
    found = np.empty(PERMUTATIONS)
    for number in range(PERMUTATIONS):
        order = rng.permutation(len(labels))
        found[number] = square[order[rows], order[columns]] @ other
    as_large = int((np.abs(found) >= abs(rho) - 1e-12).sum())
    return Relation(rho, (1 + as_large) / (1 + PERMUTATIONS))


def mistakes_overlap(predicted: Predicted, ranges: Mapping[str, Range]) -> Mistakes | None:
    """How far the ranges of confused singers overlap, against chance; None without a mistake."""
    names = predicted.singers
    named = ranking(predicted.probabilities)[:, 0]
    known = [i for i, name in enumerate(names) if name in ranges]
    between = {
        (a, b): overlap(ranges[names[a]], ranges[names[b]]) for a in known for b in known if a != b
    }
    wrong = [
        (int(true), int(guess))
        for true, guess in zip(predicted.truth, named, strict=True)
        if (int(true), int(guess)) in between
    ]
    if not wrong:
        return None
    alike = [np.mean([between[true, b] for b in known if b != true]) for true, _ in wrong]
    return Mistakes(
        len(wrong), float(np.mean([between[one] for one in wrong])), float(np.mean(alike))
    )


def _standard(values: Floats) -> Floats:
    """Ranks with mean 0 and length 1, whose products are Spearman's ρ; zeros if all are equal."""
    ranks = rankdata(values)
    centred = ranks - ranks.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 0 else np.zeros_like(centred))


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
