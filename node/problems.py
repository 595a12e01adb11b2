"""Every way in which a call can fail, as RFC 9457 problems (keeps I12: honest answers).

A `Problem` is raised wherever a request ends without success. Its `charged` answers one question
only: did *this request* charge the attempt? The table, per request and never per attempt:

==========================================  ==========  =========================================
what happened to this request's Charge      `charged`   because
==========================================  ==========  =========================================
never proposed (400, 401, 403, 413, 429,    no          it never left this node
draining, fewer than three share-givers)
NotAppended                                 no          refused before being appended, every time
Applied: charged                            yes         the outcome is this command's own
Applied: replayed, sent once, no jump       no          somebody else's copy was counted
Applied: replayed, sent again or jumped     unknown     the first copy may be the counted one
Applied: any refusal, no jump               no          the first copy in the log was refused
Applied: any refusal, after a jump          unknown     a copy inside the snapshot may have counted
Unknown (deadline, lost)                    unknown     it may still be applied later
client gone                                 (none)      nobody reads it; asking again is free
==========================================  ==========  =========================================

One request may propose several times (after `stale`): the answers combine, yes > unknown > no.
Calls other than `POST /v1/attempts` propose no Charge: always `no`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

PROBLEM_TYPE_PREFIX: Final = "urn:quorumvault:problem:"
PROBLEM_CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""What Retry-After says by default: an election takes about two seconds, a busy spell less."""


class Charged(StrEnum):
    """Whether this request charged the attempt."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    def combined(self, other: Charged) -> Charged:
        """Of two proposals of one request: yes > unknown > no."""
        if Charged.YES in (self, other):
            return Charged.YES
        if Charged.UNKNOWN in (self, other):
            return Charged.UNKNOWN
        return Charged.NO


class Code(StrEnum):
    """The closed set of problem codes."""

    MALFORMED = "malformed"
    TOKEN = "token"  # noqa: S105 - the name of a problem
    FORBIDDEN = "forbidden"
    PROOF_REJECTED = "proof-rejected"
    NOT_FOUND = "not-found"
    NOT_REGISTERED = "not-registered"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    STALE = "stale"
    SUPERSEDED = "superseded"
    CONFLICT = "conflict"
    TOO_LARGE = "too-large"
    EXHAUSTED = "exhausted"
    LOCKED = "locked"
    BUSY = "busy"
    INTERNAL = "internal"
    NO_QUORUM = "no-quorum"
    HSM_UNAVAILABLE = "hsm-unavailable"
    LEDGER_FULL = "ledger-full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is fixed per code: HTTP status, RFC 9457 title, and whether to send the same again."""

    status: int
    title: str
    retryable: bool


KINDS: Final[dict[Code, Kind]] = {
    Code.MALFORMED: Kind(400, "The request is malformed", retryable=False),
    Code.TOKEN: Kind(401, "The token is not accepted", retryable=False),
    Code.FORBIDDEN: Kind(403, "The token does not allow this call", retryable=False),
    Code.PROOF_REJECTED: Kind(403, "The signature does not verify", retryable=False),
    Code.NOT_FOUND: Kind(404, "No such call", retryable=False),
    Code.NOT_REGISTERED: Kind(404, "The account has no registration", retryable=False),
    Code.METHOD_NOT_ALLOWED: Kind(405, "No such method on this path", retryable=False),
    Code.STALE: Kind(409, "The record has moved on", retryable=False),
    Code.SUPERSEDED: Kind(409, "The attempt belongs to an earlier era", retryable=False),
    Code.CONFLICT: Kind(409, "Another registration is in place", retryable=False),
    Code.TOO_LARGE: Kind(413, "The body is too large", retryable=False),
    Code.EXHAUSTED: Kind(423, "No guesses are left", retryable=False),
    Code.LOCKED: Kind(423, "The registration is gone for good", retryable=False),
    Code.BUSY: Kind(429, "Too many requests", retryable=True),
    Code.INTERNAL: Kind(500, "The node failed", retryable=True),
    Code.NO_QUORUM: Kind(503, "No quorum answers", retryable=True),
    Code.HSM_UNAVAILABLE: Kind(503, "Too few HSMs answer", retryable=True),
    Code.LEDGER_FULL: Kind(503, "Too few ledgers have room", retryable=True),
    Code.DRAINING: Kind(503, "The node takes no new requests", retryable=True),
}

if set(KINDS) != set(Code):
    raise AssertionError("every problem code needs its kind")


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A request that ends without success.

    Args:
        code: decides status, title and `retryable`.
        detail: names the field or cause and the next step; no secret, no account name.
        charged: see the module's table.
        guesses_remaining: where an applied outcome told it.
        retry_after_s: overrides the default of retryable problems.
        allow: the methods that the path has, for 405.

    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        charged: Charged = Charged.NO,
        guesses_remaining: int | None = None,
        retry_after_s: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.charged = charged
        self.guesses_remaining = guesses_remaining
        self.retry_after_s = retry_after_s
        self.allow = allow

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.code].status

    def headers(self) -> dict[str, str]:
        """What the problem adds to the response's headers."""
        headers: dict[str, str] = {}
        if KINDS[self.code].retryable and self.code is not Code.INTERNAL:
            headers["Retry-After"] = str(self.retry_after_s or RETRY_AFTER_S)
        if self.code is Code.TOKEN:
            headers["WWW-Authenticate"] = 'Bearer realm="quorumvault"'
        if self.allow is not None:
            headers["Allow"] = self.allow
        return headers

    def body(self) -> bytes:
        """The JSON document."""
        kind = KINDS[self.code]
        document: dict[str, str | int | bool] = {
            "type": PROBLEM_TYPE_PREFIX + self.code,
            "title": kind.title,
            "status": kind.status,
            "code": str(self.code),
            "detail": self.detail,
            "retryable": kind.retryable,
            "charged": str(self.charged),
        }
        if self.guesses_remaining is not None:
            document["guesses_remaining"] = self.guesses_remaining
        return msgspec.json.encode(document)


def malformed(field: str, cause: str) -> Problem:
    """A 400 that names the field."""
    return Problem(Code.MALFORMED, f"{field}: {cause}")
