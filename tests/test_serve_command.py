"""`serve` as its users meet it: refusals in a line, the same answer as `predict`, and a load."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from embedder.catalogue import read_catalogue
from embedder.run import Run

Command = Callable[..., Any]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def recording(trained: Run) -> bytes:
    """A song that nobody was trained on."""
    return Path(read_catalogue(trained.catalogue).of("test")[0].path).read_bytes()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--max_mb", 0], "--max_mb 0 is not legal; it must be above 0"),
        (["--max_minutes", "inf"], "--max_minutes inf is not legal; it must be above 0"),
        (["--password", ""], "--password is empty; leave it out, or give one"),
        (["--port", 70000], "--port 70000 is not legal; it must be from 0 to 65535"),
        (["--run_dir", "nowhere", "--port", 0], "no run folder at nowhere; make one with"),
        (["--bundle", "nowhere", "--port", 0], "there is no bundle at nowhere; make one with"),
        (["--bundle", "a", "--run_dir", "b", "--port", 0], "--run_dir b and --bundle a are two"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(
    options: list[object], line: str, refused: Callable[..., str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERVE_PASSWORD", raising=False)
    assert refused("serve", *options).startswith(line)


def test_a_port_in_use_is_refused_before_anything_is_loaded(refused: Callable[..., str]) -> None:
    from analysis.web.server import bound

    with bound("127.0.0.1", 0) as made:
        port = made.getsockname()[1]
        line = refused("serve", "--port", port, "--run_dir", "nowhere")
    assert line.startswith(f"cannot listen on 127.0.0.1, port {port}: ")


def test_without_gradio_a_line_says_how_it_comes(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gradio" else real(name)
    )
    assert refused("serve") == (
        "gradio is not installed; run: python -m pip install -r requirements-web.txt"
    )


def test_the_api_is_over_the_run(
    trained: Run, recording: bytes, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.web.api import api

    found: dict[str, httpx.Response] = {}

    def ask(made: object, app: Any) -> None:
        del made

        async def all_of_it() -> None:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", auth=("me", "secret")
            ) as client:
                found["health"] = await client.get("/healthz")
                files = {"file": ("../a.flac", recording)}
                found["answer"] = await client.post("/api/predict", files=files)
                found["stranger"] = await client.get("/openapi.json", auth=("me", "no"))

        asyncio.run(all_of_it())
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.web.server.serve_on", ask)
    # The page itself has tests of its own, and takes seconds to load.
    monkeypatch.setitem(sys.modules, "analysis.web.app", SimpleNamespace(open_page=api))
    done = command(
        "serve", "--run_dir", trained.root, "--host", "0.0.0.0", "--port", 0, "--password", "secret"
    )
    assert done.code == 0
    lines = done.out.splitlines()
    assert "warning: other machines reach this page, who knows the password" in done.err
    assert lines[-1] == "stopped"
    assert lines[-2].startswith("listening on http://127.0.0.1:")
    assert "there is no map of the songs; to draw it: python app.py analyze" in done.out
    assert found["stranger"].status_code == 401
    assert found["health"].status_code == 200
    answer = found["answer"].json()
    assert answer["seconds"] == pytest.approx(6, abs=0.01)
    assert 0.7 < sum(one["probability"] for one in answer["top"]) <= 1 + 1e-9  # 3 of 4 singers
    assert len(answer["nearest"]) == 4
    assert all(one["playable"] for one in answer["nearest"])


def memory_mb(process: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1000


@pytest.mark.slow
def test_sixteen_clients_at_once_for_a_minute(trained: Run, capfd: Any) -> None:
    clients, lasts = 16, 60.0
    time_s = np.arange(3 * 16000) / 16000
    out = io.BytesIO()
    soundfile.write(out, 0.3 * np.sin(2 * np.pi * 330 * time_s), 16000, format="WAV")
    server = subprocess.Popen(
        [sys.executable, "app.py", "serve", "--port", "0", "--run_dir", str(trained.root)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    took: list[float] = []
    answers: set[str] = set()
    problems: list[str] = []
    try:
        assert server.stdout is not None
        line = next(one for one in server.stdout if one.startswith("listening on "))
        address = line.split()[2].removesuffix(";")
        stop = time.monotonic() + lasts

        def visit() -> None:
            with httpx.Client(base_url=address, timeout=600) as client:
                while time.monotonic() < stop:
                    began = time.monotonic()
                    try:
                        files = {"file": ("a.wav", out.getvalue())}
                        found = client.post("/api/predict", files=files)
                    except httpx.HTTPError as error:
                        problems.append(repr(error))
                        return
                    took.append(time.monotonic() - began)
                    if found.status_code != 200:
                        problems.append(f"{found.status_code} {found.text}")
                    answers.add(found.text)

        threads = [threading.Thread(target=visit) for _ in range(clients)]
        for thread in threads:
            thread.start()
        while len(took) < 4 * clients and any(thread.is_alive() for thread in threads):
            time.sleep(0.1)  # until everything has been touched
        before = memory_mb(server.pid)
        for thread in threads:
            thread.join()
        after = memory_mb(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=300)[0]
    took.sort()
    median, late = statistics.median(took), took[int(0.95 * len(took))]
    with capfd.disabled():  # to stderr, which a worker of pytest-xdist shares with the terminal
        print(
            f"\n{len(took)} requests of {clients} clients in {lasts:.0f} s: median {median:.2f} s, "
            f"95th percentile {late:.2f} s; memory {before:.0f} MB, then {after:.0f} MB",
            file=sys.stderr,
        )
    assert not problems
    assert len(answers) == 1
    assert after < 1.05 * before + 10
    assert server.returncode == 0
    assert "Traceback" not in rest
