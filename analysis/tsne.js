"use strict";
// The map: one trace for each singer and split, so that colour and marker shape mean one thing each.

const SYMBOLS = { train: "circle", validation: "diamond", test: "triangle-up" };
const SIZES = { train: 7, validation: 10, test: 10 };
const songs = DATA.songs;
const plot = document.getElementById("plot");
const buttons = Array.from(document.querySelectorAll("#legend button"));
let isolated = null;

function verdict(song) {
  const split = DATA.splits[songs.split[song]];
  if (songs.prediction[song] < 0) {
    return split === "train" ? "training song: trained on, so not predicted" : "no prediction";
  }
  const name = shortened(DATA.singers[songs.prediction[song]], 40);
  const right = songs.prediction[song] === songs.singer[song];
  const known = songs.singer[song] < DATA.known;
  return `predicted ${plain(name)}, ${percent(songs.confidence[song])}` + (known ? (right ? " ✓" : " ✗") : "");
}

function hover(view, point) {
  const song = view.song[point];
  const lines = [
    `<b>${plain(shortened(songs.title[song], 48))}</b>`,
    plain(shortened(DATA.singers[songs.singer[song]], 40)),
    `album ${plain(shortened(songs.album[song], 40))}`,
    `${DATA.splits[songs.split[song]]} split`,
  ];
  if (view.start) lines.push(`segment from ${view.start[point].toFixed(1)} s`);
  lines.push((view.start && songs.prediction[song] >= 0 ? "whole song " : "") + verdict(song));
  return lines.join("<br>");
}

function traces(view, colour) {
  const groups = new Map();
  view.song.forEach((song, point) => {
    const key = songs.split[song] * 100000 + songs.singer[song];
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(point);
  });
  const small = view.song.length > 1200 ? 0.7 : 1; // many points: smaller ones
  return Array.from(groups.keys()).sort((a, b) => a - b).map((key) => {
    const split = DATA.splits[Math.floor(key / 100000)];
    const singer = key % 100000;
    const points = groups.get(key);
    const wrong = points.map((point) => {
      const song = view.song[point];
      return songs.prediction[song] >= 0 && singer < DATA.known && songs.prediction[song] !== singer;
    });
    const ghost = isolated !== null && isolated !== singer;
    return {
      type: "scatter", mode: "markers",
      name: plain(DATA.singers[singer]),
      x: points.map((point) => view.x[point]),
      y: points.map((point) => view.y[point]),
      hoverinfo: ghost ? "skip" : "text",
      hovertext: points.map((point) => hover(view, point)),
      hoverlabel: { bordercolor: DATA.colours[singer] },
      marker: {
        symbol: SYMBOLS[split], size: SIZES[split] * small, color: DATA.colours[singer],
        opacity: ghost ? 0.05 : 0.92,
        line: {
          color: wrong.map((is) => colour(is ? "text" : "back")),
          width: wrong.map((is) => (is ? 2.2 * small : 0.6)),
        },
      },
    };
  });
}

function range(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = 0.04 * (high - low) || 1;
  return [low - margin, high + margin];
}

function draw() {
  const colour = theme();
  const member = Number(chosen("member", "0"));
  const level = chosen("level", "song");
  const view = DATA.views.find((one) => one.member === member && one.level === level);
  document.getElementById("shown").textContent = view.says;
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
  const layout = {
    ...baseLayout(colour),
    width: plot.parentElement.clientWidth,
    height: NARROW() ? Math.max(340, Math.round(plot.parentElement.clientWidth * 1.05)) : 660,
    margin: { l: 10, r: 10, t: 34, b: 10 },
    hovermode: "closest",
    dragmode: TOUCH ? false : "pan", // on a phone a drag scrolls the page; the buttons zoom
    uirevision: `${member} ${level}`,
    xaxis: { ...axis, range: range(view.x) },
    yaxis: { ...axis, range: range(view.y), scaleanchor: "x" },
  };
  Plotly.react(plot, traces(view, colour), layout, { ...CONFIG, scrollZoom: !TOUCH, displayModeBar: true });
  document.getElementById("legend").classList.toggle("isolated", isolated !== null);
  buttons.forEach((button, singer) => button.setAttribute("aria-pressed", String(isolated === singer)));
}

buttons.forEach((button, singer) => {
  button.addEventListener("click", () => {
    isolated = isolated === singer ? null : singer;
    draw();
  });
});
redraws(draw);
