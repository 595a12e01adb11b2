"""What a node's status call answered, as a report for `node.verdict`, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.foreign import Unintelligible, decode
from node.report import StatusReport
from node.verdict_links import Silent
from quorumvault.cli.listeners import NoAnswer

if TYPE_CHECKING:
    from quorumvault.cli.listeners import Answer

OK: Final = 200


def report_of(node: int, answer: Answer | NoAnswer) -> StatusReport | Silent:
    """What `node` said of itself."""
    if isinstance(answer, NoAnswer):
        return Silent(answer.reason)
    if answer.status != OK:
        return Silent(f"it answers with status {answer.status}")
    try:
        report = decode(answer.body, StatusReport)
    except Unintelligible as error:
        return Silent(str(error))
    if report.node != node:
        return Silent(f"node {report.node} answers at its address")
    return report
