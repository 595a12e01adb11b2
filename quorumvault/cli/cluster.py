"""``quorumvault cluster``: create one, see how it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli import cluster_members, cluster_status
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.cluster_file import NodeEntry

app = typer.Typer(no_args_is_help=True)

PEER_PORT: Final = 7443
CLIENT_PORT: Final = 8443
ADMIN_PORT: Final = 9443
OPS_PORT: Final = 9090
SEATS: Final = 5


def _entries(nodes: list[str]) -> list[NodeEntry]:
    from cluster.cluster_file import NodeEntry  # noqa: PLC0415 - heavy
    from cluster.types import NodeId, Seat  # noqa: PLC0415 - heavy

    if len(nodes) != SEATS:
        raise Failure(
            f"--node is given {len(nodes)} times; a vault has five data centers, name each once",
            Exit.USAGE,
        )
    entries = []
    for number, text in enumerate(nodes, start=1):
        dc, at, host = text.partition("@")
        if not (dc and at and host) or (host.count(":") == 1):
            raise Failure(
                f"--node {text!r}: write it as DC@HOST, without a port (a node listens on "
                f"{PEER_PORT}, {CLIENT_PORT}, {ADMIN_PORT} and {OPS_PORT})",
                Exit.USAGE,
            )
        address = f"[{host}]" if ":" in host else host
        entries.append(
            NodeEntry(
                id=NodeId(number),
                seat=Seat(number),
                dc=dc,
                peer=f"{address}:{PEER_PORT}",
                client=f"{address}:{CLIENT_PORT}",
                admin=f"{address}:{ADMIN_PORT}",
                ops=f"{address}:{OPS_PORT}",
            )
        )
    return entries


@app.command("create")
def create(
    directory: Annotated[Path, typer.Argument(help="An empty or new directory.")],
    name: Annotated[str, typer.Option("--name", help="The cluster's name; tokens name it as aud.")],
    node: Annotated[
        list[str],
        typer.Option("--node", help="DC@HOST, once per data center; five of them, seat 1 first."),
    ],
    shards: Annotated[int, typer.Option(min=1, max=256, help="Raft groups; fixed for ever.")] = 16,
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="Guesses until the key is gone; fixed.")
    ] = 10,
    grace: Annotated[
        int, typer.Option(min=1, max=86_400, help="Seconds of grace on the last guess; fixed.")
    ] = 120,
    shares_dir: Annotated[
        Path | None,
        typer.Option(help="Write each custodian's words to a 0600 file here, not to stdout."),
    ] = None,
) -> None:
    """Create a cluster: keys, seat packages, certificates. Once, offline, before any node runs."""
    from cluster.cluster_file import ClusterFileError  # noqa: PLC0415 - heavy
    from node import creation  # noqa: PLC0415 - heavy

    def hand_out(words: Mapping[int, Sequence[str]]) -> None:
        for seat, mnemonics in sorted(words.items()):
            for custodian, mnemonic in enumerate(mnemonics, start=1):
                if shares_dir is None:
                    sys.stdout.write(f"seat {seat}, custodian {custodian}: {mnemonic}\n")
                else:
                    path = shares_dir / f"seat-{seat}-custodian-{custodian}.words"
                    creation.write_private(path, mnemonic.encode() + b"\n")
        sys.stdout.flush()

    try:
        created = creation.create(
            directory,
            name=name,
            nodes=_entries(node),
            shards=shards,
            limit=limit,
            grace_s=grace,
            hand_out=hand_out,
        )
    except creation.CreationRefused as refused:
        raise Failure(str(refused), Exit.CONFLICT) from refused
    except ClusterFileError as error:
        raise Failure(f"no cluster was created: {error}", Exit.USAGE) from error
    except FileExistsError as error:
        raise Failure(
            f"{error.filename} exists already; no cluster was created: choose a new directory",
            Exit.CONFLICT,
        ) from error
    except OSError as error:
        raise Failure(
            f"{error.filename or 'the words'}: {error.strerror}; no cluster was created",
            Exit.UNEXPECTED,
        ) from error
    typer.echo(
        f"Cluster {created.cluster.cluster_id} is written to {directory}. Each data center gets "
        "cluster.json, ca.pem, its own nodes/<id> and its own seat package; operators get "
        "operator/; each custodian gets "
        "one share per seat, any three of which open that package. Then move offline/ca.key "
        "away and wipe this machine.",
        err=True,
    )


app.command("status")(cluster_status.status)
app.command("members")(cluster_members.members)
