"""Uploads are read into memory; neither their names nor their paths lead anywhere."""

from __future__ import annotations

import gc
import io
import shutil
import stat
import threading
import zipfile
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from analysis.web.schemas import Limits
from analysis.web.uploads import (
    MOST_MEMBERS,
    Recent,
    Recording,
    Refused,
    recordings,
    remove_at_the_end,
    shown_name,
    take,
    unzipped,
    upload_folder,
)
from embedder.errors import UserError

LIMITS = Limits(max_mb=0.01)  # 10,000 bytes


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Recording:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return Recording("all.zip", out.getvalue())


def uploaded(folder: Path, name: str, data: bytes) -> dict[str, str]:
    path = folder / "hash" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return {"path": str(path), "orig_name": name}


def test_a_file_is_taken_and_nothing_stays(tmp_path: Path) -> None:
    given = [uploaded(tmp_path, "a.wav", b"one"), uploaded(tmp_path, "b.wav", b"two")]
    assert take([*given, given[0]], tmp_path) == [
        Recording("a.wav", b"one"), Recording("b.wav", b"two"), Recording("a.wav", b"one")
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"^the file did not arrive; please send it again$"):
        take(given, tmp_path)


def test_a_file_may_stay_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []

    class Hand(threading.Timer):
        """A timer that fires when the test says so."""

        def start(self) -> None:
            timers.append(self)

    monkeypatch.setattr(threading, "Timer", Hand)
    assert take([uploaded(tmp_path, "a.wav", b"one")], tmp_path, still_s=0.2)
    (timer,) = timers
    assert timer.interval == 0.2
    assert (tmp_path / "hash" / "a.wav").exists()
    timer.function(*timer.args, **timer.kwargs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["../secret", "folder/../../secret", "{root}/secret", "", "."])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, way: str) -> None:
    """The others of the same upload are removed all the same."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    (folder / "link").symlink_to(secret)
    good = uploaded(folder, "a.wav", b"one")
    for bad in (str(folder / way.format(root=tmp_path)), str(folder / "link")):
        with pytest.raises(UserError, match="did not arrive"):
            take([good, {"path": bad}], folder)
        assert secret.read_bytes() == b"not yours"
        assert not (folder / "hash").exists()
        uploaded(folder, "a.wav", b"one")


def test_a_zip_is_opened_and_the_rest_gets_sentences() -> None:
    members = {
        "0001.mp3": b"one", "sub/../../x.OGG": b"two", "notes.txt": b"words", "in.zip": b"PK",
        "__MACOSX/._0001.mp3": b"", "sub/.DS_Store": b"", "sub/": b"",
    }  # fmt: skip
    good, bad = recordings([Recording("a.wav", b"w"), zipped(members)], LIMITS)
    assert good == [
        Recording("a.wav", b"w"), Recording("0001.mp3", b"one"), Recording("sub/x.OGG", b"two")
    ]  # fmt: skip
    assert [one.name for one in bad] == ["notes.txt", "in.zip"]
    assert bad[0].why.startswith("not a recording")
    assert bad[1] == Refused("in.zip", "a zip inside a zip is not opened")


def test_other_ways_of_packing_are_not_unpacked() -> None:
    _, (bad,) = recordings([zipped({"a.mp3": b"x" * 99}, zipfile.ZIP_LZMA)], LIMITS)
    assert "use an ordinary zip" in bad.why
    file = bytearray(zipped({"a.mp3": b"x"}).data)
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        at = file.index(start) + (6 if start[2] == 3 else 8)
        file[at] |= 1
    assert recordings([Recording("e.zip", bytes(file))], LIMITS)[1] == [
        Refused("a.mp3", "it is encrypted")
    ]


def test_the_limit_is_one_on_the_sum_unpacked() -> None:
    too_large = r"^all recordings together are larger than 0\.01 MB, the most at once$"
    bomb = zipped({"a.wav": bytes(5_000_000)})
    assert len(bomb.data) < 6_000
    with pytest.raises(UserError, match=too_large):
        recordings([bomb], LIMITS)
    exact = zipped({"a.wav": bytes(6_000), "b.wav": bytes(4_000)})
    assert len(recordings([exact], LIMITS)[0]) == 2
    with pytest.raises(UserError, match=too_large):
        recordings([exact, Recording("c.wav", b"1")], LIMITS)
    with pytest.raises(UserError, match=too_large):
        recordings([Recording("a.wav", bytes(6_000)), Recording("b.wav", bytes(4_001))], LIMITS)


def test_a_size_that_a_zip_claims_is_not_believed() -> None:
    """The entry says 1 byte; what comes out counts."""
    bomb = bytearray(zipped({"a.wav": bytes(50_000)}).data)
    at = bomb.index(b"PK\x01\x02") + 24
    bomb[at : at + 4] = (1).to_bytes(4, "little")
    with pytest.raises(UserError):
        recordings([Recording("liar.zip", bytes(bomb))], LIMITS)


def test_too_many_files_and_broken_zips() -> None:
    many = zipped({f"{one}.wav": b"" for one in range(MOST_MEMBERS + 1)})
    with pytest.raises(
        UserError, match=r"^all\.zip holds more than 1,000 files, the most at once$"
    ):
        recordings([many], Limits())
    file = bytearray(zipped({"a.wav": bytes(range(256)) * 20}).data)
    file[60] ^= 0xFF
    with pytest.raises(UserError, match=r"^all\.zip is a zip that cannot be read: it is damaged$"):
        unzipped(Recording("all.zip", bytes(file)), 10_000, LIMITS)
    with pytest.raises(UserError, match=r"^there is no file in what was sent$"):
        recordings([zipped({})], LIMITS)


@given(st.text())
def test_a_shown_name_is_no_way(name: str) -> None:
    shown = shown_name(name)
    assert shown
    assert shown.isprintable()
    assert not shown.startswith("/")
    assert "\\" not in shown
    assert ".." not in shown.split("/")
    assert len(shown) <= 200
    assert shown_name("..\\..\\C:/Ada/one.mp3") == "Ada/one.mp3"


def test_it_lies_in_memory_if_there_is_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    inside = upload_folder(free // 4, tmp_path)
    assert inside.parent == tmp_path.resolve()
    assert stat.S_IMODE(inside.stat().st_mode) == 0o700
    for room, place in ((free, tmp_path), (0, tmp_path / "not there")):
        outside = upload_folder(room, place)
        assert not outside.is_relative_to(tmp_path.resolve())
        outside.rmdir()


def test_it_goes_with_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "left.wav").touch()
    app = FastAPI()
    remove_at_the_end(app, folder)
    with TestClient(app):
        assert folder.is_dir()
    assert not folder.exists()


def test_it_goes_with_an_application_that_never_ran(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    app = FastAPI()
    remove_at_the_end(app, folder)
    del app
    gc.collect()
    assert not folder.exists()


def test_what_was_unused_longest_goes_first() -> None:
    kept = Recent(room=10)
    first, second = kept.put("a", 4), kept.put("b", 4)
    assert kept.get(first) == "a"  # used again, so b is now the older one
    third = kept.put("c", 5)
    assert [kept.get(one) for one in (first, second, third)] == ["a", None, "c"]
    assert kept.size() == 9


def test_what_is_too_large_is_not_kept() -> None:
    kept = Recent(room=10)
    small, large = kept.put("a", 1), kept.put("b", 11)
    assert (kept.get(small), kept.get(large), kept.size()) == (None, None, 0)


def test_what_nobody_asks_for_is_dropped() -> None:
    now = [0.0]
    kept = Recent(room=10, idle_s=60, clock=lambda: now[0])
    first = kept.put("a", 1)
    now[0] = 50.0
    second = kept.put("b", 1)
    assert kept.get(first) == "a"
    now[0] = 109.0
    assert kept.get(first) == "a"
    now[0] = 111.0
    assert kept.get(second) is None
    assert kept.size() == 1
    kept.drop(first)
    kept.drop("nothing")
    assert kept.size() == 0


def test_tokens_cannot_be_guessed() -> None:
    kept = Recent(room=100)
    tokens = {kept.put("a", 0) for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 20
    assert kept.get(None) is kept.get("") is None
