import assert from "node:assert/strict";
import test from "node:test";
import { load, plainly } from "./load.mjs";

const packed = (...values) => Buffer.from(values).toString("base64");
const words = (...values) => packed(...values.flatMap((one) => [one % 256, one >> 8]));

// Two songs of two and one segments; two singers are kept of each.
const DATA = {
  singers: ["Ada", "Ben", "Cem"], kept: 2, together: 1, wide: false,
  songs: {
    id: ["Ada/First/01 one.mp3", "Ben/Last/two"], album: ["First", "Last"],
    split: ["validation", "test"], singer: [0, 1],
  },
  answers: [{ name: "fused", places: 2, labels: 0, shares: 1 }],
  members: [
    {
      name: "aam", how: "head", segment_s: 3, voiced: true, counts: 2, starts: 3, weights: 4,
      labels: 5, shares: 6,
    },
    { name: "old", how: "neighbours", voiced: false },
    { name: "new", why: "no store" },
  ],
  pool: [
    words(0, 2, 0, 1), words(65535, 0, 39321, 26214), words(2, 1), words(0, 25, 6000),
    packed(255, 0, 51), packed(0, 1, 2, 0, 1, 0), packed(255, 0, 204, 51, 255, 5),
  ],
};
const { run } = load(DATA, ["page.js", "timeline.js"]);

test("packed numbers are unpacked, of one and of two bytes", () => {
  assert.deepEqual(plainly(run("answer(fused, 1)")), [[0, 0.6], [1, 0.4]]);
  assert.deepEqual(plainly(run("right")), [true, false]);
  const [first, second] = plainly(run("parts(unpacked(DATA.members[0]), 0)"));
  assert.deepEqual(first, { start: 0, middle: 1.5, voice: 1, singers: [[0, 1], [1, 0]] });
  assert.deepEqual(second.singers, [[2, 0.8], [0, 0.2]]);
  assert.equal(run("parts(unpacked(DATA.members[0]), 1)[0].start"), 600);
});

test("a row is drawn for the true singer, the one named, and those who are probable somewhere", () => {
  const rows = (song) => plainly(run(`rowsOf(parts(unpacked(DATA.members[0]), ${song}), ${song})`));
  assert.deepEqual(rows(0), [0, 2]);
  assert.deepEqual(rows(1), [1, 0]);
});

test("cells meet half way between the middles of their segments", () => {
  assert.deepEqual(plainly(run("edges([{middle: 1}, {middle: 3}, {middle: 4}])")), [0, 2, 3.5, 4.5]);
  assert.deepEqual(plainly(run("edges([{middle: 5}])")), [4, 6]);
});

test("times are written in minutes, and marks are round and few", () => {
  assert.equal(run("clock(61.25)"), "1:01.3");
  assert.equal(run("clock(59.99)"), "1:00.0");
  assert.equal(run("clock(-1)"), "0:00.0");
  assert.deepEqual(plainly(run("timeTicks([2, 31], 5)")), [10, 20, 30]);
  assert.deepEqual(plainly(run("timeTicks([0, 240], 5)")), [0, 60, 120, 180, 240]);
});

test("words are found in any order, in path, album and singer", () => {
  assert.deepEqual(plainly(run('matching("one ADA")')), [0]);
  assert.deepEqual(plainly(run('matching("last")')), [1]);
  assert.deepEqual(plainly(run('matching("")')), [0, 1]);
  assert.deepEqual(plainly(run('matching("one ben")')), []);
});

test("what speaks for the segments is said, and when voice was not looked for", () => {
  assert.match(run("says(DATA.members[0])"), /head of member aam, softmax of its logits\.$/);
  assert.match(run("says(DATA.members[1])"), /nearest training segments\. Voice was not looked/);
  assert.equal(run("says(DATA.members[2])"), "no store");
});

test("titles are names of files without folder and suffix", () => {
  assert.equal(run("songTitle(0)"), "01 one");
  assert.equal(run("songTitle(1)"), "two");
});
