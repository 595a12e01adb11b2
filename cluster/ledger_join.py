"""A node that joins asks other seats for their ledgers and merges them into its own (I1).

Until that is done and durable, shard by shard, it gives no attempt share and does not count as a
share-giver: the node whose seat it has gave shares that only the others know of now. Rows come
from `threshold` other seats whose own ledgers are complete; they are merged when this node has
durably applied at least as much as each of them, in the same batch as the mark that says so. A
crash on the way forgets what was collected, and it is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster import ledger_merge
from cluster.copies import forget_incoming, has_room_for
from cluster.frames import LedgerAsk
from cluster.ledger import NO_ROW, decode_row
from cluster.ledger_rows import Rows, RowsRefusedError, read, rows_of
from cluster.limits import (
    GIVER_NS,
    LEDGER_AGAIN_NS,
    LEDGER_ANSWER_NS,
    LEDGER_LACKING_NS,
    LEDGER_RETRY_NS,
    LEDGER_SHARDS_AT_ONCE,
    MAX_LEDGER_BYTES,
    SECOND,
    SNAPSHOT_SPACE,
)
from cluster.manifest import SnapshotDamagedError, group_row
from cluster.proposals import NO_NODE
from cluster.room import Room
from cluster.types import RecordId, Seat, ShardId
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.core import Core, Peer
    from cluster.durability import Durability
    from cluster.frames import LedgerOffer
    from cluster.ledger import LedgerRow
    from cluster.ports import Store
    from cluster.record import Rules
    from cluster.types import NodeId


@dataclass(slots=True)
class _Asked:
    node: NodeId
    until: int
    again_at: int
    offered: bool = False


@dataclass(slots=True)
class _Said:
    """One seat's rows, checked."""

    index: int
    rows: Rows
    at: int
    """When they were here."""


@dataclass(slots=True)
class _Joining:
    """One shard."""

    asked: dict[Seat, _Asked] = field(default_factory=dict)
    coming: dict[Seat, str] = field(default_factory=dict)
    """Our files that rows come into: still wanted when the time to answer is over."""
    said: dict[Seat, _Said] = field(default_factory=dict)
    not_before: dict[Seat, int] = field(default_factory=dict)
    """Seats that are not asked again yet."""
    begun: int = 0
    """Merges begun so far: the result of one that was begun anew is dropped."""
    merging: bool = False
    united: list[_Said] = field(default_factory=list)
    """What is being merged: rows that came since are not."""
    merged: list[tuple[RecordId, LedgerRow]] | None = None
    """The rows that differ from our own, as they stood when the worker read them."""
    touched: set[RecordId] = field(default_factory=set)
    """Rows of ours that may have moved since."""
    try_at: int = 0
    behind_at: int = 0
    """When this node was last known to be behind: no leader, or a snapshot on its way or new."""
    lacking_since: int | None = None
    """Since when there has been nobody to ask; None while there is somebody."""


class LedgerJoin:
    """The shards whose ledger is not complete here; none on a founding node."""

    def __init__(self, core: Core, rules: Rules, durability: Durability) -> None:
        self._core = core
        self._rules = rules
        self._durability = durability
        self._shards = {group.shard: _Joining() for group in core.groups if not group.ledger}
        self._files = 0
        """Fetched so far: a file that is fetched again meanwhile has another name."""

    # ---- asking

    def on_time(self, now: int) -> None:
        """Once a tick: ask whom is to be asked; merge what may be merged."""
        if self._core.room is Room.FULL:
            return
        led = [s for s in sorted(self._shards) if self._core.groups[s].leader != NO_NODE]
        for shard in self._shards.keys() - led:
            self._shards[shard].behind_at = now
        for shard in led[:LEDGER_SHARDS_AT_ONCE]:
            joining = self._shards[shard]
            for seat in [seat for seat, asked in joining.asked.items() if asked.until <= now]:
                # Another one's turn, and another one's room: who lets a file drip keeps neither.
                self._core.incoming.pop(joining.coming.get(seat, ""), None)
                self._not_yet(joining, seat, LEDGER_AGAIN_NS)
            self._remind(shard, joining, now)
            if self._lacks(joining):
                self._ask(shard, joining, now)
            elif not joining.merging and now >= joining.try_at:
                self._begin(shard, joining, now)

    def _ask(self, shard: ShardId, joining: _Joining, now: int) -> None:
        missing = self._core.shape.threshold - len(joining.said) - len(joining.asked)
        usable = self._usable(shard, joining, now)
        for peer in usable[: max(0, missing)]:
            until, again_at = now + LEDGER_ANSWER_NS, now + LEDGER_RETRY_NS
            joining.asked[peer.seat] = _Asked(peer.node_id, until, again_at)
            peer.outbox.add(LedgerAsk(shard))
        if usable or not missing:
            joining.lacking_since = None
        elif joining.lacking_since is None:
            joining.lacking_since = now
        elif now - joining.lacking_since >= LEDGER_LACKING_NS:
            self._core.alarm(
                f"{_lacking(shard)} {self._core.shape.threshold} other seats; it has those of"
                f" {', '.join(str(seat) for seat in sorted(joining.said)) or 'none'} and hears no"
                " other complete one: bring another node back"
            )

    def _remind(self, shard: ShardId, joining: _Joining, now: int) -> None:
        """Who has offered nothing yet is asked again: the frame may be lost, or there was no room.

        That costs a giver nothing: it has the file, builds it, or now has room for it.
        """
        for asked in joining.asked.values():
            peer = self._core.peers.get(asked.node)
            if peer is not None and not asked.offered and asked.again_at <= now:
                asked.again_at = now + LEDGER_RETRY_NS
                peer.outbox.add(LedgerAsk(shard))

    def _usable(self, shard: ShardId, joining: _Joining, now: int) -> list[Peer]:
        """Whom to ask next, nearest first; last who steps aside, perhaps for want of room."""

        def distance(peer: Peer) -> tuple[bool, float, Seat]:
            rtt = float("inf") if peer.rtt_ns is None else peer.rtt_ns
            return (peer.leads_nothing, rtt, peer.seat)

        fresh = [
            peer
            for peer in self._core.peers.values()
            if peer.connected
            and peer.beat_at is not None
            and now - peer.beat_at <= GIVER_NS
            and peer.has_ledger(shard)
            and peer.seat not in joining.asked
            and peer.seat not in joining.coming
            and peer.seat not in joining.said
            and joining.not_before.get(peer.seat, 0) <= now
        ]
        return sorted(fresh, key=distance)

    def lost(self, node: NodeId) -> None:
        """The link to a peer is gone: another one may be asked at once."""
        for joining in self._shards.values():
            for seat in [seat for seat, asked in joining.asked.items() if asked.node == node]:
                del joining.asked[seat]

    # ---- their rows

    def offered(self, peer: Peer, offer: LedgerOffer) -> None:
        """A peer that was asked has a file."""
        shard = ShardId(offer.shard)
        joining = self._shards.get(shard)
        asked = None if joining is None else joining.asked.get(peer.seat)
        if joining is None or asked is None or asked.node != peer.node_id or asked.offered:
            return
        asked.offered = True
        core = self._core
        what = f"shard {shard}: the ledger rows of node {peer.node_id} have {offer.size} bytes"
        if offer.size > MAX_LEDGER_BYTES:
            too_many = f"{what}, more than {MAX_LEDGER_BYTES}: they are not read"
            core.alarm(f"{too_many}; another seat is asked")
            self._not_yet(joining, peer.seat, LEDGER_AGAIN_NS)
            return
        if not has_room_for(core, offer.size):
            if core.incoming:  # there may be when those are here
                self._not_yet(joining, peer.seat, LEDGER_RETRY_NS)
                return
            core.alarm(f"{what}, and there is no room: make {SNAPSHOT_SPACE} times as much free")
            self._not_yet(joining, peer.seat, LEDGER_AGAIN_NS)
            return
        self._files += 1
        file = f"in-{self._files}-{offer.name}"
        joining.coming[peer.seat] = file
        core.incoming[file] = offer.size
        core.ports.network.fetch_snapshot(
            peer.node_id,
            offer.name,
            file,
            size=offer.size,
            done=lambda ok: self._fetched(joining, peer, offer, file, ok=ok),
        )

    def _fetched(
        self, joining: _Joining, peer: Peer, offer: LedgerOffer, file: str, *, ok: bool
    ) -> None:
        files, rules, shards = self._core.ports.files, self._rules, self._core.shape.shards
        if ok and joining.coming.get(peer.seat) == file and self._lacks(joining):
            self._core.ports.worker.run(
                lambda: read(files, file, offer, rules, shards),
                lambda result: self._checked(joining, peer, offer, file, result),
            )
        elif self._is_over(joining, peer.seat, file) and not ok:
            self._not_yet(joining, peer.seat, LEDGER_RETRY_NS)

    def _checked(
        self, joining: _Joining, peer: Peer, offer: LedgerOffer, file: str, result: Rows | Exception
    ) -> None:
        core = self._core
        wanted = self._is_over(joining, peer.seat, file)
        if isinstance(result, Rows):
            # Late ones are as good as any, while they are needed.
            if wanted and self._lacks(joining):
                joining.said[peer.seat] = _Said(offer.index, result, core.now())
        elif not isinstance(result, (RowsRefusedError, SnapshotDamagedError, OSError)):
            raise result
        elif wanted:
            core.alarm(
                f"shard {offer.shard}: the ledger rows of node {peer.node_id} are refused:"
                f" {result}; another seat is asked"
            )
            self._not_yet(joining, peer.seat, LEDGER_AGAIN_NS)
        core.ports.wake()

    def _lacks(self, joining: _Joining) -> bool:
        return len(joining.said) < self._core.shape.threshold

    def _is_over(self, joining: _Joining, seat: Seat, file: str) -> bool:
        """The file goes; True when it was waited for until now."""
        forget_incoming(self._core, file)
        wanted = joining.coming.get(seat) == file
        if wanted:
            del joining.coming[seat]
            joining.asked.pop(seat, None)
        return wanted

    def make_room(self) -> None:
        """The disk is nearly full: no more is asked for, and what is half here goes."""
        for joining in self._shards.values():
            for file in joining.coming.values():
                forget_incoming(self._core, file)
            joining.coming.clear()
            joining.asked.clear()

    def _not_yet(self, joining: _Joining, seat: Seat, pause_ns: int) -> None:
        joining.asked.pop(seat, None)
        joining.not_before[seat] = self._core.now() + pause_ns

    # ---- the merge

    def _begin(self, shard: ShardId, joining: _Joining, now: int) -> None:
        """Have the worker merge, from our durable rows."""
        core = self._core
        applied = core.groups[shard].durable_applied
        said = joining.united = list(joining.said.values())
        if applied < max(each.index for each in said):
            self._drop_ahead(shard, joining, applied, now)
            return
        joining.begun += 1
        begun = joining.begun
        joining.merging = True
        joining.try_at = now + SECOND
        joining.touched = set(core.overlay.ledger_changed)
        store, rules, shards = core.ports.store, self._rules, core.shape.shards

        def merged(result: list[tuple[RecordId, LedgerRow]] | Exception | None) -> None:
            if isinstance(result, Exception):
                raise result
            if joining.begun != begun or not joining.merging:
                return  # a snapshot came between
            joining.merging = result is not None
            joining.merged = result
            core.ports.wake()

        core.ports.worker.run(lambda: _merged(store, rules, shard, shards, said), merged)

    def _drop_ahead(self, shard: ShardId, joining: _Joining, applied: int, now: int) -> None:
        """Rows of an index that this node does not reach in time are nobody's, or too early.

        Not where all of them are: at most two seats lie, so it is this node that is behind. Nor
        while it waited for a leader or a snapshot: until then it could reach nothing.
        """
        if all(said.index > applied for said in joining.said.values()):
            return
        for seat, said in list(joining.said.items()):
            since = max(said.at, joining.behind_at)
            if said.index > applied and now - since >= LEDGER_ANSWER_NS:
                del joining.said[seat]
                self._not_yet(joining, seat, LEDGER_AGAIN_NS)
                self._core.alarm(
                    f"shard {shard}: seat {seat} gave ledger rows of index {said.index}, which this"
                    f" node did not reach in time (it has applied {applied}); another seat is asked"
                )

    def note_touched(self, records: Iterable[RecordId]) -> None:
        """Commands of these records were applied."""
        if self._shards:
            for record_id in records:
                joining = self._shards.get(ShardId(shard_of(record_id, self._core.shape.shards)))
                if joining is not None and joining.merging:
                    joining.touched.add(record_id)

    def installed(self, shard: ShardId) -> None:
        """A snapshot moved the ledger under the merge: begin it anew."""
        joining = self._shards.get(shard)
        if joining is not None:
            joining.merging = False
            joining.merged = None
            joining.behind_at = self._core.now()

    def pump(self) -> list[RecordId]:
        """Before the Readies of a turn, with no batch in flight: rows and mark into this one.

        Returns whose rows moved: a snapshot on its way in has worked out its own moves from the
        rows of before.
        """
        moved: list[RecordId] = []
        for shard, joining in list(self._shards.items()):
            if joining.merged is not None:
                moved += self._finish(shard, joining, joining.merged)
        return moved

    def _finish(
        self, shard: ShardId, joining: _Joining, rows: list[tuple[RecordId, LedgerRow]]
    ) -> list[RecordId]:
        moved: list[RecordId] = []
        overlay = self._core.overlay
        shards = self._core.shape.shards
        for record_id, row in rows:
            if record_id not in joining.touched:
                stored = overlay.row(record_id)
                overlay.put_row(record_id, row, None if stored is None else stored[1])
                moved.append(record_id)
        for record_id in sorted(joining.touched):
            if shard_of(record_id, shards) != shard:
                continue
            stored = overlay.row(record_id)
            own, old = (None, None) if stored is None else stored
            others = [said.rows.get(record_id) for said in joining.united]
            row = ledger_merge.merge(self._rules, own, others)
            if row != (own or NO_ROW):
                overlay.put_row(record_id, row, old)
                moved.append(record_id)
        self._core.groups[shard].ledger = True
        self._core.alarm_over(_lacking(shard))
        self._durability.dirty.add(shard)
        self._durability.force()
        del self._shards[shard]
        return moved


def _lacking(shard: ShardId) -> str:
    """How the alarm begins that is over once the ledger is complete."""
    return f"shard {shard}: this node joins and needs the ledgers of"


def _merged(
    store: Store, rules: Rules, shard: ShardId, shards: int, said: list[_Said]
) -> list[tuple[RecordId, LedgerRow]] | None:
    """The rows that the merge changes; None while our durable applied index is below one of theirs.

    Runs on a worker thread.
    """
    with store.reading() as view:
        if group_row(view, shard).applied < max(each.index for each in said):
            return None
        own = {record_id: decode_row(value) for record_id, value in rows_of(view, shard, shards)}
    changed: list[tuple[RecordId, LedgerRow]] = []
    for record_id in sorted(own.keys() | {key for each in said for key in each.rows}):
        mine = own.get(record_id, NO_ROW)
        row = ledger_merge.merge(rules, mine, [each.rows.get(record_id) for each in said])
        if row != mine:
            changed.append((record_id, row))
    return changed
