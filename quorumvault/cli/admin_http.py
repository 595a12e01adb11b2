"""One HTTPS call of an admin listener as an operator: no proxy, no redirect, a bounded answer.

Apart from `admin`, since help and completion need none of it and it takes time to import.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from node.foreign import cut
from quorumvault.cli.admin import Refused, Unreachable
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from pathlib import Path

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
WHOLE_ANSWER: Final = 2
"""Times the time-out, which is for each step: a node that trickles its answer is given up then."""
MAX_REASON: Final = 400
"""Characters of a node's words that are shown."""


def call(
    context: ssl.SSLContext, url: str, method: str, data: bytes | None, timeout_s: float
) -> dict[str, Any] | Refused | Unreachable:
    """Ask; whatever the network or the node does is a result."""
    if not url.startswith("https://"):
        return Unreachable(f"{url}: admin URLs are https")
    came: list[dict[str, Any] | Refused | Unreachable] = []
    one = threading.Thread(  # a daemon: nobody waits for a node that was given up
        target=lambda: came.append(_exchange(context, url, method, data, timeout_s)), daemon=True
    )
    one.start()
    most_s = WHOLE_ANSWER * timeout_s
    one.join(most_s)
    return came[0] if came else Unreachable(f"no whole answer within {most_s:g} s")


def _exchange(
    context: ssl.SSLContext, url: str, method: str, data: bytes | None, timeout_s: float
) -> dict[str, Any] | Refused | Unreachable:
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
        return Unreachable(cut(str(plain or cause), MAX_REASON))
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        return Unreachable(cut(str(error), MAX_REASON) or type(error).__name__)
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
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            parsed = None
    told = parsed if isinstance(parsed, dict) else {}
    detail, code, leader = told.get("detail"), told.get("code"), told.get("leader")
    return Refused(
        error.code,
        cut(detail, MAX_REASON) if isinstance(detail, str) and detail else f"status {error.code}",
        cut(code) if isinstance(code, str) else "",
        leader if isinstance(leader, int) else 0,
    )
