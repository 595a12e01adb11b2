"""The one vocabulary of faults (design section 9), for the simulator, processes and containers.

A fault is a value: it says what happens to whom, never how. A driver knows how, and refuses what
its ground cannot do (`Driver.faults`). A schedule is faults with times; as JSON it can be kept,
shrunk and played again. Every fault that lasts has its end: a schedule that ends with `Heal`
leaves a vault of which every rule, liveness included, may be demanded.
"""

# ruff: noqa: TC001, TC003 - msgspec reads the annotations at run time

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, get_args

import msgspec
from msgspec import Struct

from cluster.types import NodeId

_FIXED = {"frozen": True, "forbid_unknown_fields": True, "tag_field": "fault"}


class Kill(Struct, tag="kill", **_FIXED):
    """SIGKILL or power cut: what was not fsynced is lost."""

    node: NodeId


class Start(Struct, tag="start", **_FIXED):
    """Start a node that is down."""

    node: NodeId


class Stop(Struct, tag="stop", **_FIXED):
    """SIGTERM, as an operator stops a node: it drains, hands its leaderships over, ends with 0."""

    node: NodeId


class RestartLoop(Struct, tag="restart-loop", **_FIXED):
    """Kill and start a node `times` times, `every_ms` apart."""

    node: NodeId
    times: int
    every_ms: int


class Pause(Struct, tag="pause", **_FIXED):
    """SIGSTOP: the process stands still, its sockets stay open."""

    node: NodeId


class Resume(Struct, tag="resume", **_FIXED):
    """SIGCONT."""

    node: NodeId


class Cut(Struct, tag="cut", **_FIXED):
    """Nothing passes from `sender` to `receiver`; the other direction stays open."""

    sender: NodeId
    receiver: NodeId


class Partition(Struct, tag="partition", **_FIXED):
    """Only nodes of one side hear each other; a node may be on two sides (partial mesh).

    A member that is named on no side is on the largest (`placed`).
    """

    sides: tuple[tuple[NodeId, ...], ...]


class Flap(Struct, tag="flap", **_FIXED):
    """A node's links are cut and healed `times` times, `every_ms` apart."""

    node: NodeId
    times: int
    every_ms: int


class ResetLinks(Struct, tag="reset-links", **_FIXED):
    """Every connection of a node is reset at once; it may reconnect."""

    node: NodeId


class Unplug(Struct, tag="unplug", **_FIXED):
    """A node's way to the other nodes is gone, interface and address; clients still reach it."""

    node: NodeId


class Plug(Struct, tag="plug", **_FIXED):
    """The interface is back, with the same address."""

    node: NodeId


class BadWire(Struct, tag="bad-wire", **_FIXED):
    """From now on frames are lost, doubled or overtaken with these chances (0 to 1)."""

    loss: float
    double: float
    reorder: float


class SlowWire(Struct, tag="slow-wire", **_FIXED):
    """One-way delay of every link between these bounds."""

    low_ms: int
    high_ms: int


class DiskSlow(Struct, tag="disk-slow", **_FIXED):
    """Each fsync takes this long."""

    node: NodeId
    ms: int


class DiskFull(Struct, tag="disk-full", **_FIXED):
    """No space is left."""

    node: NodeId


class DiskFreed(Struct, tag="disk-freed", **_FIXED):
    """Space is back."""

    node: NodeId


class DiskFails(Struct, tag="disk-fails", **_FIXED):
    """The next fsync or write returns EIO."""

    node: NodeId


class TornWrite(Struct, tag="torn-write", **_FIXED):
    """Power cut in the midst of a batch: it is there whole or not at all."""

    node: NodeId


class DiskCopied(Struct, tag="disk-copied", **_FIXED):
    """An image of the data directory is taken, for `DiskRestored`."""

    node: NodeId


class DiskRestored(Struct, tag="disk-restored", **_FIXED):
    """The node is killed and comes back with its old image: it must be refused."""

    node: NodeId


class ByteFlipped(Struct, tag="byte-flipped", **_FIXED):
    """The node is killed and one byte of its store is changed, chosen by `where` (0 to 1)."""

    node: NodeId
    where: float


class HsmGone(Struct, tag="hsm-gone", **_FIXED):
    """Token removed, session lost."""

    node: NodeId


class HsmBack(Struct, tag="hsm-back", **_FIXED):
    """The token is there again."""

    node: NodeId


class HsmSlow(Struct, tag="hsm-slow", **_FIXED):
    """Each of its operations takes this long."""

    node: NodeId
    ms: int


class ClockJump(Struct, tag="clock-jump", **_FIXED):
    """The node's clock moves at once (simulator: monotonic forwards; processes: wall clock)."""

    node: NodeId
    ms: int


class ClockDrift(Struct, tag="clock-drift", **_FIXED):
    """The node's clock runs this much faster (1.5) or slower (0.5)."""

    node: NodeId
    rate: float


class ClockStrobe(Struct, tag="clock-strobe", **_FIXED):
    """The node's clock jumps there and back `times` times, `every_ms` apart."""

    node: NodeId
    ms: int
    times: int
    every_ms: int


class Replace(Struct, tag="replace", **_FIXED):
    """The node is lost for good; a new one takes its seat under the next free id."""

    node: NodeId


class Drain(Struct, tag="drain", **_FIXED):
    """An operator has the node hand over what it leads, lead nothing and turn requests away."""

    node: NodeId


class Undrain(Struct, tag="undrain", **_FIXED):
    """It serves and may lead again."""

    node: NodeId


class Transfer(Struct, tag="transfer", **_FIXED):
    """An operator wants the node to lead a shard; whoever leads it is asked. A wish, not a fact."""

    node: NodeId
    shard: int
    """Counted on from 0 again where the vault has fewer."""


class Heal(Struct, tag="heal", **_FIXED):
    """Every fault ends; nodes that are down start again."""


Fault = (
    Kill
    | Start
    | Stop
    | RestartLoop
    | Pause
    | Resume
    | Cut
    | Partition
    | Flap
    | ResetLinks
    | Unplug
    | Plug
    | BadWire
    | SlowWire
    | DiskSlow
    | DiskFull
    | DiskFreed
    | DiskFails
    | TornWrite
    | DiskCopied
    | DiskRestored
    | ByteFlipped
    | HsmGone
    | HsmBack
    | HsmSlow
    | ClockJump
    | ClockDrift
    | ClockStrobe
    | Replace
    | Drain
    | Undrain
    | Transfer
    | Heal
)
KINDS: Final[tuple[type[Struct], ...]] = get_args(Fault)
NOT_SIMULATED: Final[tuple[type[Struct], ...]] = (Stop, Unplug, Plug)
"""Nothing that the simulated code could tell from others: a drain is the work of `node`, which is
not in the simulator, and a wire there has no interface; it has kills and partitions for them."""


class Planned(Struct, frozen=True, forbid_unknown_fields=True):
    """One fault of a schedule."""

    at_ms: int
    """Since the load began."""
    fault: Fault


Schedule = tuple[Planned, ...]


def placed(sides: Iterable[Iterable[int]], members: Iterable[int]) -> tuple[frozenset[int], ...]:
    """The sides of a partition as they fall to the members of now, the largest first.

    Who is on none of them is on the largest: a schedule is drawn before its replacements happen,
    so that a newcomer, or who is still there in its place, may be missing in it.
    """
    named = sorted(map(frozenset, sides), key=len, reverse=True)
    everybody = frozenset(members)
    missing = everybody.difference(*named)
    return tuple((side | missing if place == 0 else side) for place, side in enumerate(named))


def kind(fault: Fault) -> str:
    """The fault's name, as reports and schedules write it."""
    tag = fault.__struct_config__.tag
    return str(tag)


def to_json(schedule: Schedule) -> bytes:
    """A schedule as one JSON document."""
    return msgspec.json.encode(schedule)


def from_json(data: bytes) -> Schedule:
    """Read what `to_json` wrote.

    Raises:
        msgspec.DecodeError: not a schedule of this vocabulary.

    """
    return msgspec.json.decode(data, type=Schedule)
