"""What the facts about a node mean, and what to do: pure, one function for each check.

Warnings are what will hurt one day, failures what keeps the node from starting or from being
trusted by its peers. Each next step is one that a tired person can take as it is written.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from cluster.datadir import FORMAT_VERSION
from cluster.room import Room, judge, start_bytes
from quorumvault.cli.doctor_facts import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quorumvault.cli.doctor_facts import (
        ClockFacts,
        DirectoryFacts,
        DiskFacts,
        FileFacts,
        HsmFacts,
        MachineFacts,
        PortFacts,
        SyncFacts,
        TlsFacts,
        UserFacts,
    )

CERTIFICATE_WARN_DAYS: Final = 30
"""The month of slack that a yearly renewal has (node.creation)."""
SYNC_WARN_P50_MS: Final = 20.0
SYNC_WARN_P99_MS: Final = 200.0
"""An attempt waits for two of them in a row, here and at two peers."""
SYNC_FAIL_P50_MS: Final = 250.0
"""A turn of the host waits for one; at four turns a second clients run into their deadlines. (A
running node steps aside at SLOW_DISK_MS, which is far beyond that.)"""
CLOCK_AHEAD_OK: Final = dt.timedelta(minutes=5)
"""Half of the skew that certificates allow (cluster.certificates)."""
EARLIEST_YEAR: Final = 2025
HSM_WARN_MS: Final = 50.0
"""An evaluation asks for six PRFs and has two seconds."""
MEMORY_WARN_BYTES: Final = 512 << 20
"""Python and its packages, a thousand requests, and the pages of a small store."""
VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
NETWORKED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "glusterfs"}
)


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, check, found)


def warn(check: str, found: str, next_step: str) -> Finding:
    """It will hurt one day."""
    return Finding(Level.WARN, check, found, next_step)


def fail(check: str, found: str, next_step: str) -> Finding:
    """The node does not start, or nobody trusts it."""
    return Finding(Level.FAIL, check, found, next_step)


def file(facts: FileFacts, me: int) -> Finding:
    """Readable by this user, and a secret by nobody else."""
    check = f"file {facts.key}"
    if facts.error:
        step = f"correct {facts.key}, or let the node's user read the file"
        return fail(check, f"{facts.path} cannot be read ({facts.error})", step)
    found = f"{facts.path}, mode {facts.mode:04o}"
    if facts.secret and facts.mode & 0o007:
        return fail(check, f"{found}: everybody here may use it", f"chmod 0600 {facts.path}")
    if facts.secret and facts.mode & 0o070:
        return warn(check, f"{found}: its group may use it", f"chmod 0600 {facts.path}")
    if not facts.secret and facts.mode & 0o002:
        return fail(check, f"{found}: everybody here may change it", f"chmod 0644 {facts.path}")
    if facts.owner not in (0, me):
        step = f"chown it to the node's user or to root: {facts.path}"
        return warn(check, f"{found}, belongs to user {facts.owner}", step)
    return ok(check, found)


def user(facts: UserFacts) -> list[Finding]:
    """Whether this user is the one that the node runs as, and may keep a newer cluster file."""
    findings = []
    if facts.owner is not None and facts.owner != facts.me:
        findings.append(
            warn(
                "user",
                f"this is user {facts.me}, and the data directory belongs to user {facts.owner}",
                "run doctor as the user that the node runs as: rights differ",
            )
        )
    if not facts.cluster_folder_writable:
        findings.append(
            warn(
                "folder of cluster_file",
                f"{facts.cluster_folder} cannot be written: a newer cluster file from the peers"
                " would not be kept",
                f"let the node's user write in {facts.cluster_folder}",
            )
        )
    return findings


def directory(facts: DirectoryFacts, wanted: str) -> Finding:
    """Whose data directory it is; `wanted` is "node N of cluster ID"."""
    check = "data directory"
    if facts.error:
        step = "correct data_dir, or let the node's user read it"
        return fail(check, f"{facts.path}: {facts.error}", step)
    if not facts.exists:
        return ok(check, f"{facts.path} is not there yet: the first start makes it")
    if facts.others:
        return fail(
            check,
            f"{facts.path} has no identity.json but holds {facts.others!r}",
            "give the node its own directory, or an empty one: correct data_dir",
        )
    if facts.identity and facts.format != FORMAT_VERSION:
        return fail(
            check,
            f"{facts.path} has format {facts.format}, this program reads {FORMAT_VERSION}",
            "run the version that wrote it",
        )
    if facts.identity and facts.identity != wanted:
        return fail(
            check,
            f"{facts.path} belongs to {facts.identity}, not to {wanted}",
            "correct data_dir, node_id or cluster_file; do not delete the directory",
        )
    if facts.holder:
        return ok(check, f"{facts.path}; the node runs as process {facts.holder}")
    return ok(check, f"{facts.path}; no node runs" if facts.identity else f"{facts.path}, empty")


def disk(facts: DiskFacts) -> list[Finding]:
    """Space by the marks that the node itself goes by, and the kind of file system."""
    space = facts.space
    found = f"{_size(space.disk_free)} free of {_size(space.disk_total)} at {facts.place}"
    room = judge(Room.ENOUGH, space)
    enough = f"make {_size(start_bytes(space))} or more free there"
    if space.map_used * 10 > space.map_total * 9:
        found += f"; the store fills {100 * space.map_used // space.map_total} % of store.map_bytes"
        enough += ", and raise store.map_bytes"
    findings = [
        {
            Room.ENOUGH: ok("disk space", found),
            Room.SHORT: warn("disk space", f"{found}: the node would lead nothing", enough),
            Room.FULL: fail("disk space", f"{found}: the node would not start", enough),
        }[room]
    ]
    kind = facts.file_system
    if facts.read_only:
        step = f"remount {facts.place} writable, and look at the kernel's log for the reason"
        findings.append(fail("file system", f"{kind}, mounted read-only", step))
    elif kind in VOLATILE:
        step = "put data_dir on a disk: a reboot would end this node for good"
        findings.append(warn("file system", f"{kind} at {facts.place} is memory", step))
    elif kind in NETWORKED:
        step = "put data_dir on a local disk: locks and syncs across a network cannot be trusted"
        findings.append(warn("file system", f"{kind} at {facts.place} is a network's", step))
    else:
        findings.append(ok("file system", f"{kind} at {facts.place}"))
    return findings


def sync(facts: SyncFacts) -> Finding:
    """How long a block takes until it is durable: each attempt waits for it."""
    if facts.error:
        return fail("fsync", f"not measured ({facts.error})", "see disk space and data directory")
    found = f"p50 {facts.p50_ms:.1f} ms, p99 {facts.p99_ms:.1f} ms of {facts.count}"
    step = "give the data directory a faster disk, or take its neighbours off it"
    if facts.p50_ms > SYNC_FAIL_P50_MS:
        return fail("fsync", f"{found}: clients would run into their deadlines", step)
    if facts.p50_ms > SYNC_WARN_P50_MS or facts.p99_ms > SYNC_WARN_P99_MS:
        return warn("fsync", f"{found}: every attempt waits for it", step)
    return ok("fsync", found)


def clock(facts: ClockFacts, made: dt.datetime | None, ends: dt.datetime | None) -> list[Finding]:
    """The wall clock; the node's certificate begins at `made`, its authority's ends at `ends`.

    No clock decides safety (I10), but tokens and certificates are refused by a wrong one.
    """
    now = facts.now
    step = "set the clock right (timedatectl set-ntp true) before the node starts"
    findings = [ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")]
    if now.year < EARLIEST_YEAR:
        findings = [fail("clock", f"it shows the year {now.year}", step)]
    elif made is not None and now < made:
        late = f"it shows {now:%Y-%m-%d %H:%M} UTC, before the node's certificate was made"
        findings = [fail("clock", f"{late} ({made:%Y-%m-%d %H:%M})", step)]
    elif ends is not None and now >= ends:
        # Of ten years: a clock that is ahead is likelier.
        late = f"it shows {now:%Y-%m-%d %H:%M} UTC, after the authority's certificate ended"
        findings = [fail("clock", f"{late} ({ends:%Y-%m-%d})", step)]
    elif facts.newest - now > CLOCK_AHEAD_OK:
        seconds = (facts.newest - now).total_seconds()
        found = f"{facts.newest_path} was written {seconds:.0f} s from now: the clock is behind"
        findings = [fail("clock", found, step)]
    if facts.synchronised is None:
        findings.append(ok("time synchronisation", "the kernel does not say"))
    elif facts.synchronised:
        findings.append(ok("time synchronisation", "the kernel's clock is synchronised"))
    else:
        findings.append(
            warn(
                "time synchronisation",
                "the kernel says that nobody keeps its clock right",
                "run chrony or systemd-timesyncd, here or on the host",
            )
        )
    return findings


def tls(facts: TlsFacts, node_id: int, hosts: Iterable[str], now: dt.datetime) -> list[Finding]:
    """Certificate, key and authority of node `node_id`, which clients reach as `hosts`."""
    if facts.error:
        return [fail("certificate", facts.error, f"take the files of nodes/{node_id} again")]
    anew = f"quorumvault certs renew DIR --node {node_id}, where offline/ca.key is"
    findings = []
    if not facts.chained:
        step = "take ca.pem and the node's pair out of one cluster's directory"
        findings.append(fail("certificate", "tls.ca_file did not issue tls.cert_file", step))
    elif facts.holder != f"node {node_id}":
        found = f"tls.cert_file is of {facts.holder}, and this is node {node_id}"
        findings.append(fail("certificate", found, f"take the files of nodes/{node_id}"))
    elif facts.purposes != {"server", "client"}:
        found = f"it serves as {' and '.join(sorted(facts.purposes)) or 'nothing'}; a node is both"
        findings.append(fail("certificate", found, anew))
    else:
        findings.append(ok("certificate", f"of {facts.holder}, issued by tls.ca_file"))
    if facts.key_fits:
        findings.append(ok("certificate key", "tls.key_file is the key of tls.cert_file"))
    else:
        step = f"take key.pem and cert.pem of nodes/{node_id} together, or {anew}"
        found = "tls.key_file is not the key of tls.cert_file"
        findings.append(fail("certificate key", found, step))
    missing = sorted(set(hosts) - facts.hosts)
    if missing:
        found = f"it lacks {', '.join(missing)}, by which clients and operators reach this node"
        findings.append(fail("certificate names", found, anew))
    else:
        findings.append(ok("certificate names", ", ".join(sorted(facts.hosts))))
    findings.append(_dates("certificate dates", facts.not_before, facts.not_after, now, anew))
    step = "make a new cluster's authority known to all before this one ends"
    findings.append(_dates("authority dates", None, facts.authority_not_after, now, step))
    return findings


def _dates(
    check: str, begins: dt.datetime | None, ends: dt.datetime | None, now: dt.datetime, step: str
) -> Finding:
    if begins is not None and now < begins:
        found = f"not valid before {begins:%Y-%m-%d %H:%M} UTC"
        return fail(check, found, "set the clock right, or issue the certificate again")
    if ends is None or now >= ends:
        found = f"expired {ends:%Y-%m-%d %H:%M} UTC" if ends else "no end"
        return fail(
            check, f"{found}, by this clock ({now:%Y-%m-%d %H:%M})", f"if it is right: {step}"
        )
    days = (ends - now).days
    found = f"{days} days left"
    return warn(check, found, step) if days < CERTIFICATE_WARN_DAYS else ok(check, found)


def port(facts: PortFacts, holder: int) -> Finding:
    """A listener's address: free, or the running node's; `holder` is that node's process or 0."""
    check = f"port {facts.name}"
    if facts.taken and holder:
        return ok(check, f"{facts.address} is taken, as it should be while the node runs")
    if facts.taken:
        step = f"find it with 'ss -ltnp', stop it, or change listen.{facts.name}"
        return fail(check, f"{facts.address} is in use by another process", step)
    if facts.error:
        found = f"{facts.address} cannot be used ({facts.error})"
        return fail(check, found, f"correct listen.{facts.name}")
    return ok(check, f"{facts.address} is free")


def hsm(facts: HsmFacts, wanted: str, data: DirectoryFacts) -> list[Finding]:
    """The token, its keys, and its stamp beside the data directory; `wanted` as in `directory`."""
    if facts.error:
        return [fail("HSM", facts.error, facts.next_step)]
    found = f"{facts.keys} keys are there and right; a PRF takes {facts.sign_ms:.2f} ms"
    slow = facts.sign_ms > HSM_WARN_MS
    step = "look at the device and the network to it"
    return [
        warn("HSM", found, step) if slow else ok("HSM", found),
        _stamp(facts, wanted, data),
    ]


def _stamp(facts: HsmFacts, wanted: str, data: DirectoryFacts) -> Finding:
    check = "HSM stamp"
    if facts.stamp_error:
        step = "provision the token (quorumvault hsm provision), or correct hsm.token_label"
        return fail(check, facts.stamp_error, step)
    if facts.stamp_holder != wanted:
        found = f"the token is enrolled for {facts.stamp_holder}, not for {wanted}"
        return fail(check, found, "correct node_id or hsm.token_label")
    if facts.stored_error:
        step = "see data directory; if the disk is damaged: quorumvault member replace"
        return fail(check, facts.stored_error, step)
    if data.holder:
        return ok(check, f"start {facts.stamped}; not compared with the store: the node has it")
    if facts.stored is None and facts.stamped:
        return fail(
            check,
            f"this node has run {facts.stamped} times, and its data directory is empty",
            "mount its disk; if that is lost for good: quorumvault member replace",
        )
    if facts.stored is not None and facts.stored < facts.stamped:
        return fail(
            check,
            f"the data directory is of start {facts.stored}, the stamp of {facts.stamped}:"
            " it is an old copy",
            "put the right one back; if that is lost: quorumvault member replace",
        )
    if facts.stored is not None and facts.stored > facts.stamped + 1:
        return fail(
            check,
            f"the stamp is of start {facts.stamped}, the data directory of {facts.stored}",
            "insert the token that this node ran with",
        )
    return ok(check, f"start {facts.stamped}; the data directory is not older")


def machine(facts: MachineFacts, needed: int) -> list[Finding]:
    """Limits of the operating system (`needed` files), memory, and what runs here."""
    if facts.open_files < needed:
        step = (
            f"ulimit -n {2 * needed} (LimitNOFILE= of systemd, --ulimit of Docker),"
            " or a lower limits.client_connections: until then fewer clients are taken"
        )
        found = f"{facts.open_files}, and {needed} may be needed"
        files = warn("open files", found, step)
    else:
        files = ok("open files", f"{facts.open_files}, {needed} needed at most")
    if facts.core_bytes == 0:
        cores = ok("core dumps", "off")
    else:
        cores = ok("core dumps", "on for this shell; the node switches its own off")
    memory = ok("memory", f"{_size(facts.memory_available)} available")
    if facts.memory_available < MEMORY_WARN_BYTES:
        memory = warn(
            "memory",
            f"{_size(facts.memory_available)} available",
            f"give the node {_size(MEMORY_WARN_BYTES)} or more",
        )
    return [files, cores, memory, ok("version", f"{facts.version}, Python {facts.python}")]


def _size(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
