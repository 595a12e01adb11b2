"""Old disks: an image of before comes back under the HSM's stamp of now, on one node or on two.

What is promised, and so done and demanded (raft-host.md, rules a-d):

- Somebody who is up, is not set back too and has a mark of the node beyond its image: the node is
  refused, however fresh the image and however soon it comes back (same incarnation, same term).
- Nobody was told of anything beyond the image by this node, and nobody has ended since it was taken
  and may have forgotten: the node goes on, or is refused by what was still under way, and no rule
  is broken.
- Else somebody may have been told and have forgotten it since (he was killed before his next batch,
  or is the other one that is set back). Then the others, of whom three are up and unharmed, get
  three seconds to agree among themselves what was acknowledged; then the node comes back.

Not done, because no memory can help there and acknowledged entries are lost: the node comes back
at once in the third case, or in the first while those who remember are cut off from it (longer
than the two seconds that a start waits for them) or down; or more than two nodes of a run lose
what their disks had. While an old disk comes back every other fault rests for six seconds.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from chaos.sim.units import MS, SECOND
from cluster.frames import ShardMark
from cluster.stamp import decode_stamp
from cluster.tables import (
    META_IDENTITY,
    decode_group,
    decode_identity,
    group_key,
    log_key,
    split_log_value,
)
from cluster.types import NodeId, ShardId

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.sim.disk import SimStore
    from chaos.sim.inject import Injector
    from chaos.sim.node import SimNode
    from chaos.sim.world import World
    from cluster.marks import Memory

LULL_NS: Final = 6 * SECOND
REST_NS: Final = 3 * SECOND
SOON_NS: Final = 400 * MS
"""Without a rest the node is back within this time."""


Known = dict[NodeId, tuple[ShardMark, ...]]


class OldDisks:
    """Images, and the nodes that come back with them."""

    def __init__(self, world: World, injector: Injector, broken: Callable[[str], None]) -> None:
        self._world = world
        self._injector = injector
        self._broken = broken
        self._images: dict[NodeId, tuple[SimStore, dict[NodeId, int]]] = {}
        """And whose life was which when it was taken."""
        self._chosen: list[tuple[SimNode, Known | None]] = []
        """They come back together; and what each remembered when it died, if it ran until now."""
        self.coming: set[NodeId] = set()
        """Not started by anybody else."""
        self.restored: set[NodeId] = set()
        self.refused_by_memory = 0

    def copied(self, node: SimNode) -> None:
        """Take the image."""
        lives = {each.id: each.life for each in self._world.nodes.values()}
        self._images[node.id] = (node.store.copy(), lives)

    def restore(self, node: SimNode) -> None:
        """The node dies; those of one moment come back together."""
        if node.id not in self._images:
            return
        self._chosen.append((node, _known(node) if node.up else None))
        if node.up:
            node.crash()
        self.coming.add(node.id)
        if len(self._chosen) == 1:
            self._world.at(0, self._decide)

    def _decide(self) -> None:
        chosen, self._chosen = self._chosen, []
        demands = [self._demand(node, chosen) for node, _ in chosen]
        rng = random.Random(f"{self._world.seed}/old/{self._world.now}")  # noqa: S311
        wait = REST_NS if None in demands else rng.randrange(SOON_NS)
        self._injector.lull(LULL_NS)
        for node, refused in zip((each for each, _ in chosen), demands, strict=True):
            self._world.at(wait, partial(self._back, node, refused=refused))

    def _demand(self, node: SimNode, chosen: list[tuple[SimNode, Known | None]]) -> bool | None:
        """True: it must be refused; False: nobody was told more; None: that cannot be said."""
        image, lives = self._images[node.id]
        marks = _marks(image, self._world.shards)
        together = [each for each, _ in chosen]
        others = [each for each in self._world.nodes.values() if each not in together]
        if any(each.up and _tells_more(each, node.id, marks) for each in others):
            return True
        if any(lives.get(each.id) != each.life for each in others):
            return None
        for each, known in chosen:
            heard = () if known is None else known.get(node.id, ())
            if each is not node and (
                known is None or any(_beyond(mark, marks[mark.shard]) for mark in heard)
            ):
                return None
        return False

    def _back(self, node: SimNode, *, refused: bool | None) -> None:
        self.coming.discard(node.id)
        if self._injector.calm or node.up or self._world.nodes.get(node.id) is not node:
            return
        image, _ = self._images[node.id]
        self._world.ghosts.setdefault(node.id, []).append(node.store)
        node.store = image.copy()
        self.restored.add(node.id)
        self._injector.old_disk(node)
        if node.host is not None and _is_behind(image, node.stamp):
            self._broken(f"old-disk-started: node {node.id}: its HSM knows a later one")
        if refused:
            self._world.at(REST_NS, partial(self._judge, node, node.life))

    def _judge(self, node: SimNode, life: int) -> None:
        if node.up and node.life == life and node.running.status().stepping:
            self._broken(f"old-disk-runs: node {node.id}: somebody up remembers more than it has")
        else:
            self.refused_by_memory += 1


def _tells_more(peer: SimNode, node: NodeId, marks: dict[int, ShardMark]) -> bool:
    """The peer runs, and holds a mark of the node that lies beyond these."""
    if not peer.running.status().stepping or peer.backlog is not None:
        return False
    return any(_beyond(mark, marks[mark.shard]) for mark in _known(peer).get(node, ()))


def _known(peer: SimNode) -> Known:
    """What a node that runs remembers of the others."""
    host: Any = peer.running
    memory: Memory = getattr(host, "_parts", host).memory
    return {node: tuple(each.marks.values()) for node, each in memory._known.items()}  # noqa: SLF001


def _beyond(mark: ShardMark, own: ShardMark) -> bool:
    behind = own.term == mark.term and own.last_index < mark.last_index
    return own.term < mark.term or behind or own.commit < mark.commit


def _marks(image: SimStore, shards: int) -> dict[int, ShardMark]:
    """What the image has, shard by shard, as its node would say it."""
    marks = {shard: ShardMark(shard, 0, 0, 0) for shard in range(shards)}
    for shard in range(shards):
        stored = image.get("group", group_key(ShardId(shard)))
        if stored is None:  # before the first batch of all
            continue
        row = decode_group(stored)
        entries = image.items("log", log_key(ShardId(shard), 0), log_key(ShardId(shard + 1), 0))
        last, term = row.truncated_index, row.truncated_term
        for key, value in entries:
            last, term = int.from_bytes(key[2:], "big"), split_log_value(value)[0]
        marks[shard] = ShardMark(shard, row.term, last if term == row.term else 0, row.commit)
    return marks


def _is_behind(image: SimStore, stamp: bytes) -> bool:
    """The HSM was told of a later (term, vote), applied index or start than the disk has."""
    known = decode_stamp(stamp)
    identity = image.get("meta", META_IDENTITY)
    if identity is None or decode_identity(identity).incarnation < known.incarnation:
        return True
    for shard, stamped in enumerate(known.shards):
        stored = image.get("group", group_key(ShardId(shard)))
        if stored is None:
            return True
        row = decode_group(stored)
        changed = stamped.term == row.term and stamped.vote not in (0, row.vote)
        if row.term < stamped.term or changed or row.applied < stamped.applied:
            return True
    return False
