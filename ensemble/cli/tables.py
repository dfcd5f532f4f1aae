"""What `fuse` and `evaluate --verification` print, each table with split, level and songs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from embedder.catalogue import read_catalogue
from embedder.console import print_table, say
from embedder.run import Run
from embedder.text import counted
from ensemble.fusion.fitted import Fusion
from ensemble.open_set import OpenSetThreshold

if TYPE_CHECKING:
    from ensemble.verification.verification import VerificationResult


def print_fusion(fusion: Fusion) -> None:
    """All that a fusion has to show."""
    print_results(fusion)
    print_calibration(fusion)
    print_methods(fusion)
    if fusion.unknown:
        print_unknown(fusion.unknown)


def print_results(fusion: Fusion) -> None:
    """The experts and the fused answer, a row each."""
    for split in dict.fromkeys(row.split for row in fusion.report.results):
        rows = [row for row in fusion.report.results if row.split == split]
        how = (
            "cross-fitted by album (only the members' epochs were chosen on them)"
            if rows[0].cross_fitted
            else "nothing was fitted or chosen on them"
        )
        print_table(
            f"{split} songs: {rows[0].metrics.songs} of {rows[0].metrics.top_1.groups} albums, "
            f"{rows[0].level} level, {how}; 95 % intervals: bootstrap over albums",
            ("expert", "weight", "top-1", "top-3", "score", "macro F1", "NLL", "ECE"),
            [
                (
                    row.expert,
                    f"{fusion.weights[row.expert]:.2f}" if row.expert in fusion.weights else "",
                    *map(str, (m.top_1, m.top_3, m.score, m.macro_f1, m.nll, m.ece)),
                )
                for row in rows
                for m in [row.metrics]
            ],
        )
        shares = [share for row in rows for share in (row.metrics.top_1, row.metrics.top_3)]
        if perfect := next((share for share in shares if share.value == 1), None):
            say(
                f"1.000: no mistake in {perfect.groups} {split} albums, which chance would show "
                f"with mistakes in up to {1 - perfect.low:.1%} of albums"
            )
    say(
        "ECE (calibrated: to x): were every confidence exactly right, 95 of 100 such sets of songs "
        "would show x or less"
    )


def print_calibration(fusion: Fusion) -> None:
    """What each expert's temperature, and how its neighbours vote, are worth."""
    print_table(
        f"Calibration: {_songs(fusion)} validation songs, before and after, cross-fitted by album",
        ("expert", "temperature", "k", "tau", "NLL", "Brier", "ECE"),
        [
            (
                row.expert,
                f"{fusion.temperatures[row.expert]:.2f}",
                *(
                    (f"{fusion.votes[row.expert].k}", f"{fusion.votes[row.expert].tau:g}")
                    if "/knn_" in row.expert
                    else ("", "")
                ),
                *(f"{a:.3f} → {b:.3f}" for a, b in (row.nll, row.brier, row.ece)),
            )
            for row in fusion.report.calibration
        ],
    )


def print_methods(fusion: Fusion) -> None:
    """The ways to fuse beside the best single expert, and which one was taken."""
    print_table(
        f"Ways to fuse: {_songs(fusion)} validation songs, cross-fitted by album; gains over the "
        f"best single expert, {fusion.report.best_expert}, with 95 % intervals of the paired "
        "difference, bootstrap over albums",
        ("method", "top-1", "score", "NLL", "Brier", "ECE", "gain in score", "gain in NLL"),
        [
            (
                f"{row.method} *" if row.method == fusion.method else row.method,
                *(f"{e.value:.3f}" for e in (m.top_1, m.score, m.nll, m.brier, m.ece)),
                f"{row.score_gain.value:+.3f} [{row.score_gain.low:+.3f}, "
                f"{row.score_gain.high:+.3f}]",
                f"{row.nll_gain.value:+.3f} [{row.nll_gain.low:+.3f}, {row.nll_gain.high:+.3f}]",
            )
            for row in fusion.report.methods
            for m in [row.metrics]
        ],
    )
    say(verdict(fusion))
    if len(set(fusion.report.choices)) > 1 or set(fusion.report.choices) != {fusion.method}:
        counts = Counter(fusion.report.choices).most_common()
        each = ", ".join(f"{name} for {count} of them" for name, count in counts)
        say(
            f"the row fused above is not that of {fusion.method}: for each of "
            f"{len(fusion.report.choices)} folds of albums the other folds chose the method, too "
            f"({each})"
        )
    if any(row.method == "stack" and row.metrics.top_1.value == 0 for row in fusion.report.methods):
        say("stack learns only singers of whom it saw another validation album, hence its 0")


def verdict(fusion: Fusion) -> str:
    """Which method was taken and whether it is better than the best single expert."""
    taken = next(row for row in fusion.report.methods if row.method == fusion.method)
    lowest = min(fusion.report.methods, key=lambda row: row.metrics.nll.value)
    if len(fusion.report.methods) == 1:
        why = "it was asked for"
    elif lowest is taken:
        why = "it has the lowest cross-fitted NLL"
    else:
        why = (
            f"the lowest cross-fitted NLL, that of {lowest.method}, is lower by less than "
            "two standard errors"
        )
    gain = taken.score_gain
    if gain.low > 0:
        said = "its score is above that of every single expert"
    elif gain.high < 0:
        said = f"its score is below that of {fusion.report.best_expert} alone"
    else:
        said = f"its score cannot be told apart from that of {fusion.report.best_expert} alone"
    return f"taken: {taken.method}, for {why}; {said} (difference in score {gain})"


def print_unknown(unknown: OpenSetThreshold) -> None:
    """How well unknown singers are told from known ones."""
    at = f"at {unknown.measure} {unknown.threshold:.3f}, cross-fitted"
    print_table(
        f"Unknown singers: {unknown.songs} validation songs of "
        f"{counted(unknown.singers, 'singer')}, and the "
        "same with their singers left out; 95 % intervals: bootstrap over singers",
        ("measure", "value"),
        [
            *(
                (f"AUROC of {name}{' *' if name == unknown.measure else ''}", str(area))
                for name, area in unknown.auroc.items()
            ),
            (f"false positives at 95 % recall, {unknown.measure}", str(unknown.fpr_95)),
            (f"false positives {at} (target {unknown.target_fpr:g})", str(unknown.fpr)),
            (f"top-1 of known singers {at}", str(unknown.accuracy)),
            ("top-1 of known singers without a threshold", str(unknown.accuracy_before)),
        ],
    )
    say(
        f"* tells unknown singers in predict --unknown; its threshold rests on {unknown.songs} "
        f"songs of {counted(unknown.singers, 'singer')} left out, and no lower target than "
        f"{1 / (unknown.songs + 1):.3f} can be kept with so few"
    )


def _songs(fusion: Fusion) -> int:
    return fusion.report.methods[0].metrics.songs


def evaluate_verification(run: Run, seed: int) -> None:
    """Print how well the run's verification tells singers apart, for each split that has songs.

    Raises `UserError` without a fusion or its verification, or where the songs make no trials.
    """
    from ensemble.fusion.pipeline import RunStores, open_fusion
    from ensemble.verification.verification import (
        VERIFICATION,
        check_verification,
        measure_verification,
    )

    fusion, _ = open_fusion(run, None)
    verification = VERIFICATION.read(run.verification)
    check_verification(verification, fusion.id)
    fitted, catalogue = verification.of(fusion.members), read_catalogue(run.catalogue)
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
        "unknown singers are harder to tell apart than this says"
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
