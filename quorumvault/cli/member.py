"""``quorumvault member``: replace a node that is lost for good.

The command writes the next revision of the cluster file and hands it out; the leaders of the
shards make it so, one change at a time. Run again, it goes on where it was. It resets no count and
shows no secret: what it writes for the new node has a certificate, and keys only under three
custodians' words (I6, I11).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from quorumvault.cli import member_plan as plan
from quorumvault.cli import member_tell as tell
from quorumvault.cli.admin import Access, Refused
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format
from quorumvault.cli.hsm import read_small
from quorumvault.cli.member_change import Change, change_of
from quorumvault.cli.member_tell import LOOK_S, statuses_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cluster.cluster_file import ClusterFile, NodeEntry

app = typer.Typer(no_args_is_help=True)

ELECTION_S: Final = 10.0
"""How long a shard may be without a leader before that is an answer."""

Directory = Annotated[
    Path, typer.Option("--cluster", help="The directory of 'cluster create'.", file_okay=False)
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait with --wait.")]


Output = Annotated[Format, typer.Option("--output", "-o", help="table or json.")]


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
    lost, 7 when there is no such node, 8 when another replacement or run is under way.
    """
    addresses = {"peer": peer, "client": client, "admin": admin, "ops": ops}
    given = {name: value for name, value in addresses.items() if value is not None}
    if dry_run:
        change = change_of(_load(directory), old, new_id, given)
        tell.show_plan(change, *_looked_at(directory, change), output)
        return
    with _alone(directory):
        change = change_of(_load(directory), old, new_id, given)
        _looked_at(directory, change)
        folder = directory / "nodes" / str(change.new)
        if not (change.begun and folder.exists()):
            _write(directory, change, authority_key)
        away = _hand_out(directory, change.after, change.old_entry)
    tell.steps(directory, change, folder)
    if wait if wait is not None else sys.stderr.isatty():
        tell.wait(directory, change, timeout)
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


# ---------------------------------------------------------------- what others call by other names


def _one_command(what: str) -> Failure:
    """The steps of other systems' operators are the leaders' here (ADR 12)."""
    return Failure(
        f"{what}; nothing was changed. 'quorumvault member replace OLD --cluster DIR --dry-run' "
        "shows the way (docs/node.md)",
        Exit.USAGE,
    )


_ANYTHING: Final = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("add", hidden=True, context_settings=_ANYTHING)
def add() -> None:
    """Say why there is no such step."""
    raise _one_command(
        "a vault has five seats and no sixth: a new node comes in when it replaces one"
    )


@app.command("remove", hidden=True, context_settings=_ANYTHING)
def remove() -> None:
    """Say why there is no such step."""
    raise _one_command(
        "a seat is not left without an heir: 'member replace' takes the old node out at once, and "
        "the new one may start days later"
    )


@app.command("promote", hidden=True, context_settings=_ANYTHING)
def promote() -> None:
    """Say why there is no such step."""
    raise _one_command(
        "nobody is promoted by hand: a shard's leader does it once the new node has everything and "
        "its ledger is complete, and 'member replace OLD --wait' shows how far it is"
    )


# ---------------------------------------------------------------- what there is


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One run at a time writes and hands out: two would make two files of one revision.

    The directory itself is locked; the lock ends with the process, however that ends.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(
            f"{directory} cannot be opened ({error.strerror}): --cluster takes the directory that "
            "'quorumvault cluster create' wrote",
            Exit.USAGE,
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"another 'quorumvault member replace' is at work in {directory}: nothing was "
                "changed; run this again when it is done",
                Exit.CONFLICT,
            ) from None
        yield
    finally:
        os.close(handle)


def _load(directory: Path) -> ClusterFile:
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy

    if not (directory / "cluster.json").exists():
        raise Failure(
            f"{directory}/cluster.json does not exist: --cluster takes the directory that "
            "'quorumvault cluster create' wrote (of a demo's --root ROOT: ROOT/cluster)",
            Exit.USAGE,
        )
    try:
        return load(directory / "cluster.json")
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error


# ---------------------------------------------------------------- may it be now


def _settled(access: Access) -> dict[int, dict[str, Any]]:
    """As `_statuses`, after an election that is under way: the lost node may have led."""
    deadline = time.monotonic() + ELECTION_S
    while True:
        statuses = statuses_of(access)
        if not plan.leaderless(plan.shards_of(statuses)) or time.monotonic() > deadline:
            return statuses
        time.sleep(LOOK_S)


def _looked_at(
    directory: Path, change: Change
) -> tuple[dict[int, dict[str, Any]], dict[int, plan.Shard]]:
    """What the nodes say, by node and by shard; refuses a change that must not begin now."""
    access = Access.from_directory(directory, change.before.nodes)
    statuses = _settled(access)
    shards = plan.shards_of(statuses)
    if not change.begun:
        if not statuses:
            raise Failure(
                "no node answers at its admin address: what the quorum would become is not known; "
                "nothing was changed",
                Exit.CONNECTION,
            )
        _refuse_if_not_now(directory, change, access, statuses, shards)
    return statuses, shards


def _refuse_if_not_now(
    directory: Path,
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
            f"'quorumvault member replace {last} --cluster {directory} --wait'",
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
