"""The answer says what the numbers say, in escaped HTML."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from analysis.listening.answer import bars, clock, headline, nearest, percent, song_address
from analysis.listening.schemas import Choice, Near, Recognised

ANSWER = Recognised(
    seconds=10.0,
    top=(Choice("Ada", 0.62), Choice("<b>Ben</b>", 0.3), Choice("Cem", 0.001)),
    unknown=False, confidence=0.7, threshold=0.4, segments=(),
    nearest=(
        Near("Ada/First/a b&c.mp3", "a b&c", "Ada", "Ada/First", -0.125, True),
        Near("Ada/x.mp3", "x", "Ada", "", 0.5, False),
    ),
    place=None, notes=("No <voice> was found.",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0%"), (0.004, "under 1%"), (0.006, "1%"), (0.625, "62%"), (0.994, "99%"),
     (0.996, "over 99%"), (1.0, "100%")],
)  # fmt: skip
def test_percent_never_says_what_is_not(share: float, said: str) -> None:
    assert percent(share) == said


def test_clock() -> None:
    assert [clock(one) for one in (0, 7.4, 59.6, 750, 3723)] == [
        "0:00", "0:07", "1:00", "12:30", "1:02:03"
    ]  # fmt: skip


def test_the_headline_names_a_singer_or_says_unknown() -> None:
    assert headline(ANSWER, 20) == "This sounds like Ada, 62%."
    assert headline(replace(ANSWER, unknown=True), 1200) == (
        "Unknown: probably none of the 1,200 singers that are known here. Most like Ada, 62%."
    )


def test_bars_are_as_wide_as_their_shares() -> None:
    text = bars(ANSWER, {"Ada": "#112233"})
    assert re.findall(r"width:([0-9.]+)%", text) == ["62.0", "30.0", "0.1"]
    assert re.findall(r'class="share">([^<]+)<', text) == ["62%", "30%", "under 1%"]
    assert "background:#112233" in text
    assert "&lt;b&gt;Ben&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "No &lt;voice&gt; was found." in text
    assert "Confidence 0.70; below 0.40 a recording counts as unknown." in text
    assert 'class="bars"' in text
    assert 'class="bars unknown"' in bars(replace(ANSWER, unknown=True), {})


def test_songs_have_players_where_they_can_be_played() -> None:
    text = nearest(ANSWER, song_address)
    assert re.findall(r'src="([^"]+)"', text) == ["listening/song?id=Ada%2FFirst%2Fa%20b%26c.mp3"]
    assert 'aria-label="Excerpt of a b&amp;c by Ada"' in text
    assert "Ada · First" in text
    assert "similarity −0.12" in text
    assert "no excerpt" in text
    assert nearest(replace(ANSWER, nearest=()), song_address) == ""
