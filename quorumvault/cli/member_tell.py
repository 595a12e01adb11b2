"""What ``quorumvault member`` shows: the plan, the steps that are left to people, and progress."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import typer

from quorumvault.cli import member_plan as plan
from quorumvault.cli.admin import Access, Unreachable
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quorumvault.cli.member_change import Change

LOOK_S: Final = 1.0
"""How often progress is asked for."""


def statuses_of(access: Access) -> dict[int, dict[str, Any]]:
    """The status of every node that answers as itself."""
    return {
        int(node): status
        for node, status in access.statuses().items()
        if not isinstance(status, Unreachable)
    }


def steps(directory: Path, change: Change, folder: Path) -> None:
    """What only people can do, on stderr."""
    from node import replacement  # noqa: PLC0415 - heavy

    typer.echo(
        f"Node {change.new} takes the seat of node {change.old}; its files are in {folder}. "
        "What is left to do:",
        err=True,
    )
    entry = change.after.node(change.new)
    for number, step in enumerate(replacement.steps(entry, change.old), start=1):
        typer.echo(f"  {number}. {step.replace('DIR', str(directory))}", err=True)


def show_plan(
    change: Change,
    statuses: Mapping[int, Mapping[str, Any]],
    shards: Mapping[int, plan.Shard],
    output: Format,
) -> None:
    """The quorum on the way, on stdout."""
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
            "dry_run": True, "begun": change.begun, "steps": [step.to_dict() for step in steps],
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
    begun = f"Node {change.old} was given up for node {change.new} before. " if change.begun else ""
    typer.echo(f"{begun}Nothing was changed.", err=True)


def wait(directory: Path, change: Change, timeout_s: float) -> None:
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
            shards = plan.shards_of(statuses_of(access))
            seen = plan.progress(change.after, shards, change.old, change.new)
            if seen.shards:
                for name, task in tasks.items():
                    shown.update(task, completed=getattr(seen, name))
            if seen.done:
                break
            if time.monotonic() >= deadline:
                raise Failure(
                    f"after {timeout_s:.0f} s node {change.old} is out in {seen.out}, node "
                    f"{change.new} a voter in {seen.voter} and its ledger complete in "
                    f"{seen.ledger} of {total} shards: see the steps above, and 'quorumvault "
                    "cluster status'",
                    Exit.TIMEOUT,
                )
            time.sleep(LOOK_S)
    typer.echo(
        f"Node {change.new} has the seat of node {change.old} in every shard: the vault bears two"
        f" losses again. Give the new {directory}/operator/connection.json to whoever uses it.",
        err=True,
    )
