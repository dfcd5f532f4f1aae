"use strict";
// Bars of who the nearest songs are, by rank; dots of the nearest song of each singer.

const plot = document.getElementById("plot");
const singersPlot = document.getElementById("singers");

function neighbours(one, colour) {
  const ranks = one.album.map((_, i) => i + 1);
  const others = one.album.map((share, i) => 1 - share - one.singer[i]);
  const bar = (values, name, tint) => ({
    type: "bar", name, x: ranks, y: values, marker: { color: tint, line: { width: 0 } }, hoverinfo: "text", textposition: "none",
    hovertext: values.map((share, i) => `${percent(share)} of the ${i + 1}. nearest songs:<br>${name}`),
  });
  const line = (value, name, dash) => ({
    type: "scatter", mode: "lines", x: [0.5, ranks.length + 0.5], y: [value, value], name,
    line: { color: colour("text"), width: 1.5, dash }, hoverinfo: "text", hovertext: [`${name}: ${percent(value)}`, `${name}: ${percent(value)}`],
  });
  return [
    bar(one.album, "same album", colour("wrong")),
    bar(one.singer, "same singer, another album", colour("right")),
    bar(others, "another singer", colour("line")),
    line(one.chance, "same album by chance", "dot"),
    line(one.chanceSinger, "same singer by chance", "dash"),
  ];
}

function drawNeighbours(one, colour) {
  const layout = {
    ...baseLayout(colour),
    width: plot.parentElement.clientWidth, height: NARROW() ? 420 : 400, barmode: "stack", bargap: 0.12,
    margin: { l: 58, r: 14, t: NARROW() ? 116 : 58, b: 52 }, hovermode: "closest", dragmode: false,
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, traceorder: "normal", itemclick: false, itemdoubleclick: false },
    xaxis: { title: { text: "rank of the neighbour", standoff: 8 }, dtick: 1, fixedrange: true, showgrid: false, zeroline: false },
    yaxis: { title: { text: "share of songs" }, range: [0, 1], tickformat: ".0%", fixedrange: true, gridcolor: colour("line"), zeroline: false },
  };
  Plotly.react(plot, neighbours(one, colour), layout, { ...CONFIG, displayModeBar: false });
}

function drawSingers(one, colour) {
  const rows = one.singers.slice().sort((a, b) => b[2] - a[2] || a[0] - b[0]);
  const letters = NARROW() ? 14 : 26;
  const names = rows.map(([singer]) => shortened(DATA.singers[singer], letters));
  const places = rows.map((_, i) => i);
  const text = rows.map(([singer, songs, seen, expected]) =>
    `<b>${plain(shortened(DATA.singers[singer], 40))}</b><br>same album ${percent(seen)} of ${songs} songs<br>if albums did not matter ${percent(expected)}`);
  const figures = [
    { type: "scatter", mode: "markers", x: rows.map((row) => row[3]), y: places, hoverinfo: "text", hovertext: text,
      marker: { symbol: "line-ns-open", size: 14, color: colour("text"), line: { width: 2 } } },
    { type: "scatter", mode: "markers", x: rows.map((row) => row[2]), y: places, hoverinfo: "text", hovertext: text,
      marker: { size: 11, color: colour("wrong"), opacity: 1 } },
  ];
  const layout = {
    ...baseLayout(colour),
    width: singersPlot.parentElement.parentElement.clientWidth, height: 72 + 22 * rows.length,
    margin: { l: widest(names, 12) + 16, r: 20, t: 12, b: 56, autoexpand: false }, hovermode: "closest", dragmode: false,
    xaxis: { title: { text: NARROW() ? "nearest of same album" : "nearest song of the singer is of the same album", standoff: 8 }, range: [-0.03, 1.03], tickformat: ".0%", fixedrange: true, gridcolor: colour("line"), zeroline: false },
    yaxis: { tickmode: "array", tickvals: places, ticktext: names.map(plain), range: [rows.length - 0.4, -0.6], fixedrange: true, gridcolor: colour("line"), zeroline: false },
  };
  Plotly.react(singersPlot, figures, layout, { ...CONFIG, displayModeBar: false });
}

function draw() {
  const colour = theme();
  const one = DATA.embeddings[Number(chosen("member", "0"))];
  document.getElementById("shown").textContent = one.says;
  drawNeighbours(one, colour);
  drawSingers(one, colour);
}

redraws(draw);
