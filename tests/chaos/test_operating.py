"""The operator's part of chaos: who was drained is taken back, once, and nobody else."""

from __future__ import annotations

from pathlib import Path

from chaos import faults as f
from chaos import operating
from cluster.types import NodeId

ONE, TWO = NodeId(1), NodeId(2)


async def test_after_a_run_only_who_was_drained_is_taken_back_and_once(monkeypatch):
    asked = []
    monkeypatch.setattr(operating, "_operate", lambda _, fault: asked.append(fault) or "done")
    operator = operating.Operator(lambda: Path("connection.json"))
    assert await operator.do(f.Drain(ONE)) == "done"
    await operator.do(f.Transfer(TWO, 0))
    for node in (ONE, TWO, ONE):
        await operator.undrain(node)
    assert asked == [f.Drain(ONE), f.Transfer(TWO, 0), f.Undrain(ONE)]
