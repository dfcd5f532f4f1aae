"""A run folder as `fuse` leaves it, made of seeded clusters: no audio, no network, no model."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.analyze import analyze
from analysis.page import PLOTLY, write_plotly
from analysis.run_data import Predicted
from embedder.artifact import write_text
from embedder.catalogue import Catalogue, Song, write_catalogue
from embedder.inference.aggregate import song_embedding
from embedder.inference.store import Store, read_store, write_store
from embedder.measures.records import VoiceRow, made_from, write_rows
from embedder.metrics import summarise
from embedder.run import Run, create_run
from ensemble.fusion.fit import fit_fusion
from ensemble.fusion.fitted import Fusion, FusionReport, ResultRow, write_fusion
from ensemble.fusion.fusers import LogLinear
from ensemble.fusion.knn import Votes
from ensemble.index.members import index_of
from ensemble.predictions import Table, table_of, write_table
from ensemble.scoring import score_songs

SINGERS = ("Ada", "Ben & Co", "Cem", "Dörte")
DIM = 16
SEGMENTS = 6


def make_store(
    member: str, split: str, singers: Sequence[str], albums: Sequence[str], noise: float = 0.5
) -> Store:
    """Three songs for each singer and album, around one direction for each singer."""
    rng = np.random.default_rng([len(member), len(split)])
    centres = np.random.default_rng(len(member)).normal(size=(len(singers), DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    places = [
        (label, singer, album, song)
        for label, singer in enumerate(singers)
        for album in albums
        for song in range(3)
    ]
    segments = [
        centres[label] + rng.normal(scale=noise / DIM**0.5, size=(SEGMENTS, DIM))
        for label, *_ in places
    ]
    units = [(s / np.linalg.norm(s, axis=1, keepdims=True)).astype(np.float32) for s in segments]
    return Store(
        member=member,
        split=split,
        singers=tuple(singers),
        song_ids=tuple(f"{singer}/{album}/{song} tune.mp3" for _, singer, album, song in places),
        albums=tuple(f"{singer}/{album}" for _, singer, album, _ in places),
        labels=np.array([label for label, *_ in places]),
        embeddings=np.stack([song_embedding(unit) for unit in units]),
        segment_song=np.repeat(np.arange(len(places)), SEGMENTS),
        segment_start_s=np.tile(np.arange(SEGMENTS, dtype=np.float32) * 2.5, len(places)),
        segment_embeddings=np.concatenate(units),
        segment_logits=None,
        segment_weight=np.ones(len(places) * SEGMENTS, np.float32),
        made_from={"checkpoint": f"hash of {member}"},
    )


def make_table(store: Store, mistakes: dict[int, int] | None = None) -> Table:
    """Each song's own singer gets 0.7, or the singer that `mistakes` names for its row."""
    songs, singers = len(store.song_ids), len(store.singers)
    named = store.labels.copy()
    for row, singer in (mistakes or {}).items():
        named[row] = singer
    probabilities = np.full((songs, singers), 0.3 / (singers - 1))
    probabilities[np.arange(songs), named] = 0.7
    return Table(
        store.song_ids, store.singers, np.log(probabilities), store.labels.copy(), store.albums
    )


def make_run(
    root: Path,
    singers: Sequence[str] = SINGERS,
    members: Sequence[str] = ("aam", "triplet"),
    splits: Sequence[str] = ("train", "validation"),
    train_albums: Sequence[str] = ("First", "Second"),
) -> Run:
    """A run folder with stores, validation predictions (three mistakes) and a fusion."""
    run = create_run(root)
    for member in members:
        for split in splits:
            albums = train_albums if split == "train" else (f"Last {split}",)
            write_store(run.store(member, split), make_store(member, split, singers, albums))
    for split in splits[1:]:
        store = make_store(members[0], split, singers, (f"Last {split}",))
        table = make_table(store, {0: 1, 1: 1, 3: 2} if split == "validation" else None)
        write_table(run.predictions / f"{split}.npz", table)
        if split == "validation":
            summary = summarise(table.truth, table.log_probabilities)
            experts = [f"{member}/knn_song" for member in members]
            fusion = Fusion(
                singers=tuple(singers),
                aggregate="mean",
                temperatures=dict.fromkeys(experts, 1.0),
                fuser=LogLinear(dict.fromkeys(experts, 0.625)),
                votes=dict.fromkeys(experts, Votes(5, 0.1)),
                made_from={member: f"hash of {member}" for member in members},
                probes={},
                report=FusionReport(
                    results=tuple(
                        ResultRow(name, "validation", "song", True, summary)
                        for name in (*experts, "fused")
                    )
                ),
            )
            write_fusion(run.fusion, fusion)
    return run


@pytest.fixture(scope="session")
def run_at() -> Callable[..., Run]:
    """`make_run` in a folder that is named."""
    return make_run


@pytest.fixture
def build_run(tmp_path: Path) -> Callable[..., Run]:
    """`make_run` in a folder of this test."""
    return lambda **choices: make_run(tmp_path / "run", **choices)


@pytest.fixture
def build_store() -> Callable[..., Store]:
    return make_store


@pytest.fixture
def build_table() -> Callable[..., Table]:
    return make_table


@pytest.fixture(scope="session")
def page_data() -> Callable[[str], Any]:
    """The data that a page carries for its scripts."""

    def read(text: str) -> Any:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
        assert found
        return json.loads(found[1])

    return read


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with train, validation and test songs and its pages; read it, do not change it."""
    run = make_run(
        tmp_path_factory.mktemp("analyzed") / "run", splits=("train", "validation", "test")
    )
    analyze(run)
    return run


# What a file or folder may be called on one system or another, each a defect if it is not shown
# as the text that it is.
HOSTILE = (
    "<script>window.broken=1</script>",
    "</script><img src=x onerror='window.broken=1'>",
    "<!-- & \" ' \u2028 <b>bold</b> %{x}",
    "<a href='https://example.org'>link</a>",
)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose singers, albums and members are named to break the pages."""
    run = make_run(
        tmp_path_factory.mktemp("hostile") / "run",
        # a singer is a folder's name, so it holds no "/"
        singers=[name.replace("/", "∕") for name in HOSTILE],
        members=("aam",),
        train_albums=HOSTILE[:2],
    )
    analyze(run)
    return run


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)

# A probe is written into a copy of a page. It notes errors, refused requests and dialogs from the
# start, acts once the page has loaded, and leaves what it saw as JSON in the document.
WATCH = """<script>
window.seen = {errors: [], refused: []};
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => seen.refused.push(event.blockedURI));
</script>"""

ACT = """<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("load", async () => {
  await wait(300);
  const act = async () => { %s };
  try { seen.result = await act(); } catch (error) { seen.errors.push(String(error)); }
  seen.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.broken = window.broken === undefined ? null : window.broken;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""

# No window is narrower than 500 pixels, but a frame may be.
FRAME = """<!doctype html><script>
addEventListener("message", (event) => {
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = event.data;
  document.body.append(out);
});
</script><body style="margin: 0"><iframe src="%s" style="width: %dpx; height: 900px; border: 0">
</iframe></body>"""


@pytest.fixture
def visit(tmp_path: Path) -> Callable[..., Any]:
    """Open a copy of a page, run JavaScript in it, and return what that returns.

    Nothing may have failed, been refused or asked for, and the page may not be wider than `width`.
    """
    if BROWSER is None:
        pytest.skip("no chromium or chrome on this machine")

    def open_page(path: Path, act: str, width: int = 1200, address: str = "") -> Any:
        text = path.read_text(encoding="utf-8")
        text = text.replace('<meta name="viewport"', WATCH + '<meta name="viewport"', 1)
        text = text.replace("</body>\n</html>", ACT % act + "</body></html>")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
        if f'src="{PLOTLY}"' in text:
            write_plotly(tmp_path)
        frame = tmp_path / "frame.html"
        frame.write_text(FRAME % (path.name + address, width), encoding="utf-8")
        command = [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom",
            frame.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=600)
        if done.returncode:
            pytest.skip(
                f"the browser does not start: {done.stderr.decode(errors='replace')[-200:]}"
            )
        found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout.decode("utf-8"), re.DOTALL)
        assert found, "the page did not finish loading"
        seen = json.loads(html.unescape(found[1]))
        assert seen["errors"] == []
        assert seen["refused"] == []
        assert [one.rpartition("/")[2] for one in seen["loaded"]] in ([], [PLOTLY])
        assert seen["broken"] is None
        assert seen["overflow"] <= 0
        return seen["result"]

    return open_page


def with_head(store: Store, sharpness: float) -> Store:
    """The store of a member that has a head, in a place where someone listened for voice.

    Every third segment is hardly sung, and the head knows nothing of it.
    """
    rng = np.random.default_rng([9, len(store.segment_song)])
    logits = rng.normal(size=(len(store.segment_song), len(store.singers)))
    sung = np.arange(len(logits)) % 3 != 2
    rows = np.flatnonzero(sung)
    logits[rows, store.labels[store.segment_song[rows]]] += sharpness
    return replace(
        store,
        segment_logits=logits.astype(np.float32),
        segment_weight=np.where(sung, 0.9, 0.1).astype(np.float32),
        made_from={
            **store.made_from,
            "grid": "3 s every 2.5 s",
            "segment_s": "3",
            "activity": "hash of detector",
        },
    )


LOG = """epoch,loss,lr,top1,top3,score,nll,segment_score,audio_per_s,best
1,3.5,0.002,0.5,0.75,0.875,1.5,0.6,100,1
2,2.25,0.001,0.75,1.0,1.25,0.5,0.9,100,1
3,2.0,0.0001,0.75,1.0,1.25,0.75,0.85,100,0
"""


def make_answered(root: Path, singers: Sequence[str] = SINGERS) -> Run:
    """A run whose fusion is fitted: member aam has a head and a log, triplet neither."""
    run = create_run(root)
    stores: dict[str, list[Store]] = {}
    for split, albums in (
        ("train", ("First", "Second")), ("validation", ("Third", "Fourth")), ("test", ("Last",)),
    ):  # fmt: skip
        plain = [make_store(member, split, singers, albums, 6.0) for member in ("aam", "triplet")]
        stores[split] = [with_head(plain[0], 1.0 if split == "validation" else 3.0), plain[1]]
        for store in stores[split]:
            write_store(run.store(store.member, split), store)
    indexes = {store.member: index_of(store) for store in stores["train"]}
    fusion, scores = fit_fusion(indexes, stores["validation"], method="log_linear")
    write_fusion(run.fusion, fusion)
    write_table(run.predictions / "validation.npz", table_of(stores["validation"][0], scores))
    scores = score_songs(fusion, stores["test"], indexes).scores
    write_table(run.predictions / "test.npz", table_of(stores["test"][0], scores))
    write_text(run.log("aam"), LOG)
    return run


@pytest.fixture(scope="session")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`make_answered` with pages of its experts; read it, do not change it."""
    run = make_answered(tmp_path_factory.mktemp("answered") / "run")
    analyze(run, pages=["reliability", "members", "timeline", "training"])
    return run


@pytest.fixture
def copied(answered: Run, tmp_path: Path) -> Run:
    """A copy of `answered` that may be changed."""
    return Run(shutil.copytree(answered.root, tmp_path / "copied"))


def named_table(fused: list[int], **experts: list[int]) -> Predicted:
    """Ten songs of singer 0; what is named gets 0.8 of 3 singers, −1 stands for no answer."""

    def sure(named: list[int]) -> np.ndarray:
        rows = np.full((len(named), 3), 0.1)
        rows[np.arange(len(named)), named] = 0.8
        rows[np.array(named) < 0] = np.nan
        return rows

    songs = len(fused)
    ids = tuple(f"A/x/{row}.mp3" for row in range(songs))
    albums = ("A/x",) * songs
    names = {f"m/{name}": sure(named) for name, named in experts.items()}
    truth = np.zeros(songs, np.int64)
    return Predicted("validation", ids, ("A", "B", "C"), sure(fused), truth, albums, names)


@pytest.fixture(name="named_table")
def named_table_fixture() -> Callable[..., Predicted]:
    return named_table


Change = Callable[[VoiceRow], VoiceRow]


def song_of(song_id: str, split: str, vocals: bool = True) -> Song:
    singer, _, rest = song_id.partition("/")
    album, _, file = rest.rpartition("/")
    stem = f"vocals of {song_id}" if vocals else ""
    return Song(song_id, f"/{file}", singer, album, file, split, 30.0, f"mix of {song_id}", stem)


def row_of(song: Song, middle: float, width: float = 6.0) -> VoiceRow:
    """A song whose notes lie `width` semitones to either side of `middle` Hz."""
    steps = (-width, -width / 3, 0.0, width / 3, width)
    return VoiceRow(
        song.id,
        "vocals" if song.vocals else "mix",
        20.0,
        0.9,
        tuple(middle * 2 ** (step / 12) for step in steps),
        centroid_hz=4 * middle,
        flatness_db=-40.0 + middle / 100,
        tilt_db=-9.0 + middle / 200,
        mfcc=tuple(middle / 100 * (-1) ** number for number in range(12)),
        made_from=made_from(song, ""),
    )


@pytest.fixture(scope="session")
def song() -> Callable[..., Song]:
    return song_of


@pytest.fixture(scope="session")
def row() -> Callable[..., VoiceRow]:
    return row_of


@pytest.fixture(scope="session")
def measure() -> Callable[..., Run]:
    """`measure(run, {"Ada": 200.0})`: gives a run a catalogue, and rows for these singers."""

    def give(
        run: Run, middles: Mapping[str, float], vocals: bool = True, change: Change | None = None
    ) -> Run:
        member = sorted(path.name for path in run.members.iterdir())[0]
        songs = [
            song_of(song_id, split, vocals)
            for split in ("train", "validation")
            for song_id in read_store(run.store(member, split)).song_ids
        ]
        write_catalogue(run.catalogue, Catalogue(tuple(songs)))
        # Songs differ a little, as songs do.
        rows = [
            row_of(song, middles[song.singer] * (1 + 0.002 * (number % 3)))
            for number, song in enumerate(songs)
            if song.singer in middles
        ]
        write_rows(run, [change(one) if change else one for one in rows])
        return run

    return give


@pytest.fixture
def measured_run(build_run: Callable[..., Run], measure: Callable[..., Run]) -> Run:
    return measure(build_run(), {"Ada": 180.0, "Ben & Co": 200.0, "Cem": 120.0, "Dörte": 400.0})
