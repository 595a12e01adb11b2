"""A vault of which one data center was taken over; how to look at it and knock on its doors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from plain_client import unb64

from cluster import certificates
from cluster.certificates import TlsFiles, client_context
from cluster.link_wire import LINK_PATH, SUBPROTOCOL

if TYPE_CHECKING:
    from accounts import Account, Guess
    from harness import Vault5
    from plain_client import Registration

HONEST = [2, 3, 4, 5]
HERE = Path(__file__).parent


@dataclass
class Scene:
    """A vault of which node 1 was taken over, after these accounts were used."""

    vault: Vault5
    owned: dict[str, Any]
    """All that seat 1's machine held when it was taken."""
    accounts: dict[str, Account]
    made: dict[str, Registration]
    guesses: dict[str, list[Guess]]
    over: bool = False
    """The nodes were ended by the test itself."""


def seat_state(vault: Vault5, node: int, registrations: list[bytes]) -> dict[str, Any]:
    stopped = vault.cluster.nodes[node]
    done = subprocess.run(
        [sys.executable, str(HERE / "seat_state.py"), str(stopped.config)]
        + [each.hex() for each in registrations],
        env=stopped.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines(scene: Scene, node: int) -> list[dict[str, Any]]:
    text = scene.vault.cluster.nodes[node].witness.read_text()
    return [json.loads(line) for line in text.splitlines()]


def given(scene: Scene) -> int:
    """Attempt shares that the honest nodes ever gave."""
    return sum(
        line["kind"] == "attempt" and line["result"] == "given"
        for node in HONEST
        for line in lines(scene, node)
    )


def server_key(scene: Scene) -> bytes:
    client = next(iter(scene.accounts.values())).client
    return unb64(client.must(scene.vault.url(5), "GET", "/v1/vault")["opaque_public_key"])


def bad_frames(scene: Scene, node: int) -> float:
    url = f"{scene.vault.ops_url(node)}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback http
        text = answer.read().decode()
    found = [line for line in text.splitlines() if "bad_service_frames" in line and line[0] != "#"]
    return sum(float(line.split()[-1]) for line in found if "_created" not in line)


def status(scene: Scene, node: int) -> dict[str, Any]:
    code, text = asyncio.run(get(scene, node, "admin", "/v1/status", operator(scene)))
    assert code == 200, text
    return json.loads(text)


def operator(scene: Scene) -> TlsFiles:
    folder = scene.vault.root / "cluster"
    return TlsFiles(
        folder / "ca.pem", folder / "operator" / "cert.pem", folder / "operator" / "key.pem"
    )


def node_files(scene: Scene, node: int) -> TlsFiles:
    folder = scene.vault.root / "cluster"
    own = folder / "nodes" / str(node)
    return TlsFiles(folder / "ca.pem", own / "cert.pem", own / "key.pem")


def issued(scene: Scene, folder: Path, uri: str, *, by_others: bool = False) -> TlsFiles:
    """A certificate by the cluster's own authority, or by one of the same name."""
    home = scene.vault.root / "cluster"
    authority = certificates.Authority(
        (home / "ca.pem").read_bytes(), (home / "offline" / "ca.key").read_bytes()
    )
    if by_others:
        authority = certificates.create_authority("demo")
    made = certificates.issue(
        authority, uri=uri, hosts=["127.0.0.1"], days=1, server=True, client=True
    )
    (folder / "cert.pem").write_bytes(made.cert_pem)
    (folder / "key.pem").write_bytes(made.key_pem)
    return TlsFiles(home / "ca.pem", folder / "cert.pem", folder / "key.pem")


async def get(
    scene: Scene, node: int, listener: str, path: str, files: TlsFiles | None
) -> tuple[int, str]:
    address = getattr(scene.vault.cluster.nodes[node].entry, listener)
    ca = scene.vault.root / "cluster" / "ca.pem"
    context = (
        client_context(ca, None, None)
        if files is None
        else client_context(files.ca, files.cert, files.key)
    )
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://{address}{path}", ssl=context) as answer,
    ):
        return answer.status, await answer.text()


async def link(scene: Scene, node: int, files: TlsFiles) -> int:
    """The status with which the peer port answers a link: 101 when it is taken."""
    address = scene.vault.cluster.nodes[node].entry.peer
    context = client_context(files.ca, files.cert, files.key)
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(
                f"https://{address}{LINK_PATH}", ssl=context, protocols=(SUBPROTOCOL,)
            ):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status
