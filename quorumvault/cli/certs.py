"""``quorumvault certs``: issue certificates with the offline authority, and show what is in one."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.hsm import read_small

app = typer.Typer(no_args_is_help=True)


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
        authority = certificates.Authority(
            cert_pem=read_small(directory / "ca.pem", "authority"),
            key_pem=read_small(directory / "offline" / "ca.key", "authority key"),
        )
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


@app.command("show")
def show(
    files: Annotated[list[Path], typer.Argument(help="PEM files.")],
) -> None:
    """Print subject, names and days left of certificates, one JSON object a line."""
    from cryptography import x509  # noqa: PLC0415 - heavy

    for path in files:
        try:
            certificate = x509.load_pem_x509_certificate(read_small(path, "certificate"))
        except ValueError as error:
            raise Failure(
                f"{path} is not a PEM certificate; name a cert.pem", Exit.USAGE
            ) from error
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
