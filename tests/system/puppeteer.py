"""Two more things that whoever owns a data center can do: tell each node its own log, and lie to
those who ask it for shares.

`Puppeteer` claims to lead shard 0 in a term of its own, without asking for a single vote: a node
follows whoever speaks in a higher term. Each honest node gets a snapshot of its own (equivocation)
and then heartbeats, so that none of them campaigns. `LyingGiver` says that it gives shares, and
answers what it likes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from harness import wait_until
from intruder import Intruder
from owned import status
from raft_world import APPEND, HEARTBEAT, SNAPSHOT, wire_entry, wire_message, wire_snapshot

from cluster import manifest, statehash
from cluster.frames import Beat, Pong, RaftMessages
from cluster.link_wire import HOST_CHANNEL, SERVICE_CHANNEL
from engines.encoding import u32
from node import share_messages
from node.share_messages import AttemptAsk, RegistrationAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from owned import Scene

BEAT_S = 0.1
JUMP = 500
"""How far behind a node's log its snapshot says to be; no multiple of 1,024 is met on the way."""


class Puppeteer:
    """Leads shard 0 of each honest node on a string of its own."""

    def __init__(self, scene: Scene, intruder: Intruder, honest: list[int]) -> None:
        self.scene, self.intruder, self.honest = scene, intruder, honest
        self.commits = dict.fromkeys(honest, 0)
        self.files, self.over = 0, False
        self.voters = sorted(scene.vault.ids)
        groups = [status(scene, node)["groups"][0] for node in honest]
        self.index = max(group["last_index"] for group in groups)
        self.term = max(group["term"] for group in groups) + 5
        intruder.call(self._begin())

    async def _begin(self) -> None:
        self._heartbeat()

    def _heartbeat(self) -> None:
        if self.over:
            return
        for node, commit in self.commits.items():
            self._send(node, wire_message(
                HEARTBEAT, sender=self.intruder.node_id, to=node, term=self.term, commit=commit
            ))  # fmt: skip
        self.intruder._loop.call_later(BEAT_S, self._heartbeat)

    def _send(self, node: int, message: bytes) -> None:
        frame = self.intruder.frame(RaftMessages([(0, message)]))
        self.intruder.links.send(node, HOST_CHANNEL, frame)

    def install(self, stories: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Give each node its own records; back when each has installed them."""
        self.index += JUMP
        for node, records in stories.items():
            said = self._written(records)
            snapshot = wire_snapshot(
                self.index, self.term, self.voters, manifest.encode_manifest(said)
            )
            message = wire_message(
                SNAPSHOT, sender=self.intruder.node_id, to=node, term=self.term, snapshot=snapshot
            )
            self.intruder.call(self._soon(node, message))
        for node in stories:
            wait_until(lambda n=node: self._applied(n) >= self.index, f"node {node} installs it")
            self.commits[node] = self.index

    def append(self, node: int, data: bytes) -> None:
        """One committed entry behind what the node installed last; it may end the node."""
        at = self.index
        message = wire_message(
            APPEND, sender=self.intruder.node_id, to=node, term=self.term, index=at,
            log_term=self.term, commit=at + 1, entries=[wire_entry(at + 1, self.term, data)],
        )  # fmt: skip
        self.intruder.call(self._soon(node, message))

    async def _soon(self, node: int, message: bytes) -> None:
        self._send(node, message)

    def _applied(self, node: int) -> int:
        return status(self.scene, node)["groups"][0]["applied"]

    def _written(self, records: Mapping[bytes, bytes]) -> manifest.Manifest:
        state, data = statehash.EMPTY_HASH, b""
        for record_id, value in sorted(records.items()):
            state = statehash.add(state, record_id, value)
            data += record_id + u32(len(value)) + value
        self.files += 1
        name = f"out-0-p{self.files}"
        with self.intruder.files.create(name) as file:
            file.write(data)
        return manifest.Manifest(
            name, 0, self.index, self.term, len(data), hashlib.sha256(data).digest(),
            len(records), statehash.encode_hash(state),
        )  # fmt: skip

    def end(self) -> None:
        """Let go of all strings."""

        async def stop() -> None:
            self.over = True

        self.intruder.call(stop())


class LyingGiver(Intruder):
    """Says that it gives shares of every shard and answers each ask with `lie(ask)`."""

    lie: Callable[[AttemptAsk | RegistrationAsk], Any] | None = None
    asked = 0

    def give(self, lie: Callable[[AttemptAsk | RegistrationAsk], Any]) -> None:
        """Be a share-giver from now on."""
        self.lie = lie
        self.call(self._begin_beats())

    async def _begin_beats(self) -> None:
        self._beat()

    def _beat(self) -> None:
        if self.lie is None:
            return
        for node in self.peers:
            beat = Beat(int(self._loop.time() * 1e9), True, False, b"\xff", b"\xff")
            self.links.send(node, HOST_CHANNEL, self.frame(beat))
        self._loop.call_later(BEAT_S, self._beat)

    def on_link_frame(self, peer: int, channel: int, payload: bytes) -> None:
        if channel == SERVICE_CHANNEL and self.lie is not None:
            for message in share_messages.decode_frame(payload):
                if isinstance(message, AttemptAsk | RegistrationAsk):
                    self.asked += 1
                    answer = share_messages.encode_frame([self.lie(message)])
                    self.links.send(peer, SERVICE_CHANNEL, answer)
        super().on_link_frame(peer, channel, payload)
        if channel == HOST_CHANNEL:
            for beat in [item for item in self.items[peer][-3:] if isinstance(item, Beat)]:
                self.links.send(peer, HOST_CHANNEL, self.frame(Pong(beat.sent_ns)))

    def honest_again(self) -> None:
        """Say no more."""

        async def stop() -> None:
            self.lie = None

        self.call(stop())
