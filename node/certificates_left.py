"""How long the certificates that this node uses are still good.

Read once, when they are loaded: what counts is what the node shows its peers and clients, not what
lies on disk by now.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from msgspec import Struct

from node.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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


def held(cert: Path, authority: Path) -> tuple[Held, ...]:
    """The node's own certificate and its authorities'.

    Raises:
        ConfigError: a file cannot be read or is no certificate.

    """
    own = _read("node", "tls.cert_file", cert)[:1]  # what may follow is its chain
    return (*own, *_read("authority", "tls.ca_file", authority))


def _read(name: Literal["node", "authority"], key: str, path: Path) -> tuple[Held, ...]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{key} {path} cannot be read ({error.strerror}); correct the path"
        ) from None
    except ValueError:
        raise ConfigError(f"{key} {path} is not a certificate in PEM") from None
    return tuple(
        Held(name, each.subject.rfc4514_string()[:MAX_SUBJECT], each.not_valid_after_utc)
        for each in found
    )


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
