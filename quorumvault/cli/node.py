"""``quorumvault node``: run a vault node, or have one step aside, come back, read its files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.completion import node_ids
from quorumvault.cli.desk import ConnectionFile, Desk
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from node.report import StatusReport

app = typer.Typer(no_args_is_help=True)

LOOK_S: Final = 0.25
"""How often a drained node is looked at."""

Which = Annotated[
    int,
    typer.Argument(metavar="NODE", help="Which node, by its id.", min=1, autocompletion=node_ids),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="table or json.")]


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
    node: Which,
    connection: ConnectionFile,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=3600, help="Wait so many seconds until it leads nothing."),
    ] = None,
) -> None:
    """Have a node step aside: no new requests, its shards handed over; it stays up and votes.

    Exit code 124 when it still leads a shard after --wait.
    """
    from quorumvault.cli.desk_answers import Drained  # noqa: PLC0415 - heavy

    desk = Desk(connection)
    desk.ask(node, "POST", "/v1/drain", Drained)
    if wait is None:
        typer.echo(
            f"node {node}: drained; it hands its shards over, takes no requests and stays up "
            f"(back with 'quorumvault node undrain {node}')",
            err=True,
        )
        return
    began = time.monotonic()
    _until_it_leads_nothing(desk, node, began + wait)
    typer.echo(
        f"node {node}: drained, and leads nothing after {time.monotonic() - began:.1f} s; it may "
        f"be stopped now, or brought back with 'quorumvault node undrain {node}'",
        err=True,
    )


def _until_it_leads_nothing(desk: Desk, node: int, deadline: float) -> None:
    from node.report import StatusReport  # noqa: PLC0415 - heavy

    while leads := _led(desk.ask(node, "GET", "/v1/status", StatusReport)):
        if time.monotonic() >= deadline:
            raise Failure(
                f"{desk.name(node)} is drained and still leads shard "
                f"{', '.join(map(str, leads))}: no other node would take it; 'quorumvault cluster "
                "status' shows what is wrong with the others",
                Exit.TIMEOUT,
            )
        time.sleep(LOOK_S)


def _led(report: StatusReport) -> list[int]:
    return [group.shard for group in report.groups if group.role == "leader"]


@app.command("undrain")
def undrain(node: Which, connection: ConnectionFile) -> None:
    """Take a drained node back into service: it takes requests and may lead."""
    from quorumvault.cli.desk_answers import Drained  # noqa: PLC0415 - heavy

    Desk(connection).ask(node, "POST", "/v1/undrain", Drained)
    typer.echo(
        f"node {node}: serves again; 'quorumvault leader balance' gives it shards to lead, and so "
        "does time",
        err=True,
    )


@app.command("reload")
def reload(node: Which, connection: ConnectionFile, output: Output = Format.TABLE) -> None:
    """Have a node read its configuration and certificates again, without a restart.

    Exit code 2 when something in them is wrong: then the node keeps what it has.
    """
    from quorumvault.cli.desk_answers import Reloaded  # noqa: PLC0415 - heavy

    told = Desk(connection).ask(node, "POST", "/v1/reload", Reloaded)
    if output is Format.JSON:
        facts = {"node": node, "changed": told.changed, "needs_restart": told.needs_restart}
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    changed = ", ".join(told.changed) or "nothing"
    sys.stdout.write(f"node {node}: changed: {changed}\n")
    if told.needs_restart:
        sys.stdout.write(f"node {node}: takes a restart: {', '.join(told.needs_restart)}\n")
