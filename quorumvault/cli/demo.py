"""``quorumvault demo``: five real nodes on this machine, and the story of one backup key.

With ``--exec`` it is a harness: it runs a command against the ready cluster and ends with that
command's exit code. Everything it starts, it stops.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from chaos.processes import ProcessCluster


class Profile(StrEnum):
    """How far apart the five data centers are."""

    LAN = "lan"
    EUROPE = "europe"
    WORLD = "world"
    NONE = "none"


def demo(
    *,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec", help="Run this shell command against the cluster; end with its code."
        ),
    ] = None,
    wan: Annotated[
        Profile,
        typer.Option(
            help="Distances: lan (RTT 1 ms), europe (10-40), world (100-300), none (no proxies)."
        ),
    ] = Profile.EUROPE,
    connection_file: Annotated[
        Path | None, typer.Option(help="Write the connection file here as well.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Keep all files in this new or empty folder.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=256, help="Raft groups.")] = 16,
    grace: Annotated[int, typer.Option(min=1, max=86_400, help="Grace in seconds.")] = 120,
    witness: Annotated[
        bool, typer.Option("--witness", help="Let each node witness the shares that it gives.")
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Stay up after the story, also without a terminal.")
    ] = False,
) -> None:
    """Bring up five vault nodes, tell their story, and stay up on a terminal."""
    if stay and command is not None:
        raise Failure("--exec ends with its command: leave --stay out", Exit.USAGE)
    if root is not None and root.exists():
        if not root.is_dir():
            raise Failure(f"{root} is a file: --root needs a new or empty folder", Exit.USAGE)
        if any(root.iterdir()):
            raise Failure(f"{root} is not empty: --root needs a new or empty folder", Exit.CONFLICT)
    if connection_file is not None and not connection_file.absolute().parent.is_dir():
        raise Failure(
            f"--connection-file {connection_file}: its folder does not exist; create it first",
            Exit.USAGE,
        )
    folder = root or Path(tempfile.mkdtemp(prefix="quorumvault-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        code = asyncio.run(
            _demo(
                folder.resolve(),
                command=command,
                wan=wan,
                connection_file=connection_file,
                shards=shards,
                grace=grace,
                witness=witness,
                keep_words=root is not None,
                stay=stay,
            )
        )
    finally:
        if root is None:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(code)


async def _demo(
    folder: Path,
    *,
    command: str | None,
    wan: str,
    connection_file: Path | None,
    shards: int,
    grace: int,
    witness: bool,
    keep_words: bool,
    stay: bool,
) -> int:
    from chaos.processes import ClusterError, ProcessCluster  # noqa: PLC0415 - heavy

    told = _interruptions()
    cluster: ProcessCluster | None = None
    story_told = False
    try:
        cluster = await ProcessCluster.create(
            folder,
            wan=wan,
            shards=shards,
            grace_s=grace,
            witness=witness,
            say=lambda text: _say(f"  {text}"),
        )
        if keep_words:
            _keep_words(cluster)
        _say("  starting five nodes")
        await cluster.start()
        if connection_file is not None:
            _publish(cluster, connection_file)
        if command is not None:
            return await _exec(command, cluster, connection_file)
        await _story(cluster)
        story_told = True
        if connection_file is not None:
            _publish(cluster, connection_file)  # two nodes were killed and have other pids now
        await _stay(cluster, wanted=stay)
    except ClusterError as error:
        raise Failure(str(error), Exit.UNEXPECTED) from error
    except asyncio.CancelledError:
        if not told:
            raise
        return 0 if story_told and told[0] == signal.SIGINT else 128 + told[0]
    else:
        return 0
    finally:
        if cluster is not None:
            await cluster.stop()


def _keep_words(cluster: ProcessCluster) -> None:
    """In ROOT/custodians, as `cluster create --shares-dir` does: to try a replacement with."""
    from node import creation  # noqa: PLC0415 - heavy

    for seat, words in cluster.words.items():
        for custodian, mnemonic in enumerate(words, start=1):
            name = f"seat-{seat}-custodian-{custodian}.words"
            creation.write_private(cluster.root / "custodians" / name, mnemonic.encode() + b"\n")


def _interruptions() -> list[int]:
    """Let SIGTERM and Ctrl-C cancel this task; the list says which came."""
    main = asyncio.current_task()
    if main is None:
        raise RuntimeError("the demo runs inside a task")
    told: list[int] = []

    def interrupt(number: int) -> None:
        told.append(number)
        main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    return told


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _publish(cluster: ProcessCluster, path: Path) -> None:
    """Copy the connection file; readers see the old one or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.new")
    shutil.copyfile(cluster.connection_file, temporary)
    temporary.replace(path)


async def _exec(command: str, cluster: ProcessCluster, connection_file: Path | None) -> int:
    path = (connection_file or cluster.connection_file).resolve()
    process = await asyncio.create_subprocess_shell(
        command, env={**os.environ, "QUORUMVAULT_CONNECTION": str(path)}
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return code if code >= 0 else 128 - code


async def _story(cluster: ProcessCluster) -> None:
    from quorumvault.cli import story  # noqa: PLC0415 - heavy

    await story.tell(cluster)


async def _stay(cluster: ProcessCluster, *, wanted: bool) -> None:
    """On a terminal the vault stays up, to be looked at, until Ctrl-C; elsewhere if wanted."""
    from quorumvault.cli import story  # noqa: PLC0415 - heavy

    if wanted or sys.stdout.isatty():
        story.say_where(cluster)
        await asyncio.Event().wait()
    else:
        _say(
            "The story is told on stdout, which is no terminal, so the five nodes stop now. "
            "--stay keeps them up; --exec 'CMD' runs a command against them."
        )
