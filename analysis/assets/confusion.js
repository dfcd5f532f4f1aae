"use strict";
// The matrix: right answers in one colour, mistakes in another, so that a single mistake stands out.

const LISTED = 12; // songs named in the hover; a click lists them all below the figure
const plot = document.getElementById("plot");
const listing = document.getElementById("cell");
let listed = null; // what the list below belongs to

// Rows of the songs of a cell: those of the true singer named so, or of these only the missed ones.
function grouped(set) {
  const cells = {};
  const missed = chosen("kind", "first") === "missed";
  set.songs.true.forEach((singer, song) => {
    if (missed && set.songs.place[song] <= DATA.places) return;
    const cell = `${singer},${set.songs.named[song]}`;
    (cells[cell] = cells[cell] || []).push(song);
  });
  return cells;
}

function totals(set, key) {
  const found = set.singers.map(() => 0);
  set.songs[key].forEach((singer) => { found[singer] += 1; });
  return found;
}

// What is drawn: the cells' songs, the order of the singers, and what a cell is a share of.
function drawing() {
  const set = DATA.sets[Number(chosen("split", "0"))];
  return {
    set, cells: grouped(set), order: DATA.orders[chosen("order", "alphabet")], unit: chosen("unit", "counts"),
    rows: totals(set, "true"), columns: totals(set, "named"), missed: chosen("kind", "first") === "missed",
  };
}

function line(set, song) {
  const { title, album, sure, place, own } = set.songs;
  const right = place[song] === 1 ? "" : `; the true singer on place ${place[song]}, ${percent(own[song])}`;
  return `${shortened(title[song], 40)}, ${shortened(album[song], 30)} (${percent(sure[song])}${right})`;
}

function heading(now, row, column) {
  const { set } = now;
  const what = now.missed ? `, missed in top-${DATA.places}` : "";
  return [shortened(set.singers[row], 40), ` identified as `, shortened(set.singers[column], 40), what];
}

function shares(now, row, column) {
  const count = (now.cells[`${row},${column}`] || []).length;
  const of = now.rows[row];
  return `${count} of ${of} ${of === 1 ? "song" : "songs"} of ${shortened(now.set.singers[row], 40)} (${percent(count / of)}), ` +
    `${percent(count / now.columns[column])} of the songs named ${shortened(now.set.singers[column], 40)}`;
}

function hover(now, row, column) {
  const found = now.cells[`${row},${column}`];
  const [one, is, other, what] = heading(now, row, column);
  const lines = [
    `<b>${plain(one)}</b>${is}<b>${plain(other)}</b>${what}`,
    plain(shares(now, row, column)).replace(", ", "<br>"),
    ...found.slice(0, LISTED).map((song) => "· " + plain(shortened(line(now.set, song), 70))),
  ];
  if (found.length > LISTED) lines.push(`and ${found.length - LISTED} more: click to list them`);
  return lines.join("<br>");
}

function grid(now, cell) {
  return now.order.map((row) => now.order.map((column) => cell(row, column)));
}

function value(now, row, column) {
  const count = now.cells[`${row},${column}`].length;
  if (now.unit === "counts") return count;
  return (100 * count) / (now.unit === "rows" ? now.rows[row] : now.columns[column]);
}

function heatmap(now, isRight, colour, size) {
  const mine = (row, column) => (row === column) === isRight && `${row},${column}` in now.cells;
  const most = now.unit === "counts" ? Math.max(...now.rows) : 100;
  return {
    type: "heatmap",
    z: grid(now, (row, column) => (mine(row, column) ? value(now, row, column) : null)),
    text: grid(now, (row, column) => (mine(row, column) ? String(Math.round(value(now, row, column))) : "")),
    texttemplate: size >= 20 ? "%{text}" : "",
    textfont: { size: size >= 28 ? 12 : 10 },
    hovertext: grid(now, (row, column) => (mine(row, column) ? hover(now, row, column) : "")),
    hoverinfo: "text", hoverongaps: false,
    zmin: -0.35 * most, zmax: most, showscale: false, xgap: 1, ygap: 1,
    colorscale: [[0, colour("empty")], [1, colour(isRight ? "right" : "wrong")]],
  };
}

function background(now, colour) {
  return {
    type: "heatmap", z: grid(now, () => 0), showscale: false, hoverinfo: "skip", xgap: 1, ygap: 1,
    colorscale: [[0, colour("empty")], [1, colour("empty")]],
  };
}

// One strip a song: blue where a segment names the true singer, orange the one named for the song.
function strip(now, song) {
  const { singers, songs } = now.set;
  const runs = songs.strip[song];
  const counts = new Map();
  let all = 0;
  for (let i = 0; i < runs.length; i += 2) {
    all += runs[i + 1];
    counts.set(runs[i], (counts.get(runs[i]) || 0) + runs[i + 1]);
  }
  const tint = (singer) => singer === songs.true[song] ? "var(--right)" : singer === songs.named[song] ? "var(--wrong)" : "var(--line)";
  const stops = [];
  let from = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const to = from + (100 * runs[i + 1]) / all;
    stops.push(`${tint(runs[i])} ${from.toFixed(2)}% ${to.toFixed(2)}%`);
    from = to;
  }
  const bar = document.createElement("i");
  bar.className = "strip";
  bar.style.background = `linear-gradient(90deg,${stops.join(",")})`;
  const said = Array.from(counts).sort((a, b) => b[1] - a[1]).map(([singer, count]) => `${singers[singer]} ${count}`);
  const words = document.createElement("small");
  words.textContent = `of ${all} segments: ${said.slice(0, 4).join(", ")}${said.length > 4 ? ", others" : ""}`;
  return [bar, words];
}

function list(now, row, column) {
  const found = now.cells[`${row},${column}`];
  if (!found) return;
  const title = document.createElement("h2");
  title.textContent = `${heading(now, row, column).join("")}: ${shares(now, row, column)}`;
  const items = document.createElement("ul");
  items.className = "songs";
  found.forEach((song) => {
    const item = document.createElement("li");
    const more = document.createElement("a");
    more.href = `timeline.html#${encodeURIComponent(now.set.songs.id[song])}`;
    more.textContent = "timeline";
    item.append(line(now.set, song), ...(now.set.songs.strip ? strip(now, song) : []));
    (item.lastElementChild || item).append(" · ", more);
    items.append(item);
  });
  const colours = document.createElement("p");
  colours.className = "soft";
  colours.textContent = "Segments from the song's beginning to its end. " +
    (row === column ? "Blue: the true singer is named; grey: another." : "Blue: the true singer is named; orange: the one named for the song; grey: another.");
  listing.replaceChildren(title, ...(now.set.songs.strip ? [colours] : []), items);
}

function draw() {
  const colour = theme();
  const now = drawing();
  const { set } = now;
  const size = set.singers.length;
  document.getElementById("title").textContent = set.title;
  document.querySelectorAll("[data-set]").forEach((part) => {
    part.hidden = DATA.sets[Number(part.dataset.set)] !== set;
  });
  const choices = `${chosen("split", "0")} ${now.missed}`;
  if (choices !== listed) listing.replaceChildren();
  listed = choices;
  if (!Object.keys(now.cells).length) listing.textContent = `No song has its singer outside the first ${DATA.places}.`;
  const width = plot.parentElement.clientWidth;
  const letters = NARROW() ? 11 : 22;
  const font = NARROW() ? 10 : 12;
  const names = now.order.map((singer) => shortened(set.singers[singer], letters));
  const label = widest(names, font) + 8;
  const fitting = Math.min(52, (width - label - 38) / size, Math.max(28, 700 / size));
  const cell = Math.max(17, fitting); // below 17 pixels a finger cannot hit it: the figure scrolls
  const tick = { tickmode: "array", tickvals: names.map((_, i) => i), ticktext: names.map(plain), showgrid: false,
    zeroline: false, ticks: "", range: [-0.5, size - 0.5], fixedrange: true,
    tickfont: { size: font } };
  const title = NARROW() ? 0 : 26; // a phone has no room for titles; the text above says it too
  const named = (text, standoff) => ({ text: title ? text : "", standoff, font: { color: colour("soft"), size: font } });
  const layout = {
    ...baseLayout(colour),
    width: label + title + 12 + cell * size, height: label + title + 22 + cell * size,
    margin: { l: label + title, r: 12, t: 10, b: label + title + 12, autoexpand: false },
    dragmode: false, hovermode: "closest",
    xaxis: { ...tick, tickangle: -90, title: named("identified as", 8) },
    yaxis: { ...tick, range: [size - 0.5, -0.5], title: named("true singer", label - 10) },
  };
  const figures = [background(now, colour), heatmap(now, true, colour, cell), heatmap(now, false, colour, cell)];
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

redraws(draw);
plot.on("plotly_click", (event) => {
  const now = drawing();
  list(now, now.order[event.points[0].y], now.order[event.points[0].x]);
});
