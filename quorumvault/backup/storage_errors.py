"""What a disk or a provider said, as one of our errors, and whether the same call may work soon.

Providers' packages raise whatever they like. This file knows it by its shape (HTTP status, error
code, errno), not by its class, so that no package is needed for what is not used. A message says
what was done to what, what the provider said (without secrets, one line), and the next step.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import (
    NotThere,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quorumvault.backup.storage_names import Place

__all__ = ["Said", "of_disk", "of_provider", "said"]

MAX_CAUSES: Final = 10

_FULL_ERRNO: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED_ERRNO: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_AWAY_ERRNO: Final = {
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
}
# Out of order for the moment: what HTTP says may be asked again.
_AWAY_STATUS: Final = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524}
_DENIED_STATUS: Final = {401, 403, 407}
_FULL_STATUS: Final = {507}
_FULL_WORDS: Final = re.compile(
    r"quota ?exceeded|quotaexceeded|storage ?full|disk (?:is )?full|insufficient ?storage"
    r"|no space left|storage ?quota|over ?quota|not enough (?:space|storage)|storage limit",
    re.IGNORECASE,
)
_HTTPX_HINT: Final = re.compile(r"\s*For more information check: \S+")
"""httpx ends with the address of a page about HTTP, which helps no owner of a backup."""
_RATE_WORDS: Final = re.compile(
    r"slow ?down|rate ?limit|too many requests|reduce your request rate", re.IGNORECASE
)
_DENIED_CODES: Final = {
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_DENIED_CLASSES: Final = {
    "AuthenticationException",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "PasswordRequiredException",
    "ProfileNotFound",
    "RefreshError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_AWAY_CLASSES: Final = {
    "BadGatewayError",
    "ClientConnectionError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EOFError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "NoValidConnectionsError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseParserError",
    "ResponseStreamingError",
    "SSHException",
    "ServerDisconnectedError",
    "TransportError",
    "gaierror",
}
_LATE_CLASSES: Final = {
    "ConnectTimeoutError",
    "FSTimeoutError",
    "ReadTimeoutError",
    "TimeoutException",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an exception says.

    Attributes:
        kind: "absent" (the object), "nowhere" (the bucket), "beyond" (the end of the object),
            "denied", "full", "away", "late" (no answer in time: the call may still be at work
            over there) or "other".
        text: its words, not yet scrubbed.
        passing: whether the same call may work in a moment.

    """

    kind: str
    text: str
    passing: bool = False


def said(error: BaseException) -> Said:
    """Read an exception and its causes."""
    heard = _hear(error)
    text = heard.text
    if any("SSLCertVerification" in name or "CertificateError" in name for name in heard.classes):
        return Said("away", f"its certificate is not trusted ({text})")
    if heard.status is not None and str(heard.status) not in text:
        code = f", {heard.code}" if heard.code and not heard.code.isdigit() else ""
        text = f"{text} (HTTP {heard.status}{code})"
    kind = _answered(heard) or _failed(heard)
    return Said(kind, text, passing=kind in {"away", "late"})


@dataclass(frozen=True, slots=True)
class _Heard:
    text: str
    words: str
    classes: set[str]
    errnos: set[int]
    status: int | None
    code: str


def _hear(error: BaseException) -> _Heard:
    chain = list(_causes(error))
    codes = [code for one in chain if (code := _code(one))]
    code = next((code for code in codes if not code.isdigit()), "".join(codes[:1]))
    text = next((str(one) for one in reversed(chain) if str(one)), type(error).__name__)
    return _Heard(
        text=_HTTPX_HINT.sub("", text),
        words=" ".join([*map(str, chain), code]),
        classes={cls.__name__ for one in chain for cls in type(one).__mro__},
        errnos={one.errno for one in chain if isinstance(one, OSError) and one.errno is not None},
        status=next((status for one in chain if (status := _status(one)) is not None), None),
        code=code,
    )


def _answered(heard: _Heard) -> str:
    """The kind of an error that the provider itself told of; "" if it is none."""
    status = heard.status
    if status is not None and status < 400:
        return ""
    if status in _FULL_STATUS or "InsufficientStorage" in heard.classes:
        return "full"
    if heard.errnos & _FULL_ERRNO or _FULL_WORDS.search(heard.words):
        return "full"
    if status in _AWAY_STATUS or (status is not None and _RATE_WORDS.search(heard.words)):
        return "away"
    if heard.code in _DENIED_CODES or status in _DENIED_STATUS:
        return "denied"
    if heard.code == "NoSuchBucket":
        return "nowhere"
    if status == 416:
        return "beyond"
    if status in {404, 410} or "ResourceNotFound" in heard.classes:
        return "absent"
    if status == 409:  # of WebDAV: the folder is not there; of S3: another call is at work
        return "away" if heard.code else "absent"
    return ""


def _failed(heard: _Heard) -> str:
    """The kind of an error on the way to the provider, or of its package."""
    classes = heard.classes
    if classes & _DENIED_CLASSES:
        return "denied"
    if "TimeoutError" in classes or classes & _LATE_CLASSES:
        return "late"
    if classes & _AWAY_CLASSES or heard.errnos & _AWAY_ERRNO:
        return "away"
    if "PermissionError" in classes or heard.errnos & _DENIED_ERRNO:
        return "denied"
    if "FileNotFoundError" in classes:
        return "absent"
    return "other"


def of_provider(error: BaseException, place: Place, what: str, name: str) -> StorageError:
    """The error for what a provider's package raised while it did `what` to `name`."""
    found = said(error)
    text = place.scrub(found.text).removesuffix(".")
    name = name or "the storage"
    match found.kind:
        case "absent":
            return NotThere(f"{name} is not there in {place.shown}")
        case "nowhere":
            return StorageError(
                f"{place.shown} names a bucket that does not exist: make it, or correct the name"
            )
        case "denied":
            return StorageDenied(
                f"{place.shown} does not let us {what} {name}: {text}."
                " Check the credentials and what they allow"
            )
        case "full":
            return StorageFull(
                f"{place.shown} has no room left to {what} {name}: {text}."
                " Make room there, then run the same again"
            )
        case "away" | "late":
            return StorageUnreachable(
                f"{place.shown} did not {what} {name}: {text}. Try again when it is back"
            )
        case _:
            return StorageError(f"{place.shown} did not {what} {name}: {text}")


def of_disk(error: OSError, place: Place, what: str, name: str) -> StorageError:
    """The error for what the operating system said about a folder."""
    text = os.strerror(error.errno) if error.errno else str(error)
    name = name or "the folder"
    if error.errno in _FULL_ERRNO:
        return StorageFull(
            f"{place.shown} has no room left to {what} {name}: {text}."
            " Make room there, then run the same again"
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR} and what != "write":
        return NotThere(f"{name} is not there in {place.shown}")
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return StorageError(
            f"can't {what} {name} in {place.shown}: something else is in its place ({text})."
            " Move it away, or choose another folder"
        )
    if error.errno in _DENIED_ERRNO:
        return StorageDenied(
            f"can't {what} {name} in {place.shown}: {text}. Check who owns the folder, its"
            " permissions, and that the disk is not mounted read-only"
        )
    if error.errno in _AWAY_ERRNO or error.errno == errno.EIO:
        return StorageUnreachable(
            f"can't {what} {name} in {place.shown}: {text}. Check the disk or the mounted share"
        )
    return StorageError(f"can't {what} {name} in {place.shown}: {text}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an exception carries: botocore, httpx, aiohttp, Google's, Azure's."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata")
        found = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
        return found if isinstance(found, int) else None
    for holder in (error, response):
        for attribute in ("status_code", "status", "code"):
            found = getattr(holder, attribute, None)
            if isinstance(found, int) and 100 <= found <= 599:
                return found
    return None


def _code(error: BaseException) -> str:
    """The S3 error code."""
    response = getattr(error, "response", None)
    inner = response.get("Error") if isinstance(response, dict) else None
    code = inner.get("Code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else ""
