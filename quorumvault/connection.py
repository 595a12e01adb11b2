"""The connection file: how to reach a vault, and the tenant key that vouches for its accounts.

Its JSON is that of design section 8, as `quorumvault demo` writes it. Whoever holds the tenant's
private key can act for every account of the tenant, so only servers and demonstrations have one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations

from msgspec import Struct

from quorumvault._core import Endpoint
from quorumvault._wire import decode
from quorumvault.errors import VaultError

if TYPE_CHECKING:
    from pathlib import Path

SCOPES: Final = "vault:restore vault:manage"
TOKEN_LIFE_S: Final = 600
"""Far below the 24 h that a vault accepts; a new one is made for every call."""

ALGORITHMS: Final = frozenset({"EdDSA", "ES256", "RS256"})
MAX_CONNECTION_BYTES: Final = 1 << 20


class ConnectionFileError(VaultError):
    """The connection file, or a file that it names, is missing or malformed."""


class ConnectionEndpoint(Struct, frozen=True):
    """One node's client listener."""

    node: int
    seat: int
    dc: str
    url: str
    ops_url: str | None = None


class Tenant(Struct, frozen=True):
    """Who signs tokens, and with what."""

    iss: str
    alg: str
    private_key_file: str
    kid: str | None = None


class Connection(Struct, frozen=True):
    """The part of the connection file that a client needs."""

    cluster_id: UUID
    name: str
    endpoints: tuple[ConnectionEndpoint, ...]
    ca_file: str
    tenant: Tenant | None


class Reach:
    """A loaded connection file: endpoints, authority and a maker of tokens."""

    def __init__(
        self, connection: Connection, tenant: Tenant, folder: Path, private_key: str
    ) -> None:
        self.cluster_id = connection.cluster_id
        self.issuer = tenant.iss
        self._tenant = tenant
        self.ca_file = folder / connection.ca_file
        self.endpoints = tuple(
            Endpoint(e.url, node=e.node, seat=e.seat, dc=e.dc) for e in connection.endpoints
        )
        self._connection = connection
        self._private_key = private_key

    def token(self, account: str) -> str:
        """A fresh token for one account of the tenant."""
        now, tenant = int(time.time()), self._tenant
        claims = {
            "iss": tenant.iss,
            "sub": account,
            "aud": self._connection.name,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
            "scope": SCOPES,
            "device": "primary",
        }
        headers = None if tenant.kid is None else {"kid": tenant.kid}

        import jwt  # noqa: PLC0415 - heavy; backups by 64 digits need no token

        return jwt.encode(claims, self._private_key, algorithm=tenant.alg, headers=headers)


def load(path: Path) -> Reach:
    """Read a connection file and the tenant's private key.

    Raises:
        ConnectionFileError: one line with the file and what is wrong.

    """
    text = _read(path, "connection file")
    try:
        connection = decode(Connection, text)
    except ValueError as error:
        raise ConnectionFileError(f"the connection file {path} is malformed: {error}") from error
    if connection.tenant is None:
        raise ConnectionFileError(
            f"the connection file {path} has no tenant key to make tokens with;"
            " use --endpoint, --ca and --token-file"
        )
    if connection.tenant.alg not in ALGORITHMS:
        raise ConnectionFileError(
            f"the connection file {path} names the algorithm {connection.tenant.alg!r};"
            f" known are {', '.join(sorted(ALGORITHMS))}"
        )
    folder = path.resolve().parent
    key = _read(folder / connection.tenant.private_key_file, "tenant's private key")
    return Reach(connection, connection.tenant, folder, key.decode("ascii", errors="replace"))


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CONNECTION_BYTES)
    except OSError as error:
        raise ConnectionFileError(f"cannot read the {what} {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConnectionFileError(f"the name of the {what} is none ({error})") from error
