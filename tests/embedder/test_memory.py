"""Freed memory is asked for once: page faults are counted in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from embedder import memory

PROGRAM = """
import resource, sys
import numpy as np
from embedder.memory import reuse_freed_memory

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
    assert memory.reuse_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())  # a C library without mallopt
    assert memory.reuse_freed_memory() is False
