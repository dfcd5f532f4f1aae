"""What `evaluate --verification` prints: how well a run tells singers apart.

Enters: a fused run. Leaves: tables of trials and error rates, for validation and test songs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedder.cli.options import catalogue_of
from embedder.console import print_table, say
from embedder.run import Run

if TYPE_CHECKING:
    from ensemble.verification.verification import VerificationResult


def evaluate_verification(run: Run, seed: int) -> None:
    """Print how well the run's verification tells singers apart, for each split that has songs.

    Raises `UserError` without a fusion or its verification, or where the songs make no trials.
    """
    from ensemble.fusion.pipeline import RunStores, open_fusion
    from ensemble.verification.verification import (
        check_verification,
        measure_verification,
        read_verification,
    )

    fusion, _ = open_fusion(run, None)
    verification = read_verification(run.verification)
    check_verification(verification, fusion.id)
    fitted, catalogue = verification.of(fusion.members), catalogue_of(run)
    stores = RunStores(run, catalogue, fusion.members, fusion.listening)
    splits = {split: stores.of(split) for split in ("validation", "test") if catalogue.of(split)}
    for split, songs in splits.items():
        judge = None if split == "validation" else fitted
        found = measure_verification(stores.of("train"), songs, judge, seed)
        if isinstance(found, str):
            say(f"{split} songs: {found}")
        else:
            print_verification(found)
    say(
        "all singers are known ones, and the members were trained on the training songs: "
        "strangers are harder to tell apart than this says"
    )


def print_verification(found: VerificationResult) -> None:
    """The trials of one split and what was measured on them."""
    pairs = {"training songs": found.with_training, "each other": found.among_themselves}
    total = tuple(map(sum, zip(*pairs.values(), strict=True)))
    print_table(
        f"{found.split} songs: {found.songs} of {found.albums} albums, paired across albums",
        ("paired with", "one singer", "two singers"),
        [(name, *map(str, counts)) for name, counts in {**pairs, "in all": total}.items()],
    )
    rows = [("EER", found.eer), ("minDCF (p = 0.05)", found.min_dcf)]
    if judged := found.judged:
        how = "cross-fitted by album" if judged.cross_fitted else "fitted on validation songs"
        rows += [
            (f"misses at the threshold, {how}", judged.miss),
            (f"false alarms at the threshold, {how}", judged.false_alarm),
            (f"Cllr of the probabilities, {how}", judged.cllr),
        ]
    else:
        say("too few albums to cross-fit a threshold by")
    print_table(
        f"{found.split} songs: verification, song level, bootstrap 95 % intervals over albums",
        ("measure", "value", "95 % interval"),
        [(name, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}") for name, e in rows],
    )
