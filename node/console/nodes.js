// The table of nodes: one row each, a card each on a phone. A node that does not answer keeps its
// row, with the reason and the time of its last answer.

import { element, follow, put, set } from "./dom.js";
import { firstToEnd, heardMs, lagOf, ledBy, nodeState } from "./judge.js";
import { sign, smallSign } from "./signs.js";
import { ago, bytes, clock, grouped, moment, ms, span } from "./words.js";

const COLUMNS = ["Node", "State", "Leads", "Lag", "Fsync p99", "Heard", "HSM", "Disk free", "Certificate", "Up for"];
const TEXT_COLUMNS = ["Node", "State", "HSM"];
const NOTHING = "–";
const IN_FLIGHT = 100; // entries that a node may lack while all is well and many write

export class Nodes {
  constructor(table) {
    this.body = table.tBodies[0];
    this.answered = new Map(); // node -> when it answered last, ms
  }

  /** Show this state, heard at `now`. */
  show(state, now) {
    for (const { node, view } of state.nodes) if (view !== null) this.answered.set(node, now);
    const rows = [...state.nodes].sort((a, b) => a.seat - b.seat || a.node - b.node);
    follow(
      this.body,
      rows,
      ({ node }) => node,
      newRow,
      (row, node) => this.#fill(row, node, state, now),
    );
  }

  #fill(row, node, state, now) {
    const [who, how, leads, lag, fsync, heard, hsm, disk, certificate, up] = row.cells;
    const status = node.view?.status ?? null;
    const { tone, word, detail } = nodeState(node, state);
    put(who.querySelector(".seat"), node.node);
    set(who.querySelector(".seat"), "class", `seat seat-${node.seat}`);
    put(who.querySelector("b"), node.dc);
    put(who.querySelector("small"), `node ${node.node}${status ? ` · ${status.version}` : ""}`);
    sign(how.querySelector("svg"), tone);
    set(row, "data-tone", tone);
    put(how.querySelector("b"), word);
    const last = this.answered.get(node.node);
    const silent = status === null && last !== undefined;
    const since = silent ? `; last answer ${clock(last)} UTC, ${ago(now - last)}` : "";
    put(how.querySelector("small"), detail + since);
    set(how, "title", silent ? moment(last, now) : null);
    put(leads.lastChild, ledBy(node.node, state).length);
    const behind = lagOf(node, state);
    put(lag.lastChild, behind === null ? NOTHING : grouped(behind));
    set(lag, "data-tone", behind > IN_FLIGHT ? "some" : null);
    const fsyncMs = status?.fsync_p99_ms ?? null;
    put(fsync.lastChild, fsyncMs === null ? NOTHING : `${ms(fsyncMs)} ms`);
    const silence = heardMs(node.node, state);
    put(heard.lastChild, silence === null ? NOTHING : ago(silence));
    put(hsm.lastChild, status === null ? NOTHING : status.hsm.healthy ? "working" : "away");
    put(disk.lastChild, status === null ? NOTHING : bytes(status.space.disk_free));
    const end = status === null ? null : firstToEnd(status);
    put(certificate.lastChild, end === null ? NOTHING : `${grouped(end.days_left)} d`);
    set(certificate, "title", end === null ? null : `${end.name} certificate, until ${end.not_after}`);
    put(up.lastChild, status === null ? NOTHING : span(status.uptime_s));
  }
}

const names = () => element("span", { class: "names" }, element("b"), element("small"));

function newRow() {
  const row = element("tr", { role: "row" });
  for (const column of COLUMNS) {
    const isHead = column === "Node";
    const cell = element(isHead ? "th" : "td", {
      role: isHead ? "rowheader" : "cell",
      ...(isHead ? { scope: "row" } : {}),
      ...(TEXT_COLUMNS.includes(column) ? {} : { class: "n" }),
    });
    if (isHead) {
      const badge = element("span", { class: "seat", "aria-hidden": "true" });
      cell.append(element("span", { class: "pair" }, badge, names()));
    } else if (column === "State") {
      cell.append(element("span", { class: "pair" }, smallSign(), names()));
    } else {
      // The label is shown on a phone, where the table's head is not.
      cell.append(element("span", { class: "label", "aria-hidden": "true" }, column), element("span"));
    }
    row.append(cell);
  }
  return row;
}
