"""`cluster.json`: what every node must agree on before the first of them starts (design section 6).

It is written once, offline, by `quorumvault cluster create`; nodes only read it. Shards, limit,
grace and threshold are fixed here for the life of the cluster: two nodes with different values
would apply the same log differently (I1, I8), so nothing in it has a default and an unknown key,
a duplicate or a relation that does not hold is refused in one line that names the field.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import tempfile
from typing import TYPE_CHECKING, Annotated, Final, NoReturn
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations at run time

import msgspec
from msgspec import Meta, Struct

from cluster.types import NodeId, Seat, ShardId
from engines.encoding import b64u_decode

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 1
MAX_FILE_BYTES: Final = 1 << 20
"""A real one has about 3 KiB; whatever is larger is some other file."""
MAX_SHARDS: Final = 256
MAX_LIMIT: Final = 100
MAX_GRACE_S: Final = 86_400
MAX_NODE_ID: Final = 2**53 - 1
"""Ids are JSON numbers at the edge."""
THRESHOLD_OF_SEATS: Final = {5: 3, 3: 2}
"""Five seats with threshold three; three seats with two exist for tests of small clusters."""
PUBLIC_KEY_BYTES: Final = 32
NEXT_STEP: Final = "correct it, or take the file that 'quorumvault cluster create' wrote"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_CHECK_NAME = re.compile(r"[a-z0-9][a-z0-9/._-]{0,63}")
_CHECK_VALUE = re.compile(r"[0-9a-f]{16}")

Address = Annotated[str, Meta(min_length=3, max_length=260)]


class ClusterFileError(Exception):
    """`cluster.json` is missing or wrong; one line that names the field and the next step."""


class NodeEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One node: its Raft id, its seat in the threshold scheme, its DC and its four listeners.

    Addresses are "host:port"; an IPv6 host stands in brackets.
    """

    id: Annotated[NodeId, Meta(ge=1, le=MAX_NODE_ID)]
    seat: Annotated[Seat, Meta(ge=1, le=max(THRESHOLD_OF_SEATS))]
    dc: Annotated[str, Meta(min_length=1, max_length=63)]
    peer: Address
    client: Address
    admin: Address
    ops: Address


class ClusterFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `check_values`: key name -> PRF(key, "kcv")[:8] in hex (crypto.md, Keys).

    `opaque_public_key`: the vault's AKE public key, 32 bytes as base64url.
    """

    version: int
    cluster_id: UUID
    name: str
    shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
    grace_s: Annotated[int, Meta(ge=1, le=MAX_GRACE_S)]
    threshold: int
    nodes: tuple[NodeEntry, ...]
    check_values: dict[str, str]
    opaque_public_key: str

    def node(self, node_id: int) -> NodeEntry:
        """The entry of one node.

        Raises:
            ClusterFileError: no node has this id.

        """
        for entry in self.nodes:
            if entry.id == node_id:
                return entry
        known = ", ".join(str(entry.id) for entry in self.nodes)
        raise ClusterFileError(
            f"node {node_id} is not in the cluster file (nodes there: {known}): "
            "set node_id to one of them",
        )

    def peers_of(self, node_id: int) -> tuple[NodeEntry, ...]:
        """Every other node, in the order of the file."""
        return tuple(entry for entry in self.nodes if entry.id != node_id)

    def shard_ids(self) -> tuple[ShardId, ...]:
        """All shards, ascending from 0."""
        return tuple(ShardId(shard) for shard in range(self.shards))


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port"; the brackets of an IPv6 host are taken off.

    Raises:
        ValueError: says what is wrong with the address.

    """
    host, colon, port_text = address.rpartition(":")
    if not colon:
        raise ValueError("must be host:port")
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text) <= 65535):
        raise ValueError("the port must be a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port_text)
        except ValueError as error:
            raise ValueError("what stands in brackets must be an IPv6 address") from error
    if not _HOST.fullmatch(host):
        raise ValueError("the host must be a name or an address; IPv6 in brackets")
    return host, int(port_text)


def load(path: Path) -> ClusterFile:
    """Read and validate the file.

    Raises:
        ClusterFileError: missing, unreadable, or not exactly a cluster file of this version.

    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ClusterFileError(
            f"cluster file {path} does not exist: run 'quorumvault cluster create' once, "
            "then copy its cluster.json to every node",
        ) from None
    except OSError as error:
        raise ClusterFileError(
            f"cluster file {path} cannot be read ({error.strerror}): check path and permissions",
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ClusterFileError(f"cluster file {path}: over {MAX_FILE_BYTES} bytes: {NEXT_STEP}")
    return parse(data, str(path))


def parse(data: bytes, source: str = "cluster.json") -> ClusterFile:
    """Validate the bytes of a cluster file; `source` is named in errors.

    Raises:
        ClusterFileError: names the field and the next step.

    """

    def refuse(what: str) -> NoReturn:
        raise ClusterFileError(f"cluster file {source}: {what}: {NEXT_STEP}")

    def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            refuse(f"key {twice!r} stands there twice")
        return seen

    try:
        plain = json.loads(data, object_pairs_hook=no_duplicates)
        cluster = msgspec.convert(plain, ClusterFile)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        refuse(f"{where.strip('`') or 'top level'}: {what}")
    except (ValueError, RecursionError) as error:
        refuse(f"not JSON ({error})")
    mistake = _mistake(cluster)
    if mistake is not None:
        refuse(mistake)
    return cluster


def save(path: Path, cluster: ClusterFile) -> None:
    """Validate and write atomically: the file is whole and durable, or not there.

    Raises:
        ClusterFileError: what is to be written is not valid, or cannot be written.

    """
    data = msgspec.json.format(msgspec.json.encode(cluster), indent=2) + b"\n"
    parse(data, str(path))
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the same call, on the name that mkstemp gave
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)  # noqa: PTH108 - the name that mkstemp gave
        raise ClusterFileError(
            f"cluster file {path} cannot be written ({error.strerror}): check the directory",
        ) from error


def _mistake(cluster: ClusterFile) -> str | None:
    """What the types cannot say: relations among fields. None when all hold."""
    if cluster.version != VERSION:
        return f"$.version: this program reads version {VERSION}, not {cluster.version}"
    if not _NAME.fullmatch(cluster.name):
        return "$.name: 1 to 63 letters, digits, dots, hyphens and underscores"
    seats = len(cluster.nodes)
    if seats not in THRESHOLD_OF_SEATS:
        return f"$.nodes: {seats} nodes; there must be five, one per seat (three in small tests)"
    if cluster.threshold != THRESHOLD_OF_SEATS[seats]:
        return f"$.threshold: must be {THRESHOLD_OF_SEATS[seats]} for {seats} seats"
    return _mistake_in_nodes(cluster.nodes) or _mistake_in_keys(cluster)


def _mistake_in_nodes(nodes: tuple[NodeEntry, ...]) -> str | None:
    if {entry.seat for entry in nodes} != set(range(1, len(nodes) + 1)):
        return f"$.nodes[...].seat: every seat from 1 to {len(nodes)} must stand there once"
    ids: set[int] = set()
    taken: dict[tuple[str, int], str] = {}
    for place, entry in enumerate(nodes):
        if entry.id in ids:
            return f"$.nodes[{place}].id: {entry.id} stands there twice"
        ids.add(entry.id)
        listeners = {
            "peer": entry.peer,
            "client": entry.client,
            "admin": entry.admin,
            "ops": entry.ops,
        }
        for field, address in listeners.items():
            where = f"$.nodes[{place}].{field}"
            try:
                key = split_address(address)
            except ValueError as error:
                return f"{where}: {error}"
            if key in taken:
                return f"{where}: {address} is already {taken[key]}"
            taken[key] = where
    return None


def _mistake_in_keys(cluster: ClusterFile) -> str | None:
    if not cluster.check_values:
        return "$.check_values: empty; every shared HSM key has one"
    for name, value in cluster.check_values.items():
        if not _CHECK_NAME.fullmatch(name):
            return f"$.check_values: {name!r} is not the name of a key"
        if not _CHECK_VALUE.fullmatch(value):
            return f"$.check_values[{name!r}]: must be 16 lower-case hex digits"
    try:
        b64u_decode(cluster.opaque_public_key, PUBLIC_KEY_BYTES)
    except ValueError as error:
        return f"$.opaque_public_key: {error}"
    return None
