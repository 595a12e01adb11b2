"""Cuts between containers: packets are dropped in the network namespace of who would receive them.

A rule lives and dies with its container's namespace, so that nothing is left on the machine when a
run is killed, and a container that starts again must be told anew (`again`). A dropped packet is
silence, not a reset: TCP sends again and again, as it does across a broken route. With one
direction cut, what the other one carries arrives, but its acknowledgements do not, so that TCP
falls silent after some segments: one-way cuts are harder here than in the proxies of processes.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.containers import SEATS, Stack, run
from chaos.driver import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable

PEER_PORT: Final = 7443
"""listen.peer of deploy/config/node.toml."""
DOWN: Final = "0"
"""What Docker says the process id of a container is that does not run."""
PROGRAMS: Final = {"nsenter": "util-linux", "iptables-restore": "iptables", "ss": "iproute2"}
"""Each with its package in Debian."""
DROPPED: Final = re.compile(r"^\[(\d+):\d+\] -A INPUT .* -j DROP$", re.MULTILINE)
PAIRS: Final = frozenset((one, other) for one in SEATS for other in SEATS if one != other)


def why_no_cut() -> str | None:
    """The reason why no rule can be set here; None when it can."""
    if os.geteuid() != 0:
        return "a rule in the containers' network namespaces needs root"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed: on Debian, apt-get install {package}"
    if not os.environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return "Docker's daemon is not on this machine ($DOCKER_HOST)"
    return None


class Wires:
    """Who hears whom on the mesh."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._cut: frozenset[tuple[int, int]] = frozenset()
        """(sender, receiver)."""
        self.dropped = 0
        """Packets that rules have dropped, as their counters said when they were replaced."""
        self._turn = asyncio.Lock()

    async def cut(self, sender: int, receiver: int) -> None:
        """Nothing passes from one to the other."""
        await self._become(self._cut | {(sender, receiver)})

    async def sides(self, sides: Iterable[frozenset[int]]) -> int:
        """Who shares a side hears each other and nobody else; returns the directions cut."""
        groups = tuple(sides)
        cut = {
            (one, other)
            for one, other in PAIRS
            if not any(one in side and other in side for side in groups)
        }
        await self._become(frozenset(cut))
        return len(cut)

    async def isolate(self, seat: int, *, cut: bool) -> None:
        """Cut all of a node's directions, or open them."""
        its = {pair for pair in PAIRS if seat in pair}
        await self._become(self._cut | its if cut else self._cut - its)

    async def whole(self) -> None:
        """Everybody hears everybody."""
        await self._become(frozenset())

    async def _become(self, cut: frozenset[tuple[int, int]]) -> None:
        changed = {receiver for _, receiver in self._cut ^ cut}
        self._cut = cut
        for receiver in sorted(changed):
            await self.again(receiver)

    async def again(self, receiver: int) -> None:
        """Set a running container's rules to what they are to be; none is needed when it is down.

        Raises:
            DriverError: the kernel said no.

        """
        async with self._turn:  # else the older of two writers could be the last
            pid = await self._stack.inspect(receiver, ".State.Pid")
            senders = sorted(sender for sender, other in self._cut if other == receiver)
            rules = [f"-A INPUT -s {Stack.address(sender)} -j DROP" for sender in senders]
            text = "\n".join(("*filter", "-F INPUT", *rules, "COMMIT", ""))
            try:
                if pid != DOWN:
                    told = await run([*_inside(pid), "iptables-save", "--counters"])
                    self.dropped += sum(map(int, DROPPED.findall(told)))
                    await run([*_inside(pid), "iptables-restore", "--noflush"], text.encode())
            except DriverError:
                if _alive(pid):
                    raise
                # It ended just now, and its namespace with it: whoever starts it calls this again.

    async def reset(self, seat: int) -> int:
        """Reset every connection with another node now; returns how many there were.

        Raises:
            DriverError: the node is down, or the kernel said no.

        """
        pid = await self._stack.inspect(seat, ".State.Pid")
        if pid == DOWN:
            raise DriverError(f"node {seat} is down: it has no connections")
        ours = f"( sport = :{PEER_PORT} or dport = :{PEER_PORT} )"
        argv = [*_inside(pid), "ss", "-K", "-H", "-t", "state", "established", ours]
        return len((await run(argv)).splitlines())


def _alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def _inside(pid: str) -> tuple[str, ...]:
    return ("nsenter", "--target", pid, "--net")
