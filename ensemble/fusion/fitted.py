"""What fusing experts comes down to, as a value and as `fusion.json`.

Enters: what `ensemble/fuse.py` fitted. Leaves: `Fusion` with the tables of its results, written,
read, and checked against the members' checkpoints.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import fingerprint, read_json, write_json
from embedder.catalogue import Catalogue, read_catalogue, stems_fingerprint
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import AGAIN, Store
from embedder.metrics import CalibrationError, Estimate, Summary
from embedder.run import Run
from ensemble.enrolled.enrolment import Gate
from ensemble.fusion.fusers import FUSIONS, Pooling
from ensemble.fusion.knn import Votes
from ensemble.fusion.probe import Probe
from ensemble.index.members import embedder_of
from ensemble.open_set import Unknown

FUSION_FORMAT = 5
AS_TRAINED = InferenceConfig()


@dataclass(frozen=True)
class ResultRow:
    """One row of the results table: an expert's metrics and what they were measured on."""

    expert: str  # "<member>/<kind>" or "fused"
    split: str
    level: str  # "song" or "segment"
    cross_fitted: bool  # fitted on other albums of the same split
    metrics: Summary


@dataclass(frozen=True)
class MethodRow:
    """What one way to fuse came to, cross-fitted, beside the best single expert."""

    method: str
    metrics: Summary
    score_gain: Estimate  # its score − the best expert's, on the same resamples
    nll_gain: Estimate  # the best expert's NLL − its own: above 0 is better


@dataclass(frozen=True)
class CalibrationRow:
    """An expert's probabilities before its temperature, and cross-fitted after it."""

    expert: str
    nll: tuple[float, float]  # before, after; nats
    brier: tuple[float, float]  # 0 to 2
    ece: tuple[float, float]  # 0 to 1, 15 bins of equal mass


@dataclass(frozen=True, eq=False)
class Fusion:
    """All that is fitted to turn experts' logits into one set of probabilities."""

    singers: tuple[str, ...]  # label order, the trained ones
    aggregate: str  # how segment logits become song logits: a key of `AGGREGATES`
    temperatures: dict[str, float]  # expert → temperature; its keys are the experts, in order
    pooling: Pooling
    votes: dict[str, Votes]  # expert → how its neighbours vote
    made_from: dict[str, str]  # member → hash of its checkpoint
    probes: dict[str, Probe]  # member → its linear probe
    score_norm: str = "none"  # of neighbours' similarities: a name in `SCORE_NORMS`
    listening: InferenceConfig = AS_TRAINED  # how its songs were heard, and new ones must be
    results: tuple[ResultRow, ...] = ()
    methods: tuple[MethodRow, ...] = ()
    choices: tuple[str, ...] = ()  # the method that "fused" takes of each fold's songs
    calibration: tuple[CalibrationRow, ...] = ()
    best_expert: str = ""  # the one with the highest cross-fitted score, which methods are beside
    unknown: Unknown | None = None  # None: too few singers to leave some out
    gate: Gate | None = None  # for singers who are enrolled; None likewise
    embedded_by: Mapping[str, str] = field(default_factory=dict)  # member → see `embedder_of`
    catalogue: str = ""  # fingerprint of the songs that it was fitted on
    vocals: str = ""  # of their vocal stems, where a member takes these
    id: str = (
        ""  # of it and its index, in both, so that only files of one `fuse` are taken together
    )

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts' names, in order."""
        return tuple(self.temperatures)

    @property
    def weights(self) -> dict[str, float]:
        """Expert → weight, 0 or more."""
        return self.pooling.weights

    @property
    def members(self) -> tuple[str, ...]:
        """The members' names, in order."""
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


def check_songs(run: Run, fusion: Fusion) -> None:
    """Raise `UserError` if the run has other songs, or vocals for a member, than were fused.

    A run without songs of its own, as in a bundle, has nothing to compare; nor has a fusion that
    was made of stores alone.
    """
    songs = read_catalogue(run.catalogue).songs if run.catalogue.is_file() else ()
    if not songs or not fusion.catalogue:
        return
    if Catalogue(songs).fingerprint() != fusion.catalogue:
        raise UserError(f"the fusion was fitted on other songs than {run.catalogue} has; {AGAIN}")
    if fusion.vocals and stems_fingerprint(songs, "vocals") != fusion.vocals:
        raise UserError(
            f"the fusion was fitted with other vocal stems than {run.catalogue} has; {AGAIN}"
        )


def check_stores(fusion: Fusion, stores: Sequence[Store]) -> None:
    """Raise `UserError` unless a member's stores were embedded as those that were fused.

    A `fuse` that was interrupted may have embedded the songs otherwise already.
    """
    for store in stores:
        fused = fusion.embedded_by.get(store.member)
        if fused is not None and embedder_of(store.made_from) != fused:
            raise UserError(
                f"the {store.split} store of member {store.member} is of "
                f"{embedder_of(store.made_from)}, and the fusion of {fused}; {AGAIN}"
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
    """Write `fusion.json`, atomically. Arrays stand in it as base64 of little-endian float64."""
    write_json(path, _described(fusion))


def with_id(fusion: Fusion, index_from: Sequence[str]) -> Fusion:
    """The fusion with its id: a hash of all of it, and of what its index is made from."""
    text = json.dumps(_described(fusion), sort_keys=True)
    return replace(fusion, id=fingerprint(text, *index_from))


def _described(fusion: Fusion) -> dict[str, Any]:
    head = replace(fusion, probes={}, pooling=replace(fusion.pooling, coefficients=np.zeros(0)))
    found = {"format": FUSION_FORMAT, **asdict(head)}
    found["pooling"]["coefficients"] = _packed(fusion.pooling.coefficients)
    found["probes"] = {
        member: {"weights": _packed(probe.weights), "bias": _packed(probe.bias)}
        for member, probe in fusion.probes.items()
    }
    return found


def read_fusion(path: Path) -> Fusion:
    """Read what `write_fusion` wrote; raise `UserError` naming the file if it cannot be used."""
    found = read_json(path, AGAIN)
    try:
        if found["format"] != FUSION_FORMAT:
            raise UserError(
                f"{path} is of format {found['format']}, this program reads format "
                f"{FUSION_FORMAT}; {AGAIN}"
            )
        fusion = _fusion(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a readable fusion ({error!r}); {AGAIN}") from None
    if fusion.pooling.method not in FUSIONS:
        raise UserError(
            f"{path} fuses by {fusion.pooling.method!r}, this program by {' | '.join(FUSIONS)}; "
            f"{AGAIN}"
        )
    if fusion.weights.keys() != fusion.temperatures.keys():
        raise UserError(f"{path} has other experts in weights than in temperatures; {AGAIN}")
    return fusion


def _fusion(found: dict[str, Any]) -> Fusion:
    pooling = {**found["pooling"], "coefficients": _unpacked(found["pooling"]["coefficients"])}
    unknown = found["unknown"]
    return Fusion(
        singers=tuple(found["singers"]),
        aggregate=found["aggregate"],
        temperatures=dict(found["temperatures"]),
        pooling=Pooling(**pooling),
        votes={name: Votes(**votes) for name, votes in found["votes"].items()},
        made_from=dict(found["made_from"]),
        probes={
            member: Probe(_unpacked(probe["weights"]), _unpacked(probe["bias"]))
            for member, probe in found["probes"].items()
        },
        score_norm=found["score_norm"],
        listening=InferenceConfig(**found["listening"]),
        results=tuple(ResultRow(**{**row, **_summary(row)}) for row in found["results"]),
        methods=tuple(_method(row) for row in found["methods"]),
        choices=tuple(found["choices"]),
        calibration=tuple(_calibration(row) for row in found["calibration"]),
        best_expert=found["best_expert"],
        unknown=Unknown.from_dict(unknown) if unknown else None,
        gate=Gate(**found["gate"]) if found["gate"] else None,
        embedded_by=dict(found["embedded_by"]),
        catalogue=found["catalogue"],
        vocals=found["vocals"],
        id=found["id"],
    )


def _method(row: dict[str, Any]) -> MethodRow:
    gains = {name: Estimate(**row[name]) for name in ("score_gain", "nll_gain")}
    return MethodRow(**{**row, **gains, **_summary(row)})


def _calibration(row: dict[str, Any]) -> CalibrationRow:
    pairs = {name: tuple(row[name]) for name in ("nll", "brier", "ece")}
    return CalibrationRow(**{**row, **pairs})


def _summary(row: dict[str, Any]) -> dict[str, Summary]:
    metrics = dict(row["metrics"])
    songs, error = metrics.pop("songs"), CalibrationError(**metrics.pop("ece"))
    estimates = {name: Estimate(**value) for name, value in metrics.items()}
    return {"metrics": Summary(songs=songs, ece=error, **estimates)}


def _packed(array: NDArray[np.float64]) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {"shape": list(array.shape), "float64": base64.b64encode(data).decode("ascii")}


def _unpacked(found: dict[str, Any]) -> NDArray[np.float64]:
    data = np.frombuffer(base64.b64decode(found["float64"], validate=True), dtype="<f8")
    return data.reshape(found["shape"]).astype(np.float64)
