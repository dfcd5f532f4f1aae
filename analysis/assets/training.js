"use strict";
// Four panels over epochs, one colour a member; a star marks the epoch that is kept.

const plot = document.getElementById("plot");
const PANELS = [
  { title: "training loss", curves: [["loss", "solid"]] },
  { title: "validation score", curves: [["segment_score", "solid"], ["score", "dot"]] },
  { title: "validation NLL, nats", curves: [["nll", "solid"]], log: true },
  { title: "learning rate", curves: [["lr", "solid"]], log: true },
];
const SAYS = { loss: "loss", segment_score: "score of segments", score: "score of songs", nll: "NLL of songs", lr: "learning rate" };

function curve(log, name, dash, panel, single, colour) {
  const epochs = log.columns.epoch;
  const values = log.columns[name];
  const tint = single ? colour("right") : log.colour;
  const suffix = panel ? String(panel + 1) : "";
  return {
    type: "scatter", mode: "lines+markers", x: epochs, y: values, xaxis: `x${suffix}`, yaxis: `y${suffix}`,
    name: plain(shortened(log.name, 30)), legendgroup: log.name, showlegend: panel === 0,
    line: { color: tint, width: 2, dash }, hoverinfo: "text",
    marker: {
      color: tint, symbol: epochs.map((_, i) => (i === log.kept ? "star" : "circle")), opacity: 1,
      size: epochs.map((_, i) => (i === log.kept ? 15 : 4)),
      line: { color: colour("text"), width: epochs.map((_, i) => (i === log.kept ? 1 : 0)) },
    },
    hovertext: epochs.map((epoch, i) => `<b>${plain(shortened(log.name, 40))}</b><br>epoch ${epoch}${i === log.kept ? ", kept" : ""}<br>` +
      `${SAYS[name]} ${Number(values[i].toPrecision(4))}`),
  };
}

function draw() {
  const colour = theme();
  const narrow = NARROW();
  const single = DATA.logs.length === 1;
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), fixedrange: true };
  const gap = narrow ? 0.07 : 0.14;
  const height = (1 - (narrow ? 3 : 1) * gap) / (narrow ? 4 : 2);
  const layout = {
    ...baseLayout(colour), width: plot.parentElement.clientWidth, height: (narrow ? 1040 : 640) + (single ? 0 : 30),
    margin: { l: 62, r: 16, t: single ? 34 : 34 + 30 * Math.ceil(DATA.logs.length / (narrow ? 1 : 4)), b: 44 },
    hovermode: "closest", dragmode: false, annotations: [], showlegend: !single,
    legend: { orientation: "h", x: 0, y: 1.05, yanchor: "bottom", font: { size: 12 }, itemdoubleclick: false },
  };
  PANELS.forEach((panel, i) => {
    const [row, column] = narrow ? [i, 0] : [Math.floor(i / 2), i % 2];
    const top = 1 - row * (height + gap);
    const domain = narrow ? [0, 1] : column ? [0.55, 1] : [0, 0.46];
    const suffix = i ? String(i + 1) : "";
    const last = narrow ? i === 3 : row === 1;
    layout[`xaxis${suffix}`] = { ...axis, domain, anchor: `y${suffix}`, rangemode: "tozero", nticks: 8, title: last ? { text: "epoch", font: { color: colour("soft"), size: 12 }, standoff: 6 } : {} };
    layout[`yaxis${suffix}`] = { ...axis, domain: [Math.max(0, top - height), top], anchor: `x${suffix}`, nticks: 6,
      ...(panel.log ? { type: "log", dtick: "D2", tickformat: "~g" } : {}) };
    layout.annotations.push({ text: panel.title, xref: "paper", yref: "paper", x: domain[0], xanchor: "left", y: top, yanchor: "bottom",
      yshift: 4, showarrow: false, font: { size: 13, color: colour("text") } });
  });
  const figures = PANELS.flatMap((panel, i) => DATA.logs.flatMap((log) =>
    panel.curves.filter(([name]) => log.columns[name]).map(([name, dash], order) => {
      const made = curve(log, name, dash, i, single, colour);
      return { ...made, showlegend: made.showlegend && order === 0 };
    })));
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

redraws(draw);
