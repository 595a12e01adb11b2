"""One page about a run: what was done to the vault, what it answered, and what it broke."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from chaos.driver import Death  # noqa: TC001 - msgspec reads the annotations
from chaos.faults import Fault, Schedule, kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaos.history import Event
    from chaos.witness import Testimony

SHOWN_VIOLATIONS: Final = 40
SHOWN_LINE: Final = 400
"""Characters of a node's last line: enough for the step that it names."""


class Done(Struct, frozen=True):
    """One fault as it was really done."""

    at_ms: int
    """Since the load began; not before its planned time."""
    fault: Fault
    seen: str
    """What the driver saw, or why it could not be done."""
    outage_ms: int
    """The longest time without a success in a shard that touched the time up to the next fault."""


class Report(Struct, frozen=True):
    """Everything about a run but its history."""

    name: str
    """The scenario, or `random`."""
    seed: int
    driver: str
    wan: str
    shards: int
    limit: int
    clients: int
    seconds: float
    """From the first fault's clock to the end of the load."""
    healed_s: float
    """From the end of the schedule until every member was ready."""
    operations: dict[str, dict[str, int]]
    """By op and phase, `invoke` left out."""
    codes: dict[str, int]
    charges: dict[str, int]
    """Of attempts: what each answer said about itself."""
    attempts: int
    """Distinct attempts that were sent."""
    evaluated: int
    """Distinct attempts for which three seats gave shares."""
    shares_given: int
    shares_refused: int
    proofs: int
    schedule: Schedule
    done: tuple[Done, ...]
    impossible: dict[str, str]
    deaths: tuple[Death, ...]
    violations: tuple[str, ...]

    @property
    def good(self) -> bool:
        """True when no rule was broken."""
        return not self.violations

    @property
    def faults(self) -> dict[str, int]:
        """How many of each kind were done."""
        return dict(sorted(Counter(kind(each.fault) for each in self.done).items()))


def operations(history: Iterable[Event]) -> dict[str, dict[str, int]]:
    """Count events by op and phase."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for event in history:
        if event.phase != "invoke":
            found[event.op][event.phase] += 1
    return {op: dict(sorted(found[op].items())) for op in sorted(found)}


def counted(history: Sequence[Event], testimony: Testimony) -> dict[str, object]:
    """The report's figures that come from the history and the witnesses."""
    answers = [event for event in history if event.phase != "invoke"]
    attempts = [event for event in answers if event.op == "attempt"]
    charges = Counter(
        ("replayed" if event.replayed else "yes") if event.phase == "ok" else event.charged
        for event in attempts
    )
    return {
        "operations": operations(history),
        "codes": dict(sorted(Counter(event.code for event in answers if event.code).items())),
        "charges": dict(sorted(charges.items())),
        "attempts": len({event.attempt_id for event in attempts}),
        "evaluated": sum(map(len, testimony.evaluated().values())),
        "shares_given": sum(map(len, testimony.given.values())),
        "shares_refused": len(testimony.refused),
        "proofs": sum(event.op == "prove" and event.phase == "ok" for event in answers),
    }


def as_json(report: Report) -> str:
    """The whole report, for programs."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()


def as_text(report: Report) -> str:
    """The page, for people."""
    lines = [
        f"Chaos run {report.name}, seed {report.seed}: "
        + ("no rule was broken" if report.good else f"{len(report.violations)} VIOLATIONS"),
        f"  ground      driver {report.driver}, WAN {report.wan}, {report.shards} shards",
        f"  load        {report.clients} clients, {report.limit} guesses each",
        f"  time        {report.seconds:.0f} s; all ready {report.healed_s:.1f} s after healing",
        f"  attempts    {report.attempts} sent, {report.evaluated} evaluated (three seats)",
        f"  proofs      {report.proofs} acknowledged",
        f"  shares      {report.shares_given} given, {report.shares_refused} refused",
        f"  charged     {_pairs(report.charges)}",
        f"  answers     {_pairs(report.codes)}",
        "",
        "  operation     done  refused  unknown",
    ]
    for op, phases in report.operations.items():
        counts = (phases.get(phase, 0) for phase in ("ok", "fail", "info"))
        lines.append(f"  {op:<10}" + "".join(f"{count:>9}" for count in counts))
    lines += ["", "  fault           times   outage median    longest (worst shard, ms)"]
    spans: dict[str, list[int]] = defaultdict(list)
    for done in report.done:
        spans[kind(done.fault)].append(done.outage_ms)
    for name, each in sorted(spans.items()):
        lines.append(f"  {name:<15}{len(each):>6}{median(each):>16.0f}{max(each):>11}")
    if report.impossible:
        lines += ["", "  not on this ground:"]
        lines += [f"    {name}: {reason}" for name, reason in sorted(report.impossible.items())]
    if report.deaths:
        lines += ["", "  nodes that ended by themselves:"]
        lines += [
            f"    node {death.node}, exit code {death.exit_code}, "
            f"{death.excused_by or 'UNEXPLAINED'}: {death.line[:SHOWN_LINE]}"
            for death in report.deaths
        ]
    lines += ["", "  what was done:"]
    lines += [
        f"    {done.at_ms / 1000:8.1f} s  {told(done.fault):<48} {done.seen}"
        for done in report.done
    ]
    if report.violations:
        lines += ["", "  VIOLATIONS:"]
        lines += [f"    {each}" for each in report.violations[:SHOWN_VIOLATIONS]]
        more = len(report.violations) - SHOWN_VIOLATIONS
        lines += [f"    … and {more} more"] if more > 0 else []
    return "\n".join(lines) + "\n"


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def told(fault: Fault) -> str:
    """Kind and facts of a fault, as `kill node=3`."""
    facts = (f"{name}={getattr(fault, name)}" for name in fault.__struct_fields__)
    return " ".join((kind(fault), *facts))
