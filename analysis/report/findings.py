"""The findings of the HTML pages for the deck, each computed from this run's numbers.

Enters: `RunData`. Leaves: sentences, and what they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.maps import View, all_views
from analysis.measures.album_effect import AlbumEffect, album_effect, neighbourhood, usable
from analysis.measures.robustness import Curve, curves
from analysis.pages.albums import albums_finding, embeddings
from analysis.pages.confusion import confusion_finding
from analysis.pages.experts import best_of, members_finding, opinions
from analysis.pages.map import map_finding
from analysis.pages.reliability import reliability_finding
from analysis.pages.robustness import robustness_finding
from analysis.pages.training import Log, read_log, training_finding, training_gap
from analysis.report.results import song_rows
from analysis.report.sentences import hardest_sentence
from analysis.run_data import RunData
from ensemble.fusion.experts import FUSED
from ensemble.fusion.fitted import ResultRow
from ensemble.robustness import Measured, fitting


@dataclass(frozen=True, eq=False)
class Numbers:
    """What several slides need and takes long to compute."""

    rows: tuple[ResultRow, ...]  # of each expert and all fused, of each split
    view: View  # the map of songs, of all members together or of the only one
    albums: tuple[str, AlbumEffect] | None  # name of the embedding; None: albums say nothing
    robustness: Measured | str  # or why there is none
    curves: tuple[Curve, ...]  # of the fused answers


def numbers_of(run_data: RunData) -> Numbers:
    """All of them."""
    measured = fitting(run_data.run)
    found = () if isinstance(measured, str) else tuple(curves(measured, FUSED))
    view = next(all_views(run_data))
    return Numbers(song_rows(run_data), view, album_effect_of(run_data), measured, found)


def album_effect_of(run_data: RunData) -> tuple[str, AlbumEffect] | None:
    """Name and album effect of the embedding of all together; None where albums say nothing."""
    name, songs = next(embeddings(run_data))
    if not usable(songs):
        return None
    return name, album_effect(neighbourhood(songs), run_data.seed)


def all_findings(run_data: RunData, numbers: Numbers) -> list[str]:
    """One sentence a page, in the order of the deck; of each split where there are several."""
    seed = run_data.seed
    found = [confusion_finding(one, seed) for one in run_data.predicted]
    found.append(hardest_sentence(run_data.predicted[0]))
    for predicted in run_data.predicted:
        said = opinions(predicted)
        if len(said.experts) > 1:
            found.append(members_finding(said, best_of(run_data.fusion, said), seed))
    found.append(reliability_finding(run_data.predicted[0], seed))
    found.append(map_finding(numbers.view))
    if numbers.albums:
        found.append(albums_finding(*numbers.albums))
    if isinstance(numbers.robustness, Measured) and numbers.curves:
        found.append(robustness_finding(numbers.robustness, numbers.curves))
    logs = [read_log(run_data.run, name) for name in run_data.members]
    gaps = [training_gap(run_data.stores(name), seed) for name in run_data.members]
    known = [gap for gap in gaps if gap is not None]
    found.append(training_finding([one for one in logs if isinstance(one, Log)], known))
    return found
