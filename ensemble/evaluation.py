"""How good a prediction file is, given who really sings.

Input: a prediction (csv or json) and a truth (csv `ID,singer`, or a folder laid out as
`<singer>/<album>/<song>`). Output: `Evaluation`: top-1, top-3, score and macro F1 with intervals,
and each singer's recall. A song without a prediction is refused, never silently left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from embedder.catalogue import scan, without_audio_suffix
from embedder.errors import UserError
from embedder.metrics import macro_f1_of, per_singer_recall
from embedder.statistics import Estimate, bootstrap_interval, mean_of
from embedder.text import composed, counted, read_csv, read_text, spelled_alike
from ensemble.predictions import PLACES, id_order, normal_id

SHOWN = 3  # how many examples an error message names
# What the first cell of a header and the others may be, in lower case and without spaces and signs.
ID_HEADER = re.compile(r"(id|(song|file|track)?(id|name)|(audio)?path|audio|file|song|track)")
SINGER_HEADER = re.compile(r"(singer|artist|label|singername|artistname)")
PLACE_HEADER = re.compile(r"(no|top|rank|singer|artist|prediction)[1-9]?")

Predictions = dict[str, tuple[str, ...]]  # ID → singers, best first


@dataclass(frozen=True)
class Truth:
    """Who sings each song."""

    singers: dict[str, str]  # ID → singer
    other_names: dict[str, tuple[str, ...]]  # another name of a song → the IDs that it may mean
    albums: dict[str, str] = field(default_factory=dict)  # ID → "singer/album", where it is known


@dataclass(frozen=True)
class Recall:
    """How many of a singer's songs are predicted right."""

    singer: str
    correct: int
    songs: int
    recall: float  # correct / songs


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured, at song level."""

    songs: int
    albums: int  # what the intervals resample; 0: no song's album is known, so they resample songs
    columns: int  # singers named for each song, at most 3: top-3 counts no more
    top_1: Estimate
    top_3: Estimate
    score: Estimate  # top-1 + 0.5 · top-3
    macro_f1: Estimate  # over the singers that occur in the truth
    recalls: tuple[Recall, ...]  # by singer
    extra: tuple[str, ...]  # IDs that are predicted but stand in no truth; they count nowhere
    unnamed: tuple[str, ...]  # singers of the truth whom no prediction names
    alike: str  # which of them are named in another spelling, as the end of a sentence


def read_predictions(path: Path) -> Predictions:
    """Read a prediction: json if the file's name ends so, else csv, with or without a header.

    Raises `UserError` naming file and line for an ID that stands twice, a singer named twice for a
    song, an empty name, or rows of different lengths.
    """
    if path.suffix.lower() == ".json":
        rows = [(f"key {key!r}", key, names) for key, names in _json_pairs(path)]
    else:
        rows = [(f"line {line}", row[0], row[1:]) for line, row in _csv_rows(path, PLACE_HEADER)]
    result: Predictions = {}
    for where, name, singers in rows:
        ident = normal_id(_text(name))
        chosen = tuple(_text(singer) for singer in singers)
        if not ident or not chosen or not all(chosen):
            raise UserError(
                f"{path}, {where}: needs an ID and one to three singers, none empty"
                + _other_separator([name, *singers])
            )
        if ident in result:
            raise UserError(f"{path}, {where}: the ID {ident} stands twice")
        if len(set(map(composed, singers))) != len(chosen):  # two may differ in spaces alone
            raise UserError(f"{path}, {where}: names a singer twice for one song")
        if result and len(chosen) != len(next(iter(result.values()))):
            raise UserError(f"{path}, {where}: names another number of singers than the first")
        result[ident] = chosen
    if not result:
        raise UserError(f"{path} holds no prediction; lines are ID,No.1,No.2,No.3")
    return result


def read_truth(path: Path) -> Truth:
    """Read who sings what: a folder `<singer>/<album>/<song>`, or a csv `ID,singer`.

    A song of a folder is known by its path below it without suffix, and by its bare name where only
    one song has it. In a csv, a header is optional and an ID may carry an audio suffix, in the
    prediction too. Raises `UserError` for an ID that stands twice or a line that has not two
    columns.
    """
    result: dict[str, str] = {}
    albums: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    if path.is_dir():
        for song in scan(path):
            ident = _text(without_audio_suffix(song.id))
            if ident in result:
                raise UserError(f"{path} holds {ident} twice, with different suffixes")
            result[ident] = _text(song.singer)
            albums[ident] = song.album_id
            names.setdefault(normal_id(PurePosixPath(ident).name), []).append(ident)
    else:
        for line, row in _csv_rows(path, SINGER_HEADER):
            if len(row) != 2 or not all(map(_text, row)):
                raise UserError(
                    f"{path}, line {line}: needs two columns, ID,singer, none empty"
                    + _other_separator(row)
                )
            ident = normal_id(_text(row[0]))
            if ident in result:
                raise UserError(f"{path}, line {line}: the ID {ident} stands twice")
            result[ident] = _text(row[1])
            if ident.count("/") >= 2:  # <singer>/<album>/<song>, as a folder's songs are named
                albums[ident] = ident.rpartition("/")[0]
            if (bare := _bare(ident)) != ident:
                names.setdefault(bare, []).append(ident)
    if not result:
        raise UserError(f"{path} names no song; lines are ID,singer")
    return Truth(result, {name: tuple(found) for name, found in names.items()}, albums)


def evaluate(predictions: Mapping[str, tuple[str, ...]], truth: Truth, seed: int = 0) -> Evaluation:
    """Measure predictions (ID → singers, best first) of all songs of the truth.

    Raises `UserError` naming up to three songs that have no prediction, or a prediction that could
    mean several songs, or two predictions that mean one; and where no ID or no singer of the truth
    stands in the predictions, for then the two are not of the same songs or singers.
    """
    found: dict[str, tuple[str, ...]] = {}
    named: dict[str, str] = {}
    extra = []
    for name, chosen in predictions.items():
        ident = _song_of(normal_id(name), truth) or _song_of(_bare(name), truth)
        if ident is None:
            extra.append(name)
        elif ident in found:
            raise UserError(f"the predictions {named[ident]} and {name} are of one song, {ident}")
        else:
            found[ident], named[ident] = tuple(chosen[:PLACES]), name
    missing = sorted(truth.singers.keys() - found.keys(), key=id_order)
    if not found:
        raise UserError(
            f"no ID of the truth, such as {_some(missing)}, stands in the predictions, whose IDs "
            f"are such as {_some(sorted(extra, key=id_order))}; an ID is a file's path below its "
            "folder without the suffix, as singer/album/song or 0001, which may be written 1 but "
            "not 1.0"
        )
    if missing:
        raise UserError(
            f"{len(missing)} of {len(truth.singers)} songs have no prediction, such as "
            f"{_some(missing)}" + _hint(extra)
        )
    named_singers = {singer for chosen in predictions.values() for singer in chosen}
    unnamed = sorted({*truth.singers.values()} - named_singers)
    alike = _alike(unnamed, named_singers)
    if not named_singers & {*truth.singers.values()}:
        raise UserError(
            f"no singer of the truth, such as {_some(unnamed)}, is named by any prediction; those "
            f"name {_some(sorted(named_singers))}" + alike
        )
    songs = sorted(found, key=id_order)
    singers = sorted({*truth.singers.values(), *(found[song][0] for song in songs)})
    label = {singer: number for number, singer in enumerate(singers)}
    true = np.array([label[truth.singers[song]] for song in songs])
    first = np.array([label[found[song][0]] for song in songs])
    hit_1 = (true == first).astype(np.float64)
    hit_3 = np.array([float(truth.singers[song] in found[song]) for song in songs])
    recall, counts = per_singer_recall(true, first, len(singers))
    groups = [truth.albums.get(song, song) for song in songs]
    top_1, top_3, score, macro_f1 = (
        bootstrap_interval(statistic, len(songs), seed, groups, (0.0, most))
        for statistic, most in (
            (mean_of(hit_1), 1.0),
            (mean_of(hit_3), 1.0),
            (mean_of(hit_1 + 0.5 * hit_3), 1.5),
            (macro_f1_of(true, first), 1.0),
        )
    )
    return Evaluation(
        songs=len(songs),
        albums=len(set(groups)) if truth.albums else 0,
        columns=max(len(chosen) for chosen in found.values()),
        top_1=top_1,
        top_3=top_3,
        score=score,
        macro_f1=macro_f1,
        recalls=tuple(
            Recall(singer, round(recall[number] * counts[number]), int(counts[number]), float(r))
            for number, (singer, r) in enumerate(zip(singers, recall, strict=True))
            if counts[number]
        ),
        extra=tuple(sorted(extra, key=id_order)),
        unnamed=tuple(unnamed),
        alike=alike,
    )


def _alike(unnamed: Sequence[str], named: Iterable[str]) -> str:
    groups = [group for group in spelled_alike([*unnamed, *named]) if {*group} & {*unnamed}]
    if not groups:
        return ""
    pairs = "; ".join(" and ".join(map(repr, group)) for group in groups[:SHOWN])
    return f"; these differ in case, form or spaces only, and count as different singers: {pairs}"


def _song_of(name: str, truth: Truth) -> str | None:
    """The ID in the truth that a prediction's name means."""
    if name in truth.singers:
        return name
    meant = truth.other_names.get(name, ())
    if len(meant) > 1:
        raise UserError(
            f"the prediction {name} could be {' or '.join(meant[:SHOWN])}; "
            "predict the folder itself, so that IDs are paths"
        )
    return meant[0] if meant else None


def _other_separator(row: Sequence[str]) -> str:
    """The end of a sentence on a row that another sign than the comma takes apart."""
    signs = {"\t": "tabs", ";": "semicolons"}
    found = next((name for sign, name in signs.items() if len(row) == 1 and sign in row[0]), "")
    return f"; commas stand between columns, not {found}" if found else ""


def _hint(extra: list[str]) -> str:
    if not extra:
        return ""
    count = counted(len(extra), "prediction", ("is", "are"))
    return f"; {count} of other songs, such as {_some(extra)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN])


def _bare(name: str) -> str:
    """An ID without the suffix of an audio file, if it has one."""
    return normal_id(without_audio_suffix(name))


def _csv_rows(path: Path, rest: re.Pattern[str]) -> list[tuple[int, list[str]]]:
    """Rows that are not blank with their line numbers, without a header such as `ID,singer`."""
    rows = [(line, row) for line, row in read_csv(path, skip_spaces=True) if any(map(_text, row))]
    head = [re.sub(r"[\W_]", "", cell).lower() for cell in rows[0][1]] if rows else []
    is_header = (
        len(head) > 1 and ID_HEADER.fullmatch(head[0]) and all(map(rest.fullmatch, head[1:]))
    )
    return rows[1:] if is_header else rows


def _json_pairs(path: Path) -> list[tuple[str, list[str]]]:
    """Key and singers of each song; keys that stand twice are kept, to be refused."""
    try:
        found: Any = json.loads(read_text(path), object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    fits = isinstance(found, list) and all(
        isinstance(pair, tuple)
        and isinstance(pair[1], list)
        and all(isinstance(name, str) for name in pair[1])
        for pair in found
    )
    if not fits:
        raise UserError(f'{path} must hold one object, {{"0001": ["singer", …], …}}')
    return found  # type: ignore[no-any-return]


def _text(value: str) -> str:
    """Without space at the ends, in NFC: é may be one character or two."""
    return composed(value).strip()
