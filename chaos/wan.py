"""A simulated WAN: one TCP proxy per ordered pair of nodes, with delay, cuts and resets.

The peer link from node A to node B runs through proxy (A, B); bytes are held for half the
round-trip time in each direction and stay in order. A cut holds bytes instead of dropping them,
as a network that loses packets under TCP does: after healing, what was held arrives late, unless
an end gave up meanwhile. Cuts are per direction between nodes, so a one-way cut holds the bytes
that flow from A to B on *both* proxies of the pair and nothing else.

Only loopback addresses are listened on and dialled, but for wan_service.py: in a container it
serves the nodes of its own mesh.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""Per direction of one connection; above it the source is not read (TCP back-pressure)."""

DATA_CENTERS: Final = {
    "lan": ("rack-a", "rack-b", "rack-c", "rack-d", "rack-e"),
    "europe": ("frankfurt", "amsterdam", "paris", "dublin", "stockholm"),
    "world": ("virginia", "oregon", "frankfurt", "singapore", "sydney"),
}

# Round-trip times in milliseconds between data centers 1…5 of each profile, from public
# cloud latency tables, rounded; the range of each profile is that of the design, section 8.
_RTT_MS: Final[dict[str, tuple[tuple[float, ...], ...]]] = {
    "lan": ((0, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, 1, 0, 1, 1), (1, 1, 1, 0, 1), (1, 1, 1, 1, 0)),
    "europe": (
        (0, 10, 12, 26, 24),
        (10, 0, 11, 18, 25),
        (12, 11, 0, 20, 32),
        (26, 18, 20, 0, 40),
        (24, 25, 32, 40, 0),
    ),
    "world": (
        (0, 100, 100, 220, 200),
        (100, 0, 140, 170, 140),
        (100, 140, 0, 160, 300),
        (220, 170, 160, 0, 100),
        (200, 140, 300, 100, 0),
    ),
}
PROFILES: Final = ("lan", "europe", "world", "none")


def round_trip_ms(profile: str, seat: int, other: int) -> float:
    """Round-trip time between two seats (1…5) in a profile, in milliseconds."""
    return _RTT_MS[profile][seat - 1][other - 1]


@dataclass(eq=False)
class _Flow(asyncio.Protocol):
    """One direction of one connection: bytes in from our transport, out of the peer's, later."""

    proxy: Proxy
    sender: int
    receiver: int
    twin: _Flow | None = None
    transport: asyncio.Transport | None = None
    held: deque[tuple[float, bytes]] = field(default_factory=deque)
    held_bytes: int = 0
    timer: asyncio.TimerHandle | None = None
    ended: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a TCP transport was expected")
        self.transport = transport
        self.proxy.flows.add(self)
        if self.twin is None:  # the accepted side: dial the other one, not reading until then
            transport.pause_reading()
            self.proxy.dial(self)
        else:
            self.twin.release()

    def data_received(self, data: bytes) -> None:
        if self.proxy.wan.tap is not None:
            self.proxy.wan.tap(data)
        self.held.append((self.proxy.loop.time() + self.proxy.delay_s, data))
        self.held_bytes += len(data)
        if self.held_bytes > MAX_HELD_BYTES and self.transport is not None:
            self.transport.pause_reading()
        self.release()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.ended = True
        self.proxy.flows.discard(self)
        if self.timer is not None and not self.held:
            self.timer.cancel()
        self.release()

    def release(self) -> None:
        """Write all that is due to the other side, unless this direction is cut."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        target = self.twin.transport if self.twin is not None else None
        if target is None or self.proxy.wan.is_cut(self.sender, self.receiver):
            return
        now = self.proxy.loop.time()
        while self.held and self.held[0][0] <= now:
            _, data = self.held.popleft()
            self.held_bytes -= len(data)
            if not target.is_closing():
                target.write(data)
        if self.held:
            self.timer = self.proxy.loop.call_at(self.held[0][0], self.release)
        elif self.ended:
            target.close()
        if (
            not self.ended
            and self.transport is not None
            and not self.transport.is_closing()
            and self.held_bytes <= MAX_HELD_BYTES // 2
        ):
            self.transport.resume_reading()

    def reset(self) -> None:
        """End the connection at once, as a reset would."""
        self.held.clear()
        if self.timer is not None:
            self.timer.cancel()
        if self.transport is not None:
            self.transport.abort()


@dataclass(eq=False)
class Proxy:
    """The way from one node to another: a loopback port that leads to the target's peer port."""

    wan: Wan
    source: int
    target: int
    target_host: str
    target_port: int
    delay_s: float
    loop: asyncio.AbstractEventLoop
    flows: set[_Flow] = field(default_factory=set)
    server: asyncio.Server | None = None
    port: int = 0
    usual_s: float = field(init=False)
    _dials: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.usual_s = self.delay_s

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen, by default on a free loopback port; `port` tells which."""
        self.server = await self.loop.create_server(
            lambda: _Flow(self, self.source, self.target), host, port
        )
        self.port = self.server.sockets[0].getsockname()[1]

    def dial(self, accepted: _Flow) -> None:
        """Connect an accepted connection on to the target."""
        task = self.loop.create_task(self._dial(accepted))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, accepted: _Flow) -> None:
        # The handshake crosses the WAN too: one round trip, and not at all while cut.
        await asyncio.sleep(2 * self.delay_s)
        await self.wan.until_open(self.source, self.target)
        onward = _Flow(self, self.target, self.source, twin=accepted)
        accepted.twin = onward
        try:
            await self.loop.create_connection(lambda: onward, self.target_host, self.target_port)
        except OSError:
            accepted.reset()
            return
        if accepted.transport is not None and not accepted.transport.is_closing():
            accepted.transport.resume_reading()

    def reset(self) -> None:
        """Reset every connection that runs through here."""
        for flow in list(self.flows):
            flow.reset()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        for task in list(self._dials):
            task.cancel()
        self.reset()
        if self.server is not None:
            self.server.close()


class Wan:
    """All proxies of one cluster, and the faults that can be laid on them."""

    def __init__(self, profile: str) -> None:
        """`profile` is one of lan, europe, world (design section 8)."""
        if profile not in _RTT_MS:
            raise ValueError(f"unknown WAN profile {profile!r}: use one of {', '.join(_RTT_MS)}")
        self.profile = profile
        self.proxies: dict[tuple[int, int], Proxy] = {}
        self.tap: Callable[[bytes], None] | None = None
        """Sees every byte that passes, for checks of what is on the wire."""
        self._cuts: set[tuple[int, int]] = set()
        self._changed = asyncio.Event()

    async def start(self, peers: Mapping[int, tuple[int, str, int]]) -> None:
        """Open one proxy per ordered pair; `peers` maps node to (seat, host, peer port)."""
        loop = asyncio.get_running_loop()
        for source, target in permutations(peers, 2):
            seat, host, port = peers[target]
            if not ipaddress.ip_address(host).is_loopback:
                raise ValueError(f"node {target} at {host}: the simulated WAN stays on loopback")
            delay_s = round_trip_ms(self.profile, peers[source][0], seat) / 2000
            proxy = Proxy(self, source, target, host, port, delay_s, loop)
            await proxy.listen()
            self.proxies[source, target] = proxy

    def address(self, source: int, target: int) -> str:
        """Where `source` dials to reach `target`, as host:port."""
        return f"127.0.0.1:{self.proxies[source, target].port}"

    def succeed(self, old: int, new: int) -> None:
        """`new` has the place and the peer address of `old`: the lines are the same."""
        for pair, proxy in list(self.proxies.items()):
            if old in pair:
                del self.proxies[pair]
                proxy.source, proxy.target = (new if each == old else each for each in pair)
                self.proxies[proxy.source, proxy.target] = proxy
        self._cuts = {pair for pair in self._cuts if old not in pair}
        self._let_go()

    def is_cut(self, sender: int, receiver: int) -> bool:
        """True while bytes from `sender` to `receiver` are held."""
        return (sender, receiver) in self._cuts

    async def until_open(self, source: int, target: int) -> None:
        """Wait until both directions of a pair are open (a handshake needs both)."""
        while self.is_cut(source, target) or self.is_cut(target, source):
            changed = self._changed
            await changed.wait()

    def cut(self, sender: int, receiver: int) -> None:
        """Hold everything that flows from `sender` to `receiver`."""
        self._cuts.add((sender, receiver))

    def isolate(self, node: int) -> None:
        """Cut a node from all others, both ways."""
        for source, target in self.proxies:
            if node in (source, target):
                self._cuts.add((source, target))

    def open(self, sender: int, receiver: int) -> None:
        """End the cut from `sender` to `receiver`, if there is one; held bytes flow again."""
        if (sender, receiver) in self._cuts:
            self._cuts.discard((sender, receiver))
            self._let_go()

    def slow(self, low_ms: float, high_ms: float) -> None:
        """Give every pair its own one-way delay between these bounds, by turns (no randomness)."""
        last = max(len(self.proxies) - 1, 1)
        for number, proxy in enumerate(self.proxies.values()):
            proxy.delay_s = (low_ms + (high_ms - low_ms) * (number * 7 % (last + 1)) / last) / 1000

    def usual(self) -> None:
        """Bring the profile's own delays back."""
        for proxy in self.proxies.values():
            proxy.delay_s = proxy.usual_s

    def heal(self) -> None:
        """Open every cut; held bytes flow again."""
        self._cuts.clear()
        self._let_go()

    def _let_go(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for proxy in self.proxies.values():
            for flow in list(proxy.flows):
                flow.release()

    def reset(self, node: int) -> int:
        """Reset every connection of a node; returns how many."""
        ways = [proxy for pair, proxy in self.proxies.items() if node in pair]
        # Each connection has two directions.
        count = sum(len(proxy.flows) for proxy in ways) // 2
        for proxy in ways:
            proxy.reset()
        return count

    async def close(self) -> None:
        """Stop all proxies."""
        for proxy in self.proxies.values():
            await proxy.close()
