"""What holds for every test: one thread of torch, and hypothesis without a stop watch.

Beside it, made once a session and handed out as copies: a few synthesised songs, a run folder
prepared from them, and one with two tiny members trained and fused.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from embedder.config import MemberConfig
from embedder.run import Run, create_run
from embedder.settings import build_config

# A busy machine is slow now and then, and that is no failure. The same examples each time, so that
# a run that passes here passes elsewhere.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """pytest-randomly shuffles the tests; the seeds are given below, the same in every run."""
    config.option.randomly_reset_seed = False


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Each test and its fixtures begin with the same random numbers, whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The tests' tensors are small: threads would only wait for each other.

    Test modules are imported before the first test runs, so torch is there if one of them uses it;
    a run of tests that do without stays without.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_flushed() -> Iterator[None]:
    """Tests lose no power, and to wait for the disk at each of their small files takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


# The published self-supervised models, so small that one is built in a hundredth of a second.
SMALL_SSL: dict[str, Any] = {
    "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
    "encoder_embed_dim": 16,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32,
}


@pytest.fixture(scope="session", autouse=True)
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Self-supervised models are small in all tests, and torch's cache holds weights for them.

    Gives the published models' own size.
    """
    if "embedder.models.network" not in sys.modules:  # no test module asks for networks
        yield {}
        return
    import torch

    from embedder.models import ssl

    published = dict(ssl.BASE)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_SSL.items():
            patch.setitem(ssl.BASE, name, value)
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        for spec in ssl.PRETRAINED.values():
            torch.manual_seed(7)
            model = spec.build(**{**ssl.BASE, **spec.options, "encoder_num_layers": 12})
            weights = {k: v + 0.1 * torch.randn_like(v) for k, v in model.state_dict().items()}
            spec.file.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(weights, spec.file.path)
        yield published


# A network and a training so small that an epoch takes a tenth of a second.
TINY: dict[str, Any] = {
    "channels": 16,
    "mfa_channels": 32,
    "embedding_dim": 16,
    "attention_channels": 8,
    "epochs": 2,
    "crops_per_song": 2,
    "batch_singers": 3,
    "batch_crops": 2,
    "segment_s": 1.0,
    "eval_segment_s": 2.0,
    "eval_hop_s": 1.0,
    "ssl_layers": 2,
    "ivector_components": 8,
    "ivector_dim": 8,
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., MemberConfig]:
    """`tiny(loss="triplet", epochs=3)`: a config of the tiny network with single changes."""
    return lambda **changes: build_config(changes=TINY | changes)


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    """The tiny network as options of `train-embedder`."""
    return [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mix/`, `vocals/` and `backing/`: 4 singers x 3 albums x 1 song of 6 s. Not to be changed."""
    from embedder.data.synth import synthesise

    folder = tmp_path_factory.mktemp("synthesised")
    synthesise(folder, seed=0, singers=4, albums=3, songs=1, seconds=6.0)
    return folder


@pytest.fixture(scope="session")
def _prepared(synthesised: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from embedder.data.prepare import prepare

    run = create_run(tmp_path_factory.mktemp("prepared") / "run")
    prepare(run, synthesised / "mix", "album", synthesised)
    return run.root


@pytest.fixture
def prepared(_prepared: Path, tmp_path: Path) -> Run:
    """A copy of a run folder in which each singer has one train, validation and test song."""
    return Run(Path(shutil.copytree(_prepared, tmp_path / "prepared")))


@pytest.fixture
def put_detector() -> Callable[[Run, float], None]:
    """`put_detector(run, 20.0)`: a voice detector that hears voice everywhere; with -20.0, none.

    With 0.0 it says one thing and another, from random weights.
    """

    def put(run: Run, logit: float) -> None:
        import torch

        from embedder.catalogue import read_catalogue
        from embedder.data.cache import AudioCache
        from embedder.inference.detector import save_detector
        from embedder.models.detector import VoiceDetector

        torch.manual_seed(0)
        network = VoiceDetector().eval().requires_grad_(False)
        answer = network.answer[1]
        if logit:
            answer.weight.zero_()
            answer.bias.fill_(logit)
        else:  # around 0 in the run's first song, and far from it to either side
            song = read_catalogue(run.catalogue).songs[0]
            wave = AudioCache(run.cache).read(song.audio, 0, 6 * 16000)
            heard = network(torch.from_numpy(wave)[None])
            answer.bias.sub_(heard.median())
            answer.weight.mul_(5 / heard.std())
            answer.bias.mul_(5 / heard.std())
        save_detector(run, network, {}, [])

    return put


@pytest.fixture(scope="session")
def _trained(
    _prepared: Path, tiny: Callable[..., MemberConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    import torch

    from embedder.catalogue import read_catalogue
    from embedder.inference.checkpoint import load_member
    from embedder.inference.config import InferenceConfig
    from embedder.inference.embed import embed_attenuated, embed_split
    from embedder.training.members import train_member
    from ensemble.fusion.pipeline import fuse_run

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained") / "run"
    run = Run(Path(shutil.copytree(_prepared, root)))
    catalogue = read_catalogue(run.catalogue)
    for loss in ("aam", "triplet"):
        train_member(run, catalogue, loss, tiny(loss=loss), device="cpu", say=lambda _: None)
        for split in ("train", "validation", "test"):
            embed_split(run, catalogue, load_member(run, loss), split)
    embed_attenuated(run, catalogue, ["aam", "triplet"], InferenceConfig())
    fuse_run(run, catalogue, ["aam", "triplet"])
    return root


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Run:
    """A copy of a run folder with the tiny members "aam" and "triplet", embedded and fused."""
    return Run(Path(shutil.copytree(_trained, tmp_path / "trained")))


HELD = """
    import builtins, sys

    line, *words = sys.argv[1:]
    def held(*texts, show=print, **options):
        show(*texts, **options)
        if texts and str(texts[0]).startswith(line):
            sys.stdin.read()  # until killed
    builtins.print = held

    import app
    sys.exit(app.main(words))
"""


@pytest.fixture
def killed_at() -> Callable[..., int]:
    """`killed_at("epoch   1/", "train-embedder")`: a command, killed once it has said that line.

    It runs in a process of its own, which waits there until it is killed; gives the exit status.
    """

    def run(line: str, *words: str) -> int:
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HELD), line, *words],
            cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            said = any(text.startswith(line) for text in process.stdout)
            process.kill()
        assert said, f"the command ended without saying {line!r}"
        return process.returncode

    return run


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`command("fuse", "--seed", 1)` runs `python app.py fuse --seed 1` inside this process."""

    def call(*words: object) -> Outcome:
        import app

        capfd.readouterr()
        code = app.main([*map(str, words)])
        found = capfd.readouterr()
        return Outcome(code, found.out, found.err)

    return call


@pytest.fixture
def refused(command: Callable[..., Outcome]) -> Callable[..., str]:
    """The one line on standard error with which a command is refused; all else is a failure."""

    def call(*words: object) -> str:
        outcome = command(*words)
        assert outcome.code == 2, outcome
        lines = outcome.err.splitlines()
        assert len(lines) == 1, outcome.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in outcome.out
        return lines[0].removeprefix("error: ")

    return call
