// Loads scripts of pages into a context of their own, with a document that has no body: then they
// define their functions and start nothing.
import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";

const FOLDER = new URL("../../../analysis/assets/", import.meta.url);

export function load(data, names, choices = {}) {
  const element = (text = "") => ({ textContent: text, value: "" });
  const input = (selector) => {
    const name = selector.match(/input\[name="(\w+)"\]/);
    return name && name[1] in choices ? { value: choices[name[1]] } : null;
  };
  const page = {
    document: {
      getElementById: (id) => element(id === "data" ? JSON.stringify(data) : ""),
      querySelector: input,
    },
    window: { matchMedia: () => ({ matches: false }), innerWidth: 1200 },
    atob, console,
  };
  const text = names.map((name) => readFileSync(new URL(name, FOLDER), "utf8")).join("\n");
  return { run: (code) => runInContext(code, page), ...start(page, text) };
}

function start(page, text) {
  createContext(page);
  runInContext(text, page);
  return {};
}

// Objects of another context have other prototypes; as JSON they compare.
export function plainly(value) {
  return JSON.parse(JSON.stringify(value));
}
