"""What an operator asks of a running vault, as faults: drain, undrain, a shard's transfer.

For every ground whose nodes have real admin listeners. What is asked of a node that does not
answer, or refused, is seen and said, not an error: operators meet that too.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, assert_never

from chaos import faults as f
from cluster.types import NodeId
from node.verdict import LEADER
from node.verdict_links import Silent
from quorumvault.cli.admin import Access, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

OperatorFault = f.Drain | f.Undrain | f.Transfer

CALL_S: Final = 10.0
"""A transfer is answered within 5 s."""


class Operator:
    """Does what an operator does to one vault, and remembers whom it took out of service.

    Args:
        connection_file: says where the vault's connection file is.

    """

    def __init__(self, connection_file: Callable[[], Path]) -> None:
        self._connection_file = connection_file
        self._drained: set[int] = set()

    async def do(self, fault: OperatorFault) -> str:
        """What was answered, in a few words."""
        if isinstance(fault, f.Drain):
            self._drained.add(fault.node)
        return await asyncio.to_thread(_operate, self._connection_file(), fault)

    async def undrain(self, node: int) -> None:
        """Back into service, if it was drained; nothing changes if it was started again since."""
        if node in self._drained:
            self._drained.discard(node)
            await self.do(f.Undrain(NodeId(node)))


def _operate(connection_file: Path, fault: OperatorFault) -> str:
    """Ask it with the operator's certificate. Blocks."""
    access = Access.from_connection(connection_file)
    node = str(fault.node)
    match fault:
        case f.Drain():
            return _told(access.call(node, "POST", "/v1/drain", None, CALL_S))
        case f.Undrain():
            return _told(access.call(node, "POST", "/v1/undrain", None, CALL_S))
        case f.Transfer(heir, shard):
            return _transfer(access, int(heir), shard)
        case _:
            assert_never(fault)


def _transfer(access: Access, heir: int, shard: int) -> str:
    reports = [each for each in access.reports().values() if not isinstance(each, Silent)]
    if not reports:
        return "nobody answers"
    shard %= len(reports[0].groups)
    for report in reports:
        if report.groups[shard].role == LEADER:
            wish = json.dumps({"shard": shard, "to": heir}).encode()
            leader = str(report.node)
            answer = access.call(leader, "POST", "/v1/leader/transfer", wish, CALL_S)
            return f"shard {shard} of node {leader}: {_told(answer)}"
    return f"nobody leads shard {shard}"


def _told(answer: Mapping[str, Any] | Refused | Unreachable) -> str:
    match answer:
        case Refused():
            return f"refused: {answer.reason}"
        case Unreachable():
            return f"no answer: {answer.reason}"
        case _:
            return ", ".join(f"{name} {value}" for name, value in answer.items())
