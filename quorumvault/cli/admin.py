"""How the command line talks to the nodes' admin listeners: mutual TLS, role operator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from cluster.cluster_file import NodeEntry
    from node.report import StatusReport
    from node.verdict_links import Place, Silent

REQUEST_TIMEOUT_S: Final = 3.0


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
                "deploy/run/connection.json of 'make up', or operator/connection.json of 'cluster "
                "create'",
                Exit.USAGE,
            ) from error
        step = f"{path} names it: take the whole folder that the file came in"
        return cls(nodes, urls, _operator(*files, step))

    @classmethod
    def from_directory(cls, directory: Path, nodes: Iterable[NodeEntry]) -> Access:
        """These nodes, with the operator's certificate in the directory of 'cluster create'.

        Raises:
            Failure: a file of it is missing or wrong.

        """
        operator = directory / "operator"
        context = _operator(
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
        from quorumvault.cli import admin_http  # noqa: PLC0415 - heavy

        return admin_http.call(self.context, f"{self.urls[node]}{path}", method, data, timeout_s)

    def statuses(self) -> dict[str, dict[str, Any] | Unreachable]:
        """Every node's own status, asked at once."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - heavy

        with ThreadPoolExecutor(len(self.urls)) as pool:
            return dict(zip(self.urls, pool.map(self._status, self.urls), strict=True))

    def _status(self, node: str) -> dict[str, Any] | Unreachable:
        from node.foreign import cut  # noqa: PLC0415 - heavy

        answer = self.call(node, "GET", "/v1/status", timeout_s=REQUEST_TIMEOUT_S)
        if isinstance(answer, Refused):
            return Unreachable(answer.reason)
        if isinstance(answer, dict) and str(answer.get("node")) != node:
            return Unreachable(cut(f"node {answer.get('node')} answers at its address"))
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
        return self.call(node, "GET", "/v1/cluster")

    def hand_over(self, node: str, data: bytes) -> dict[str, Any] | Refused | Unreachable:
        """Give a node a cluster file."""
        return self.call(node, "PUT", "/v1/cluster", data)


def _operator(authority: Path, certificate: Path, key: Path, step: str) -> ssl.SSLContext:
    from quorumvault.cli import admin_http  # noqa: PLC0415 - heavy

    return admin_http.operator(authority, certificate, key, step)
