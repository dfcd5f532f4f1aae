"""What prediction needs of a run, and the program itself, in one folder or zip.

Input: a fused run and some of its members. Output: a bundle: `run/`, a run folder with members,
fusion and index but without songs; `app.py` and the packages that predict; `requirements.txt`,
`README.md`, and the manifest. And back again: the run inside a bundle, opened and checked.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from embedder import __version__
from embedder.artifact import file_fingerprint, read_json, write_text
from embedder.catalogue import Catalogue, write_catalogue
from embedder.config import MemberConfig
from embedder.errors import RUN_DIR, UserError, did_you_mean, working_in
from embedder.inference.config import detector_fingerprint
from embedder.models.separators.stem_record import STEMS, StemRecord
from embedder.run import Run, create_run, open_run
from embedder.settings import network_record
from ensemble.archive import MANIFEST, filling, opened, read_manifest, write_manifest
from ensemble.fusion.fitted import arrays_of, check_detector, check_fusion
from ensemble.fusion.pipeline import open_fusion
from ensemble.index.members import check_index
from ensemble.index.table import copy_table

PROGRAM = Path(__file__).parents[1]  # folder of app.py
PACKAGES = ("embedder", "ensemble")
RUN = "run"  # the run folder inside the bundle
OWN = "own"  # the project's own separator, among those that there are
SEPARATES = "openunmix"  # what only members on separated vocals import

README = """\
This names the three likeliest of {singers} singers for each song of a folder ({members}).
Install it with Python {python}: pip install -r requirements.txt
Run it in this folder: python app.py predict --bundle . --test_dir SONGS --output prediction.csv
Out comes prediction.csv, a line ID,No.1,No.2,No.3 for each song, and all probabilities as an .npz.
"""


@dataclass(frozen=True)
class VocalSource:
    """What separates vocals from new files in a run."""

    method: str  # a separator's name; "own": the project's, whose weights are packed
    fingerprint: str
    weights: Path  # file of the separator's weights, beside which its config.json lies
    made_stems: bool  # whether the run's own stems were made with it too


@dataclass(frozen=True)
class Packed:
    """What a bundle holds, for those who are told."""

    members: tuple[str, ...]
    singers: int
    songs: int  # in the index
    published: str  # method whose published weights the other machine must have; "" for none


def pack(
    run: Run,
    names: Sequence[str] | None,
    output: Path,
    source: VocalSource | None = None,
    overwrite: bool = False,
) -> Packed:
    """Write a bundle of the fusion's members, or of those of them that are named.

    The same run gives the same bytes. `source` is packed if a member takes vocals. Raises
    `UserError` if the run could not predict with these members, or if something else is at
    `output`.
    """
    with filling(output, overwrite) as folder:
        fusion, indexes = open_fusion(run, names)
        check_detector(fusion, detector_fingerprint(run))
        checkpoints = {name: file_fingerprint(run.weights(name)) for name in indexes}
        check_fusion(fusion, checkpoints)
        inner = create_run(folder / RUN)
        for name, index in indexes.items():
            labels = run.member(name) / "labels.json"
            check_index(index, checkpoints[name], tuple(read_json(labels)))
            for file in (run.member(name) / "config.json", labels, run.weights(name)):
                _copy(file, inner.member(name) / file.name)
        if fusion.listening.detector:
            _copy(run.detector_weights, inner.detector_weights)
        configs = {name: config_of(run, name) for name in indexes}
        vocals = hear_vocals(configs)
        if vocals:
            _pack_source(inner, source)
        for file in (run.fusion, arrays_of(run.fusion), run.verification):
            if file.is_file():
                _copy(file, inner.fusion.with_name(file.name))
        copy_table(run.index_table, inner.index_table, list(indexes))
        _pack_program(folder)
        separated = any(config.train.stem == "separated" for config in configs.values())
        needed = requirements(separates=separated or bool(vocals))
        write_text(folder / "requirements.txt", "\n".join(needed) + "\n")
        first = next(iter(indexes.values()))
        python = ".".join(platform.python_version_tuple()[:2])
        text = README.format(singers=len(first.singers), members=", ".join(indexes), python=python)
        write_text(folder / "README.md", text)
        about = {
            "program": __version__,
            "python": platform.python_version(),
            "packages": installed(needed),
            "members": [
                {"name": name, "checkpoint": checkpoints[name], **_kind(config)}
                for name, config in configs.items()
            ],
            "singers": list(first.singers),
        }
        write_manifest(folder, about)
    published = source.method if vocals and source and source.method != OWN else ""
    return Packed(tuple(indexes), len(first.singers), len(first.song_ids), published)


def config_of(run: Run, member: str) -> MemberConfig:
    """A member's settings."""
    return network_record(run, member).config


def hear_vocals(configs: Mapping[str, MemberConfig]) -> list[str]:
    """The members that take a vocal stem, which new files do not have."""
    return [name for name, config in configs.items() if config.train.recording == "vocals"]


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle: a file, or a folder with a manifest."""
    return path.is_file() or (path / MANIFEST).is_file()


@contextmanager
def bundle_or_run(
    run_dir: Path | None, bundle: Path | None, names: Sequence[str] | None
) -> Iterator[tuple[Run, Sequence[str] | None]]:
    """Yield the run folder, or the one inside a bundle, and the members that answer.

    None of both is the default run folder; of a bundle all members answer, unless some are named.
    Raises `UserError` if both are given, or the bundle is none, is damaged, or lacks a member.
    """
    if bundle is None:
        yield open_run(run_dir or RUN_DIR, after="fuse"), names
        return
    if run_dir is not None:
        raise UserError(f"--run_dir {run_dir} and --bundle {bundle} are two runs; give one of them")
    with working_in(Path("RUN")), opened(bundle) as folder:  # the run that it was packed from
        packed = [member["name"] for member in read_manifest(folder)["members"]]
        if missing := [name for name in names or () if name not in packed]:
            raise UserError(
                f"{bundle} has no member '{missing[0]}'{did_you_mean(missing[0], packed)}; "
                f"it has: {', '.join(packed)}"
            )
        yield open_run(folder / RUN), names or packed


def requirements(separates: bool) -> list[str]:
    """The lines of `requirements-predict.txt`, without what only separating vocals imports."""
    file = PROGRAM / "requirements-predict.txt"
    if not file.is_file():
        raise UserError(
            f"{PROGRAM} is an installed copy; bundles are made in a clone of the program"
        )
    return [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#") and (separates or not line.startswith(f"{SEPARATES}=="))
    ]


def installed(needed: Sequence[str]) -> dict[str, str]:
    """The versions here of the packages that stand in lines of requirements."""
    return {name: metadata.version(name) for name in (line.split("==")[0] for line in needed)}


def _kind(config: MemberConfig) -> dict[str, str]:
    return {"backbone": config.model.backbone, "hears": config.train.recording}


def _pack_source(inner: Run, source: VocalSource | None) -> None:
    """What `separator_of` asks of a run: a catalogue, here without songs; weights; `stems.json`."""
    write_catalogue(inner.catalogue, Catalogue(()))
    if source is None:
        return
    if source.method == OWN:
        for file in (source.weights, source.weights.with_name("config.json")):
            _copy(file, inner.separator / file.name)
    if source.made_stems:
        STEMS.write(inner.stems, StemRecord(source.method, source.fingerprint, "", {}))


def _pack_program(folder: Path) -> None:
    """`app.py` and the packages that it needs to predict."""
    sources = [PROGRAM / "app.py"]
    for package in PACKAGES:
        sources += sorted((PROGRAM / package).rglob("*.py"))
    for source in sources:
        _copy(source, folder / source.relative_to(PROGRAM))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
