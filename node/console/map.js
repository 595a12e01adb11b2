// The map: data centers on a ring, by seat, and a line for every pair. Each half of a line is what
// the node at that end says, so a link that is cut in one direction shows one broken half.
//
// Drawn in pixels of the box that it has, not scaled: text stays readable on a phone.

import { drawn, follow, onWidth, put, set, setAll } from "./dom.js";
import { ledBy, linkState, links, nodeState } from "./judge.js";
import { sign } from "./signs.js";
import { clipped, ms, named } from "./words.js";

const WIDE = { tile: [164, 54], height: 400, least: 450 };
const NARROW = { tile: [90, 44], height: 330, least: 0 };
const EDGE = 8; // pixels between the outermost tiles and the box

/** Where each of `count` tiles has its middle: the first on top, then clockwise. */
function places(count, width, shape) {
  const [wide, high] = shape.tile;
  const turns = Array.from({ length: count }, (_, i) => -Math.PI / 2 + (2 * Math.PI * i) / count);
  const sides = Math.max(...turns.map(Math.cos), 0.1);
  const low = Math.max(...turns.map(Math.sin), 0.1);
  const radiusX = (width - wide - 2 * EDGE) / 2 / sides;
  const radiusY = (shape.height - high - 2 * EDGE) / (1 + low);
  const middleY = EDGE + high / 2 + radiusY;
  return turns.map((turn) => ({
    x: width / 2 + radiusX * Math.cos(turn),
    y: middleY + radiusY * Math.sin(turn),
  }));
}

function label(link) {
  const state = linkState(link);
  if (state === "unknown") return "";
  if (state !== "up") return state;
  const told = [link.there.rtt, link.back.rtt].filter((rtt) => rtt !== null);
  return told.length ? ms(Math.max(...told)) : "";
}

export class MeshMap {
  constructor(box) {
    this.state = null;
    this.width = 0;
    this.lines = drawn("g");
    this.labels = drawn("g");
    this.tiles = drawn("g");
    this.picture = drawn("svg", { role: "img" }, this.lines, this.labels, this.tiles);
    box.append(this.picture);
    onWidth(box, (width) => {
      this.width = width;
      this.#draw();
    });
  }

  /** Show this state. */
  show(state) {
    this.state = state;
    this.#draw();
  }

  #draw() {
    if (this.state === null || this.width === 0) return;
    const { state, width } = this;
    const shape = width >= WIDE.least ? WIDE : NARROW;
    const nodes = [...state.nodes].sort((a, b) => a.seat - b.seat || a.node - b.node);
    const spots = places(nodes.length, width, shape);
    const at = Object.fromEntries(nodes.map((node, i) => [node.node, spots[i]]));
    setAll(this.picture, { width, height: shape.height, "aria-label": this.#sentence() });
    const pairs = links(state);
    const keyOf = ({ one, other }) => `${one.node}-${other.node}`;
    follow(this.lines, pairs, keyOf, newLine, (line, link) => drawLine(line, link, at));
    follow(this.labels, pairs, keyOf, newLabel, (text, link) => drawLabel(text, link, at));
    follow(
      this.tiles,
      nodes,
      (node) => node.node,
      newTile,
      (tile, node) => drawTile(tile, node, state, at[node.node], shape),
    );
  }

  /** The map for who cannot see it; every number is in the tables below. */
  #sentence() {
    const { state } = this;
    const nodes = state.nodes.map((node) => `${named(node)} ${nodeState(node, state).word}`);
    const broken = links(state).filter((link) => linkState(link) !== "up").length;
    const all = links(state).length;
    const how = broken === 0 ? `All ${all} links are up` : `${broken} of ${all} links are not up`;
    return `Map. ${nodes.join(", ")}. ${how}.`;
  }
}

const newLine = () => drawn("g", {}, drawn("line"), drawn("line"));

function drawLine(group, { one, other, there, back }, at) {
  const [from, to] = [at[one.node], at[other.node]];
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  [
    [from, there],
    [to, back],
  ].forEach(([end, way], place) => {
    setAll(group.children[place], {
      class: `link link-${way.kind}`,
      x1: end.x.toFixed(1),
      y1: end.y.toFixed(1),
      x2: middle.x.toFixed(1),
      y2: middle.y.toFixed(1),
    });
  });
}

const newLabel = () => drawn("text", { "text-anchor": "middle", dy: "0.35em" });

function drawLabel(text, link, at) {
  const [from, to] = [at[link.one.node], at[link.other.node]];
  put(text, label(link));
  setAll(text, {
    class: `link-label ${linkState(link) === "up" ? "" : "link-label-bad"}`,
    x: ((from.x + to.x) / 2).toFixed(1),
    y: ((from.y + to.y) / 2).toFixed(1),
  });
}

function newTile() {
  return drawn(
    "g",
    {},
    drawn("rect", { rx: 9 }),
    drawn("g"),
    drawn("text", { class: "tile-name" }),
    drawn("text", { class: "tile-state" }),
    drawn("circle", { r: 9 }),
    drawn("text", { class: "tile-seat", "text-anchor": "middle", dy: "0.36em" }),
    drawn("title"),
  );
}

function drawTile(tile, node, state, spot, shape) {
  const [rect, glyph, name, says, badge, seat, title] = tile.children;
  const [wide, high] = shape.tile;
  const { tone, word, detail } = nodeState(node, state);
  const isWide = shape === WIDE;
  const led = ledBy(node.node, state).length;
  setAll(tile, {
    class: "tile",
    "data-tone": tone,
    transform: `translate(${(spot.x - wide / 2).toFixed(1)} ${(spot.y - high / 2).toFixed(1)})`,
  });
  setAll(rect, { width: wide, height: high });
  sign(glyph, tone);
  const size = isWide ? 14 : 11;
  set(glyph, "transform", `translate(${isWide ? 11 : 8} ${high - size - (isWide ? 11 : 9)}) scale(${size / 32})`);
  put(name, clipped(node.dc, isWide ? 15 : 10));
  setAll(name, { x: isWide ? 11 : 8, y: isWide ? 21 : 18, "font-size": isWide ? 14 : 12 });
  put(says, isWide && node.view !== null && led > 0 ? `${word}, leads ${led}` : word);
  setAll(says, { x: isWide ? 30 : 23, y: high - (isWide ? 13 : 11), "font-size": isWide ? 12.5 : 11 });
  const corner = isWide ? { x: wide - 18, y: 17 } : { x: wide - 7, y: 5 };
  setAll(badge, { class: `seat-${node.seat}`, cx: corner.x, cy: corner.y });
  put(seat, node.node);
  setAll(seat, corner);
  put(title, `${named(node)}: ${word}${detail ? `, ${detail}` : ""}; leads ${led}`);
}
