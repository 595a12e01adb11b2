"""Why a cluster is not well, in lines for people: the heaviest first, each thing said once (pure).

Part of `node.verdict`: an empty list is what "healthy" means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.foreign import cut
from node.verdict_links import Silent

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from node.report import StatusReport
    from node.verdict import ShardLine
    from node.verdict_links import Links, Place

TOLD_APART: Final = frozenset({"hsm", "serving", "disk", "state-hash"})
"""Checks whose failure has a line of its own."""
FOLLOWS: Final = frozenset({"raft", "quorum", "share-givers"})
"""Checks that fail of themselves where too few others are reached."""
MAX_ALARMS: Final = 4
"""Of one node; the others are counted."""
MAX_LINE: Final = 200


def reasons(
    places: Sequence[Place],
    answers: Mapping[int, StatusReport | Silent],
    shards: Sequence[ShardLine],
    links: Links,
) -> list[str]:
    """All reasons; at most MAX_LINE characters each."""
    said: list[tuple[Place, StatusReport]] = []
    lines: list[str] = []
    for place in places:
        answer = answers.get(place.node)
        if answer is None:
            lines.append(f"{place.name} was not asked")
        elif isinstance(answer, Silent):
            lines.append(f"{place.name} does not answer: {answer.reason}")
        else:
            said.append((place, answer))
    few = {place.node for place, _ in said if 1 + links.heard(place.node) < len(places) // 2 + 1}
    lines += [*_of_shards(shards), *_of_links(said, links, len(places), few)]
    orphans = {line.shard for line in shards if line.leader is None}
    newest = max((report.revision for _, report in said), default=0)
    for place, report in said:
        lines += [f"{place.name} {line}" for line in _of_seat(place, report, shards)]
        told = TOLD_APART | (FOLLOWS if place.node in few else frozenset())
        unled = {group.shard for group in report.groups if not group.leader}
        if unled and unled <= orphans:  # it is said of the shards already
            told |= {"quorum"}
        lines += [f"{place.name}{line}" for line in _of_node(report, newest, told)]
    return [cut(line, MAX_LINE) for line in lines]


def _of_shards(shards: Sequence[ShardLine]) -> Iterator[str]:
    leaderless = [line.shard for line in shards if line.leader is None]
    if leaderless:
        yield f"no leader for shard {ranges(leaderless)}"
    weak = [line.shard for line in shards if line.leader is not None and not line.served]
    if weak:
        yield f"too few voters with an HSM are heard by the leader of shard {ranges(weak)}"
    odd = [line.shard for line in shards if line.state_hash == "differs"]
    if odd:
        yield f"state hashes differ in shard {ranges(odd)}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers for people: 0-3, 7."""
    ends: list[list[int]] = []
    for number in numbers:
        if ends and ends[-1][1] == number - 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ends)


def _of_links(
    said: Sequence[tuple[Place, StatusReport]], links: Links, members: int, few: Container[int]
) -> Iterator[str]:
    """Whoever reaches too few others is named; else each broken link."""
    for place, _ in said:
        if place.node in few:
            heard = links.heard(place.node)
            yield f"{place.name} reaches only {heard} of {members - 1} other nodes"
    whole = [place for place, _ in said if place.node not in few]
    for number, one in enumerate(whole):
        for other in whole[number + 1 :]:
            there, back = links.down(one.node, other.node), links.down(other.node, one.node)
            if there and back:
                yield f"no link between {one.name} and {other.name}: {there}"
            elif there:
                yield f"no link from {one.name} to {other.name}: {there}"
            elif back:
                yield f"no link from {other.name} to {one.name}: {back}"


def _of_seat(place: Place, report: StatusReport, shards: Sequence[ShardLine]) -> Iterator[str]:
    """In which shards it is no voter, or no share-giver, for good until something is done."""
    mute = [s.shard for s in shards if s.leader is not None and place.node not in s.voters]
    if mute:
        yield f"has no vote in shard {ranges(mute)}"
    young = [g.shard for g in report.groups if not g.ledger_complete and g.shard not in mute]
    if young:
        yield f"gives no shares yet in shard {ranges(sorted(young))}: its ledger is not complete"


def _of_node(report: StatusReport, newest: int, told: Container[str]) -> Iterator[str]:
    """What is wrong with a node by its own word; its name is put before."""
    if not report.hsm.healthy:
        reason = report.hsm.reason
        yield f": HSM away{f' ({reason})' if reason else ''}"
    if report.draining:
        serving = report.checks.get("serving")
        yield f": {serving.detail if serving else 'drained'}"
    disk = report.checks.get("disk")
    if report.room != "enough":
        yield f": its disk is {'full' if report.room == 'full' else 'short of space'}"
    elif disk is not None and not disk.ok:
        yield f": its disk is {disk.detail}"
    if report.hash_agreement == "differs":
        yield ": its state hash differs from its peers'"
    others = [
        f"{name} ({check.detail})"
        for name, check in report.checks.items()
        if not check.ok and name not in told
    ]
    if others:
        yield f" is not ready: {', '.join(others)}"
    if report.revision < newest:
        yield f" follows revision {report.revision} of the cluster file, others {newest}"
    for alarm in report.alarms[-MAX_ALARMS:]:
        yield f": alarm: {alarm}"
    if len(report.alarms) > MAX_ALARMS:
        yield f": {len(report.alarms) - MAX_ALARMS} more alarms"
