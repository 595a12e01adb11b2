"""A deterministic world for hosts: virtual time, seeded wires, and the nodes between them.

One event heap; every twin of `cluster.ports` schedules into it. The same seed gives the same story.
Nothing sleeps: whoever drives it turns the time until a condition holds.
"""

from __future__ import annotations

import heapq
import random
from functools import partial
from typing import TYPE_CHECKING

from chaos.sim.book import Book
from chaos.sim.node import SimNode
from chaos.sim.units import MS, SECOND
from chaos.sim.wild import wild
from cluster.api import Applied, ProposalResult, Shape
from cluster.types import NodeId, ShardId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chaos.sim.disk import SimStore
    from chaos.sim.node import Moment
    from cluster.commands import Command, Outcome
    from cluster.ports import Batch
    from cluster.statehash import StateHash

Lives = tuple[NodeId, int, NodeId, int]
"""One connection: sender, its life, receiver, its life."""


class World:
    """Five nodes (or three) and the wires between them."""

    def __init__(
        self,
        seed: int = 1,
        *,
        nodes: int = 5,
        shards: int = 2,
        limit: int = 3,
        grace_s: float = 5.0,
        delay_ms: tuple[float, float] = (5, 15),
        disk_ms: float = 4,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - a seed reproduces, it does not protect
        self.now = SECOND
        self.shards, self.limit, self.grace_s = shards, limit, grace_s
        self.delay_ms = delay_ms
        self.disk_ms = disk_ms
        self.fetch_ms = 30
        self.refuse_file: Callable[[NodeId, str], bool] | None = None
        """Of whom, and which file: true when it cannot be fetched."""
        self.spoil_once: Callable[[bytes], bytes] | None = None
        self.loss = 0.0
        self.refused = 0.0
        """How often a link's buffer is full: the host is told that the frame did not go."""
        self.double = self.reorder = 0.0
        """How often Raft messages come twice, or late; see `chaos.sim.wild`."""
        self.stalled: set[tuple[int, int]] = set()
        """Pairs whose connection stands while nothing passes; TCP keeps what was sent."""
        self.held: dict[tuple[int, int], list[Callable[[], object]]] = {}
        self.events: list[tuple[int, int, Callable[[], object]]] = []
        self.number = 0
        self.cut_pairs: set[tuple[int, int]] = set()
        self.links: set[Lives] = set()
        self.last_arrival: dict[tuple[int, int], int] = {}
        self.cuts: list[tuple[NodeId, NodeId, str]] = []
        self.frames = 0
        self.late_frames = False
        """Frames of a process that is gone still arrive, as from a socket's buffer."""
        self.lives: list[Callable[[SimNode, str], object]] = []
        """Told when a process has started or ended."""
        self.moments: list[Callable[[SimNode, Moment, bytes | Batch], object]] = []
        """Told of every step of every node; see `chaos.sim.node.Moment`."""
        self.observe: list[Callable[[NodeId, NodeId, bytes], object]] = []
        self.book = Book.founded(nodes, shards, limit, grace_s)
        """The newest cluster.json."""
        self.untold: set[NodeId] = set()
        """Nodes that nobody brings the newest book to, not even when they start."""
        self.node_ids = self.book.founders
        """The members, ascending."""
        self.nodes = {node: SimNode(self, node) for node in self.node_ids}
        """The members' machines."""
        self.machines = dict(self.nodes)
        """Those of replaced nodes too."""
        self.ghosts: dict[int, list[SimStore]] = {}
        """What disks held before an old image took their place."""

    # ---- members

    def shape(self, node_id: int) -> Shape:
        """The cluster as node `node_id` sees it, by the book that it has."""
        return self.machines[NodeId(node_id)].book.shape(NodeId(node_id))

    def replace(self, old: int, *, tell: Iterable[int] | None = None) -> NodeId:
        """Retire a member for a new node in its seat, which is not started yet; returns its id.

        The new book goes to every node (to one that is down when it starts), or only to `tell`.
        """
        self.book, new = self.book.replaced(NodeId(old))
        self.machines[new] = SimNode(self, new)
        self.nodes = {node: self.machines[node] for node in sorted(self.book.seats)}
        self.node_ids = tuple(self.nodes)
        self.untold = set() if tell is None else set(self.machines) - {new, *map(NodeId, tell)}
        for node in list(self.machines):
            self.tell(node)
        return new

    def tell(self, node_id: int) -> None:
        """Bring the newest book to a node, unless it is to stay without."""
        machine = self.machines[NodeId(node_id)]
        if machine.id not in self.untold and machine.host is not None:
            machine.call(partial(machine.adopt, self.book))
            self.links_changed()

    def disks(self, node: int) -> list[SimStore]:
        """Everything that ever was a disk of this node: for whoever asks what was durable."""
        return [self.machines[NodeId(node)].store, *self.ghosts.get(node, ())]

    # ---- time

    def at(self, delay_ns: int, call: Callable[[], object]) -> None:
        """Call after `delay_ns`; calls of one moment go in the order in which they were asked."""
        self.number += 1
        heapq.heappush(self.events, (self.now + delay_ns, self.number, call))

    def step(self) -> None:
        """The next event."""
        self.now, _, call = heapq.heappop(self.events)
        call()

    def run(self, seconds: float) -> None:
        """Turn the time."""
        end = self.now + int(seconds * SECOND)
        while self.events and self.events[0][0] <= end:
            self.step()
        self.now = end

    def until(
        self, condition: Callable[[], object], seconds: float = 60.0, what: str = "condition"
    ) -> None:
        """Turn the time until `condition()` is true.

        Raises:
            AssertionError: it was not within `seconds`.

        """
        end = self.now + int(seconds * SECOND)
        while not condition():
            if not self.events or self.events[0][0] > end:
                raise AssertionError(f"{what} did not come true in {seconds} virtual seconds")
            self.step()

    # ---- wires

    def connected(self, a: NodeId, b: NodeId) -> bool:
        """Something can pass from a to b."""
        one, other = self.machines[a], self.machines[b]
        known = a in other.book.seats and b in one.book.seats
        return known and one.up and other.up and (a, b) not in self.cut_pairs

    def links_changed(self) -> None:
        """Take down links that cannot be, and let those come up that can."""
        for a in self.machines:
            for b in self.machines:
                if a == b:
                    continue
                lives = (a, self.machines[a].life, b, self.machines[b].life)
                want = self.connected(a, b)
                for link in [link for link in self.links if link[0] == a and link[2] == b]:
                    if not want or link != lives:
                        self.links.discard(link)
                        self._down(link)
                if want and lives not in self.links:
                    self.links.add(lives)
                    self.machines[a].soon(self._delay(), partial(self._up, a, b))

    def _down(self, link: Lives) -> None:
        node = self.machines[link[0]]
        if node.host is not None and link[1] == node.life:
            node.call(partial(node.host.on_link_down, link[2]))

    def _up(self, a: NodeId, b: NodeId) -> None:
        if self.connected(a, b):
            self.machines[a].running.on_link_up(b)

    def _delay(self) -> int:
        low, high = self.delay_ms
        return int((low + (high - low) * self.random.random()) * MS)

    def carry(self, a: NodeId, b: NodeId, frame: bytes) -> bool:
        """One frame onto the wire; frames of one link keep their order."""
        if not self.connected(a, b):
            return False
        if self.refused and self.random.random() < self.refused:
            return False
        if self.loss and self.random.random() < self.loss:
            return True
        if self.double or self.reorder:
            frame = wild(self, a, b, frame)
        self.frames += 1
        for watch in self.observe:
            watch(a, b, frame)
        arrival = max(self.now + self._delay(), self.last_arrival.get((a, b), 0) + 1)
        self.last_arrival[a, b] = arrival
        self.arrive(a, b, frame, arrival)
        return True

    def arrive(self, a: NodeId, b: NodeId, frame: bytes, arrival: int) -> None:
        """Hand a frame over at that time, unless its connection or its receiver is gone."""
        source, target = self.machines[a], self.machines[b]
        lives = (source.life, target.life)

        def deliver() -> None:
            same = target.life == lives[1] and (self.late_frames or source.life == lives[0])
            if not same or not target.up or (a, b) in self.cut_pairs:
                return
            if (a, b) in self.stalled:
                self.held.setdefault((a, b), []).append(deliver)
                return
            target.call(partial(target.running.on_frame, a, frame))
            target.call(partial(target.moment, "received", frame))

        self.at(arrival - self.now, deliver)

    def partition(self, *sides: Iterable[int]) -> None:
        """Only nodes of one side hear each other."""
        groups = [frozenset(side) for side in sides]
        self.cut_pairs = {
            (a, b)
            for a in self.machines
            for b in self.machines
            if a != b and not any(a in side and b in side for side in groups)
        }
        self.links_changed()

    def heal(self) -> None:
        """No pair is cut."""
        self.cut_pairs = set()
        self.flow()
        self.links_changed()

    def flow(self, pairs: Iterable[tuple[int, int]] | None = None) -> None:
        """Let stalled connections carry again; what they kept arrives now, in order."""
        for pair in sorted(self.stalled if pairs is None else pairs):
            self.stalled.discard(pair)
            for deliver in self.held.pop(pair, []):
                deliver()

    # ---- the cluster

    def start(self) -> World:
        """Start every node and wait for leaders."""
        for node in self.nodes.values():
            node.start()
        self.until(self.led, what="every shard has a leader")
        return self

    @property
    def alive(self) -> list[SimNode]:
        """Nodes that run, by id."""
        return [node for node in self.nodes.values() if node.up]

    def leader(self, shard: int = 0) -> NodeId | None:
        """The node that leads the shard by its own word in the highest term, or None."""
        best: tuple[int, NodeId] | None = None
        for node in self.alive:
            report = node.running.status().groups[shard]
            if (
                report.role == "leader"
                and report.stamped
                and (best is None or report.term > best[0])
            ):
                best = (report.term, node.id)
        return None if best is None else best[1]

    def led(self) -> bool:
        """Every shard has a leader that the living follow."""
        for shard in range(self.shards):
            leader = self.leader(shard)
            if leader is None:
                return False
            known = [node.running.status().groups[shard].leader for node in self.alive]
            if sum(1 for one in known if one == leader) <= len(self.node_ids) // 2:
                return False
        return True

    def settled(self) -> bool:
        """Every living node applied the same index in every shard."""
        for shard in range(self.shards):
            groups = [node.running.status().groups[shard] for node in self.alive]
            if len({group.applied for group in groups} | {one.last_index for one in groups}) != 1:
                return False
        return True

    def state_hashes(self) -> set[tuple[StateHash, ...]]:
        """The state hashes of every living node, by shard."""
        return {
            tuple(records.hash for records in node.running._core.overlay.shards)  # noqa: SLF001
            for node in self.alive
        }

    def propose(
        self, node: int, command: Command, *, timeout_s: float = 8.0, shard: int | None = None
    ) -> list[ProposalResult]:
        """Propose at a node; returns the list that the result lands in."""
        results: list[ProposalResult] = []
        host = self.nodes[NodeId(node)].running
        target = None if shard is None else ShardId(shard)
        host.propose(command, timeout_s=timeout_s, shard=target, done=results.append)
        return results

    def outcome(
        self, node: int, command: Command, *, timeout_s: float = 8.0, shard: int | None = None
    ) -> ProposalResult:
        """Propose and turn time until the result is there."""
        results = self.propose(node, command, timeout_s=timeout_s, shard=shard)
        self.until(lambda: results, seconds=timeout_s + 2, what="a result")
        return results[0]

    def applied(self, node: int, command: Command, *, timeout_s: float = 8.0) -> Outcome:
        """Propose, and demand that it is applied."""
        result = self.outcome(node, command, timeout_s=timeout_s)
        if not isinstance(result, Applied):
            raise AssertionError(f"not applied: {result}")  # noqa: TRY004 - what a test expects
        return result.outcome
