"""Scores of a member's experts before calibration, computed again from its stores.

Predictions hold calibrated answers only, and no neighbours of single segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.run_data import RunData
from embedder.inference.store import Store
from ensemble.fusion.calibration import log_softmax
from ensemble.fusion.experts import ExpertScores, gather
from ensemble.index.members import index_of


def evidence_of(
    run_data: RunData, member: str, experts: Sequence[str] | None = None
) -> dict[str, tuple[Store, ExpertScores]]:
    """Split → a member's store and the scores of its experts, or of those named.

    Empty where there is no fusion, the member has no part in it, or no training song.
    Neighbours are searched exactly, whatever index the run uses.
    """
    fusion = run_data.fusion
    if fusion is None or member not in fusion.members:
        return {}
    wanted = fusion.experts if experts is None else experts
    stores = {store.split: store for store in run_data.stores(member)}
    if "train" not in stores:
        return {}
    indexes = {member: index_of(stores["train"])}
    return {
        table.split: (
            stores[table.split],
            gather(
                [stores[table.split]],
                indexes,
                fusion.aggregate,
                fusion.probes,
                fusion.score_norm,
                wanted,
            ),
        )
        for table in run_data.predicted
        if table.split in stores
    }


def uncalibrated(run_data: RunData) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Split → expert → probabilities (songs, singers) at temperature 1, in the predictions' order.

    Only experts that the predictions hold.
    """
    found: dict[str, dict[str, NDArray[np.float64]]] = {
        table.split: {} for table in run_data.predicted
    }
    if run_data.fusion is None:
        return found
    for member in run_data.members:
        found_ = evidence_of(run_data, member)
        for table in run_data.predicted:
            if table.split not in found_:
                continue
            store, evidence = found_[table.split]
            row_of = {song: row for row, song in enumerate(store.song_ids)}
            rows = [row_of[song] for song in table.ids]
            for name, logits in evidence.scores(run_data.fusion.votes).items():
                if name in table.experts:
                    found[table.split][name] = np.exp(log_softmax(logits))[rows]
    return found
