"use strict";
// Above: an interval for each singer. Below: a dot for each pair of singers.

const plot = document.getElementById("plot");
const pairsPlot = document.getElementById("pairs");
const says = document.getElementById("says");
const NOTES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const SHOWN = {
  f0: { title: "f0", unit: "Hz", log: true, digits: 0,
    says: "Thin line: nine tenths of what is sung, between the 5 and the 95% quantile of the f0. Thick: the middle half. Dot: the median. Each is the median over the singer's songs." },
  centroid_hz: { title: "spectral centroid, Hz", unit: "Hz", log: true, digits: 0,
    says: "Brightness: the spectral centroid, the mean frequency of the spectrum of voiced frames. Dot: median over the singer's songs. Thick: the middle half of the songs, thin: nine tenths." },
  tilt_db: { title: "dB an octave", unit: "dB an octave", log: false, digits: 1,
    says: "Tilt: by how much the mean spectrum of voiced frames falls with each octave from 100 Hz to 5 kHz; further left is darker. Dot: median over the singer's songs. Thick: the middle half, thin: nine tenths." },
  flatness_db: { title: "spectral flatness, dB", unit: "dB", log: false, digits: 1,
    says: "Noise: the spectral flatness of voiced frames; 0 dB would be white noise, further left is more tonal. Dot: median over the singer's songs. Thick: the middle half, thin: nine tenths." },
};

function noteOf(hz) {
  const number = Math.round(69 + 12 * Math.log2(hz / 440));
  return NOTES[((number % 12) + 12) % 12] + (Math.floor(number / 12) - 1);
}

function ordered() {
  const found = DATA.voices.slice();
  if (chosen("order", "pitch") === "alphabet") found.sort((a, b) => a.singer.localeCompare(b.singer));
  else {
    const show = chosen("show", "f0");
    found.sort((a, b) => a[show][2] - b[show][2]);
  }
  return found;
}

function value(number, show) {
  const { unit, digits } = SHOWN[show];
  const text = number.toFixed(digits).replace("-", "−");
  return show === "f0" ? `${noteOf(number)} (${text} Hz)` : `${text} ${unit}`;
}

function hover(voice, show) {
  const [low, first, middle, third, high] = voice[show].map((one) => value(one, show));
  const heard = voice.stem === "vocals" ? "vocal stem" : "mixture";
  return `<b>${plain(shortened(voice.singer, 40))}</b>${voice.sex ? `, ${plain(shortened(voice.sex, 20))}` : ""}<br>` +
    `median ${middle}<br>middle half ${first} to ${third}<br>nine tenths ${low} to ${high}<br>` +
    `${voice.songs} ${voice.songs === 1 ? "song" : "songs"}, ${heard}`;
}

function lines(found, show, low, high, width, tint) {
  const x = [];
  const y = [];
  found.forEach((voice, row) => {
    if (!voice) return;
    x.push(voice[show][low], voice[show][high], null);
    y.push(row, row, null);
  });
  return { type: "scatter", mode: "lines", x, y, line: { color: tint, width }, hoverinfo: "skip", showlegend: false };
}

// Notes every so many semitones within the range, named and in Hz.
function noteTicks(low, high, step) {
  const ticks = [];
  const first = Math.ceil((12 * Math.log2(low / 440) + 69) / step) * step;
  for (let number = first; 440 * 2 ** ((number - 69) / 12) <= high; number += step) ticks.push(440 * 2 ** ((number - 69) / 12));
  return { tickvals: ticks, ticktext: ticks.map((hz) => `${noteOf(hz)}<br>${hz.toFixed(0)} Hz`), tickmode: "array" };
}

function drawVoices(colour) {
  const show = chosen("show", "f0");
  const about = SHOWN[show];
  const found = ordered();
  const sexes = DATA.sexes.length > 1 ? DATA.sexes : [];
  // Up to three sexes in colours of the theme; those not known are grey.
  const tints = ["right", "wrong", "accent"].map(colour);
  const groups = sexes.length ? [...sexes, ""] : [null];
  const figures = groups.flatMap((sex, number) => {
    const mine = found.map((voice) => (sex === null || voice.sex === sex ? voice : null));
    const there = mine.filter(Boolean);
    if (!there.length) return [];
    const tint = sex === "" ? colour("soft") : tints[number % tints.length];
    return [
      lines(mine, show, 0, 4, 2, tint), lines(mine, show, 1, 3, 8, tint),
      {
        type: "scatter", mode: "markers", name: plain(shortened(sex || "not known", 20)), showlegend: sexes.length > 0,
        x: there.map((voice) => voice[show][2]), y: there.map((voice) => found.indexOf(voice)),
        marker: { size: 11, color: colour("back"), line: { color: tint, width: 3 }, opacity: 1 },
        hoverinfo: "text", hovertext: there.map((voice) => hover(voice, show)),
      },
    ];
  });
  const narrow = NARROW();
  const names = found.map((voice) => shortened(voice.singer, narrow ? 13 : 26));
  const font = narrow ? 11 : 12;
  const all = found.flatMap((voice) => voice[show]);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const axis = { gridcolor: colour("line"), zeroline: false, fixedrange: true };
  const scale = about.log
    ? { type: "log", range: [Math.log10(low / 1.06), Math.log10(high * 1.06)] }
    : { range: [low - 0.05 * (high - low || 1), high + 0.05 * (high - low || 1)] };
  const octaves = Math.log2(high / low);
  const ticks = show === "f0" ? noteTicks(low / 1.06, high * 1.06, octaves > 3 || (narrow && octaves > 1.5) ? 12 : narrow ? 6 : 4)
    : about.log ? { dtick: "D2", tickformat: "~s", ticksuffix: "" } : { nticks: narrow ? 5 : 9 };
  const head = sexes.length ? 34 : 12;
  const layout = {
    ...baseLayout(colour), width: plot.parentElement.clientWidth, height: head + 64 + 25 * found.length,
    margin: { l: widest(names, font) + 16, r: 26, t: head, b: 52, autoexpand: false }, hovermode: "closest", dragmode: false,
    showlegend: sexes.length > 0, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
    xaxis: { ...axis, ...scale, ...ticks, title: show === "f0" ? {} : { text: about.title, font: { color: colour("soft"), size: 12 }, standoff: 8 } },
    yaxis: { ...axis, showgrid: false, tickmode: "array", tickvals: names.map((_, i) => i), ticktext: names.map(plain),
      range: [-0.6, found.length - 0.4], tickfont: { size: font } },
  };
  says.textContent = about.says;
  Plotly.react(plot, figures, layout, { ...CONFIG, displayModeBar: false });
}

function pairHover(row) {
  const { singers, first, second, overlap, probability, mistakes } = DATA.pairs;
  const [one, other] = [first[row], second[row]].map((singer) => plain(shortened(singers[singer], 30)));
  const share = probability[row] >= 0.001 ? percent(probability[row]) : `${(100 * probability[row]).toPrecision(2)}%`;
  const taken = mistakes[row] ? `${mistakes[row]} ${mistakes[row] === 1 ? "song" : "songs"} named as the other` : "no song named as the other";
  return `<b>${one}</b> and <b>${other}</b><br>ranges overlap by ${Math.round(100 * overlap[row])}%<br>` +
    `probability given to each other ${share}<br>${taken}`;
}

function drawPairs(colour) {
  if (!pairsPlot) return;
  const { overlap, probability, mistakes } = DATA.pairs;
  const least = 1e-6; // what is drawn lowest: a logarithm has no 0
  const axis = { gridcolor: colour("line"), zeroline: false, fixedrange: true };
  const part = (wrong) => {
    const rows = overlap.map((_, row) => row).filter((row) => (mistakes[row] > 0) === wrong);
    return {
      type: "scatter", mode: "markers", name: wrong ? "with mistakes" : "without", hoverinfo: "text",
      x: rows.map((row) => 100 * overlap[row]), y: rows.map((row) => 100 * Math.max(probability[row], least)),
      hovertext: rows.map(pairHover),
      marker: {
        color: colour(wrong ? "wrong" : "right"), opacity: wrong ? 1 : 0.55,
        size: rows.map((row) => (wrong ? 8 + 3 * Math.min(mistakes[row], 5) : 7)), line: { width: wrong ? 1 : 0, color: colour("back") },
      },
    };
  };
  const layout = {
    ...baseLayout(colour), width: pairsPlot.parentElement.clientWidth, height: 420,
    margin: { l: 70, r: 16, t: 14, b: 50, autoexpand: false }, hovermode: "closest", dragmode: false,
    xaxis: { ...axis, ticksuffix: "%", range: [-3, 103], title: { text: "overlap of the ranges", font: { color: colour("soft"), size: 12 } } },
    yaxis: { ...axis, type: "log", dtick: 1, tickformat: "~g", ticksuffix: "%",
      title: { text: "probability given to each other", font: { color: colour("soft"), size: 12 }, standoff: 4 } },
  };
  Plotly.react(pairsPlot, [part(false), part(true)], layout, { ...CONFIG, displayModeBar: false });
}

redraws(() => {
  const colour = theme();
  drawVoices(colour);
  drawPairs(colour);
});
