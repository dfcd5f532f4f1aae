"""What fusing experts comes down to, as a value and as `fusion.json`.

Enters: what `ensemble/fuse.py` fitted. Leaves: `Fusion` with the table of its results
(`ResultRow`), written, read, and checked against the members' checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedder.artifacts import read_json, write_json
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.metrics import Estimate, Summary
from embedder.store import AGAIN
from ensemble.knn import Votes

FUSION_FORMAT = 2
AS_TRAINED = Listening()


@dataclass(frozen=True)
class ResultRow:
    """One row of the results table: an expert's metrics and what they were measured on."""

    expert: str  # "<member>/head", "<member>/knn" or "fused"
    split: str
    level: str  # "song" or "segment"
    cross_fitted: bool  # fitted on other albums of the same split
    metrics: Summary


@dataclass(frozen=True)
class Fusion:
    """All that is fitted to turn experts' logits into one set of probabilities."""

    singers: tuple[str, ...]  # label order
    aggregate: str  # how segment logits become song logits: a key of `store.AGGREGATES`
    temperatures: dict[str, float]  # expert → temperature; its keys are the experts, in order
    weights: dict[str, float]  # expert → weight, 0 or more
    votes: Votes  # how neighbours vote
    made_from: dict[str, str]  # member → hash of its checkpoint
    listening: Listening = AS_TRAINED  # how its songs were heard, and new ones must be
    results: tuple[ResultRow, ...] = ()

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(self.temperatures)

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.made_from)


def check_fusion(fusion: Fusion, checkpoints: Mapping[str, str]) -> None:
    """Raise `UserError` unless `checkpoints` (member → hash) are those that it was fitted on.

    Members may be missing; the weights of the others then grow.
    """
    for member, found in checkpoints.items():
        fitted = fusion.made_from.get(member)
        if fitted is None:
            raise UserError(f"member {member} is not in the fusion; {AGAIN}")
        if fitted != found:
            raise UserError(
                f"the fusion was fitted on checkpoint {fitted} of member {member}, which is now "
                f"{found}; {AGAIN}"
            )


def check_detector(fusion: Fusion, fingerprint: str) -> None:
    """Raise `UserError` unless this is the voice detector that the fusion was fitted with.

    An empty fingerprint stands for no detector.
    """
    fitted = fusion.listening.detector
    if fitted != fingerprint:
        raise UserError(
            f"the fusion was fitted with voice detector {fitted or 'none'}, which is now "
            f"{fingerprint or 'none'}; {AGAIN}"
        )


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Write `fusion.json`, atomically."""
    write_json(path, {"format": FUSION_FORMAT, **asdict(fusion)})


def read_fusion(path: Path) -> Fusion:
    """Read what `write_fusion` wrote; raise `UserError` naming the file if it cannot be used."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {AGAIN}")
    found = read_json(path)
    try:
        if found["format"] != FUSION_FORMAT:
            raise UserError(
                f"{path} is of format {found['format']}, this program reads format "
                f"{FUSION_FORMAT}; {AGAIN}"
            )
        fusion = Fusion(
            singers=tuple(found["singers"]),
            aggregate=found["aggregate"],
            temperatures=dict(found["temperatures"]),
            weights=dict(found["weights"]),
            votes=Votes(**found["votes"]),
            made_from=dict(found["made_from"]),
            listening=Listening(**found["listening"]),
            results=tuple(_row(row) for row in found["results"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a readable fusion ({error!r}); {AGAIN}") from None
    if fusion.weights.keys() != fusion.temperatures.keys():
        raise UserError(f"{path} has other experts in weights than in temperatures; {AGAIN}")
    return fusion


def _row(found: dict[str, Any]) -> ResultRow:
    metrics = dict(found["metrics"])
    songs = metrics.pop("songs")
    estimates = {name: Estimate(**value) for name, value in metrics.items()}
    return ResultRow(**(found | {"metrics": Summary(songs=songs, **estimates)}))
