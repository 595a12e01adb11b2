"""Who asks: the bearer token of a call, verified against the tenant's configured key.

Nothing in the token chooses how it is verified: the algorithm belongs to the tenant's key, `none`
does not exist, and `kid` only picks among that tenant's own keys. Every failure names the claim
and never repeats its value (I11). Clocks decide expiry here and nothing else (I10).

A verified token is remembered by its hash until it expires: one login shows it twice.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import jwt

from node.problems import Code, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jwt.types import Options

    from node.config import Tenant

MAX_TOKEN_BYTES: Final = 4096
MAX_LIFETIME_S: Final = 86_400
IAT_LEEWAY_S: Final = 10
"""How far an issuer's clock may be ahead of ours. Expiry has no leeway: a longer token has."""
MAX_SUB_BYTES: Final = 255
MAX_REMEMBERED: Final = 8192
"""Tokens; about 1 KiB each."""
PRIMARY_DEVICE: Final = "primary"


class Scope(StrEnum):
    """What a token may do."""

    RESTORE = "vault:restore"
    MANAGE = "vault:manage"


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified token: the account and what it may do. Its names never leave the process."""

    iss: str = field(repr=False)
    sub: str = field(repr=False)
    scopes: frozenset[str]
    expires: float
    record_id: bytes = field(repr=False)


def _by_issuer(tenants: Sequence[Tenant]) -> dict[str, list[Tenant]]:
    found: dict[str, list[Tenant]] = {}
    for tenant in tenants:
        found.setdefault(tenant.iss, []).append(tenant)
    return found


def _refused(claim: str, cause: str) -> Problem:
    return Problem(Code.TOKEN, f"{claim}: {cause}; get a new token from the account's service")


class Tokens:
    """Verifies bearer tokens.

    Args:
        tenants: the configured keys.
        audience: the cluster's name.
        record_id: makes the record id of (iss, sub), kept with the remembered token.
        clock: wall clock in seconds, for expiry alone.

    """

    def __init__(
        self,
        tenants: Sequence[Tenant],
        audience: str,
        record_id: Callable[[str, str], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tenants = _by_issuer(tenants)
        self._audience = audience
        self._record_id = record_id
        self._clock = clock
        self._remembered: OrderedDict[bytes, Caller] = OrderedDict()

    def adopt(self, tenants: Sequence[Tenant]) -> None:
        """Trust these keys from now on; a token that another one signed counts no more."""
        self._tenants = _by_issuer(tenants)
        self._remembered.clear()

    def caller(self, authorization: str | None, allowed: frozenset[Scope]) -> Caller:
        """The caller of a request that needs one of the `allowed` scopes.

        Raises:
            Problem: 401 for a token that does not count, 403 for one that may not do this.

        """
        token = _bearer(authorization)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        caller = self._remembered.get(digest)
        if caller is None or caller.expires <= self._clock():
            caller = self._verified(token)
            self._remember(digest, caller)
        if not allowed & caller.scopes:
            wanted = " or ".join(sorted(allowed))
            raise Problem(Code.FORBIDDEN, f"scope: this call needs {wanted}; ask for such a token")
        return caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._remembered[digest] = caller
        self._remembered.move_to_end(digest)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _verified(self, token: str) -> Caller:
        claims = self._claims(token)
        iss, sub = claims["iss"], claims.get("sub")
        if not isinstance(iss, str):
            raise _refused("iss", "must be a string")
        sub = _account(sub)
        self._check_audience(claims.get("aud"))
        expires = self._check_times(claims)
        if claims.get("device") != PRIMARY_DEVICE:
            raise Problem(
                Code.FORBIDDEN, "device: must be primary; use the account's primary device"
            )
        scope = claims.get("scope")
        if not isinstance(scope, str):
            raise Problem(Code.FORBIDDEN, "scope: must be a string of scopes; ask for such a token")
        return Caller(
            iss=iss,
            sub=sub,
            scopes=frozenset(scope.split(" ")),
            expires=expires,
            record_id=self._record_id(iss, sub),
        )

    def _claims(self, token: str) -> Mapping[str, object]:
        """The payload, its signature verified by the one key that the tenant has for it."""
        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise _refused("token", "is not a signed JWT") from None
        if "crit" in header:
            raise _refused("crit", "no critical header is understood here")
        iss, kid = unverified.get("iss"), header.get("kid")
        keys = self._tenants.get(iss, []) if isinstance(iss, str) else []
        if not keys:
            raise _refused("iss", "is no tenant of this vault")
        if kid is not None:
            keys = [key for key in keys if key.kid in (None, kid)]
            if not keys:
                raise _refused("kid", "is no key of this tenant")
        keys = [key for key in keys if key.alg == header.get("alg")]
        if not keys:
            raise _refused("alg", "is not the algorithm of this tenant's key")
        for key in keys:
            try:
                return jwt.decode(token, key.key, algorithms=[key.alg], options=_SIGNATURE_ONLY)
            except (jwt.InvalidTokenError, ValueError, RecursionError):
                continue
        raise _refused("signature", "does not verify under this tenant's key")

    def _check_audience(self, aud: object) -> None:
        names = aud if isinstance(aud, list) else [aud]
        if self._audience not in names or not all(isinstance(name, str) for name in names):
            raise _refused("aud", "must be the name of this cluster")

    def _check_times(self, claims: Mapping[str, object]) -> float:
        now = self._clock()
        issued, expires = _time("iat", claims.get("iat")), _time("exp", claims.get("exp"))
        if expires <= now:
            raise _refused("exp", "the token has expired")
        if issued > now + IAT_LEEWAY_S:
            raise _refused("iat", "lies in the future")
        if not 0 < expires - issued <= MAX_LIFETIME_S:
            raise _refused("exp", f"must be after iat and at most {MAX_LIFETIME_S} s later")
        if "nbf" in claims and _time("nbf", claims["nbf"]) > now + IAT_LEEWAY_S:
            raise _refused("nbf", "the token is not valid yet")
        return expires


_SIGNATURE_ONLY: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""PyJWT verifies the signature; the claims are checked here, each with its own answer."""


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise _refused("Authorization", "is missing")
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token or " " in token:
        raise _refused("Authorization", "must be 'Bearer <token>'")
    if len(token) > MAX_TOKEN_BYTES:
        raise _refused("token", f"is over {MAX_TOKEN_BYTES} bytes")
    return token


def _account(sub: object) -> str:
    if not isinstance(sub, str):
        raise _refused("sub", "must be a string")
    try:
        size = len(sub.encode())
    except UnicodeEncodeError:
        raise _refused("sub", "must be valid Unicode") from None
    if not 1 <= size <= MAX_SUB_BYTES:
        raise _refused("sub", f"must be 1 to {MAX_SUB_BYTES} bytes")
    return sub


def _time(claim: str, value: object) -> float:
    """A NumericDate (RFC 7519): seconds since the epoch."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53:
        return float(value)
    raise _refused(claim, "must be a time in seconds")
