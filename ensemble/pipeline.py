"""The ensemble over a run folder: stores become a fusion.

Enters: members' stores on disk. Leaves: `fusion/` and `predictions/`, and the fusion with its
indexes opened again. Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts import SPLITS, Run, file_fingerprint, read_json
from embedder.catalogue import Catalogue
from embedder.errors import UserError
from embedder.listening import Listening
from embedder.settings import config_from_dict
from embedder.store import REMADE, REMADE_FROM, Store, check_store, read_store
from ensemble.apply import predict_songs
from ensemble.enrolled.carry import Enrolled, enrolled_songs
from ensemble.fuse import AUTO, fit_fusion, result_rows
from ensemble.fusion import AS_TRAINED, Fusion, read_fusion, write_fusion
from ensemble.index.members import MemberIndex, index_of
from ensemble.index.table import read_indexes
from ensemble.index.table import write_table as write_index
from ensemble.index.vectors import KINDS
from ensemble.predictions import table_of, write_table
from ensemble.unknown import TARGET_FPR
from ensemble.verification.verification import fit_verification, write_verification

HELD = 1000  # segments of validation songs by which an approximate index is measured


def choose_members(run: Run, names: Sequence[str] | None) -> list[str]:
    """The named members, or all that are trained; `UserError` if there is no such one."""
    trained = run.member_names()
    if not trained:
        raise UserError(
            f"no member is trained in {run.members}; train one: python app.py train-embedder"
        )
    missing = [name for name in names or () if name not in trained]
    if missing:
        raise UserError(f"there is no member '{missing[0]}'; members are: {', '.join(trained)}")
    return list(dict.fromkeys(names or trained))


def stale_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], listening: Listening = AS_TRAINED
) -> list[tuple[str, str]]:
    """(member, split) of each store that is missing or no longer fits.

    It must be of the member's checkpoint and of the catalogue's songs, heard as `listening` says.
    """
    songs = catalogue.fingerprint()
    stale = []
    for member in members:
        checkpoint = file_fingerprint(run.weights(member))
        for split in SPLITS:
            if not catalogue.of(split):
                continue
            try:
                heard = _heard(run, member, listening)
                check_store(read_store(run.store(member, split)), checkpoint, songs, heard)
            except (UserError, KeyError, TypeError):  # what is broken is refused when it is loaded
                stale.append((member, split))
    return stale


def can_remake(catalogue: Catalogue) -> bool:
    """Whether all validation songs have both stems, so that their vocals can be turned down."""
    return all(song.vocals and song.backing for song in catalogue.of("validation"))


def stale_remade(
    run: Run, catalogue: Catalogue, members: Sequence[str], listening: Listening = AS_TRAINED
) -> list[str]:
    """The members whose store of remade songs is missing or no longer fits; none without stems."""
    stale = []
    for member in members if can_remake(catalogue) else ():
        try:
            _remade(run, catalogue, member, listening)
        except (UserError, KeyError, TypeError):
            stale.append(member)
    return stale


def _remade(run: Run, catalogue: Catalogue, member: str, listening: Listening) -> Store:
    store = read_store(run.store(member, REMADE))
    heard = {**_heard(run, member, listening), **REMADE_FROM}
    check_store(store, file_fingerprint(run.weights(member)), catalogue.fingerprint(), heard)
    return store


@dataclass(frozen=True)
class Choices:
    """What `fuse` can be asked for."""

    aggregate: str = "probability"  # a key of `AGGREGATES`
    method: str = AUTO  # a key of `FUSIONS`, or "auto"
    score_norm: str = "none"  # a name in `SCORE_NORMS`
    target_fpr: float = TARGET_FPR  # share of strangers' songs that may get a name
    index: str = "flat"  # a key of `KINDS`, of the segments' index
    drop_enrolled: bool = False  # singers enrolled by other members may be lost
    seed: int = 0

    def check(self) -> None:
        """Raise `UserError` for an index or a share that is not legal."""
        if self.index not in KINDS:
            raise UserError(f"--index {self.index} is not legal; it must be {' | '.join(KINDS)}")
        if not 0 < self.target_fpr < 1:
            raise UserError(f"--target_fpr {self.target_fpr:g} must lie between 0 and 1")


def fuse_run(
    run: Run,
    catalogue: Catalogue,
    members: Sequence[str],
    choices: Choices = Choices(),
    listening: Listening = AS_TRAINED,
    say: Callable[[str], None] | None = None,
) -> Fusion:
    """Fit the fusion of the members' stores and write index, fusion, verification and predictions.

    Validation numbers are cross-fitted by album; where the catalogue has test songs, the fusion
    fitted on all validation songs answers them and has its own rows. Singers who were enrolled stay
    so, if the same members heard them in the same way. `say` is told what is worth a line.

    Raises:
        UserError: a store is missing, or does not fit its checkpoint, the catalogue or the others;
            a choice is not legal; or enrolled singers would be lost.
    """
    choices.check()
    enrolled = kept_enrolled(run, members, choices, listening)
    stores = {split: read_stores(run, catalogue, members, split, listening) for split in SPLITS}
    remade = [
        _remade(run, catalogue, member, listening) for member in members if can_remake(catalogue)
    ]
    tell = say or (lambda _: None)
    indexes = {store.member: _index(store, choices.index) for store in stores["train"]}
    fusion, scores = fit_fusion(
        indexes,
        stores["validation"],
        choices.aggregate,
        choices.seed,
        method=choices.method,
        score_norm=choices.score_norm,
        target_fpr=choices.target_fpr,
        listening=listening,
        remade=remade,
    )
    tables = {"validation": table_of(stores["validation"][0], scores)}
    if catalogue.of("test"):
        scores = predict_songs(fusion, stores["test"], indexes).scores
        rows = result_rows(stores["test"][0].labels, scores, "test", seed=choices.seed)
        fusion = replace(fusion, results=(*fusion.results, *rows))
        tables["test"] = table_of(stores["test"][0], scores)
    verification = fit_verification(stores["train"], stores["validation"], listening)
    for split in SPLITS:
        if split not in tables:
            (run.predictions / f"{split}.npz").unlink(missing_ok=True)
    write_index(run.index_table, stores["train"], choices.index, enrolled.songs)
    held = {store.member: _some(store.segment_embeddings) for store in stores["validation"]}
    read_indexes(run.index_table, held=held, say=tell)
    write_fusion(run.fusion, fusion)
    write_verification(run.verification, verification)
    for split, table in tables.items():
        write_table(run.predictions / f"{split}.npz", table)
    if enrolled.songs:
        tell(f"still enrolled: {', '.join(enrolled.songs)}")
    if enrolled.lost:
        tell(f"no longer enrolled: {', '.join(enrolled.lost)}")
    return fusion


def kept_enrolled(
    run: Run, members: Sequence[str], choices: Choices, listening: Listening
) -> Enrolled:
    """What stays enrolled when these members are fused; `UserError` if something would be lost."""
    checkpoints = {name: file_fingerprint(run.weights(name)) for name in members}
    found = enrolled_songs(run.index_table, run.fusion, checkpoints, listening)
    if found.lost and not choices.drop_enrolled:
        raise UserError(
            f"what was enrolled of {', '.join(found.lost)} was heard by other members or in "
            "another way and would be lost; --drop_enrolled lets it go, to be enrolled again: "
            "python app.py enroll"
        )
    return found


def _some(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most `HELD` rows, evenly taken."""
    return rows[np.linspace(0, len(rows) - 1, min(HELD, len(rows))).astype(np.int64)]


def _index(store: Store, kind: str) -> MemberIndex:
    try:
        return index_of(store, kind)
    except ValueError as error:
        raise UserError(f"--index {kind}, member {store.member}: {error}") from None


def _heard(run: Run, member: str, listening: Listening) -> dict[str, str]:
    """What a member's stores must say of how its songs were heard."""
    config = read_json(run.member(member) / "config.json")["config"]
    return listening.made_from(config_from_dict(config))


def read_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], split: str, listening: Listening
) -> list[Store]:
    """The members' stores of a split, none if it has no songs; `UserError` if one does not fit."""
    if not catalogue.of(split):
        return []
    found = []
    for member in members:
        store = read_store(run.store(member, split))
        checkpoint, heard = file_fingerprint(run.weights(member)), _heard(run, member, listening)
        check_store(store, checkpoint, catalogue.fingerprint(), heard)
        found.append(store)
    return found


def open_fusion(run: Run, names: Sequence[str] | None) -> tuple[Fusion, dict[str, MemberIndex]]:
    """The fusion and the indexes of its members, or of those of them that are named.

    Raises `UserError` if there is no fusion, or a named member is not part of it.
    """
    fusion = read_fusion(run.fusion)
    missing = [name for name in names or () if name not in fusion.members]
    if missing:
        raise UserError(
            f"member {missing[0]} is not in the fusion, which has {', '.join(fusion.members)}; "
            "run again: python app.py fuse"
        )
    return fusion, read_indexes(run.index_table, list(dict.fromkeys(names or fusion.members)))
