"""One HTTPS call of an admin listener as an operator: no proxy, no redirect, a bounded answer.

Apart from `admin`, since help and completion need none of it and it takes time to import.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from node.foreign import cut
from quorumvault.cli.admin import Refused, Unreachable
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from pathlib import Path

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_REASON: Final = 400
"""Characters of a node's words that are shown."""


def call(
    context: ssl.SSLContext, url: str, method: str, data: bytes | None, timeout_s: float
) -> dict[str, Any] | Refused | Unreachable:
    """Ask; whatever the network or the node does is a result."""
    if not url.startswith("https://"):
        return Unreachable(f"{url}: admin URLs are https")
    request = urllib.request.Request(  # noqa: S310 - https only, checked
        url, method=method, data=data
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=context),
        _NoRedirect(),
    )
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            body = answer.read(MAX_ANSWER_BYTES)
        parsed = json.loads(body)
    except urllib.error.HTTPError as error:
        return _refused(error)
    except urllib.error.URLError as error:
        cause = error.reason
        plain = cause.strerror if isinstance(cause, OSError) else None
        return Unreachable(str(plain or cause))
    except (OSError, ValueError, RecursionError) as error:
        return Unreachable(str(error) or type(error).__name__)
    return parsed if isinstance(parsed, dict) else Unreachable("the answer is not an object")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A node answers for itself: a redirect is a refusal."""

    def redirect_request(self, *_: object) -> None:
        """None: the answer stands as it is."""


def operator(authority: Path, certificate: Path, key: Path, step: str) -> ssl.SSLContext:
    """TLS 1.3 as the operator.

    Raises:
        Failure: a file is missing or wrong; names it, and ends with `step`.

    """
    for file in (authority, certificate, key):
        try:
            with file.open("rb"):
                pass  # ssl does not say which file it cannot read
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}; {step}", Exit.USAGE) from error
    file = authority
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        file = certificate
        context.load_cert_chain(certificate, key)
    except OSError as error:  # also ssl.SSLError
        raise Failure(
            f"{file} does not load ({error.strerror or error}; is it PEM, and {key.name} its key?);"
            f" {step}",
            Exit.USAGE,
        ) from error
    return context


def _refused(error: urllib.error.HTTPError) -> Refused:
    """What a problem says, or its status."""
    with error:
        try:
            parsed = json.loads(error.read(MAX_ANSWER_BYTES))
        except (OSError, ValueError, RecursionError):
            parsed = None
    told = parsed if isinstance(parsed, dict) else {}
    detail, code, leader = told.get("detail"), told.get("code"), told.get("leader")
    return Refused(
        error.code,
        cut(detail, MAX_REASON) if isinstance(detail, str) and detail else f"status {error.code}",
        cut(code) if isinstance(code, str) else "",
        leader if isinstance(leader, int) else 0,
    )
