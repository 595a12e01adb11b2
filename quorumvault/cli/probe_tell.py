"""What ``quorumvault probe`` shows of its rounds, and what it keeps of them for the summary."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from quorumvault.cli.probe_round import Line, Step, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorumvault.cli.exits import Exit

KEPT: Final = 50_000
"""Times of each step that percentiles are made of: a day, five nodes, every ten seconds."""
QUANTILES: Final = (0.5, 0.9, 0.99, 1.0)
WIDE: Final = 10
"""Characters of a column of times."""


@dataclass
class Tally:
    """All rounds so far."""

    rounds: int = 0
    clean: int = 0
    """Rounds in which every step went well at every node."""
    codes: Counter[Exit] = field(default_factory=Counter)
    """How many lines ended how."""
    times_ms: dict[Step, deque[float]] = field(
        default_factory=lambda: {step: deque(maxlen=KEPT) for step in Step}
    )
    failed: Counter[Step] = field(default_factory=Counter)
    worst: list[Line] = field(default_factory=list)
    """One line for each way in which lines ended, for the exit code."""

    def add(self, lines: Sequence[Line]) -> None:
        """One whole round."""
        self.rounds += 1
        self.clean += all(line.well for line in lines)
        for line in lines:
            if not self.codes[line.code]:
                self.worst.append(line)
            self.codes[line.code] += 1
            for step, took in line.times_ms.items():
                self.times_ms[step].append(took)
            if line.failed is not None:
                self.failed[line.failed] += 1

    @property
    def exit_code(self) -> Exit:
        """Of everything together."""
        return verdict(self.worst)


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that `q` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


def head() -> str:
    """The columns of `row`."""
    return "node  DC           " + "".join(f"{step.name.lower():>{WIDE}}" for step in Step) + "  ms"


def row(line: Line) -> str:
    """One node's round in one line."""
    text = f"{line.node:>4}  {line.dc[:12]:12} "
    for step in Step:
        took = line.times_ms.get(step)
        if took is None:
            return f"{text}  {line.why if line.failed is step else ''}".rstrip()
        text += f"{took:>{WIDE}.0f}"
    return text


def round_line(lines: Sequence[Line], at: dt.datetime) -> str:
    """A whole round in one line, for --forever."""
    well = [line for line in lines if line.well]
    text = f"{at:%Y-%m-%dT%H:%M:%SZ} {len(well)} of {len(lines)} nodes well"
    took = [(t, step, line.node) for line in lines for step, t in line.times_ms.items()]
    if took:
        slowest, step, node = max(took)
        text += f", slowest: {step.value} at node {node} {slowest:.0f} ms"
    bad = [f"node {line.node} ({line.dc}) {line.failed}: {line.why}" for line in lines
           if not line.well]  # fmt: skip
    return "; ".join([text, *bad])


def summary(tally: Tally) -> str:
    """Percentiles of every step, as text."""
    names = [f"p{q * 100:.0f}" if q < 1 else "max" for q in QUANTILES]
    rows = [f"{'step':12}{'times':>8}{'failed':>8}" + "".join(f"{n:>9}" for n in names) + "  ms"]
    for step in Step:
        values = tally.times_ms[step]
        cells = [quantile(values, q) for q in QUANTILES]
        shown = "".join(f"{'-' if cell is None else f'{cell:.0f}':>9}" for cell in cells)
        rows.append(f"{step.value:12}{len(values):>8}{tally.failed[step]:>8}{shown}")
    whole = "1 whole round" if tally.rounds == 1 else f"{tally.rounds} whole rounds"
    return "\n".join([f"{whole}, {tally.clean} without a failure", *rows])


def round_json(lines: Sequence[Line], at: dt.datetime, account: str) -> str:
    """A round for programs: one line."""
    facts = {
        "t": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "account": account,
        "well": sum(line.well for line in lines),
        "nodes": [
            {
                "node": line.node, "dc": line.dc, "well": line.well,
                "ms": {step.name.lower(): took for step, took in line.times_ms.items()},
                "failed": None if line.failed is None else line.failed.name.lower(),
                "why": line.why, "detail": line.detail,
            }
            for line in lines
        ],
    }  # fmt: skip
    return json.dumps(facts)


def summary_json(tally: Tally) -> str:
    """The summary for programs: one line."""
    steps = {
        step.name.lower(): {
            "times": len(tally.times_ms[step]),
            "failed": tally.failed[step],
            "p50": quantile(tally.times_ms[step], 0.5),
            "p90": quantile(tally.times_ms[step], 0.9),
            "p99": quantile(tally.times_ms[step], 0.99),
            "max": quantile(tally.times_ms[step], 1.0),
        }
        for step in Step
    }
    facts = {"rounds": tally.rounds, "clean": tally.clean, "steps_ms": steps}
    return json.dumps({"summary": facts})
