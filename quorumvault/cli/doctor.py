"""``quorumvault doctor``: is this node fit to run, or this cluster well; if not, what to do next.

It looks at everything that a start would look at, and at what will hurt later, without starting
anything. It never writes in the data directory, takes none of its locks, and works beside the node.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.formats import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.cluster_file import ClusterFile
    from node.config import NodeConfig
    from quorumvault.cli.doctor_facts import Finding

LISTENERS: Final = ("client", "peer", "admin", "ops")


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="This machine's node: its TOML file.", dir_okay=False),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the running cluster of --connection.")
    ] = False,
    connection: Annotated[
        Path | None,
        typer.Option(
            "--connection",
            envvar="QUORUMVAULT_CONNECTION",
            help="With --online: the cluster's connection file, with admin access.",
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="table or json.")] = Format.TABLE,
) -> None:
    """Check one node on its own machine, or a running cluster from outside, and say what to do.

    --config: files, data directory, disk, clock, certificates, ports, HSM (its PIN is tried once),
    machine. --online: what answers, certificates, clocks, versions, links, hashes, leaders, disks,
    HSMs. Both may be given. Exit code 0 when all is well, 4 with warnings, 2 with failures.
    """
    from quorumvault.cli.doctor_facts import Level  # noqa: PLC0415 - heavy

    findings = [] if config is None else examine(config)
    if online:
        findings += _online(connection)
    elif config is None:
        raise Failure(
            "give --config FILE for this machine's node, or --online --connection FILE for a "
            "running cluster",
            Exit.USAGE,
        )
    levels = {finding.level for finding in findings}
    if output is Format.JSON:
        lines = [
            {
                "level": str(each.level),
                "check": each.check,
                "found": each.found,
                "next_step": each.next_step,
            }
            for each in findings
        ]
        sys.stdout.write(json.dumps({"findings": lines}, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line(each)}\n" for each in findings))
    if Level.FAIL in levels:
        raise typer.Exit(Exit.USAGE)
    raise typer.Exit(Exit.DEGRADED if Level.WARN in levels else Exit.OK)


def _online(connection: Path | None) -> list[Finding]:
    if connection is None:
        raise Failure(
            "--online asks a running cluster: give its connection file with --connection",
            Exit.USAGE,
        )
    from quorumvault.cli import doctor_online  # noqa: PLC0415 - heavy

    return doctor_online.examine(connection)


def line(finding: Finding) -> str:
    """`[ok] name: what was found; next step`."""
    from quorumvault.cli.doctor_facts import Level  # noqa: PLC0415 - heavy

    sign = {Level.OK: "[ok]  ", Level.WARN: "[warn]", Level.FAIL: "[FAIL]"}[finding.level]
    step = f"; {finding.next_step}" if finding.next_step else ""
    return f"{sign} {finding.check}: " + " ".join(f"{finding.found}{step}".split())


def examine(path: Path) -> list[Finding]:
    """All findings, in the order in which a start would meet them."""
    from cluster import cluster_file  # noqa: PLC0415 - heavy
    from node import config as configuration  # noqa: PLC0415 - heavy
    from node.hardening import files_needed  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_gather as gather  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_judge as judge  # noqa: PLC0415 - heavy

    try:
        config = configuration.load(path)
    except configuration.ConfigError as error:
        step = "all keys are in docs/node.md; nothing else was looked at"
        return [judge.fail("configuration", str(error), step)]
    findings = [judge.ok("configuration", f"{path}: every key is known and valid")]
    user = gather.user(config)
    findings += [judge.file(facts, user.me) for facts in gather.files(config)]
    findings += judge.user(user)
    step = "take the cluster.json of the running nodes; what depends on it was not looked at"
    try:
        cluster = cluster_file.load(config.cluster_file)
        replaced = cluster.retirement(config.node_id)
        if replaced is None:
            cluster.node(config.node_id)
    except cluster_file.ClusterFileError as error:
        findings.append(judge.fail("cluster file", str(error), step))
    else:
        if replaced is None:
            found = f"{cluster.name}, revision {cluster.revision}, has node {config.node_id}"
            findings.append(judge.ok("cluster file", found))
            findings += _of_member(config, cluster)
        else:
            step = "wipe this node; its successor has its seat"
            findings.append(judge.fail("cluster file", replaced, step))
    return findings + judge.machine(
        gather.machine(), files_needed(config.limits.client_connections)
    )


def _of_member(config: NodeConfig, cluster: ClusterFile) -> Sequence[Finding]:
    """What can be told once it is known which node this is."""
    from cluster.cluster_file import split_address  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_gather as gather  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_hsm  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_judge as judge  # noqa: PLC0415 - heavy

    entry = cluster.node(config.node_id)
    wanted = f"node {entry.id} of cluster {cluster.cluster_id}"
    data = gather.directory(config.data_dir)
    findings = [judge.directory(data, wanted)]
    findings += _of_disk(config)
    times = gather.clock(config)
    tls = gather.tls(config, cluster.cluster_id)
    findings += judge.clock(times, tls.not_before, tls.authority_not_after)
    hosts = {split_address(address)[0] for address in (entry.client, entry.admin)}
    findings += judge.tls(tls, entry.id, hosts, times.now)
    listen = {name: getattr(config.listen, name) for name in LISTENERS}
    findings += [judge.port(facts, data.holder) for facts in gather.ports(listen)]
    trip = doctor_hsm.round_trip(config, cluster, entry, data.holder)
    return findings + judge.hsm(trip, wanted, data)


def _of_disk(config: NodeConfig) -> Sequence[Finding]:
    from cluster.room import Room  # noqa: PLC0415 - heavy
    from cluster.room import judge as room  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_gather as gather  # noqa: PLC0415 - heavy
    from quorumvault.cli import doctor_judge as judge  # noqa: PLC0415 - heavy

    try:
        disk = gather.disk(config.data_dir, config.map_bytes)
    except OSError as error:
        step = "mount the disk of data_dir"
        return [judge.fail("disk space", f"{config.data_dir}: {error.strerror}", step)]
    findings = judge.disk(disk)
    if disk.read_only or room(Room.ENOUGH, disk.space) is Room.FULL:
        return findings  # a measurement would take the last room from a running node
    return [*findings, judge.sync(gather.sync(gather.existing(config.data_dir)))]
