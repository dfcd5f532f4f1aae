"use strict";
// Reliability diagram over the histogram of confidences; beside it, risk against coverage.

const plot = document.getElementById("plot");

function bins(one, colour) {
  const { songs, confidence, value, low, high } = one.bins;
  return {
    type: "scatter", mode: "lines+markers", x: confidence, y: value,
    error_y: {
      type: "data", symmetric: false, color: colour("soft"), thickness: 1, width: 3,
      array: high.map((limit, i) => limit - value[i]), arrayminus: low.map((limit, i) => value[i] - limit),
    },
    line: { color: colour("right"), width: 1.5 }, marker: { color: colour("right"), size: 8 },
    hoverinfo: "text",
    hovertext: songs.map((count, i) =>
      `${count} songs<br>confidence ${percent(confidence[i])}<br>` +
      `right ${percent(value[i])} (95% ${percent(low[i])} to ${percent(high[i])})`),
  };
}

function diagonal(colour) {
  return {
    type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], hoverinfo: "skip",
    line: { color: colour("soft"), width: 1, dash: "dash" },
  };
}

function histogram(one, kind, colour) {
  const width = 1 / one[kind].length;
  return {
    type: "bar", y: one[kind], x: one[kind].map((_, i) => (i + 0.5) * width), width, xaxis: "x2", yaxis: "y2",
    marker: { color: colour(kind) }, hoverinfo: "text", textposition: "none",
    hovertext: one[kind].map((count, i) =>
      `${count} ${kind}<br>confidence ${percent(i * width)} to ${percent((i + 1) * width)}`),
  };
}

function risk(one, colour) {
  const { songs, value, low, high } = one.risk;
  const coverage = songs.map((count) => count / one.songs);
  const line = { type: "scatter", mode: "lines", x: coverage, xaxis: "x3", yaxis: "y3" };
  return [
    { ...line, y: high, line: { width: 0 }, hoverinfo: "skip" },
    { ...line, y: low, line: { width: 0 }, hoverinfo: "skip", fill: "tonexty", fillcolor: colour("line") },
    {
      ...line, y: value, line: { color: colour("wrong"), width: 2 }, hoverinfo: "text",
      hovertext: songs.map((count, i) =>
        `the ${count} surest songs (${percent(coverage[i])})<br>` +
        `wrong ${percent(value[i])} (95% ${percent(low[i])} to ${percent(high[i])})`),
    },
  ];
}

function says(source, one, stage) {
  const when = stage === "before" ? "before calibration" : "after calibration";
  return `${source}, ${source === "fused" ? "as fitted" : when}: ${one.songs} songs, ${percent(one.mean)} sure on average, ` +
    `${percent(one.accuracy)} right, ECE ${one.ece.toFixed(3)}.`;
}

function draw() {
  const colour = theme();
  const number = Number(chosen("split", "0"));
  const set = DATA.sets[number];
  const source = chosen("source", "fused");
  const stages = set[source] || set.fused;
  const stage = chosen("stage", "after");
  const one = stages[stage] || stages.after;
  document.getElementById("title").textContent = DATA.titles[number];
  document.getElementById("shown").textContent = set[source]
    ? says(source, one, stages[stage] ? stage : "after") + (stages[stage] ? "" : source === "fused"
      ? " All fused together have no answer before calibration: this is the one they have."
      : " Before calibration is not known: this is after it.")
    : `${source} answers no song of this split; this is what all say together.`;
  document.querySelectorAll("[data-set]").forEach((part) => { part.hidden = Number(part.dataset.set) !== number; });
  const narrow = NARROW();
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), fixedrange: true };
  const share = { ...axis, tickformat: ".0%" };
  const title = (text) => ({ text, font: { color: colour("soft"), size: 12 }, standoff: 8 });
  const [left, right] = narrow ? [[0, 1], [0, 1]] : [[0, 0.46], [0.56, 1]];
  const [top, middle, bottom] = narrow
    ? [[0.58, 1], [0.41, 0.54], [0, 0.31]] : [[0.3, 1], [0, 0.24], [0, 1]];
  const most = Math.max(...one.risk.high.slice(Math.floor(one.risk.high.length / 4)), 0.02);
  const layout = {
    ...baseLayout(colour),
    width: plot.parentElement.clientWidth, height: narrow ? 900 : 560,
    margin: { l: 58, r: 16, t: 16, b: 48 }, hovermode: "closest", dragmode: false, barmode: "stack", bargap: 0.04,
    xaxis: { ...share, domain: left, range: [0, 1.01], anchor: "y", showticklabels: false },
    yaxis: { ...share, domain: top, range: [0, 1.03], title: title("share that is right") },
    xaxis2: { ...share, domain: left, range: [0, 1.01], anchor: "y2", title: title("confidence") },
    yaxis2: { ...axis, domain: middle, anchor: "x2", title: title("songs"), nticks: 4 },
    xaxis3: { ...share, domain: right, range: [0, 1.01], anchor: "y3", title: title("coverage: share of songs answered, surest first") },
    yaxis3: { ...share, domain: bottom, range: [-0.02 * most, Math.min(1.02, 1.1 * most)], anchor: "x3", title: title("risk: share of answers that is wrong") },
  };
  const figures = [diagonal(colour), bins(one, colour), histogram(one, "right", colour), histogram(one, "wrong", colour), ...risk(one, colour)];
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

redraws(draw);
