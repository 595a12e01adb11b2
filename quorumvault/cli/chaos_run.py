"""``quorumvault chaos run`` and ``list``: faults for five real nodes, and the verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from quorumvault.cli.demo import Profile
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.driver import Driver
    from chaos.report import Report
    from chaos.run import Plan


DURATION_S: Final = 60


class Ground(StrEnum):
    """Where the vault runs."""

    PROCESS = "process"
    DOCKER = "docker"


class Output(StrEnum):
    """Form of what goes to stdout."""

    TEXT = "text"
    JSON = "json"


def check_writable(path: Path | None) -> None:
    """Refuse a file that could not be written after a long run.

    Raises:
        Failure: its folder does not exist, or it is a folder itself.

    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise Failure(f"{path}: its folder does not exist; create it first", Exit.USAGE)
    if path.is_dir():
        raise Failure(f"{path} is a folder; name a file", Exit.USAGE)


def list_scenarios() -> None:
    """Show the named scenarios of `chaos run`."""
    from chaos.scenarios import SCENARIOS  # noqa: PLC0415 - heavy

    for scenario in SCENARIOS.values():
        sys.stdout.write(f"{scenario.name:<16} {scenario.seconds:>4} s  {scenario.story}\n")


def run(
    *,
    driver: Annotated[
        Ground, typer.Option(help="Five processes here, or five containers.")
    ] = Ground.PROCESS,
    scenario: Annotated[
        str | None, typer.Option(help="A named scenario (see `chaos list`).")
    ] = None,
    drawn: Annotated[
        bool, typer.Option("--random", help="Faults drawn from the seed instead.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of faults and users; drawn and told by default.")
    ] = None,
    duration: Annotated[
        int | None, typer.Option(min=10, max=86_400, help="Seconds of load of a random run; 60.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Write what every client did and was told here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the page here, and beside it as .json.")
    ] = None,
    wan: Annotated[
        Profile | None, typer.Option(help="Distances between processes; europe. Containers: none.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=200, help="Clients at work.")] = 6,
    shards: Annotated[int, typer.Option(min=1, max=64, help="Raft groups.")] = 3,
    grace: Annotated[int, typer.Option(min=1, max=600, help="Grace in seconds.")] = 5,
    root: Annotated[
        Path | None, typer.Option(help="Keep all files in this new or empty folder.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="text or json.")] = Output.TEXT,
) -> None:
    """Run clients against five real nodes, do the faults, heal, and judge; 1 on a violation.

    Without --root the vault's files are removed, except when a rule was broken or the run failed.
    """
    _check(scenario, drawn, duration, root, history, report)
    distances = _distances(driver, wan)
    from chaos.driver import DriverError, FaultRefusedError, possible  # noqa: PLC0415 - heavy
    from chaos.report import as_json, as_text  # noqa: PLC0415 - heavy

    folder = root or Path(tempfile.mkdtemp(prefix="quorumvault-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    over = False
    lost: list[str] = []
    try:
        ground = _ground(driver, folder.resolve(), distances, shards, grace)
        plan = _plan(
            scenario, seed, duration or DURATION_S, possible(ground), distances, clients, shards
        )
        _say(f"chaos on {driver.value}: {plan.name}, seed {plan.seed}")
        found = asyncio.run(_go(ground, plan, history, lost))
        over = found.good
    except (Failure, FaultRefusedError) as error:  # before anything was started
        over = True
        raise Failure(str(error), getattr(error, "exit_code", Exit.USAGE)) from error
    except DriverError as error:
        raise Failure(f"{error} (files: {folder})", Exit.UNEXPECTED) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        over = True
        _say("; ".join(["interrupted: no verdict; everything was taken down", *lost]))
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise typer.Exit(128 + number) from error
    finally:
        if over and root is None:
            shutil.rmtree(folder, ignore_errors=True)
    page = as_text(found)
    sys.stdout.write((as_json(found) + "\n") if output is Output.JSON else page)
    if report is not None:
        _keep(report, lambda path: path.write_text(page, "utf-8"), lost)
        _keep(report.with_suffix(".json"), lambda path: path.write_text(as_json(found)), lost)
    if not found.good:
        raise Failure(
            f"{len(found.violations)} violations with seed {plan.seed}; files: {folder}",
            Exit.UNEXPECTED,
        )
    if lost:
        raise Failure("; ".join(lost) + "; the verdict stands", Exit.UNEXPECTED)


def _keep(path: Path, write: Callable[[Path], object], lost: list[str]) -> None:
    """Write a file after a long run; a disk that refuses takes nobody's verdict away."""
    try:
        write(path)
    except OSError as error:
        lost.append(f"{path} could not be written ({error.strerror})")


def _check(
    scenario: str | None, drawn: bool, duration: int | None,  # noqa: FBT001
    root: Path | None, history: Path | None, report: Path | None,
) -> None:  # fmt: skip
    """Refuse what would only be noticed at the end of a run."""
    if (scenario is None) is not drawn:
        raise Failure("say either --scenario NAME or --random", Exit.USAGE)
    if duration is not None and not drawn:
        raise Failure("--duration is for --random: a scenario has its own times", Exit.USAGE)
    if root is not None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise Failure(f"{root} is not an empty folder: --root needs a new one", Exit.CONFLICT)
    for path in (history, report):
        check_writable(path)
    if report is not None and report.suffix == ".json":
        raise Failure(
            f"--report {report}: this names the page, and its JSON goes beside it as .json:"
            f" say {report.with_suffix('.txt')}, for example",
            Exit.USAGE,
        )


def _distances(driver: Ground, wan: Profile | None) -> str:
    """The profile of the simulated WAN; only processes have one."""
    if driver is Ground.PROCESS:
        return (wan or Profile.EUROPE).value
    if wan not in (None, Profile.NONE):
        raise Failure(
            f"--wan {wan.value}: containers have no simulated distances; leave it out, or take"
            " --driver process",
            Exit.USAGE,
        )
    return Profile.NONE.value


def _ground(driver: Ground, folder: Path, wan: str, shards: int, grace: int) -> Driver:
    if driver is Ground.DOCKER:
        from chaos.driver_docker import DockerDriver  # noqa: PLC0415 - heavy

        return DockerDriver(folder, shards=shards, grace_s=grace, say=_say)
    from chaos.driver_process import ProcessDriver  # noqa: PLC0415 - heavy

    return ProcessDriver(folder, wan=wan, shards=shards, grace_s=grace, say=_say)


def _plan(
    scenario: str | None, seed: int | None, duration: int, kinds: frozenset[str], wan: str,
    clients: int, shards: int,
) -> Plan:  # fmt: skip
    from chaos.plan import random_schedule  # noqa: PLC0415 - heavy
    from chaos.run import Plan  # noqa: PLC0415 - heavy
    from chaos.scenarios import SCENARIOS  # noqa: PLC0415 - heavy

    number = random.getrandbits(31) if seed is None else seed
    if scenario is None:
        name, seconds = "random", float(duration)
        schedule = random_schedule(number, duration * 1000, kinds)
    elif scenario in SCENARIOS:
        found = SCENARIOS[scenario]
        name, seconds, schedule = found.name, float(found.seconds), found.schedule
    else:
        raise Failure(f"no scenario {scenario!r}: there are {', '.join(SCENARIOS)}", Exit.NOT_FOUND)
    return Plan(
        name, number, schedule, seconds, wan, clients, shards, limit=10, careful=scenario is None
    )


async def _go(driver: Driver, plan: Plan, history: Path | None, lost: list[str]) -> Report:
    from chaos.run import Run  # noqa: PLC0415 - heavy

    task = asyncio.current_task()
    if task is not None:  # nodes and mounts are taken down then, too; Ctrl-C does it by itself
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        found = await Run.on(driver, plan, _say)
        try:
            return await found.go()
        finally:
            if history is not None:
                _keep(history, found.write_history, lost)
    finally:
        await driver.stop()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
