"""How many whole logins a second a vault makes: the load client of `quorumvault bench`.

A login is what a phone does after a restore: KE1, attempt, KE2, proof, wrapped key, all with real
OPAQUE messages and signatures. Only Argon2id is left out (hazmat_identity_ksf): it is the phone's
own cost, and two of them would keep a core busy. Each client has an account of its own and goes
round the nodes. Nothing is asked twice: a refusal or a lost answer is counted as it is.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import ssl
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations

import aiohttp
import msgspec
import typer
from msgspec import Struct

from engines._engines import (
    OpaqueOpenError,
    ed25519_sign,
    opaque_login_finish,
    opaque_login_start,
)
from engines.encoding import b64u_encode
from engines.identifiers import attempt_id, prove_message
from quorumvault import _boxes
from quorumvault._wire import Attempted, Proven, body, decode, decode_problem
from quorumvault.connection import Reach, load
from quorumvault.errors import VaultError
from quorumvault.vault import AsyncVault

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD: Final = b"correct horse battery staple"
KEY: Final = b"\x5a" * 32
CALL_TIMEOUT_S: Final = 30.0
REGISTRATIONS_AT_ONCE: Final = 8
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """What one process of clients saw."""

    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    node_cpu_s: float | None = None


class Report(Struct, frozen=True):
    """The figures of one run; times in milliseconds, CPU of all processes on this machine."""

    clients: int
    processes: int
    seconds: float
    logins: int
    logins_per_second: float
    p50_ms: float
    p99_ms: float
    failures: dict[str, int]
    client_cpu_ms_per_login: float
    node_cpu_ms_per_login: float | None


class _NodeProcess(Struct, frozen=True):
    pid: int | None = None


class _Nodes(Struct, frozen=True):
    cluster_id: UUID
    nodes: tuple[_NodeProcess, ...] = ()


@dataclass(frozen=True)
class Plan:
    """One process's part of a run; picklable."""

    connection_file: Path
    accounts: tuple[str, ...]
    seconds: float
    node_pids: tuple[int, ...]


def measure(connection_file: Path, *, clients: int, seconds: float, processes: int = 1) -> Report:
    """Register one account per client, then log in for so long; blocks.

    Raises:
        VaultError: the vault cannot be reached or refuses the registrations.

    """
    run = b64u_encode(os.urandom(6))
    accounts = [f"bench-{run}-{number}" for number in range(clients)]
    asyncio.run(_register_all(connection_file, accounts))
    nodes = msgspec.json.decode(connection_file.read_bytes(), type=_Nodes).nodes
    pids = tuple(node.pid for node in nodes if node.pid is not None)
    parts = [tuple(accounts[number::processes]) for number in range(processes)]
    plans = [Plan(connection_file, part, seconds, pids) for part in parts if part]
    if len(plans) == 1:
        tallies = [_run(plans[0])]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(plans), mp_context=context) as pool:
            tallies = list(pool.map(_run, plans))
    return _report(tallies, clients, seconds)


def _report(tallies: Sequence[Tally], clients: int, seconds: float) -> Report:
    latencies = sorted(latency for tally in tallies for latency in tally.latencies_s)
    failures: Counter[str] = sum((tally.failures for tally in tallies), Counter())
    logins = max(len(latencies), 1)
    node_cpu_s = tallies[0].node_cpu_s  # every process of clients saw the same nodes
    return Report(
        clients=clients,
        processes=len(tallies),
        seconds=seconds,
        logins=len(latencies),
        logins_per_second=round(len(latencies) / seconds, 1),
        p50_ms=_quantile_ms(latencies, 0.5),
        p99_ms=_quantile_ms(latencies, 0.99),
        failures=dict(failures),
        client_cpu_ms_per_login=round(sum(t.cpu_s for t in tallies) / logins * 1000, 2),
        node_cpu_ms_per_login=(
            None if node_cpu_s is None else round(node_cpu_s / logins * 1000, 2)
        ),
    )


def _quantile_ms(ascending: Sequence[float], quantile: float) -> float:
    if not ascending:
        return 0.0
    return round(ascending[int(quantile * (len(ascending) - 1))] * 1000, 1)


def _cpu_s(pids: Sequence[int]) -> float | None:
    """CPU time of these processes so far; None when they are not on this machine."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        total += int(fields[11]) + int(fields[12])  # utime, stime (proc(5))
    return total / CLOCK_TICKS if pids else None


# ---------------------------------------------------------------- registering the pool


async def _register_all(connection_file: Path, accounts: Sequence[str]) -> None:
    turns = asyncio.Semaphore(REGISTRATIONS_AT_ONCE)

    async def register(account: str) -> None:
        async with (
            turns,
            AsyncVault.from_connection(
                connection_file,
                account,
                state_file=None,
                hazmat_identity_ksf=True,
            ) as vault,
        ):
            await vault.register(PASSWORD, KEY)

    await asyncio.gather(*(register(account) for account in accounts))


# ---------------------------------------------------------------- logging in


class _LoginFailed(Exception):  # noqa: N818 - it is counted, not fixed
    """One login did not end with the key."""


def _run(plan: Plan) -> Tally:
    return asyncio.run(_log_in_for(plan))


async def _log_in_for(plan: Plan) -> Tally:
    reach = load(plan.connection_file)
    context = ssl.create_default_context(cafile=str(reach.ca_file))
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        phones = [_Phone(session, reach, account) for account in plan.accounts]
        # One uncounted login each: connections are made, the first elections are over.
        await _in_turns(phones, Tally(), until=0.0)
        tally, node_before = Tally(), _cpu_s(plan.node_pids)
        own_before = time.process_time()
        await _in_turns(phones, tally, until=time.monotonic() + plan.seconds)
        tally.cpu_s = time.process_time() - own_before
        node_after = _cpu_s(plan.node_pids)
        if node_before is not None and node_after is not None:
            tally.node_cpu_s = node_after - node_before
    return tally


async def _in_turns(phones: Sequence[_Phone], tally: Tally, *, until: float) -> None:
    """Every phone logs in, node after node, at least once and as long as there is time."""

    async def client(number: int, phone: _Phone) -> None:
        urls = phone.urls
        for turn in itertools.count(number):
            began = time.monotonic()
            try:
                await phone.log_in(urls[turn % len(urls)])
            except (_LoginFailed, aiohttp.ClientError, TimeoutError) as error:
                name = str(error) if isinstance(error, _LoginFailed) else type(error).__name__
                tally.failures[name] += 1
            else:
                if time.monotonic() <= until:
                    tally.latencies_s.append(time.monotonic() - began)
            if time.monotonic() >= until:
                return

    async with asyncio.TaskGroup() as group:
        for number, phone in enumerate(phones):
            group.create_task(client(number, phone))


class _Phone:
    """One client: an account, its token, and the way through one login."""

    def __init__(self, session: aiohttp.ClientSession, reach: Reach, account: str) -> None:
        self._session = session
        self._reach = reach
        self.urls = [endpoint.url for endpoint in reach.endpoints]
        self._account = account
        self._token = ""
        self._fresh_until = 0.0

    async def log_in(self, url: str) -> None:
        """Attempt and proof at one node; raises _LoginFailed with the problem's code."""
        state, ke1 = opaque_login_start(PASSWORD)
        tried = decode(Attempted, await self._post(f"{url}/v1/attempts", {"ke1": ke1}))
        try:
            export_key, _ = opaque_login_finish(
                state, PASSWORD, tried.ke2, hazmat_identity_ksf=True
            )
        except OpaqueOpenError as error:
            raise _LoginFailed("KE2 does not open") from error
        seed = _boxes.open_proof_seed(export_key, tried.registration_id, tried.proof_box)
        attempt = attempt_id(tried.record_id, ke1)
        message = prove_message(self._reach.cluster_id, tried.registration_id, tried.era, attempt)
        path = f"{url}/v1/attempts/{b64u_encode(attempt)}/proof"
        proof: dict[str, bytes | int] = {
            "ke1": ke1,
            "era": tried.era,
            "signature": ed25519_sign(seed, message),
        }
        proven = decode(Proven, await self._post(path, proof))
        key = _boxes.open_backup_key(export_key, tried.registration_id, proven.wrapped_key)
        if key != KEY:
            raise _LoginFailed("another key came back")

    async def _post(self, url: str, fields: dict[str, bytes | int]) -> bytes:
        headers = {
            "Authorization": f"Bearer {self._fresh_token()}",
            "Content-Type": "application/json",
        }
        async with self._session.post(url, data=body(fields), headers=headers) as response:
            text = await response.read()
            if response.status != 200:
                raise _LoginFailed(decode_problem(text).code or f"HTTP {response.status}")
            return text

    def _fresh_token(self) -> str:
        if time.monotonic() > self._fresh_until:
            self._token = self._reach.token(self._account)
            self._fresh_until = time.monotonic() + 300
        return self._token


def main(
    connection: Annotated[
        Path, typer.Option("--connection", envvar="QUORUMVAULT_CONNECTION", help="Connection file.")
    ],
    clients: Annotated[int, typer.Option("--clients", min=1, help="Clients at once.")] = 64,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to count.")] = 10.0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Client processes.")] = 1,
) -> None:
    """Print the figures of one run as JSON."""
    try:
        report = measure(connection, clients=clients, seconds=seconds, processes=processes)
    except VaultError as error:
        sys.stderr.write(f"bench: {error}\n")
        sys.exit(1)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    typer.run(main)
