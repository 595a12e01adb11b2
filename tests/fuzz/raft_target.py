"""A Raft core in a process of its own, to be hit with messages: `python raft_target.py`.

A panic in the core ends its process on purpose, so it is fuzzed from outside. Each case (msgpack,
length before it) names a node of a small cluster, made anew, and messages that its link to `sender`
carries; the answer says what became of each. No answer: the process ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from raft_world import APPEND_RESPONSE, HEARTBEAT, LEADER, SHARD, Node, World

HEARTBEAT_RESPONSE = 9
ANSWERS = (APPEND_RESPONSE, HEARTBEAT_RESPONSE)
TICKS = 5


def made(role: str) -> Node:
    """A node that just started, or the leader or a follower of a cluster with a short log."""
    if role == "fresh":
        return World()[1]
    world = World()
    leader = world.run_until_leader()
    for n in range(3):
        world.propose(b"command %d" % n)
        world.run(4)
    leader = world.leader()
    follower = next(node for node in world.nodes.values() if node is not leader)
    return leader if role == "leader" else follower


def stops(node: Node, sender: int, message: bytes) -> bool:
    """Rule (d), which the host keeps before `step`: the core itself would abort here."""
    kind, said_from, to, term, index, _, commit = node.raft.peek(message)
    status = node.raft.status(SHARD)
    if (said_from, to) != (sender, node.id) or kind not in (*ANSWERS, HEARTBEAT):
        return False
    if kind in ANSWERS:
        own = status.role == LEADER and term == status.term
        return own and max(index, commit) > status.last_index
    return term >= status.term and commit > status.last_index


def cycle(raft) -> bool:
    """Take every Ready as a host does; False when a committed entry cannot be applied."""
    while raft.has_ready():
        ready = raft.ready(SHARD)
        for _, _, kind, data in ready.committed:
            if kind != 0:
                try:
                    raft.apply_conf_change(SHARD, kind, data)
                except ValueError:
                    return False  # a host stops here, as with any entry that it does not know
        raft.advance_append_async(SHARD)
        raft.on_persist_ready(SHARD, ready.number)
        if ready.committed:
            raft.advance_apply_to(SHARD, ready.committed[-1][0])
    return True


def hit(node: Node, sender: int, messages: list[bytes]) -> list[str]:
    said = []
    for message in messages:
        try:
            if stops(node, sender, message):
                return [*said, "stopped"]
            before = node.raft.status(SHARD)
            staged = node.raft.step_frame(sender, [(SHARD, message)])
            for shard, _, snapshot in staged:
                # The stager's own checks: newer than the commit, of no earlier term.
                _, _, _, term, index, _, _ = node.raft.peek(snapshot)
                if term >= before.term and index > before.commit:
                    node.raft.step_snapshot(shard, snapshot)
            said.append("staged" if staged else "stepped")
        except ValueError as error:
            if "MultiRaft" not in str(error):
                raise
            said.append("refused")
        if not cycle(node.raft):
            return [*said, "stopped"]
    for _ in range(TICKS):
        node.raft.tick_all()
        cycle(node.raft)
    return said


def main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(4):
        role, sender, messages = msgspec.msgpack.decode(source.read(int.from_bytes(head, "big")))
        answer = msgspec.msgpack.encode(hit(made(role), sender, messages))
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


if __name__ == "__main__":
    main()
