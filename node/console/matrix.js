// The latency matrix: what each node says of its way to each other one. Every cell is a button with
// a word or a number; on focus, hover or touch the line below tells the rest. One stop for the tab
// key, arrow keys inside (the grid pattern of WAI-ARIA). A screen reader gets it all from the label of
// the cell; the line is not announced, or it would speak at every poll.

import { byId, element, follow, put, set, setAll } from "./dom.js";
import { way } from "./judge.js";
import { ago, clipped, ms, named } from "./words.js";

const NAME = 11; // characters of a data center in a head
const SHADES = 4;
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class Matrix {
  constructor(table) {
    this.table = table;
    this.state = null;
    this.chosen = null; // "from-to"
    this.head = table.createTHead().insertRow();
    this.body = table.createTBody();
    for (const kind of ["focusin", "pointerover", "click"])
      this.body.addEventListener(kind, (event) => this.#choose(event.target.closest("button")));
    this.body.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show this state. */
  show(state) {
    this.state = state;
    const nodes = [...state.nodes].sort((a, b) => a.seat - b.seat || a.node - b.node);
    const rtts = nodes.flatMap((from) => nodes.map((to) => way(from, to).rtt ?? 0));
    const most = Math.max(1, ...rtts);
    const heads = [null, ...nodes];
    follow(this.head, heads, (node) => node?.node ?? "corner", newHead, drawHead);
    follow(this.body, nodes, (node) => node.node, newRow, (row, from) => {
      follow(row, heads, (to) => to?.node ?? "head", (to) => newCell(from, to), (cell, to) => {
        if (to === null) drawHead(cell, from);
        else if (to !== from) drawCell(cell, from, to, most);
      });
    });
    this.#oneStop();
    this.#tell();
  }

  #buttons() {
    return [...this.body.querySelectorAll("button")];
  }

  #oneStop() {
    const buttons = this.#buttons();
    const stop = buttons.find((button) => button.dataset.way === this.chosen) ?? buttons[0];
    for (const button of buttons) set(button, "tabindex", button === stop ? "0" : "-1");
  }

  #choose(button) {
    if (!button) return;
    this.chosen = button.dataset.way;
    this.#oneStop();
    this.#tell();
  }

  #move(event) {
    const step = STEPS[event.key];
    const from = event.target.closest("td");
    if (!step || !from) return;
    event.preventDefault();
    let [row, column] = [from.parentElement.sectionRowIndex + step[0], from.cellIndex + step[1]];
    let cell = this.body.rows[row]?.cells[column];
    if (cell && !cell.querySelector("button")) {
      [row, column] = [row + step[0], column + step[1]]; // over the diagonal
      cell = this.body.rows[row]?.cells[column];
    }
    cell?.querySelector("button")?.focus();
  }

  #tell() {
    const line = byId("matrix-hint");
    if (this.chosen === null) return;
    const [from, to] = this.chosen
      .split("-")
      .map((number) => this.state.nodes.find((node) => node.node === Number(number)));
    if (from === undefined || to === undefined) return;
    put(line, sentence(from, to));
  }
}

/** "frankfurt to paris: 12 ms, heard just now." and the error, if there is one. */
function sentence(from, to) {
  const { kind, rtt, heard, error } = way(from, to);
  if (kind === "unknown") return `From ${named(from)} to ${named(to)}: not known, ${from.dc} does not answer.`;
  const how = kind === "up" ? (rtt === null ? "up" : `${ms(rtt)} ms`) : "no link";
  const last = heard === null ? "never heard" : `heard ${ago(heard)}`;
  return `From ${named(from)} to ${named(to)}: ${how}, ${last}${error ? `. Last error: ${error}` : ""}.`;
}

const newHead = (node) => element("th", { scope: node === null ? "row" : "col" });

function drawHead(cell, node) {
  if (node === null) {
    put(cell, "from ↓ to →");
    return;
  }
  put(cell, clipped(node.dc, NAME));
  set(cell, "title", named(node));
}

const newRow = () => element("tr");

function newCell(from, to) {
  if (to === null) return element("th", { scope: "row" });
  if (to === from) return element("td", { class: "self", "aria-label": "itself" }, "·");
  return element("td", {}, element("button", { type: "button", "data-way": `${from.node}-${to.node}` }));
}

function drawCell(cell, from, to, most) {
  const { kind, rtt } = way(from, to);
  const shade = rtt === null ? 0 : Math.min(SHADES, Math.ceil((rtt / most) * SHADES));
  const button = cell.firstElementChild;
  const words = { up: rtt === null ? "up" : ms(rtt), down: to.view === null ? "down" : "cut", unknown: "?" };
  put(button, words[kind]);
  setAll(button, { class: `way way-${kind} shade-${shade}`, "aria-label": sentence(from, to) });
}
