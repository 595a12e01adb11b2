"""How the command line talks to the nodes' admin listeners: mutual TLS, role operator."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.cluster_file import NodeEntry
    from node.report import StatusReport
    from node.verdict_links import Place, Silent

REQUEST_TIMEOUT_S: Final = 3.0
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_REASON: Final = 400
"""Characters of a node's words that are shown."""


@dataclass(frozen=True)
class Unreachable:
    """A node whose admin listener did not answer, and why."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """A node that answered no, and why."""

    status: int
    reason: str
    code: str = ""
    leader: int = 0
    """Of `not-leader`: who does lead; 0: nobody is known."""


@dataclass(frozen=True)
class Access:
    """The operator's way in: one admin URL per node id, and the operator's certificate."""

    nodes: dict[str, dict[str, Any]]
    urls: dict[str, str]
    context: ssl.SSLContext

    @classmethod
    def from_connection(cls, path: Path) -> Access:
        """Read a connection file (design section 8).

        Raises:
            Failure: the file is missing, malformed or has no admin access.

        """
        try:
            data = json.loads(path.read_text("utf-8"))
            admin = data["admin"]
            nodes = {
                str(entry["node"]): {"seat": entry["seat"], "dc": entry["dc"]}
                for entry in data["endpoints"]
            }
            urls = dict(zip(nodes, admin["urls"], strict=True))
            folder = path.resolve().parent
            files = (
                folder / data["ca_file"],
                folder / admin["cert_file"],
                folder / admin["key_file"],
            )
        except OSError as error:
            raise Failure(
                f"{path}: {error.strerror}; give the connection file of a running cluster with "
                "--connection",
                Exit.USAGE,
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise Failure(
                f"{path} is not a connection file with admin access ({missing}); use the demo's, "
                "or operator/connection.json of 'cluster create'",
                Exit.USAGE,
            ) from error
        step = f"{path} names it: take the whole folder that the file came in"
        return cls(nodes, urls, _context(*files, step))

    @classmethod
    def from_directory(cls, directory: Path, nodes: Iterable[NodeEntry]) -> Access:
        """These nodes, with the operator's certificate in the directory of 'cluster create'.

        Raises:
            Failure: a file of it is missing or wrong.

        """
        operator = directory / "operator"
        context = _context(
            directory / "ca.pem",
            operator / "cert.pem",
            operator / "key.pem",
            "give the directory of 'cluster create'",
        )
        entries = tuple(nodes)
        return cls(
            {str(entry.id): {"seat": entry.seat, "dc": entry.dc} for entry in entries},
            {str(entry.id): f"https://{entry.admin}" for entry in entries},
            context,
        )

    def call(
        self,
        node: str,
        method: str,
        path: str,
        data: bytes | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> dict[str, Any] | Refused | Unreachable:
        """One call of the admin listener of a node that `urls` has."""
        return self._call(f"{self.urls[node]}{path}", method, data, timeout_s)

    def _opener(self) -> urllib.request.OpenerDirector:
        """The nodes' own addresses and no others: no proxy, no redirect."""
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.context),
            _NoRedirect(),
        )

    def _call(
        self,
        url: str,
        method: str,
        data: bytes | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> dict[str, Any] | Refused | Unreachable:
        if not url.startswith("https://"):
            return Unreachable(f"{url}: admin URLs are https")
        request = urllib.request.Request(  # noqa: S310 - https only, checked
            url, method=method, data=data
        )
        try:
            with self._opener().open(request, timeout=timeout_s) as answer:
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

    def statuses(self) -> dict[str, dict[str, Any] | Unreachable]:
        """Every node's own status, asked at once."""
        with ThreadPoolExecutor(len(self.urls)) as pool:
            return dict(zip(self.urls, pool.map(self._status, self.urls), strict=True))

    def _status(self, node: str) -> dict[str, Any] | Unreachable:
        answer = self._call(f"{self.urls[node]}/v1/status", "GET")
        if isinstance(answer, Refused):
            return Unreachable(answer.reason)
        if isinstance(answer, dict) and str(answer.get("node")) != node:
            return Unreachable(f"node {answer.get('node')} answers at its address")
        return answer

    def places(self) -> list[Place]:
        """Every node's place, in the order of the file."""
        from node.verdict_links import Place  # noqa: PLC0415 - heavy

        return [
            Place(int(node), int(place["seat"]), str(place["dc"]))
            for node, place in self.nodes.items()
        ]

    def reports(self) -> dict[int, StatusReport | Silent]:
        """Every node's own status, asked at once and decoded, for `node.verdict.judge`."""
        from node.foreign import Unintelligible, status_of  # noqa: PLC0415 - heavy
        from node.verdict_links import Silent  # noqa: PLC0415 - heavy

        found: dict[int, StatusReport | Silent] = {}
        for node, answer in self.statuses().items():
            if isinstance(answer, Unreachable):
                found[int(node)] = Silent(answer.reason)
                continue
            try:
                found[int(node)] = status_of(answer)
            except Unintelligible as error:
                found[int(node)] = Silent(str(error))
        return found

    def cluster_file(self, node: str) -> dict[str, Any] | Refused | Unreachable:
        """The cluster file that a node follows."""
        return self._call(f"{self.urls[node]}/v1/cluster", "GET")

    def hand_over(self, node: str, data: bytes) -> dict[str, Any] | Refused | Unreachable:
        """Give a node a cluster file."""
        return self._call(f"{self.urls[node]}/v1/cluster", "PUT", data)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A node answers for itself: a redirect is a refusal."""

    def redirect_request(self, *_: object) -> None:
        """None: the answer stands as it is."""


def _context(authority: Path, certificate: Path, key: Path, step: str) -> ssl.SSLContext:
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
        one_line(detail) if isinstance(detail, str) and detail else f"status {error.code}",
        one_line(code) if isinstance(code, str) else "",
        leader if isinstance(leader, int) else 0,
    )


def one_line(text: str) -> str:
    """A node's words, safe for a terminal and short."""
    return "".join(each if each.isprintable() else " " for each in text[:MAX_REASON])
