"""The findings of the HTML pages for the deck, each computed from this run's numbers.

Enters: `Material`. Leaves: sentences, and what they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.album_effect.albums import albums_finding, embeddings
from analysis.album_effect.effect import AlbumEffect, album_effect, neighbourhood, usable
from analysis.experts.members import members_finding
from analysis.experts.opinions import best_of, opinions
from analysis.experts.reliability import reliability_finding
from analysis.learning.curves import Log, read_log, training_gap
from analysis.learning.training import training_finding
from analysis.maps.tsne import map_finding
from analysis.maps.views import View, all_views
from analysis.material import Material
from analysis.mistakes.confusion import confusion_finding
from analysis.report.results import song_rows
from analysis.report.sentences import hardest_sentence
from analysis.robustness.curves import Curve, curves
from analysis.robustness.robustness import robustness_finding
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


def numbers_of(material: Material) -> Numbers:
    """All of them."""
    measured = fitting(material.run)
    found = () if isinstance(measured, str) else tuple(curves(measured, FUSED))
    view = next(all_views(material))
    return Numbers(song_rows(material), view, album_effect_of(material), measured, found)


def album_effect_of(material: Material) -> tuple[str, AlbumEffect] | None:
    """Name and album effect of the embedding of all together; None where albums say nothing."""
    name, songs = next(embeddings(material))
    if not usable(songs):
        return None
    return name, album_effect(neighbourhood(songs), material.seed)


def all_findings(material: Material, numbers: Numbers) -> list[str]:
    """One sentence a page, in the order of the deck; of each split where there are several."""
    seed = material.seed
    found = [confusion_finding(one, seed) for one in material.predicted]
    found.append(hardest_sentence(material.predicted[0]))
    for predicted in material.predicted:
        said = opinions(predicted)
        if len(said.experts) > 1:
            found.append(members_finding(said, best_of(material.fusion, said), seed))
    found.append(reliability_finding(material.predicted[0], seed))
    found.append(map_finding(numbers.view))
    if numbers.albums:
        found.append(albums_finding(*numbers.albums))
    if isinstance(numbers.robustness, Measured) and numbers.curves:
        found.append(robustness_finding(numbers.robustness, numbers.curves))
    logs = [read_log(material.run, name) for name in material.members]
    gaps = [training_gap(material.stores(name), seed) for name in material.members]
    known = [gap for gap in gaps if gap is not None]
    found.append(training_finding([one for one in logs if isinstance(one, Log)], known))
    return found
