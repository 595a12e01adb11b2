// Shards and their leaders: a chip per shard, always in its place, with the number of the node that
// leads it; and who leads how many. Up to 64 shards fit; the table below has each one's numbers.

import { element, follow, put, set, setAll } from "./dom.js";
import { ledBy } from "./judge.js";
import { grouped } from "./words.js";

const MANY = 16; // more shards than this get narrower chips

export class Shards {
  constructor(list, leaders, table) {
    this.list = list;
    this.leaders = leaders;
    this.body = table.tBodies[0];
    this.details = table.closest("details");
    this.state = null;
    this.details.addEventListener("toggle", () => this.#fill());
  }

  /** Show this state. */
  show(state) {
    this.state = state;
    const seats = new Map(state.nodes.map((node) => [node.node, node]));
    set(this.list, "class", state.shards.length > MANY ? "shards shards-many" : "shards");
    follow(this.list, state.shards, (shard) => shard.shard, newChip, (chip, shard) =>
      drawChip(chip, shard, seats),
    );
    const nodes = [...state.nodes].sort((a, b) => a.seat - b.seat || a.node - b.node);
    const nobody = state.shards.filter((shard) => shard.leader === null).length;
    const rows = [...nodes, { node: 0, seat: 0, dc: "nobody" }];
    const most = Math.max(1, state.shards.length);
    follow(this.leaders, rows, (node) => node.node, newBar, (bar, node) => {
      const led = node.node === 0 ? nobody : ledBy(node.node, state).length;
      drawBar(bar, node, led, most);
    });
    this.#fill();
  }

  #fill() {
    if (this.state === null || !this.details.open) return;
    follow(this.body, this.state.shards, (shard) => shard.shard, newRow, (row, shard) => {
      const [number, leader, term, commit, lag, agree] = row.cells;
      const node = this.state.nodes.find((each) => each.node === shard.leader);
      put(number, shard.shard);
      put(leader, shard.leader === null ? "nobody" : `node ${shard.leader}${node ? ` (${node.dc})` : ""}`);
      put(term, grouped(shard.term));
      put(commit, grouped(shard.commit));
      put(lag, grouped(Math.max(0, shard.commit - shard.applied_min)));
      put(agree, shard.agree);
      set(row, "data-tone", shard.leader === null || shard.agree === "differs" ? "bad" : null);
    });
  }
}

const newChip = () => element("li", {}, element("span"), element("b"));

function drawChip(chip, shard, seats) {
  const leader = seats.get(shard.leader);
  const lag = Math.max(0, shard.commit - shard.applied_min);
  put(chip.children[0], shard.shard);
  put(chip.children[1], shard.leader ?? "–");
  const where = leader === undefined ? "" : ` (${leader.dc})`;
  const who = shard.leader === null ? "no leader" : `led by node ${shard.leader}${where}`;
  const numbers = `term ${shard.term}, commit ${grouped(shard.commit)}`;
  setAll(chip, {
    class: shard.leader === null ? "chip chip-none" : `chip seat-${leader?.seat ?? 0}`,
    title: `shard ${shard.shard}: ${who}, ${numbers}, the last node is ${grouped(lag)} behind`,
    "aria-label": `shard ${shard.shard}, ${who}`,
  });
}

const newBar = () =>
  element("li", {}, element("span", { class: "who" }), element("progress"), element("b"));

function drawBar(bar, node, led, most) {
  const [who, length, number] = bar.children;
  put(who, node.node === 0 ? "nobody" : `${node.node} ${node.dc}`);
  setAll(length, { max: most, value: led, "aria-hidden": "true" });
  put(number, led);
  setAll(bar, {
    class: node.node === 0 ? "bar-none" : `bar-seat-${node.seat}`,
    ...(node.node === 0 && led === 0 ? { hidden: "" } : { hidden: null }),
  });
}

const newRow = () =>
  element("tr", {}, ...["n", "", "n", "n", "n", ""].map((name) => element("td", name ? { class: name } : {})));
