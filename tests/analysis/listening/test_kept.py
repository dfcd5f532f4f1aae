"""What is kept of a visit is bounded in bytes and in time."""

from __future__ import annotations

from analysis.listening.kept import Kept


def test_what_was_unused_longest_goes_first() -> None:
    kept = Kept(room=10)
    first, second = kept.put("a", 4), kept.put("b", 4)
    assert kept.get(first) == "a"  # used again, so b is now the older one
    third = kept.put("c", 5)
    assert [kept.get(one) for one in (first, second, third)] == ["a", None, "c"]
    assert kept.size() == 9


def test_what_is_too_large_is_not_kept() -> None:
    kept = Kept(room=10)
    small, large = kept.put("a", 1), kept.put("b", 11)
    assert (kept.get(small), kept.get(large), kept.size()) == (None, None, 0)


def test_what_nobody_asks_for_is_dropped() -> None:
    now = [0.0]
    kept = Kept(room=10, idle_s=60, clock=lambda: now[0])
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
    kept = Kept(room=100)
    tokens = {kept.put("a", 0) for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 20
    assert kept.get(None) is kept.get("") is None
