"""A folder of songs becomes a run folder that can be trained on.

Read are `<singer>/<album>/<song>.<ext>` or the course's lists, and stems where there are any.
Written are `catalogue.csv`, `train.txt`, `validation.txt`, `test.txt` and the decoded cache. The
`Report` names every file that something is wrong with. Nothing of the user's is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embedder.artifact import fingerprint
from embedder.catalogue import (
    UNKNOWN,
    Catalogue,
    Song,
    read_catalogue,
    scan,
    visible_files,
    write_catalogue,
)
from embedder.console import say, warn
from embedder.data.audio import DECODER, SILENT_PEAK, unusable
from embedder.data.cache import AudioCache, Decoded, Progress, Source, decode_files, no_progress
from embedder.data.duplicates import MIN_SECONDS, find_copies, without_copies
from embedder.data.stems import STEMS, StemFiles, find_stems
from embedder.errors import Command, UserError
from embedder.run import INFO, PREPARED_BY, SPLITS, Run, RunInfo, preparation
from embedder.splits import check_leakage, read_lists, split_songs, write_list
from embedder.text import composed, counted, spelled_alike

MIN_SONG_S = 1.0  # a song shorter than this is left out, s
# How far a stem's length may be from the mixture's, s. An mp3 without a gapless header keeps its
# encoder's padding, up to 2831 samples: 0.18 s at 16 kHz, when the other file has none.
STEM_TOLERANCE_S = 0.25
MAX_SHOWN = 3
# kind of problem → what is done about it
KINDS = {
    "unreadable": "left out",
    "empty": "left out",
    "short": "left out",
    "silent": "left out",
    "odd": "kept",
    "duplicate": "kept",
    "decoded duplicate": "kept",
    "same recording": "kept",
    "in two splits": "left out",
    "duet": "left out",  # one recording under two singers
    "duet in use": "kept",
    "stem": "not used",
}


@dataclass(frozen=True)
class Problem:
    """One file and what is wrong with it."""

    file: str  # the song's id; for a stem: "vocals/<id>" or "backing/<id>"
    kind: str  # a key of KINDS
    reason: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")


@dataclass(frozen=True)
class Report:
    """The outcome of one preparation."""

    songs: dict[str, int]  # split → number of songs
    minutes: dict[str, float]  # split → minutes of mixtures
    singers: int
    vocals: int  # songs whose vocal stem is used
    backing: int  # songs whose backing stem is used
    stems_wanted: bool  # whether a stems folder was given
    problems: tuple[Problem, ...]
    albums_crossing: tuple[str, ...]  # albums with songs in more than one split, where allowed
    uncompared: int = 0  # songs too short to be found again by their sound, re-encoded, say

    def of(self, kind: str) -> tuple[Problem, ...]:
        """The problems of one kind."""
        return tuple(problem for problem in self.problems if problem.kind == kind)

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The songs that did not come into the catalogue."""
        return tuple(problem for problem in self.problems if KINDS[problem.kind] == "left out")

    def lines(self) -> list[str]:
        """The report for a terminal: numbers, then each problem with its file and reason."""
        text = [
            f"{split:<10}  {_right(self.songs[split])}  {self.minutes[split]:>8.1f} minutes"
            for split in SPLITS
            if self.songs[split]
        ]
        total = sum(self.songs.values())
        text.append(
            f"{'all':<10}  {_right(total)}  {sum(self.minutes.values()):>8.1f} minutes  "
            f"{counted(self.singers, 'singer')}"
        )
        if self.stems_wanted:
            text.append(f"stems: vocals of {self.vocals}, backing of {self.backing} songs")
        if self.albums_crossing:
            text.append(
                f"{counted(len(self.albums_crossing), 'album', ('has', 'have'))} songs in more "
                "than one split, so the "
                f"album's sound helps to name the singer: {', '.join(self.albums_crossing)}"
            )
        if self.uncompared:
            text.append(
                f"{counted(self.uncompared, 'song', ('is', 'are'))} shorter than {MIN_SECONDS:.1f} "
                "s and not compared by sound: of copies only those with the same samples are found"
            )
        return text + problem_lines(self.problems)


def _right(songs: int) -> str:
    """A number of songs as a column of the report."""
    return f"{songs:>5} {'song' if songs == 1 else 'songs':<5}"


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Each problem with its file and reason, by kind."""
    text: list[str] = []
    for kind, fate in KINDS.items():
        found = [problem for problem in problems if problem.kind == kind]
        if found:
            text.append(f"{kind} ({len(found)}, {fate}):")
            text += [f"  {problem.file}: {problem.reason}" for problem in found]
    return text


def summarise(
    songs: Sequence[Song],
    problems: Sequence[Problem],
    albums_crossing: tuple[str, ...],
    stems_wanted: bool,
) -> Report:
    """The report on the songs of a catalogue."""
    seconds = {split: [song.seconds for song in songs if song.split == split] for split in SPLITS}
    return Report(
        songs={split: len(lengths) for split, lengths in seconds.items()},
        minutes={split: sum(lengths) / 60 for split, lengths in seconds.items()},
        singers=len({song.singer for song in songs}),
        vocals=sum(bool(song.vocals) for song in songs),
        backing=sum(bool(song.backing) for song in songs),
        stems_wanted=stems_wanted,
        problems=tuple(problems),
        albums_crossing=albums_crossing,
        uncompared=sum(song.seconds < MIN_SECONDS for song in songs),
    )


@dataclass(frozen=True)
class Prepared:
    """What `run.json` says of how the run was prepared."""

    data_dir: str
    split: str
    seed: int
    stems_dir: str | None
    lists_dir: str | None
    keep_duplicates: bool
    keep_duets: bool
    files: str  # fingerprint of names, sizes and times of their files, and of the decoder


def prepare(
    run: Run,
    data_dir: Path,
    split: str = "course",
    stems_dir: Path | None = None,
    seed: int = 0,
    keep_duplicates: bool = False,
    keep_duets: bool = False,
    lists_dir: Path | None = None,
    progress: Progress = no_progress,
    jobs: int | None = None,
    overwrite: bool = False,
) -> Report:
    """Scan, decode, check and split the songs of `data_dir` into the run folder `run`.

    The same arguments give the same bytes; what the cache holds is not decoded again. Files that
    cannot be used are in the report, not errors; where the others cannot be split, the report on
    these files is printed beforehand.

    Args:
        run: The run folder.
        data_dir: `<singer>/<album>/<song>.<ext>`.
        split: A rule of `splits.SPLITTERS`; "files" reads the course's lists.
        stems_dir: Stems by others, as `find_stems` takes them.
        seed: Of the split.
        keep_duplicates: Leaves a recording that stands in two splits in both. Otherwise the
            training copy is left out (between validation and test, the validation copy). Copies are
            known by their sound, re-encoded or remastered ones too.
        keep_duets: Leaves a recording that stands under two singers in training, although its
            labels contradict each other.
        lists_dir: Where the lists are, if not with the data.
        progress: Shows how far it is.
        jobs: Number of threads; all cores if None.
        overwrite: Takes the place of other songs, from which something was made already.

    Raises:
        UserError: The songs cannot be found or split, none can be used, something was made from
            other songs of the run, or the run folder cannot be written.
    """
    if seed < 0:
        raise UserError(f"seed = {seed} is not legal; it must be 0 or more")
    if lists_dir is not None and split != "files":
        raise UserError(f"lists are read with --split files only, not with --split {split}")
    songs = read_lists(data_dir, lists_dir) if split == "files" else scan(data_dir)
    check_leakage(split_songs(songs, split, seed), split)  # before hours of decoding, not after
    stems = find_stems(stems_dir, (song.id for song in songs)) if stems_dir else {}

    cache = AudioCache(run.cache)
    files: list[Source] = [Path(song.path) for song in songs]
    files += [stem for found in stems.values() for stem in found.values()]
    decoded = decode_files(files, cache, jobs, progress)

    good, bad = _usable(songs, decoded)
    problems = bad + _noted(good, decoded)
    if not good:
        reasons = "; ".join(f"{p.file}: {p.reason}" for p in bad[:MAX_SHOWN])
        raise UserError(
            f"none of the {counted(len(songs), 'song')} in {data_dir} can be used: {reasons}"
        )
    for names in spelled_alike(song.singer for song in good):
        who = ", ".join(map(repr, names))
        warn(f"these singers differ in case, form or spaces only, and are kept apart: {who}")
    if UNKNOWN in {composed(song.singer) for song in good}:
        warn(
            f"a singer is named {UNKNOWN}, which is what predict --unknown says of a song by none "
            "of the singers; rename that folder and prepare again, or predict without --unknown"
        )
    copies = find_copies(good, decoded, cache, jobs, progress)
    try:  # what could be split before may miss whole albums now
        good = list(split_songs(good, split, seed))
        good, twice = without_copies(good, copies, keep_duplicates, keep_duets)
        problems += [Problem(*one) for one in twice]
        if stems_dir:
            good, missing = with_stems(good, stems, decoded)
            problems += missing
        crossing = check_leakage(good, split, allow_same_audio=keep_duplicates)
    except UserError as error:
        raise _for_want_of(problems, error) from None

    catalogue = Catalogue(tuple(good))
    made = _prepared(
        data_dir, split, seed, stems_dir, lists_dir, keep_duplicates, keep_duets, catalogue
    )
    if not overwrite:
        _check_other_songs(run, made, catalogue)
    try:
        lists = {name: [song for song in good if song.split == name] for name in SPLITS}
        for name in SPLITS:
            if lists[name]:
                write_list(run.song_list(name), lists[name])
        write_catalogue(run.catalogue, catalogue)
        INFO.write(run.info, RunInfo(asdict(made)))  # it is prepared now
        for name in SPLITS:  # last, so that a full disk takes nothing away
            if not lists[name]:  # a list of an earlier preparation
                run.song_list(name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {run.root}: {error.strerror or error}") from None
    return summarise(good, problems, crossing, stems_dir is not None)


def is_prepared(
    run: Run, data_dir: Path, split: str, seed: int = 0, stems_dir: Path | None = None
) -> bool:
    """Whether the run folder was prepared in just this way, from the files that are there now."""
    if not run.catalogue.is_file() or not run.info.is_file() or not data_dir.is_dir():
        return False
    catalogue = read_catalogue(run.catalogue)
    wanted = _prepared(data_dir, split, seed, stems_dir, None, False, False, catalogue)
    return preparation(run) == asdict(wanted)


def _prepared(
    data_dir: Path,
    split: str,
    seed: int,
    stems_dir: Path | None,
    lists_dir: Path | None,
    keep_duplicates: bool,
    keep_duets: bool,
    catalogue: Catalogue,
) -> Prepared:
    """What `run.json` says of this preparation, which gives this catalogue."""
    paths = {Path(song.path) for song in catalogue.songs}
    for folder in filter(None, (data_dir, stems_dir, lists_dir)):
        paths |= {folder.resolve() / file for file in visible_files(folder)}
    if split == "files":  # the lists may lie beside the data folder
        paths |= {path for path in data_dir.resolve().parent.iterdir() if path.is_file()}
    facts = ((path, path.stat()) for path in sorted(paths) if path.exists())
    return Prepared(
        str(data_dir.resolve()),
        split,
        seed,
        str(stems_dir.resolve()) if stems_dir else None,
        str(lists_dir.resolve()) if lists_dir else None,
        keep_duplicates,
        keep_duets,
        fingerprint(
            str(DECODER),
            *(f"{str(path)!a} {found.st_size} {found.st_mtime_ns}" for path, found in facts),
        ),
    )


def _check_other_songs(run: Run, made: Prepared, catalogue: Catalogue) -> None:
    """Raise `UserError` if the run has other songs, and something that was made from them."""
    work = [run.members, run.pretrained.members, run.detector, run.separator, run.fusion_folder]
    there = [path.name for path in work if path.is_dir() and any(path.iterdir())]
    if not there or not run.catalogue.is_file():
        return
    try:
        old = read_catalogue(run.catalogue)
    except UserError:
        return
    if old.fingerprint() == catalogue.fingerprint():
        return
    before = preparation(run).get("data_dir", "another folder")
    options = {name: getattr(made, name) for name in PREPARED_BY}
    command = Command("prepare", **options, run_dir=run.root, overwrite=True)
    raise UserError(
        f"{run.root} holds {', '.join(there)} made from {counted(len(old.songs), 'song')} of "
        f"{before}, and "
        f"{made.data_dir} now gives other songs or splits "
        f"({counted(len(catalogue.songs), 'song')}), of which "
        f"they could say nothing; choose another --run_dir, or: {command}"
    )


def _for_want_of(problems: Sequence[Problem], error: UserError) -> UserError:
    """Why the songs cannot be split, if it may be for want of files that were left out."""
    gone = [problem for problem in problems if KINDS[problem.kind] == "left out"]
    if not gone:
        return error
    say("\n".join(problem_lines(problems)))
    names = "; ".join(f"{problem.file}: {problem.reason}" for problem in gone[:MAX_SHOWN])
    return UserError(
        f"{error.fault}, without {counted(len(gone), 'file')} that were left out, such as {names}",
        "replace these files, leave their singers out, or keep what is only a copy (--keep_duets, "
        "--keep_duplicates)",
    )


def _usable(
    songs: Sequence[Song], decoded: dict[Source, Decoded]
) -> tuple[list[Song], list[Problem]]:
    """The songs that can be used, with length and cache key, and the others with the reason."""
    good, bad = [], []
    for song in songs:
        item = decoded[Path(song.path)]
        if item.facts is None:
            bad.append(Problem(song.id, item.kind, item.reason))
        elif wrong := unusable(item.facts.seconds, item.facts.peak, MIN_SONG_S):
            bad.append(Problem(song.id, *wrong))
        else:
            good.append(replace(song, seconds=item.facts.seconds, audio=item.key))
    return good, bad


def _noted(songs: Sequence[Song], decoded: dict[Source, Decoded]) -> list[Problem]:
    """What is to be known of how the songs that can be used were decoded."""
    return [
        Problem(song.id, "odd", note)
        for song in songs
        if (facts := decoded[Path(song.path)].facts) is not None
        for note in facts.notes
    ]


def with_stems(
    songs: Sequence[Song], stems: dict[str, StemFiles], decoded: dict[Source, Decoded]
) -> tuple[list[Song], list[Problem]]:
    """Give each song the keys of its stems that fit it. Backing without vocals is of no use."""
    complete, problems = [], []
    any_backing = any("backing" in found for found in stems.values())
    for song in songs:
        keys = dict.fromkeys(STEMS, "")
        for stem in STEMS:
            files = stems[song.id].get(stem)
            if files is None and stem == "backing" and not any_backing:
                continue  # vocals alone were given on purpose
            reason = stem_problem(song, decoded[files]) if files else "there is no such file"
            if not reason and stem == "backing" and not keys["vocals"]:
                reason = "the song has no vocals to go with it"
            if reason:
                problems.append(Problem(f"{stem}/{song.id}", "stem", reason))
            elif files:
                keys[stem] = decoded[files].key
        complete.append(replace(song, vocals=keys["vocals"], backing=keys["backing"]))
    return complete, problems


def stem_problem(song: Song, item: Decoded) -> str:
    """Why a song cannot use a stem, or an empty string."""
    if item.facts is None:
        return f"{item.kind}: {item.reason}"
    if item.facts.peak < SILENT_PEAK:
        return "silent: its loudest sample is below -60 dB"
    if abs(item.facts.seconds - song.seconds) > STEM_TOLERANCE_S:
        return f"{item.facts.seconds:.2f} s long, but the mixture is {song.seconds:.2f} s"
    return ""
