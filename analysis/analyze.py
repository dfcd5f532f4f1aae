"""From a run folder to its pages: reads stores and predictions, draws the maps, writes the pages.

Enters: a run folder that `fuse` has filled. Leaves: `pages/index.html`, `pages/tsne.html` and
`pages/confusion.html`, each whole or not at all. No model is loaded and no torch imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.confusion import confusion_page
from analysis.inputs import (
    FUSE,
    Songs,
    member_stores,
    members_with_stores,
    predicted_splits,
    read_predicted,
    song_list,
)
from analysis.overview import HOW, agreement_sentence, overview_page
from analysis.tsne import View, neighbour_agreement, segment_view, song_view, tsne_page
from embedder.artifacts import Run, write_text
from embedder.errors import UserError
from embedder.store import Store
from ensemble.fusion import check_fusion, read_fusion


def analyze(
    run: Run,
    members: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> list[Path]:
    """Write the pages of a run and return their paths, the front page first.

    `members`: names of the members to map, `None` for those of the fusion. `seed`: of the
    maps and the bootstrap. `progress(done, total)` is called after each map, two for each member.
    Raises `UserError` if stores or predictions are missing, unreadable or made from different
    things; nothing is written then.
    """
    fusion = read_fusion(run.fusion) if run.fusion.is_file() else None
    names = members_with_stores(run, fusion.members if fusion and members is None else members)
    predicted = read_predicted(run, predicted_splits(run, names))
    songs: Songs | None = None
    views: list[View] = []
    agreements: list[str] = []
    for name in names:  # one member at a time: the segments of all together may not fit in memory
        stores = member_stores(run, name)
        if fusion and name in fusion.made_from:
            for store in stores:
                check_fusion(fusion, {name: store.made_from.get("checkpoint", "")})
        listed = song_list(stores, predicted)
        if songs is not None and (listed.ids, listed.singers) != (songs.ids, songs.singers):
            raise UserError(f"members {names[0]} and {name} were given different songs; {FUSE}")
        songs = songs or listed
        agreements += _agreements(name, stores)
        for view_of in (song_view, segment_view):
            views.append(view_of(stores, seed))
            if progress is not None:
                progress(len(views), 2 * len(names))
    assert songs is not None  # members_with_stores returns at least one name
    known = [table for table in (one.known() for one in predicted) if table.ids]
    how = {split: f"{split.capitalize()} predictions: {note}." for split, note in HOW.items()}
    texts = {
        "index.html": overview_page(songs, known, agreements, fusion, seed),
        "tsne.html": tsne_page(songs, views, agreements),
        "confusion.html": confusion_page(known, how),
    }
    for file, text in texts.items():
        write_text(run.pages / file, text)
    return [run.pages / file for file in texts]


def _agreements(name: str, stores: Sequence[Store]) -> list[str]:
    train = next((store for store in stores if store.split == "train"), None)
    if train is None:
        raise UserError(f"the train store of member {name} holds no song; {FUSE}")
    found = {s.split: neighbour_agreement(train, s) for s in stores if s.split != "train"}
    return [
        agreement_sentence(name, split, hits, count)
        for split, (hits, count) in found.items()
        if count
    ]
