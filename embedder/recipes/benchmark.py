"""Many members under the same conditions: splits × segment lengths × seeds, one row at a time.

Each row is `rows/<row>.json` in the benchmark's folder, with segment and song level, whole songs
and excerpts. A row that is there is not made again; one that was cut off is resumed.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder import metrics
from embedder.artifact import fingerprint, read_json, write_json
from embedder.catalogue import Catalogue, Song, read_catalogue, stems_fingerprint
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.excerpts import attenuated_mix, excerpt
from embedder.data.prepare import is_prepared, prepare
from embedder.errors import UserError, did_you_mean
from embedder.inference.aggregate import song_logits
from embedder.inference.checkpoint import Member
from embedder.inference.embed import SongVectors, embed_wave, stem_key
from embedder.models.network import size_of
from embedder.recipes import BENCHMARK
from embedder.run import INFO, Run, abandon_run, create_run, locked, preparation
from embedder.settings import build_config
from embedder.splits import SPLITTERS
from embedder.statistics import bootstrap_interval, mean_of
from embedder.text import counted
from embedder.training.checkpoint_callback import Say
from embedder.training.folder import MadeOtherwise
from embedder.training.members import train_member

EXCERPT_S = 5.0
HARD_DB = -8.0  # vocals of the hard case against how they were


@dataclass(frozen=True)
class Condition:
    """One row of the benchmark."""

    member: str  # a name of the list
    split: str  # a rule of `splits.SPLITTERS`
    segment_s: float  # in training and prediction
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.member}-{self.split}-{self.segment_s:g}s-s{self.seed}"


@dataclass(frozen=True)
class Level:
    """What one level of answers comes to."""

    count: int  # segments or songs
    accuracy: float
    low: float  # 95 % interval of the accuracy, over albums; at segment level it is not computed
    high: float
    macro_f1: float


def read_members(path: Path | None) -> dict[str, dict[str, Any]]:
    """The named list of members: a JSON object of name → settings, or the built-in one.

    Raises `UserError` if the file is not such an object.
    """
    if path is None:
        return {name: dict(settings) for name, settings in BENCHMARK.items()}
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise UserError(f"{path} must hold one JSON object: member names, each with its settings")
    return {str(name): dict(settings) for name, settings in found.items()}


def planned_rows(
    member_list: Path | None,
    members: Sequence[str] | None,
    splits: Sequence[str],
    segments: str,
    seeds: str,
    preset: str,
    changes: Mapping[str, Any],
) -> dict[Condition, MemberConfig]:
    """Every combination with its settings, one member's rows after the other.

    Args:
        member_list: JSON file of members. Default: the built-in list.
        members: Names of the list. Default: all.
        splits: Rules of `splits.SPLITTERS`.
        segments: Lengths of a segment in training and prediction, s, with commas.
        seeds: Seeds, with commas.
        preset: Of all members.
        changes: Settings of all members, above those of the list.

    Raises:
        UserError: An unknown member or rule, something else than numbers, or an illegal setting.
    """
    known = read_members(member_list)
    for option, names, legal in (
        ("--members", members or (), known),
        ("--splits", splits, SPLITTERS),
    ):
        for name in names:
            if name not in legal:
                near = did_you_mean(name, legal)
                raise UserError(
                    f"the list has no member '{name}'{near}; it has: {', '.join(legal)}"
                    if option == "--members"
                    else f"{option} {name}{near} is unknown; choose from {', '.join(legal)}"
                )
    lengths = numbers_in("--segments", segments)
    drawn = [int(seed) for seed in numbers_in("--seeds", seeds, whole=True)]
    rows = itertools.product(members or known, splits, lengths, drawn)
    conditions = [Condition(*row) for row in rows]
    return {one: config_of(one, preset, {**known[one.member], **changes}) for one in conditions}


def numbers_in(option: str, text: str, whole: bool = False) -> list[float]:
    """`"3,5,10"` → `[3.0, 5.0, 10.0]`; raise `UserError` for anything else."""
    kind = "whole numbers" if whole else "numbers"
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} takes {kind} with commas, not '{text}'") from None
    if whole and any(number != int(number) or number < 0 for number in found):
        raise UserError(f"{option} takes {kind} from 0 with commas, not '{text}'")
    return found


def config_of(condition: Condition, preset: str, settings: Mapping[str, Any]) -> MemberConfig:
    """The member's settings under a condition; in prediction half of each segment overlaps."""
    length = {
        "segment_s": condition.segment_s,
        "eval_segment_s": condition.segment_s,
        "eval_hop_s": condition.segment_s / 2,
    }
    return build_config(preset, changes={**settings, **length, "seed": condition.seed})


def prepared(
    root: Path, data_dir: Path, stems_dir: Path | None, split: str, seed: int = 0
) -> tuple[Run, Catalogue]:
    """The run folder of a split inside the benchmark's folder. All splits share one cache.

    Raises `UserError` if the songs cannot be prepared, or are others than those of the rows that
    are there: rows of one table are measured on the same songs.
    """
    for rule in SPLITTERS:
        there = Run(root / rule, shared_cache=root / "cache")
        if there.catalogue.is_file() and not is_prepared(there, data_dir, rule, seed, stems_dir):
            _check_same_songs(there, data_dir, stems_dir, rule, seed)
    folder = root / split
    create_run(folder)
    run = Run(folder, shared_cache=root / "cache")
    with locked(run, "catalogue"):
        if not run.catalogue.is_file():
            try:
                prepare(run, data_dir, split, stems_dir, seed=seed)
            except UserError:
                abandon_run(run)  # a refusal leaves nothing behind
                if not any(root.iterdir()):
                    root.rmdir()
                raise
    return run, read_catalogue(run.catalogue)


def _check_same_songs(
    run: Run, data_dir: Path, stems_dir: Path | None, split: str, seed: int
) -> None:
    """Prepare the songs beside those of a benchmark; `UserError` if they are others."""
    was = preparation(run)
    with TemporaryDirectory() as scratch:
        new = Run(create_run(Path(scratch) / "run").root, shared_cache=run.cache)
        prepare(new, data_dir, split, stems_dir, seed=seed)
        there, now = (read_catalogue(one.catalogue) for one in (run, new))
        if _songs(there) == _songs(now):
            INFO.write(run.info, INFO.read(new.info))
            return
    before, after = (
        f"{counted(len(songs.songs), 'song')} of {data}"
        + (f" with stems of {stems}" if stems else "")
        for songs, data, stems in (
            (there, was.get("data_dir", "another folder"), was.get("stems_dir")),
            (now, data_dir.resolve(), stems_dir.resolve() if stems_dir else None),
        )
    )
    raise UserError(
        f"the rows in {run.root.parent} were measured on {before}, and these are {after}, which "
        "are others; choose another --run_dir for them"
    )


def _songs(catalogue: Catalogue) -> tuple[str, str]:
    """Fingerprints of the songs and of their stems."""
    return catalogue.fingerprint(), stems_fingerprint(catalogue.songs, "vocals", "backing")


def run_row(
    root: Path,
    run: Run,
    catalogue: Catalogue,
    condition: Condition,
    config: MemberConfig,
    *,
    device: str = "auto",
    show_bar: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Train and measure one row, or read it if it is there; the row as it is on disk.

    A training that was cut off goes on, and one that is done is measured.
    """
    path = root / "rows" / f"{condition.name}.json"
    wanted = fingerprint(config.fingerprint(), *_songs(catalogue))
    if path.is_file() and (row := read_json(path)).get("made_from") == wanted:
        return dict(row)
    train = partial(
        train_member, run, catalogue, condition.name, config, device=device, show_bar=show_bar,
        say=say,
    )  # fmt: skip
    with locked(run, f"members/{condition.name}"):
        try:
            member = train()
        except MadeOtherwise:  # of other settings: the row is made again
            member = train(overwrite=True)
    split = "test" if catalogue.of("test") else "validation"
    size = size_of(config)
    row = {
        "made_from": wanted,
        **asdict(condition),
        "backbone": config.model.backbone,
        "loss": config.loss.loss,
        "stem": config.train.stem,
        "parameters": size.parameters,
        "multiply_adds": size.multiply_adds,
        "measured_on": split,
        "training_s": training_seconds(run, condition.name, config, len(catalogue.of("train"))),
        **measure_member(run, catalogue, member, split),
    }
    write_json(path, row)
    return row


def training_seconds(run: Run, name: str, config: MemberConfig, songs: int) -> float:
    """Seconds that the epochs took without their validation, from the member's log."""
    with run.log(name).open(encoding="utf-8", newline="") as file:
        rates = [float(row["audio_per_s"]) for row in csv.DictReader(file)]
    train = config.train
    batch = train.batch_singers * train.batch_crops
    audio_s = max(1, round(train.crops_per_song * songs / batch)) * batch * train.segment_s
    return round(sum(audio_s / max(1.0, rate) for rate in rates), 3)


def measure_member(run: Run, catalogue: Catalogue, member: Member, split: str) -> dict[str, Any]:
    """Levels of a split's songs, each a `Level` as a plain dict.

    "segment" and "song" of whole songs, "excerpt" of 5 s of each where someone sings; and, for
    members on mixtures of songs that all have stems, "hard" and "hard_excerpt": the songs
    mixed again with their vocals 8 dB lower.
    """
    cache = AudioCache(run.cache)
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    songs = catalogue.of(split)
    truth = np.array([number[song.singer] for song in songs])
    centres = None if member.head is not None else singer_centres(catalogue, member, cache)
    recording = member.config.train.recording
    kinds: dict[str, Callable[[Song], NDArray[np.int16]]] = {
        "": lambda song: cache.samples(stem_key(song, recording))
    }
    if recording == "mix" and all(song.vocals and song.backing for song in songs):
        kinds["hard"] = lambda song: attenuated_mix(song, cache, HARD_DB)
    levels = {}
    for kind, wave_of in kinds.items():
        whole, parts = [], []
        for index, song in enumerate(songs):
            wave = wave_of(song)
            whole.append(_answers(embed_wave(member, wave), centres))
            piece = excerpt(wave, song, cache, EXCERPT_S, np.random.default_rng((0, index)))
            parts.append(_answers(embed_wave(member, piece), centres))
        if not kind:
            of_segment = np.repeat(truth, [len(answer) for answer in whole])
            levels["segment"] = _level(of_segment, np.concatenate(whole))
        names = (kind or "song", "_".join(filter(None, (kind, "excerpt"))))
        for name, answers in zip(names, (whole, parts), strict=True):
            logits = np.stack([song_logits(answer) for answer in answers])
            levels[name] = _level(truth, logits, [song.album_id for song in songs])
    return {name: asdict(level) for name, level in levels.items()}


def singer_centres(
    catalogue: Catalogue, member: Member, cache: AudioCache
) -> NDArray[np.floating[Any]]:
    """Mean embedding of each singer's training songs, `(singers, dim)`, for losses without head."""
    sums = np.zeros((len(catalogue.singers), member.config.model.embedding_dim))
    number = {singer: label for label, singer in enumerate(catalogue.singers)}
    for song in catalogue.of("train"):
        wave = cache.samples(stem_key(song, member.config.train.recording))
        sums[number[song.singer]] += embed_wave(member, wave).embeddings.mean(axis=0)
    centres: NDArray[np.floating[Any]] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return centres


def _answers(
    vectors: SongVectors, centres: NDArray[np.floating[Any]] | None
) -> NDArray[np.floating[Any]]:
    """A song's segment logits `(segments, singers)`: the head's, or cosines to the centres."""
    if vectors.logits is not None:
        return vectors.logits
    assert centres is not None
    cosines: NDArray[np.floating[Any]] = np.asarray(vectors.embeddings @ centres.T)
    return cosines


def _level(
    truth: NDArray[np.int64],
    answers: NDArray[np.floating[Any]],
    albums: Sequence[str] | None = None,
) -> Level:
    named = answers.argmax(axis=1)
    accuracy = metrics.top_k(truth, answers, 1)
    low = high = accuracy
    if albums is not None:
        hits = metrics.top_k_hits(truth, answers, 1)
        found = bootstrap_interval(mean_of(hits), len(truth), groups=albums)
        low, high = found.low, found.high
    return Level(len(truth), accuracy, low, high, metrics.macro_f1(truth, named))


def read_rows(root: Path) -> Iterator[dict[str, Any]]:
    """All finished rows of a benchmark's folder, by name."""
    for path in sorted((root / "rows").glob("*.json")):
        yield dict(read_json(path))
