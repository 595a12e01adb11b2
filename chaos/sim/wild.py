"""Doubled and overtaken messages: what the wire may do to Raft, and what TCP rules out.

A link is one TLS connection: its frames keep their order and come once, or the connection is lost.
The host's own items rest on that (a Forward that came twice could be refused once and appended
once, and "no" would be a lie); so they are never doubled or reordered here. Raft's messages must
stand both, as its paper promises, and other transports would do it to them: a copy of them, or
they themselves, arrive late and out of turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.sim.units import MS
from cluster.frames import Frame, Item, RaftMessages, decode_frame, encode_frame

if TYPE_CHECKING:
    from chaos.sim.world import World
    from cluster.types import NodeId

LATEST_MS = 4_000
"""Past an election or two, so that answers of one term come in the next; most come soon."""


def wild(world: World, a: NodeId, b: NodeId, payload: bytes) -> bytes:
    """Send some Raft messages of a frame on a way of their own; returns what keeps its place."""
    frame = decode_frame(payload)
    kept: list[Item] = []
    astray: list[Item] = []
    for item in frame.items:
        if not isinstance(item, RaftMessages):
            kept.append(item)
            continue
        chance = world.random.random()
        if chance < world.reorder:
            astray.append(item)
            continue
        kept.append(item)
        if chance < world.reorder + world.double:
            astray.append(item)
    if not astray:
        return payload
    for item in astray:
        late = int(world.random.random() ** 3 * LATEST_MS * MS)
        alone = encode_frame(Frame(frame.incarnation, [item]))
        world.arrive(a, b, alone, world.now + late)
    return encode_frame(Frame(frame.incarnation, kept))
