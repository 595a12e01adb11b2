"""Five real vault nodes on this machine: processes, tokens, certificates, disks, and a WAN.

The driver behind `quorumvault demo`, the system tests and the process chaos. Everything is real:
each node is its own process with its own data directory and its own SoftHSM token directory, and
is provisioned by the same commands that an operator types. Only distances are simulated (wan.py).
It ends only processes that it started, and its ports are on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from chaos.wan import DATA_CENTERS, Wan
from cluster.cluster_file import NodeEntry
from cluster.types import NodeId, Seat
from node import creation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cluster.cluster_file import ClusterFile

SOFTHSM_MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
)
SEATS: Final = 5
PORT_BLOCK: Final = 32
# Below the range from which Linux draws ports of outgoing connections (32768 on), so that no
# connection of a node can take a port that another node is about to listen on.
PORT_RANGE: Final = range(20_000, 32_000, PORT_BLOCK)
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


class ClusterError(Exception):
    """The cluster could not be brought up; the message says which node and where its log is."""


def softhsm_module() -> Path:
    """Where SoftHSM's PKCS#11 module is on this machine.

    Raises:
        ClusterError: it is not installed.

    """
    for path in SOFTHSM_MODULES:
        if path.exists():
            return path
    raise ClusterError("SoftHSM is not installed: on Debian, apt-get install softhsm2")


@dataclass
class PortBlock:
    """A block of loopback ports, kept by listening on its first one for as long as we live."""

    base: int
    guard: socket.socket

    @classmethod
    def reserve(cls) -> PortBlock:
        """Find a block in which every port can be bound now."""
        bases = list(PORT_RANGE)
        random.shuffle(bases)
        for base in bases:
            guard = socket.socket()
            try:
                guard.bind(("127.0.0.1", base))
                guard.listen(1)
                for port in range(base + 1, base + PORT_BLOCK):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
            except OSError:
                guard.close()
                continue
            return cls(base, guard)
        raise ClusterError(f"no {PORT_BLOCK} free ports in a row on 127.0.0.1: free some")


@dataclass
class ProcessNode:
    """One node: its folder, and its process while it runs."""

    entry: NodeEntry
    folder: Path
    process: asyncio.subprocess.Process | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The node's Raft id."""
        return self.entry.id

    @property
    def config(self) -> Path:
        """The node's TOML file."""
        return self.folder / "node.toml"

    @property
    def argv(self) -> list[str]:
        """How the node is started."""
        return [
            sys.executable,
            "-m",
            "quorumvault.cli",
            "node",
            "run",
            "--config",
            str(self.config),
        ]

    @property
    def log(self) -> Path:
        """What the node wrote to its standard error."""
        return self.folder / "node.log"

    @property
    def witness(self) -> Path:
        """What the node witnessed at its HSM boundary, when the cluster was made with witnesses."""
        return self.folder / "witness.jsonl"

    @property
    def cluster_file(self) -> Path:
        """The node's own copy of cluster.json, in which it writes when members change."""
        return self.folder / "cluster.json"

    @property
    def data_dir(self) -> Path:
        """The node's data directory."""
        return self.folder / "data"

    @property
    def token_dir(self) -> Path:
        """The node's SoftHSM token directory."""
        return self.folder / "tokens"

    @property
    def running(self) -> bool:
        """True while our process for it has not ended."""
        return self.process is not None and self.process.returncode is None

    async def end(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            if self.running:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
            await self.process.wait()


def _toml(value: Any) -> str:
    """A string, number or boolean as TOML; JSON's escapes are a subset of TOML's."""
    return json.dumps(value)


async def run(
    argv: Sequence[str], environment: dict[str, str], what: str, accept: Collection[int] = (0,)
) -> str:
    """Run a command to its end; returns its standard output.

    Raises:
        ClusterError: it ended with another code than one of `accept`; has its output.

    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, talk = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode not in accept:
        said = (output + talk).decode().strip()
        raise ClusterError(f"{what} failed ({process.returncode}): {said}")
    return output.decode()


class ProcessCluster:
    """A cluster of five node processes under one root folder.

    ``create`` draws keys, provisions five tokens and writes configurations; ``start`` runs the
    nodes; ``kill``, ``pause`` and ``restart`` do to one node what happens to one.
    """

    def __init__(self, root: Path, name: str, wan: str) -> None:
        """Use `create` instead."""
        self.root = root
        self.name = name
        self.profile = wan
        self.wan = Wan(wan) if wan != "none" else None
        self.nodes: dict[int, ProcessNode] = {}
        """The members, in the order of their seats."""
        self.replaced: dict[int, ProcessNode] = {}
        """Nodes that were members once."""
        self.cluster_id = ""
        self.book: ClusterFile | None = None
        """What the operator's directory says now."""
        self.words: dict[int, tuple[str, ...]] = {}
        """By seat: what five custodians keep in five safes."""
        self._witness = False
        self._settings = ""
        self._ports: PortBlock | None = None

    @classmethod
    async def create(
        cls,
        root: Path,
        *,
        name: str = "demo",
        wan: str = "europe",
        shards: int = creation.DEFAULT_SHARDS,
        limit: int = creation.DEFAULT_LIMIT,
        grace_s: int = creation.DEFAULT_GRACE_S,
        witness: bool = False,
        settings: str = "",
        say: Callable[[str], None] = lambda _: None,
    ) -> ProcessCluster:
        """Create everything that exists before the first node starts.

        Args:
            root: an empty or new folder that gets all files.
            name: the cluster's name.
            wan: lan, europe, world, or none for no proxies at all.
            shards: Raft groups.
            limit: guesses per registration.
            grace_s: seconds of grace after the last guess.
            witness: let each node witness its shares (for checks of I1).
            settings: TOML appended to every node's configuration.
            say: told what is going on, for people.

        Raises:
            ClusterError: a step failed; the message has its output.

        """
        self = cls(root, name, wan)
        try:
            await self._create(shards, limit, grace_s, witness=witness, settings=settings, say=say)
        except BaseException:
            await self.stop()
            raise
        return self

    async def _create(
        self,
        shards: int,
        limit: int,
        grace_s: int,
        *,
        witness: bool,
        settings: str,
        say: Callable[[str], None],
    ) -> None:
        root, name, wan = self.root, self.name, self.profile
        self._ports = PortBlock.reserve()
        module = softhsm_module()
        names = DATA_CENTERS["europe" if wan == "none" else wan]
        entries = [self._entry(number, names[number - 1]) for number in range(1, SEATS + 1)]
        say("drawing the vault's keys: ten OPRF keys, one identity, one seal; SLIP-39 shares")
        created = creation.create(
            root / "cluster", name=name, nodes=entries, shards=shards, limit=limit, grace_s=grace_s
        )
        self.book = created.cluster
        self.words = {seat: tuple(words) for seat, words in created.shares.items()}
        self._witness, self._settings = witness, settings
        self.cluster_id = str(created.cluster.cluster_id)
        tenant = Ed25519PrivateKey.generate()
        private = tenant.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        creation.write_private(root / "tenant" / "private.pem", private)
        public = tenant.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (root / "tenant" / "public.pem").write_bytes(public)
        for entry in entries:
            node = ProcessNode(entry, root / f"node-{entry.id}")
            node.folder.mkdir(mode=0o700)
            self.nodes[entry.id] = node
        say("provisioning five HSM tokens, each with three custodians' words")
        try:
            async with asyncio.TaskGroup() as tokens:  # waits for all, also when it is interrupted
                for node in self.nodes.values():
                    work = self.provision(node, module, root / "cluster" / "cluster.json")
                    tokens.create_task(work)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if self.wan is not None:
            await self.wan.start(
                {
                    entry.id: (entry.seat, "127.0.0.1", int(entry.peer.rpartition(":")[2]))
                    for entry in entries
                }
            )
        for node in self.nodes.values():
            shutil.copyfile(root / "cluster" / "cluster.json", node.cluster_file)
        self.write_configs()
        self.write_connection()

    def _entry(self, number: int, dc: str) -> NodeEntry:
        assert self._ports is not None  # noqa: S101 - set by create just before
        base = self._ports.base + 1 + 4 * (number - 1)
        client, peer, admin, ops = (f"127.0.0.1:{base + offset}" for offset in range(4))
        return NodeEntry(
            id=NodeId(number), seat=Seat(number), dc=dc, peer=peer, client=client, admin=admin,
            ops=ops,
        )  # fmt: skip

    async def provision(self, node: ProcessNode, module: Path, cluster_file: Path) -> None:
        """Initialise and provision one token with the operator's own commands."""
        node.token_dir.mkdir(mode=0o700)
        softhsm = node.folder / "softhsm2.conf"
        softhsm.write_text(
            f"directories.tokendir = {node.token_dir}\nobjectstore.backend = file\n"
            "log.level = ERROR\nslots.removable = false\n"
        )
        node.environment = {**os.environ, "SOFTHSM2_CONF": str(softhsm)}
        creation.write_private(node.folder / "pin", secrets.token_hex(8).encode())
        creation.write_private(node.folder / "so-pin", secrets.token_hex(8).encode())
        custodians = []
        for custodian, mnemonic in enumerate(self.words[node.entry.seat][:3], start=1):
            path = node.folder / f"custodian-{custodian}.words"
            creation.write_private(path, mnemonic.encode() + b"\n")
            custodians.append(path)
        cluster = self.root / "cluster"
        argv = [
            sys.executable, "-m", "quorumvault.cli", "hsm", "provision",
            "--cluster-file", str(cluster_file), "--node", str(node.id),
            "--package", str(cluster / "seats" / f"seat-{node.entry.seat}.package"),
            "--module", str(module), "--token-label", f"seat-{node.entry.seat}",
            "--pin-file", str(node.folder / "pin"), "--so-pin-file", str(node.folder / "so-pin"),
            "--init-token",
        ]  # fmt: skip
        for path in custodians:
            argv += ["--words-file", str(path)]
        await run(argv, node.environment, f"provisioning the token of node {node.id}")
        for path in custodians:
            path.unlink()

    def write_configs(self) -> None:
        """Every member's TOML file; a running node reads its own at its next start."""
        module = softhsm_module()
        for node in self.nodes.values():
            self._write_config(node, module)

    def _write_config(self, node: ProcessNode, module: Path) -> None:
        cluster = self.root / "cluster"
        entry = node.entry
        certificate = cluster / "nodes" / str(node.id)
        lines = [
            f"node_id = {node.id}",
            f"cluster_file = {_toml(str(node.cluster_file))}",
            f"data_dir = {_toml(str(node.data_dir))}",
            "[hsm]",
            f"module = {_toml(str(module))}",
            f"token_label = {_toml(f'seat-{entry.seat}')}",
            f"pin_file = {_toml(str(node.folder / 'pin'))}",
            "[tls]",
            f"ca_file = {_toml(str(cluster / 'ca.pem'))}",
            f"cert_file = {_toml(str(certificate / 'cert.pem'))}",
            f"key_file = {_toml(str(certificate / 'key.pem'))}",
            "[listen]",
            f"client = {_toml(entry.client)}",
            f"peer = {_toml(entry.peer)}",
            f"admin = {_toml(entry.admin)}",
            f"ops = {_toml(entry.ops)}",
        ]
        if self.wan is not None:
            lines.append("[peers]")
            lines += [
                f"{other} = {_toml(self.wan.address(node.id, other))}"
                for other in self.nodes
                if other != node.id
            ]
        lines += [
            "[limits]",
            "account_per_minute = 0",
            "[[tenants]]",
            'iss = "demo"',
            'alg = "EdDSA"',
            f"public_key_file = {_toml(str(self.root / 'tenant' / 'public.pem'))}",
        ]
        if self._witness:
            lines += ["[witness]", f"file = {_toml(str(node.witness))}"]
        node.config.write_text("\n".join(lines) + "\n" + self._settings)

    def connection(self) -> dict[str, Any]:
        """The connection file's content (design section 8), with the pids of this moment."""
        if self.book is None:
            raise ClusterError("the cluster is not created yet")
        folder = self.root / "cluster"
        return creation.connection(self.book) | {
            "ca_file": str(folder / "ca.pem"),
            "tenant": {
                "iss": "demo",
                "kid": None,
                "alg": "EdDSA",
                "private_key_file": str(self.root / "tenant" / "private.pem"),
            },
            "nodes": [
                {
                    "id": node.id,
                    "dc": node.entry.dc,
                    "pid": node.process.pid if node.running and node.process else None,
                    "data_dir": str(node.data_dir),
                    "token_dir": str(node.token_dir),
                    "restart": [
                        "env",
                        f"SOFTHSM2_CONF={node.environment['SOFTHSM2_CONF']}",
                        *node.argv,
                    ],
                }
                for node in self.nodes.values()
            ],
            "admin": {
                "urls": [f"https://{node.entry.admin}" for node in self.nodes.values()],
                "cert_file": str(folder / "operator" / "cert.pem"),
                "key_file": str(folder / "operator" / "key.pem"),
            },
        }

    @property
    def connection_file(self) -> Path:
        """Where the connection file is kept current."""
        return self.root / "connection.json"

    def write_connection(self) -> None:
        """Keep the connection file current."""
        temporary = self.connection_file.with_suffix(".new")
        temporary.write_text(json.dumps(self.connection(), indent=2) + "\n")
        temporary.replace(self.connection_file)

    async def start(self, which: Iterable[int] | None = None) -> None:
        """Start nodes (all by default) and wait until each is ready.

        Raises:
            ClusterError: a node ended or was not ready in time; says where its log is.

        """
        chosen = list(self.nodes) if which is None else list(which)
        for number in chosen:
            await self.spawn(number)
        await self.until_ready(chosen)

    async def spawn(self, number: int) -> None:
        """Start one node's process and do not wait for anything."""
        await self.launch(self.nodes[number])
        self.write_connection()

    async def launch(self, node: ProcessNode) -> None:
        """Start the process of a node, be it a member or one that was replaced."""
        if node.running:
            raise ClusterError(f"node {node.id} is running already")
        with node.log.open("ab") as log:
            node.process = await asyncio.create_subprocess_exec(
                *node.argv,
                env=node.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which drains the nodes
            )

    async def until_ready(self, which: Iterable[int], timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until /readyz of each of these nodes answers 200.

        Raises:
            ClusterError: a node ended, or the time is over.

        """
        waiting = set(which)
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
                while waiting:
                    for number in sorted(waiting):
                        node = self.nodes[number]
                        if not node.running:
                            raise ClusterError(self._obituary(node))
                        if await _ready(session, f"http://{node.entry.ops}/readyz"):
                            waiting.discard(number)
                    if waiting:
                        await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            names = ", ".join(str(number) for number in sorted(waiting))
            raise ClusterError(
                f"not ready after {timeout_s:.0f} s: node {names}; see {self.root}/node-*/node.log"
            ) from error

    def _obituary(self, node: ProcessNode) -> str:
        code = node.process.returncode if node.process else None
        last = node.log.read_text(errors="replace").strip().splitlines()[-1:] or ["(empty log)"]
        return f"node {node.id} ended with exit code {code}: {last[0]} (log: {node.log})"

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a node that we started."""
        node = self.nodes[number]
        if node.running and node.process is not None:
            with contextlib.suppress(ProcessLookupError):
                node.process.send_signal(what)

    async def kill(self, *numbers: int) -> None:
        """SIGKILL nodes and wait until they are gone."""
        for number in numbers:
            self.signal(number, signal.SIGKILL)
        for number in numbers:
            process = self.nodes[number].process
            if process is not None:
                await process.wait()
        self.write_connection()

    def pause(self, number: int) -> None:
        """SIGSTOP a node."""
        self.signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT a node."""
        self.signal(number, signal.SIGCONT)

    async def terminate(self, *numbers: int, timeout_s: float = 20.0) -> None:
        """SIGTERM nodes, let them drain, and wait; SIGKILL what is left after the time."""
        processes = [p for n in numbers if (p := self.nodes[n].process) is not None]
        for number in numbers:
            self.signal(number, signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            await self.kill(*numbers)
        self.write_connection()

    @property
    def witnesses(self) -> list[Path]:
        """What every node witnessed that ever was a member."""
        return [node.witness for node in (*self.nodes.values(), *self.replaced.values())]

    async def replace(self, number: int, *, lost: bool = True, wait_s: float | None = 120.0) -> int:
        """Put a new node in the seat of `number` as an operator would; returns its id.

        See `chaos.replacing.replace`.
        """
        from chaos import replacing  # noqa: PLC0415 - it imports this file

        return await replacing.replace(self, number, lost=lost, wait_s=wait_s)

    async def stop(self) -> None:
        """End every node and proxy that this cluster started."""
        for number in self.nodes:
            self.resume(number)
        await self.kill(*self.nodes)
        for node in self.replaced.values():
            await node.end()
        if self.wan is not None:
            await self.wan.close()
        if self._ports is not None:
            self._ports.guard.close()


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
