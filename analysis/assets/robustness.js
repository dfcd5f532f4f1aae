"use strict";
// A small panel for each degradation: top-1 and top-3 over its levels, the undegraded songs among them.

const plot = document.getElementById("plot");

function band(values) {
  return {
    type: "data", symmetric: false, thickness: 1, width: 3,
    array: values.high.map((limit, i) => limit - values.value[i]),
    arrayminus: values.low.map((limit, i) => values.value[i] - limit),
  };
}

function line(values, name, ladder, one, tint, colour, axes, bars) {
  const first = name === "top-1";
  return {
    type: "scatter", mode: "lines+markers", name, x: ladder.levels.map((_, i) => i), y: values.value, ...axes,
    line: { color: tint, width: first ? 2 : 1.5, dash: first ? "solid" : "dot" },
    error_y: bars ? { ...band(values), color: colour("soft") } : undefined,
    marker: {
      symbol: one.clean.map((clean, i) => (!first ? "circle" : clean ? "circle-open" : one.falls[i] ? "diamond" : "circle")),
      size: one.clean.map((clean, i) => (!first ? 4 : clean ? 9 : one.falls[i] ? 10 : 7)),
      color: first ? one.falls.map((falls) => (falls ? colour("wrong") : tint)) : tint, opacity: 1,
    },
    hoverinfo: "text",
    hovertext: ladder.levels.map((level, i) =>
      `<b>${plain(ladder.title)}: ${plain(level)}</b> (${plain(ladder.says)})<br>` +
      `${name} ${percent(values.value[i])} (95% ${percent(values.low[i])} to ${percent(values.high[i])})` +
      (first && !one.clean[i] ? `<br>${signed(one.change.value[i])} points against ${ladder.levels[one.clean.indexOf(true)]}` +
        ` (${signed(one.change.low[i])} to ${signed(one.change.high[i])})${one.falls[i] ? ", significant" : ""}` : "")),
  };
}

function signed(share) {
  return (share < 0 ? "−" : "+") + Math.abs(100 * share).toFixed(1);
}

function draw() {
  const colour = theme();
  const source = chosen("source", "fused");
  const found = DATA.curves[source];
  const narrow = NARROW();
  const columns = narrow ? 1 : plot.parentElement.clientWidth > 900 ? 3 : 2;
  const rows = Math.ceil(DATA.ladders.length / columns);
  const tall = 215; // pixels from one row of panels to the next
  const height = rows * tall + 40;
  const inner = height - 76;
  const gap = 82 / inner;
  const each = (1 - (rows - 1) * gap) / rows;
  const wide = (1 - (columns - 1) * 0.06) / columns;
  const clean = found.map((one) => one.top_1.value[one.clean.indexOf(true)]);
  document.getElementById("shown").textContent =
    `${source}: ${DATA.songs} ${DATA.split} songs, ${percent(clean[1])} named right undegraded; ` +
    `significantly fewer at ${found.flatMap((one) => one.falls).filter(Boolean).length} of ` +
    `${found.flatMap((one) => one.clean).filter((is) => !is).length} levels.`;
  document.querySelectorAll("[data-source]").forEach((part) => { part.hidden = part.dataset.source !== source; });
  const layout = {
    ...baseLayout(colour), width: plot.parentElement.clientWidth, height,
    margin: { l: 48, r: 14, t: 30, b: 46 }, hovermode: "closest", dragmode: false, annotations: [],
  };
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), fixedrange: true };
  const figures = DATA.ladders.flatMap((ladder, i) => {
    const suffix = i ? String(i + 1) : "";
    const [row, column] = [Math.floor(i / columns), i % columns];
    const top = 1 - row * (each + gap);
    const left = column * (wide + 0.06);
    layout[`xaxis${suffix}`] = {
      ...axis, domain: [left, Math.min(left + wide, 1)], anchor: `y${suffix}`, showgrid: false,
      range: [-0.4, ladder.levels.length - 0.6], tickvals: ladder.levels.map((_, at) => at), ticktext: ladder.levels.map(plain),
      tickfont: { size: 11 }, tickangle: 0, title: { text: plain(ladder.says), font: { color: colour("soft"), size: 11 }, standoff: 4 },
    };
    layout[`yaxis${suffix}`] = {
      ...axis, domain: [Math.max(0, top - each), top], anchor: `x${suffix}`, range: [-0.04, 1.06], tickformat: ".0%", tickvals: [0, 0.25, 0.5, 0.75, 1],
      tickfont: { size: 11 },
    };
    layout.annotations.push({ text: `<b>${plain(ladder.title)}</b>`, xref: "paper", yref: "paper", x: left, xanchor: "left", y: top,
      yanchor: "bottom", yshift: 4, showarrow: false, font: { size: 13, color: colour("text") } });
    const axes = { xaxis: `x${suffix}`, yaxis: `y${suffix}` };
    const one = found[i];
    const fused = DATA.curves.fused[i].top_1.value;
    const thin = source === "fused" ? [] : [{
      type: "scatter", mode: "lines", name: "fused", x: fused.map((_, at) => at), y: fused, ...axes, hoverinfo: "skip",
      line: { color: colour("text"), width: 0.8 },
    }];
    return [
      ...thin,
      line(one.top_3, "top-3", ladder, one, colour("soft"), colour, axes, false),
      line(one.top_1, "top-1", ladder, one, colour("right"), colour, axes, true),
    ];
  });
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

redraws(draw);
