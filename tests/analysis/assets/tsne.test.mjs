import assert from "node:assert/strict";
import test from "node:test";
import { load, plainly } from "./load.mjs";

const DATA = {
  singers: ["Ada", "Ben & Co", "unknown singer"], known: 2,
  facts: [{ sex: "f", low: 200, high: 800.4, measured: true }, null],
  splits: ["train", "validation", "test"],
  songs: {
    title: ["one", "two", "three"], album: ["First", "Last", ""], singer: [0, 0, 2],
    split: [0, 1, 1], top: [null, [1, 6000, 0, 4000], [0, 9000]], audio: [],
  },
  files: { title: ["new"], singers: ["Ada", "Enrolled"], top: [[1, 7000]], audio: [["a.mp3", 3]] },
  modes: {
    singer: { keys: [0, 0, 2], colours: ["#111111", "right", "#333333"] },
    confidence: { values: [null, 0.5, 1], scale: ["#000000", "#64c832"], none: "#888888" },
  },
  views: [
    { member: 0, level: "song", song: [0, 1], start: null, x: [[1, 2]], y: [[3, 4]], new: null },
    { member: 0, level: "segment" },
    { member: 1, level: "song" },
  ],
};
const choices = { member: "0", level: "segment", colour: "singer" };
const { run } = load(DATA, ["page.js", "tsne.js"], choices);

test("a point's card has its singer, facts and answers with what is right", () => {
  assert.deepEqual(plainly(run("lines({song: 1})")), [
    "Ada", "album Last", "validation split", "f", "sings 200 to 800 Hz, as measured",
    "1. Ben & Co 60.0% ✗", "2. Ada 40.0% ✓",
  ]);
  assert.match(plainly(run("lines({song: 0})")).at(-1), /trained on, so not predicted/);
  assert.deepEqual(plainly(run("lines({song: 2})")), [
    "unknown singer", "validation split", "1. Ada 90.0%",
  ]);
  assert.deepEqual(plainly(run("lines({file: 0})")), ["placed file", "1. Enrolled 70.0%"]);
});

test("hover labels are text", () => {
  assert.match(run("hover({song: 1, start: 2.5})"), /^<b>two<\/b><br>.*segment from 2\.5 s<br>/);
  assert.match(run("hover({song: 1})"), /Ben &amp; Co/);
});

test("colours are categories', the theme's, or mixed on a scale", () => {
  const tint = (mode, point) => run(`tint(DATA.modes.${mode}, ${point}, (name) => "theme " + name)`);
  assert.equal(tint("singer", "{song: 0}"), "#111111");
  assert.equal(tint("confidence", "{song: 0}"), "#888888");
  assert.equal(tint("confidence", "{song: 1}"), "rgb(50,100,25)");
  assert.equal(tint("confidence", "{song: 2}"), "rgb(100,200,50)");
  assert.equal(tint("singer", "{file: 0}"), "theme text");
});

test("all words of a search must be in title, album or singer", () => {
  assert.equal(run('matches({song: 1}, ["ada", "last"])'), true);
  assert.equal(run('matches({song: 1}, ["ada", "first"])'), false);
  assert.equal(run('matches({song: 1}, [])'), true);
});

test("a view that is not there gives way to the member's first", () => {
  assert.equal(run("current().level"), "segment");
  choices.member = "1";
  assert.equal(run("current().level"), "song");
});

test("points are a view's songs, then its files, with room around them", () => {
  const found = plainly(run("pointsOf({...DATA.views[0], new: {file: [0], x: [[5]], y: [[6]]}}, 0)"));
  assert.deepEqual(found, [
    { song: 0, x: 1, y: 3 }, { song: 1, x: 2, y: 4 }, { file: 0, x: 5, y: 6 },
  ]);
  assert.deepEqual(plainly(run("range([[0, 10]])")), [-0.4, 10.4]);
  assert.deepEqual(plainly(run("range([[3]])")), [2, 4]);
});
