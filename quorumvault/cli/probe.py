"""``quorumvault probe``: does the vault do for a client what it is for, through every node.

It sees what no metric of a node can: a whole registration, a counted wrong guess, the right one,
and a delete, as a client has them. It acts for an account of its own and deletes it at the end.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from quorumvault.cli.probe_round import Probe
    from quorumvault.cli.probe_tell import Tally

PREFIX: Final = "probe-"
"""Of every account that a probe acts for: it deletes keys, so it must never meet a person's."""
ACCOUNT_BYTES: Final = 255


def probe(
    connection: Annotated[
        Path,
        typer.Option(
            "--connection",
            envvar="QUORUMVAULT_CONNECTION",
            help="Connection file with the tenant's key.",
        ),
    ],
    forever: Annotated[
        bool, typer.Option("--forever", help="Round after round until Ctrl-C; then a summary.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds from round to round, with --forever.")
    ] = 10.0,
    account: Annotated[
        str | None,
        typer.Option(
            help="Act for this account, again and again; it begins with 'probe-'.",
            show_default="probe- and a random number",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, max=120, help="Seconds for each step.")] = 10.0,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="table or json (a line per round).")
    ] = Format.TABLE,
) -> None:
    """Register, guess wrong, guess right and delete, through every node; milliseconds of each.

    Exit code 0 when all went well, 4 when it did not at some node; when it did at none, what a
    client would end with: 3 nobody answers, 5 no quorum, 6 the token is refused, 124 too slow. 1
    when the vault answered wrongly.
    """
    import asyncio  # noqa: PLC0415 - heavy

    from quorumvault.cli.probe_round import Probe  # noqa: PLC0415 - heavy
    from quorumvault.connection import load  # noqa: PLC0415 - heavy
    from quorumvault.errors import VaultError  # noqa: PLC0415 - heavy

    name = account or PREFIX + secrets.token_hex(8)
    if not name.startswith(PREFIX) or len(name.encode()) > ACCOUNT_BYTES:
        raise Failure(
            f"--account {name!r}: a probe deletes the account's key, so its name must begin with "
            f"{PREFIX!r} and have at most {ACCOUNT_BYTES} bytes",
            Exit.USAGE,
        )
    try:
        one = Probe(load(connection), name, timeout)
    except VaultError as error:
        raise Failure(str(error), Exit.USAGE) from error
    raise typer.Exit(asyncio.run(_run(one, every if forever else None, output)))


async def _run(one: Probe, every: float | None, output: Format) -> int:
    """Rounds until told to stop; cleans up in any case, and gives the exit code of all."""
    import asyncio  # noqa: PLC0415 - heavy
    import signal  # noqa: PLC0415 - heavy

    from quorumvault.cli.probe_tell import Tally  # noqa: PLC0415 - heavy

    tally = Tally()
    work = asyncio.ensure_future(_rounds(one, every, output, tally))
    stopped: list[int] = []

    def stop(number: int) -> None:
        if not stopped:  # a second Ctrl-C does not cut off the cleaning, which has a limit
            work.cancel()
        stopped.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        await _clean(one)
    if every is not None:
        _summarise(tally, output)
    elif stopped:
        return 128 + stopped[0]
    return tally.exit_code


async def _rounds(one: Probe, every: float | None, output: Format, tally: Tally) -> None:
    import asyncio  # noqa: PLC0415 - heavy
    import datetime as dt  # noqa: PLC0415 - heavy
    import time  # noqa: PLC0415 - heavy

    from quorumvault.cli import probe_tell as tell  # noqa: PLC0415 - heavy

    table = output is Format.TABLE and every is None
    if table:
        _say(tell.head())
    while True:
        began, at, lines = time.monotonic(), dt.datetime.now(dt.UTC), []
        async for line in one.round():
            lines.append(line)
            if table:
                _say(tell.row(line))
        tally.add(lines)
        if output is Format.JSON:
            _say(tell.round_json(lines, at, one.account))
        elif every is not None:
            _say(tell.round_line(lines, at))
        if every is None:
            return
        await asyncio.sleep(max(0.0, began + every - time.monotonic()))


async def _clean(one: Probe) -> None:
    """Delete what is left of the account, and say so if that cannot be done."""
    import asyncio  # noqa: PLC0415 - heavy

    from quorumvault.cli.probe_round import CLEANING_S  # noqa: PLC0415 - heavy

    try:
        async with asyncio.timeout(CLEANING_S + 2):
            left = await one.clean()
    except TimeoutError:
        left = f"it took more than {CLEANING_S:.0f} s"
    if left is not None:
        typer.echo(
            f"The probe's key is still there ({left}). It opens nothing; to have it gone: "
            f"quorumvault record delete --yes --account {one.account}",
            err=True,
        )


def _summarise(tally: Tally, output: Format) -> None:
    from quorumvault.cli import probe_tell as tell  # noqa: PLC0415 - heavy

    _say(tell.summary_json(tally) if output is Format.JSON else tell.summary(tally))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
