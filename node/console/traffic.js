// Attempts, lockouts and errors over the last 15 minutes: three small charts with one axis of time,
// each with its own scale, and the same by the minute as a table.

import { drawn, element, follow, onWidth, put, set, setAll } from "./dom.js";
import { BUCKET_MS, BUCKETS, WINDOW_MS } from "./rates.js";
import { clock, grouped } from "./words.js";

const ROWS = [
  { kind: "attempts", name: "Attempts", tone: "plain" },
  { kind: "lockouts", name: "Lockouts", tone: "bad" },
  { kind: "errors", name: "Errors (5xx)", tone: "warn" },
];
const LEFT = 150; // pixels for names, totals and peaks
const NARROW_LEFT = 88; // …on a phone, without peaks
const NARROW = 430;
const HIGH = 40; // pixels of one chart
const GAP = 12;
const AXIS = 18;
const LONGEST_MIN = 15;
const TICKS_MIN = [15, 10, 5, 0];
const NARROW_TICKS_MIN = [15, 0];
const PER_BUCKET = `in ${BUCKET_MS / 1000} s`;

export class Traffic {
  constructor(box, table, since) {
    this.rates = null;
    this.now = 0;
    this.width = 0;
    this.since = since;
    this.body = table.tBodies[0];
    this.details = table.closest("details");
    this.details.addEventListener("toggle", () => this.#table());
    this.picture = drawn("svg", { role: "img" }, drawn("g", { class: "axis" }), ...ROWS.map(newChart));
    this.readout = element("p", { class: "readout", "aria-hidden": "true" });
    box.append(this.picture, this.readout);
    this.pointed = null;
    this.picture.addEventListener("pointermove", (event) => this.#point(event));
    this.picture.addEventListener("pointerleave", () => this.#point(null));
    onWidth(box, (width) => {
      this.width = width;
      this.#draw();
    });
  }

  /** Show what was counted up to `now` (ms). */
  show(rates, now) {
    this.rates = rates;
    this.now = now;
    put(this.since, now - rates.since < WINDOW_MS ? `seen since ${clock(rates.since)} UTC` : "last 15 minutes");
    this.#draw();
    this.#table();
  }

  #draw() {
    if (this.rates === null || this.width === 0) return;
    const left = this.#left();
    const wide = Math.max(60, this.width - left);
    const high = ROWS.length * (HIGH + GAP) + AXIS;
    const totals = ROWS.map(({ kind }) => this.rates.total(kind, this.now));
    const sums = ROWS.map(({ name }, i) => `${grouped(totals[i])} ${name.toLowerCase()}`);
    setAll(this.picture, {
      width: this.width,
      height: high,
      "aria-label": `In the last 15 minutes, as far as this page has seen: ${sums.join(", ")}.`,
    });
    this.#axis(this.picture.firstElementChild, left, wide, high);
    ROWS.forEach((row, place) => {
      const chart = this.picture.children[place + 1];
      const series = this.rates.series(row.kind, this.now);
      drawChart(chart, series, { left, wide, top: place * (HIGH + GAP) }, totals[place]);
    });
  }

  #left() {
    return this.width < NARROW ? NARROW_LEFT : LEFT;
  }

  #axis(group, left, wide, high) {
    const ticks = this.width < NARROW ? NARROW_TICKS_MIN : TICKS_MIN;
    follow(group, ticks, (tick) => tick, newTick, (node, tick) => {
      const x = left + wide * (1 - tick / LONGEST_MIN);
      setAll(node.children[0], { x1: x, x2: x, y1: 0, y2: high - AXIS });
      setAll(node.children[1], { x: tick === LONGEST_MIN ? x + 42 : x, y: high - 3 });
      put(node.children[1], tick === 0 ? "now" : `−${tick} min`);
    });
  }

  #point(event) {
    if (event === null || this.rates === null) {
      put(this.readout, "");
      return;
    }
    const x = event.clientX - this.picture.getBoundingClientRect().left - this.#left();
    const place = Math.floor((x / Math.max(60, this.width - this.#left())) * BUCKETS);
    if (place < 0 || place >= BUCKETS) {
      put(this.readout, "");
      return;
    }
    const from = (Math.floor(this.now / BUCKET_MS) - BUCKETS + 1 + place) * BUCKET_MS;
    const values = ROWS.map(({ kind, name }) => {
      const value = this.rates.series(kind, this.now)[place];
      return `${value === null ? "–" : grouped(value)} ${name.toLowerCase()}`;
    });
    put(this.readout, `${clock(from)} UTC, ${PER_BUCKET}: ${values.join(", ")}`);
  }

  #table() {
    if (this.rates === null || !this.details.open) return;
    const minutes = this.rates.minutes(this.now);
    follow(this.body, minutes, (row) => row.minute, newMinute, (row, minute) => {
      put(row.cells[0], clock(minute.minute).slice(0, 5));
      ROWS.forEach(({ kind }, place) => put(row.cells[place + 1], grouped(minute[kind])));
    });
  }
}

const newMinute = () =>
  element("tr", {}, element("td"), ...ROWS.map(() => element("td", { class: "n" })));

const newTick = () => drawn("g", {}, drawn("line"), drawn("text", { "text-anchor": "end" }));

const newChart = ({ name, tone }) =>
  drawn(
    "g",
    { class: `chart chart-${tone}` },
    drawn("line", { class: "base" }),
    drawn("path"),
    drawn("text", { class: "chart-name", y: 13 }, name),
    drawn("text", { class: "chart-total", y: 34 }),
    drawn("text", { class: "chart-peak", "text-anchor": "end", x: LEFT - 14, y: 34 }),
  );

/** Bars, one per bucket: a gap of 1 px between them where there is room. */
function drawChart(chart, series, { left, wide, top }, total) {
  const [base, bars, , all, peak] = chart.children;
  const most = Math.max(1, ...series.map((value) => value ?? 0));
  const step = wide / BUCKETS;
  const path = series.map((value, place) => {
    if (!value) return "";
    const tall = Math.max(2, (value / most) * (HIGH - 4));
    const from = (left + place * step).toFixed(1);
    const thick = Math.max(1, step - 1).toFixed(1);
    return `M${from} ${HIGH}h${thick}v-${tall.toFixed(1)}h-${thick}Z`;
  });
  set(chart, "transform", `translate(0 ${top})`);
  setAll(base, { x1: left, x2: left + wide, y1: HIGH + 0.5, y2: HIGH + 0.5 });
  set(bars, "d", path.join(""));
  put(all, grouped(total));
  put(peak, total > 0 && left === LEFT ? `peak ${grouped(most)} ${PER_BUCKET}` : "");
}
