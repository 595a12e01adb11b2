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
    """Take a node out of service in good order; it stops when it has handed over."""
    from quorumvault.cli import admin  # noqa: PLC0415 - heavy

    access = admin.Access.from_connection(connection)
    access.drain(node)
    typer.echo(f"node {node}: draining; it hands its shards over and stops", err=True)
