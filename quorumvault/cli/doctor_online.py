"""`quorumvault doctor --online`: asking a running cluster, as clients, operators and scrapers do.

Each node's client, admin and ops listener is asked once, all at the same time. What it means is
decided in doctor_online_judge.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from cryptography import x509
from msgspec import Struct

from node.foreign import Unintelligible, decode
from node.report import StatusReport
from node.verdict_links import Silent
from quorumvault.cli import doctor_online_judge, listeners
from quorumvault.cli.listeners import NoAnswer
from quorumvault.cli.reports import OK, report_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quorumvault.cli.doctor_facts import Finding
    from quorumvault.cli.listeners import Answer, Cluster, Member

UNREADY: Final = 503
"""An ops listener that says "not ready" answers."""


class Served(Struct, frozen=True):
    """The part of GET /v1/vault that is looked at."""

    name: str
    node: int


class NodeFacts(Struct, frozen=True):
    """What one node answered. Of a listener: empty when it answers, else why not."""

    node: int
    seat: int
    dc: str
    client: str
    admin: str
    ops: str | None
    """None: the connection file does not tell where it is."""
    not_after: dt.datetime | None
    """When the certificate ends that clients are shown; None when there was none."""
    clock_ahead_s: float | None
    """At least; behind: negative."""
    report: StatusReport | None


def examine(connection: Path) -> list[Finding]:
    """All findings about the cluster of a connection file.

    Raises:
        Failure: the file cannot be used.

    """
    cluster = listeners.read(connection)
    return doctor_online_judge.judge(gather(cluster), dt.datetime.now(dt.UTC))


def gather(cluster: Cluster) -> list[NodeFacts]:
    """Ask every listener of every node."""
    members = cluster.members
    urls = [
        url
        for each in members
        for url in (f"{each.client}/v1/vault", f"{each.admin}/v1/status", _ops(each))
    ]
    answers = listeners.ask_all(cluster.context, urls)
    return [
        _facts(each, cluster.name, answers[3 * at : 3 * at + 3]) for at, each in enumerate(members)
    ]


def _ops(member: Member) -> str:
    # Without an address the question fails by itself, and is not looked at.
    return "" if member.ops is None else f"{member.ops}/readyz?verbose"


def _facts(member: Member, name: str, answers: Sequence[Answer | NoAnswer]) -> NodeFacts:
    client, admin, ops = answers
    said = report_of(member.node, admin)
    clocks = [
        each.clock_ahead_s
        for each in answers
        if not isinstance(each, NoAnswer) and each.clock_ahead_s is not None
    ]
    return NodeFacts(
        node=member.node,
        seat=member.seat,
        dc=member.dc,
        client=_client(member, name, client),
        admin=said.reason if isinstance(said, Silent) else "",
        ops=None if member.ops is None else _status(ops, (OK, UNREADY)),
        not_after=None if isinstance(client, NoAnswer) else _end(client.certificate),
        clock_ahead_s=min(clocks, key=abs, default=None),
        report=None if isinstance(said, Silent) else said,
    )


def _client(member: Member, name: str, answer: Answer | NoAnswer) -> str:
    if isinstance(answer, NoAnswer) or answer.status != OK:
        return _status(answer, (OK,))
    try:
        served = decode(answer.body, Served)
    except Unintelligible as error:
        return str(error)
    if served.node != member.node:
        return f"node {served.node} answers at its address"
    if served.name != name:
        return f"it serves the vault {served.name!r}, not {name!r}"
    return ""


def _status(answer: Answer | NoAnswer, good: Sequence[int]) -> str:
    if isinstance(answer, NoAnswer):
        return answer.reason
    return "" if answer.status in good else f"it answers with status {answer.status}"


def _end(der: bytes | None) -> dt.datetime | None:
    try:
        return None if der is None else x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return None
