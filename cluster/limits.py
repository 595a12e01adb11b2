"""Every bound of the Raft host, with its unit and reason; relations are checked at import.

The numbers are those of the constants table, measured at round trips of 100-400 ms; change one
only with a reason.
"""

from __future__ import annotations

from typing import Final

from cluster.types import check

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""
SECOND: Final = 1_000_000_000
MIB: Final = 1 << 20

# ---- Raft time, in ticks
TICK_MS: Final = 50
HEARTBEAT_TICKS: Final = 4
ELECTION_TICKS: Final = 12
"""check-quorum period: a leader without a quorum for so long steps down."""
MIN_ELECTION_TICKS: Final = 16
ELECTION_GAP_TICKS: Final = 8
"""Between the slots of two seats: more than a round trip of 400 ms, so that slots do not split."""
ELECTION_SLOTS: Final = 5
RELUCTANCE_TICKS: Final = ELECTION_GAP_TICKS * ELECTION_SLOTS
"""Who had rather not lead stands after everybody who would, in slots of the same width."""
MAX_ELECTION_TICKS: Final = 96
"""raft-host.md says 64, which leaves the reluctant one moment for all: none of them then wins."""

# ---- Raft sizes
MAX_MESSAGE_BYTES: Final = 16 * 1024
"""Larger append messages are merged by raft-rs beyond every bound (1 MiB x 256 made 129 MB)."""
MAX_INFLIGHT_MESSAGES: Final = 256
MAX_UNCOMMITTED_BYTES: Final = 8 * MIB
MAX_COMMITTED_BYTES: Final = MIB

# ---- entries and proposals
MAX_ENTRY_COMMANDS: Final = 256
MAX_ENTRY_BYTES: Final = 64 * 1024
MAX_OPEN_COMMANDS: Final = 1024
"""Per shard: at the proposer, and again at the leader; then `busy` (429)."""
PROPOSER_DEADLINE_S: Final = 8.0
RESEND_NS: Final = SECOND
"""At least a second, or a slow cluster is fed its own load again."""
NACK_PAUSE_NS: Final = 50 * MS
"""A refused command waits one tick: the leader that refused it must be replaced or known first."""

# ---- frames
FRAME_BYTES: Final = MIB
"""A frame is closed when it reaches this; one item may go beyond by at most its own size."""
MAX_FRAME_BYTES: Final = 8 * MIB
"""Larger frames from a peer are refused; the longest single item is far below."""
MAX_FRAME_ITEMS: Final = 4096
"""Own frames are closed at half of it, far beyond what a busy turn makes."""
MAX_ITEM_MESSAGES: Final = 16_384
"""Raft messages in one item; own items are closed there."""
TURN_INPUT_BYTES: Final = 4 * MIB
"""Inbound bytes taken per turn, so that ticks are never starved."""
MAX_INBOX_BYTES: Final = 32 * MIB
"""Waiting inbound bytes per peer; beyond it whole frames are dropped, as on a full link."""

# ---- beats
GATE_PATIENCE_NS: Final = 2 * SECOND
"""At a start: how long those are waited for whose memory of this node is not needed. Links to
whoever is up are there within a second."""
BEAT_NS: Final = 500 * MS
GIVER_NS: Final = 2 * SECOND
"""A share-giver not heard for so long is none."""

# ---- durability
LAZY_PUTS_NS: Final = 100 * MS
"""Commit and applied positions may be durable so much later (nothing is promised on them)."""
MARKS_NS: Final = 2 * SECOND
"""What peers say to have durable is kept with the next batch; in a quiet cluster after this."""
MARKS_AGAIN_NS: Final = 10 * SECOND
"""All own marks go to everyone so often, changed or not: a frame may be lost without a word."""
STAMP_RETRY_NS: Final = SECOND
SLOW_DISK_MS: Final = 2_000
"""A batch that is on its way to disk for so long: this node steps aside."""
SLOW_DISK_NS: Final = 10 * SECOND
"""…until no batch took so long for this time: between two slow ones the disk looks well."""
MAX_HELD_MESSAGES: Final = 1024
"""Per unstamped shard; the oldest go first (Raft repeats what matters)."""

# ---- log
LOG_CUT_BYTES: Final = 4 * MIB
LOG_CUT_ENTRIES: Final = 10_000
LOG_KEEP_ENTRIES: Final = 2_000
CUT_KEYS_PER_TURN: Final = 10_000
ERASE_NS: Final = 540 * SECOND
"""The log is cut within ten minutes after an Activate, Delete or Expire; one minute to spare."""

# ---- snapshots
SNAPSHOT_STALL_NS: Final = 60 * SECOND
SNAPSHOT_PROGRESS_NS: Final = SECOND
SNAPSHOT_REUSE_NS: Final = 600 * SECOND
"""An offered snapshot stops compaction for at most so long."""
SNAPSHOT_HOLD_BYTES: Final = 256 * MIB
"""…and for at most so much log."""
STAGE_RECORDS_PER_BATCH: Final = 2_000
MAX_SNAPSHOT_BYTES: Final = 1024 * MIB
"""One shard: its receiver checks it in RAM before anything of it is written. A shard has room for
some 400,000 records of the largest size; a cluster that needs more is made with more shards."""
MAX_STAGED_COUNTER: Final = 2**40
"""Version or era of a record in a snapshot. One a millisecond makes it in 35 years; a forged one
near 2^53 would stop every node at the owner's next call."""
SNAPSHOT_SPACE: Final = 3
"""Free disk that a snapshot needs, in its own sizes: the file, the other slot, and room to work."""

# ---- hashes
HASH_EVERY: Final = 1024
HASHES_KEPT: Final = 8
HASH_PERIOD_NS: Final = 10 * SECOND
HASH_PATIENCE_NS: Final = 10 * SECOND
"""How long a disagreement waits for the other voters' word before it counts against us."""
CONTRADICTORS: Final = 2
"""Before the others' silence counts against a node: one peer may lie."""

# ---- leadership
DRAIN_NS: Final = 5 * SECOND
TRANSFER_NS: Final = 5 * SECOND
"""Within this a transfer has come about, or its asker hears that it has not: an election with the
longest links takes half of it."""
SPREAD_PERIOD_NS: Final = 5 * SECOND
SPREAD_HEALTHY_NS: Final = 30 * SECOND
SPREAD_AGAIN_NS: Final = 600 * SECOND
"""Before a seat that was asked and did not come to lead is asked once more: it may be heard by too
few others to win, and each try costs an election."""
SPREAD_LAG_ENTRIES: Final = 64
GRACE_PERIOD_NS: Final = 250 * MS

# ---- members
RECONCILE_NS: Final = SECOND
LEARNER_LAG_ENTRIES: Final = 64
"""A learner so near to the end of the log counts as caught up: a busy shard never stands still."""
LEARNER_STEADY_NS: Final = 2 * SECOND
"""A learner must have been fit for so long before it votes: no voter that just looked in."""
LEDGER_SHARDS_AT_ONCE: Final = 4
"""Ledgers asked for at a time: the rows of a shard are in RAM, three times, until merged."""
MAX_LEDGER_BYTES: Final = 384 * MIB
"""Rows of one shard from one seat: who joins has them in RAM. At a limit of ten (at most 852
bytes a row) as many as a snapshot has records, 400,000; who needs more has more shards."""
MAX_LEDGER_ROWS: Final = 2_000_000
"""…and no more of them than this. The smallest rows (of accounts that are gone) have 42 bytes in a
file and, measured, 181 in RAM, beside the pairs that they are decoded from: a lying seat's file had
nine million. Now every file stays within the gibibyte that 384 MiB of the largest rows take (610
bytes and 1,524). An honest ledger has one row for each record, and a snapshot has room for some two
million of the smallest active ones; who has more accounts, gone ones counted, has more shards."""
LEDGER_ANSWER_NS: Final = 60 * SECOND
"""A peer asked for its rows has so long to have them here; then another one is asked."""
LEDGER_RETRY_NS: Final = 5 * SECOND
"""A file that could not be fetched, or was not offered, is asked for again so much later: the way
there may be full."""
LEDGER_AGAIN_NS: Final = 60 * SECOND
"""A seat whose rows were refused is asked again so much later."""
LEDGER_LACKING_NS: Final = 20 * SECOND
"""Nobody left to ask for so long is worth an alarm; less than LEDGER_AGAIN_NS, which asks anew."""
LEDGER_KEEP_NS: Final = 120 * SECOND
"""A file of rows serves whoever asks within this time. Longer than a joiner pauses after an answer
that took too long: a giver's pass over a large ledger takes half a minute a shard, and what was
built too late is there when it asks again."""
MAX_ALARMS: Final = 32

check(ELECTION_TICKS > HEARTBEAT_TICKS, "limits: a follower must outwait several heartbeats")
check(MIN_ELECTION_TICKS >= ELECTION_TICKS, "limits: raft-rs demands min >= election_tick")
check(
    MIN_ELECTION_TICKS + ELECTION_GAP_TICKS * (ELECTION_SLOTS - 1) + RELUCTANCE_TICKS + 1
    < MAX_ELECTION_TICKS,
    "limits: the last slot of the reluctant must fit below the maximum",
)
check(MAX_ENTRY_BYTES < MAX_UNCOMMITTED_BYTES, "limits: one entry must fit into the window")
check(LOG_KEEP_ENTRIES < LOG_CUT_ENTRIES, "limits: a cut must remove something")
check(FRAME_BYTES * 2 < MAX_FRAME_BYTES, "limits: own frames must pass the peer's check")
check(MAX_LEDGER_BYTES <= MAX_SNAPSHOT_BYTES, "limits: rows travel as a snapshot does")
check(LEDGER_KEEP_NS > LEDGER_AGAIN_NS, "limits: a late file must wait for the next asking")
check(GIVER_NS > 3 * BEAT_NS, "limits: one lost beat must not unmake a share-giver")
