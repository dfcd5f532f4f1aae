"""The front page: what the run shows, in sentences with numbers, and the way to the other pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.neighbourhoods import neighbour_agreement
from analysis.page import PAGES, escape, page, table
from analysis.pages.confusion import mistakes
from analysis.run_data import FUSE, Predicted, RunData
from analysis.wording import interval
from embedder.errors import UserError
from embedder.metrics import Summary, per_singer_recall, summarise
from embedder.run import SPLITS
from ensemble.fusion.fitted import Fusion, ResultRow

METRICS = (
    ("top_1", "top-1"), ("top_3", "top-3"), ("score", "score"),
    ("macro_f1", "macro F1"), ("nll", "NLL"), ("ece", "ECE"),
)  # fmt: skip

# What each page answers; the front page leads to all of them.
CARDS = {
    "tsne.html": "Songs and segments, near each other where they sound alike to a member.",
    "confusion.html": "Who is taken for whom, in which songs and in which of their segments.",
    "albums.html": "How much of what looks like a voice is the production of an album.",
    "reliability.html": "Whether stated confidence is right, and what leaving songs out gains.",
    "members.html": "How far the experts agree, and what the ensemble fixed and broke.",
    "timeline.html": "Who sings when in a song, and where someone sings.",
    "voices.html": "Vocal ranges and timbre, and whether they explain the mistakes.",
    "spectrograms.html": "Three seconds of every singer, mixture and vocals.",
    "robustness.html": "What noise, codecs, reverberation, pitch, speed and short excerpts cost.",
    "training.html": "Loss, validation score and learning rate of every member.",
}


def findings(predicted: Predicted, seed: int = 0) -> list[str]:
    """Plain sentences on the predictions of one split, each with its numbers.

    `predicted` holds only songs whose singer is known, and at least one.
    """
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(predicted.probabilities)
    found = summarise(predicted.truth, log_probabilities, seed, predicted.groups)
    named = predicted.probabilities.argmax(axis=1)
    where = f"{found.songs:,} {predicted.split} songs"
    sentences = [
        f"The right singer is named first for {found.top_1.value:.1%} of {where} "
        f"({interval(found.top_1, found.songs)}), and is among the first three for "
        f"{found.top_3.value:.1%}.",
        f"The score, top-1 + 0.5 · top-3, is {found.score.value:.3f} of 1.5 "
        f"(95% interval {found.score.low:.3f} to {found.score.high:.3f}) on {where}.",
        _mistakes_sentence(predicted),
    ]
    recall, songs = per_singer_recall(predicted.truth, named, len(predicted.singers))
    worst = int(np.nanargmin(recall))
    if recall[worst] < 1:
        sentences.append(
            f"The hardest singer is {predicted.singers[worst]}: "
            f"{round(recall[worst] * songs[worst])} of {songs[worst]} songs are identified."
        )
    confidence = float(predicted.probabilities.max(axis=1).mean())
    sentences.append(
        f"The mean confidence in the first choice is {confidence:.1%}, and {found.top_1.value:.1%} "
        f"of the choices are right (expected calibration error {found.ece.value:.3f}; with exact "
        f"confidences, chance alone would make it up to {found.ece.limit:.3f})."
    )
    return sentences


def agreement_sentence(member: str, split: str, hits: int, songs: int) -> str:
    """What `neighbour_agreement` found for one member and split."""
    return (
        f"Member {member}: for {hits} of {songs} {split} songs, the nearest training song by "
        "cosine of the embeddings, not of the map, is by the same singer."
    )


def agreements(run_data: RunData) -> list[str]:
    """How often a song's nearest training song is by its singer, for each member and split."""
    found = []
    for name in run_data.members:
        stores = run_data.stores(name)
        train = next((store for store in stores if store.split == "train"), None)
        if train is None:
            raise UserError(f"the train store of member {name} holds no song; {FUSE}")
        for store in stores:
            if store.split != "train":
                hits, count = neighbour_agreement(train, store)
                if count:
                    found.append(agreement_sentence(name, store.split, hits, count))
    return found


def results_tables(fusion: Fusion) -> list[tuple[str, str]]:
    """(heading, HTML table) for each split, level and way of fitting that the fusion reports.

    A row is an expert with its weight in the fusion, then each metric with its interval.
    """
    head = ("expert", "weight", *(label for _, label in METRICS))
    groups: dict[str, list[ResultRow]] = {}
    for row in fusion.report.results:
        fitted = ", cross-fitted by album" if row.cross_fitted else ""
        songs = f"{row.metrics.songs:,} songs"
        groups.setdefault(
            f"Experts, {row.split} split, {row.level} level, {songs}{fitted}", []
        ).append(row)
    return [
        (
            heading,
            table(
                head,
                [(*_expert(row.expert, fusion), *_metrics(row.metrics)) for row in rows],
                numeric=range(1, len(head)),
                last_bold=True,
            ),
        )
        for heading, rows in groups.items()
    ]


def _expert(name: str, fusion: Fusion) -> tuple[str, str]:
    return name, f"{fusion.weights[name]:.2f}" if name in fusion.weights else ""


def _metrics(metrics: Summary) -> list[str]:
    estimates = [getattr(metrics, name) for name, _ in METRICS[:-1]]
    return [
        *(f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}" for one in estimates),
        f"{metrics.ece.value:.3f}\nup to {metrics.ece.limit:.3f} if calibrated",
    ]


def overview_page(run_data: RunData) -> str:
    """The text of `index.html`."""
    songs, tables, fusion, seed = (
        run_data.songs, run_data.predicted, run_data.fusion, run_data.seed
    )  # fmt: skip
    counts = [(split, int((songs.splits == number).sum())) for number, split in enumerate(SPLITS)]
    parts = ", ".join(f"{count:,} {split}" for split, count in counts if count)
    body = [
        f'<p class="soft">{len(songs.ids):,} songs by {len(songs.singers):,} singers: {parts}.</p>',
    ]
    sentences_of = [findings(one, seed) for one in tables]
    if sentences_of:
        body.insert(0, f'<p id="finding">{escape(sentences_of[0][0])}</p>')
    body.append(_cards())
    for number, (one, sentences) in enumerate(zip(tables, sentences_of, strict=True)):
        body.append(f"<h2>Findings, {one.split} split, song level</h2>")
        body.append(_list(sentences[1:] if number == 0 else sentences))
        body.append(f'<p class="soft">{escape(one.how)}</p>')
    body.append("<h2>Embeddings</h2>" + _list(agreements(run_data)))
    for heading, rows in results_tables(fusion) if fusion else []:
        body.append(f"<h2>{escape(heading)}</h2>{rows}")
    note = "Intervals: bootstrap over albums, 2,000 resamples, 95%."
    return page(
        "index.html", "Singer identification: what this run shows", "\n".join(body), note=note
    )


def _cards() -> str:
    cards = "".join(
        f'<a class="card" href="{file}"><b>{label}</b><span>{escape(CARDS[file])}</span></a>'
        for file, label in PAGES
        if file in CARDS
    )
    return f'<nav class="cards" aria-label="What the pages answer">{cards}</nav>'


def _mistakes_sentence(predicted: Predicted) -> str:
    kinds = mistakes(predicted)
    if not kinds:
        return f"None of the {len(predicted.ids):,} {predicted.split} songs is identified wrongly."
    wrong = sum(len(rows) for _, _, rows in kinds)
    true, named, rows = kinds[0]
    be, often = ("is", "") if wrong == 1 else ("are", "" if len(kinds) == 1 else "most often ")
    of = int((predicted.truth == true).sum())
    return (
        f"{wrong:,} of {len(predicted.ids):,} {predicted.split} songs {be} identified wrongly; "
        f"{often}{predicted.singers[true]} is taken for {predicted.singers[named]} "
        f"({len(rows)} of {of} songs)."
    )


def _list(sentences: Sequence[str]) -> str:
    return f'<ul class="findings">{"".join(f"<li>{escape(one)}</li>" for one in sentences)}</ul>'
