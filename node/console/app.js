// The console: asks the node that serves it for the state of the cluster every two seconds and shows
// it; follows its events. Reads only. When no answer comes, it says since when what it shows is old.

import { byId, element, follow, put, set } from "./dom.js";
import { Events } from "./events.js";
import { alarms, lagOf, verdict } from "./judge.js";
import { MeshMap } from "./map.js";
import { Matrix } from "./matrix.js";
import { Nodes } from "./nodes.js";
import { Rates } from "./rates.js";
import { Shards } from "./shards.js";
import { sign, smallSign } from "./signs.js";
import { Traffic } from "./traffic.js";
import { ago, clock, grouped, moment, named } from "./words.js";

const POLL_MS = 2000;
const HIDDEN_POLL_MS = 10_000; // nobody looks
const ANSWER_MS = 5000; // the node gives its peers one second
const STALE_MS = 6000; // three polls without an answer
const TICK_MS = 1000;
const WHY_LINES = 5;

const views = {
  map: new MeshMap(byId("map")),
  nodes: new Nodes(byId("nodes")),
  shards: new Shards(byId("shards"), byId("leaders"), byId("shard-table")),
  traffic: new Traffic(byId("traffic"), byId("minutes"), byId("traffic-since")),
  matrix: new Matrix(byId("matrix")),
  events: new Events({
    list: byId("events"),
    none: byId("events-none"),
    level: byId("events-level"),
    pause: byId("events-pause"),
    state: byId("events-state"),
  }),
};
const rates = new Rates();
const heard = { state: null, at: null, from: Date.now(), problem: "" };

async function ask() {
  const answer = await fetch("state.json", { signal: AbortSignal.timeout(ANSWER_MS), cache: "no-store" });
  if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
  return answer.json();
}

async function poll() {
  let state;
  try {
    state = await ask();
  } catch (error) {
    heard.problem = error.name === "TimeoutError" ? "no answer in time" : error.message;
    banner();
    return;
  }
  try {
    show(state, Date.now());
    Object.assign(heard, { state, at: Date.now(), problem: "" });
  } catch (error) {
    console.error(error); // a bug of this page must not look like a healthy vault: it becomes stale
    heard.problem = `this page cannot show the answer (${error.message})`;
  }
  banner();
}

function show(state, now) {
  rates.take(state, now);
  const asked = state.nodes.find((node) => node.node === state.asked_by);
  const name = asked === undefined ? `node ${state.asked_by}` : named(asked);
  put(byId("cluster"), state.name);
  put(byId("asked"), name);
  put(byId("events-of"), name);
  for (const each of ["map", "shards", "matrix"]) views[each].show(state);
  views.nodes.show(state, now);
  views.traffic.show(rates, now);
  if (asked?.view) views.events.follow(asked.view.status.incarnation);
  showAlarms(alarms(state, rates.total("lockouts", now)));
  showTiles(state);
}

function showTiles(state) {
  const ready = state.nodes.filter((node) => node.view?.status.ready).length;
  const led = state.shards.filter((shard) => shard.leader !== null).length;
  const lags = state.nodes.map((node) => lagOf(node, state)).filter((lag) => lag !== null);
  put(byId("tile-fail"), state.failures_tolerated);
  put(byId("tile-ready"), `${ready} of ${state.nodes.length}`);
  put(byId("tile-led"), `${led} of ${state.shards.length}`);
  put(byId("tile-lag"), lags.length ? grouped(Math.max(...lags)) : "–");
}

function showAlarms(found) {
  const seen = new Map();
  const unique = found.filter(({ text }) => !seen.has(text) && seen.set(text, true));
  put(byId("alarms-count"), unique.length || "");
  put(byId("alarms-none"), "None.");
  set(byId("alarms-none"), "hidden", unique.length ? "" : null);
  const make = () =>
    element("li", {}, smallSign(), element("span", { class: "text" }), element("code"));
  follow(byId("alarms"), unique, ({ text }) => text, make, (row, { tone, text, runbook }) => {
    const [glyph, words, page] = row.children;
    sign(glyph, tone);
    put(words, text);
    put(page, runbook);
    set(page, "title", runbook ? `docs/runbooks/${runbook}.md` : null);
    set(page, "hidden", runbook ? null : "");
  });
}

/** The verdict, or since when there is none. */
function banner() {
  const now = Date.now();
  const age = now - (heard.at ?? heard.from);
  const isStale = age > (document.hidden ? STALE_MS + HIDDEN_POLL_MS : STALE_MS);
  const told = heard.state === null ? null : verdict(heard.state);
  if (isStale) {
    const since = `${clock(heard.at ?? heard.from)} UTC`;
    const was =
      told === null
        ? "nothing was heard before"
        : `it was ${told.word.toLowerCase()} then, and all below is of then`;
    say("none", `Stale since ${since}`, `${heard.problem || "no answer"}; ${was}`, []);
  } else if (told !== null) {
    say(told.tone, told.word, told.detail, heard.state.why);
  }
  set(document.body, "data-stale", isStale ? "" : null);
  put(byId("fresh"), heard.at === null ? "not heard yet" : `updated ${ago(age)}`);
  set(byId("fresh"), "title", heard.at === null ? null : moment(heard.at, now));
}

function say(tone, word, detail, why) {
  set(byId("verdict"), "data-tone", tone);
  sign(byId("verdict").querySelector(".sign"), tone);
  put(byId("word"), word);
  put(byId("tolerance"), detail);
  const more = why.length - WHY_LINES;
  const lines = more > 0 ? [...why.slice(0, WHY_LINES), `and ${more} more, see Alarms`] : why;
  const places = lines.map((line, place) => ({ line, place }));
  follow(byId("why"), places, ({ place }) => place, () => element("li"), (row, { line }) =>
    put(row, line),
  );
  const title = `${word}${heard.state === null ? "" : ` · ${heard.state.name}`} · Quorumvault`;
  if (document.title !== title) document.title = title;
}

let timer = null;
let isAsking = false;

async function loop() {
  if (isAsking) return; // the page came back to light while an answer was on its way
  isAsking = true;
  clearTimeout(timer);
  await poll();
  isAsking = false;
  timer = setTimeout(loop, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) loop();
});
setInterval(banner, TICK_MS);
loop();
