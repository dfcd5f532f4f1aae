import assert from "node:assert/strict";
import test from "node:test";
import { load, plainly } from "./load.mjs";

const FIGURE = {
  data: [{ type: "bar", marker: { color: "var(--right)", size: 3 } }],
  layout: { xaxis: { title: "x", range: [0, 1] }, height: 5 },
  cases: [
    { when: { unit: "rows" }, data: [{ z: [1, 2] }], layout: { xaxis: { range: [0, 9] } } },
    { when: { unit: "rows", narrow: true }, data: [], layout: { height: 7 } },
    { when: { unit: "counts" }, data: [{ z: [3] }, { type: "scatter" }], layout: {} },
  ],
};
const { run } = load({ figures: { plot: FIGURE } }, ["page.js", "switch.js"], { unit: "rows" });

test("cases that are met are laid over the figure, the others are not", () => {
  const found = plainly(run('variant(DATA.figures.plot, met)'));
  assert.deepEqual(found.data, [{ type: "bar", marker: FIGURE.data[0].marker, z: [1, 2] }]);
  assert.deepEqual(found.layout, { xaxis: { title: "x", range: [0, 9] }, height: 5 });
});

test("on a phone its cases count, and more traces may come", () => {
  const narrow = "(when) => !('unit' in when) || when.unit === 'rows'";
  assert.equal(run(`variant(DATA.figures.plot, ${narrow}).layout.height`), 7);
  const counts = "variant(DATA.figures.plot, (when) => when.unit === 'counts').data";
  assert.deepEqual(plainly(run(counts))[1], { type: "scatter" });
});

test("the figure itself stays as it was", () => {
  run("variant(DATA.figures.plot, () => true)");
  assert.deepEqual(plainly(run("DATA.figures.plot")), FIGURE);
});

test("colours of the theme replace their names where a colour belongs, and nowhere else", () => {
  const value = `{
    marker: { color: ["var(--right)", "#123456"], line: { color: "var(--text)" } },
    colorscale: [[0, "var(--empty)"], [1, "var(--wrong-soft)"]],
    fillcolor: "var(--line)", hovertext: ["var(--right)"], name: "var(--right)",
  }`;
  assert.deepEqual(plainly(run(`tinted(${value}, (name) => "<" + name + ">")`)), {
    marker: { color: ["<right>", "#123456"], line: { color: "<text>" } },
    colorscale: [[0, "<empty>"], [1, "<wrong-soft>"]],
    fillcolor: "<line>", hovertext: ["var(--right)"], name: "var(--right)",
  });
});

test("a strip's gradient has a stop for each run, from 0 to 100 percent", () => {
  assert.equal(
    run('gradient("r3w2l5")'),
    "linear-gradient(90deg,var(--right) 0.00% 30.00%,var(--wrong) 30.00% 50.00%," +
      "var(--line) 50.00% 100.00%)"
  );
});

test("names become text for plotly, and are cut by characters", () => {
  assert.equal(run('plain("<b>a & b")'), "&lt;b&gt;a &amp; b");
  assert.equal(run('shortened("🎤🎤🎤🎤", 3)'), "🎤🎤…");
  assert.equal(run('shortened("abc", 3)'), "abc");
});
