"""Freed memory kept for the next tensor.

Enters: nothing. Leaves: a setting of this process's C library, where that is glibc.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # the parameters' numbers in glibc's malloc.h
NEVER = 2**31 - 1  # bytes free at the end of the heap from which it would shrink


def reuse_freed_memory() -> bool:
    """Tell malloc to keep what is freed; whether it took the setting (False where not glibc).

    A step on the CPU makes and frees tensors of tens of megabytes. glibc would hand such blocks
    back to the system and ask for them anew, and the system clears every page of them each time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
