"""The ensemble over a run folder: stores become a fusion.

Enters: members' stores on disk. Leaves: `fusion/`, and the fusion with its
indexes opened again. Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import file_fingerprint, read_json, replace_folder
from embedder.catalogue import Catalogue, stems_fingerprint
from embedder.config import MemberConfig
from embedder.errors import Command, UserError, did_you_mean
from embedder.inference.config import InferenceConfig
from embedder.inference.store import REMADE, Store, check_store, origin, read_store
from embedder.run import SPLITS, Run, locked
from embedder.settings import config_from_dict, train_again
from embedder.stem_record import separator_fingerprint
from ensemble.apply import predict_songs
from ensemble.enrolled.carry import Enrolled, enrolled_songs
from ensemble.fusion.fit import AUTO, fit_fusion, result_rows
from ensemble.fusion.fitted import (
    AS_TRAINED,
    Fusion,
    check_songs,
    read_fusion,
    with_id,
    write_fusion,
)
from ensemble.index.members import MemberIndex, embedder_of, index_of
from ensemble.index.table import read_indexes
from ensemble.index.table import write_table as write_index
from ensemble.index.vectors import KINDS, Floats, Vectors, recall
from ensemble.open_set import TARGET_FPR
from ensemble.predictions import table_of, write_table
from ensemble.verification.verification import fit_verification, write_verification

HELD = 1000  # segments of validation songs by which an approximate index is measured


def choose_members(run: Run, names: Sequence[str] | None) -> list[str]:
    """The named members, or all that are trained; `UserError` if there is no such one."""
    trained = run.member_names()
    if not trained:
        raise UserError(
            f"no member is trained in {run.members}; train one: {Command('train-embedder')}"
        )
    missing = [name for name in names or () if name not in trained]
    if missing:
        raise UserError(
            f"there is no member '{missing[0]}'{did_you_mean(missing[0], trained)}; "
            f"members are: {', '.join(trained)}"
        )
    return list(dict.fromkeys(names or trained))


def stale_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], listening: InferenceConfig = AS_TRAINED
) -> list[tuple[str, str]]:
    """(member, split) of each store that is missing or no longer fits.

    It must be of the member's checkpoint and of the catalogue's songs, or their vocal stems where
    the member takes these, heard as `listening` says.
    """
    stale = []
    for member in members:
        for split in SPLITS:
            if not catalogue.of(split):
                continue
            try:
                _checked_store(run, catalogue, member, split, listening)
            except (UserError, KeyError, TypeError):  # what is broken is refused when it is loaded
                stale.append((member, split))
    return stale


def can_remake(catalogue: Catalogue) -> bool:
    """Whether all validation songs have both stems, so that their vocals can be turned down."""
    return all(song.vocals and song.backing for song in catalogue.of("validation"))


def stale_remade(
    run: Run, catalogue: Catalogue, members: Sequence[str], listening: InferenceConfig = AS_TRAINED
) -> list[str]:
    """The members whose store of remade songs is missing or no longer fits; none without stems."""
    stale = []
    for member in members if can_remake(catalogue) else ():
        try:
            _checked_store(run, catalogue, member, REMADE, listening)
        except (UserError, KeyError, TypeError):
            stale.append(member)
    return stale


def _checked_store(
    run: Run, catalogue: Catalogue, member: str, split: str, listening: InferenceConfig
) -> Store:
    """A member's store, which must be made from what there is now; `UserError` where it is not."""
    store = read_store(run.store(member, split))
    config, separator = _config(run, member), ""
    if split == REMADE and config.train.recording == "vocals":
        separator = separator_fingerprint(run, catalogue)
    made_from = origin(catalogue, split, config, listening, separator)
    check_store(store, file_fingerprint(run.weights(member)), made_from)
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
            raise UserError(
                f"--index {self.index}{did_you_mean(self.index, KINDS)} is not legal; "
                f"it must be {' | '.join(KINDS)}"
            )
        if not 0 < self.target_fpr < 1:
            raise UserError(f"--target_fpr {self.target_fpr:g} must lie between 0 and 1")


def fuse_run(
    run: Run,
    catalogue: Catalogue,
    members: Sequence[str],
    choices: Choices = Choices(),
    listening: InferenceConfig = AS_TRAINED,
    say: Callable[[str], None] | None = None,
) -> Fusion:
    """Fit the fusion of the members' stores and write index, fusion, verification and predictions.

    They are written into one new folder, which then takes the place of the old one: whatever
    interrupts this leaves a whole fusion, and nobody is enrolled meanwhile.

    Validation numbers are cross-fitted by album; where the catalogue has test songs, the fusion
    fitted on all validation songs answers them and has its own rows. Singers who were enrolled stay
    so, if the same members heard them in the same way. `say` is told what is worth a line.

    Raises:
        UserError: a store is missing, or does not fit its checkpoint, the catalogue or the others;
            a choice is not legal; enrolled singers would be lost; or another process fuses or
            enrolls in this run.
    """
    choices.check()
    new = replace(run, fused=f"{run.fused}.new")
    with locked(run, "fusion"):
        shutil.rmtree(new.fusion_folder, ignore_errors=True)  # a killed one's
        try:
            fusion = _write_all(run, new, catalogue, members, choices, listening, say)
            replace_folder(new.fusion_folder, run.fusion_folder)
        finally:
            shutil.rmtree(new.fusion_folder, ignore_errors=True)
    return fusion


def _write_all(
    run: Run,
    new: Run,
    catalogue: Catalogue,
    members: Sequence[str],
    choices: Choices,
    listening: InferenceConfig,
    say: Callable[[str], None] | None,
) -> Fusion:
    """What `fuse_run` does, into the folder of `new`."""
    enrolled = kept_enrolled(run, members, choices, listening)
    stores = {split: read_stores(run, catalogue, members, split, listening) for split in SPLITS}
    remade = [
        _checked_store(run, catalogue, member, REMADE, listening)
        for member in members
        if can_remake(catalogue)
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
        rows = result_rows(stores["test"][0], scores, seed=choices.seed)
        fusion = replace(fusion, results=(*fusion.results, *rows))
        tables["test"] = table_of(stores["test"][0], scores)
    takes_vocals = any(_config(run, name).train.recording == "vocals" for name in members)
    fusion = replace(
        fusion,
        embedded_by={store.member: embedder_of(store.made_from) for store in stores["train"]},
        catalogue=catalogue.fingerprint(),
        vocals=stems_fingerprint(catalogue.songs, "vocals") if takes_vocals else "",
    )
    made_from = [str(sorted(store.made_from.items())) for store in stores["train"]]
    fusion = with_id(fusion, [choices.index, *made_from])
    verification = fit_verification(stores["train"], stores["validation"], listening)
    write_index(new.index_table, stores["train"], choices.index, enrolled.songs, fusion.id)
    held = {store.member: _some(store.segment_embeddings) for store in stores["validation"]}

    def tell_recall(member: str, built: Vectors, rows: Floats) -> None:
        if built.kind != "flat":
            tell(
                f"{built.kind} index of {len(built)} segments of member {member}: recall@10 "
                f"{recall(built, rows, held[member]):.3f} against exact, "
                f"{len(held[member])} queries"
            )

    read_indexes(new.index_table, on_built=tell_recall)
    write_fusion(new.fusion, fusion)
    write_verification(new.verification, replace(verification, fusion=fusion.id))
    for split, table in tables.items():
        write_table(new.predictions / f"{split}.npz", table)
    if enrolled.problem:
        tell(f"who was enrolled before is not known and enrolled no longer: {enrolled.problem}")
    if enrolled.songs:
        tell(f"still enrolled: {', '.join(enrolled.songs)}")
    if enrolled.lost:
        tell(f"no longer enrolled: {', '.join(enrolled.lost)}")
    return fusion


def kept_enrolled(
    run: Run, members: Sequence[str], choices: Choices, listening: InferenceConfig
) -> Enrolled:
    """What stays enrolled when these members are fused; `UserError` if something would be lost."""
    embedders = {
        name: embedder_of(
            {
                "checkpoint": file_fingerprint(run.weights(name)),
                **listening.made_from(_config(run, name)),
            }
        )
        for name in members
    }
    found = enrolled_songs(run.index_table, embedders)
    if found.lost and not choices.drop_enrolled:
        raise UserError(
            f"what was enrolled of {', '.join(found.lost)} was heard by other members or in "
            "another way and would be lost; --drop_enrolled lets it go, to be enrolled again: "
            f"{Command('enroll', singer=found.lost[0], audio_dir='SONGS')}"
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


def _config(run: Run, member: str) -> MemberConfig:
    """A member's settings."""
    found = read_json(run.member(member) / "config.json", train_again(run, member))
    return config_from_dict(found["config"])


def read_stores(
    run: Run, catalogue: Catalogue, members: Sequence[str], split: str, listening: InferenceConfig
) -> list[Store]:
    """The members' stores of a split, none if it has no songs; `UserError` if one does not fit."""
    if not catalogue.of(split):
        return []
    return [_checked_store(run, catalogue, member, split, listening) for member in members]


def open_fusion(run: Run, names: Sequence[str] | None) -> tuple[Fusion, dict[str, MemberIndex]]:
    """The fusion and the indexes of its members, or of those of them that are named.

    Raises `UserError` if there is no fusion, it is of other songs than the run has now, its index
    is not its own, or a named member is not part of it.
    """
    fusion = read_fusion(run.fusion)
    check_songs(run, fusion)
    missing = [name for name in names or () if name not in fusion.members]
    if missing:
        raise UserError(
            f"member {missing[0]}{did_you_mean(missing[0], fusion.members)} is not in the fusion, "
            f"which has {', '.join(fusion.members)}; "
            f"run again: {Command('fuse', members=','.join((*fusion.members, missing[0])))}"
        )
    chosen = list(dict.fromkeys(names or fusion.members))
    return fusion, read_indexes(run.index_table, chosen, fusion=fusion.id)
