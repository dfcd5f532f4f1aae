"""Recordings between two steps of a visit: in memory alone, and not for long.

Enters: anything with a size. Leaves: a token nobody can guess, and for it what was put in, as long
as it is kept.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

IDLE_S = 1800.0  # what nobody has asked for so long is dropped


@dataclass
class _Item:
    value: Any
    size: int
    used_s: float


class Kept:
    """At most `room` bytes; when more is put in, what was unused for longest goes first."""

    def __init__(
        self, room: int, idle_s: float = IDLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._room, self._idle_s, self._clock = room, idle_s, clock
        self._items: dict[str, _Item] = {}  # in order of their last use
        self._lock = threading.Lock()

    def put(self, value: Any, size: int) -> str:
        """Keep `value`, which weighs `size` bytes; returns its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._items[token] = _Item(value, size, self._clock())
            self._drop_old()
        return token

    def get(self, token: str | None) -> Any | None:
        """What was kept under a token; `None` if it is there no more."""
        with self._lock:
            self._drop_old()
            item = self._items.pop(token or "", None)
            if item is None:
                return None
            item.used_s = self._clock()
            self._items[str(token)] = item
            return item.value

    def drop(self, token: str | None) -> None:
        """Forget one; a token that is not known is no error."""
        with self._lock:
            self._items.pop(token or "", None)

    def size(self) -> int:
        """Bytes kept now."""
        with self._lock:
            self._drop_old()
            return sum(item.size for item in self._items.values())

    def _drop_old(self) -> None:
        now = self._clock()
        total = sum(item.size for item in self._items.values())
        for token, item in list(self._items.items()):
            if total <= self._room and now - item.used_s < self._idle_s:
                break
            total -= item.size
            del self._items[token]
