"use strict";
// A chosen song: singers by segment as a heat map, the whole song's answer beside it, voice below.

const LISTED = 80; // songs shown at once; a search finds the others
const ROWS = 8; // singers drawn of a song
const LEAST = 0.04; // of a singer's highest probability, to be drawn
const plot = document.getElementById("plot");
const search = document.getElementById("search");
const listing = document.getElementById("songs");
const songs = DATA.songs;
const songTitle = (song) =>
  songs.id[song].replace(/^.*\//, "").replace(/\.[^.]*$/, "") || songs.id[song];

// Arrays are packed as base64 of little-endian numbers: a page of 2,000 songs would be three times
// as large with their digits.
function bytes(number) {
  return Uint8Array.from(atob(DATA.pool[number]), (letter) => letter.charCodeAt(0));
}

function words(number) {
  const both = bytes(number);
  return Uint16Array.from(
    { length: both.length / 2 }, (_, i) => both[2 * i] + 256 * both[2 * i + 1]
  );
}

const answers = DATA.answers.map((one) => ({
  name: one.name, places: one.places, labels: words(one.labels), shares: words(one.shares),
}));

// A member's arrays are unpacked when it is first looked at.
function unpacked(member) {
  if (!member.first) {
    const counts = words(member.counts);
    let sum = 0;
    member.first = Array.from(counts, (count) => (sum += count) - count).concat([sum]);
    member.start = words(member.starts);
    member.weight = bytes(member.weights);
    member.label = DATA.wide ? words(member.labels) : bytes(member.labels);
    member.share = bytes(member.shares);
  }
  return member;
}

function answer(source, song) {
  const found = [];
  for (let i = source.places * song; i < source.places * (song + 1); i++) {
    found.push([source.labels[i], source.shares[i] / 65535]);
  }
  return found;
}

const fused = answers.find((one) => one.name === "fused");
const right = songs.id.map((_, song) => answer(fused, song)[0][0] === songs.singer[song]);

// What is drawn of a song: for each row of segments its middle, voice, and probable singers.
function parts(member, song) {
  const length = member.segment_s || 0;
  const found = [];
  for (let row = member.first[song]; row < member.first[song + 1]; row++) {
    const singers = [];
    for (let i = DATA.kept * row; i < DATA.kept * (row + 1); i++) {
      singers.push([member.label[i], member.share[i] / 255]);
    }
    const start = member.start[row] / 10;
    found.push({ start, middle: start + length / 2, voice: member.weight[row] / 255, singers });
  }
  return found;
}

function edges(found) {
  const middles = found.map((one) => one.middle);
  if (middles.length === 1) return [middles[0] - 1, middles[0] + 1];
  const between = middles.slice(1).map((middle, i) => (middle + middles[i]) / 2);
  const last = middles.length - 1;
  return [2 * middles[0] - between[0], ...between, 2 * middles[last] - between[last - 1]];
}

function rowsOf(found, song) {
  const total = new Map();
  const highest = new Map();
  found.forEach((one) => one.singers.forEach(([singer, share]) => {
    total.set(singer, (total.get(singer) || 0) + share);
    highest.set(singer, Math.max(highest.get(singer) || 0, share));
  }));
  const named = answer(fused, song)[0][0];
  const first = [songs.singer[song]];
  if (named !== first[0]) first.push(named);
  const others = Array.from(total.keys()).filter(
    (singer) => !first.includes(singer) && highest.get(singer) >= LEAST
  );
  others.sort((a, b) => total.get(b) - total.get(a) || a - b);
  return first.concat(others).slice(0, ROWS);
}

function clock(seconds) {
  const rounded = Math.max(0, Math.round(seconds * 10) / 10);
  return `${Math.floor(rounded / 60)}:${(rounded % 60).toFixed(1).padStart(4, "0")}`;
}

function hover(member, one) {
  const end = member.segment_s ? ` to ${clock(one.start + member.segment_s)}` : "";
  const when = DATA.together === 1
    ? `${clock(one.start)}${end}` : `${DATA.together} segments around ${clock(one.middle)}`;
  const singers = one.singers.slice().sort((a, b) => b[1] - a[1]);
  const lines = singers.map(([singer, share]) => `${singerName(singer)} ${percent(share)}`);
  if (member.voiced) lines.push(`voice ${percent(one.voice)}`);
  return [`<b>${when}</b>`, ...lines].join("<br>");
}

function singerName(singer) {
  return plain(shortened(DATA.singers[singer], 36));
}

// The rows of the true singer, or those of all others; each in its colour.
function heat(rows, columns, value, text, isRight, colour, song, axes) {
  const mine = rows.map((singer) => (singer === songs.singer[song]) === isRight);
  return {
    type: "heatmap", ...axes, yaxis: "y", y: rows.map((_, i) => i), showscale: false,
    xgap: 0, ygap: 2, hoverinfo: "text", hoverongaps: false, zmin: 0, zmax: 1,
    z: rows.map((singer, i) => columns.map((_, j) => (mine[i] ? value(singer, j) : null))),
    hovertext: rows.map((singer) => columns.map((_, j) => text(singer, j))),
    colorscale: [[0, colour("empty")], [1, colour(isRight ? "right" : "wrong")]],
  };
}

function voiceBars(found, cuts, texts, colour) {
  return {
    type: "bar", x: cuts.slice(0, -1), offset: 0, yaxis: "y2", hoverinfo: "text", hovertext: texts,
    width: found.map((_, i) => cuts[i + 1] - cuts[i]), y: found.map((one) => one.voice),
    marker: { color: colour("soft"), line: { width: 0 } }, textposition: "none",
  };
}

// Seconds for the marks of an axis, at most `most` of them.
function timeTicks([from, to], most) {
  const steps = [5, 10, 15, 30, 60, 120, 300, 600];
  const step = steps.find((one) => (to - from) / one <= most) || 1200;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

function shareOf(singers, singer) {
  return (singers.find(([label]) => label === singer) || [0, 0])[1];
}

function drawSong(member, song, colour) {
  const found = parts(member, song);
  const rows = rowsOf(found, song);
  const cuts = edges(found);
  const texts = found.map((one) => hover(member, one));
  const whole = answer(fused, song);
  const wholeText = (singer) =>
    `<b>whole song, fused</b><br>${singerName(singer)} ${percent(shareOf(whole, singer))}`;
  const figures = [true, false].flatMap((isRight) => [
    heat(
      rows, found, (singer, j) => shareOf(found[j].singers, singer), (_, j) => texts[j],
      isRight, colour, song, { x: cuts, xaxis: "x" }
    ),
    heat(
      rows, [0], (singer) => shareOf(whole, singer), wholeText,
      isRight, colour, song, { x: [0, 1], xaxis: "x2" }
    ),
  ]);
  if (member.voiced) figures.push(voiceBars(found, cuts, texts, colour));
  Plotly.react(plot, figures, songLayout(rows, cuts, member.voiced, colour), CONFIG);
}

function songLayout(rows, cuts, voiced, colour) {
  const narrow = NARROW();
  const font = { size: narrow ? 10 : 12 };
  const soft = { ...font, color: colour("soft") };
  const names = rows.map((singer) => shortened(DATA.singers[singer], narrow ? 12 : 24));
  const margin = widest([...names, "voice"], font.size) + 10;
  const width = plot.parentElement.clientWidth;
  const beside = Math.min(0.2, 44 / (width - margin)); // share of the width, for the whole song
  const height = { rows: rows.length * (narrow ? 24 : 28), voice: voiced ? 64 : 0 };
  const total = height.rows + (voiced ? 16 + height.voice : 0);
  const axis = { showgrid: false, zeroline: false, fixedrange: true, ticks: "" };
  const named = { ...axis, tickmode: "array", tickfont: font };
  const range = [cuts[0], cuts[cuts.length - 1]];
  const ticks = timeTicks(range, narrow ? 5 : 10);
  return {
    ...baseLayout(colour), width, height: total + 62, bargap: 0,
    margin: { l: margin, r: 12, t: 22, b: 40, autoexpand: false },
    xaxis: {
      ...axis, domain: [0, 1 - beside - 0.015], range, anchor: voiced ? "y2" : "y",
      tickmode: "array", tickvals: ticks,
      ticktext: ticks.map((at) => clock(at).replace(/\.\d$/, "")),
      title: { text: "time, min:s", font: { ...soft, size: 12 }, standoff: 4 },
    },
    xaxis2: { ...axis, domain: [1 - beside, 1], range: [0, 1], anchor: "y", visible: false },
    yaxis: {
      ...named, domain: [1 - height.rows / total, 1], range: [rows.length - 0.5, -0.5],
      tickvals: rows.map((_, i) => i), ticktext: names.map(plain),
    },
    yaxis2: {
      ...named, domain: [0, height.voice / total], range: [0, 1], visible: voiced,
      tickvals: [0.5], ticktext: ["voice"],
    },
    annotations: [{
      text: "song", xref: "paper", yref: "paper", x: 1 - beside / 2, y: 1, yanchor: "bottom",
      showarrow: false, font: soft,
    }],
  };
}

function answerTable(song) {
  const table = document.createElement("table");
  const add = (parent, tag, text) => {
    const cell = document.createElement(tag);
    cell.textContent = text;
    parent.append(cell);
    return cell;
  };
  const head = table.createTHead().insertRow();
  const titles = ["whole song", "1st", "2nd", "3rd"].slice(0, 1 + fused.places);
  titles.forEach((text) => add(head, "th", text));
  const body = table.createTBody();
  answers.forEach((source) => {
    const found = answer(source, song);
    if (!found.some(([, share]) => share > 0)) return;
    const row = body.insertRow();
    const slash = source.name.lastIndexOf("/");
    const cell = add(row, "td", source.name.slice(slash + 1));
    if (slash > 0) add(cell, "small", source.name.slice(0, slash));
    found.forEach(([singer, share]) => {
      const mark = singer === songs.singer[song] ? " ✓" : "";
      const named = add(row, "td", DATA.singers[singer] + mark);
      add(named, "small", percent(share));
    });
  });
  const frame = document.createElement("div");
  frame.className = "scroll";
  frame.tabIndex = 0;
  frame.append(table);
  document.getElementById("answer").replaceChildren(frame);
}

let current = 0;

// Who speaks for the segments, and whether voice was looked for.
function says(member) {
  if (member.why) return member.why;
  const source = member.how === "head"
    ? `Segments: the head of member ${member.name}, softmax of its logits.`
    : `Member ${member.name} has no classification head: ` +
      "segments show the votes of their nearest training segments.";
  const alike = "Voice was not looked for: every segment counts the same.";
  return member.voiced ? source : `${source} ${alike}`;
}

function draw() {
  const colour = theme();
  const member = DATA.members[Number(chosen("member"))];
  const singer = DATA.singers[songs.singer[current]];
  const [first, share] = answer(fused, current)[0];
  document.getElementById("song").textContent = `${songTitle(current)}, ${songs.album[current]}`;
  document.getElementById("shown").textContent =
    `${singer}, ${songs.split[current]} split. All together name ${DATA.singers[first]} ` +
    `with ${percent(share)}: ${right[current] ? "right" : "wrong"}. ${says(member)}`;
  answerTable(current);
  plot.parentElement.hidden = Boolean(member.why);
  if (!member.why) drawSong(unpacked(member), current, colour);
  listing.querySelectorAll("button").forEach((button) => {
    button.setAttribute("aria-pressed", String(Number(button.value) === current));
  });
}

function choose(song) {
  current = song;
  history.replaceState(null, "", "#" + encodeURIComponent(songs.id[song]));
  draw();
}

// Words may stand in any order in the path, the album or the singer's name.
const texts = songs.id.map((id, song) =>
  `${id} ${songs.album[song]} ${DATA.singers[songs.singer[song]]}`.toLowerCase()
);

function matching(query) {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  return songs.id.map((_, song) => song)
    .filter((song) => wanted.every((word) => texts[song].includes(word)));
}

function songButton(song) {
  const button = document.createElement("button");
  button.type = "button";
  button.value = String(song);
  button.setAttribute("aria-pressed", String(song === current));
  const mark = document.createElement("i");
  mark.textContent = right[song] ? "✓" : "✗";
  mark.className = right[song] ? "right" : "wrong";
  const name = document.createElement("span");
  name.textContent = songTitle(song);
  const small = document.createElement("small");
  const sure = percent(answer(fused, song)[0][1]);
  small.textContent = `${DATA.singers[songs.singer[song]]}, ${sure} sure`;
  name.append(small);
  button.append(mark, name);
  button.addEventListener("click", () => choose(song));
  return button;
}

function list() {
  const found = matching(search.value);
  listing.replaceChildren(...found.slice(0, LISTED).map(songButton));
  document.getElementById("more").textContent = found.length > LISTED
    ? `${LISTED} of ${found.length} songs; search for the others`
    : `${found.length} of ${songs.id.length} songs`;
}

function fromAddress() {
  const song = songs.id.indexOf(decodeURIComponent(location.hash.slice(1)));
  if (song >= 0) current = song;
}

function start() {
  search.addEventListener("input", list);
  window.addEventListener("hashchange", () => { fromAddress(); draw(); });
  fromAddress();
  list();
  redraws(draw);
}

if (document.body) start();
