"""The proposer: commands of this node on their way into a log, and their fate (I5, I12).

A command waits until a leader is known, is sent, and is sent again only on a Nack, a change of
leader, a reconnect or after a second; its deadline is looked at before each send. Its outcome is
learnt by applying it here and in no other way. `NotAppended` is said only when every send was
refused before being appended (or none was made); everything else that ends without an outcome is
`Unknown`. Nothing here decides what a command means.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from cluster.api import Applied, NotAppended, Unknown
from cluster.limits import MAX_OPEN_COMMANDS, NACK_PAUSE_NS, RESEND_NS
from cluster.types import Index, NodeId, ShardId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cluster.api import ProposalResult
    from cluster.commands import Outcome

NO_NODE = NodeId(0)


class Waiter:
    """One caller; several readers may wait for one Barrier."""

    __slots__ = ("_proposals", "command", "done")

    def __init__(
        self, proposals: Proposals, command: _Open, done: Callable[[ProposalResult], None]
    ) -> None:
        self._proposals = proposals
        self.command = command
        self.done: Callable[[ProposalResult], None] | None = done

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self.done is not None:
            self.done = None
            self._proposals.left(self.command)


class _Open:
    """A command whose fate is open."""

    __slots__ = (
        "accepted",
        "data",
        "deadline",
        "is_barrier",
        "jumped",
        "outstanding",
        "queued",
        "sends",
        "sent_to",
        "seq",
        "shard",
        "waiters",
    )

    def __init__(self, seq: int, shard: ShardId, data: bytes, *, is_barrier: bool) -> None:
        self.seq = seq
        self.shard = shard
        self.data = data
        self.is_barrier = is_barrier
        self.waiters: list[Waiter] = []
        self.sends = 0
        self.outstanding: dict[int, NodeId] = {}
        """Sends that were not refused, and to whom they went."""
        self.sent_to = NO_NODE
        self.accepted: tuple[NodeId, int] | None = None
        """(leader, term) that has it in its log."""
        self.queued = False
        self.jumped = False
        self.deadline = 0
        """The latest of its waiters'; nothing is sent after it."""


class Proposals:
    """All open commands of one node."""

    def __init__(self, shards: int, later: Callable[[Callable[[], None]], None]) -> None:
        self._later = later
        self._seq = 0
        self._open: dict[int, _Open] = {}
        self._count = [0] * shards
        self._queues: list[deque[_Open]] = [deque() for _ in range(shards)]
        self.ready: set[ShardId] = set()
        """Shards with something to send."""
        self._barrier: dict[ShardId, _Open] = {}
        """Per shard: the Barrier that nobody sent yet; further readers join it."""
        self._deadlines: list[tuple[int, int, Waiter]] = []
        self._deadline_number = 0
        self._resend: deque[tuple[int, _Open, int]] = deque()
        self._paused: deque[tuple[int, _Open]] = deque()

    def __len__(self) -> int:
        return len(self._open)

    # ---- the caller's side

    def add(
        self,
        shard: ShardId,
        data: bytes,
        deadline_ns: int,
        done: Callable[[ProposalResult], None],
        *,
        is_barrier: bool,
    ) -> Waiter:
        """Take a command in; it is sent in the turn that follows."""
        command = self._barrier.get(shard) if is_barrier else None
        if command is None:
            self._seq += 1
            command = _Open(self._seq, shard, data, is_barrier=is_barrier)
        waiter = Waiter(self, command, done)
        if command.seq not in self._open:
            if self._count[shard] >= MAX_OPEN_COMMANDS:
                self._end(waiter, NotAppended("busy"))
                return waiter
            self._open[command.seq] = command
            self._count[shard] += 1
            self._enqueue(command)
            if is_barrier:
                self._barrier[shard] = command
        command.waiters.append(waiter)
        command.deadline = max(command.deadline, deadline_ns)
        self._deadline_number += 1
        heapq.heappush(self._deadlines, (deadline_ns, self._deadline_number, waiter))
        return waiter

    def refuse(self, done: Callable[[ProposalResult], None], reason: str) -> Waiter:
        """A command that is not even taken in."""
        waiter = Waiter(self, _Open(0, ShardId(0), b"", is_barrier=False), done)
        self._end(waiter, NotAppended(reason))
        return waiter

    def left(self, command: _Open) -> None:
        """A waiter went away; without any left, nothing more is sent."""
        if all(waiter.done is None for waiter in command.waiters):
            self._forget(command)

    # ---- the host's side

    def take(self, shard: ShardId, now: int) -> list[_Open]:
        """What is to be sent for this shard now; the caller sends it and says `sent`."""
        queue = self._queues[shard]
        self.ready.discard(shard)
        taken = [
            command for command in queue if command.seq in self._open and command.deadline > now
        ]
        for command in queue:
            command.queued = False
        queue.clear()
        self._barrier.pop(shard, None)
        return taken

    def sent(self, command: _Open, leader: NodeId, now: int) -> None:
        """Count a send."""
        command.sends += 1
        command.outstanding[command.sends] = leader
        command.sent_to = leader
        command.accepted = None
        self._resend.append((now + RESEND_NS, command, command.sends))

    def nacked(self, by: NodeId, reason: str, sends: Iterable[tuple[int, int]], now: int) -> None:
        """`by` refused these sends before appending them; only its own word on them counts."""
        for seq, send in sends:
            command = self._open.get(seq)
            if command is None or command.outstanding.get(send) != by:
                continue
            del command.outstanding[send]
            if reason in ("not-leader", "dropped"):
                self._paused.append((now + NACK_PAUSE_NS, command))
            elif not command.outstanding:
                self._finish(command, NotAppended(reason))

    def accepted(self, leader: NodeId, term: int, seqs: Iterable[int]) -> None:
        """`leader` has them in its log of `term`."""
        for seq in seqs:
            command = self._open.get(seq)
            if command is not None and command.sent_to == leader:
                command.accepted = (leader, term)

    def applied(self, shard: ShardId, index: int, seq: int, data: bytes, outcome: Outcome) -> None:
        """The command was applied here; another one under its number says nothing about it."""
        command = self._open.get(seq)
        if command is not None and command.data == data:
            self._finish(
                command, Applied(outcome, shard, Index(index), command.sends, command.jumped)
            )

    def leader_changed(self, shard: ShardId, leader: NodeId, term: int) -> None:
        """Send again what the new leader has not taken."""
        for command in list(self._open.values()):
            if command.shard == shard and command.sends and command.accepted != (leader, term):
                self._enqueue(command)

    def reconnected(self, peer: NodeId) -> None:
        """What was sent over the lost link and not accepted is sent again."""
        for command in list(self._open.values()):
            if command.sends and command.sent_to == peer and command.accepted is None:
                self._enqueue(command)

    def jumped(self, shard: ShardId) -> None:
        """A snapshot was installed: outcomes below it will never be seen here."""
        for command in list(self._open.values()):
            if command.shard == shard and command.sends:
                command.jumped = True
                command.accepted = None
                self._enqueue(command)

    def on_time(self, now: int) -> None:
        """Deadlines, pauses and resends that are due."""
        while self._deadlines and self._deadlines[0][0] <= now:
            waiter = heapq.heappop(self._deadlines)[2]
            if waiter.done is not None:
                self._end(waiter, _overdue(waiter.command))
                # `done` is cleared when it is called, later: this waiter is gone from now on.
                waiter.command.waiters.remove(waiter)
                self.left(waiter.command)
        while self._paused and self._paused[0][0] <= now:
            command = self._paused.popleft()[1]
            if command.seq in self._open:
                self._enqueue(command)
        while self._resend and self._resend[0][0] <= now:
            _, command, send = self._resend.popleft()
            unheard = command.sends == send and command.accepted is None
            if unheard and command.seq in self._open:
                self._enqueue(command)

    # ---- inside

    def _enqueue(self, command: _Open) -> None:
        if not command.queued:
            command.queued = True
            self._queues[command.shard].append(command)
        self.ready.add(command.shard)

    def wake(self, shard: ShardId) -> None:
        """A leader is known or a link is up: what waits may go."""
        if self._queues[shard]:
            self.ready.add(shard)

    def _finish(self, command: _Open, result: ProposalResult) -> None:
        for waiter in command.waiters:
            self._end(waiter, result)
        self._forget(command)

    def _forget(self, command: _Open) -> None:
        if self._open.pop(command.seq, None) is not None:
            self._count[command.shard] -= 1
        if self._barrier.get(command.shard) is command:
            del self._barrier[command.shard]

    def _end(self, waiter: Waiter, result: ProposalResult) -> None:
        if waiter.done is None:
            return

        def deliver() -> None:
            done, waiter.done = waiter.done, None
            if done is not None:
                done(result)

        self._later(deliver)


def _overdue(command: _Open) -> ProposalResult:
    if command.outstanding or command.jumped:
        return Unknown("the outcome was not learnt in time", command.sends)
    return NotAppended("no leader took it in time")
