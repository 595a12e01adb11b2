"""Who campaigns when, and where leadership should sit.

Raft needs elections to be apart, not random: each seat has its own slot, shifted by shard and term,
so that after a loss the next leader is known a slot ahead of all others. raft-rs draws from its own
generator whenever it resets a group; the slot is applied again over every such draw, also so that
a simulation with one seed is one story. Safety never rests on any of this (I10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.limits import (
    ELECTION_GAP_TICKS,
    ELECTION_SLOTS,
    MIN_ELECTION_TICKS,
    RELUCTANCE_TICKS,
    SPREAD_LAG_ENTRIES,
)
from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.ports import Random
    from cluster.types import Seat, ShardId
    from engines._engines import GroupStatus, MultiRaft

UNSET = -1
"""In place of a term."""


def slot_ticks(seat: Seat, shard: ShardId, term: int, *, reluctant: bool = False) -> int:
    """Ticks of silence after which this seat campaigns, before the random 0…1.

    The reluctant come after all others, as far apart as those: they may be all that is left.
    """
    slot = MIN_ELECTION_TICKS + ELECTION_GAP_TICKS * ((seat + shard + term) % ELECTION_SLOTS)
    return slot + RELUCTANCE_TICKS if reluctant else slot


class Slots:
    """Keeps raft-rs on our timeouts."""

    def __init__(self, raft: MultiRaft, seat: Seat, shards: int, random: Random) -> None:
        self._raft = raft
        self._seat = seat
        self._random = random
        self._set: list[tuple[tuple[int, bool], int]] = [((UNSET, False), 0)] * shards
        """(term, reluctant) and the ticks as set last."""
        self._silent = [False] * shards

    def hold(self, shard: ShardId, *, silent: bool) -> None:
        """A node that could not stamp its own vote asks nobody for theirs.

        It would disturb a leader that it merely does not hear, and win nothing. Ticks still pass:
        it forgets the lease of a leader that is gone, and goes on leading what it leads.
        """
        if self._silent[shard] != silent:
            self._silent[shard] = silent
            self._raft.set_reluctant(shard, silent)

    def apply(self, shard: ShardId, term: int, *, reluctant: bool) -> None:
        """Set the slot if the term moved or raft-rs has drawn its own.

        Our own draw is made once per term and mood: made anew after each of raft-rs's, it would be
        left out where those dice happen to show what was set, and no run could be repeated from
        its seed.
        """
        key = (term, reluctant)
        known, ticks = self._set[shard]
        if known != key:
            slot = slot_ticks(self._seat, shard, term, reluctant=reluctant)
            ticks = slot + self._random.randrange(2)
            self._set[shard] = (key, ticks)
        elif self._raft.election_timeout(shard)[0] == ticks:
            return
        self._raft.set_election_timeout(shard, ticks)


def preferred_node(shard: ShardId, seats: Mapping[NodeId, Seat]) -> NodeId:
    """Leadership is spread: seat 1 + shard mod the number of seats."""
    by_seat = sorted((seat, node) for node, seat in seats.items())
    return by_seat[shard % len(by_seat)][1]


PROBE, REPLICATE = 0, 1
"""How raft-rs keeps a follower (GroupStatus.progress)."""


def follows(state: int, matched: int, last_index: int) -> bool:
    """The follower takes entries, or lacks none.

    A follower that was away is probed until the next entry, which in a quiet shard may be never.
    """
    return state == REPLICATE or (state == PROBE and matched == last_index)


def nearly_matched(status: GroupStatus, node: NodeId) -> bool:
    """The voter follows and is at most a few entries behind.

    Whether it is heard is asked elsewhere: raft's own mark of it is off at the beginning of each
    election timeout.
    """
    for peer, matched, _, _, state in status.progress:
        if peer == node:
            near = matched + SPREAD_LAG_ENTRIES >= status.last_index
            return near and follows(state, matched, status.last_index) and node in status.voters
    return False


def best_heir(status: GroupStatus, node_id: NodeId, willing: set[NodeId]) -> NodeId | None:
    """The willing voter with the longest matched log, for a drain."""
    best: tuple[int, int] | None = None
    for peer, matched, _, active, state in status.progress:
        usable = active and peer in status.voters and NodeId(peer) in willing
        fit = usable and follows(state, matched, status.last_index)
        if peer != node_id and fit and (best is None or matched > best[0]):
            best = (matched, peer)
    return None if best is None else NodeId(best[1])
