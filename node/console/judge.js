// What the numbers of /console/state.json mean for whoever is on call. Pure: a state in, words out.
// The verdict itself is the node's (node/verdict.py, the same as `quorumvault cluster status`);
// here it gets its sentence, and each node, link and shard its state and the runbook to open.

import { bytes, counted, named, plural, ranges, span, upper } from "./words.js";

// The thresholds of the alerts (deploy/prometheus/rules.yml), without their patience: the console
// shows the moment, an alert waits until it is worth waking somebody.
const LAG_ENTRIES = 5000;
const RTT_MS = 400;
const LOOP_MS = 1000; // the worst of 10 s, and the alert asks for more: what an election waits for
const FSYNC_MS = 500;
const TICKET_DAYS = 30;
const PAGE_DAYS = 7;
export const LOCKOUTS = 20;

/** The banner: a tone, a word, and what may still be lost. */
export function verdict(state) {
  const more = state.failures_tolerated;
  const may = `${counted(more, "more data center", "more data centers")} may fail`;
  switch (state.verdict) {
    case "healthy":
      return { tone: "ok", word: "Healthy", detail: may };
    case "degraded":
      return {
        tone: more > 0 ? "warn" : "bad",
        word: "Degraded",
        detail: more > 0 ? may : "the next data center that is lost stops the vault",
      };
    case "no-quorum": {
      // A node that is cut off cannot tell whether the others serve without it.
      const heard = state.nodes.filter((node) => node.view !== null).length;
      const detail =
        heard < majority(state)
          ? "too few nodes answer this one: is it cut off? Open another node's console. Nothing is lost or miscounted"
          : "the vault answers nobody; nothing is lost or miscounted. Bring any one data center back";
      return { tone: "bad", word: "No quorum", detail };
    }
    default:
      return { tone: "none", word: "Unknown", detail: `this page does not know "${state.verdict}"` };
  }
}

const statusOf = (node) => node.view?.status ?? null;

const majority = (state) => Math.floor(state.nodes.length / 2) + 1;

/** How many other nodes this one has a link to. */
export const linked = (status) => status.peers.filter((peer) => peer.connected).length;

/**
 * Cut off: it has no link to a majority, though nodes that answer us are there to be linked to. One
 * that is left alone because the others died is not.
 */
export function isCutOff(node, state) {
  const status = statusOf(node);
  if (status === null || linked(status) + 1 >= majority(state)) return false;
  const down = new Set(status.peers.filter((peer) => !peer.connected).map((peer) => peer.node));
  return state.nodes.some((other) => other.view !== null && down.has(other.node));
}

/** A node in a word, with the tone and the reason; the worst thing first. */
export function nodeState(node, state) {
  const status = statusOf(node);
  if (status === null) return { tone: "bad", word: "unreachable", detail: node.reason };
  const failing = Object.entries(status.checks).filter(([, check]) => !check.ok);
  const said = (name) => status.checks[name]?.detail ?? "";
  const others = state.nodes.length - 1;
  if (status.hash_agreement === "differs")
    return { tone: "bad", word: "state differs", detail: "its records are not those of its peers" };
  if (isCutOff(node, state))
    return { tone: "bad", word: "cut off", detail: `has a link to ${linked(status)} of ${others} nodes` };
  if (status.room === "full")
    return { tone: "bad", word: "disk full", detail: `${bytes(status.space.disk_free)} free` };
  if (!status.hsm.healthy) return { tone: "warn", word: "HSM away", detail: status.hsm.reason };
  if (status.room === "short")
    return { tone: "warn", word: "disk short", detail: `${bytes(status.space.disk_free)} free` };
  if (status.draining) return { tone: "warn", word: "drained", detail: said("serving") };
  if (failing.length > 0) {
    const detail = failing.map(([name, check]) => `${name}: ${check.detail}`).join("; ");
    return { tone: "warn", word: "not ready", detail };
  }
  return status.ready
    ? { tone: "ok", word: "ready", detail: "" }
    : { tone: "warn", word: "not ready", detail: "no check says why" };
}

/** Per shard, the entries that a node has not applied yet; a node that says nothing has none. */
function lagsOf(node, state) {
  const status = statusOf(node);
  if (status === null) return [];
  const commits = new Map(state.shards.map((shard) => [shard.shard, shard.commit]));
  return status.groups.map((group) => Math.max(0, (commits.get(group.shard) ?? 0) - group.applied));
}

/** Entries that a node is behind, all shards together; null: it does not answer. */
export const lagOf = (node, state) =>
  node.view === null ? null : lagsOf(node, state).reduce((sum, lag) => sum + lag, 0);

/** Shards that a node leads, as the cluster sees it. */
export const ledBy = (number, state) =>
  state.shards.filter((shard) => shard.leader === number).map((shard) => shard.shard);

/** Milliseconds since any other node heard of this one; null: nobody says. */
export function heardMs(number, state) {
  const told = state.nodes
    .flatMap((node) => statusOf(node)?.peers ?? [])
    .filter((peer) => peer.node === number && peer.last_contact_ms !== null)
    .map((peer) => peer.last_contact_ms);
  return told.length ? Math.min(...told) : null;
}

/** The certificate that ends first. */
export const firstToEnd = (status) =>
  [...status.certificates].sort((a, b) => a.days_left - b.days_left)[0] ?? null;

/** What one node says of its link to another: up, down or (it does not answer) unknown. */
export function way(from, to) {
  const status = statusOf(from);
  const peer = status?.peers.find((each) => each.node === to.node);
  if (peer === undefined) return { kind: "unknown", rtt: null, heard: null, error: "" };
  return {
    kind: peer.connected ? "up" : "down",
    rtt: peer.connected ? peer.rtt_ms : null,
    heard: peer.last_contact_ms,
    error: peer.last_error,
  };
}

/** Every pair of nodes, and what both ends say. */
export function links(state) {
  const found = [];
  state.nodes.forEach((one, place) => {
    for (const other of state.nodes.slice(place + 1))
      found.push({ one, other, there: way(one, other), back: way(other, one) });
  });
  return found;
}

/** A pair in a word: up, cut (no end has a link), one way, down (an end is not there). */
export function linkState({ one, other, there, back }) {
  if (one.view === null && other.view === null) return "unknown";
  if (one.view === null || other.view === null)
    return [there, back].some((way) => way.kind === "up") ? "up" : "down";
  if (there.kind === "up" && back.kind === "up") return "up";
  return there.kind === "up" || back.kind === "up" ? "one way" : "cut";
}

const alarm = (tone, text, runbook = "") => ({ tone, text, runbook });

function nodeAlarms(node, state) {
  const status = statusOf(node);
  const who = upper(named(node));
  if (status === null) return [alarm("bad", `${who} does not answer: ${node.reason}`, "NodeDown")];
  const found = [];
  if (status.hash_agreement === "differs")
    found.push(alarm("bad", `${who} has another state than its peers`, "StateHashMismatch"));
  if (isCutOff(node, state))
    found.push(alarm("bad", `${who} is cut off from the others`, "PeerLinkDown"));
  if (!status.hsm.healthy)
    found.push(alarm("warn", `${who}: HSM away: ${status.hsm.reason}`, "HSMDown"));
  if (status.room !== "enough") {
    const tone = status.room === "full" ? "bad" : "warn";
    const left = bytes(status.space.disk_free);
    found.push(alarm(tone, `${who}: disk ${status.room}, ${left} free`, "DiskFull"));
  } else if (status.checks.disk?.ok === false || (status.fsync_p99_ms ?? 0) > FSYNC_MS) {
    found.push(alarm("warn", `${who}: its disk is slow`, "DiskSlow"));
  }
  if (status.draining) found.push(alarm("warn", `${who} is drained`, "DrainedLong"));
  if (found.length === 0 && !status.ready) {
    const { detail } = nodeState(node, state);
    found.push(alarm("warn", `${who} is not ready: ${detail}`, "NodeNotReady"));
  }
  return [...found, ...slowAlarms(node, state, who), ...status.alarms.map((text) => said(who, text))];
}

function slowAlarms(node, state, who) {
  const status = statusOf(node);
  const found = [];
  const lag = Math.max(0, ...lagsOf(node, state));
  if (lag > LAG_ENTRIES)
    found.push(alarm("warn", `${who} is ${plural(lag, "entry", "entries")} behind`, "ReplicaLags"));
  if (status.loop_lag_ms > LOOP_MS) {
    const late = span(status.loop_lag_ms / 1000);
    found.push(alarm("warn", `${who}: its event loop was ${late} late`, "EventLoopSlow"));
  }
  for (const { name, days_left: days } of status.certificates) {
    const left = days < 0 ? "is over" : `ends within ${plural(days + 1, "day", "days")}`;
    if (days < PAGE_DAYS)
      found.push(alarm("bad", `${who}: its ${name} certificate ${left}`, "CertificateExpiresSoon"));
    else if (days < TICKET_DAYS)
      found.push(alarm("warn", `${who}: its ${name} certificate ${left}`, "CertificateExpires"));
  }
  if (status.failed_reload)
    found.push(
      alarm("warn", `${who} runs on its old settings: ${status.failed_reload}`, "ConfigurationRefused"),
    );
  return found;
}

/** An alarm in a node's own words; the words tell which runbook, where there is one. */
function said(who, text) {
  const refused = text.includes("the ledger of this node refused what the log allowed");
  const hash = text.includes("state hash");
  const runbook = refused ? "BudgetViolation" : hash ? "StateHashMismatch" : "";
  return alarm(refused || hash ? "bad" : "warn", `${who}: ${text}`, runbook);
}

function linkAlarms(state) {
  const away = new Set(
    state.nodes
      .filter((node) => node.view === null || isCutOff(node, state))
      .map((node) => node.node),
  );
  const found = [];
  for (const link of links(state)) {
    const { one, other, there, back } = link;
    if (away.has(one.node) || away.has(other.node)) continue; // told once, of the node
    const kind = linkState(link);
    if (kind !== "up") {
      const [from, to] = there.kind === "up" ? [other, one] : [one, other];
      const both = kind === "cut" ? "between" : "from";
      const and = kind === "cut" ? "and" : "to";
      found.push(alarm("warn", `No link ${both} ${named(from)} ${and} ${named(to)}`, "PeerLinkDown"));
    }
    const slow = Math.max(there.rtt ?? 0, back.rtt ?? 0);
    if (slow > RTT_MS)
      found.push(
        alarm("warn", `The way between ${named(one)} and ${named(other)} is slow`, "PeerSlow"),
      );
  }
  return found;
}

function clusterAlarms(state) {
  const found = [];
  const leaderless = state.shards.filter((shard) => shard.leader === null);
  if (leaderless.length > 0) {
    const which = ranges(leaderless.map((shard) => shard.shard));
    found.push(alarm("bad", `No leader for shard ${which}`, "NoLeader"));
  }
  const odd = state.shards.filter((shard) => shard.agree === "differs");
  if (odd.length > 0) {
    const which = ranges(odd.map((shard) => shard.shard));
    found.push(alarm("bad", `State hashes differ in shard ${which}`, "StateHashMismatch"));
  }
  if (state.verdict !== "no-quorum" && state.failures_tolerated === 0)
    found.push(alarm("bad", "The next data center that is lost stops the vault", "QuorumAtRisk"));
  const views = state.nodes.flatMap((node) => statusOf(node) ?? []);
  const versions = new Set(views.map((status) => status.version));
  if (versions.size > 1)
    found.push(
      alarm("warn", `Versions are mixed: ${[...versions].sort().join(", ")}`, "VersionsMixed"),
    );
  const working = views.filter((status) => status.hsm.healthy).length;
  if (views.length >= majority(state) && working < state.threshold)
    found.push(
      alarm("bad", `${upper(counted(working, "HSM works", "HSMs work"))}; ${state.threshold} are needed`, "ShareGiversShort"),
    );
  return found;
}

/** Everything that somebody should know of, the worst first, each with its runbook. */
export function alarms(state, lockouts) {
  const found = [
    ...clusterAlarms(state),
    ...state.nodes.flatMap((node) => nodeAlarms(node, state)),
    ...linkAlarms(state),
  ];
  if (lockouts > LOCKOUTS) {
    const many = plural(lockouts, "account was", "accounts were");
    found.push(alarm("bad", `${many} locked in 15 minutes`, "LockoutSpike"));
  }
  return found.sort((a, b) => (a.tone === b.tone ? 0 : a.tone === "bad" ? -1 : 1));
}
