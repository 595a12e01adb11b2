"""``quorumvault events``: what happened lately, at one node or at all, and what happens now."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.completion import node_ids
from quorumvault.cli.desk import CallFailed, ConnectionFile, Desk
from quorumvault.cli.events_read import Reader, Told, line, merged
from quorumvault.cli.exits import Exit
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quorumvault.cli.desk_answers import Events

POLL_S: Final = 1.0
"""How often --follow asks."""
MAX_PAGES: Final = 8
"""Of one node in one go; its whole ring is two."""


class Level(StrEnum):
    """From which level on."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass
class Watched:
    """One node while it is read."""

    node: int
    reader: Reader = field(default_factory=Reader)
    silent: CallFailed | None = None
    """Why it did not answer the last time."""


def events(
    connection: ConnectionFile,
    node: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of this node.", show_default="all of them", autocompletion=node_ids
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    level: Annotated[Level, typer.Option(help="From this level on.")] = Level.INFO,
    last: Annotated[
        int, typer.Option(min=0, help="Begin with so many of the past; 0: all that are kept.")
    ] = 100,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="table or json (a line per event).")
    ] = Format.TABLE,
) -> None:
    """Show the nodes' events in the order of time, by the nodes' own clocks.

    A node keeps its last 1,000 events, for as long as it runs. Exit code 4 when some node does not
    answer, 3 when none does.
    """
    desk = Desk(connection)
    watched = [Watched(each) for each in desk.each(None if node is None else [node])]
    past = merged(_read(desk, watched), level)
    _tell(desk, past[-last:] if last else past, output)
    if follow:
        _follow(desk, watched, level, output)
        return
    silent = [each.silent for each in watched if each.silent is not None]
    if silent:
        raise typer.Exit(Exit.DEGRADED if len(silent) < len(watched) else silent[0].exit_code)


def _follow(desk: Desk, watched: list[Watched], level: Level, output: Format) -> None:
    """Until Ctrl-C, whatever becomes of the nodes meanwhile."""
    try:
        while True:
            time.sleep(POLL_S)
            _tell(desk, merged(_read(desk, watched), level), output)
    except KeyboardInterrupt:
        return


def _read(desk: Desk, watched: list[Watched]) -> list[Told]:
    """What is new at every node, asked at once."""
    with ThreadPoolExecutor(len(watched)) as pool:
        pages = pool.map(lambda each: _read_one(desk, each), watched)
        return [told for page in pages for told in page]


def _read_one(desk: Desk, one: Watched) -> list[Told]:
    from quorumvault.cli.desk_answers import Events  # noqa: PLC0415 - heavy

    found: list[Told] = []
    for _ in range(MAX_PAGES):
        try:
            page: Events = desk.ask(one.node, "GET", one.reader.path, Events)
        except CallFailed as failed:
            if one.silent is None:  # once, not every second
                typer.echo(str(failed), err=True)
            one.silent = failed
            break
        if one.silent is not None:
            typer.echo(f"{desk.name(one.node)} answers again", err=True)
            one.silent = None
        taken = one.reader.take(page)
        if taken.remark:
            typer.echo(f"{desk.name(one.node)} {taken.remark}", err=True)
        found += [Told(one.node, event) for event in taken.events]
        if not taken.again:
            break
    return found


def _tell(desk: Desk, told: Iterable[Told], output: Format) -> None:
    import msgspec  # noqa: PLC0415 - heavy

    for each in told:
        if output is Format.JSON:
            facts = {"node": each.node, "dc": desk.dcs[each.node]}
            text = json.dumps(facts | msgspec.to_builtins(each.event))
        else:
            text = line(each, desk.dcs[each.node])
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
