"""Looking at a node's files, disk, clock, ports and machine for `quorumvault doctor`.

Nothing here decides and nothing here changes anything: no lock is taken, the store is not opened,
and the one thing written is a file without a name on the data directory's disk, which is gone when
it is closed. So all of it may run beside the node.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import errno
import os
import platform
import resource
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.certificates import CertificateError, NodeIdentity, peer_identity
from cluster.datadir import IDENTITY_NAME, LOCK_NAME, STORE_NAME, Identity
from cluster.room import Space
from node.hardening import open_files
from quorumvault._version import VERSION
from quorumvault.cli.doctor_facts import (
    ClockFacts,
    DirectoryFacts,
    DiskFacts,
    FileFacts,
    MachineFacts,
    PortFacts,
    SyncFacts,
    TlsFacts,
    UserFacts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from node.config import NodeConfig

SYNC_COUNT: Final = 200
SYNC_BYTES: Final = 4096
"""A page of the store."""
SYNC_MOST_S: Final = 3.0
"""A slow disk is known long before all are done."""
MAX_SMALL_BYTES: Final = 1 << 20
TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the kernel's clock is not synchronised."""
TIMEX_BYTES: Final = 512
"""More than struct timex has on any Linux; all zero asks and sets nothing."""
_PURPOSES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
}


def file(key: str, path: Path, *, secret: bool) -> FileFacts:
    """A file that the configuration names under `key`."""
    try:
        with path.open("rb") as opened:
            found = os.fstat(opened.fileno())
    except OSError as error:
        return FileFacts(key, str(path), secret, error=error.strerror or str(error))
    return FileFacts(key, str(path), secret, "", found.st_mode & 0o7777, found.st_uid)


def files(config: NodeConfig) -> list[FileFacts]:
    """Every file that a node reads at its start."""
    return [
        file("cluster_file", config.cluster_file, secret=False),
        file("hsm.module", config.hsm_module, secret=False),
        file("hsm.pin_file", config.hsm_pin_file, secret=True),
        file("tls.ca_file", config.tls_ca, secret=False),
        file("tls.cert_file", config.tls_cert, secret=False),
        file("tls.key_file", config.tls_key, secret=True),
    ]


def user(config: NodeConfig) -> UserFacts:
    """Who asks, and what this user may do."""
    owner = None
    with contextlib.suppress(OSError):
        owner = config.data_dir.stat().st_uid
    folder = config.cluster_file.parent
    return UserFacts(os.geteuid(), owner, str(folder), os.access(folder, os.W_OK | os.X_OK))


def directory(path: Path) -> DirectoryFacts:
    """The data directory's identity and who holds it, without a lock of our own."""
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return DirectoryFacts(str(path), exists=False)
    except OSError as error:
        return DirectoryFacts(str(path), exists=True, error=error.strerror or str(error))
    holder = _holder(path / LOCK_NAME)
    if IDENTITY_NAME not in names:
        others = next((name for name in names if name != LOCK_NAME), "")
        return DirectoryFacts(str(path), exists=True, others=others, holder=holder)
    try:
        data = (path / IDENTITY_NAME).read_bytes()[:MAX_SMALL_BYTES]
        identity = msgspec.json.decode(data, type=Identity)
    except (OSError, msgspec.DecodeError) as error:
        wrong = f"{IDENTITY_NAME} cannot be used ({error})"
        return DirectoryFacts(str(path), exists=True, error=wrong, holder=holder)
    named = f"node {identity.node_id} of cluster {identity.cluster_id}"
    return DirectoryFacts(
        str(path), exists=True, identity=named, format=identity.format, holder=holder
    )


def _holder(lock: Path) -> int:
    """The process that holds the lock, by the kernel's list: to try it could stop a node's start.

    0: nobody, or not to be seen from here.
    """
    try:
        inode = lock.stat().st_ino
        rows = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return 0
    for row in rows:
        # 1: FLOCK  ADVISORY  WRITE 2412 fe:00:1837 0 EOF
        words = row.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return max(int(words[4]), 0)
    return 0


def disk(path: Path, map_bytes: int) -> DiskFacts:
    """The file system that the data directory is on, or will be made on.

    Raises:
        OSError: it cannot be asked.

    """
    place = existing(path)
    found = os.statvfs(place)
    used = 0
    with contextlib.suppress(OSError):
        used = (path / STORE_NAME / "data.mdb").stat().st_size
    space = Space(used, map_bytes, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
    kind = _file_system(place)
    return DiskFacts(str(place), kind, bool(found.f_flag & os.ST_RDONLY), space)


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _file_system(place: Path) -> str:
    """Its kind by the kernel's list of mounts: the longest above it, the last of equals."""
    real = place.resolve()
    best, kind = -1, "unknown"
    with contextlib.suppress(OSError):
        for row in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
            mounted, _, described = row.partition(" - ")
            point = Path(mounted.split()[4].encode().decode("unicode_escape"))
            if real.is_relative_to(point) and len(point.parts) >= best:
                best, kind = len(point.parts), described.split()[0]
    return kind


def sync(place: Path) -> SyncFacts:
    """Append to a file without a name in the folder `place`, and time each fsync."""
    times: list[float] = []
    try:
        with _nameless(place) as descriptor:
            until = time.monotonic() + SYNC_MOST_S
            while len(times) < SYNC_COUNT and time.monotonic() < until:
                os.write(descriptor, bytes(SYNC_BYTES))
                begun = time.perf_counter()
                os.fsync(descriptor)
                times.append((time.perf_counter() - begun) * 1000)
    except OSError as error:
        return SyncFacts(error=f"{place}: {error.strerror}")
    times.sort()
    return SyncFacts(len(times), statistics.median(times), times[(len(times) * 99 - 1) // 100])


@contextlib.contextmanager
def _nameless(place: Path) -> Iterator[int]:
    try:
        descriptor = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        # No such files there: one with a name, beside the directory, unlinked at once.
        descriptor, name = tempfile.mkstemp(dir=place.parent)
        Path(name).unlink()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def clock(config: NodeConfig) -> ClockFacts:
    """The wall clock, the newest of the node's files, and what the kernel says of its clock."""
    newest, newest_path = 0.0, ""
    store = config.data_dir / STORE_NAME / "data.mdb"
    for path in (config.cluster_file, config.tls_cert, config.data_dir / IDENTITY_NAME, store):
        with contextlib.suppress(OSError):
            changed = path.stat().st_mtime
            if changed > newest:
                newest, newest_path = changed, str(path)
    return ClockFacts(
        now=dt.datetime.now(dt.UTC),
        newest=dt.datetime.fromtimestamp(newest, dt.UTC),
        newest_path=newest_path,
        synchronised=_synchronised(),
    )


def _synchronised() -> bool | None:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def tls(config: NodeConfig, cluster_id: UUID) -> TlsFacts:
    """Certificate, key and authority, read and put beside each other."""
    try:
        certificate = x509.load_pem_x509_certificate(config.tls_cert.read_bytes())
        authority = x509.load_pem_x509_certificate(config.tls_ca.read_bytes())
        key = load_pem_private_key(config.tls_key.read_bytes(), password=None)
    except OSError as error:
        return TlsFacts(error=f"{error.filename} cannot be read ({error.strerror})")
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:120]
        return TlsFacts(error=f"certificate, key or authority is not readable PEM ({reason})")
    try:
        certificate.verify_directly_issued_by(authority)
        chained = True
    except (ValueError, TypeError, InvalidSignature):
        chained = False
    try:
        identity = peer_identity(certificate.public_bytes(Encoding.DER), cluster_id)
        holder = f"node {identity.node_id}" if isinstance(identity, NodeIdentity) else "an operator"
    except CertificateError as error:
        holder = f"nobody here ({error})"
    return TlsFacts(
        chained=chained,
        key_fits=key.public_key() == certificate.public_key(),
        holder=holder,
        hosts=frozenset(_hosts(certificate)),
        purposes=frozenset(_purposes(certificate)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        authority_not_after=authority.not_valid_after_utc,
    )


def _hosts(certificate: x509.Certificate) -> list[str]:
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
        return [*names.get_values_for_type(x509.DNSName), *addresses]
    return []


def _purposes(certificate: x509.Certificate) -> list[str]:
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return [_PURPOSES[each] for each in usage if each in _PURPOSES]
    return []


def ports(listen: Mapping[str, tuple[str, int]]) -> list[PortFacts]:
    """Bind each listener's address for a moment, as the node does, without listening."""
    return [_port(name, host, number) for name, (host, number) in listen.items()]


def _port(name: str, host: str, number: int) -> PortFacts:
    address = f"{host}:{number}"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        return PortFacts(name, address, taken=taken, error=error.strerror or str(error))
    return PortFacts(name, address)


def machine() -> MachineFacts:
    """Limits of this process, memory that is free, and versions."""
    return MachineFacts(
        open_files=open_files(),
        core_bytes=resource.getrlimit(resource.RLIMIT_CORE)[0],
        memory_available=_memory_available(),
        version=f"quorumvault {VERSION}",
        python=platform.python_version(),
    )


def _memory_available() -> int:
    """Bytes by the kernel, or what is left of the container's limit if that is less."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text("ascii").splitlines()
        row = next(row for row in rows if row.startswith("MemAvailable:"))
        available = int(row.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text("ascii"))
        available = min(available, most - int((group / "memory.current").read_text("ascii")))
    return available
