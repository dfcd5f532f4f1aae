"""The timeline page: songs in order, answers that survive packing, and a small page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.analyze import analyze
from analysis.pages.timeline import listed, packed, segment_shares, timeline_finding, timeline_page
from analysis.run_data import Predicted, RunData, Songs, read_run_data, song_title
from analysis.segment_scores import SegmentScores, segment_scores, top_singers
from embedder.run import Run
from embedder.statistics import bootstrap_interval, mean_of

Visit = Callable[..., Any]


def unpacked(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_wrong_songs_come_first_the_surest_of_them_at_the_top() -> None:
    sure = [0.6, 0.9, 0.7, 0.8]
    probabilities = np.array([[p, 1 - p] for p in sure])
    one = Predicted(
        "validation", ("a", "b", "c", "d"), ("A", "B"), probabilities, np.array([1, 1, 0, 0]),
        ("x",) * 4, {"m/head": probabilities[:, ::-1]},
    )  # fmt: skip
    other = Predicted("test", ("e",), ("A", "B"), np.array([[0.3, 0.7]]), np.array([0]), ("y",), {})
    found = listed([one, other])
    assert found.ids == ("b", "e", "a", "c", "d")
    assert found.splits == ("validation", "test", "validation", "validation", "validation")
    assert found.albums == ("x", "y", "x", "x", "x")
    assert found.truth.tolist() == [1, 0, 1, 0, 0]
    np.testing.assert_allclose(found.answers["fused"][:, 0], [0.9, 0.3, 0.6, 0.7, 0.8])
    np.testing.assert_allclose(found.answers["m/head"][:, 1], [0.9, np.nan, 0.6, 0.7, 0.8])


def test_shares_of_segments_with_and_without_voice() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], np.float32)
    weights = np.array([0.5, 0.4, 1.0, 0.49])
    scores = SegmentScores(
        "m", "head", np.array([3, 1]), np.arange(4.0), weights, probabilities, 3.0, True
    )
    every, sung, other = segment_shares(scores, np.array([1, 0]))
    assert every.tolist() == [2 / 3, 1]
    assert sung[0] == 0.5
    assert np.isnan(sung[1])  # the second song has no sung segment
    assert other.tolist() == [1, 1]


def test_the_finding_is_of_the_member_whose_segments_tell_most(answered: Run) -> None:
    run_data = read_run_data(answered)
    songs = listed(run_data.predicted)
    scores = [segment_scores(run_data, name, songs.ids) for name in run_data.members]
    assert all(isinstance(one, SegmentScores) for one in scores)
    found = timeline_finding(
        songs, [one for one in scores if isinstance(one, SegmentScores)], seed=2
    )
    head = scores[0]
    assert isinstance(head, SegmentScores)
    rows = np.array(songs.splits) == "validation"
    parts = [part[rows] for part in segment_shares(head, songs.truth)]
    albums = np.array(songs.albums)[rows]
    numbers = [bootstrap_interval(mean_of(part), 24, 2, albums) for part in parts]
    every, sung, other = (f"{n.value:.1%}" for n in numbers)
    intervals = [f"(95% interval {n.low:.1%} to {n.high:.1%})" for n in numbers]
    assert found.startswith(
        f"On average, the head of member aam names the right singer in {every} of a song's "
        f"segments {intervals[0]}, in {sung} of those at least half sung {intervals[1]} and in "
        f"{other} of the others {intervals[2]}; of 24 whole validation songs, the fused answer is "
        "right for 91.7% (95% interval "
    )
    last = scores[1]
    assert isinstance(last, SegmentScores)
    alone = timeline_finding(songs, [last])
    assert alone.startswith("On average, neighbours of member triplet name the right singer in ")
    assert "sung" not in alone
    assert timeline_finding(songs, []).startswith("Nothing is known of single segments; of 24 ")


def test_what_is_packed_is_what_the_member_says(
    answered: Run, page_data: Callable[[str], Any]
) -> None:
    run_data = read_run_data(answered)
    data = page_data(timeline_page(run_data))
    songs = listed(run_data.predicted)
    assert tuple(data["songs"]["id"]) == songs.ids
    pool = data["pool"]
    for place, name in enumerate(("aam", "triplet")):
        scores = segment_scores(run_data, name, songs.ids)
        assert isinstance(scores, SegmentScores)
        best = top_singers(scores, songs.truth, 4, 1)
        member = data["members"][place]
        assert (member["name"], member["how"]) == (name, scores.how)
        assert unpacked(pool[member["counts"]], "<u2").tolist() == [6] * 36
        starts = unpacked(pool[member["starts"]], "<u2")
        np.testing.assert_allclose(starts / 10, best.starts_s, atol=0.051)
        labels = unpacked(pool[member["labels"]], "u1").reshape(-1, 4)
        np.testing.assert_array_equal(labels, best.labels)
        shares = unpacked(pool[member["shares"]], "u1").reshape(-1, 4) / 255
        np.testing.assert_allclose(shares, best.probabilities, atol=0.5 / 255 + 1e-6)
        weights = unpacked(pool[member["weights"]], "u1") / 255
        np.testing.assert_allclose(weights, best.weights, atol=0.5 / 255 + 1e-6)
    assert data["members"][0]["starts"] == data["members"][1]["starts"]  # shared, stands once
    fused = data["answers"][0]
    labels = unpacked(pool[fused["labels"]], "<u2").reshape(-1, 3)
    order = np.argsort(-songs.answers["fused"], axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(labels, order)
    shares = unpacked(pool[fused["shares"]], "<u2").reshape(-1, 3) / 65535
    np.testing.assert_allclose(
        shares, np.take_along_axis(songs.answers["fused"], order, 1), atol=1e-5
    )


def test_packed_bytes_are_little_endian() -> None:
    assert packed(np.array([1, 258]), "<u2") == base64.b64encode(bytes([1, 0, 2, 1])).decode()
    assert packed(np.array([1.0, 255.0]), "u1") == base64.b64encode(bytes([1, 255])).decode()


def test_two_thousand_songs_stay_below_three_megabytes(
    answered: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four minutes a song, two members, twenty singers, eight experts, names of a real library."""
    rng = np.random.default_rng(0)
    count, segments, singers = 2000, 160, 20
    names = tuple(f"singer number {number}" for number in range(singers))
    ids = tuple(
        f"{names[n % 20]}/An album of {n % 100}/{n:04} A title of a song.mp3" for n in range(count)
    )
    probabilities = rng.dirichlet(np.ones(singers) / 4, count)
    truth = np.arange(count) % singers
    experts = {f"member-{m}/expert_{e}": probabilities for m in range(2) for e in range(4)}
    albums = tuple(song.rpartition("/")[0] for song in ids)
    table = Predicted("validation", ids, names, probabilities, truth, albums, experts)
    rows = count * segments
    answers = rng.random((rows, singers), dtype=np.float32) ** 8
    answers /= answers.sum(axis=1, keepdims=True)

    def score(_: RunData, member: str, songs: tuple[str, ...]) -> SegmentScores:
        starts = np.tile(np.arange(segments) * 1.5, len(songs))
        voice = np.random.default_rng(len(member)).random(rows)
        return SegmentScores(
            member, "head", np.full(count, segments), starts, voice, answers, 3.0, True
        )

    monkeypatch.setattr("analysis.pages.timeline.segment_scores", score)
    real = read_run_data(answered)
    none = np.zeros(0, np.int64)
    songs = Songs(names, (), (), none, none, none, np.zeros(0))
    run_data = RunData(real.run, ("member-0", "member-10"), real.fusion, songs, (table,))
    text = timeline_page(run_data)
    assert 1.2e6 < len(text.encode()) < 3.2e6
    assert "3 most probable singers\nand the true one, as the mean of every" in text


HOSTILE = (
    "<script>window.broken=1<∕script>",
    "<∕script><img src=x onerror='window.broken=1'>",
    "<!-- & \" ' \u2028 <b>bold<∕b> %{x}",
    "<a href='https:∕∕example.org'>link<∕a>",
)


def test_a_song_is_searched_chosen_and_drawn(answered: Run, visit: Visit, tmp_path: Path) -> None:
    """The singers are named to break pages, and stay text in lists, labels and tables."""
    act = """
    const plot = document.getElementById("plot");
    const search = document.getElementById("search");
    const all = (selector) => Array.from(document.querySelectorAll(selector));
    const text = (name) => document.getElementById(name).textContent;
    const state = () => ({
      song: text("song"), shown: text("shown"), hash: decodeURIComponent(location.hash),
      names: plot.layout.yaxis.ticktext, edges: plot.data[0].x,
      z: plot.data[0].z[0], hover: plot.data[0].hovertext[0][0], whole: plot.data[1].z[0][0],
      voice: plot.data.length > 4 ? plot.data[4].y : null,
      answer: all("#answer tbody tr").map((row) => row.cells[0].textContent),
      count: all("#songs button").length,
      pressed: all('#songs button[aria-pressed="true"]').length,
    });
    const states = [state()];
    search.value = "last 2 ADA"; search.dispatchEvent(new Event("input")); states.push(state());
    all("#songs button")[0].click(); states.push(state());
    Plotly.Fx.hover(plot, [{curveNumber: plot.data.length - 1, pointNumber: 0}], "xy2");
    await wait(300);
    const label = document.querySelector("#plot .hovertext");
    const shown = label && label.textContent;
    document.querySelector('input[name="member"][value="1"]').click(); states.push(state());
    const made = document.querySelectorAll("#plot a, main a, img").length;
    return {states, label: shown, list: text("songs"), made};"""
    run_data = read_run_data(answered)
    renamed = replace(run_data, songs=replace(run_data.songs, singers=HOSTILE))
    path = tmp_path / "hostile.html"
    path.write_text(timeline_page(renamed), encoding="utf-8")
    songs = listed(run_data.predicted)
    seen = visit(path, act, width=390)
    first, searched, chosen, other = seen["states"]
    assert seen["made"] == 0
    assert seen["list"].startswith(f"✓2 tune{HOSTILE[0]}, ")
    assert "<b>bold<∕b>" in seen["label"]
    album = songs.albums[0].partition("/")[2]
    assert first["song"] == f"{song_title(songs.ids[0])}, {album}"
    assert first["count"] == 36
    assert ": wrong. Segments: the head of member aam" in first["shown"]
    assert searched["count"] == 1
    assert searched["song"] == first["song"]
    row = songs.ids.index("Ada/Last/2 tune.mp3")
    assert chosen["song"] == "2 tune, Last"
    assert chosen["hash"] == "#Ada/Last/2 tune.mp3"
    assert chosen["pressed"] == 1
    assert chosen["names"][0].startswith("&lt;script&gt;")
    scores = segment_scores(run_data, "aam", songs.ids)
    assert isinstance(scores, SegmentScores)
    part = slice(6 * row, 6 * row + 6)
    np.testing.assert_allclose(chosen["z"], scores.probabilities[part, 0], atol=0.003)
    np.testing.assert_allclose(chosen["voice"], scores.weights[part], atol=0.003)
    np.testing.assert_allclose(chosen["edges"], 1.5 + np.arange(-1.25, 15, 2.5))
    assert chosen["hover"].startswith("<b>0:00.0 to 0:03.0</b><br>")
    assert chosen["whole"] == pytest.approx(songs.answers["fused"][row, 0], abs=1e-4)
    assert chosen["answer"][:3] == ["fused", "headaam", "knn_songaam"]
    assert len(chosen["answer"]) == 8
    assert "no classification head: segments show the votes" in other["shown"]
    assert "Voice was not looked for" in other["shown"]
    assert other["voice"] is None


def test_a_run_of_one_member_without_head_or_fusion(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",))
    run.fusion.unlink()
    (path,) = analyze(run, pages=["timeline"])
    text = path.read_text(encoding="utf-8")
    assert "Nothing is known of single segments; of 12 whole validation songs" in text
    assert "Member aam has no classification head, and no fusion says" in text
