"""The one log that the cluster agreed on, as this world saw it, and the state that it makes.

An entry is taken in the moment in which the first node treats it as committed; then it must stand,
fsynced, on the disks of a majority of that node's voters (I4, I8). It is applied here once more by
the real state machine: every node's state at every index, every answer given to a client and every
share is held against that. (Whether the state machine itself is right is asked elsewhere: by the
checkers over the clients' history, and by the count of shares.)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cluster import record, statehash
from cluster.commands import (
    Barrier,
    ChargeOutcome,
    ExpireOutcome,
    Outcome,
    Status,
    decode_command,
)
from cluster.entries import NORMAL_ENTRY, decode_entry
from cluster.record import Record, Rules, encode_record
from cluster.statehash import EMPTY_HASH, StateHash
from cluster.tables import FIRST_INDEX, log_key, split_log_value
from cluster.types import AttemptId, RecordId, RegistrationId, ShardId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaos.sim.world import World

Proposal = tuple[int, int, int]
"""(origin node, its incarnation, its sequence number)."""


class Charged(NamedTuple):
    """A charge in the agreed log, for exactly this registration and era."""

    record_id: RecordId
    attempt_id: AttemptId
    registration_id: RegistrationId
    era: int


class Reference:
    """The agreed log of every shard, applied."""

    def __init__(self, world: World, rules: Rules, broken: Callable[[str], None]) -> None:
        self._world = world
        self._rules = rules
        self._broken = broken
        shards = range(world.shards)
        self.last = [FIRST_INDEX for _ in shards]
        self.values: list[dict[int, bytes]] = [{} for _ in shards]
        self.hashes: list[dict[int, StateHash]] = [{FIRST_INDEX: EMPTY_HASH} for _ in shards]
        self.records: list[dict[RecordId, tuple[Record, bytes]]] = [{} for _ in shards]
        self.outcomes: dict[tuple[int, int], list[tuple[bytes, Outcome]]] = {}
        self.charged: dict[Charged, tuple[int, int]] = {}
        """Where the log charged it: (shard, index)."""
        self.expired: dict[RegistrationId, tuple[int, int]] = {}
        """Where the log locked it."""
        self.appended: set[Proposal] = set()
        self.refused: set[Proposal] = set()
        """Proposals of which the proposer said `NotAppended`."""

    def commit(self, node: int, shard: ShardId, index: int, voters: Sequence[int]) -> None:
        """`node` says that everything up to `index` is committed."""
        while self.last[shard] < index:
            at = self.last[shard] + 1
            value = self._agreed(node, shard, at, voters)
            if value is None:
                return
            self.last[shard] = at
            self.values[shard][at] = value
            self._apply(shard, at, value)

    def _agreed(self, node: int, shard: ShardId, index: int, voters: Sequence[int]) -> bytes | None:
        key = log_key(shard, index)
        held: Counter[bytes] = Counter()
        for voter in voters:
            stores = self._world.disks(voter)
            for value in {store.tables["log"].get(key) for store in stores}:
                if value is not None:
                    held[value] += 1
        best = held.most_common(1)
        if best and best[0][1] > len(voters) // 2:
            return best[0][0]
        where = [count for _, count in best] or [0]
        self._broken(
            f"commit-not-durable: node {node} takes entry {index} of shard {shard} as committed;"
            f" it is on the disks of {where[0]} of {len(voters)} voters"
        )
        return None

    def _apply(self, shard: ShardId, index: int, value: bytes) -> None:
        _, kind, data = split_log_value(value)
        state = self.hashes[shard][index - 1]
        told: list[tuple[bytes, Outcome]] = []
        for origin, incarnation, seq, encoded in decode_entry(data) if kind == NORMAL_ENTRY else ():
            proposal = (origin, incarnation, seq)
            if proposal in self.refused:
                self._broken(
                    f"no-was-a-lie: node {origin} said that its command {seq} is in no log;"
                    f" it is entry {index} of shard {shard}"
                )
            self.appended.add(proposal)
            command = decode_command(encoded)
            if isinstance(command, Barrier):
                continue
            record_id = RecordId(command.record_id)
            before = self.records[shard].get(record_id)
            after, outcome = record.apply(self._rules, before[0] if before else None, command)
            if after is not None and (before is None or after is not before[0]):
                encoded_after = encode_record(after)
                old = before[1] if before else None
                state = statehash.replace(state, record_id, old, encoded_after)
                self.records[shard][record_id] = (after, encoded_after)
            told.append((encoded, outcome))
            self._note(shard, index, record_id, outcome)
        self.hashes[shard][index] = state
        if told:
            self.outcomes[shard, index] = told

    def _note(self, shard: int, index: int, record_id: RecordId, outcome: Outcome) -> None:
        if isinstance(outcome, ChargeOutcome) and outcome.grant is not None:
            if outcome.status is Status.DONE:
                charged = Charged(
                    record_id,
                    AttemptId(outcome.attempt_id),
                    RegistrationId(outcome.grant.registration_id),
                    outcome.grant.era,
                )
                self.charged.setdefault(charged, (shard, index))
        elif isinstance(outcome, ExpireOutcome) and outcome.status is Status.DONE:
            self.expired[RegistrationId(outcome.registration_id)] = (shard, index)

    # ---- what nodes say of it

    def silent_until_now(self, node: int, incarnation: int) -> None:
        """A life begins with the incarnation of one that never spoke: its numbers begin anew."""
        self.refused = {each for each in self.refused if each[:2] != (node, incarnation)}

    def not_appended(self, proposal: Proposal) -> None:
        """The proposer told its caller: this is in no log and never will be."""
        self.refused.add(proposal)
        if proposal in self.appended:
            self._broken(
                f"no-was-a-lie: node {proposal[0]} says that its command {proposal[2]} is in no"
                " log; it has been committed"
            )

    def answered(self, node: int, shard: int, index: int, command: bytes, outcome: Outcome) -> None:
        """A node told a caller that this command came out so, at this index."""
        if index > self.last[shard]:
            self._broken(
                f"acknowledged-not-committed: node {node} answered out of entry {index} of shard"
                f" {shard}, which nobody has committed"
            )
            return
        told = self.outcomes.get((shard, index), [])
        if not any(each == (command, outcome) for each in told):
            self._broken(
                f"wrong-answer: node {node} answered {outcome} out of entry {index} of shard"
                f" {shard}; the agreed log says {[each for _, each in told]}"
            )

    def state(self, node: int, shard: int, index: int, state: StateHash, where: str) -> None:
        """A node's records, in RAM or on disk, as of this applied index."""
        known = self.hashes[shard].get(index)
        if known is not None and known != state:
            self._broken(
                f"state-differs: node {node}'s {where} at index {index} of shard {shard} is not"
                " what the agreed log makes"
            )
