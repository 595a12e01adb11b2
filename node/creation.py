"""Creation of a cluster: once, offline, on one air-gapped machine (design section 6).

It writes what every data center gets (``cluster.json``, the authority's certificate), what each
gets for itself (its certificate, its encrypted seat package) and returns what only custodians get
(the SLIP-39 shares, which it never writes). Nothing of it runs in a node.

::

    DIR/cluster.json              the same file for every node
    DIR/ca.pem                    the authority's certificate, for nodes and clients
    DIR/offline/ca.key            the authority's key: keep it offline
    DIR/nodes/<id>/cert.pem, key.pem
    DIR/operator/cert.pem, key.pem, connection.json (for `cluster status` and clients)
    DIR/seats/seat-<j>.package    readable only with three custodians' words
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cluster import certificates
from cluster.cluster_file import ClusterFile, NodeEntry, parse, save, split_address
from engines.encoding import b64u_encode
from hsm import ceremony

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CERTIFICATE_DAYS: Final = 398
"""Over a year, so that a yearly renewal has a month of slack."""
DEFAULT_SHARDS: Final = 16
DEFAULT_LIMIT: Final = 10
DEFAULT_GRACE_S: Final = 120
LOCAL_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


class CreationRefused(Exception):  # noqa: N818 - a refusal, not a fault
    """The directory already holds a cluster; nothing was written."""


@dataclass(frozen=True)
class Created:
    """A new cluster: its public file, and the custodians' words by seat (five lists of words)."""

    cluster: ClusterFile
    shares: Mapping[int, Sequence[str]]


def write_private(path: Path, data: bytes) -> None:
    """Create a file that only its owner reads (0600); never overwrites one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def hosts_of(entry: NodeEntry) -> list[str]:
    """The names that a node's certificate carries: of its TLS listeners, and this machine's."""
    addresses = (entry.peer, entry.client, entry.admin)
    return sorted({split_address(address)[0] for address in addresses} | set(LOCAL_HOSTS))


def create(
    directory: Path,
    *,
    name: str,
    nodes: Sequence[NodeEntry],
    shards: int = DEFAULT_SHARDS,
    limit: int = DEFAULT_LIMIT,
    grace_s: int = DEFAULT_GRACE_S,
    threshold: int = 3,
    hand_out: Callable[[Mapping[int, Sequence[str]]], None] = lambda _words: None,
) -> Created:
    """Draw all keys, hand out the custodians' words, issue certificates, write the directory.

    `hand_out` gets the words by seat before anything is written: a cluster whose words were lost
    could never be provisioned. If it raises, nothing was created.

    Raises:
        CreationRefused: `directory` already holds a cluster.json.
        ClusterFileError: the nodes or numbers are not a valid cluster.

    """
    if (directory / "cluster.json").exists():
        raise CreationRefused(
            f"{directory} already holds a cluster.json: a cluster is created once; "
            "choose an empty directory for another one"
        )
    cluster_id = uuid.uuid4()
    drawn = ceremony.draw(cluster_id, seats=len(nodes), threshold=threshold)
    cluster = ClusterFile(
        version=1,
        cluster_id=cluster_id,
        name=name,
        shards=shards,
        limit=limit,
        grace_s=grace_s,
        threshold=threshold,
        nodes=tuple(nodes),
        check_values={key: value.hex() for key, value in drawn.check_values.items()},
        opaque_public_key=b64u_encode(drawn.opaque_public_key),
    )
    parse(msgspec.json.encode(cluster))  # refuse mistakes before anything is written
    hand_out(drawn.shares)
    authority = certificates.create_authority(name)
    directory.mkdir(parents=True, exist_ok=True)
    write_private(directory / "offline" / "ca.key", authority.key_pem)
    (directory / "ca.pem").write_bytes(authority.cert_pem)
    for entry in nodes:
        issued = certificates.issue(
            authority,
            uri=certificates.node_uri(cluster_id, entry.id),
            hosts=hosts_of(entry),
            days=CERTIFICATE_DAYS,
            server=True,
            client=True,
        )
        folder = directory / "nodes" / str(entry.id)
        write_private(folder / "key.pem", issued.key_pem)
        (folder / "cert.pem").write_bytes(issued.cert_pem)
        write_private(
            directory / "seats" / f"seat-{entry.seat}.package", drawn.packages[entry.seat]
        )
    operator = certificates.issue(
        authority,
        uri=certificates.operator_uri(cluster_id, "operator"),
        hosts=(),
        days=CERTIFICATE_DAYS,
        server=False,
        client=True,
    )
    write_private(directory / "operator" / "key.pem", operator.key_pem)
    (directory / "operator" / "cert.pem").write_bytes(operator.cert_pem)
    content = json.dumps(connection(cluster), indent=2) + "\n"
    (directory / "operator" / "connection.json").write_text(content)
    save(directory / "cluster.json", cluster)  # last: its presence means that all is written
    return Created(cluster, drawn.shares)


def connection(cluster: ClusterFile) -> dict[str, Any]:
    """A connection file's content (design section 8); what a creation cannot know is null."""
    nodes = cluster.nodes
    return {
        "cluster_id": str(cluster.cluster_id),
        "name": cluster.name,
        "endpoints": [
            {
                "node": entry.id,
                "seat": entry.seat,
                "dc": entry.dc,
                "url": f"https://{entry.client}",
                "ops_url": f"http://{entry.ops}",
            }
            for entry in nodes
        ],
        "ca_file": "../ca.pem",
        "tenant": None,
        "nodes": [
            {
                "id": entry.id,
                "dc": entry.dc,
                "pid": None,
                "data_dir": None,
                "token_dir": None,
                "restart": None,
            }
            for entry in nodes
        ],
        "admin": {
            "urls": [f"https://{entry.admin}" for entry in nodes],
            "cert_file": "cert.pem",
            "key_file": "key.pem",
        },
    }
