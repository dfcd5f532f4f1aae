"""The ensemble over a run folder: members' stores become a fusion.

Embedding itself is handed in: no torch here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedder.artifact import file_fingerprint, replace_folder
from embedder.catalogue import Catalogue, stems_fingerprint
from embedder.config import MemberConfig
from embedder.errors import Command, UserError, did_you_mean
from embedder.inference.config import InferenceConfig
from embedder.inference.store import ATTENUATED, Store, check_store, origin, read_store
from embedder.models.separators.stem_record import separator_fingerprint
from embedder.run import SPLITS, Run, locked
from embedder.settings import network_record
from embedder.text import counted
from ensemble.fusion.fit import AUTO, fit_fusion, result_rows
from ensemble.fusion.fitted import (
    AS_TRAINED,
    Fusion,
    check_songs,
    read_fusion,
    with_id,
    write_fusion,
)
from ensemble.index.carry import Enrolled, enrolled_songs
from ensemble.index.members import MemberIndex, embedder_of, index_of
from ensemble.index.table import read_indexes
from ensemble.index.table import write_table as write_index
from ensemble.index.vectors import KINDS, Floats, Vectors, recall
from ensemble.open_set import TARGET_FPR
from ensemble.predictions import table_of, write_table
from ensemble.scoring import score_songs
from ensemble.verification.verification import VERIFICATION, fit_verification

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


@dataclass(frozen=True, eq=False)
class RunStores:
    """The members' stores of a run; what is read, checked or hashed is so once."""

    run: Run
    catalogue: Catalogue
    members: Sequence[str]
    inference: InferenceConfig = AS_TRAINED  # how the stores' songs must be embedded
    _read: dict[tuple[str, str], Store] = field(default_factory=dict, init=False)

    @cached_property
    def configs(self) -> dict[str, MemberConfig]:
        """Member → its settings."""
        return {name: network_record(self.run, name).config for name in self.members}

    @cached_property
    def checkpoints(self) -> dict[str, str]:
        """Member → hash of its weights."""
        return {name: file_fingerprint(self.run.weights(name)) for name in self.members}

    @cached_property
    def separator(self) -> str:
        """Fingerprint of what separates mixtures for members that take vocals."""
        return separator_fingerprint(self.run, self.catalogue)

    @property
    def has_attenuated(self) -> bool:
        """Whether all validation songs have both stems, so that their vocals can be lowered."""
        return all(song.vocals and song.backing for song in self.catalogue.of("validation"))

    @property
    def takes_vocals(self) -> bool:
        """Whether a member takes songs' vocal stems."""
        return any(config.train.recording == "vocals" for config in self.configs.values())

    def embedder(self, member: str) -> str:
        """What embeds a member's songs now, as `embedder_of` says it of its stores."""
        how = self.inference.made_from(self.configs[member])
        return embedder_of({"checkpoint": self.checkpoints[member], **how})

    def store(self, member: str, split: str) -> Store:
        """A member's store, which must be made from what there is now; `UserError` else."""
        if (member, split) not in self._read:
            store, config = read_store(self.run.store(member, split)), self.configs[member]
            separates = split == ATTENUATED and config.train.recording == "vocals"
            separator = self.separator if separates else ""
            made_from = origin(self.catalogue, split, config, self.inference, separator)
            check_store(store, self.checkpoints[member], made_from)
            self._read[member, split] = store
        return self._read[member, split]

    def of(self, split: str) -> list[Store]:
        """The members' stores of a split, none if it has no songs; `UserError` if one is stale."""
        if not self.catalogue.of(split):
            return []
        return [self.store(member, split) for member in self.members]

    def attenuated(self) -> list[Store]:
        """The members' stores of validation songs with lowered vocals; none without stems."""
        return [self.store(name, ATTENUATED) for name in self.members if self.has_attenuated]

    def stale(self) -> list[tuple[str, str]]:
        """(member, split) of each store that is missing or no longer fits.

        It must be of the member's checkpoint and of the catalogue's songs, or their vocal stems
        where the member takes these, embedded as `inference` says.
        """
        splits = [split for split in SPLITS if self.catalogue.of(split)]
        return [
            (name, split) for name in self.members for split in splits if self._bad(name, split)
        ]

    def stale_attenuated(self) -> list[str]:
        """The members whose store of attenuated songs is missing or stale; none without stems."""
        return [
            name for name in self.members if self.has_attenuated and self._bad(name, ATTENUATED)
        ]

    def _bad(self, member: str, split: str) -> bool:
        try:
            self.store(member, split)
        except (UserError, KeyError, TypeError):  # what is broken is refused when it is loaded
            return True
        return False


@dataclass(frozen=True)
class Choices:
    """What `fuse` can be asked for."""

    aggregate: str = "probability"  # a key of `AGGREGATES`
    method: str = AUTO  # a key of `FUSERS`, or "auto"
    score_norm: str = "none"  # a name in `SCORE_NORMS`
    target_fpr: float = TARGET_FPR  # share of unknown singers' songs that may get a name
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
    inference: InferenceConfig = AS_TRAINED,
    say: Callable[[str], None] | None = None,
) -> Fusion:
    """`fuse_stores` of the members' stores."""
    return fuse_stores(RunStores(run, catalogue, members, inference), choices, say)


def fuse_stores(
    stores: RunStores, choices: Choices = Choices(), say: Callable[[str], None] | None = None
) -> Fusion:
    """Fit the fusion of the members' stores and write index, fusion, verification and predictions.

    They are written into one new folder, which then takes the place of the old one: whatever
    interrupts this leaves a whole fusion, and nobody is enrolled meanwhile.

    Validation numbers are cross-fitted by album; where the catalogue has test songs, the fusion
    fitted on all validation songs answers them and has its own rows. Singers who were enrolled stay
    so, if the same members embedded them in the same way.

    Args:
        stores: the members' stores.
        choices: what can be asked for.
        say: called with each sentence that is worth a line.

    Raises:
        UserError: a store is missing, or does not fit its checkpoint, the catalogue or the others;
            a choice is not legal; enrolled singers would be lost; or another process fuses or
            enrolls in this run.
    """
    choices.check()
    run = stores.run
    new = replace(run, fused=f"{run.fused}.new")
    with locked(run, "fusion"):
        shutil.rmtree(new.fusion_folder, ignore_errors=True)  # a killed one's
        try:
            fusion = _write_all(stores, new, choices, say or (lambda _: None))
            replace_folder(new.fusion_folder, run.fusion_folder)
        finally:
            shutil.rmtree(new.fusion_folder, ignore_errors=True)
    return fusion


def _write_all(stores: RunStores, new: Run, choices: Choices, say: Callable[[str], None]) -> Fusion:
    """What `fuse_stores` does, into the folder of `new`."""
    enrolled = kept_enrolled(stores, choices.drop_enrolled)
    train, validation, test = (stores.of(split) for split in SPLITS)
    indexes = {store.member: _index(store, choices.index) for store in train}
    fusion, scores = fit_fusion(
        indexes,
        validation,
        choices.aggregate,
        choices.seed,
        method=choices.method,
        score_norm=choices.score_norm,
        target_fpr=choices.target_fpr,
        listening=stores.inference,
        attenuated=stores.attenuated(),
    )
    tables = {"validation": table_of(validation[0], scores)}
    if test:
        scores = score_songs(fusion, test, indexes).scores
        rows = result_rows(test[0], scores, seed=choices.seed)
        report = replace(fusion.report, results=(*fusion.report.results, *rows))
        fusion = replace(fusion, report=report)
        tables["test"] = table_of(test[0], scores)
    songs = stores.catalogue.songs
    fusion = replace(
        fusion,
        embedded_by={store.member: embedder_of(store.made_from) for store in train},
        catalogue=stores.catalogue.fingerprint(),
        vocals=stems_fingerprint(songs, "vocals") if stores.takes_vocals else "",
    )
    made_from = [str(sorted(store.made_from.items())) for store in train]
    fusion = with_id(fusion, [choices.index, *made_from])
    verification = fit_verification(train, validation, stores.inference)
    write_index(new.index_table, train, choices.index, enrolled.songs, fusion.id)
    held = {store.member: _some(store.segment_embeddings) for store in validation}

    def say_recall(member: str, built: Vectors, rows: Floats) -> None:
        if built.kind != "flat":
            say(
                f"{built.kind} index of {counted(len(built), 'segment')} of member {member}: "
                "recall@10 "
                f"{recall(built, rows, held[member]):.3f} against exact, "
                f"{len(held[member])} queries"
            )

    read_indexes(new.index_table, on_built=say_recall)
    write_fusion(new.fusion, fusion)
    VERIFICATION.write(new.verification, replace(verification, fusion=fusion.id))
    for split, table in tables.items():
        write_table(new.predictions / f"{split}.npz", table)
    if enrolled.problem:
        say(f"who was enrolled before is not known and enrolled no longer: {enrolled.problem}")
    if enrolled.songs:
        say(f"still enrolled: {', '.join(enrolled.songs)}")
    if enrolled.lost:
        say(f"no longer enrolled: {', '.join(enrolled.lost)}")
    return fusion


def kept_enrolled(stores: RunStores, drop: bool) -> Enrolled:
    """What stays enrolled when the members are fused; `UserError` if something would be lost.

    `drop`: it may be.
    """
    embedders = {name: stores.embedder(name) for name in stores.members}
    found = enrolled_songs(stores.run.index_table, embedders)
    if found.lost and not drop:
        raise UserError(
            f"what was enrolled of {', '.join(found.lost)} was embedded by other members or in "
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


def open_fusion(run: Run, names: Sequence[str] | None) -> tuple[Fusion, dict[str, MemberIndex]]:
    """The fusion and the indexes of its members, or of those of them that are named.

    Raises:
        UserError: there is no fusion, it is of other songs than the run has now, its index is not
            its own, or a named member is not part of it.
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
