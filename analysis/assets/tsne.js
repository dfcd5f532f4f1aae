"use strict";
// The map: a trace for each split, so that shape says the split and colour what was chosen.

const SYMBOLS = ["circle", "diamond", "triangle-up"];
const SIZES = [7, 10, 10];
const FADED = 0.06;
const songs = DATA.songs;
const files = DATA.files;
const plot = document.getElementById("plot");
const slider = document.getElementById("slider");
const search = document.getElementById("search");
const card = document.getElementById("card");
const selection = document.getElementById("selection");
let isolated = null;
let shownView = null;

// A point is a song or one of its segments; files placed on the map come after the songs.
function about(point) {
  const top = point.file === undefined ? songs.top[point.song] : files.top[point.file];
  const names = point.file === undefined ? DATA.singers : files.singers;
  const places = [];
  for (let i = 0; top && i < top.length; i += 2) {
    places.push([names[top[i]], top[i + 1] / 1e4, top[i]]);
  }
  if (point.file !== undefined) {
    return {
      title: files.title[point.file], singer: "placed file", album: "", split: "", places,
      right: null, audio: files.audio[point.file],
    };
  }
  const singer = songs.singer[point.song];
  const judged = places.length && singer < DATA.known;
  return {
    title: songs.title[point.song], singer: DATA.singers[singer],
    album: songs.album[point.song], split: DATA.splits[songs.split[point.song]], places,
    right: judged ? places[0][2] === singer : null, truth: singer, facts: DATA.facts[singer],
    audio: songs.audio[point.song],
  };
}

function verdicts(one) {
  if (!one.places.length) {
    const trained = one.split === "train";
    return [trained ? "training song: trained on, so not predicted" : "no prediction"];
  }
  return one.places.map(([name, sure, label], place) => {
    const mark = one.right === null ? "" : label === one.truth ? " ✓" : place === 0 ? " ✗" : "";
    return `${place + 1}. ${shortened(name, 34)} ${percent(sure)}${mark}`;
  });
}

function lines(point) {
  const one = about(point);
  const found = [one.singer];
  if (one.album) found.push(`album ${shortened(one.album, 40)}`);
  if (one.split) found.push(`${one.split} split`);
  if (one.facts && one.facts.sex) found.push(one.facts.sex);
  if (one.facts && one.facts.low) {
    const [low, high] = [one.facts.low, one.facts.high].map((hertz) => hertz.toFixed(0));
    found.push(`sings ${low} to ${high} Hz${one.facts.measured ? ", as measured" : ""}`);
  }
  if (point.start !== undefined) found.push(`segment from ${point.start.toFixed(1)} s`);
  if (point.start !== undefined && one.places.length) found.push("the whole song:");
  return found.concat(verdicts(one));
}

function hover(point) {
  const title = `<b>${plain(shortened(about(point).title, 48))}</b>`;
  return [title, ...lines(point).map((line) => plain(shortened(line, 52)))].join("<br>");
}

// Songs, or files, of a view on the map of one perplexity.
function pointsOf(view, place) {
  const parts = [["song", view], ["file", view.new]].filter(([, part]) => part);
  return parts.flatMap(([kind, part]) => part[kind].map((number, i) => ({
    [kind]: number, start: part.start ? part.start[i] : undefined,
    x: part.x[place][i], y: part.y[place][i],
  })));
}

function blend(scale, value) {
  const place = Math.min(value, 0.9999) * (scale.length - 1);
  const [one, other] = [scale[Math.floor(place)], scale[Math.floor(place) + 1]];
  const mixed = [1, 3, 5].map((i) => {
    const [a, b] = [one, other].map((colour) => parseInt(colour.slice(i, i + 2), 16));
    return Math.round(a + (b - a) * (place % 1));
  });
  return `rgb(${mixed.join(",")})`;
}

function tint(mode, point, colour) {
  if (point.file !== undefined) return colour("text");
  if (mode.keys) {
    const chosenColour = mode.colours[mode.keys[point.song]];
    return chosenColour.startsWith("#") ? chosenColour : colour(chosenColour);
  }
  const value = mode.values[point.song];
  return value === null ? mode.none : blend(mode.scale, value);
}

function words() {
  return search.value.toLowerCase().split(/\s+/).filter(Boolean);
}

function matches(point, wanted) {
  if (!wanted.length) return true;
  const one = about(point);
  const text = `${one.title} ${one.album} ${one.singer}`.toLowerCase();
  return wanted.every((word) => text.includes(word));
}

function clear(mode, point, wanted) {
  const apart = point.file !== undefined || (mode.keys && mode.keys[point.song] !== isolated);
  if (isolated !== null && mode.keys && apart) return false;
  return matches(point, wanted);
}

// Faded points are a trace of their own: only whole traces can be kept from answering the pointer.
function trace(points, shown, symbol, size, mode, colour) {
  const wrong = points.map((point) => about(point).right === false);
  return {
    type: "scatter", mode: "markers", customdata: points,
    x: points.map((point) => point.x), y: points.map((point) => point.y),
    hoverinfo: shown ? "text" : "skip",
    hovertext: points.map(hover),
    marker: {
      symbol, size, color: points.map((point) => tint(mode, point, colour)),
      opacity: shown ? 0.92 : FADED,
      line: {
        color: wrong.map((is) => colour(is ? "text" : "back")),
        width: wrong.map((is) => (is ? 0.22 * size : 0.6)),
      },
    },
  };
}

function traces(view, place, colour) {
  const mode = DATA.modes[chosen("colour")];
  const wanted = words();
  const points = pointsOf(view, place);
  const small = points.length > 1200 ? 0.7 : 1; // many points: smaller ones
  const groups = SYMBOLS.map((symbol, split) => [
    points.filter((point) => point.file === undefined && songs.split[point.song] === split),
    symbol,
    SIZES[split] * small,
  ]);
  const placed = points.filter((point) => point.file !== undefined);
  groups.push([placed, "star", view.level === "segment" ? 10 : 15]);
  return [false, true].flatMap((shown) => groups.map(([group, symbol, size]) => {
    const part = group.filter((point) => clear(mode, point, wanted) === shown);
    return part.length ? [trace(part, shown, symbol, size, mode, colour)] : [];
  }).flat());
}

function range(rows) {
  const values = rows.flat();
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = 0.04 * (high - low) || 1;
  return [low - margin, high + margin];
}

function current() {
  const there = DATA.views.filter((view) => view.member === Number(chosen("member")));
  return there.find((view) => view.level === chosen("level")) || there[0];
}

function showView(view) {
  if (view === shownView) return;
  slider.max = view.perplexities.length - 1;
  slider.value = view.first;
  document.getElementById("perplexities").hidden = view.perplexities.length < 2;
  shownView = view;
  selection.hidden = true;
}

function showTexts(view, place) {
  const perplexity = view.perplexities[place];
  const texts = {
    perplexity: perplexity.toFixed(perplexity % 1 ? 1 : 0),
    shown: view.says,
    kept: view.kept[place],
  };
  Object.entries(texts).forEach(([id, text]) => {
    document.getElementById(id).textContent = text;
  });
}

function showLegend() {
  document.querySelectorAll("[data-colour]").forEach((part) => {
    part.hidden = part.dataset.colour !== chosen("colour");
    const alone = isolated !== null && !part.hidden;
    part.querySelectorAll("button").forEach((button, key) => {
      button.setAttribute("aria-pressed", String(alone && isolated === key));
    });
    part.classList.toggle("isolated", alone);
  });
}

function showMatches(found) {
  const wanted = words();
  const points = found.flatMap((one) => one.customdata.filter((point) => matches(point, wanted)));
  const hits = new Set(points.map((p) => (p.file === undefined ? p.song : -1 - p.file)));
  document.getElementById("matches").textContent = wanted.length
    ? `: ${hits.size} ${hits.size === 1 ? "song" : "songs"}` : "";
}

function draw() {
  const colour = theme();
  const view = current();
  showView(view);
  const place = Number(slider.value);
  showTexts(view, place);
  showLegend();
  const found = traces(view, place, colour);
  showMatches(found);
  const revision = `${view.member} ${view.level} ${place}`;
  const along = (name) => ({
    showgrid: false, zeroline: false, showticklabels: false, ticks: "", uirevision: revision,
    range: range(view.new ? [view[name][place], view.new[name][place]] : [view[name][place]]),
  });
  const width = plot.parentElement.clientWidth;
  const layout = {
    ...baseLayout(colour),
    width,
    height: NARROW() ? Math.max(340, Math.round(width * 1.05)) : 660,
    margin: { l: 10, r: 10, t: 34, b: 10 },
    // On a phone a drag scrolls the page; the buttons zoom.
    dragmode: chosen("drag") === "lasso" ? "lasso" : TOUCH ? false : "pan",
    // Other traces have other points, so a selection of them would mean nothing.
    selectionrevision: [revision, chosen("colour"), isolated, ...words()].join(" "),
    xaxis: along("x"),
    yaxis: { ...along("y"), scaleanchor: "x" },
  };
  Plotly.react(plot, found, layout, { ...CONFIG, scrollZoom: !TOUCH, displayModeBar: true });
}

function pin(point) {
  const one = about(point);
  const heading = document.createElement("h2");
  heading.textContent = one.title;
  const parts = [heading];
  lines(point).forEach((line) => {
    const row = document.createElement("p");
    row.textContent = line;
    parts.push(row);
  });
  if (one.audio) {
    const player = document.createElement("audio");
    player.controls = true;
    player.preload = "none";
    player.src = one.audio[0];
    const from = document.createElement("p");
    from.className = "soft";
    from.textContent = `an excerpt from ${one.audio[1].toFixed(0)} s`;
    parts.push(player, from);
  }
  card.replaceChildren(...parts);
}

// Selected songs as lines of singer, album, song, split; a spreadsheet takes the tabs for columns.
function listSelected(points) {
  const counts = new Map();
  points.forEach((point) => {
    const one = about(point);
    const line = [one.singer, one.album, one.title, one.split].join("\t");
    counts.set(line, (counts.get(line) || 0) + 1);
  });
  const rows = Array.from(counts.keys()).sort();
  const segments = shownView.level === "segment" ? ` (${points.length} segments)` : "";
  const count = `${rows.length} ${rows.length === 1 ? "song" : "songs"}`;
  selection.querySelector("h2").textContent = `${count} selected${segments}`;
  selection.querySelector("textarea").value = rows.join("\n");
  selection.hidden = rows.length === 0;
}

function copy(event) {
  selection.querySelector("textarea").select();
  // Works in pages opened from a file, where newer ways may not.
  const done = document.execCommand("copy");
  event.target.textContent = done ? "Copied" : "Press Ctrl+C to copy";
  setTimeout(() => { event.target.textContent = "Copy"; }, 1500);
}

function start() {
  document.querySelectorAll("[data-colour]").forEach((part) => {
    part.querySelectorAll("button").forEach((button, key) => {
      button.addEventListener("click", () => {
        isolated = isolated === key ? null : key;
        draw();
      });
    });
  });
  const noneAlone = () => { isolated = null; };
  document.querySelectorAll('input[name="colour"]').forEach((input) =>
    input.addEventListener("change", noneAlone));
  slider.addEventListener("input", draw);
  search.addEventListener("input", draw);
  document.getElementById("copy").addEventListener("click", copy);
  redraws(draw);
  plot.on("plotly_click", (event) => pin(event.points[0].customdata));
  plot.on("plotly_selected", (event) => {
    const points = event ? event.points.filter((point) => point.data.hoverinfo !== "skip") : [];
    listSelected(points.map((point) => point.customdata));
  });
  plot.on("plotly_deselect", () => listSelected([]));
}

if (document.body) start();
