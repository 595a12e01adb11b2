"""What changed between two looks at a node, as events (pure).

The watch looks once a second and has no memory of its own: whatever came and went in between is
told where a counter shows it (leaders, links), so a flap is not lost. What is known to the moment,
the HSM and the operator's wishes, is told where it happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cluster.room import Room

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cluster.api import GroupReport, HostStatus
    from cluster.links import LinkReport
    from node.events import Kind, Level
    from node.health import Check
    from node.listener import ListenerReport


class Sight(NamedTuple):
    """One look."""

    status: HostStatus
    checks: tuple[Check, ...]
    links: tuple[LinkReport, ...]
    alarms: tuple[str, ...]
    """The host's and the node's own."""
    listeners: tuple[ListenerReport, ...] = ()


class Told(NamedTuple):
    """What is to be told; see `Events.tell`."""

    kind: Kind
    text: str
    level: Level = "info"
    shard: int | None = None
    peer: int | None = None


def transitions(before: Sight | None, now: Sight) -> Iterator[Told]:
    """Everything that is different; of the first look what is not as it should be."""
    yield from _readiness(before, now)
    yield from _links(before, now.links)
    yield from _leaders(before, now.status)
    yield from _disk(before, now.status)
    yield from _listeners(() if before is None else before.listeners, now.listeners)
    yield from _alarms(() if before is None else before.alarms, now.alarms)
    if before is not None:
        yield from _counted(before.status, now.status)
    agreed = before is None or before.status.hash_agreement
    if agreed and not now.status.hash_agreement:
        yield Told("hash", "the state hash of this node differs from its peers'", "error")
    elif not agreed and now.status.hash_agreement:
        yield Told("hash", "the state hash of this node agrees with its peers' again")


def _readiness(before: Sight | None, now: Sight) -> Iterator[Told]:
    failing = [f"{check.name} ({check.detail})" for check in now.checks if not check.ok]
    was = None if before is None else all(check.ok for check in before.checks)
    if failing and was is not False:
        yield Told("not-ready", f"not ready: {', '.join(failing)}", "warning")
    elif not failing and was is not True:
        yield Told("ready", "ready: every check passes")


def _leaders(before: Sight | None, status: HostStatus) -> Iterator[Told]:
    known: Mapping[int, GroupReport] = {}
    if before is not None:
        known = {group.shard: group for group in before.status.groups}
    for group in status.groups:
        old = known.get(group.shard)
        old_leader = 0 if old is None else old.leader
        changes = group.leader_changes - (0 if old is None else old.leader_changes)
        if group.leader != old_leader:
            if not group.leader:
                text = f"no leader known, after node {old_leader}"
                yield Told("leader", text, "warning", shard=group.shard)
                continue
            who = "this node" if group.leader == status.node_id else f"node {group.leader}"
            after = f", after node {old_leader}" if old_leader else ""
            yield Told("leader", f"{who} leads{after}, term {group.term}", shard=group.shard)
        elif group.leader and changes > 0:
            text = f"node {group.leader} leads again, term {group.term}"
            yield Told("leader", text, shard=group.shard)


def _links(before: Sight | None, links: Sequence[LinkReport]) -> Iterator[Told]:
    known = {} if before is None else {link.peer: link for link in before.links}
    for link in links:
        old = known.get(link.peer)
        was_up = old is not None and old.connected
        came = link.connects - (0 if old is None else old.connects)
        first = link.failures > 0 and (old is None or old.failures == 0)
        if link.connected and not was_up:
            yield Told("peer-up", f"the link to node {link.peer} is up", peer=link.peer)
        elif link.connected and came > 0:
            text = f"the link to node {link.peer} was lost and is up again"
            yield Told("peer-up", text, "warning", peer=link.peer)
        elif not link.connected and (was_up or came > 0 or first):
            text = f"the link to node {link.peer} is down: {link.last_error or 'lost'}"
            yield Told("peer-down", text, "warning", peer=link.peer)
    for peer in sorted(known.keys() - {link.peer for link in links}):
        yield Told("peer-down", f"node {peer} is no member any more", peer=peer)


def _disk(before: Sight | None, status: HostStatus) -> Iterator[Told]:
    room = Room.ENOUGH if before is None else before.status.room
    if status.room is not room:
        text = {
            Room.ENOUGH: "the disk has room again",
            Room.SHORT: "the disk is short of space: this node steps aside",
            Room.FULL: "the disk is full: this node takes nothing in",
        }[status.room]
        yield Told("room", text, "info" if status.room is Room.ENOUGH else "warning")
    was_slow = before is not None and before.status.slow_disk
    if status.slow_disk and not was_slow:
        yield Told("slow-disk", "the disk is slow: this node steps aside", "warning")
    elif was_slow and not status.slow_disk:
        yield Told("slow-disk", "the disk is fast enough again")


def _listeners(before: Sequence[ListenerReport], now: Sequence[ListenerReport]) -> Iterator[Told]:
    were = {each.name for each in before if each.crowded}
    for each in now:
        if each.crowded and each.name not in were:
            text = f"the {each.name} listener is full ({each.most} connections): whoever keeps it"
            yield Told("connections", f"{text} waiting longest is closed", "warning")
        elif not each.crowded and each.name in were:
            yield Told("connections", f"the {each.name} listener has had room for a minute")


def _alarms(before: Sequence[str], now: Sequence[str]) -> Iterator[Told]:
    for text in now:
        if text not in before:
            yield Told("alarm", text, "error")
    for text in before:
        if text not in now:
            yield Told("alarm-cleared", text)


def _counted(before: HostStatus, now: HostStatus) -> Iterator[Told]:
    locked = now.counters.lockouts - before.counters.lockouts
    if locked > 0:
        what = "1 account was" if locked == 1 else f"{locked} accounts were"
        yield Told("lockouts", f"{what} locked", "warning")
    for field, text in (
        ("snapshots_built", "built for a node that is far behind"),
        ("snapshots_installed", "installed: this node was far behind"),
    ):
        count = getattr(now.counters, field) - getattr(before.counters, field)
        if count > 0:
            yield Told("snapshot", f"{count} {text}")
    failed = now.counters.snapshots_failed - before.counters.snapshots_failed
    if failed > 0:
        yield Told("snapshot", f"{failed} failed; tried again", "warning")
