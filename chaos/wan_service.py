"""The simulated WAN as a process of its own, for nodes that live in containers.

`python -m chaos.wan_service --profile europe --net 172.30` listens inside the mesh and carries
every peer link from node A to node B with half the round-trip time of their data centers in each
direction (wan.py). The node's `[peers]` send its links here; clients and operators go straight to
the nodes. Where a kernel has netem, that would do; these proxies need no right and no module.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from itertools import permutations
from typing import Final

from chaos.wan import PROFILES, Proxy, Wan, round_trip_ms

SEATS: Final = range(1, 6)
PEER_PORT: Final = 7443
FIRST_PORT: Final = 7000
"""The link from node A to node B comes in at port 7000 + 10·A + B."""


def port(source: int, target: int) -> int:
    """Where the link from `source` to `target` comes in."""
    return FIRST_PORT + 10 * source + target


async def serve(profile: str, net: str) -> None:
    """Carry all links until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    wan = Wan(profile)
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(wan.close)
        for source, target in permutations(SEATS, 2):
            delay_s = round_trip_ms(profile, source, target) / 2000
            proxy = Proxy(wan, source, target, f"{net}.0.1{target}", PEER_PORT, delay_s, loop)
            await proxy.listen("0.0.0.0", port(source, target))  # noqa: S104 - the mesh's own network
            wan.proxies[source, target] = proxy
        sys.stderr.write(f"wan: {len(wan.proxies)} links with the round trips of {profile!r}\n")
        await stopping.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="chaos.wan_service", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", choices=[each for each in PROFILES if each != "none"])
    parser.add_argument("--net", help="first two numbers of the mesh, such as 172.30")
    given = parser.parse_args()
    ipaddress.IPv4Address(f"{given.net}.0.0")
    asyncio.run(serve(given.profile, given.net))


if __name__ == "__main__":
    main()
