"""How long the certificates that this node uses are still good.

What counts is what the node shows its peers and clients (node.pair), not what lies on disk by now.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

DAY: Final = dt.timedelta(days=1)
MAX_SUBJECT: Final = 256
"""Characters of a subject that are shown."""


@dataclass(frozen=True, slots=True)
class Held:
    """One certificate in use; `name` says whose."""

    name: Literal["node", "authority"]
    subject: str
    not_after: dt.datetime


class CertificateLine(Struct, frozen=True):
    """One certificate, now."""

    name: str
    subject: str
    not_after: str
    """RFC 3339, UTC."""
    days_left: int
    """Whole days; negative when it is over."""


def held(own: x509.Certificate, authorities: Iterable[x509.Certificate]) -> tuple[Held, ...]:
    """The node's own certificate and its authorities'."""
    return (_held("node", own), *(_held("authority", each) for each in authorities))


def _held(name: Literal["node", "authority"], one: x509.Certificate) -> Held:
    return Held(name, one.subject.rfc4514_string()[:MAX_SUBJECT], one.not_valid_after_utc)


def lines(certificates: Iterable[Held], now: dt.datetime) -> list[CertificateLine]:
    """What is left of each at `now` (with a time zone)."""
    return [
        CertificateLine(
            each.name,
            each.subject,
            each.not_after.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
            (each.not_after - now) // DAY,
        )
        for each in certificates
    ]
