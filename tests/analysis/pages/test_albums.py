"""The albums page: sentences true of their numbers, tables, and what it says is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.measures.album_effect import AlbumEffect, Gap, album_effect, neighbourhood
from analysis.page import escape
from analysis.pages.albums import (
    Embedding,
    albums_finding,
    albums_page,
    embedding_says,
    embeddings,
    gap_finding,
    gap_section,
    neighbour_table,
    neighbours_figure,
    singer_shares,
)
from analysis.run_data import RunData, read_run_data
from embedder.artifact import write_json
from embedder.run import Run
from embedder.statistics import Estimate

SHARE = Estimate(0.5, 0.4, 0.6)


def effect(production: Estimate) -> AlbumEffect:
    album = Estimate(0.62, 0.55, 0.7)
    return AlbumEffect(1413, album, 0.0123, 0.2, production, SHARE, SHARE, SHARE)


START = (
    "In the embedding of aam, the nearest other song of 62.0% of 1,413 training songs (95% "
    "interval 55.0% to 70.0%) is of the same album, where chance would make it 1.2% and the "
    "singer's voice alone 20.0%"
)


@pytest.mark.parametrize(
    ("production", "end"),
    [
        (
            Estimate(0.52, 0.4, 0.61),
            ": up to 52% (95% interval 40% to 61%) of what makes a singer's songs neighbours is "
            "the album's production rather than the voice.",
        ),
        (
            Estimate(0.1, -0.05, 0.2),
            ": no part of it can be told to be production rather than voice (95% interval 0% to "
            "20%).",
        ),
        (
            Estimate(-0.2, -0.3, -0.1),
            ": no part of it can be told to be production rather than voice (95% interval 0% to "
            "0%).",
        ),
        (Estimate(np.nan, np.nan, np.nan), "; no nearest song is by the same singer."),
    ],
)
def test_the_finding_is_true_of_the_numbers(production: Estimate, end: str) -> None:
    assert albums_finding("aam", effect(production)) == START + end


def gap(member: str, lost: float) -> Gap:
    return Gap(
        member, 3.0, 0, "validation", (40, 30), Estimate(0.9, 0.8, 0.95),
        Estimate(0.9 + lost, 0.5, 0.8), Estimate(lost, lost - 0.1, lost + 0.1),
    )  # fmt: skip


def test_the_gap_is_said_of_the_largest_and_of_all() -> None:
    one = (
        "By song split 90.0% of 40 songs are right, by album split 60.0% of 30 (b, segments of 3 "
        "s, seed 0, validation songs): −30.0 points, 95% interval −40.0 to −20.0"
    )
    assert gap_finding([gap("b", -0.3)]) == f"{one}."
    both = [gap("b", -0.3), gap("a", -0.1)]
    assert gap_finding(both) == f"{one}; the mean over 2 pairs of runs is −20.0 points."
    text = gap_section(both, Path("runs/benchmark"))
    assert text.count("<tr>") == 3
    assert "60.0%<small>50.0% to 80.0%, 30 songs</small>" in text
    assert "python app.py benchmark" in gap_section([], Path("<b>"))
    assert "<b>" not in gap_section([], Path("<b>"))


def test_songs_without_an_album_or_singer_take_no_part(analyzed: Run) -> None:
    run_data = read_run_data(analyzed)
    names = [(name, len(songs.albums)) for name, songs in embeddings(run_data)]
    assert names == [("all members together", 24), ("aam", 24), ("triplet", 24)]
    songs = run_data.songs
    some = replace(
        songs,
        albums=("", *songs.albums[1:]),
        labels=np.where(np.arange(len(songs.ids)) == 1, -1, songs.labels),
    )
    for name, found in embeddings(replace(run_data, songs=some)):
        rows = np.arange(2, 24)
        np.testing.assert_array_equal(found.singers, songs.labels[rows])
        for first in range(len(rows)):
            same = [songs.albums[row] == songs.albums[rows[first]] for row in rows]
            assert (found.albums == found.albums[first]).tolist() == same
        if name == "aam":
            np.testing.assert_array_equal(found.vectors, run_data.stores("aam")[0].embeddings[rows])


def test_the_figures_show_what_the_embeddings_say(analyzed: Run) -> None:
    text = (analyzed.pages / "albums.html").read_text(encoding="utf-8")
    assert text.count('<p id="finding">In the embedding of all members together, the nearest') == 1
    run_data = read_run_data(analyzed)
    for name, songs in embeddings(run_data):
        near = neighbourhood(songs)
        one = Embedding(name, songs, near, album_effect(near), None)
        cosines = songs.vectors @ songs.vectors.T
        np.fill_diagonal(cosines, -np.inf)
        nearest = np.argsort(-cosines, axis=1)[:, :10]
        album = (songs.albums[nearest] == songs.albums[:, None]).mean(axis=0)
        singer = (songs.singers[nearest] == songs.singers[:, None]).mean(axis=0)
        (case, _) = neighbours_figure([one])["cases"]
        by_album, by_singer, other, chance, chance_singer = (trace["y"] for trace in case["data"])
        assert by_album == pytest.approx(album, abs=1e-4)
        assert by_singer == pytest.approx(singer - album, abs=1e-4)
        assert np.add(by_album, np.add(by_singer, other)) == pytest.approx(np.ones(10), abs=1e-4)
        assert (chance[0], chance_singer[0]) == (round(2 / 23, 4), round(5 / 23, 4))
        rows = singer_shares(one)
        assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
        for label, count, seen, expected in rows:
            own = [
                row for row in range(24)
                if songs.singers[row] == label == songs.singers[nearest[row, 0]]
            ]  # fmt: skip
            assert count == len(own)
            shares = [songs.albums[nearest[row, 0]] == songs.albums[row] for row in own]
            assert seen == pytest.approx(np.mean(shares), abs=1e-4)
            assert expected == pytest.approx(0.4)  # two of the singer's five others
        shown = f"of the same album for {album[0]:.1%}"
        assert shown in embedding_says(one)
        assert escape(embedding_says(one)) in text


def test_the_page_says_what_is_missing(build_run: Callable[..., Run]) -> None:
    run = build_run(members=("aam",), train_albums=("Only",))
    row = {"member": "m", "segment_s": 3, "seed": 0, "measured_on": "test"}
    for split, right in (("song", 0.9), ("album", 0.5)):
        song = {"accuracy": right, "low": right, "high": right, "count": 10}
        write_json(run.benchmark_rows / f"{split}.json", row | {"split": split, "song": song})
    text = albums_page(read_run_data(run))
    assert '<p id="finding">There is no album of two training songs' in text
    assert "python app.py prepare --data_dir SONGS" in text
    assert "By song split 90.0% of 10 songs are right, by album split 50.0% of 10" in text
    assert "<script" not in text


def test_no_neighbour_of_the_singer_leaves_its_cell_empty(analyzed: Run) -> None:
    from analysis.measures.album_effect import neighbourhood
    from analysis.pages.albums import Embedding

    run_data: RunData = read_run_data(analyzed)
    (_, songs), *_ = embeddings(run_data)
    nothing = Estimate(np.nan, np.nan, np.nan)
    text = neighbour_table([Embedding("<aam>", songs, neighbourhood(songs), effect(nothing), None)])
    assert "&lt;aam&gt;" in text
    assert "nan" not in text
    assert "<td class=number></td>" in text


Visit = Callable[..., Any]


def test_another_embedding_redraws_both_figures(analyzed: Run, visit: Visit) -> None:
    act = """
    const plot = document.getElementById("plot"), singers = document.getElementById("singers");
    const state = () => ({
      names: plot.data.map((one) => one.name), bars: plot.data.slice(0, 3).map((one) => one.y),
      chance: plot.data[3].y[0], hover: plot.data[0].hovertext[0],
      rows: singers.layout.yaxis.ticktext, seen: singers.data[1].x, said: singers.data[1].hovertext,
      shown: document.querySelector("p[data-when]:not([hidden])").textContent,
    });
    const states = [state()];
    document.querySelector('input[name="member"][value="1"]').click(); states.push(state());
    Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);
    await wait(300);
    const label = document.querySelector("#plot .hovertext").textContent;
    return { states, label };"""
    seen = visit(analyzed.pages / "albums.html", act, width=390)
    together, aam = seen["states"]
    assert together["names"][:3] == ["same album", "same singer, another album", "another singer"]
    assert together["shown"].startswith("All members together: of 24 training songs")
    assert aam["shown"].startswith("aam: of 24 training songs")
    assert [sum(bars) for bars in zip(*aam["bars"], strict=True)] == pytest.approx([1.0] * 10)
    assert aam["bars"] != together["bars"]
    assert aam["chance"] == 0.087
    first = f"{100 * aam['bars'][0][0]:.1f}% of the 1. nearest songs:"
    assert aam["hover"] == f"{first}<br>same album"
    assert seen["label"].startswith(first)
    assert aam["seen"] == sorted(aam["seen"], reverse=True)  # those whose albums matter most first
    assert sorted(aam["rows"]) == ["Ada", "Ben &amp; Co", "Cem", "Dörte"]
    assert re.fullmatch(
        rf"<b>{aam['rows'][0]}</b><br>same album {100 * aam['seen'][0]:.1f}% of [1-6] songs"
        "<br>if albums did not matter 40.0%",
        aam["said"][0],
    )
