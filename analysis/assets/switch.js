"use strict";
// Figures that were prepared with all their variants: {data, layout, cases, square}. A case is
// {when, data, layout}; those whose conditions are met are laid over the figure, in their order.

// Objects are merged, all else replaced.
function over(base, more) {
  if (more === undefined) return base;
  const objects = [base, more].every(
    (one) => one && typeof one === "object" && !Array.isArray(one)
  );
  if (!objects) return more;
  const found = { ...base };
  Object.entries(more).forEach(([key, value]) => { found[key] = over(found[key], value); });
  return found;
}

function overAll(traces, more) {
  const length = Math.max(traces.length, more.length);
  return Array.from({ length }, (_, i) => over(traces[i] || {}, more[i] || undefined));
}

function variant(figure, isMet) {
  return (figure.cases || []).filter((one) => isMet(one.when)).reduce(
    (found, one) => ({
      ...found,
      data: overAll(found.data, one.data || []),
      layout: over(found.layout, one.layout),
    }),
    figure
  );
}

// "var(--name)" stands for a colour of the theme, but only where a colour belongs.
function tinted(value, colour, isColour = false) {
  if (typeof value === "string") {
    const name = isColour && value.match(/^var\(--([a-z-]+)\)$/);
    return name ? colour(name[1]) : value;
  }
  if (Array.isArray(value)) {
    const nested = isColour || value.some((one) => one && typeof one === "object");
    return nested ? value.map((one) => tinted(one, colour, isColour)) : value;
  }
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) =>
    [key, tinted(one, colour, isColour || /color(scale)?$/.test(key))]
  ));
}

// A matrix of `count` rows and columns: cells as large as fit, but never too small for a finger.
function squared(layout, { count, least, most }, room) {
  const font = NARROW() ? 10 : 12;
  const title = NARROW() ? 0 : layout.xaxis.title ? 26 : 0; // a phone has no room for titles
  const label = widest(layout.xaxis.ticktext, font) + 12;
  const cell = Math.max(least, Math.min(most, (room - label - title - 14) / count));
  const edge = label + title;
  const axis = { tickfont: { size: font }, ...(title ? {} : { title: { text: "" } }) };
  return over(layout, {
    width: edge + 12 + cell * count, height: edge + 22 + cell * count,
    margin: { l: edge, r: 12, t: 10, b: edge + 12, autoexpand: false },
    xaxis: axis,
    yaxis: title ? over(axis, { title: { standoff: label - 14 } }) : axis,
  });
}

// "r3w2l10" as a gradient of the theme's colours: right, wrong, line.
function gradient(strip) {
  const names = { r: "right", w: "wrong", l: "line" };
  const runs = Array.from(strip.matchAll(/([rwl])(\d+)/g), ([, name, count]) => [name, +count]);
  const total = runs.reduce((sum, [, count]) => sum + count, 0);
  let from = 0;
  const stops = runs.map(([name, count]) => {
    const [start, end] = [from, from + (100 * count) / total];
    from = end;
    return `var(--${names[name]}) ${start.toFixed(2)}% ${end.toFixed(2)}%`;
  });
  return `linear-gradient(90deg,${stops.join(",")})`;
}

function draw(id) {
  const plot = document.getElementById(id);
  const found = variant(DATA.figures[id], met);
  const colour = theme();
  const room = plot.closest(".plot").clientWidth;
  const layout = { ...baseLayout(colour), width: room, ...tinted(found.layout, colour) };
  const sized = found.square ? squared(layout, found.square, room) : layout;
  Plotly.react(plot, tinted(found.data, colour), sized, CONFIG);
}

function start() {
  const panel = document.getElementById("panel");
  redraws(() => {
    if (panel) panel.replaceChildren();
    showChosen();
    Object.keys(DATA.figures).forEach(draw);
  });
  if (!panel) return;
  // A click on a point shows the template that its customdata names.
  Object.keys(DATA.figures).forEach((id) => {
    document.getElementById(id).on("plotly_click", (event) => {
      const template = document.getElementById(`panel-${event.points[0].customdata}`);
      if (!template) return;
      panel.replaceChildren(template.content.cloneNode(true));
      panel.querySelectorAll("[data-strip]").forEach((one) => {
        one.style.background = gradient(one.dataset.strip);
      });
    });
  });
}

if (document.body) start();
