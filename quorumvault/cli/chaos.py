"""``quorumvault chaos``: try to break the vault's rules, in simulation and with real processes."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from quorumvault.cli import chaos_run
from quorumvault.cli.chaos_run import Output, check_writable
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.sim.plan import Plan
    from chaos.sim.run import Verdict
    from chaos.sim.totals import Totals

app = typer.Typer(no_args_is_help=True)
app.command("run")(chaos_run.run)
app.command("list")(chaos_run.list_scenarios)

TRACE_LINES = 60
PHASES = {"ok": "done", "fail": "refused", "info": "unknown"}
"""How an operation ended, as the page of `chaos run` says it."""
LINE_S = 30.0
"""Between two lines of progress where nothing can be written over: in a log file."""


@app.callback()
def _root() -> None:
    """Try to break the vault's rules."""


@app.command("sim")
def sim(
    *,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", help="A..B, A.. (until Ctrl-C) or A. Without it: a random start, printed."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes at once.")] = 1,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=3_600, help="Virtual seconds of load a seed.")
    ] = 20.0,
    cpu_minutes: Annotated[
        float | None,
        typer.Option(
            "--cpu-minutes", min=0, help="End after so much CPU time, or after the last seed."
        ),
    ] = None,
    shards: Annotated[int, typer.Option("--shards", min=1, max=16, help="Raft groups.")] = 2,
    faults: Annotated[
        str, typer.Option("--faults", help="Only these kinds, with commas; default all.")
    ] = "",
    schedule: Annotated[
        Path | None, typer.Option("--schedule", help="Play this plan instead of seeds.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the totals there as JSON.")
    ] = None,
    keep: Annotated[
        Path, typer.Option("--keep", help="Directory for the plan of a failure.")
    ] = Path(),
    output: Annotated[Output, typer.Option("-o", "--output", help="text or json.")] = Output.TEXT,
) -> None:
    """Run seeded clusters under virtual time, faults and clients; every rule is checked throughout.

    The real cluster code and Raft engine, in one process. Exit code 1 when a rule is broken: then
    the seed, the rule, a minimised plan and the last lines of its trace are told.
    """
    from chaos.sim.many import random_start, run_many  # noqa: PLC0415 - heavy
    from chaos.sim.plan import Settings  # noqa: PLC0415 - heavy
    from chaos.sim.run import run_plan  # noqa: PLC0415 - heavy
    from chaos.sim.shrink import shrink  # noqa: PLC0415 - heavy

    check_writable(report)
    if cpu_minutes == 0:
        raise Failure("--cpu-minutes 0: say how many, or leave it out for no limit", Exit.USAGE)
    if not keep.is_dir():
        raise Failure(f"--keep {keep}: no such folder; create it first", Exit.USAGE)
    if schedule is not None:
        if seeds or cpu_minutes or faults:
            raise Failure(
                "--schedule holds a whole run: leave out --seeds, --cpu-minutes and --faults",
                Exit.USAGE,
            )
        verdict = run_plan(_kept(schedule))
        _say(f"plan of seed {verdict.plan.seed}, trace {verdict.trace_hash}")
        _end(verdict.totals, [verdict] if verdict.broken else [], report, output)
        return
    if seeds is None:
        seeds = f"{random_start()}.." if cpu_minutes else f"{random_start()}"
    settings = Settings(seconds=seconds, shards=shards, kinds=_kinds(faults))
    numbers = _seeds(seeds)
    _say(f"seeds {seeds}, {seconds:g} virtual seconds of load each, {shards} shards")
    stopped = 0
    with _Progress() as progress:
        try:
            with _terminable():
                totals, failures = run_many(
                    numbers,
                    settings,
                    jobs=jobs,
                    cpu_seconds=None if cpu_minutes is None else cpu_minutes * 60,
                    told=progress.told,
                )
        except _ToldToStop as told:
            totals, failures, stopped = progress.totals, [], told.number
    if stopped:
        _say("told to stop; so far:")
        _end(totals, failures, report, output)
        raise typer.Exit(128 + stopped)
    for failure in failures:
        _say(f"seed {failure.plan.seed} broke a rule: {failure.broken[0]}; shortening its plan")
    _end(totals, [shrink(failure) for failure in failures], report, output, keep)


class _ToldToStop(BaseException):
    """SIGINT or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Signals end the processes of --jobs, too: else they would outlive this one, and wait."""

    def end(number: int, _: object) -> None:
        raise _ToldToStop(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seeds(text: str) -> Iterator[int]:
    """The seeds that `A..B`, `A..` (no end but the time's, or a failure) or `A` name."""
    first, dots, last = text.partition("..")
    try:
        start = int(first)
        stop = int(last) if last else (None if dots else start)
    except ValueError as error:
        raise Failure(f"--seeds {text}: write A..B, A.. or A", Exit.USAGE) from error
    if start < 0 or (stop is not None and stop < start):
        raise Failure(f"--seeds {text}: no seeds; from 0 on, the smaller one first", Exit.USAGE)
    if stop is None:
        return itertools.count(start)
    return iter(range(start, stop + 1))


def _kept(path: Path) -> Plan:
    """A plan that a failure left."""
    import msgspec  # noqa: PLC0415 - heavy

    from chaos.driver import tag  # noqa: PLC0415 - heavy
    from chaos.faults import NOT_SIMULATED, kind  # noqa: PLC0415 - heavy
    from chaos.sim.plan import from_json  # noqa: PLC0415 - heavy

    try:
        plan = from_json(path.read_bytes())
    except OSError as error:
        raise Failure(f"--schedule {path}: {error.strerror}", Exit.USAGE) from error
    except msgspec.DecodeError as error:
        raise Failure(
            f"--schedule {path}: not a plan that this version of `chaos sim` kept: {error}",
            Exit.USAGE,
        ) from error
    if other := {kind(each.fault) for each in plan.faults} & set(map(tag, NOT_SIMULATED)):
        raise Failure(
            f"--schedule {path}: the simulator cannot do {', '.join(sorted(other))}; "
            "`chaos run --driver docker` does",
            Exit.USAGE,
        )
    return plan


def _kinds(text: str) -> tuple[str, ...]:
    from chaos.driver import tag  # noqa: PLC0415 - heavy
    from chaos.faults import KINDS, NOT_SIMULATED  # noqa: PLC0415 - heavy

    known = set(map(tag, KINDS)) - set(map(tag, NOT_SIMULATED))
    kinds = tuple(each.strip() for each in text.split(",") if each.strip())
    if unknown := sorted(set(kinds) - known):
        raise Failure(
            f"--faults: no such kind: {', '.join(unknown)}; there are {', '.join(sorted(known))}",
            Exit.USAGE,
        )
    return kinds


class _Progress:
    """On stderr while it runs: one living line on a terminal, else a line now and then."""

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415 - heavy

        from chaos.sim.totals import Totals  # noqa: PLC0415 - heavy

        self.totals = Totals()
        console = Console(stderr=True)
        self._status = console.status("the first seed runs") if console.is_terminal else None
        self._said_at = time.monotonic()
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def told(self, verdict: Verdict, totals: Totals) -> None:
        """One more seed is done."""
        self.totals = totals
        words = (
            f"seed {verdict.plan.seed}: {_seeds_done(totals)}, {totals.cluster_seconds:,.0f}"
            f" cluster-seconds, {totals.cpu_seconds:,.0f} CPU-seconds,"
            f" {totals.attempts:,} attempts, {totals.evaluations:,} evaluations"
        )
        if self._status is not None:
            self._status.update(words)
        elif time.monotonic() - self._said_at >= LINE_S:
            self._said_at = time.monotonic()
            _say(words)


def _end(
    totals: Totals,
    failures: list[Verdict],
    report: Path | None,
    output: Output,
    keep: Path | None = None,
) -> None:
    """Totals to stdout, failures to stderr and into files."""
    import msgspec  # noqa: PLC0415 - heavy

    from chaos.sim.plan import to_json  # noqa: PLC0415 - heavy

    told: dict[str, Any] = msgspec.to_builtins(totals) | {
        "cluster_seconds_per_cpu_second": round(totals.speed, 1),
        "failures": [{"seed": each.plan.seed, "broken": each.broken} for each in failures],
    }
    data = msgspec.json.format(msgspec.json.encode(told), indent=2)
    if report is not None:
        report.write_bytes(data + b"\n")
    text = data.decode() + "\n" if output is Output.JSON else _words(totals, failures)
    sys.stdout.write(text)
    for failure in failures:
        plan = failure.plan
        if keep is not None:
            path = keep / f"chaos-sim-{plan.seed}.json"
            path.write_bytes(to_json(plan))
            _say(f"the shortened plan: quorumvault chaos sim --schedule {path}")
        _say(f"{len(plan.faults)} faults, {len(plan.jobs)} client jobs; the last lines:")
        for line in failure.trace[-TRACE_LINES:]:
            _say(line)
        for broken in failure.broken:
            _say(f"seed {plan.seed}: {broken}")
    if failures:
        raise typer.Exit(Exit.UNEXPECTED)


def _seeds_done(totals: Totals) -> str:
    return f"{totals.seeds} seed{'s' * (totals.seeds != 1)}"


def _words(totals: Totals, failures: list[Verdict]) -> str:
    """The totals for people."""
    lines = [
        f"{len(failures)} seeds broke a rule" if failures else "no rule was broken",
        (
            f"{_seeds_done(totals)}, {totals.cluster_seconds:,.0f} cluster-seconds in"
            f" {totals.cpu_seconds:,.0f} CPU-seconds ({totals.speed:.0f} each)"
        ),
        (
            f"{totals.attempts:,} attempts charged, {totals.evaluations:,} evaluated,"
            f" {totals.entries:,} entries committed"
        ),
        (
            f"{totals.restarts:,} restarts, {totals.elections:,} elections won,"
            f" {totals.snapshots:,} snapshots installed, {totals.refusals:,} disks refused,"
            f" {totals.replacements:,} nodes replaced"
        ),
        "faults: " + ", ".join(f"{name} {n:,}" for name, n in sorted(totals.faults.items())),
        "operations:",
    ]
    by_operation: dict[str, list[str]] = {}
    for name, count in sorted(totals.operations.items(), key=_done_first):
        operation, _, how = name.partition(" ")
        phase, _, code = how.partition(" ")
        words = f"{PHASES.get(phase, phase)} {code}".strip()
        by_operation.setdefault(operation, []).append(f"{words} {count:,}")
    lines += [f"  {name:<9} {', '.join(counts)}" for name, counts in by_operation.items()]
    return "\n".join(lines) + "\n"


def _done_first(item: tuple[str, int]) -> tuple[str, int, str]:
    operation, phase, *code = item[0].split(" ", 2)
    return operation, list(PHASES).index(phase) if phase in PHASES else len(PHASES), "".join(code)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
