// The event stream of the node that serves this page (server-sent events). The browser resumes with
// the last number that it saw; a node that started again numbers from 1, which its incarnation
// tells, and then the stream is opened anew. At most so many events are kept, the newest first.

import { element, follow, put, set } from "./dom.js";
import { clock, moment } from "./words.js";

const KEPT = 500;
const AGAIN_MS = 5000; // after an answer that EventSource does not come back from (503, no network)
const LEVELS = ["info", "warning", "error"];
const KINDS = [
  "started", "ready", "not-ready", "leader", "peer-up", "peer-down", "hsm-away", "hsm-back", "room",
  "slow-disk", "alarm", "alarm-cleared", "drain", "undrain", "transfer", "reload", "reload-refused",
  "cluster-file", "snapshot", "lockouts", "hash", "connections",
];

export class Events {
  constructor({ list, none, level, pause, state }) {
    Object.assign(this, { list, none, level, pause, state });
    this.kept = []; // newest first
    this.shown = []; // what was kept when the reader paused; null: he did not
    this.isPaused = false;
    this.life = null;
    this.lives = 0;
    this.last = 0;
    this.source = null;
    this.again = null;
    level.addEventListener("change", () => this.#draw());
    list.addEventListener("pointerover", ({ target }) => {
      if (target.matches("time")) set(target, "title", moment(Date.parse(target.dateTime), Date.now()));
    });
    pause.addEventListener("click", () => this.#pauseOrResume());
  }

  /** The node that serves this page is in this life; a new one numbers its events from 1. */
  follow(life) {
    if (life === this.life) return;
    this.life = life;
    this.lives += 1;
    this.last = 0;
    this.#open();
  }

  #open() {
    clearTimeout(this.again);
    this.source?.close();
    const life = this.lives;
    this.source = new EventSource(`events?after=${this.last}`);
    this.source.addEventListener("open", () => this.#say(""));
    for (const kind of ["message", ...KINDS])
      this.source.addEventListener(kind, (event) => this.#take(event.data, life));
    this.source.addEventListener("error", () => {
      this.#say("stream lost, trying again");
      if (this.source.readyState !== EventSource.CLOSED) return;
      clearTimeout(this.again);
      this.again = setTimeout(() => this.#open(), AGAIN_MS);
    });
  }

  #take(data, life) {
    if (life !== this.lives) return;
    const event = JSON.parse(data);
    if (event.seq <= this.last) return; // a resumed stream may begin a little early
    this.last = event.seq;
    this.kept.unshift({ ...event, key: `${life}-${event.seq}` });
    this.kept.length = Math.min(this.kept.length, KEPT);
    this.#soon();
  }

  /** One drawing for all that comes at once. */
  #soon() {
    this.waiting ??= setTimeout(() => {
      this.waiting = null;
      this.#draw();
    }, 50);
  }

  #pauseOrResume() {
    this.isPaused = !this.isPaused;
    this.shown = [...this.kept];
    set(this.pause, "aria-pressed", this.isPaused);
    this.#draw();
  }

  #draw() {
    const least = LEVELS.indexOf(this.level.value);
    const isOn = (event) => LEVELS.indexOf(event.level) >= least;
    const chosen = this.isPaused ? this.shown : this.kept;
    const first = this.shown[0]?.key;
    const place = first === undefined ? this.kept.length : this.kept.findIndex(({ key }) => key === first);
    const fresh = this.kept.slice(0, place < 0 ? this.kept.length : place).filter(isOn).length;
    put(this.pause, this.isPaused ? (fresh ? `Resume, ${fresh} new` : "Resume") : "Pause");
    const rows = chosen.filter(isOn);
    follow(this.list, rows, ({ key }) => key, newRow, drawRow);
    put(this.none, this.kept.length ? "No event of this level." : "No event yet.");
    set(this.none, "hidden", rows.length ? "" : null);
  }

  #say(text) {
    put(this.state, text);
  }
}

const PARTS = ["level", "kind", "text"];

const newRow = () =>
  element("li", {}, element("time"), ...PARTS.map((part) => element("span", { class: part })));

function drawRow(row, { t, level, kind, text, shard, peer }) {
  const [time, how, what, words] = row.children;
  const at = Date.parse(t);
  put(time, clock(at));
  set(time, "datetime", t);
  put(how, level);
  set(row, "data-level", LEVELS.includes(level) ? level : "info");
  put(what, kind);
  const about = [shard !== undefined && `shard ${shard}`, peer !== undefined && `node ${peer}`];
  const missing = about.filter((each) => each && !text.includes(each));
  put(words, missing.length ? `${text} (${missing.join(", ")})` : text);
}
