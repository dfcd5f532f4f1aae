"""The answer says what the numbers say, in escaped HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from analysis.web.schemas import Choice, Near, Recognised, SegmentPrediction
from analysis.web.widgets import (
    OTHERS,
    bars,
    clock,
    headline,
    lane_names,
    nearest,
    percent,
    song_address,
    tick_seconds,
    time_summary,
    timeline,
)

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


def moments(names: str, hop: float = 2.0, length: float = 3.0) -> tuple[SegmentPrediction, ...]:
    return tuple(
        SegmentPrediction(at * hop, at * hop + length, 0.5, (Choice(name, 0.8), Choice("?", 0.1)))
        for at, name in enumerate(names)
    )


def test_blocks_fill_the_recording_without_overlap() -> None:
    text = timeline(moments("AAB"), 7.0, {"A": "#aa0000", "B": "#0000bb"}, "listening/x")
    lanes = re.findall(r'<div class="lane"><span>([^<]+)</span>(.*?)</div>', text)
    spans = {
        name: [
            (float(left), float(width))
            for left, width in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", one)
        ]
        for name, one in lanes
    }
    assert list(spans) == ["A", "B"]
    share = 100 / 7
    assert spans["A"] == [pytest.approx((0, 2 * share), abs=0.01),
                          pytest.approx((2 * share, 2 * share), abs=0.01)]  # fmt: skip
    assert spans["B"] == [pytest.approx((4 * share, 3 * share), abs=0.01)]
    assert "--tint:#aa0000" in text
    assert "opacity:0.85" in text  # 0.25 + 0.75 · 0.8
    assert 'title="0:02 to 0:05: A 80%, ? 10%; voice 50%"' in text
    assert "M285.7 100V50H571.4V100Z" in text  # the second segment's voice, of 1000 by 100
    assert text.count("<tr>") == 1 + 3
    assert '<audio id="heard"' in text


def test_rare_singers_share_a_lane() -> None:
    assert lane_names(moments("ABCDEABCDAB")) == ["A", "B", "C", "D", "E"]
    assert lane_names(moments("ABCDEFABCDAB")) == ["A", "B", "C", "D", OTHERS]
    text = timeline(moments("ABCDEFABCDAB"), 25.0, {})
    lane = re.search(rf"<span>{OTHERS}</span>(.*?)</div>", text)
    assert lane
    assert lane[1].count("<i ") == 2


def test_what_is_said_is_true_of_the_segments() -> None:
    assert time_summary(moments("AAA")) == "All 3 segments name A first."
    assert (
        time_summary(moments("ABAC"))
        == "2 of 4 segments name A first; the rest name 2 other singers."
    )
    assert time_summary(moments("A")) == "The one segment names A first."
    assert "there is nothing over time" in timeline((), 2.0, {})


@pytest.mark.parametrize("seconds", [0.8, 3.0, 10.0, 61.0, 900.0, 5000.0])
def test_ticks_are_few_and_fit(seconds: float) -> None:
    ticks = tick_seconds(seconds)
    assert ticks[0] == 0
    assert len(ticks) <= 9
    assert max(ticks) < seconds
    assert len({b - a for a, b in pairwise(ticks)}) <= 1


def test_names_are_text() -> None:
    hostile = "</div><script>x</script>"
    text = timeline([SegmentPrediction(0, 1, 1, (Choice(hostile, 1.0),))], 1.0, {hostile: '"#x'})
    assert "<script>" not in text
    assert '--tint:"' not in text
