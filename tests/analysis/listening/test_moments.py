"""The timeline: each segment stands where it is heard, under whom it names first."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from analysis.listening.moments import OTHERS, lane_names, said, tick_seconds, timeline
from analysis.listening.schemas import Choice, SegmentPrediction


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
    assert said(moments("AAA")) == "All 3 segments name A first."
    assert said(moments("ABAC")) == "2 of 4 segments name A first; the rest name 2 other singers."
    assert said(moments("A")) == "The one segment names A first."
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
