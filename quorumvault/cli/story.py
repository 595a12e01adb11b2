"""The story that `quorumvault demo` tells: one key, two lost data centers, ten wrong guesses.

Every step is real and checked: a step that does not turn out as told ends the demo with an error.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from quorumvault import (
    AsyncVault,
    Endpoint,
    Exhausted,
    VaultError,
    WrongPassword,
)
from quorumvault.cli.exits import Exit, Failure
from quorumvault.connection import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chaos.processes import ProcessCluster, ProcessNode

ACCOUNT = "alice"
PASSWORD = "correct horse battery staple"  # noqa: S105 - the demo's, shown on the screen
LIMIT = 10


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _place(node: ProcessNode) -> str:
    return f"node {node.id} ({node.entry.dc})"


@asynccontextmanager
async def _phone(cluster: ProcessCluster, *nodes: int) -> AsyncIterator[AsyncVault]:
    """A phone without any local state that knows these nodes."""
    reach = load(cluster.connection_file)
    wanted = {str(node) for node in nodes}
    endpoints: list[Endpoint] = [e for e in reach.endpoints if str(e.node) in wanted]
    async with AsyncVault(
        endpoints,
        ca_file=reach.ca_file,
        token=lambda: reach.token(ACCOUNT),
        state_file=None,
        cluster_id=reach.cluster_id,
    ) as vault:
        yield vault


def _expect(condition: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise Failure(f"the demo went wrong: {what}; please report it", Exit.UNEXPECTED)


async def tell(cluster: ProcessCluster) -> None:
    """Tell the whole story.

    Raises:
        Failure: a step did not turn out as it should.

    """
    try:
        key = await _register(cluster)
        await _restore(cluster, key)
        await _lose_two(cluster, key)
        await _guess(cluster)
    except VaultError as error:
        raise Failure(
            f"the demo went wrong: {type(error).__name__}: {error} (logs: {cluster.root})",
            Exit.UNEXPECTED,
        ) from error


async def _register(cluster: ProcessCluster) -> bytes:
    _say()
    _say("1. Alice's phone makes a random 32-byte backup key and leaves it in the vault,")
    _say(f"   locked by her password: {PASSWORD!r}.")
    key = secrets.token_bytes(32)
    async with _phone(cluster, *cluster.nodes) as phone:
        began = time.monotonic()
        await phone.register(PASSWORD, key)
        took = time.monotonic() - began
    _say(f"   Kept, in {took:.1f} s. The key begins with {key.hex()[:8]}… The vault never saw it,")
    _say("   nor the password: three data centers evaluated a blinded form of it together.")
    return key


async def _restore(cluster: ProcessCluster, key: bytes) -> None:
    node = cluster.nodes[3]
    _say()
    _say(f"2. The phone is lost. A new phone asks {_place(node)} with the password alone.")
    async with _phone(cluster, node.id) as phone:
        began = time.monotonic()
        found = await phone.recover(PASSWORD)
        took = time.monotonic() - began
    _expect(found == key, "the new phone got another key")
    _say(f"   The same key is back, in {took:.1f} s.")


async def _lose_two(cluster: ProcessCluster, key: bytes) -> None:
    first, second, other = cluster.nodes[1], cluster.nodes[2], cluster.nodes[5]
    _say()
    _say(f"3. Two data centers die: SIGKILL to {_place(first)} and {_place(second)}.")
    await cluster.kill(first.id, second.id)
    _say(f"   Another new phone asks {_place(other)} at once.")
    async with _phone(cluster, other.id) as phone:
        began = time.monotonic()
        found = await phone.recover(PASSWORD)
        took = time.monotonic() - began
    _expect(found == key, "a phone got another key after two data centers died")
    _say(f"   The key is back, in {took:.1f} s, through the three that are left.")
    await cluster.start([first.id, second.id])
    _say("   The two come back and catch up.")


async def _guess(cluster: ProcessCluster) -> None:
    _say()
    _say("4. A thief with Alice's account guesses, each time at another data center:")
    order = list(cluster.nodes)
    for guess in range(LIMIT):
        node = cluster.nodes[order[guess % len(order)]]
        # A second data center lets the client tell a wrong password from a faulty share.
        async with _phone(cluster, node.id, order[(guess + 1) % len(order)]) as phone:
            try:
                await phone.recover(f"password{guess + 1}")
            except WrongPassword as wrong:
                _expect(wrong.remaining == LIMIT - 1 - guess, "the vault miscounted")
                _say(f"   {_place(node):24} password{guess + 1}: wrong, {wrong.remaining} left")
                continue
        _expect(condition=False, what="a wrong password was accepted")
    _say()
    _say("5. Ten wrong guesses. Now even the right password is refused, at every data center:")
    for node in cluster.nodes.values():
        async with _phone(cluster, node.id) as phone:
            try:
                await phone.recover(PASSWORD)
            except Exhausted:
                _say(f"   {_place(node):24} refused: all guesses are used")
                continue
        _expect(condition=False, what=f"{_place(node)} still takes guesses")
    _say()
    _say("   After two minutes of grace the record is erased on every node. No administrator")
    _say("   can undo this, and no node, nor any two together, could have guessed alone.")


def say_where(cluster: ProcessCluster) -> None:
    """Tell a person where to look while the demo stays up."""
    _say()
    _say("The five nodes stay up until you press Ctrl-C.")
    for node in cluster.nodes.values():
        ready = f"http://{node.entry.ops}/readyz?verbose"
        _say(f"   {_place(node):24} {ready}  metrics at /metrics")
    command = "quorumvault" if shutil.which("quorumvault") else sys.argv[0]
    _say(f"   {command} cluster status --connection {cluster.connection_file}")
    _say(f"   {command} record register --account bob --connection {cluster.connection_file}")
