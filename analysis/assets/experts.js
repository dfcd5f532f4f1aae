"use strict";
// Dots of accuracy beside bars of weight; a heat map of all pairs; the songs behind a cell.

const LISTED = 60; // songs of a list
const dots = document.getElementById("accuracy");
const plot = document.getElementById("plot"); // there are no pairs of one expert
const listing = document.getElementById("cell");
const kindOf = (name) => name.slice(name.lastIndexOf("/") + 1);
const memberOf = (name) => (name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "");
let current = null;

function label(name, letters) {
  const member = shortened(memberOf(name), letters);
  return plain(member ? `${member} ${kindOf(name)}` : name);
}

function twoLines(name, letters) {
  const member = shortened(memberOf(name), letters);
  return member ? `${plain(kindOf(name))}<br>${plain(member)}` : plain(name);
}

function drawDots(set, colour) {
  const { names, value, low, high } = set.accuracy;
  const narrow = NARROW();
  const letters = narrow ? 14 : 30;
  const ticks = names.map((name) => (narrow ? twoLines(name, letters) : label(name, letters)));
  const places = names.map((_, i) => i);
  const strong = names.map((name) => name === "fused");
  const figures = [
    {
      type: "scatter", mode: "markers", x: value, y: places,
      error_x: {
        type: "data", symmetric: false, color: colour("soft"), thickness: 1.5, width: 4,
        array: high.map((limit, i) => limit - value[i]), arrayminus: low.map((limit, i) => value[i] - limit),
      },
      marker: {
        color: strong.map((is) => colour(is ? "text" : "right")), size: strong.map((is) => (is ? 13 : 11)),
        symbol: strong.map((is) => (is ? "diamond" : "circle")), opacity: 1,
        line: { color: colour("text"), width: names.map((name) => (name === DATA.best ? 2.5 : 0)) },
      },
      hoverinfo: "text",
      hovertext: names.map((name, i) => `<b>${plain(shortened(name, 48))}</b><br>right ${percent(value[i])} ` +
        `(95% ${percent(low[i])} to ${percent(high[i])})` + (name === DATA.best ? "<br>the best single expert" : "")),
    },
    {
      type: "bar", orientation: "h", x: names.map((name) => DATA.weights[name] ?? null), y: places, xaxis: "x2",
      marker: { color: colour("right") }, width: 0.5, hoverinfo: "text", textposition: "none",
      hovertext: names.map((name) => `<b>${plain(shortened(name, 48))}</b><br>weight ${(DATA.weights[name] ?? 0).toFixed(3)}`),
    },
  ];
  const grid = { gridcolor: colour("line"), zeroline: false, fixedrange: true };
  const title = (text) => ({ text, font: { color: colour("soft"), size: 12 }, standoff: 6 });
  const label_width = narrow ? widest(names.flatMap((name) => [kindOf(name), shortened(memberOf(name), letters)]), 11)
    : widest(ticks, 12);
  const lowest = Math.min(...low);
  const layout = {
    ...baseLayout(colour),
    width: dots.parentElement.clientWidth, height: 74 + names.length * (narrow ? 38 : 30),
    margin: { l: label_width + 14, r: 14, t: 10, b: 50, autoexpand: false }, hovermode: "closest", dragmode: false,
    yaxis: { ...grid, tickmode: "array", tickvals: places, ticktext: ticks, range: [names.length - 0.5, -0.5], tickfont: { size: narrow ? 11 : 12 } },
    xaxis: { ...grid, domain: [0, narrow ? 0.58 : 0.62], tickformat: ".0%", nticks: narrow ? 4 : 6, tickangle: 0, range: [Math.max(0, lowest - 0.1 * (1 - lowest) - 0.005), 1 + 0.03 * (1 - lowest) + 0.002], title: title("right, song level") },
    xaxis2: { ...grid, domain: [narrow ? 0.72 : 0.68, 1], rangemode: "tozero", nticks: narrow ? 3 : 4, tickangle: 0, title: title("weight") },
  };
  Plotly.react(dots, figures, layout, { ...CONFIG, displayModeBar: false });
}

function pairText(set, row, column) {
  const says = (kind) => {
    const value = set[kind].value[row][column];
    const shown = (number) => (kind === "kappa" ? number.toFixed(3) : percent(number));
    if (value === null) return "not defined: both name one singer only";
    return `${shown(value)} (95% ${shown(set[kind].low[row][column])} to ${shown(set[kind].high[row][column])})`;
  };
  const [first, second] = [row, column].map((i) => `<b>${plain(shortened(set.experts[i], 40))}</b>`);
  if (row === column) return `${first}<br>wrong ${says("fault")}`;
  return `${first}<br>${second}<br>kappa ${says("kappa")}<br>both wrong ${says("fault")}`;
}

function drawPairs(set, colour) {
  const unit = chosen("unit", "kappa");
  const size = set.experts.length;
  const values = set[unit].value;
  const off = values.flatMap((row, i) => row.filter((value, j) => value !== null && (i !== j || unit === "fault")));
  const narrow = NARROW();
  const letters = narrow ? 12 : 26;
  const font = narrow ? 10 : 12;
  const names = set.experts.map((name) => (narrow ? `${kindOf(name)} ${shortened(memberOf(name), letters)}` : `${shortened(memberOf(name), letters)} ${kindOf(name)}`));
  const margin = widest(names, font) + 12;
  const room = (plot.closest(".plot").clientWidth - margin - 24) / size;
  const cell = Math.max(26, Math.min(64, room));
  const shown = (value, i, j) => (value === null || (i === j && unit === "kappa") ? null : value);
  const write = (value) => (value === null ? "" : unit === "kappa" ? value.toFixed(2).replace(/^0/, "") : (100 * value).toFixed(cell < 36 ? 0 : 1));
  const tick = { tickmode: "array", tickvals: names.map((_, i) => i), ticktext: names.map(plain), showgrid: false, zeroline: false, ticks: "", fixedrange: true, tickfont: { size: font } };
  const figure = {
    type: "heatmap", xgap: 1, ygap: 1, showscale: false, hoverongaps: false,
    z: values.map((row, i) => row.map((value, j) => shown(value, i, j))),
    text: values.map((row, i) => row.map((value, j) => write(shown(value, i, j)))), texttemplate: "%{text}", textfont: { size: cell < 36 ? 10 : 12 },
    hovertext: values.map((row, i) => row.map((_, j) => pairText(set, i, j))), hoverinfo: "text",
    zmin: unit === "kappa" ? Math.min(...off, 0.95) - 0.02 : -0.35 * Math.max(...off, 0.01), zmax: unit === "kappa" ? 1 : Math.max(...off, 0.01),
    colorscale: [[0, colour("empty")], [1, colour(unit === "kappa" ? "right" : "wrong")]],
  };
  const layout = {
    ...baseLayout(colour), width: margin + cell * size + 12, height: margin + cell * size + 12,
    margin: { l: margin, r: 12, t: 12, b: margin, autoexpand: false }, dragmode: false, hovermode: "closest",
    xaxis: { ...tick, tickangle: -90, range: [-0.5, size - 0.5] }, yaxis: { ...tick, range: [size - 0.5, -0.5] },
  };
  Plotly.react(plot, [figure], layout, { ...CONFIG, displayModeBar: false });
}

function songsOf(set, rows, say) {
  const items = document.createElement("ul");
  items.className = "songs";
  rows.slice(0, LISTED).forEach((row) => {
    const item = document.createElement("li");
    item.textContent = `${set.songs[row]}, ${set.albums[row]}: ${say(row)}`;
    items.append(item);
  });
  return items;
}

function list(set, row, column) {
  current = set;
  const [first, second] = [row, column].map((i) => set.named[i]);
  const names = [set.experts[row], set.experts[column]];
  const singer = (number) => set.singers[number];
  const all = set.truth.map((_, song) => song);
  const both = all.filter((song) => first[song] !== set.truth[song] && second[song] !== set.truth[song]);
  const apart = all.filter((song) => first[song] !== second[song]);
  const parts = [];
  const add = (text, rows) => {
    const heading = document.createElement("h2");
    heading.textContent = `${text}: ${rows.length} of ${all.length} songs` + (rows.length > LISTED ? `, the first ${LISTED}` : "");
    parts.push(heading, songsOf(set, rows, (song) => row === column
      ? `${singer(set.truth[song])}, named ${singer(first[song])}`
      : `${singer(set.truth[song])}, named ${singer(first[song])} and ${singer(second[song])}`));
  };
  if (row === column) add(`${names[0]} is wrong`, both);
  else {
    add(`${names[0]} and ${names[1]} are both wrong`, both);
    add("They name different singers", apart);
  }
  listing.replaceChildren(...parts);
}

function draw() {
  const colour = theme();
  const number = Number(chosen("split", "0"));
  const set = DATA.sets[number];
  document.getElementById("title").textContent = set.title;
  document.querySelectorAll("[data-set]").forEach((part) => { part.hidden = Number(part.dataset.set) !== number; });
  drawDots(set, colour);
  if (!plot) return;
  if (current && current !== set) listing.replaceChildren();
  drawPairs(set, colour);
}

redraws(draw);
if (plot) plot.on("plotly_click", (event) => {
  list(DATA.sets[Number(chosen("split", "0"))], event.points[0].y, event.points[0].x);
});
