"""A fitted fusion: all that turns experts' logits into one answer, and what was measured of it.

It lies in three files of one folder: parameters in `fusion.json`, arrays in `arrays.npz`, reported
tables in `results.json`. Prediction needs the first two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import Artifact, fingerprint
from embedder.catalogue import Catalogue, read_catalogue, stems_fingerprint
from embedder.errors import UserError
from embedder.inference.config import InferenceConfig
from embedder.inference.store import AGAIN, Store
from embedder.metrics import Summary
from embedder.run import Run
from embedder.statistics import Estimate
from ensemble.enrollment_gate import Gate
from ensemble.fusion.experts import gather
from ensemble.fusion.fusers import FUSERS, Fuser, method_of
from ensemble.fusion.knn import Votes
from ensemble.fusion.probe import Probe
from ensemble.index.members import MemberIndex, embedder_of
from ensemble.open_set import OpenSetThreshold

FUSION_FORMAT = 6  # of the three files together
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


@dataclass(frozen=True)
class FusionReport:
    """What was measured while a fusion was fitted."""

    results: tuple[ResultRow, ...] = ()
    methods: tuple[MethodRow, ...] = ()
    choices: tuple[str, ...] = ()  # the method that "fused" takes of each fold's songs
    calibration: tuple[CalibrationRow, ...] = ()
    best_expert: str = ""  # of the highest cross-fitted score, which methods are compared with


@dataclass(frozen=True, eq=False)
class Fusion:
    """All that is fitted to turn experts' logits into one set of probabilities."""

    singers: tuple[str, ...]  # label order, the trained ones
    aggregate: str  # how segment logits become song logits: a key of `AGGREGATES`
    temperatures: dict[str, float]  # expert → temperature; its keys are the experts, in order
    fuser: Fuser
    votes: dict[str, Votes]  # expert → how its neighbours vote
    made_from: dict[str, str]  # member → hash of its checkpoint
    probes: dict[str, Probe]  # member → its linear probe
    score_norm: str = "none"  # of neighbours' similarities: a name in `SCORE_NORMS`
    listening: InferenceConfig = AS_TRAINED  # how its songs were embedded, and new ones must be
    unknown: OpenSetThreshold | None = None  # None: too few singers to leave some out
    gate: Gate | None = None  # for singers who are enrolled; None likewise
    embedded_by: Mapping[str, str] = field(default_factory=dict)  # member → see `embedder_of`
    catalogue: str = ""  # fingerprint of the songs that it was fitted on
    vocals: str = ""  # of their vocal stems, where a member takes these
    id: str = ""  # stands in its index and arrays too: only files of one `fuse` go together
    report: FusionReport = FusionReport()  # empty where only parameters were handed on

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts' names, in order."""
        return tuple(self.temperatures)

    @property
    def method(self) -> str:
        """How it fuses: a key of `FUSERS`."""
        return method_of(self.fuser)

    @property
    def weights(self) -> dict[str, float]:
        """Expert → weight, 0 or more."""
        return self.fuser.weights

    @property
    def members(self) -> tuple[str, ...]:
        """The members' names, in order."""
        return tuple(self.made_from)

    def expert_logits(
        self,
        stores: Sequence[Store],
        indexes: Mapping[str, MemberIndex],
        without: int | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Uncalibrated logits (songs, singers) of each expert, of one store a member.

        `without`: no neighbour is a song of the singer of this label. Raises `UserError` if the
        stores know other singers than the fusion, and what `experts.gather` raises.
        """
        found = gather(
            stores,
            indexes,
            self.aggregate,
            self.probes,
            self.score_norm,
            self.experts,
            without,
        )
        if found.singers != self.singers:
            raise UserError(f"the fusion knows other singers than the stores; {AGAIN}")
        return found.scores(self.votes)


# What it fits ------------------------------------------------------------------------------------


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


# Files -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FusionArrays:
    """The arrays of a fusion."""

    id: str  # of the fusion
    fuser: dict[str, NDArray[np.floating[Any]]]  # its parameters that are arrays
    probes: dict[str, Probe]


PARAMETERS: Artifact[dict[str, Any]] = Artifact("fusion", FUSION_FORMAT, dict[str, Any], AGAIN)
ARRAYS = Artifact("file of a fusion's arrays", FUSION_FORMAT, FusionArrays, AGAIN)
RESULTS = Artifact("file of a fusion's results", FUSION_FORMAT, FusionReport, AGAIN, finite=False)


def arrays_of(path: Path) -> Path:
    """The arrays' file beside `fusion.json`."""
    return path.with_name("arrays.npz")


def results_of(path: Path) -> Path:
    """The reported tables' file beside `fusion.json`."""
    return path.with_name("results.json")


def with_id(fusion: Fusion, index_from: Sequence[str]) -> Fusion:
    """The fusion with its id: a hash of its parameters, and of what its index is made from."""
    parameters, arrays = _split(fusion)
    probes = [part for probe in arrays.probes.values() for part in (probe.weights, probe.bias)]
    numbers = [array.tobytes() for array in (*arrays.fuser.values(), *probes)]
    return replace(fusion, id=fingerprint(repr(parameters), *numbers, *index_from))


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Write `fusion.json` at `path`, and its arrays and results beside it, each atomically."""
    parameters, arrays = _split(fusion)
    PARAMETERS.write(path, parameters)
    ARRAYS.write(arrays_of(path), arrays)
    RESULTS.write(results_of(path), fusion.report)


def read_fusion(path: Path) -> Fusion:
    """Read what `write_fusion` wrote; results only where they lie beside it.

    Raises:
        UserError: a file cannot be used, which it names, or does not belong to the others.
    """
    found = PARAMETERS.read(path)
    pooling = found.pop("pooling", None)
    parameters = dict(pooling) if isinstance(pooling, dict) else {}
    if (method := parameters.pop("method", "nothing")) not in FUSERS:
        raise UserError(
            f"{path} fuses by {method!r}, this program by {' | '.join(FUSERS)}; {AGAIN}"
        )
    arrays = ARRAYS.read(arrays_of(path))
    if arrays.id != found.get("id"):
        raise UserError(f"{arrays_of(path)} belongs to another fusion than {path}; {AGAIN}")
    kind = Artifact("fusion", FUSION_FORMAT, FUSERS[method], AGAIN)
    fuser = kind.parse(parameters | arrays.fuser, path)
    whole = Artifact("fusion", FUSION_FORMAT, Fusion, AGAIN)
    fusion = whole.parse(found | {"fuser": fuser, "probes": arrays.probes}, path)
    if fusion.weights.keys() != fusion.temperatures.keys():
        raise UserError(f"{path} has other experts in weights than in temperatures; {AGAIN}")
    if results_of(path).is_file():
        fusion = replace(fusion, report=RESULTS.read(results_of(path)))
    return fusion


def _split(fusion: Fusion) -> tuple[dict[str, Any], FusionArrays]:
    """Parameters, and arrays."""
    parts = {item.name: getattr(fusion, item.name) for item in fields(Fusion)}
    fuser, probes, _ = (parts.pop(name) for name in ("fuser", "probes", "report"))
    fitted = {item.name: getattr(fuser, item.name) for item in fields(fuser)}
    arrays = {name: part for name, part in fitted.items() if isinstance(part, np.ndarray)}
    numbers = {name: part for name, part in fitted.items() if name not in arrays}
    parts["pooling"] = {"method": fusion.method, **numbers}
    return parts, FusionArrays(fusion.id, arrays, probes)
