"use strict";
// What every page with a figure shares: its data, the theme's colours, and safe text.

const DATA = JSON.parse(document.getElementById("data").textContent);
const NARROW = () => window.innerWidth <= 820;
const TOUCH = window.matchMedia("(pointer: coarse)").matches;

// On a phone the navigation is wider than the screen: bring this page's name into it.
{
  const here = document.querySelector("nav a[aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2;
}

// Plotly reads labels as a small HTML dialect; names of files and folders must stay plain text.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function shortened(text, length) {
  const characters = Array.from(String(text));
  if (characters.length <= length) return String(text);
  return characters.slice(0, length - 1).join("") + "…";
}

function percent(share) {
  return (100 * share).toFixed(1) + "%";
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue("--" + name).trim();
}

function chosen(name) {
  const input = document.querySelector(
    `input[name="${name}"]:checked, input[type="hidden"][name="${name}"]`
  );
  return input ? input.value : "";
}

function baseLayout(colour) {
  const family = getComputedStyle(document.body).fontFamily;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false, hovermode: "closest", dragmode: false,
    font: { family, color: colour("text"), size: 12 },
    hoverlabel: {
      bgcolor: colour("back"), bordercolor: colour("line"), align: "left", namelength: -1,
      font: { family, color: colour("text"), size: 13 },
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("text") },
  };
}

// Plotly's own set of buttons holds one that uploads the figure; only these remain.
const CONFIG = {
  displaylogo: false,
  displayModeBar: false,
  plotlyServerURL: "",
  modeBarButtons: [["toImage"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
};

// Width of the widest text in pixels, at a font size in pixels.
function widest(texts, size) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return Math.ceil(Math.max(0, ...texts.map((text) => pen.measureText(text).width)));
}

// Whether what is chosen meets conditions: {name: value}, or {narrow: true} for a phone.
function met(when) {
  return Object.entries(when).every(([name, value]) =>
    name === "narrow" ? NARROW() === value : chosen(name) === value
  );
}

// Shows what belongs to the choices: elements with data-when="name=value name=value".
function showChosen() {
  document.querySelectorAll("[data-when]").forEach((part) => {
    const when = part.dataset.when.split(" ").map((one) => one.split("="));
    part.hidden = !met(Object.fromEntries(when));
  });
}

// Draws now, and again when a choice, the theme or the width changes.
function redraws(draw) {
  const inputs = document.querySelectorAll(".choice input");
  inputs.forEach((input) => input.addEventListener("change", draw));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  const frame = document.querySelector(".plot");
  let width = frame.clientWidth;
  let waiting = 0;
  new ResizeObserver(() => {
    if (frame.clientWidth === width) return; // drawing changes the height
    width = frame.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 80);
  }).observe(frame);
}
