"""What every fit shares: the precision, small numbers, warnings, and a quiet loop."""

from __future__ import annotations

import platform
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from embedder.config import MemberConfig
from embedder.models import network
from embedder.settings import build_config
from embedder.training.runner import fitting, open_trainer, precision

SMALLEST = np.float32(1e-40)  # not a normal float


def tiny(**changes: object) -> MemberConfig:
    return build_config(changes=changes)


def test_precision_follows_the_device_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((True, "bf16-mixed"), (False, "32-true")):
        found = {"avx512_bf16": able}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert precision(tiny(), cpu) == expected
    assert precision(tiny(precision="bf16"), cpu) == "bf16-mixed"
    assert precision(tiny(), torch.device("mps")) == "32-true"


def halved() -> float:
    return float(torch.tensor(SMALLEST) * 0.5)


def test_numbers_too_small_for_a_normal_float_are_zero_while_fitting() -> None:
    assert halved() > 0
    with fitting():
        assert halved() == 0
    assert halved() > 0
    with pytest.raises(KeyError), fitting():
        raise KeyError
    assert halved() > 0  # after an error too


def test_only_lightning_s_warnings_are_held_back() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with fitting():
            for module in ("lightning.pytorch.loops", "embedder.training.module"):
                warnings.warn_explicit("slow", UserWarning, "a.py", 1, module=module)
    assert [str(warning.message) for warning in seen] == ["slow"]


def test_the_loop_keeps_nothing_but_what_its_keeper_writes() -> None:
    keeper = Callback()
    trainer = open_trainer(torch.device("cpu"), "32-true", 3, 2.5, keeper, show_bar=False)
    assert (trainer.max_epochs, trainer.gradient_clip_val) == (3, 2.5)
    assert keeper in trainer.callbacks  # type: ignore[attr-defined]
    assert trainer.loggers == []
    assert trainer.checkpoint_callbacks == []
    assert trainer.progress_bar_callback is None
    shown = open_trainer(torch.device("cpu"), "32-true", 3, 2.5, keeper, show_bar=True)
    assert shown.progress_bar_callback is not None


PROGRAM = """
import resource, sys
import numpy as np
from embedder.models.network import reuse_freed_memory

if sys.argv[1] == "kept":
    assert reuse_freed_memory()
for _ in range(4):
    np.ones(5_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(5_000_000)  # 40 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_freed_blocks_are_taken_again_without_a_page_fault() -> None:
    assert faults("as it is") > 50  # five times 40 MB in pages of 4 kB, or of 2 MB
    assert faults("kept") < 10


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert network.reuse_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(network.ctypes, "CDLL", lambda _: object())  # a C library without mallopt
    assert network.reuse_freed_memory() is False
