"""What a debug bundle is made of: which calls, what is left out of the answers, and the manifest.

Nodes tell no secret on any listener (I11), so the bundle needs to leave nothing out. It looks all
the same: an answer that holds what looks like a private key or a token is left out whole, and the
manifest says so. A bundle goes to other people.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from quorumvault.cli.listeners import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quorumvault.cli.listeners import Member, NoAnswer

EVENTS: Final = 1000
"""All that a node remembers."""
ADMIN_CALLS: Final = {
    "status.json": "/v1/status",
    "config.json": "/v1/config",
    "cluster.json": "/v1/cluster",
    "events.json": f"/v1/events?limit={EVENTS}",
}
OPS_CALLS: Final = {"readyz.txt": "/readyz?verbose", "metrics.txt": "/metrics"}
CLIENT_CALLS: Final = {"vault.json": "/v1/vault"}
OK: Final = 200
SAYS_NO: Final = "/readyz.txt"
"""Worth having whatever its status is."""
_SECRETS: Final = (
    (re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    # Begins where nothing of its alphabet stands before: an answer made to be slow is not.
    (
        re.compile(
            rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
        ),
        "a token",
    ),
)
README: Final = """\
A debug bundle of a Quorumvault cluster, made by 'quorumvault debug bundle'.

What is in it
  manifest.json       when, by which version, and for each part: how it was asked for, how long it
                      took, and why it is missing if it is
  overview.json       the cluster as 'quorumvault cluster status -o json' judges it
  nodes/N/status.json    what node N says of itself (GET /v1/status)
  nodes/N/config.json    its configuration in use, with where each value is from (GET /v1/config)
  nodes/N/cluster.json   the cluster file that it follows (GET /v1/cluster)
  nodes/N/events.json    its last events (GET /v1/events)
  nodes/N/readyz.txt     its checks (GET /readyz?verbose)
  nodes/N/metrics.txt    its metrics (GET /metrics)
  nodes/N/vault.json     what it tells clients (GET /v1/vault)

What is not in it
  No PIN, no private key, no token, no password; no account's name, no record id, nothing of a
  record. Nodes tell none of that, and files of this machine are not read. Logs are not in it.
  It does name hosts, ports, data centers, paths of files, tenants and operators.
"""


class Part(Struct, frozen=True):
    """One file of the bundle; `missing` is empty when it is there."""

    file: str
    node: int
    url: str
    status: int | None
    bytes: int
    seconds: float | None
    clock_ahead_s: float | None
    missing: str = ""
    note: str = ""


class Manifest(Struct, frozen=True):
    """What is in the bundle."""

    made: str
    """RFC 3339, UTC, by the clock of whoever made it."""
    cluster: str
    version: str
    python: str
    machine: str
    parts: list[Part]


def calls(member: Member) -> Iterator[tuple[str, str]]:
    """Every part of one node: its file and its URL."""
    folder = f"nodes/{member.node}"
    for base, paths in (
        (member.admin, ADMIN_CALLS),
        (member.ops, OPS_CALLS),
        (member.client, CLIENT_CALLS),
    ):
        if base is not None:
            for name, path in paths.items():
                yield f"{folder}/{name}", base + path


def part(member: Member, file: str, url: str, answer: Answer | NoAnswer) -> Part:
    """What the manifest says of one answer."""
    if not isinstance(answer, Answer):
        return Part(file, member.node, url, None, 0, None, None, missing=answer.reason)
    ahead = None if answer.clock_ahead_s is None else round(answer.clock_ahead_s, 1)
    missing = suspicion(answer.body)
    if answer.status != OK and not file.endswith(SAYS_NO):
        missing = f"it answers with status {answer.status}"
    return Part(
        file=file,
        node=member.node,
        url=url,
        status=answer.status,
        bytes=0 if missing else len(answer.body),
        seconds=round(answer.seconds, 3),
        clock_ahead_s=ahead,
        missing=missing,
        note="cut: it was longer" if answer.is_cut else "",
    )


def suspicion(body: bytes) -> str:
    """Why this must not go into a bundle; empty when it may."""
    for pattern, what in _SECRETS:
        if pattern.search(body):
            return f"left out: it holds what looks like {what}"
    return ""
