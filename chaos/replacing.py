"""A node of a process cluster is lost for good and replaced, by the commands that people type.

The steps are those of docs/node.md: `member replace` in the operator's directory, `hsm provision`
with three custodians' words in a fresh token directory, a fresh data directory, `node run`. What
only people can do (carry a folder to another machine) is copying here.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from chaos.processes import ProcessNode, run, softhsm_module
from cluster.cluster_file import load

if TYPE_CHECKING:
    from chaos.processes import ProcessCluster
    from cluster.cluster_file import ClusterFile

DEGRADED: Final = 4
"""Exit code of `member replace` when a node was away and has to be given the file later."""


async def replace(
    cluster: ProcessCluster, number: int, *, lost: bool = True, wait_s: float | None = 120.0
) -> int:
    """Put a new node in the seat of node `number`; returns its id.

    Args:
        cluster: the cluster; three other nodes must be up.
        number: a member. It becomes one of `cluster.replaced`.
        lost: it is killed first, and its data and its token are deleted. Else it works still, ends
            when it hears that it was replaced, and its token's keys are destroyed.
        wait_s: how long until it must be a voter of every shard with a complete ledger; None
            returns as soon as its process is started.

    Raises:
        ClusterError: a command failed; nothing more was done.

    """
    old = cluster.nodes[number]
    if lost:
        await old.end()
        shutil.rmtree(old.data_dir, ignore_errors=True)
        shutil.rmtree(old.token_dir, ignore_errors=True)
    new_id = await write_book(cluster, number)
    node = enter(cluster, number, new_id)
    if not lost:
        await _give_up_token(old)
    await settle(cluster, node)
    await cluster.spawn(new_id)
    if wait_s is not None:
        await until_voter(cluster, number, wait_s)
        await cluster.until_ready([new_id])
    return new_id


async def write_book(cluster: ProcessCluster, number: int, *options: str) -> int:
    """`quorumvault member replace NUMBER`; returns the new node's id."""
    said = await _member(cluster, "replace", str(number), "--no-wait", "-o", "json", *options)
    return int(json.loads(said)["new"])


async def sync(cluster: ProcessCluster) -> None:
    """`quorumvault member sync`: for the nodes that were away."""
    await _member(cluster, "sync")


async def until_voter(cluster: ProcessCluster, number: int, wait_s: float) -> None:
    """`quorumvault member replace NUMBER --wait`: until the new node has the seat everywhere."""
    await _member(cluster, "replace", str(number), "--wait", "--timeout", f"{wait_s:g}")


def awaited(book: ClusterFile) -> list[int]:
    """The replaced nodes whose successors are members still: they must have the seats everywhere.

    Of a successor that was itself replaced nobody waits for anything: `member replace` says so.
    """
    members = {entry.id for entry in book.nodes}
    return [gone.id for gone in book.retired if book.successor(gone.id) in members]


def enter(cluster: ProcessCluster, number: int, new_id: int) -> ProcessNode:
    """Make the new node a member of the process cluster, with its folder, in the old one's place.

    The lines of the simulated WAN stay, because the new node has the old one's address.
    """
    directory = cluster.root / "cluster"
    cluster.book = load(directory / "cluster.json")
    entry = cluster.book.node(new_id)
    node = ProcessNode(entry, cluster.root / f"node-{new_id}")
    node.folder.mkdir(mode=0o700)
    shutil.copyfile(directory / "nodes" / str(new_id) / "cluster.json", node.cluster_file)
    cluster.replaced[number] = cluster.nodes[number]
    members = (node if old.id == number else old for old in cluster.nodes.values())
    cluster.nodes = {each.id: each for each in members}
    if cluster.wan is not None:
        cluster.wan.succeed(number, new_id)
    return node


async def settle(cluster: ProcessCluster, node: ProcessNode) -> None:
    """A fresh token with three custodians' words, and everybody's configuration."""
    await cluster.provision(node, softhsm_module(), node.cluster_file)
    cluster.write_configs()
    cluster.write_connection()


async def _give_up_token(old: ProcessNode) -> None:
    """Wait until the old node has ended, as it was told, and destroy the vault's keys there."""
    if old.process is not None:
        await old.process.wait()
    argv = [
        sys.executable, "-m", "quorumvault.cli", "hsm", "destroy", "--yes",
        "--module", str(softhsm_module()), "--token-label", f"seat-{old.entry.seat}",
        "--pin-file", str(old.folder / "pin"),
    ]  # fmt: skip
    await run(argv, old.environment, f"destroying the keys of node {old.id}")


async def _member(cluster: ProcessCluster, *arguments: str) -> str:
    argv = [
        sys.executable, "-m", "quorumvault.cli", "member", *arguments,
        "--cluster", str(cluster.root / "cluster"),
    ]  # fmt: skip
    return await run(argv, dict(os.environ), " ".join(argv[2:5]), (0, DEGRADED))
