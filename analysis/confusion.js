"use strict";
// The matrix: right answers in one colour, mistakes in another, so that a single mistake stands out.

const LISTED = 12; // songs named in the hover; a click lists them all below the figure
const plot = document.getElementById("plot");
const listing = document.getElementById("cell");
let current = null;

function cellSongs(set, row, column) {
  return set.songs[`${row},${column}`] || [];
}

function line(set, song) {
  return `${shortened(song.title, 40)}, ${shortened(song.album, 30)} (${percent(song.confidence)})`;
}

function hover(set, row, column) {
  const found = cellSongs(set, row, column);
  const total = set.totals[row];
  const lines = [
    `<b>${plain(shortened(set.singers[row], 40))}</b> identified as <b>${plain(shortened(set.singers[column], 40))}</b>`,
    `${found.length} of ${total} songs (${percent(found.length / total)})`,
    ...found.slice(0, LISTED).map((song) => "· " + plain(line(set, song))),
  ];
  if (found.length > LISTED) lines.push(`and ${found.length - LISTED} more: click to list them`);
  return lines.join("<br>");
}

function grid(set, cell) {
  const size = set.singers.length;
  return Array.from({ length: size }, (_, row) => Array.from({ length: size }, (_, column) => cell(row, column)));
}

function heatmap(set, shares, isRight, colour, sizes) {
  const mine = (row, column) => (row === column) === isRight && cellSongs(set, row, column).length > 0;
  const share = (row, column) => cellSongs(set, row, column).length / set.totals[row];
  const value = (row, column) => (shares ? 100 * share(row, column) : cellSongs(set, row, column).length);
  const most = shares ? 100 : Math.max(...set.totals);
  return {
    type: "heatmap",
    z: grid(set, (row, column) => (mine(row, column) ? value(row, column) : null)),
    text: grid(set, (row, column) => (mine(row, column) ? String(Math.round(value(row, column))) : "")),
    texttemplate: sizes.cell >= 20 ? "%{text}" : "",
    textfont: { size: sizes.cell >= 28 ? 12 : 10 },
    hovertext: grid(set, (row, column) => (mine(row, column) ? hover(set, row, column) : "")),
    hoverinfo: "text", hoverongaps: false,
    zmin: -0.35 * most, zmax: most, showscale: false, xgap: 1, ygap: 1,
    colorscale: [[0, colour("empty")], [1, colour(isRight ? "right" : "wrong")]],
  };
}

function background(set, colour) {
  return {
    type: "heatmap", z: grid(set, () => 0), showscale: false, hoverinfo: "skip", xgap: 1, ygap: 1,
    colorscale: [[0, colour("empty")], [1, colour("empty")]],
  };
}

function list(set, row, column) {
  const found = cellSongs(set, row, column);
  if (!found.length) return;
  current = [set, row, column];
  const heading = document.createElement("h2");
  heading.textContent = `${set.singers[row]} identified as ${set.singers[column]}: ${found.length} of ${set.totals[row]} songs`;
  const items = document.createElement("ul");
  items.className = "songs";
  found.forEach((song) => {
    const item = document.createElement("li");
    item.textContent = `${song.title}, ${song.album} (${percent(song.confidence)})`;
    items.append(item);
  });
  listing.replaceChildren(heading, items);
}

function draw() {
  const colour = theme();
  const set = DATA.sets[Number(chosen("split", "0"))];
  const size = set.singers.length;
  document.getElementById("title").textContent = set.title;
  document.querySelectorAll("[data-set]").forEach((part) => {
    part.hidden = DATA.sets[Number(part.dataset.set)] !== set;
  });
  if (current && current[0] !== set) listing.replaceChildren();
  const width = plot.parentElement.clientWidth;
  const letters = NARROW() ? 11 : 22;
  const font = NARROW() ? 10 : 12;
  const names = set.singers.map((name) => shortened(name, letters));
  const label = widest(names, font) + 8;
  const fitting = Math.min(52, (width - label - 38) / size, Math.max(28, 700 / size));
  const cell = Math.max(17, fitting); // below 17 pixels a finger cannot hit it: the figure scrolls
  const tick = { tickmode: "array", tickvals: names.map((_, i) => i), ticktext: names.map(plain), showgrid: false,
    zeroline: false, ticks: "", range: [-0.5, size - 0.5], fixedrange: true,
    tickfont: { size: font } };
  const title = NARROW() ? 0 : 26; // a phone has no room for titles; the text above says it too
  const heading = (text) => ({ text: title ? text : "", standoff: label - 10, font: { color: colour("soft"), size: font } });
  const layout = {
    ...baseLayout(colour),
    width: label + title + 12 + cell * size, height: label + title + 18 + cell * size,
    margin: { l: label + title, r: 12, t: 10, b: label + title + 8, autoexpand: false },
    dragmode: false, hovermode: "closest",
    xaxis: { ...tick, tickangle: -90, title: heading("identified as") },
    yaxis: { ...tick, range: [size - 0.5, -0.5], title: heading("true singer") },
  };
  const shares = chosen("unit", "counts") === "shares";
  const figures = [background(set, colour), heatmap(set, shares, true, colour, { cell }), heatmap(set, shares, false, colour, { cell })];
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

redraws(draw);
plot.on("plotly_click", (event) => {
  const set = DATA.sets[Number(chosen("split", "0"))];
  list(set, event.points[0].y, event.points[0].x);
});
