"""``quorumvault bench``: whole logins a second against a running vault."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from quorumvault.cli.exits import Exit, Failure


def bench(
    connection: Annotated[
        Path,
        typer.Option(
            "--connection", envvar="QUORUMVAULT_CONNECTION", help="The cluster's connection file."
        ),
    ],
    clients: Annotated[int, typer.Option(min=1, max=10_000, help="Clients at once.")] = 64,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to count.")] = 10.0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Client processes.")] = 1,
) -> None:
    """Register accounts, log in as fast as the vault lets them, and print figures as JSON.

    The accounts are named bench-…, and their records cannot be opened by a proper client.
    """
    import msgspec  # noqa: PLC0415 - heavy

    from chaos.bench import measure  # noqa: PLC0415 - heavy
    from quorumvault.errors import VaultError  # noqa: PLC0415 - heavy

    try:
        report = measure(connection, clients=clients, seconds=seconds, processes=processes)
    except VaultError as error:
        raise Failure(str(error), Exit.CONNECTION) from error
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
