"""What the system tests ask of a vault after the storm."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from chaos import witness
from chaos.expectation import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Vault5

    from chaos.client import Client


async def judge(vault: Vault5, clients: Sequence[Client]) -> None:
    """Everybody's count is the same at all nodes, every key is there, and the witnesses agree."""
    expectations = [client.expect for client in clients]
    for client in clients:
        looks = [await client.observe(node) for node in vault.ids]
        told = {(look["state"], look["era"], look["guesses_remaining"]) for look in looks}
        assert len(told) == 1, (client.account, told)
    testimony = await asyncio.to_thread(witness.read, vault.witnesses)
    assert testimony.given
    assert verdict(expectations, testimony, clients[0].vault.limit) == []
    for client in clients:
        await client.login()
    assert [each.broken for each in expectations] == [[] for _ in clients]


def metric(vault: Vault5, node: int, name: str, shard: int | None = None) -> float | None:
    """One number of a node's /metrics; None when the node does not answer."""
    try:
        url = f"{vault.ops_url(node)}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback http
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    label = "" if shard is None else rf'\{{shard="{shard}"\}}'
    found = re.search(rf"^{name}{label} (\S+)$", text, re.MULTILINE)
    assert found, f"node {node} has no metric {name}"
    return float(found.group(1))


def leader(vault: Vault5, shard: int) -> int | None:
    """The node that leads the shard and says so, if one does."""
    led = [n for n in vault.ids if metric(vault, n, "quorumvault_raft_leader", shard) == 1.0]
    terms = {node: metric(vault, node, "quorumvault_raft_term", shard) or 0.0 for node in led}
    return max(terms, key=lambda node: terms[node], default=None)
