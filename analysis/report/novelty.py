"""What this run's system does differently, and what that is known to do.

Enters: `Facts`, the fusion and its results. Leaves: `Novelty` rows; only what is true of the run,
and an effect only where the run holds its number.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.report.facts import Facts, MemberFacts
from analysis.report.sentences import calibration_sentence, gain_sentence, members_sentence
from analysis.wording import counted
from ensemble.fusion.experts import kind_of
from ensemble.fusion.fitted import Fusion, ResultRow

HEARS = {
    "mix": "mixtures",
    "vocals": "vocal stems",
    "both": "mixtures and vocal stems",
    "separated": "vocals separated from mixtures",
}


@dataclass(frozen=True)
class Novelty:
    """One thing that the system does."""

    what: str
    effect: str = ""  # "" where this run does not hold its number


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def novelties(facts: Facts, fusion: Fusion | None, rows: tuple[ResultRow, ...]) -> list[Novelty]:
    """All of them; `rows`: results of validation songs."""
    found = [_stems(facts, rows), _remixed(facts.members), _overlaid(facts.members)]
    if facts.separator:
        gain = facts.separator
        found.append(
            Novelty(
                "The vocals are separated by a network of the run itself.",
                f"On {counted(gain.songs, 'validation song')} mixed at 0 dB it adds "
                f"{gain.estimate.value:.1f} dB of SI-SDR (95% interval {gain.estimate.low:.1f} to "
                f"{gain.estimate.high:.1f}).",
            )
        )
    if fusion is not None:
        found += [_experts(fusion), _calibrated(fusion), _detector(facts, fusion)]
        if fusion.unknown:
            area = fusion.unknown.auroc[fusion.unknown.measure]
            songs = counted(fusion.unknown.songs, "song")
            effect = (
                f"Leaving each singer out in turn, it tells {songs} of known singers from as many "
                f"of nobody with an AUROC of {area.value:.3f} (95% interval {area.low:.3f} to "
                f"{area.high:.3f})."
            )
            found.append(Novelty("It can say that a song is by none of its singers.", effect))
    return [one for one in found if one is not None]


def _stems(facts: Facts, rows: tuple[ResultRow, ...]) -> Novelty | None:
    heard = {one.name: HEARS[one.config.train.stem] for one in facts.members if one.config}
    if len(set(heard.values())) < 2:
        return None
    each = "; ".join(f"{name} hears {what}" for name, what in heard.items())
    return Novelty(f"Members listen to different things: {each}.", members_sentence(rows))


def _remixed(members: tuple[MemberFacts, ...]) -> Novelty | None:
    remixed = [one for one in members if one.remixed and one.config and one.config.augment.remix]
    if not remixed:
        return None
    shares = sorted({one.config.augment.remix for one in remixed if one.config})
    share = f"{shares[0]:.0%}"
    if len(shares) > 1:
        share += f" to {shares[-1]:.0%}"
    names = listed([one.name for one in remixed])
    return Novelty(
        f"In training of {names}, {share} of the mixtures are a singer's vocals over the backing "
        "of another song, so that a band or an album cannot stand in for a voice."
    )


def _overlaid(members: tuple[MemberFacts, ...]) -> Novelty | None:
    overlaid = [
        one
        for one in members
        if one.remixed is False
        and one.config
        and one.config.train.recording == "mix"
        and one.config.augment.overlay
    ]
    if not overlaid:
        return None
    return Novelty(
        f"In training of {listed([one.name for one in overlaid])}, songs without stems are heard "
        "under parts of other songs where a band plays alone, so that their own band says less."
    )


def _experts(fusion: Fusion) -> Novelty | None:
    kinds = list(dict.fromkeys(kind_of(name) for name in fusion.experts))
    if len(kinds) < 2:
        return None
    asked = {
        "head": "its classification head",
        "knn_song": "the nearest training songs",
        "knn_segment": "the nearest training segments",
        "probe": "a linear probe of its embeddings",
    }
    return Novelty(
        f"Each member is asked in up to {len(kinds)} ways: "
        f"{listed([asked.get(kind, kind) for kind in kinds])}.",
        gain_sentence(fusion),
    )


def _calibrated(fusion: Fusion) -> Novelty:
    return Novelty(
        "Each expert has a temperature of its own, fitted on other albums than those that it is "
        "measured on.",
        calibration_sentence(fusion.calibration),
    )


def _detector(facts: Facts, fusion: Fusion) -> Novelty | None:
    if not fusion.listening.detector:
        return None
    right = facts.detector
    return Novelty(
        "A voice detector of the run itself decides how much each segment of a song counts.",
        f"It is right about {right.estimate.value:.1%} of the frames of "
        f"{counted(right.songs, 'validation song')} (95% interval {right.estimate.low:.1%} to "
        f"{right.estimate.high:.1%})."
        if right
        else "",
    )
