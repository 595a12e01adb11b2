"""``quorumvault leader``: hand shards to a node, or spread them over all."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.completion import node_ids
from quorumvault.cli.desk import CallFailed, ConnectionFile, Desk
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterable

    from node.verdict import ShardLine

app = typer.Typer(no_args_is_help=True)

TRIES: Final = 3
"""Leaders asked for one shard: leadership may move between the look and the call."""
SETTLE_S: Final = 1.0
ALL: Final = "all"

Output = Annotated[Format, typer.Option("--output", "-o", help="table or json.")]


@dataclass(frozen=True)
class Moved:
    """What came of handing one shard over."""

    shard: int
    before: int | None
    leader: int | None
    """Who leads now; None where it did not work."""
    problem: str = ""


@app.command("transfer")
def transfer(
    connection: ConnectionFile,
    shard: Annotated[str, typer.Option(help="A shard's number, or 'all'.")],
    to: Annotated[
        int,
        typer.Option(min=1, help="The node that is to lead, by its id.", autocompletion=node_ids),
    ],
    output: Output = Format.TABLE,
) -> None:
    """Have a node lead one shard, or all of them.

    Exit code 4 when some shard of 'all' stayed where it was; for one shard 8 when that node would
    not lead now, 2 when it has no vote there, 5 when it did not come to lead in time.
    """
    desk = Desk(connection)
    desk.must_know(to)
    lines = _wanted(desk, shard)
    moved = [_move(desk, lines[0], to)] if shard != ALL else _move_all(desk, lines, to)
    _tell(desk, moved, output)
    stayed = [each.shard for each in moved if each.leader is None]
    if stayed:
        raise Failure(
            f"shard {', '.join(map(str, stayed))} did not go to {desk.name(to)}; the reasons are "
            "above",
            Exit.DEGRADED,
        )


def _move_all(desk: Desk, lines: list[ShardLine], to: int) -> list[Moved]:
    """Shard after shard; those that stayed are asked for once more.

    A leader of a moment ago does not know yet how far the others are, and hands nothing over.
    """
    moved: dict[int, Moved] = {}
    for again in (False, True):
        stayed = [line for line in lines if line.shard not in moved or not moved[line.shard].leader]
        if again and stayed:
            time.sleep(SETTLE_S)
        for line in stayed:
            try:
                moved[line.shard] = _move(desk, line, to)
            except CallFailed as failed:
                moved[line.shard] = Moved(line.shard, line.leader, None, str(failed))
    return list(moved.values())


def _wanted(desk: Desk, shard: str) -> list[ShardLine]:
    """The shards meant, as they are now."""
    if shard != ALL and not (shard.isascii() and shard.isdecimal() and len(shard) < 6):
        raise Failure(f"--shard {shard!r}: give a shard's number, or 'all'", Exit.USAGE)
    found = desk.look()[0].shards
    if not found:
        raise Failure("no node answers at its admin address: nobody can be asked", Exit.CONNECTION)
    if shard == ALL:
        return found
    chosen = [line for line in found if line.shard == int(shard)]
    if not chosen:
        raise Failure(
            f"there is no shard {shard}: they are numbered from 0 to {found[-1].shard}",
            Exit.NOT_FOUND,
        )
    return chosen


def _move(desk: Desk, line: ShardLine, to: int) -> Moved:
    """Ask the shard's leader, whoever that is by now."""
    from quorumvault.cli.desk_answers import Transferred  # noqa: PLC0415 - heavy

    leader = line.leader
    body = json.dumps({"shard": line.shard, "to": to}).encode()
    for attempt in range(TRIES):
        if leader == to:
            return Moved(line.shard, line.leader, to)
        if leader is None or leader not in desk.dcs:
            break
        try:
            told = desk.ask(leader, "POST", "/v1/leader/transfer", Transferred, body)
        except CallFailed as failed:
            refused = failed.refused
            if refused is None or refused.code != "not-leader" or attempt == TRIES - 1:
                raise
            leader = refused.leader or None
        else:
            return Moved(line.shard, line.leader, told.leader)
    raise CallFailed(
        f"shard {line.shard} has no leader that answers: it cannot be handed over now; "
        "'quorumvault cluster status' shows why",
        Exit.NO_QUORUM,
    )


def _tell(desk: Desk, moved: Iterable[Moved], output: Format) -> None:
    if output is Format.JSON:
        sys.stdout.write(json.dumps({"shards": [asdict(each) for each in moved]}) + "\n")
        return
    for each in moved:
        if each.leader is None:
            line = f"stays: {each.problem}"
        elif each.leader == each.before:
            line = f"{desk.name(each.leader)} leads it already"
        else:
            before = "nobody" if each.before is None else desk.name(each.before)
            line = f"{before} -> {desk.name(each.leader)}"
        sys.stdout.write(f"shard {each.shard}: {line}\n")


@app.command("balance")
def balance(connection: ConnectionFile, output: Output = Format.TABLE) -> None:
    """Have every node hand the shards that are better led elsewhere to where they belong.

    Each shard has a seat that it prefers, so that all nodes lead about as many. Exit code 4 when a
    node could not be asked, 3 when none could.
    """
    from quorumvault.cli.desk_answers import Balanced  # noqa: PLC0415 - heavy

    desk = Desk(connection)
    asked: dict[int, list[int]] = {}
    silent: dict[int, CallFailed] = {}
    for node in desk.each():
        try:
            asked[node] = desk.ask(node, "POST", "/v1/leader/balance", Balanced).asked
        except CallFailed as failed:
            silent[node] = failed
    if output is Format.JSON:
        facts = {
            "nodes": [{"node": node, "handed_over": shards} for node, shards in asked.items()],
            "not_asked": [{"node": node, "problem": str(why)} for node, why in silent.items()],
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for node, shards in asked.items():
            what = ", ".join(map(str, shards))
            line = f"hands over shard {what}" if shards else "leads what it should"
            sys.stdout.write(f"{desk.name(node)}: {line}\n")
    for why in silent.values():
        typer.echo(str(why), err=True)
    if silent:
        raise typer.Exit(Exit.DEGRADED if asked else next(iter(silent.values())).exit_code)
