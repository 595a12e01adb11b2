"""``quorumvault cluster status``: is all well, and what may still fail; once, or watched."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from quorumvault.cli.desk import ConnectionFile, Desk
from quorumvault.cli.exits import Exit
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, Group

    from node.verdict import Overview
    from quorumvault.cli.status_rows import Row

CODES: Final = {"healthy": Exit.OK, "degraded": Exit.DEGRADED, "no-quorum": Exit.NO_QUORUM}
COLOURS: Final = {"healthy": "bold green", "degraded": "bold yellow", "no-quorum": "bold red"}
STATE_COLOURS: Final = {
    "drained": "yellow",
    "not ready": "yellow",
    "cut off": "red",
    "no answer": "red",
}


@dataclass(frozen=True)
class Look:
    """One look at the whole cluster."""

    at: str
    overview: Overview
    rows: list[Row]

    @property
    def code(self) -> Exit:
        """How the command ends after it."""
        return CODES[self.overview.verdict]

    @property
    def gist(self) -> tuple[object, ...]:
        """What a change of is worth a line."""
        found = self.overview
        return (found.verdict, found.failures_tolerated, *found.why)

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``: the overview, each node with all that is known of it."""
        facts = self.overview.to_dict()
        facts["t"] = self.at
        facts["nodes"] = [
            {**line, **row.to_dict()} for line, row in zip(facts["nodes"], self.rows, strict=True)
        ]
        return facts


def status(
    connection: ConnectionFile,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Look again and again until Ctrl-C; off a terminal a line per change."
        ),
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.5, max=3600, help="Seconds from look to look, with --watch.")
    ] = 2.0,
    shards: Annotated[bool, typer.Option("--shards", help="A line for each shard, too.")] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="table or json.")] = Format.TABLE,
) -> None:
    """Show whether all is well, why not, how many more nodes may fail, and every node.

    Exit code 0 when healthy, 4 when degraded, 5 without a quorum; with --watch, that of the last
    look.
    """
    desk = Desk(connection)
    if watch:
        raise typer.Exit(_watch(desk, every, output, shards=shards))
    seen = _look(desk)
    if output is Format.JSON:
        sys.stdout.write(json.dumps(seen.to_dict(), indent=2) + "\n")
    else:
        console = _console()
        console.print(_shown(seen, console.width, shards=shards), soft_wrap=True)
    raise typer.Exit(seen.code)


def _look(desk: Desk) -> Look:
    import datetime as dt  # noqa: PLC0415 - heavy

    from quorumvault.cli.status_rows import rows  # noqa: PLC0415 - heavy

    overview, reports = desk.look()
    return Look(f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}", overview, rows(overview, reports))


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - heavy

    return Console(highlight=False)


def _shown(seen: Look, width: int, *, shards: bool) -> Group:
    """One look for people."""
    from rich.console import Group  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    from quorumvault.cli import status_table as made  # noqa: PLC0415 - heavy

    found = seen.overview
    lines = [Text(made.header(found), style=COLOURS[found.verdict])]
    lines += [Text(line) for line in made.why(found, width)]
    head, *rows = made.table(seen.rows, width)
    lines += [Text(""), Text(head, style="bold")]
    for row, line in zip(seen.rows, rows, strict=True):
        lines.append(Text(line, style=STATE_COLOURS.get(row.state, "")))
    lines += [Text(""), Text(made.shards_line(found))]
    if shards:
        lines += [Text(line) for line in made.shard_table(found.shards)]
    return Group(*lines)


def _watch(desk: Desk, every: float, output: Format, *, shards: bool) -> Exit:
    """Until Ctrl-C; the code of the last look."""
    seen: Look | None = None
    live = output is Format.TABLE and sys.stdout.isatty()
    looks = _redrawn(desk, every, shards=shards) if live else _changes(desk, every, output)
    try:
        for each in looks:
            seen = each  # before it is shown: what a person has seen is what the code says
    except KeyboardInterrupt:
        return Exit.UNEXPECTED if seen is None else seen.code
    raise RuntimeError("a watch has no end of its own")


def _redrawn(desk: Desk, every: float, *, shards: bool) -> Iterator[Look]:
    """On a terminal: the newest look, in the place of the one before."""
    from rich.console import Group  # noqa: PLC0415 - heavy
    from rich.live import Live  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    console = _console()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            seen = _look(desk)
            yield seen
            end = Text(f"{seen.at}, every {every:g} s; Ctrl-C ends", style="dim")
            live.update(Group(_shown(seen, console.width, shards=shards), end), refresh=True)
            time.sleep(every)


def _changes(desk: Desk, every: float, output: Format) -> Iterator[Look]:
    """For a file or a program: a line when something is different."""
    from quorumvault.cli import status_table as made  # noqa: PLC0415 - heavy

    told: tuple[object, ...] = ()
    while True:
        seen = _look(desk)
        yield seen
        if seen.gist != told:
            told = seen.gist
            if output is Format.JSON:
                line = json.dumps(seen.to_dict())
            else:
                line = "; ".join([f"{seen.at} {made.header(seen.overview)}", *seen.overview.why])
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        time.sleep(every)
