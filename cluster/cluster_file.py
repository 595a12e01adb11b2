"""`cluster.json`: what every node must agree on before the first of them starts (design section 6).

It is written offline by `quorumvault cluster create`. Shards, limit, grace and threshold are fixed
there for the life of the cluster: two nodes with different values would apply the same log
differently (I1, I8), so none of them has a default and an unknown key, a duplicate or a relation
that does not hold is refused in one line that names the field.

Only the members ever change, one by one: `quorumvault member replace` writes the next *revision*,
in which one node is retired and a new one, under a greater id, has its seat. A file tells its
whole history (who came and went at which revision), so that any two of them show which is newer
and whether the newer one goes on from the older (`extends`). What was retired never comes back.
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

from cluster import book
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
MAX_REVISION: Final = 4096
"""Replacements in the life of a cluster; the file stays well under MAX_FILE_BYTES."""
PUBLIC_KEY_BYTES: Final = 32
CHANGING: Final = frozenset({"revision", "nodes", "retired"})
"""The fields that a replacement changes; all others are of the vault, for ever."""
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

    Addresses are "host:port"; an IPv6 host stands in brackets. `joined`: the revision of the file
    at which it came; 0 is a founding node.
    """

    id: Annotated[NodeId, Meta(ge=1, le=MAX_NODE_ID)]
    seat: Annotated[Seat, Meta(ge=1, le=max(THRESHOLD_OF_SEATS))]
    dc: Annotated[str, Meta(min_length=1, max_length=63)]
    peer: Address
    client: Address
    admin: Address
    ops: Address
    joined: Annotated[int, Meta(ge=0, le=MAX_REVISION)] = 0


class Retired(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node that was replaced for good: nobody hears it or answers it any more.

    `joined`, `retired`: the revisions of the file at which it came and went.
    """

    id: Annotated[NodeId, Meta(ge=1, le=MAX_NODE_ID)]
    seat: Annotated[Seat, Meta(ge=1, le=max(THRESHOLD_OF_SEATS))]
    joined: Annotated[int, Meta(ge=0, le=MAX_REVISION)] = 0
    retired: Annotated[int, Meta(ge=1, le=MAX_REVISION)]


class ClusterFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `check_values`: key name -> PRF(key, "kcv")[:8] in hex (crypto.md, Keys).

    `opaque_public_key`: the vault's AKE public key, 32 bytes as base64url. `revision`: 0 at the
    creation, one more with each replacement. `retired`: every node that was replaced.
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
    revision: Annotated[int, Meta(ge=0, le=MAX_REVISION)] = 0
    retired: tuple[Retired, ...] = ()

    def node(self, node_id: int) -> NodeEntry:
        """The entry of one node.

        Raises:
            ClusterFileError: no node has this id, or none has it any more.

        """
        for entry in self.nodes:
            if entry.id == node_id:
                return entry
        gone = self.retirement(node_id)
        if gone is not None:
            raise ClusterFileError(gone)
        known = ", ".join(str(entry.id) for entry in self.nodes)
        raise ClusterFileError(
            f"node {node_id} is not in the cluster file (nodes there: {known}): name one of them",
        )

    def peers_of(self, node_id: int) -> tuple[NodeEntry, ...]:
        """Every other node, in the order of the file."""
        return tuple(entry for entry in self.nodes if entry.id != node_id)

    def everybody(self) -> tuple[NodeEntry | Retired, ...]:
        """The members, and whoever was one."""
        return (*self.nodes, *self.retired)

    def founders(self) -> tuple[NodeId, ...]:
        """Every node that was there at the creation, replaced since or not, ascending."""
        return tuple(sorted(each.id for each in self.everybody() if each.joined == 0))

    def retired_ids(self) -> frozenset[NodeId]:
        """Every node that was replaced."""
        return frozenset(each.id for each in self.retired)

    def successor(self, node_id: int) -> NodeId | None:
        """The node that took the seat of `node_id` from it; None when nobody did."""
        gone = next((each for each in self.retired if each.id == node_id), None)
        if gone is None:
            return None
        return next(each.id for each in self.everybody() if each.joined == gone.retired)

    def retirement(self, node_id: int) -> str | None:
        """One line for whoever still runs a replaced node; None when `node_id` was not replaced."""
        successor = self.successor(node_id)
        if successor is None:
            return None
        return book.retirement(node_id, successor, self.revision)

    def shard_ids(self) -> tuple[ShardId, ...]:
        """All shards, ascending from 0."""
        return tuple(ShardId(shard) for shard in range(self.shards))


def same_vault(one: ClusterFile, other: ClusterFile) -> bool:
    """True when all that never changes in the life of a cluster is the same in both."""
    return all(
        getattr(one, field) == getattr(other, field)
        for field in ClusterFile.__struct_fields__
        if field not in CHANGING
    )


def extends(newer: ClusterFile, older: ClusterFile) -> bool:
    """True when `newer` came out of `older` by replacements alone (none: they are equal).

    Whoever is in both, is there unchanged; whoever came or went up to the older's revision, did
    so in both.
    """
    if not same_vault(newer, older) or newer.revision < older.revision:
        return False
    now = {entry.id: entry for entry in newer.nodes}
    gone = {each.id: each for each in newer.retired}
    for each in older.retired:
        if gone.get(each.id) != each:
            return False
    for entry in older.nodes:
        left = gone.get(entry.id)
        if left is None:
            if now.get(entry.id) != entry:
                return False
        elif (left.seat, left.joined) != (entry.seat, entry.joined) or (
            left.retired <= older.revision
        ):
            return False
    return True


def replaced(cluster: ClusterFile, old_id: int, new: NodeEntry) -> ClusterFile:
    """The next revision: `old_id` is retired, and `new` (its `joined` is set here) has its seat.

    Raises:
        ClusterFileError: `old_id` is no member, `new` has another seat or an id that is not
            greater than every one before it, or an address that another node has.

    """
    old = cluster.node(old_id)
    revision = cluster.revision + 1
    if new.seat != old.seat:
        raise ClusterFileError(
            f"node {old_id} has seat {old.seat}: its replacement takes that seat, not {new.seat}"
        )
    new = msgspec.structs.replace(new, joined=revision)
    gone = Retired(id=old.id, seat=old.seat, joined=old.joined, retired=revision)
    after = msgspec.structs.replace(
        cluster,
        revision=revision,
        nodes=tuple(new if entry.id == old_id else entry for entry in cluster.nodes),
        retired=(*cluster.retired, gone),
    )
    return parse(msgspec.json.encode(after), f"with node {new.id} in place of node {old_id}")


def next_id(cluster: ClusterFile) -> NodeId:
    """The smallest id that a replacement may have: one more than every id ever used."""
    return NodeId(1 + max(each.id for each in cluster.everybody()))


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


def encode(cluster: ClusterFile) -> bytes:
    """The file's bytes: equal ones for equal cluster files, readable for people."""
    return msgspec.json.format(msgspec.json.encode(cluster), indent=2) + b"\n"


def save(path: Path, cluster: ClusterFile) -> None:
    """Validate and write atomically: the file is whole and durable, or not there.

    Raises:
        ClusterFileError: what is to be written is not valid, or cannot be written.

    """
    data = encode(cluster)
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
    return (
        _mistake_in_nodes(cluster.nodes)
        or _mistake_in_history(cluster)
        or _mistake_in_keys(cluster)
    )


def _mistake_in_nodes(nodes: tuple[NodeEntry, ...]) -> str | None:
    if {entry.seat for entry in nodes} != set(range(1, len(nodes) + 1)):
        return f"$.nodes[...].seat: every seat from 1 to {len(nodes)} must stand there once"
    ids: set[int] = set()
    taken: dict[tuple[str, int], str] = {}
    for place, entry in enumerate(nodes):
        if entry.id in ids:
            return f"$.nodes[{place}].id: {entry.id} stands there twice"
        ids.add(entry.id)
        if not entry.dc.isprintable():
            return f"$.nodes[{place}].dc: must be printable: it is shown on terminals"
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


def _mistake_in_history(cluster: ClusterFile) -> str | None:
    """Every revision is one replacement: one node went, one with a greater id came to its seat."""
    went = [each.retired for each in cluster.retired]
    if went != list(range(1, cluster.revision + 1)):
        return (
            f"$.retired: revision {cluster.revision} has one retired node for each revision from "
            f"1 to {cluster.revision}, in that order, not {went}"
        )
    everybody = cluster.everybody()
    ids = [each.id for each in everybody]
    for place, gone in enumerate(cluster.retired):
        where = f"$.retired[{place}]"
        if ids.count(gone.id) > 1:
            return f"{where}.id: {gone.id} stands there twice; an id is never used again"
        if gone.joined >= gone.retired:
            return f"{where}.joined: {gone.joined} is not before its end, {gone.retired}"
        came = [each for each in everybody if each.joined == gone.retired]
        if len(came) != 1 or came[0].seat != gone.seat:
            return (
                f"{where}.retired: exactly one node must have joined at revision {gone.retired}, "
                f"in seat {gone.seat}"
            )
        if any(came[0].id <= each.id for each in everybody if each.joined < gone.retired):
            return (
                f"{where}: its replacement has id {came[0].id}; it must be greater than every id "
                "before it"
            )
    late = [each.id for each in cluster.nodes if each.joined > cluster.revision]
    if late:
        return f"$.nodes: node {late[0]} joined after revision {cluster.revision}"
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
