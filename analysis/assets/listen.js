"use strict";
// What gradio's components do not do by themselves: places that screen readers watch, names for
// icons, and a timeline that follows the player.

const SPOKEN = ["headline", "taught", "many-message"];

function announce() {
  for (const id of SPOKEN) {
    const place = document.getElementById(id);
    if (!place || place.getAttribute("role") === "status") continue;
    place.setAttribute("role", "status");
    place.setAttribute("aria-live", "polite");
    place.setAttribute("aria-atomic", "true");
  }
  const name = document.querySelector("#name input");
  if (name && !name.hasAttribute("list")) name.setAttribute("list", "singers");
  // gradio's icons stand beside words or in buttons that have a name
  for (const icon of document.querySelectorAll("svg:not([role]):not([aria-hidden])"))
    icon.setAttribute("aria-hidden", "true");
}

function follow(event) {
  if (event.target.id !== "heard") return;
  const line = document.querySelector(".cursor i");
  const bar = document.querySelector(".timeline");
  if (!line || !bar) return;
  const share = event.target.currentTime / Number(bar.dataset.seconds);
  line.hidden = false;
  line.style.left = `${100 * Math.min(share, 1)}%`;
}

function jump(event) {
  const bar = event.target.closest(".timeline");
  const player = document.getElementById("heard");
  if (!bar || !player) return;
  const lane = bar.querySelector(".time").getBoundingClientRect();
  const share = (event.clientX - lane.left) / lane.width;
  if (share < 0 || share > 1) return;
  player.currentTime = share * Number(bar.dataset.seconds);
  player.play();
}

// One player at a time.
function alone(event) {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}

document.addEventListener("timeupdate", follow, true);
document.addEventListener("seeking", follow, true);
document.addEventListener("play", alone, true);
document.addEventListener("click", jump);
new MutationObserver(announce).observe(document, {childList: true, subtree: true});
