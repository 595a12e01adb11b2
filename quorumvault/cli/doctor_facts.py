"""What `quorumvault doctor` finds out about a node: plain facts, and the verdicts made of them.

Facts are gathered in doctor_gather and doctor_hsm, which decide nothing; doctor_judge decides and
looks at nothing. No fact holds a key, a PIN or anything of a record (I11).
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from msgspec import Struct

from cluster.room import Space


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One line of the doctor; `next_step` is empty when all is well."""

    level: Level
    check: str
    found: str
    next_step: str = ""


class FileFacts(Struct, frozen=True):
    """A file that the configuration names; `error` is empty when this user can read it."""

    key: str
    path: str
    secret: bool
    error: str = ""
    mode: int = 0
    owner: int = 0


class UserFacts(Struct, frozen=True):
    """Who asks, and whose the data directory is; `owner` None: there is none yet."""

    me: int
    owner: int | None
    cluster_folder: str
    cluster_folder_writable: bool


class DirectoryFacts(Struct, frozen=True):
    """The data directory, unopened. `holder`: the process that has it locked, 0 for none."""

    path: str
    exists: bool
    error: str = ""
    identity: str = ""
    """"node N of cluster ID" as identity.json says; empty without that file."""
    format: int = 0
    others: str = ""
    """The first thing in it, when it has no identity.json but holds something."""
    holder: int = 0


class DiskFacts(Struct, frozen=True):
    """Where the data directory is, or will be."""

    place: str
    file_system: str
    read_only: bool
    space: Space


class SyncFacts(Struct, frozen=True):
    """Times of `count` appended and synced blocks, in milliseconds; `error`: why there are none."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    error: str = ""


class ClockFacts(Struct, frozen=True):
    """The wall clock beside what cannot be later than now; `synchronised` None: nobody knows."""

    now: dt.datetime
    newest: dt.datetime
    """The latest modification among the node's files."""
    newest_path: str
    synchronised: bool | None


class TlsFacts(Struct, frozen=True):
    """A node's certificate, its key and its authority; `error`: what could not be read."""

    error: str = ""
    chained: bool = False
    key_fits: bool = False
    holder: str = ""
    """"node N", "an operator", or why it is nobody."""
    hosts: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    """Of "server" and "client"."""
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    authority_not_after: dt.datetime | None = None


class PortFacts(Struct, frozen=True):
    """One listener; `error` is empty when the address could be bound."""

    name: str
    address: str
    taken: bool = False
    error: str = ""


class HsmFacts(Struct, frozen=True):
    """One round trip to the token; `error` is one line of hsm.errors, without a PIN."""

    error: str = ""
    next_step: str = ""
    keys: int = 0
    sign_ms: float = 0.0
    stamp_error: str = ""
    stamp_holder: str = ""
    """"node N of cluster ID" as the stamp says."""
    stamped: int = 0
    """The incarnation that the stamp knows."""
    stored: int | None = None
    """The incarnation in the data directory; None: not looked at, or nothing there."""
    stored_error: str = ""


class MachineFacts(Struct, frozen=True):
    """What the operating system allows. Bytes; `core_bytes` is -1 for "no limit"."""

    open_files: int
    core_bytes: int
    memory_available: int
    version: str
    python: str
