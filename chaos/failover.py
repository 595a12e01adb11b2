"""How long an account is without service when the data center that leads its shard dies.

Run as ``python -m chaos.failover --wan world --rounds 10 --dead 1``. Each round kills the leader
of one account's shard with SIGKILL (and further nodes up to `--dead`), asks a surviving node for
the record (a read behind a Barrier: a commit) until it answers, and brings the dead back. Prints
one JSON line of seconds. Everything is real but the distances.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chaos.processes import ProcessCluster
from quorumvault import AsyncVault, Unavailable
from quorumvault.cli.admin import Access, Unreachable
from quorumvault.connection import load

SETTLE_S: Final = 5.0
"""After the dead are back: leaders are where they are, links are up, snapshots are done."""
GIVE_UP_S: Final = 60.0


def _leader(statuses: dict[str, dict[str, Any] | Unreachable], shard: int) -> int:
    """The node that leads a shard by its own word, the highest term wins; 0 for none."""
    claims = [
        (group["term"], int(node))
        for node, status in statuses.items()
        if not isinstance(status, Unreachable)
        for group in status["groups"]
        if group["shard"] == shard and group["role"] == "leader"
    ]
    return max(claims)[1] if claims else 0


async def _outage_s(cluster: ProcessCluster, account: str, dead: list[int]) -> float:
    """Kill and ask the nearest survivor until it answers; seconds."""
    reach = load(cluster.connection_file)
    alive = [e for e in reach.endpoints if e.node is not None and e.node not in dead]
    async with AsyncVault(
        alive[:1],
        ca_file=reach.ca_file,
        token=lambda: reach.token(account),
        state_file=None,
        cluster_id=reach.cluster_id,
        timeout_s=1.0,
    ) as phone:
        await phone.status()  # the connection stands before the leader dies
        await cluster.kill(*dead)
        began = time.monotonic()
        while time.monotonic() - began < GIVE_UP_S:
            try:
                await phone.status()
            except Unavailable:
                continue
            return time.monotonic() - began
    raise TimeoutError(f"no answer within {GIVE_UP_S:g} s of losing nodes {dead}")


async def measure(wan: str, rounds: int, dead: int) -> dict[str, Any]:
    """Outages of one account over several rounds, in seconds."""
    outages = []
    with tempfile.TemporaryDirectory(prefix="quorumvault-failover-") as folder:
        cluster = await ProcessCluster.create(Path(folder), wan=wan, shards=1)
        try:
            await cluster.start()
            access = Access.from_connection(cluster.connection_file)
            for number in range(rounds):
                await asyncio.sleep(SETTLE_S)
                leader = _leader(await asyncio.to_thread(access.statuses), 0)
                if not leader:
                    raise TimeoutError("the cluster has no leader before the round")
                others = [node for node in cluster.nodes if node != leader]
                lost = [leader, *others[number % 4 : number % 4 + dead - 1]]
                lost += others[: dead - len(lost)]
                outages.append(await _outage_s(cluster, "failover", lost))
                sys.stderr.write(f"  round {number + 1}: {outages[-1]:.2f} s without {lost}\n")
                await cluster.start(lost)
        finally:
            await cluster.stop()
    outages.sort()
    return {
        "wan": wan,
        "dead": dead,
        "rounds": rounds,
        "min_s": round(outages[0], 2),
        "median_s": round(statistics.median(outages), 2),
        "p95_s": round(outages[min(rounds - 1, int(rounds * 0.95))], 2),
        "max_s": round(outages[-1], 2),
    }


def main(
    wan: Annotated[str, typer.Option(help="lan, europe, world or none.")] = "world",
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 10,
    dead: Annotated[int, typer.Option(min=1, max=2, help="How many nodes die at once.")] = 1,
) -> None:
    """Measure failover."""
    sys.stdout.write(json.dumps(asyncio.run(measure(wan, rounds, dead))) + "\n")


if __name__ == "__main__":
    typer.run(main)
