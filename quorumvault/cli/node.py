"""``quorumvault node``: run one vault node, or ask one to drain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command("run")
def run(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The node's TOML file.", dir_okay=False)
    ],
) -> None:
    """Run one node until SIGTERM, which drains it first."""
    from node.main import run as run_node  # noqa: PLC0415 - heavy

    raise typer.Exit(run_node(config))


@app.command("drain")
def drain(
    connection: Annotated[
        Path,
        typer.Option(
            "--connection", envvar="QUORUMVAULT_CONNECTION", help="The cluster's connection file."
        ),
    ],
    node: Annotated[str, typer.Option("--node", help="Which node, by its id.")],
) -> None:
    """Have a node step aside: no new requests, its shards handed over; it stays up and votes."""
    from quorumvault.cli import admin  # noqa: PLC0415 - heavy

    access = admin.Access.from_connection(connection)
    access.drain(node)
    typer.echo(
        f"node {node}: drained; it hands its shards over, takes no requests and stays up", err=True
    )
