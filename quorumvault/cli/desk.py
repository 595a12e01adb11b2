"""What an operator has one node do: a typed answer, or one line with the next step.

The commands `node`, `leader`, `events` and `cluster` ask through it, so that a node that does not
exist, does not answer, refuses the certificate or is too old is told in the same words everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from node.report import StatusReport
    from node.verdict import Overview
    from node.verdict_links import Silent
    from quorumvault.cli.admin import Access, Refused, Unreachable

T = TypeVar("T")

CALL_S: Final = 10.0
"""A transfer is answered within 5 s, a reload when every file is read."""

ConnectionFile = Annotated[
    Path,
    typer.Option(
        "--connection",
        envvar="QUORUMVAULT_CONNECTION",
        help="The cluster's connection file, with admin access.",
    ),
]

_EXIT_OF_STATUS: Final = {
    400: Exit.USAGE,
    403: Exit.DENIED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    413: Exit.USAGE,
    422: Exit.USAGE,  # bad configuration
}


class CallFailed(Failure):
    """A node said no, or nothing; `refused` is what it said."""

    def __init__(self, message: str, exit_code: Exit, refused: Refused | None = None) -> None:
        super().__init__(message, exit_code)
        self.refused = refused


class Desk:
    """An operator in front of a cluster."""

    def __init__(self, connection: Path) -> None:
        """Take the way in that a connection file describes.

        Raises:
            Failure: the file is missing, malformed or has no admin access.

        """
        from quorumvault.cli.admin import Access  # noqa: PLC0415 - heavy

        self._path = connection
        self.access: Access = Access.from_connection(connection)
        self.dcs: dict[int, str] = {
            int(node): str(place["dc"]) for node, place in self.access.nodes.items()
        }
        """DC of every node, by id, in the order of the file."""

    def name(self, node: int) -> str:
        """For people."""
        return f"node {node} ({self.dcs[node]})" if node in self.dcs else f"node {node}"

    def must_know(self, node: int) -> None:
        """Refuse a node that the connection file does not have.

        Raises:
            Failure: it has no such node.

        """
        if node not in self.dcs:
            raise Failure(
                f"there is no node {node} in {self._path}; it has "
                f"{', '.join(str(each) for each in self.dcs)}",
                Exit.NOT_FOUND,
            )

    def ask(self, node: int, method: str, path: str, kind: type[T], data: bytes | None = None) -> T:
        """One call, and its answer as a struct of this kind.

        Raises:
            CallFailed: one line with what to do.
            Failure: there is no such node.

        """
        from node.foreign import Unintelligible, convert  # noqa: PLC0415 - heavy
        from quorumvault.cli.admin import Refused, Unreachable  # noqa: PLC0415 - heavy

        self.must_know(node)
        answer = self.access.call(str(node), method, path, data, CALL_S)
        if isinstance(answer, Unreachable):
            raise self._silent(node, answer)
        if isinstance(answer, Refused):
            raise self._refused(node, f"{method} {path.partition('?')[0]}", answer)
        try:
            return convert(answer, kind)
        except Unintelligible as error:
            raise CallFailed(
                f"{self.name(node)}: {error}; is it of another version? See 'quorumvault cluster "
                "status'",
                Exit.UNEXPECTED,
            ) from error

    def _silent(self, node: int, answer: Unreachable) -> CallFailed:
        return CallFailed(
            f"{self.name(node)} does not answer at {self.access.urls[str(node)]} "
            f"({answer.reason}); 'quorumvault cluster status' shows who does",
            Exit.CONNECTION,
        )

    def _refused(self, node: int, call: str, answer: Refused) -> CallFailed:
        name = self.name(node)
        code = _EXIT_OF_STATUS.get(answer.status, Exit.DEGRADED)
        if answer.status == 403:
            line = (
                f"{name} does not take this certificate for an operator's ({answer.reason}): use "
                "operator/connection.json of 'cluster create', or 'quorumvault certs issue "
                "--operator NAME'"
            )
        elif answer.code == "not-found":
            line = (
                f"{name} runs version {self._version(node)}, which does not know {call}: upgrade "
                "the node first"
            )
        else:
            line = f"{name} refuses: {answer.reason}"
        if answer.code == "no-quorum":
            code = Exit.NO_QUORUM
        return CallFailed(line, code, answer)

    def _version(self, node: int) -> str:
        from node.verdict_links import Silent  # noqa: PLC0415 - heavy

        report = self.access.reports()[node]
        return "unknown" if isinstance(report, Silent) else report.version

    def look(self) -> tuple[Overview, Mapping[int, StatusReport | Silent]]:
        """How the cluster is, and what every node says of itself."""
        from node.verdict import judge  # noqa: PLC0415 - heavy

        reports = self.access.reports()
        return judge(self.access.places(), reports), reports

    def each(self, nodes: Iterable[int] | None = None) -> list[int]:
        """These nodes, or all.

        Raises:
            Failure: there is no such node.

        """
        wanted = list(self.dcs) if nodes is None else list(nodes)
        for node in wanted:
            self.must_know(node)
        return wanted
