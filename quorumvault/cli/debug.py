"""``quorumvault debug``: what helps somebody else to understand a cluster, in one file."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import platform
import re
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from quorumvault._version import VERSION
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from quorumvault.cli.debug_parts import Part
    from quorumvault.cli.listeners import Answer, Cluster, NoAnswer

app = typer.Typer(no_args_is_help=True)

MODE: Final = 0o600


@app.callback()
def _debug() -> None:
    """A group, also while it has one command."""


@app.command("bundle")
def bundle(
    connection: Annotated[
        Path,
        typer.Option(
            "--connection", envvar="QUORUMVAULT_CONNECTION", help="The cluster's connection file."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="A new .tar.gz; by default named by cluster and time, here."),
    ] = None,
) -> None:
    """Collect what every node tells of itself into one file that may be passed on.

    Status, checks, metrics, events, configuration, cluster file. No secret is in it, and nothing of
    an account. A node that does not answer is a line in its manifest. Exit code 0 when it is made.
    """
    from quorumvault.cli import debug_parts as parts  # noqa: PLC0415 - heavy
    from quorumvault.cli import listeners  # noqa: PLC0415 - heavy

    cluster = listeners.read(connection)
    now = dt.datetime.now(dt.UTC)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", cluster.name)
    path = output or Path(f"quorumvault-{name}-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    with _created(path) as stream:
        wanted = [(member, *call) for member in cluster.members for call in parts.calls(member)]
        answers = listeners.ask_all(cluster.context, [url for _, _, url in wanted])
        listed = [
            parts.part(member, name, url, answer)
            for (member, name, url), answer in zip(wanted, answers, strict=True)
        ]
        found = {each.file: each for each in listed}
        bodies = {
            name: answer.body
            for (_, name, _), answer in zip(wanted, answers, strict=True)
            if isinstance(answer, listeners.Answer) and not found[name].missing
        }
        own = _own(cluster, now, listed, dict(zip(found, answers, strict=True)))
        _write(stream, {**own, **bodies})
    _tell(path, listed)


@contextlib.contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file for its owner alone; gone again when what it is for fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        raise Failure(f"{path} exists: name another file with --output", Exit.CONFLICT) from None
    except OSError as error:
        raise Failure(
            f"{path} cannot be written ({error.strerror}): name another file with --output",
            Exit.USAGE,
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _own(
    cluster: Cluster,
    now: dt.datetime,
    listed: Sequence[Part],
    answers: Mapping[str, Answer | NoAnswer],
) -> dict[str, bytes]:
    """What this command adds: what the bundle is, and how the cluster is, judged from here."""
    import msgspec  # noqa: PLC0415 - heavy

    from node.verdict import judge  # noqa: PLC0415 - heavy
    from node.verdict_links import Place  # noqa: PLC0415 - heavy
    from quorumvault.cli import debug_parts as parts  # noqa: PLC0415 - heavy
    from quorumvault.cli.reports import report_of  # noqa: PLC0415 - heavy

    places = [Place(each.node, each.seat, each.dc) for each in cluster.members]
    reports = {
        each.node: report_of(each.node, answers[f"nodes/{each.node}/status.json"])
        for each in cluster.members
    }
    manifest = parts.Manifest(
        made=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        cluster=cluster.name,
        version=f"quorumvault {VERSION}",
        python=platform.python_version(),
        machine=platform.platform(),
        parts=list(listed),
    )
    return {
        "README.txt": parts.README.encode(),
        "manifest.json": msgspec.json.format(msgspec.json.encode(manifest)),
        "overview.json": msgspec.json.format(msgspec.json.encode(judge(places, reports).to_dict())),
    }


def _write(stream: BinaryIO, files: Mapping[str, bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"quorumvault-debug/{name}")
            entry.size, entry.mode, entry.mtime = len(data), MODE, int(time.time())
            archive.addfile(entry, io.BytesIO(data))


def _tell(path: Path, listed: Sequence[Part]) -> None:
    for each in listed:
        if each.missing:
            typer.echo(f"{each.file}: {each.missing}", err=True)
    there = sum(not each.missing for each in listed)
    typer.echo(
        f"{there} of {len(listed)} parts. In it: status, checks, metrics, events, configuration "
        "and cluster file of every node; it names hosts, paths, tenants and operators. Not in it: "
        "PINs, keys, tokens, passwords, accounts, records, logs.",
        err=True,
    )
    sys.stdout.write(f"{path}\n")
