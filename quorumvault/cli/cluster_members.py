"""``quorumvault cluster members``: who sits where, who votes in which shards, who is behind."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from quorumvault.cli.desk import ConnectionFile, Desk
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from cluster.cluster_file import ClusterFile


def members(
    connection: ConnectionFile,
    output: Annotated[Format, typer.Option("--output", "-o", help="table or json.")] = Format.TABLE,
) -> None:
    """Show seats and nodes, voters and learners per shard, and which cluster file each follows.

    Exit code 4 when a change of members is under way, a node does not answer, or is behind with
    the file; 3 when no node answers.
    """
    from quorumvault.cli import members_rows  # noqa: PLC0415 - heavy

    desk = Desk(connection)
    cluster = newest_file(desk)
    found = members_rows.judge(cluster, set(desk.dcs), desk.access.reports())
    if output is Format.JSON:
        sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in members_rows.text(found)))
    raise typer.Exit(Exit.DEGRADED if found.remarks else Exit.OK)


def newest_file(desk: Desk) -> ClusterFile:
    """The cluster file of the highest revision that a node follows.

    Raises:
        Failure: no node gives one that can be read.

    """
    from cluster.cluster_file import ClusterFileError, parse  # noqa: PLC0415 - heavy

    best: ClusterFile | None = None
    problems: list[str] = []
    for node in desk.each():
        answer = desk.access.cluster_file(str(node))
        if not isinstance(answer, dict):
            problems.append(f"{desk.name(node)}: {answer.reason}")
            continue
        try:
            theirs = parse(json.dumps(answer).encode(), f"of node {node}")
        except ClusterFileError as error:
            problems.append(str(error))
            continue
        if best is None or theirs.revision > best.revision:
            best = theirs
    if best is None:
        raise Failure(f"no node gives its cluster file ({'; '.join(problems)})", Exit.CONNECTION)
    return best
