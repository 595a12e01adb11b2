"""A node comes back to a log that was cut; five nodes come back from nothing (design I4, I8)."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Self

import pytest
from harness import vault5, wait_until
from judgement import judge, metric

from chaos.client import Client, Endpoints
from chaos.history import History
from chaos.load import Load
from engines._engines import ed25519_public_key, opaque_registration_start
from engines.encoding import b64u_encode
from engines.identifiers import MAX_WRAPPED_KEY_BYTES, PROOF_BOX_BYTES, registration_id
from quorumvault.cli.admin import Access

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from harness import Vault5

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

WRITERS = 24
CUT_S = 100.0
THINK_S = 0.1
SERVED_AGAIN_S = 60.0
DEATHS = 4


@pytest.fixture(scope="module")
def narrow_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    """A vault with one shard, so that one log gets all the bytes."""
    with vault5(tmp_path_factory.mktemp("narrow-vault"), shards=1) as vault:
        yield vault


def largest_put(client: Client) -> tuple[str, dict[str, str | int]]:
    """A fresh pending registration with the longest wrapped key: path and body."""
    proof_key = ed25519_public_key(os.urandom(32))
    _, request = opaque_registration_start(b"never used")
    era = client.expect.book.era
    named = registration_id(client.record_id, era, request, proof_key)
    body: dict[str, str | int] = {
        "request": b64u_encode(request),
        "proof_key": b64u_encode(proof_key),
        "era": era,
        "record": b64u_encode(request + os.urandom(160)),
        "proof_box": b64u_encode(os.urandom(PROOF_BOX_BYTES)),
        "wrapped_key": b64u_encode(os.urandom(MAX_WRAPPED_KEY_BYTES)),
    }
    return f"/v1/registrations/{b64u_encode(named)}", body


class Writers:
    """Clients that put one pending registration after the other: the largest commands there are."""

    def __init__(self, vault: Endpoints, seeded: random.Random) -> None:
        self.clients = [
            Client(vault, number, History(), seeded, f"writer-{number}")
            for number in range(WRITERS)
        ]
        self._writing = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self) -> None:
        await asyncio.gather(*(client.register(b"right") for client in self.clients))
        self._tasks = [asyncio.create_task(self._go_on(client)) for client in self.clients]

    async def _go_on(self, client: Client) -> None:
        while self._writing:
            path, body = largest_put(client)
            await client.until_ok("register", "PUT", path, body)

    async def stop(self) -> None:
        self._writing = False
        await asyncio.gather(*self._tasks)


def positions(vault: Vault5, fact: str, nodes: list[int]) -> list[float]:
    """The same fact of the only shard at these nodes; a node that does not answer is left out."""
    found = [metric(vault, node, f"quorumvault_raft_{fact}", 0) for node in nodes]
    return [each for each in found if each is not None]


def hashes_agree(vault: Vault5, beyond: float) -> bool:
    """All five nodes name the same index, later than `beyond`, and the same state hash at it.

    A hash that differs at an equal index fails at once.
    """
    statuses = Access.from_connection(vault.connection_file).statuses().values()
    groups = [status["groups"][0] for status in statuses if isinstance(status, dict)]
    points = {(group["hash_index"], group["hash"]) for group in groups}
    assert len(points) == len({index for index, _ in points}), points
    assert {s["hash_agreement"] for s in statuses if isinstance(s, dict)} <= {"agrees"}
    return len(groups) == 5 and len(points) == 1 and min(points)[0] > beyond


async def test_a_node_that_was_away_until_the_log_was_cut_comes_back_by_snapshot_under_load(
    narrow_vault: Vault5, seeded: random.Random
) -> None:
    vault = narrow_vault
    away = seeded.choice(vault.ids)
    others = [node for node in vault.ids if node != away]
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, "cut", think_s=THINK_S) as load,
        Load(endpoints, 4, seeded, "while-away", think_s=THINK_S) as while_away,
        Writers(endpoints, seeded) as writers,
    ):
        await load.start()
        await load.progress(20, SERVED_AGAIN_S)
        await asyncio.to_thread(vault.kill, away)
        last = max(positions(vault, "last_index", others))
        await while_away.start()
        await writers.start()
        await asyncio.to_thread(
            wait_until,
            lambda: min(positions(vault, "first_index", others)) > last + 1,
            f"the log is cut beyond {last}, all that node {away} can have of it",
            CUT_S,
        )
        cut = positions(vault, "first_index", others)
        sys.stdout.write(f"node {away} ended at {last} at most, the log begins at {cut}\n")
        await asyncio.to_thread(vault.restart, away)
        await load.everybody(SERVED_AGAIN_S)
        installed = "quorumvault_host_snapshots_installed_total"
        await asyncio.to_thread(
            wait_until, lambda: metric(vault, away, installed), f"a snapshot at node {away}"
        )
        target = max(positions(vault, "commit", others))
        await asyncio.to_thread(
            wait_until,
            lambda: positions(vault, "applied", [away]) >= [target],
            f"node {away} has applied {target}",
        )
        # It serves like the others, also what was made while it was away: it is one of three.
        dead = seeded.sample(others, 2)
        await asyncio.to_thread(vault.kill, *dead)
        await load.everybody(SERVED_AGAIN_S)
        await while_away.everybody(SERVED_AGAIN_S)
        await asyncio.to_thread(vault.restart, *dead)
        await writers.stop()
        await load.stop()
        await while_away.stop()
        await asyncio.to_thread(
            wait_until, lambda: hashes_agree(vault, target), "equal hashes at one index"
        )
        await judge(vault, [*load.clients, *while_away.clients, *writers.clients])


async def test_five_nodes_killed_at_once_under_load_lose_nothing_acknowledged(
    narrow_vault: Vault5, seeded: random.Random
) -> None:
    vault = narrow_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 6, seeded, "five", think_s=THINK_S) as load,
    ):
        await load.start()
        for _ in range(DEATHS):
            await load.progress(seeded.randrange(1, 30), SERVED_AGAIN_S)
            await asyncio.to_thread(vault.kill, *vault.ids)
            await asyncio.to_thread(vault.restart, *vault.ids)
            await load.everybody(SERVED_AGAIN_S)
        await load.stop()
        last = max(positions(vault, "applied", vault.ids))
        await judge(vault, load.clients)
        await asyncio.to_thread(
            wait_until, lambda: hashes_agree(vault, last), "equal hashes at one index"
        )
