"""The map in a real browser: it draws, and clicks, words, slider and lasso do their part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedder.run import Run

Visit = Callable[..., Any]

# What is drawn, point by point: who is clear, who answers to the pointer, where the first lies.
STATE = """
const plot = document.getElementById("plot");
const text = (id) => document.getElementById(id).textContent;
const set = (name, value) =>
  document.querySelector(`input[name="${name}"][value="${value}"]`).click();
const type = (id, value) => {
  const input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event("input"));
};
const points = () => plot.data.flatMap((trace) => trace.customdata.map((point, i) => ({
  name: about(point).singer, colour: trace.marker.color[i], clear: trace.marker.opacity > 0.5,
  hovers: trace.hoverinfo !== "skip", x: trace.x[i], y: trace.y[i], text: trace.hovertext[i],
  ring: trace.marker.line.width[i] > 1,
})));
const names = (all) => [...new Set(all.map((point) => point.name))].sort();
const parts = () => [...document.querySelectorAll("#legend > div")].filter((part) => !part.hidden);
const state = () => {
  const all = points();
  return {
    points: all.length, drawn: document.querySelectorAll("#plot .scatterlayer .point").length,
    clear: names(all.filter((point) => point.clear)),
    hovers: names(all.filter((point) => point.hovers)),
    count: all.filter((point) => point.clear).length,
    rings: all.filter((point) => point.ring).length,
    colours: [...new Set(all.map((point) => point.colour))].length, colour: all[0].colour,
    x: all[0].x, text: all[0].text, last: all[all.length - 1].text,
    shown: text("shown"), kept: text("kept"), perplexity: text("perplexity"),
    matches: text("matches"), legend: parts().map((part) => part.dataset.colour),
  };
};
// Where a point stands in the window, and the pointer's ways there.
const at = (trace, point) => {
  const { xaxis, yaxis } = plot._fullLayout;
  const { left, top } = plot.getBoundingClientRect();
  const { x, y } = plot.data[trace];
  return [left + xaxis._offset + xaxis.d2p(x[point]), top + yaxis._offset + yaxis.d2p(y[point])];
};
const mouse = (kind, [x, y]) => (document.elementFromPoint(x, y) || document.body).dispatchEvent(
  new MouseEvent(kind, { bubbles: true, clientX: x, clientY: y, buttons: 1 }));
const click = async (place) => {
  mouse("mousemove", place); await wait(150);
  mouse("mousedown", place); mouse("mouseup", place); await wait(100);
};
"""


def test_the_map_shows_what_is_chosen(analyzed: Run, visit: Visit) -> None:
    act = (
        STATE
        + """
    const buttons = document.querySelectorAll('#legend [data-colour="singer"] button');
    const states = [state()];
    buttons[1].click(); states.push(state());
    buttons[2].click(); states.push(state());
    buttons[2].click(); states.push(state());
    type("search", "BEN first"); states.push(state());
    type("search", "");
    set("colour", "correct"); states.push(state());
    document.querySelectorAll('#legend [data-colour="correct"] button')[1].click();
    states.push(state());
    set("colour", "singer");
    set("level", "segment"); states.push(state());
    type("slider", 0); states.push(state());
    set("member", 2); states.push(state());
    return states;"""
    )
    seen = visit(analyzed.pages / "tsne.html", act)
    start, one, other, back, search, correct, wrong, segments, perplexed, member = seen
    everyone = ["Ada", "Ben & Co", "Cem", "Dörte"]
    assert start["points"] == start["drawn"] == start["count"] == 48
    assert start["clear"] == start["hovers"] == everyone
    assert start["rings"] == 3  # identified wrongly
    assert start["colours"] == 4
    assert start["text"] == (
        "<b>0 tune</b><br>Ada<br>album First<br>train split<br>"
        "training song: trained on, so not predicted"
    )
    assert start["last"] == (
        "<b>2 tune</b><br>Dörte<br>album Last test<br>test split<br>1. Dörte 70.0% ✓<br>"
        "2. Ada 10.0%<br>3. Ben &amp; Co 10.0%"
    )
    assert one["clear"] == one["hovers"] == ["Ben & Co"]
    assert other["clear"] == other["hovers"] == ["Cem"]
    assert back == start
    assert (search["clear"], search["count"], search["matches"]) == (["Ben & Co"], 3, ": 3 songs")
    assert correct["legend"] == ["correct"]
    assert correct["colours"] == 3
    assert correct["colour"] == "#8a8f98"  # a training song is not predicted
    assert wrong["count"] == 3
    assert segments["points"] == segments["drawn"] == 48 * 6
    assert "<br>segment from 0.0 s<br>" in segments["text"]
    assert "<br>the whole song:<br>1. Dörte 70.0% ✓<br>" in segments["last"]
    assert segments["shown"].startswith("All members together: 288 segments")
    assert (segments["perplexity"], perplexed["perplexity"]) == ("30", "10")
    assert perplexed["x"] != segments["x"]
    assert segments["kept"].startswith("Map of perplexity 30: trustworthiness 0.")
    assert perplexed["kept"].startswith("Map of perplexity 10: trustworthiness 0.")
    assert member["shown"].startswith("Member triplet: 288 segments")


def test_a_click_keeps_the_card_and_the_lasso_lists_songs(mapped: Run, visit: Visit) -> None:
    """On a screen as narrow as a phone's."""
    act = (
        STATE
        + """
    const card = () => ({
      words: [...document.querySelectorAll("#card h2, #card p")].map((part) => part.textContent),
      sound: [...document.querySelectorAll("#card audio")].map((part) => part.getAttribute("src")),
      made: document.querySelectorAll("#card b, #plot b").length,
    });
    plot.scrollIntoView();
    await wait(100);
    type("search", "ada first 0"); // those that fade do not answer
    await click(at(plot.data.length - 1, 0));
    const song = card();
    type("search", "placed");
    await click(at(plot.data.length - 1, 0));
    const file = card();
    type("search", "");
    const start = state();
    set("colour", "sex"); const sex = state();
    set("colour", "range"); const range = state();
    set("drag", "lasso");
    await wait(100);
    const frame = plot.querySelector(".nsewdrag").getBoundingClientRect();
    const { left, right, top, bottom } = frame;
    const corners = [
      [left + 1, top + 1], [right - 1, top + 1], [right - 1, bottom - 1], [left + 1, bottom - 1],
      [left + 1, top + 1],
    ];
    mouse("mousedown", corners[0]);
    for (const corner of corners) { mouse("mousemove", corner); await wait(60); }
    mouse("mouseup", corners[0]);
    await wait(200);
    const list = document.querySelector("#selection");
    const lasso = {
      hidden: list.hidden, head: list.querySelector("h2").textContent,
      lines: list.querySelector("textarea").value.split("\\n"),
    };
    document.getElementById("copy").click();
    const copied = text("copy");
    plot.emit("plotly_deselect");
    return { song, file, start, sex, range, lasso, copied, after: list.hidden };"""
    )
    seen = visit(mapped.pages / "tsne.html", act, width=390)
    song, file = seen["song"], seen["file"]
    assert song["words"] == [
        "0 tune", "Ada", "album First", "train split", "f", "sings 200 to 800 Hz",
        "training song: trained on, so not predicted", "an excerpt from 7 s",
    ]  # fmt: skip
    assert song["sound"] == ["audio/hash-7.mp3"]
    assert (mapped.pages / song["sound"][0]).is_file()
    assert file["words"] == [
        "a <b>file</b>", "placed file", "1. Enrolled 60.0%", "2. Ben & Co 20.0%", "3. Ada 10.0%",
        "an excerpt from 7 s",
    ]  # fmt: skip
    assert (mapped.pages / file["sound"][0]).is_file()
    assert song["made"] == file["made"] == 0
    assert seen["start"]["points"] == 37  # 36 songs and the file
    assert (seen["sex"]["legend"], seen["sex"]["colours"]) == (["sex"], 4)  # f, m, none, the file
    # The middle of Ada's range is the highest, of Cem's the lowest.
    assert seen["range"]["colour"] == "rgb(180,160,43)"
    assert seen["range"]["colours"] == 4
    assert seen["lasso"]["hidden"] is False
    assert seen["lasso"]["head"] == "37 songs selected"
    assert "Ada\tFirst\t0 tune\ttrain" in seen["lasso"]["lines"]
    assert "placed file\t\ta <b>file</b>\t" in seen["lasso"]["lines"]
    assert len(seen["lasso"]["lines"]) == 37
    assert seen["copied"] in ("Copied", "Press Ctrl+C to copy")
    assert seen["after"] is True
