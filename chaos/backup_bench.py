"""How fast backups are made and restored, beside age and restic, on the same data in the same run.

    python -m chaos.backup_bench --size 1024 --rounds 3 [--folder DIR]

Each round runs every program once, in turn, on the same folder of a made-up phone and the same
disk, so that what else the machine does strikes all of them. `tar | age` is followed by a sync of
its file: the others, too, answer only when the backup is on disk. A restore finds nothing of any
backup in memory, as on the new device that it is for. Wall time is the whole command's, its start
included, with Python's bytecode there as an installation leaves it; memory is the largest process's
peak.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.phone_data import MIB, a_day_later, files_below, fingerprint, make_phone
from quorumvault.backup.page_cache import let_go

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUORUMVAULT: Final = (sys.executable, "-m", "quorumvault.cli", "backup")
STEPS: Final = ("create", "create again, a day later", "restore")


@dataclass
class Figures:
    """What the runs of one program at one step took."""

    seconds: list[float] = field(default_factory=list)
    peak_kib: list[int] = field(default_factory=list)


class Bench:
    """One folder with the phone, and a place for each program's backups."""

    def __init__(self, root: Path, size: int) -> None:
        self.phone = root / "phone"
        self.root = root
        self.size = make_phone(self.phone, size, seed=1)
        self.figures: dict[tuple[str, str], Figures] = {}
        self._environment = os.environ | {
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(root / "restic-cache"),
            "XDG_STATE_HOME": str(root / "state"),
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def round(self, number: int) -> None:
        """Every program once; each step's result is compared with the phone, byte by byte."""
        place = self.root / f"round-{number}"
        place.mkdir()
        programs = (_Quorumvault(place), _Age(place), _Restic(place))
        for program in programs:
            program.prepare(self._environment)
        for program in programs:
            self._run(program.name, STEPS[0], program.create(self.phone))
        before = fingerprint(self.phone)
        a_day_later(self.phone, seed=100 + number)
        for program in programs:
            self._run(program.name, STEPS[1], program.create(self.phone))
        after = fingerprint(self.phone)
        if before == after:
            raise RuntimeError("the day changed nothing")
        _forget(place)
        for program in programs:
            target = place / f"restored-{program.name}"
            self._run(program.name, STEPS[2], program.restore(target))
            if _bytes_of(fingerprint(program.inside(target, self.phone))) != _bytes_of(after):
                raise RuntimeError(f"{program.name} restored something else")
            shutil.rmtree(target)
        shutil.rmtree(place)

    def _run(self, program: str, step: str, command: Sequence[str]) -> None:
        os.sync()  # what the step before left in memory is not this one's to write
        begun = time.perf_counter()
        with subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            said = process.stderr.read() if process.stderr else b""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        if process.returncode:
            raise RuntimeError(f"{program}, {step}: {said.decode(errors='replace')}")
        known = self.figures.setdefault((program, step), Figures())
        known.seconds.append(seconds)
        known.peak_kib.append(usage.ru_maxrss)

    def table(self) -> Iterator[str]:
        """Markdown: the median of each program's runs at each step."""
        yield "| step | program | seconds (median; least to most) | MiB/s | peak MiB |"
        yield "|---|---|---|---|---|"
        for step in STEPS:
            for (program, which), known in self.figures.items():
                if which == step:
                    middle = statistics.median(known.seconds)
                    yield (
                        f"| {step} | {program} | {middle:.2f};"
                        f" {min(known.seconds):.2f} to {max(known.seconds):.2f} |"
                        f" {self.size / MIB / middle:.0f} | {max(known.peak_kib) / 1024:.0f} |"
                    )


class _Quorumvault:
    name = "quorumvault"

    def __init__(self, place: Path) -> None:
        self._storage = place / "quorumvault"
        self._digits = place / "digits"

    def prepare(self, environment: dict[str, str]) -> None:
        shutil.rmtree(environment["XDG_STATE_HOME"], ignore_errors=True)
        command = [*QUORUMVAULT, "enable", "--key", "--storage", str(self._storage)]
        command += ["--digits-file", str(self._digits)]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def create(self, phone: Path) -> Sequence[str]:
        return [*QUORUMVAULT, "create", str(phone)]

    def restore(self, target: Path) -> Sequence[str]:
        return [*QUORUMVAULT, "restore", str(target)]

    def inside(self, target: Path, phone: Path) -> Path:
        return target / phone.name


class _Age:
    name = "tar and age"

    def __init__(self, place: Path) -> None:
        self._key = place / "age.key"
        self._file = place / "backup.age"

    def prepare(self, environment: dict[str, str]) -> None:
        command = ["age-keygen", "-o", str(self._key)]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def create(self, phone: Path) -> Sequence[str]:
        return _shell(
            f"tar -C '{phone.parent}' -c '{phone.name}' | age -e -i '{self._key}'"
            f" -o '{self._file}' && sync '{self._file}'"
        )

    def restore(self, target: Path) -> Sequence[str]:
        target.mkdir()
        return _shell(
            f"age -d -i '{self._key}' '{self._file}' | tar -C '{target}' -x && sync -f '{target}'"
        )

    def inside(self, target: Path, phone: Path) -> Path:
        return target / phone.name


class _Restic:
    name = "restic"

    def __init__(self, place: Path) -> None:
        self._repository = place / "restic"

    def prepare(self, environment: dict[str, str]) -> None:
        command = ["restic", "init", "-q", "-r", str(self._repository)]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def create(self, phone: Path) -> Sequence[str]:
        return ["restic", "-q", "-r", str(self._repository), "backup", str(phone)]

    def restore(self, target: Path) -> Sequence[str]:
        repository = f"restic -q -r '{self._repository}'"
        return _shell(f"{repository} restore latest --target '{target}' && sync -f '{target}'")

    def inside(self, target: Path, phone: Path) -> Path:
        return target / phone.relative_to("/")


def _shell(script: str) -> list[str]:
    return ["bash", "-o", "pipefail", "-c", script]


def _forget(place: Path) -> None:
    """Have the system's memory let go of every file of the backups."""
    os.sync()
    for path in files_below(place):
        with path.open("rb") as file:
            let_go(file.fileno())


def _bytes_of(seen: dict[str, tuple[str, int, int]]) -> dict[str, str]:
    return {name: digest for name, (digest, _, _) in seen.items()}


def main() -> None:
    """The table on stdout, talk on stderr."""
    parser = argparse.ArgumentParser(prog="python -m chaos.backup_bench", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the phone's folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    given = parser.parse_args()
    missing = [name for name in ("age", "restic") if shutil.which(name) is None]
    if missing:
        parser.exit(2, f"{' and '.join(missing)} missing: apt-get install age restic\n")
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        bench = Bench(Path(root), given.size * MIB)
        for number in range(given.rounds):
            bench.round(number)
            sys.stderr.write(f"round {number + 1} of {given.rounds} is over\n")
    sys.stdout.write("\n".join(bench.table()) + "\n")


if __name__ == "__main__":
    main()
