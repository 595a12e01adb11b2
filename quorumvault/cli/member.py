"""``quorumvault member``: replace a node that is lost for good.

The command writes the next revision of the cluster file and hands it out; the leaders of the
shards make it so, one change at a time. Run again, it goes on where it was. It resets no count and
shows no secret: what it writes for the new node has a certificate, and keys only under three
custodians' words (I6, I11).
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from quorumvault.cli import member_plan as plan
from quorumvault.cli.admin import Access, Refused, Unreachable
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.hsm import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cluster.cluster_file import ClusterFile, NodeEntry

app = typer.Typer(no_args_is_help=True)

LOOK_S: Final = 1.0
"""How often progress is asked for."""
ELECTION_S: Final = 10.0
"""How long a shard may be without a leader before that is an answer."""

Directory = Annotated[
    Path, typer.Option("--cluster", help="The directory of 'cluster create'.", file_okay=False)
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait with --wait.")]


class Format(StrEnum):
    """How a result is written to stdout."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="table or json.")]


@dataclass(frozen=True)
class Change:
    """One replacement: the file before and after it (the same when it was written before)."""

    before: ClusterFile
    after: ClusterFile
    old: int
    new: int

    @property
    def begun(self) -> bool:
        """An earlier run wrote the new file."""
        return self.before.revision == self.after.revision


@app.command("replace")
def replace(
    old: Annotated[int, typer.Argument(help="The id of the node that is lost for good.")],
    directory: Directory,
    new_id: Annotated[
        int | None, typer.Option("--id", min=1, help="The new node's id; the next free one.")
    ] = None,
    peer: Annotated[str | None, typer.Option(help="host:port; as the old node's.")] = None,
    client: Annotated[str | None, typer.Option(help="host:port; as the old node's.")] = None,
    admin: Annotated[str | None, typer.Option(help="host:port; as the old node's.")] = None,
    ops: Annotated[str | None, typer.Option(help="host:port; as the old node's.")] = None,
    authority_key: Annotated[
        Path | None,
        typer.Option(help="The authority's key; DIR/offline/ca.key.", dir_okay=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the quorum on the way; change nothing.")
    ] = False,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", help="Show progress to the end; so on a terminal."),
    ] = None,
    timeout: Timeout = 3600.0,
    output: Output = Format.TABLE,
) -> None:
    """Put a new node, under a new id, in the seat of one that is lost; for ever.

    Exit code 4 when a node could not be given the new cluster file, 5 when the quorum would be
    lost, 7 when there is no such node, 8 when another replacement is under way.
    """
    addresses = {"peer": peer, "client": client, "admin": admin, "ops": ops}
    cluster = _load(directory)
    change = _change(cluster, old, new_id, {k: v for k, v in addresses.items() if v is not None})
    access = Access.from_directory(directory, change.before.nodes)
    statuses = _settled(access)
    if not statuses and not change.begun:
        raise Failure(
            "no node answers at its admin address: what the quorum would become is not known; "
            "nothing was changed",
            Exit.CONNECTION,
        )
    shards = plan.shards_of(statuses)
    if not change.begun:
        _refuse_if_not_now(change, access, statuses, shards)
    if dry_run:
        _show_plan(change, statuses, shards, output)
        return
    folder = directory / "nodes" / str(change.new)
    if not (change.begun and folder.exists()):
        _write(directory, change, authority_key)
    away = _hand_out(directory, change.after, _old_entry(change))
    _tell_steps(directory, change, folder)
    if wait if wait is not None else sys.stderr.isatty():
        _wait(directory, change, timeout)
    if output is Format.JSON:
        facts = {
            "old": change.old, "new": change.new, "revision": change.after.revision,
            "folder": str(folder), "away": sorted(away),
        }  # fmt: skip
        sys.stdout.write(json.dumps(facts) + "\n")
    _fail_if_away(away)


@app.command("sync")
def sync(directory: Directory) -> None:
    """Hand the directory's cluster file to every node, for those that were away.

    Exit code 4 when a node could not be given it.
    """
    _fail_if_away(_hand_out(directory, _load(directory), None))


# ---------------------------------------------------------------- what is to change


def _load(directory: Path) -> ClusterFile:
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy

    try:
        return load(directory / "cluster.json")
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error


def _change(
    cluster: ClusterFile, old: int, new_id: int | None, addresses: Mapping[str, str]
) -> Change:
    from cluster.cluster_file import ClusterFileError, next_id, replaced  # noqa: PLC0415 - heavy
    from cluster.types import NodeId  # noqa: PLC0415 - heavy

    successor = cluster.successor(old)
    if successor is not None:
        if new_id not in (None, successor):
            raise Failure(
                f"node {old} was replaced by node {successor} already, not by {new_id}: an id is "
                "used once",
                Exit.CONFLICT,
            )
        if cluster.retirement(successor) is not None:
            raise Failure(
                f"node {successor}, which replaced node {old}, was itself replaced by node "
                f"{cluster.successor(successor)}",
                Exit.CONFLICT,
            )
        return Change(cluster, cluster, old, successor)
    try:
        entry = cluster.node(old)
    except ClusterFileError as error:
        raise Failure(str(error), Exit.NOT_FOUND) from error
    new = NodeId(next_id(cluster) if new_id is None else new_id)
    if new < next_id(cluster):
        raise Failure(
            f"--id {new}: an id is used once, and a new one is greater than every one before it: "
            f"leave --id out for {next_id(cluster)}",
            Exit.USAGE,
        )
    try:
        after = replaced(cluster, old, msgspec.structs.replace(entry, id=new, **addresses))
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error
    return Change(cluster, after, old, new)


def _old_entry(change: Change) -> NodeEntry | None:
    """Where the old node was, as far as this run knows."""
    return next((entry for entry in change.before.nodes if entry.id == change.old), None)


# ---------------------------------------------------------------- may it be now


def _statuses(access: Access) -> dict[int, dict[str, Any]]:
    """The status of every node that answers as itself."""
    return {
        int(node): status
        for node, status in access.statuses().items()
        if not isinstance(status, Unreachable)
    }


def _settled(access: Access) -> dict[int, dict[str, Any]]:
    """As `_statuses`, after an election that is under way: the lost node may have led."""
    deadline = time.monotonic() + ELECTION_S
    while True:
        statuses = _statuses(access)
        if not plan.leaderless(plan.shards_of(statuses)) or time.monotonic() > deadline:
            return statuses
        time.sleep(LOOK_S)


def _refuse_if_not_now(
    change: Change,
    access: Access,
    statuses: Mapping[int, Mapping[str, Any]],
    shards: Mapping[int, plan.Shard],
) -> None:
    why = plan.cost(change.before, shards, change.old, plan.up(statuses))
    if why is not None:
        raise Failure(f"node {change.old} is not replaced now: {why}", Exit.NO_QUORUM)
    _compare(change.before, access, statuses)
    why = plan.unfinished(change.before, shards)
    if why is not None and all(change.old in shard.voters for shard in shards.values()):
        # A newcomer that is still on its way in may itself be replaced: it may be the obstacle.
        last = change.before.retired[-1].id
        raise Failure(
            f"node {change.old} is not replaced now: {why}; see it through first with "
            f"'quorumvault member replace {last} --cluster DIR --wait'",
            Exit.CONFLICT,
        )


def _compare(cluster: ClusterFile, access: Access, nodes: Iterable[int]) -> None:
    """Refuse when a node follows a file that the directory's does not go on from."""
    from cluster.cluster_file import ClusterFileError, extends, parse  # noqa: PLC0415 - heavy

    for node in nodes:
        answer = access.cluster_file(str(node))
        if not isinstance(answer, dict):
            continue
        try:
            theirs = parse(json.dumps(answer).encode(), f"of node {node}")
        except ClusterFileError as error:
            raise Failure(str(error), Exit.CONFLICT) from error
        if not extends(cluster, theirs):
            raise Failure(
                f"node {node} follows revision {theirs.revision} of the cluster file, and the "
                f"directory's revision {cluster.revision} does not go on from it: a node was "
                "replaced from another copy of the directory; use that one",
                Exit.CONFLICT,
            )


# ---------------------------------------------------------------- do it


def _write(directory: Path, change: Change, authority_key: Path | None) -> None:
    from cluster.certificates import Authority, CertificateError  # noqa: PLC0415 - heavy
    from cluster.cluster_file import ClusterFileError  # noqa: PLC0415 - heavy
    from node import replacement  # noqa: PLC0415 - heavy

    authority = Authority(
        cert_pem=read_small(directory / "ca.pem", "authority"),
        key_pem=read_small(authority_key or directory / "offline" / "ca.key", "authority key"),
    )
    try:
        replacement.write_folder(directory, change.after, change.old, authority)
        replacement.keep(directory, change.after)
    except replacement.FolderTaken as error:
        raise Failure(str(error), Exit.CONFLICT) from error
    except (CertificateError, ClusterFileError) as error:
        raise Failure(str(error), Exit.USAGE) from error


def _hand_out(directory: Path, cluster: ClusterFile, old: NodeEntry | None) -> dict[str, str]:
    """Give every member the file, and the old node last; returns who did not take it, and why."""
    from cluster.cluster_file import encode  # noqa: PLC0415 - heavy

    data = encode(cluster)
    access = Access.from_directory(directory, cluster.nodes)
    newcomers = {str(entry.id) for entry in cluster.nodes if entry.joined == cluster.revision > 0}
    away: dict[str, str] = {}
    with ThreadPoolExecutor(len(access.urls)) as pool:
        members = [node for node in access.urls if node not in newcomers]
        answers = list(pool.map(lambda node: access.hand_over(node, data), members))
    for node, answer in zip(members, answers, strict=True):
        if isinstance(answer, dict):
            typer.echo(f"node {node} follows revision {answer['revision']}", err=True)
        else:
            away[node] = answer.reason
            verb = "refuses" if isinstance(answer, Refused) else "does not answer"
            typer.echo(f"node {node} {verb}: {answer.reason}", err=True)
    if old is not None:
        # It stops when it reads the file; mostly it is gone already.
        gone = Access.from_directory(directory, [old]).hand_over(str(old.id), data)
        if isinstance(gone, dict):
            typer.echo(f"node {old.id} was told that it is replaced, and stops", err=True)
    return away


def _fail_if_away(away: Mapping[str, str]) -> None:
    if away:
        raise Failure(
            f"node {', '.join(sorted(away))} did not take the cluster file: when it is back, run "
            "'quorumvault member sync --cluster DIR'",
            Exit.DEGRADED,
        )


def _tell_steps(directory: Path, change: Change, folder: Path) -> None:
    from node import replacement  # noqa: PLC0415 - heavy

    typer.echo(
        f"Node {change.new} takes the seat of node {change.old}; its files are in {folder}. "
        "What is left to do:",
        err=True,
    )
    entry = change.after.node(change.new)
    for number, step in enumerate(replacement.steps(entry, change.old), start=1):
        typer.echo(f"  {number}. {step.replace('DIR', str(directory))}", err=True)


# ---------------------------------------------------------------- tell


def _show_plan(
    change: Change,
    statuses: Mapping[int, Mapping[str, Any]],
    shards: Mapping[int, plan.Shard],
    output: Format,
) -> None:
    if not shards:
        raise Failure("no node answers at its admin address", Exit.CONNECTION)
    alive = plan.up(statuses)
    # Shards differ only while a change is under way; the one that bears least is shown.
    voters = min(
        (shard.voters for shard in shards.values()),
        key=lambda each: len(each & alive) - plan.quorum_of(each),
    )
    steps = plan.steps(voters, change.old, change.new, alive)
    if output is Format.JSON:
        facts = {
            "old": change.old, "new": change.new, "revision": change.after.revision,
            "begun": change.begun, "steps": [step.to_dict() for step in steps],
        }  # fmt: skip
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415 - heavy

    table = Table("step", "voters", "quorum", "up", "more may fail")
    for step in steps:
        table.add_row(
            step.what, " ".join(map(str, step.voters)), f"{step.quorum} of {len(step.voters)}",
            " ".join(map(str, step.up)), str(step.may_fail),
        )  # fmt: skip
    Console(soft_wrap=False).print(table)
    typer.echo("Nothing was changed.", err=True)


def _wait(directory: Path, change: Change, timeout_s: float) -> None:
    """Show progress until the new node has its seat in every shard."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.progress import BarColumn, MofNCompleteColumn, Progress  # noqa: PLC0415 - heavy

    access = Access.from_directory(directory, change.after.nodes)
    deadline = time.monotonic() + timeout_s
    parts = {
        "out": f"node {change.old} is out",
        "voter": f"node {change.new} is a voter",
        "ledger": f"node {change.new}'s ledger is complete",
    }
    console = Console(stderr=True)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as shown:
        total = change.after.shards
        tasks = {name: shown.add_task(text, total=total) for name, text in parts.items()}
        while True:
            shards = plan.shards_of(_statuses(access))
            seen = plan.progress(change.after, shards, change.old, change.new)
            if seen.shards:
                for name, task in tasks.items():
                    shown.update(task, completed=getattr(seen, name))
            if seen.done:
                return
            if time.monotonic() >= deadline:
                raise Failure(
                    f"after {timeout_s:.0f} s node {change.old} is out in {seen.out}, node "
                    f"{change.new} a voter in {seen.voter} and its ledger complete in "
                    f"{seen.ledger} of {total} shards: see the steps above, and 'quorumvault "
                    "cluster status'",
                    Exit.TIMEOUT,
                )
            time.sleep(LOOK_S)
