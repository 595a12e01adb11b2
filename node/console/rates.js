// What happened in the last 15 minutes, from counters that only grow: pure bookkeeping, bounded.
//
// Each answer brings every node's counts since its start; here are kept the differences, in
// buckets of ten seconds. A node that started again begins at 0: the first answer of each life
// (`incarnation`) is a new base line and counts for nothing, so no restart makes a spike or a
// negative number. What came while a node was not heard is spread evenly over that time.
//
// Attempts and errors are counted by the node that served them, and added up. A lockout is applied,
// and so counted, by every node: one node's count is the vault's.

export const BUCKET_MS = 10_000;
export const BUCKETS = 90;
export const WINDOW_MS = BUCKET_MS * BUCKETS;
const AT_ONCE_MS = 5000; // answers that follow so closely are one after the other
const KINDS = ["attempts", "lockouts", "errors"];

export class Rates {
  constructor() {
    this.buckets = new Map(); // number of the bucket since 1970 -> {attempts, lockouts, errors}
    this.lives = new Map(); // node -> {life, at, counts}
    this.locker = null; // the node whose lockouts count
    this.since = null; // when the first answer came, ms
  }

  /** Take the counts of one answer, heard at `now` (ms). */
  take(state, now) {
    this.since ??= now;
    const grown = new Map();
    for (const { node, view } of state.nodes) {
      if (view === null) continue;
      const counts = Object.fromEntries(KINDS.map((kind) => [kind, view.counts[kind]]));
      const before = this.lives.get(node);
      const life = `${view.status.incarnation}`;
      this.lives.set(node, { life, at: now, counts });
      const isSame = before?.life === life && KINDS.every((kind) => counts[kind] >= before.counts[kind]);
      if (isSame) grown.set(node, { before, counts, isReady: view.status.ready });
    }
    for (const { before, counts } of grown.values())
      for (const kind of ["attempts", "errors"])
        this.#spread(kind, counts[kind] - before.counts[kind], before.at, now);
    this.#lockouts(grown, now);
    const members = new Set(state.nodes.map(({ node }) => node));
    for (const node of this.lives.keys()) if (!members.has(node)) this.lives.delete(node);
    this.#forget(now);
  }

  #lockouts(grown, now) {
    if (!grown.get(this.locker)?.isReady) {
      const ready = [...grown].filter(([, each]) => each.isReady).map(([node]) => node);
      // Another node's count may stand a little further or less far: from the next answer on.
      this.locker = ready[0] ?? null;
      return;
    }
    const { before, counts } = grown.get(this.locker);
    this.#spread("lockouts", counts.lockouts - before.counts.lockouts, before.at, now);
  }

  /** Put `number` into the buckets between two moments, by the time that each has of them. */
  #spread(kind, number, from, to) {
    if (number <= 0) return;
    const first = Math.floor(Math.max(from, to - WINDOW_MS) / BUCKET_MS);
    const last = Math.floor(to / BUCKET_MS);
    if (to - from <= AT_ONCE_MS) {
      this.#bucket(last)[kind] += number; // poll to poll: whole numbers stay whole
      return;
    }
    for (let bucket = first; bucket <= last; bucket += 1) {
      const part = Math.min(to, (bucket + 1) * BUCKET_MS) - Math.max(from, bucket * BUCKET_MS);
      this.#bucket(bucket)[kind] += (number * part) / (to - from);
    }
  }

  #bucket(number) {
    if (!this.buckets.has(number))
      this.buckets.set(number, Object.fromEntries(KINDS.map((kind) => [kind, 0])));
    return this.buckets.get(number);
  }

  #forget(now) {
    const oldest = Math.floor(now / BUCKET_MS) - BUCKETS + 1;
    for (const number of this.buckets.keys()) if (number < oldest) this.buckets.delete(number);
  }

  /** One kind's buckets up to `now`, oldest first; null: before this page was open. */
  series(kind, now) {
    const last = Math.floor(now / BUCKET_MS);
    const first = this.since === null ? Infinity : Math.floor(this.since / BUCKET_MS);
    return Array.from({ length: BUCKETS }, (_, place) => {
      const number = last - BUCKETS + 1 + place;
      return number < first ? null : (this.buckets.get(number)?.[kind] ?? 0);
    });
  }

  /** How many in all that is kept. */
  total(kind, now) {
    return this.series(kind, now).reduce((sum, value) => sum + (value ?? 0), 0);
  }

  /** By the minute, newest first, as far as this page has seen. */
  minutes(now) {
    const found = new Map();
    const last = Math.floor(now / BUCKET_MS);
    const first = Math.max(Math.floor((this.since ?? now) / BUCKET_MS), last - BUCKETS + 1);
    for (let number = last; number >= first; number -= 1) {
      const minute = Math.floor((number * BUCKET_MS) / 60_000) * 60_000;
      const row = found.get(minute) ?? { minute, attempts: 0, lockouts: 0, errors: 0 };
      for (const kind of KINDS) row[kind] += this.buckets.get(number)?.[kind] ?? 0;
      found.set(minute, row);
    }
    return [...found.values()];
  }
}
