"""Whom each segment of a song names first.

Enters: what members say of the segments of predicted songs. Leaves: `FirstChoices`, small enough
for a page as runs of equal choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.material import Material
from analysis.segments.heard import Heard, heard_segments
from embedder.metrics import ranking


@dataclass(frozen=True, eq=False)
class FirstChoices:
    """The singer that each segment names first, the songs one after the other."""

    how: str  # who says it, in a sentence
    ends: NDArray[np.int64]  # (songs + 1,), where each song's segments begin, and the last end
    labels: NDArray[np.int64]  # (segments,), in the order of time within a song

    def runs(self, song: int) -> list[int]:
        """`[singer, segments, singer, segments, …]` of a song from its beginning to its end."""
        labels = self.labels[self.ends[song] : self.ends[song + 1]]
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        lengths = np.diff(starts, append=len(labels))
        return [int(one) for one in np.stack([labels[starts], lengths], axis=1).ravel()]


def first_choices(material: Material, songs: Sequence[str]) -> FirstChoices | str:
    """Of the named predicted songs, or why nothing is said of segments.

    The mean of all members' probabilities, where their segments lie at the same places; else those
    of the first member that says anything.
    """
    found = [heard_segments(material, name, songs) for name in material.members]
    heard = [one for one in found if isinstance(one, Heard)]
    if not heard:
        return " ".join(one for one in found if isinstance(one, str))
    first = heard[0]
    alike = all(
        np.array_equal(one.counts, first.counts)
        and np.allclose(one.starts_s, first.starts_s, atol=1e-3)
        for one in heard
    )
    said = heard if alike else heard[:1]
    sources = [f"{one.member} ({_source(one)})" for one in said]
    how = (
        f"Segments are those of {sources[0]}."
        if len(said) == 1
        else f"Segments: mean of what {', '.join(sources)} say."
    )
    mean = np.mean([one.probabilities for one in said], axis=0)
    ends = np.concatenate([[0], np.cumsum(first.counts)])
    return FirstChoices(how, ends, ranking(mean)[:, 0])


def _source(heard: Heard) -> str:
    return "its neighbours' votes" if heard.how == "neighbours" else "its head"
