"""The operator's directory when a node is replaced: what the new one's data center gets.

Like `creation`, it runs offline beside the certificate authority's key and never in a node. What it
writes for the new node lies in one folder to carry there; no key of the vault is in it (the seat
package opens only with three custodians' words), and nothing of an account (I6, I11).
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Final

from cluster import certificates
from cluster.certificates import CertificateError, NodeIdentity, peer_identity
from cluster.cluster_file import encode, save
from node.creation import CERTIFICATE_DAYS, connection, hosts_of, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.certificates import Authority
    from cluster.cluster_file import ClusterFile, NodeEntry

STEPS_FILE: Final = "STEPS.txt"


class FolderTaken(Exception):  # noqa: N818 - a refusal, not a fault
    """`nodes/<id>` holds something else; one line with the next step."""


def write_folder(directory: Path, cluster: ClusterFile, old_id: int, authority: Authority) -> Path:
    """Write `nodes/<id>` for the node that replaces `old_id` in `cluster`; whole or not at all.

    A folder that an earlier run wrote for this very node stays as it is.

    Raises:
        FolderTaken: it holds another node's certificate, or none.
        CertificateError: the authority's files do not fit together.
        OSError: it cannot be written.

    """
    entry = cluster.node(cluster.successor(old_id) or 0)
    folder = directory / "nodes" / str(entry.id)
    if folder.exists():
        _check_folder(folder, cluster, entry)
        return folder
    issued = certificates.issue(
        authority,
        uri=certificates.node_uri(cluster.cluster_id, entry.id),
        hosts=hosts_of(entry),
        days=CERTIFICATE_DAYS,
        server=True,
        client=True,
    )
    making = folder.with_name(f".{entry.id}.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    write_private(making / "key.pem", issued.key_pem)
    (making / "cert.pem").write_bytes(issued.cert_pem)
    shutil.copyfile(directory / "ca.pem", making / "ca.pem")
    package = directory / "seats" / f"seat-{entry.seat}.package"
    if package.exists():  # else it is kept elsewhere, and the steps name it
        write_private(making / package.name, package.read_bytes())
    (making / "cluster.json").write_bytes(encode(cluster))
    (making / "node.toml").write_text(node_toml(entry, old_id))
    (making / STEPS_FILE).write_text(
        "".join(f"{number}. {step}\n" for number, step in enumerate(steps(entry, old_id), start=1))
    )
    making.rename(folder)
    return folder


def _check_folder(folder: Path, cluster: ClusterFile, entry: NodeEntry) -> None:
    from cryptography import x509  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - heavy

    try:
        found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        identity = peer_identity(found.public_bytes(Encoding.DER), cluster.cluster_id)
        (folder / "key.pem").read_bytes()
        written = (folder / "cluster.json").read_bytes()
    except (OSError, ValueError, CertificateError) as error:
        raise FolderTaken(
            f"{folder} exists and does not hold node {entry.id}'s certificate and key ({error}): "
            "move it away and run this again"
        ) from error
    if identity != NodeIdentity(entry.id) or written != encode(cluster):
        raise FolderTaken(
            f"{folder} was written for another replacement: move it away and run this again"
        )


def keep(directory: Path, cluster: ClusterFile) -> None:
    """Make `cluster` the directory's own: the connection file first, then cluster.json.

    Raises:
        ClusterFileError, OSError: not written; what was there is whole.

    """
    target = directory / "operator" / "connection.json"
    temporary = target.with_name(".connection.json.new")
    temporary.write_text(json.dumps(connection(cluster), indent=2) + "\n")
    os.replace(temporary, target)  # noqa: PTH105 - the one call that replaces atomically
    save(directory / "cluster.json", cluster)


def node_toml(entry: NodeEntry, old_id: int) -> str:
    """The new node's configuration but for what only its machine knows."""
    return f"""\
# Node {entry.id}, seat {entry.seat}, in place of node {old_id}. Relative paths are relative to \
this file.
node_id = {entry.id}
cluster_file = "cluster.json"     # the node writes here when members change
data_dir = "data"                 # a new one; never node {old_id}'s

[tls]
ca_file = "ca.pem"
cert_file = "cert.pem"
key_file = "key.pem"

[listen]
client = {json.dumps(entry.client)}
peer = {json.dumps(entry.peer)}
admin = {json.dumps(entry.admin)}
ops = {json.dumps(entry.ops)}

# To be filled in as on the other nodes: the HSM, and who signs tokens.
#[hsm]
#module = "/usr/lib/softhsm/libsofthsm2.so"
#token_label = "seat-{entry.seat}"
#pin_file = "pin"
#
#[[tenants]]
#iss = "my-app"
#alg = "EdDSA"
#public_key_file = "my-app.pem"
"""


def steps(entry: NodeEntry, old_id: int) -> list[str]:
    """What is left to do by people, in order; one line each."""
    return [
        (
            f"If node {old_id}'s HSM still exists: destroy the vault's keys on it, with "
            "'quorumvault hsm destroy --module FILE --token-label LABEL --pin-file FILE'. "
            "Delete its key.pem: clients know no revocation."
        ),
        (
            f"Bring the folder nodes/{entry.id} to the machine of seat {entry.seat} ({entry.dc}); "
            "its key.pem is secret."
        ),
        (
            "There, with three custodians: 'quorumvault hsm provision --cluster-file cluster.json "
            f"--node {entry.id} --package seat-{entry.seat}.package --module FILE --token-label "
            f"seat-{entry.seat} --pin-file pin --init-token --so-pin-file so-pin'."
        ),
        (
            "Fill in [hsm] and [[tenants]] in node.toml, then 'quorumvault node run --config "
            "node.toml'."
        ),
        (
            f"Here: 'quorumvault member replace {old_id} --cluster DIR --wait' shows when node "
            f"{entry.id} is a voter of every shard with a complete ledger."
        ),
    ]
