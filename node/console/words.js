// Numbers, times and names as a person reads them. Pure.

const COUNTS = ["no", "one", "two", "three", "four"];
const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** "two data centers". */
export function counted(number, one, many) {
  return `${COUNTS[number] ?? number} ${number === 1 ? one : many}`;
}

/** "1 entry", "6,200 entries". */
export const plural = (number, one, many) => `${grouped(number)} ${number === 1 ? one : many}`;

/** 6200 as "6,200". */
export const grouped = (number) => Math.round(number).toLocaleString("en-US");

/** "frankfurt" cut to so many characters. */
export const clipped = (text, length) =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;

/** The first letter large. */
export const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Milliseconds: "0.4", "12", "1,204". */
export const ms = (value) => (value < 9.95 ? value.toFixed(1) : grouped(value));

/** A span of time, one or two units: "0.2 s", "41 s", "119 s", "3 min", "2 h 10 min", "26 h", "5 d 3 h". */
export function span(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 10 && hours < 48) return `${hours} h`;
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, from milliseconds. */
export const ago = (milliseconds) =>
  milliseconds < 1500 ? "just now" : `${span(Math.round(milliseconds / 1000)).replace(".0", "")} ago`;

/** Bytes: "212 GiB", "900 MiB". */
export function bytes(value) {
  if (value >= 10 * GIB) return `${grouped(value / GIB)} GiB`;
  if (value >= GIB) return `${(value / GIB).toFixed(1)} GiB`;
  return `${grouped(value / MIB)} MiB`;
}

/** The time of day in UTC, as nodes write it in their logs: "12:03:20". */
export const clock = (time) => new Date(time).toISOString().slice(11, 19);

/** Everything about a moment, for a title: absolute in UTC, and how long ago. */
export const moment = (time, now) => `${new Date(time).toISOString()}, ${ago(Math.max(0, now - time))}`;

/** "node 3 (paris)". */
export const named = (node) => `node ${node.node} (${node.dc})`;

/** [0, 1, 2, 5] as "0–2, 5". */
export function ranges(numbers) {
  const parts = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}
