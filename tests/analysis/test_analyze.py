"""From a run folder to pages: whole or nothing, the same each time, no torch, names stay text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis import page
from analysis.analyze import analyze
from embedder.errors import UserError
from embedder.inference.store import Store, read_store, write_store
from embedder.run import Run

PAGES = [file for file, _ in page.PAGES]
MAP = PAGES.index("tsne.html")
ROOT = Path(__file__).parents[2]


class Tags(HTMLParser):
    """Names of all elements, and those attributes that run or load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.active: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "src" or "http" in (value or "")[:5]:
                self.active.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_are_written_and_stay_small(analyzed: Run) -> None:
    assert sorted(p.name for p in analyzed.pages.iterdir()) == sorted([*PAGES, page.PLOTLY])
    sizes = {name: (analyzed.pages / name).stat().st_size for name in PAGES}
    assert sizes["index.html"] < 50_000
    assert all(size < 1e6 for size in sizes.values())
    text = (analyzed.pages / "index.html").read_text(encoding="utf-8")
    assert "48 songs by 4 singers: 24 train, 12 validation, 12 test." in text
    assert "Findings, test split, song level" in text
    assert "Member triplet: for 12 of 12 test songs, the nearest training song" in text
    assert 'href="tsne.html"' in text
    assert 'href="confusion.html"' in text


def test_a_single_file_holds_plotly_and_may_load_nothing(
    build_run: Callable[..., Run], visit: Callable[..., object]
) -> None:
    run = build_run(members=("aam",))
    (path,) = analyze(run, pages=["albums"], single_files=True)
    assert [file.name for file in run.pages.iterdir()] == ["albums.html"]
    text = path.read_text(encoding="utf-8")
    assert " src=" not in text.partition("<main>")[0]
    assert "script-src &#x27;unsafe-inline&#x27;; style-src" in text
    assert path.stat().st_size > 4e6
    drawn = "return document.querySelectorAll('.plot .main-svg').length > 0;"
    assert visit(path, drawn) is True


def test_the_same_run_gives_the_same_bytes(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(title: str) -> AbstractContextManager[Callable[[int, int], object]]:
        calls = told.setdefault(title, [])
        return nullcontext(lambda done, total: calls.append((done, total)))

    paths = analyze(run, progress=progress)
    assert [path.name for path in paths] == PAGES
    assert list(told) == ["fitting maps, percent", "drawing pages"]
    assert told["drawing pages"] == [(done, len(PAGES)) for done in range(1, len(PAGES) + 1)]
    percent = [done for done, _ in told["fitting maps, percent"]]
    assert percent == sorted(percent)
    assert percent[-1] == 100
    assert len(set(percent)) > 30  # the bar moves while a map is fitted
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in analyze(run)] == first
    assert analyze(run, seed=1)[MAP].read_bytes() != first[MAP]


def test_chosen_members_only(build_run: Callable[..., Run]) -> None:
    text = analyze(build_run(), members=["triplet"], pages=["tsne"])[0].read_text(encoding="utf-8")
    assert "Member triplet:" in text
    assert "Member aam:" not in text


def test_nothing_is_written_when_something_is_missing(build_run: Callable[..., Run]) -> None:
    run = build_run()
    (run.predictions / "validation.npz").unlink()
    with pytest.raises(UserError, match=r"python app\.py fuse"):
        analyze(run)
    assert not run.pages.exists()


def test_pages_stay_when_a_later_run_fails(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    before = [path.read_bytes() for path in analyze(run)]
    run.store("aam", "train").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"not a readable store.*python app\.py fuse"):
        analyze(run)
    assert [(run.pages / name).read_bytes() for name in PAGES] == before


def test_a_member_trained_since_the_fusion_is_refused(build_run: Callable[..., Run]) -> None:
    run = build_run()
    path = run.store("triplet", "validation")
    write_store(path, replace(read_store(path), made_from={"checkpoint": "newer"}))
    with pytest.raises(UserError, match=r"checkpoint hash of triplet of member triplet.*newer"):
        analyze(run)


def test_members_of_different_songs_are_refused(
    build_run: Callable[..., Run], build_store: Callable[..., Store]
) -> None:
    run = build_run()
    store = read_store(run.store("triplet", "train"))
    other = build_store("triplet", "train", store.singers, ("First", "Another"))
    write_store(run.store("triplet", "train"), other)
    with pytest.raises(UserError, match="members aam and triplet were given different songs"):
        analyze(run)


def test_a_run_without_training_songs_is_refused(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    full = read_store(run.store("aam", "train"))
    arrays = (
        "labels",
        "embeddings",
        "segment_song",
        "segment_start_s",
        "segment_embeddings",
        "segment_weight",
    )
    empty = {name: getattr(full, name)[:0] for name in arrays}
    write_store(run.store("aam", "train"), replace(full, song_ids=(), albums=(), **empty))
    with pytest.raises(UserError, match="train store of member aam holds no song"):
        analyze(run)


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_stay_text(name: str, hostile: Run) -> None:
    text = (hostile.pages / name).read_text(encoding="utf-8")
    songs = text.count('<a href="timeline.html#')  # in the lists of a cell's songs
    found = Tags(text)
    assert found.active in ([], [f"script src={page.PLOTLY}"])
    assert found.tags.count("script") in (0, 4)  # data, plotly, the shared script, the page's own
    assert "img" not in found.tags
    more = {
        "index.html": len(PAGES) - 1,
        "voices.html": 2,
    }  # the front's cards; answers that lead further
    assert found.tags.count("a") == len(PAGES) + more.get(name, 0) + songs  # beside the navigation
    if name in ("index.html", "tsne.html", "confusion.html"):
        assert "<script>window.broken=1<∕script>" in found.text


def test_no_torch(analyzed: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from analysis.analyze import analyze; "
        "from embedder.run import open_run; "
        "analyze(open_run(Path(sys.argv[1])), members=['aam']); "
        "heavy = {'torch', 'torchaudio', 'lightning', 'pytorch_metric_learning'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    copy = tmp_path / "copy"
    shutil.copytree(analyzed.root, copy)
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
