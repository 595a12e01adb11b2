"""``quorumvault certs``: issue, renew, list and show certificates."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format
from quorumvault.cli.hsm import read_small

if TYPE_CHECKING:
    from cluster.certificates import Authority
    from cluster.cluster_file import ClusterFile, NodeEntry

app = typer.Typer(no_args_is_help=True)

ENDS_SOON_DAYS: Final = 30
"""The month of slack that a yearly renewal has (node.creation)."""


@app.command("issue")
def issue(
    directory: Annotated[
        Path, typer.Argument(help="The directory of 'cluster create', with offline/ca.key.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder for cert.pem and key.pem.")],
    node: Annotated[
        int | None, typer.Option("--node", help="For this node of cluster.json.")
    ] = None,
    operator: Annotated[str | None, typer.Option("--operator", help="For an operator.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Valid for so many days.")] = 398,
) -> None:
    """Issue a certificate for a node (peer role) or for an operator (admin listener)."""
    from cluster import certificates  # noqa: PLC0415 - heavy
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy
    from node import creation  # noqa: PLC0415 - heavy

    if (node is None) == (operator is None):
        raise Failure("give either --node or --operator", Exit.USAGE)
    try:
        cluster = load(directory / "cluster.json")
        authority = _authority(directory)
        if node is not None:
            entry = cluster.node(node)
            hosts = creation.hosts_of(entry)
            uri = certificates.node_uri(cluster.cluster_id, entry.id)
        else:
            hosts, uri = [], certificates.operator_uri(cluster.cluster_id, operator or "")
        issued = certificates.issue(
            authority, uri=uri, hosts=hosts, days=days, server=node is not None, client=True
        )
        creation.write_private(out / "key.pem", issued.key_pem)
        (out / "cert.pem").write_bytes(issued.cert_pem)
    except FileExistsError as error:
        raise Failure(
            f"{error.filename} exists: choose a new folder with --out", Exit.CONFLICT
        ) from error
    except (ClusterFileError, certificates.CertificateError) as error:
        raise Failure(str(error), Exit.USAGE) from error
    typer.echo(f"{uri}: {out}/cert.pem and {out}/key.pem, valid for {days} days", err=True)


def _authority(directory: Path) -> Authority:
    from cluster.certificates import Authority  # noqa: PLC0415 - heavy
    from quorumvault.cli import certs_pair  # noqa: PLC0415 - heavy

    ends = certs_pair.certificate(directory / "ca.pem").not_valid_after_utc
    if ends <= dt.datetime.now(dt.UTC):
        raise Failure(
            f"the authority {directory}/ca.pem ended {ends:%Y-%m-%d}: it can issue nothing valid; "
            "check this machine's clock",
            Exit.USAGE,
        )
    return Authority(
        cert_pem=read_small(directory / "ca.pem", "authority"),
        key_pem=read_small(directory / "offline" / "ca.key", "authority key"),
    )


@app.command("renew")
def renew(
    directory: Annotated[
        Path, typer.Argument(help="The directory of 'cluster create', with offline/ca.key.")
    ],
    node: Annotated[int | None, typer.Option("--node", help="The pair of this node.")] = None,
    operator: Annotated[
        str | None, typer.Option("--operator", help="The pair in operator/, of this name.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes and operator/.")] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Valid for so many days.")] = 398,
) -> None:
    """Put new pairs, with new keys, in the place of old ones; the old stay as .old until the next.

    A node takes its new pair when it is copied to where its configuration says, and it is told to
    reload.
    """
    from cluster.certificates import CertificateError, issue  # noqa: PLC0415 - heavy
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy
    from node import creation  # noqa: PLC0415 - heavy
    from quorumvault.cli import certs_pair  # noqa: PLC0415 - heavy

    if [node is not None, operator is not None, every].count(True) != 1:
        raise Failure("give one of --node, --operator and --all", Exit.USAGE)
    try:
        cluster = load(directory / "cluster.json")
        authority = _authority(directory)
        ids = [entry.id for entry in cluster.nodes] if every else [node] if node is not None else []
        wanted = [(directory / "nodes" / str(each), cluster.node(each)) for each in ids]
        holders: list[tuple[Path, str, NodeEntry | None]] = [
            (folder, _node_uri(cluster, entry.id), entry) for folder, entry in wanted
        ]
        if node is None:
            holders.append((directory / "operator", _operator_uri(directory, operator), None))
        for folder, uri, entry in holders:
            issued = issue(
                authority,
                uri=uri,
                hosts=creation.hosts_of(entry) if entry else (),
                days=days,
                server=entry is not None,
                client=True,
            )
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            certs_pair.exchange(folder, issued)
            typer.echo(f"{uri}: {folder}/cert.pem and key.pem, for {days} days", err=True)
    except (ClusterFileError, CertificateError) as error:
        raise Failure(str(error), Exit.USAGE) from error


def _node_uri(cluster: ClusterFile, node_id: int) -> str:
    from cluster.certificates import node_uri  # noqa: PLC0415 - heavy

    return node_uri(cluster.cluster_id, node_id)


def _operator_uri(directory: Path, name: str | None) -> str:
    """The URI of the pair in operator/, which is `name`'s if one is given."""
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - heavy

    from cluster.certificates import (  # noqa: PLC0415 - heavy
        OperatorIdentity,
        operator_uri,
        peer_identity,
    )
    from cluster.cluster_file import load  # noqa: PLC0415 - heavy
    from quorumvault.cli import certs_pair  # noqa: PLC0415 - heavy

    path = directory / "operator" / certs_pair.CERT_NAME
    cluster_id = load(directory / "cluster.json").cluster_id
    der = certs_pair.certificate(path).public_bytes(Encoding.DER)
    identity = peer_identity(der, cluster_id)
    if not isinstance(identity, OperatorIdentity) or name not in (None, identity.name):
        raise Failure(
            f"{path} is not of operator {name}: other operators get theirs by "
            "'quorumvault certs issue --operator'",
            Exit.USAGE,
        )
    return operator_uri(cluster_id, identity.name)


@app.command("list")
def list_all(
    directory: Annotated[Path, typer.Argument(help="The directory of 'cluster create'.")],
    output: Annotated[Format, typer.Option("--output", "-o", help="table or json.")] = Format.TABLE,
) -> None:
    """List the authority's, every node's and the operator's certificate, with the days left.

    Exit code 0, or 4 when one of them ends within 30 days.
    """
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy
    from quorumvault.cli import certs_pair  # noqa: PLC0415 - heavy

    try:
        cluster = load(directory / "cluster.json")
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error
    files = {"authority": directory / "ca.pem", "operator": directory / "operator" / "cert.pem"} | {
        f"node {entry.id}": directory / "nodes" / str(entry.id) / "cert.pem"
        for entry in cluster.nodes
    }
    now = dt.datetime.now(dt.UTC)
    rows = []
    for name, path in files.items():
        # What was handed out and wiped here, as the creation says, is no fault.
        ends = certs_pair.certificate(path).not_valid_after_utc if path.exists() else None
        left = None if ends is None else (ends - now).days
        rows.append({
            "name": name,
            "file": str(path),
            "not_after": None if ends is None else ends.isoformat(),
            "days_left": left,
        })  # fmt: skip
    if output is Format.JSON:
        sys.stdout.write(json.dumps({"certificates": rows}, indent=2) + "\n")
    else:
        for row in rows:
            days = "not here" if row["days_left"] is None else f"{row['days_left']} days left"
            sys.stdout.write(f"{row['name']:<12}{days:>16}  {row['file']}\n")
    days_left = [row["days_left"] for row in rows if isinstance(row["days_left"], int)]
    raise typer.Exit(Exit.DEGRADED if min(days_left, default=0) < ENDS_SOON_DAYS else Exit.OK)


@app.command("show")
def show(
    files: Annotated[list[Path], typer.Argument(help="PEM files.")],
) -> None:
    """Print subject, names and days left of certificates, one JSON object a line."""
    from cryptography import x509  # noqa: PLC0415 - heavy

    from quorumvault.cli import certs_pair  # noqa: PLC0415 - heavy

    for path in files:
        certificate = certs_pair.certificate(path)
        names: list[str] = []
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = [str(name.value) for name in extension.value]
        except x509.ExtensionNotFound:
            pass
        left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
        line = {
            "file": str(path),
            "subject": certificate.subject.rfc4514_string(),
            "names": names,
            "not_after": certificate.not_valid_after_utc.isoformat(),
            "days_left": left.days,
        }
        sys.stdout.write(json.dumps(line) + "\n")
