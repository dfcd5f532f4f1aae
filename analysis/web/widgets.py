"""The answer to one recording as escaped HTML: who it is, how sure that is, and who sings when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from analysis.page import UNKNOWN_COLOUR, escape, table
from analysis.run_data import album_title
from analysis.web.schemas import Near, Recognised
from embedder.text import counted
from ensemble.results import Choice, SegmentPrediction


def percent(share: float) -> str:
    """A share in whole percent; one that is neither 0 nor 1 is never written as one."""
    if 0 < share < 0.005:
        return "under 1%"
    if 0.995 <= share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def headline(answer: Recognised, known: int) -> str:
    """The answer in one sentence; `known` singers could have been named."""
    first = answer.top[0]
    if answer.unknown:
        return (
            f"Unknown: probably none of the {known:,} singers that are known here. Most like "
            f"{first.singer}, {percent(first.probability)}."
        )
    return f"This sounds like {first.singer}, {percent(first.probability)}."


def bars(answer: Recognised, colours: Mapping[str, str]) -> str:
    """The likeliest singers as a list with bars; the bars repeat what the text says."""
    rows = "".join(_bar(one, colours.get(one.singer, "")) for one in answer.top)
    sure = (
        f"Confidence {answer.confidence:.2f}; below {answer.threshold:.2f} a recording counts as "
        "unknown."
    )
    if answer.unknown:
        sure += " If it is one of these, then with the shares shown."
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in answer.notes)
    kind = ' class="bars unknown"' if answer.unknown else ' class="bars"'
    return f'<ol{kind} aria-label="Likeliest singers">{rows}</ol><p class="soft">{sure}</p>{notes}'


def nearest(answer: Recognised, address: Callable[[Near], str]) -> str:
    """The songs most like the recording, each with its singer, album and a player.

    `address` gives where a song's excerpt is played from.
    """
    if not answer.nearest:
        return ""
    rows = "".join(
        f'<li><div><b>{escape(near.title)}</b><span class="soft">{escape(_by(near))}</span>'
        f'<span class="soft">similarity {_signed(near.similarity)}</span></div>'
        f"{_player(near, address)}</li>"
        for near in answer.nearest
    )
    return (
        '<section aria-labelledby="near-title"><h2 id="near-title">Songs most like it</h2>'
        f'<ol class="near">{rows}</ol></section>'
    )


def song_address(near: Near) -> str:
    """Where the page's server plays a song of the index."""
    return f"listening/song?id={quote(near.song_id, safe='')}"


def _bar(choice: Choice, colour: str) -> str:
    share = min(max(choice.probability, 0.0), 1.0)
    return (
        f'<li><span class="who">{escape(choice.singer)}</span>'
        f'<span class="track" aria-hidden="true"><i style="width:{100 * share:.1f}%;'
        f'background:{escape(colour) or "currentColor"}"></i></span>'
        f'<span class="share">{percent(choice.probability)}</span></li>'
    )


def _by(near: Near) -> str:
    album = album_title(near.album) if near.album else ""
    return f"{near.singer} · {album}" if album else near.singer


def _player(near: Near, address: Callable[[Near], str]) -> str:
    if not near.playable:
        return '<span class="soft">no excerpt</span>'
    label = escape(f"Excerpt of {near.title} by {near.singer}")
    source = escape(address(near))
    return f'<audio controls preload="none" src="{source}" aria-label="{label}"></audio>'


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


LANES = 4  # singers with a lane of their own; the others share one
OTHERS = "others"
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)  # s
MOST_TICKS = 7


def timeline(
    moments: Sequence[SegmentPrediction],
    seconds: float,
    colours: Mapping[str, str],
    player: str = "",
) -> str:
    """`seconds`: of the whole recording. `player`: address of the recording, for an audio element.

    Of overlapping segments each stands from its start to the start of the next.
    """
    heading = '<h2 id="time-title">Who sings when</h2>'
    sound = (
        f'<audio id="heard" controls preload="metadata" src="{escape(player)}" '
        'aria-label="Your recording"></audio>'
        if player
        else ""
    )
    if not moments:
        body = '<p class="soft">The recording is one segment; there is nothing over time.</p>'
        return f'<section aria-labelledby="time-title">{heading}{sound}{body}</section>'
    ends = [one.start_s for one in moments[1:]] + [moments[-1].end_s]
    lanes = lane_names(moments)
    rows = "".join(
        _lane(name, moments, ends, seconds, colours.get(name, UNKNOWN_COLOUR), lanes)
        for name in lanes
    )
    return (
        f'<section aria-labelledby="time-title">{heading}'
        f'<p class="soft">{escape(time_summary(moments))} '
        "The stronger the colour, the surer the segment.</p>"
        f'{sound}<div class="timeline" data-seconds="{seconds:.3f}" aria-hidden="true">{rows}'
        f"{_voice(moments, ends, seconds)}{_axis(seconds)}"
        '<div class="lane cursor"><span></span><div class="time"><i hidden></i></div></div></div>'
        f"<details><summary>The timeline as a table</summary>{_table(moments)}</details></section>"
    )


def lane_names(moments: Sequence[SegmentPrediction]) -> list[str]:
    """Singers named first by a segment, the most frequent first; the rare ones as `OTHERS`."""
    counts = Counter(one.top[0].singer for one in moments if one.top)
    names = [name for name, _ in counts.most_common()]
    return names if len(names) <= LANES + 1 else [*names[:LANES], OTHERS]


def time_summary(moments: Sequence[SegmentPrediction]) -> str:
    """What the timeline shows, in a sentence."""
    counts = Counter(one.top[0].singer for one in moments if one.top)
    if not counts:
        return "No segment names a singer."
    (name, most), many = counts.most_common(1)[0], len(moments)
    if many == 1:
        return f"The one segment names {name} first."
    rest = "" if len(counts) == 1 else f"; the rest name {counted(len(counts) - 1, 'other singer')}"
    every = "all" if most == many else f"{most:,} of"
    return f"{every.capitalize()} {many:,} segments name {name} first{rest}."


def tick_seconds(seconds: float) -> list[int]:
    """Round times from 0, at most `MOST_TICKS`; none so late that its label would not fit."""
    step = next((one for one in TICKS if seconds / one < MOST_TICKS), TICKS[-1])
    return [at for at in range(0, int(seconds) + 1, step) if at <= 0.9 * seconds]


def _lane(
    name: str,
    moments: Sequence[SegmentPrediction],
    ends: Sequence[float],
    seconds: float,
    colour: str,
    lanes: Sequence[str],
) -> str:
    blocks = []
    for one, end in zip(moments, ends, strict=True):
        if not one.top:
            continue
        first = one.top[0]
        if first.singer != name and not (name == OTHERS and first.singer not in lanes):
            continue
        blocks.append(
            f'<i style="{_span(one.start_s, end, seconds)};opacity:'
            f'{0.25 + 0.75 * first.probability:.2f}" title="{escape(_tip(one))}"></i>'
        )
    return (
        f'<div class="lane"><span>{escape(name)}</span>'
        f'<div class="time" style="--tint:{escape(colour)}">{"".join(blocks)}</div></div>'
    )


def _tip(one: SegmentPrediction) -> str:
    names = ", ".join(f"{choice.singer} {percent(choice.probability)}" for choice in one.top)
    return f"{clock(one.start_s)} to {clock(one.end_s)}: {names}; voice {percent(one.voice)}"


def _voice(moments: Sequence[SegmentPrediction], ends: Sequence[float], seconds: float) -> str:
    """A bar for each segment, as high as the share of it that is sung."""
    path = "".join(
        f"M{1000 * one.start_s / seconds:.1f} 100V{100 - 100 * one.voice:.0f}"
        f"H{1000 * end / seconds:.1f}V100Z"
        for one, end in zip(moments, ends, strict=True)
    )
    return (
        '<div class="lane voice"><span>voice</span><div class="time"><svg viewBox="0 0 1000 100" '
        f'preserveAspectRatio="none"><path d="{path}"/></svg></div></div>'
    )


def _axis(seconds: float) -> str:
    ticks = "".join(
        f'<b style="left:{100 * at / seconds:.2f}%">{clock(at)}</b>' for at in tick_seconds(seconds)
    )
    return f'<div class="lane axis"><span></span><div class="time">{ticks}</div></div>'


def _span(start: float, end: float, seconds: float) -> str:
    return f"left:{100 * start / seconds:.2f}%;width:{100 * (end - start) / seconds:.2f}%"


def _table(moments: Sequence[SegmentPrediction]) -> str:
    rows = [
        (
            f"{clock(one.start_s)} to {clock(one.end_s)}",
            ", ".join(f"{choice.singer} {percent(choice.probability)}" for choice in one.top),
            percent(one.voice),
        )
        for one in moments
    ]
    return table(("time", "singers", "voice"), rows, numeric=[2])
