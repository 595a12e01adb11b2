"""The seam between chaos and its ground: who can do which fault to a running vault.

Above this line (plan, crowd, run, verdict, report) nobody knows a process, a container or a mount;
below it nobody knows a seed or a rule. A ground names the kinds of faults that it can do; one that
it cannot do is refused by name, before anything starts, so that no run claims what never happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from chaos.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from chaos.faults import Fault, Schedule


class FaultRefusedError(Exception):
    """This ground cannot do that fault; the message names it and says why."""


class DriverError(Exception):
    """The ground itself failed (not the vault on it); one line."""


class Death(Struct, frozen=True):
    """A node ended without our having killed it."""

    t_ns: int
    """Monotonic, as in the history."""
    node: int
    exit_code: int
    line: str
    """The last line of its log."""
    excused_by: str
    """The fault that explains it; empty for none: then it is a violation."""


class Driver(Protocol):
    """One vault on one ground. Every method belongs to the event loop that started it."""

    name: str
    impossible: Mapping[str, str]
    """Kinds (by name) that this ground cannot do now, each with the reason; the rest it can."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """Ids of the members, running or not."""
        ...

    @property
    def connection_file(self) -> Path:
        """The vault's connection file (design section 8), kept current."""
        ...

    @property
    def witnesses(self) -> Sequence[Path]:
        """Witness files of all nodes that ever were."""
        ...

    @property
    def logs(self) -> Mapping[int, Path]:
        """Each node's log, also of nodes that were replaced."""
        ...

    @property
    def deaths(self) -> Sequence[Death]:
        """Who ended by itself so far."""
        ...

    async def start(self) -> None:
        """Bring the vault up and wait until every node is ready.

        Raises:
            DriverError: it does not come up.

        """
        ...

    async def ready(self) -> frozenset[int]:
        """The members that say now that they can serve, and that vote in every shard."""
        ...

    async def apply(self, fault: Fault) -> str:
        """Do the fault and return what was seen to happen, in a few words.

        A fault that lasts a while of itself (a restart loop) returns when it is over.

        Raises:
            FaultRefusedError: not on this ground.
            DriverError: the ground did not obey.

        """
        ...

    async def heal(self, timeout_s: float) -> None:
        """End every fault, start who is down, and wait until every member is ready.

        Raises:
            DriverError: somebody is not ready in time; the message says who and why.

        """
        ...

    async def stop(self) -> None:
        """End everything that was started here, mounts included."""
        ...


def tag(kind: type[Struct]) -> str:
    """A kind of fault by the name that schedules use."""
    return str(kind.__struct_config__.tag)


def possible(driver: Driver) -> frozenset[str]:
    """Names of the kinds that the driver's ground can do."""
    return frozenset(map(tag, KINDS)) - set(driver.impossible)


def refuse_unless_possible(driver: Driver, schedule: Schedule) -> None:
    """Look at a whole schedule before anything starts.

    Raises:
        FaultRefusedError: names each kind in it that this ground cannot do.

    """
    wanted = {tag(type(planned.fault)) for planned in schedule}
    refused = refusals(driver, wanted)
    if refused:
        raise FaultRefusedError("; ".join(refused))


def refusals(driver: Driver, kinds: Iterable[str]) -> list[str]:
    """A sentence for each of these kinds that the ground cannot do."""
    return [
        f"driver {driver.name!r} cannot do {kind}: {driver.impossible[kind]}"
        for kind in sorted(kinds)
        if kind in driver.impossible
    ]
