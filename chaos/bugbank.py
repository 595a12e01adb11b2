"""The bug bank: known bugs brought back one at a time, and whether the checks see them.

Each `chaos/bugs/NN-name.patch` is a small diff under a header: what the bug is, which system or
paper had it, the rule that it breaks. For each, the tree as it stands is copied, the patch applied,
and the checks are run in order of cheapness, until one of them complains: seeds of the simulator,
then the scenario tests in the simulated world, then the unit tests (the weakest witness: they were
written knowing the code). A patch that nothing complains about is a hole in the checks; one that
no longer applies has rotted. The first row is the control: without a patch nothing may complain.

Patches with `Crate: raft` go to a copy of the raft crate's own source; those that touch `engines/`
and the raft crate are compiled (one target directory for all, under `target/`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
BUGS: Final = ROOT / "chaos" / "bugs"
TARGET: Final = ROOT / "target" / "bugbank"
TABLE: Final = ROOT / "docs" / "bug-bank.md"
RAFT: Final = "raft-0.7.0"
SCENARIOS: Final = "tests/chaos"
UNITS: Final = ("tests/cluster", "tests/node")
SEEDS: Final = 40
SEED_S: Final = 120.0
"""A run that takes longer hangs: that is a complaint too."""
STAGE_S: Final = 900.0
STOPS: Final = ("MultiRaft.", "InvariantError", "HostStopped")
"""A node's own last words; any other exception is a patch, or a tree, that does not run."""
CONTEXT: Final = 1
"""So many lines around a change must still be there: the tree moves on."""


class BugError(Exception):
    """A patch, or what it needs, is not there; one line."""


@dataclass(frozen=True)
class Bug:
    """One patch."""

    name: str
    path: Path
    text: str
    origin: str
    breaks: str
    tests: tuple[str, ...]
    """Tests that are asked when the simulator is silent; empty: all."""
    crate: str
    """`raft` when the patch is for that crate, else empty: for this tree."""

    @property
    def compiled(self) -> bool:
        """Whether the Rust crate must be built anew."""
        return bool(self.crate) or "b/engines/src" in self.path.read_text("utf-8")


@dataclass
class Row:
    """What came of one bug, or of the control."""

    name: str
    breaks: str
    caught: str = ""
    """The check that complained, or empty."""
    where: str = ""
    """Which seed or test."""
    seeds: int = 0
    seconds: float = 0.0
    said: str = ""
    """Its words."""
    wrong: str = ""
    """It could not be tried: the patch does not apply, or the crate does not compile."""
    stages: list[str] = field(default_factory=list)


def bugs(names: Sequence[str] = ()) -> list[Bug]:
    """All patches, or those whose names begin so.

    Raises:
        BugError: a header line is missing, or no patch has such a name.

    """
    found = [_read(path) for path in sorted(BUGS.glob("*.patch"))]
    for name in names:
        if not any(bug.name.startswith(name) for bug in found):
            raise BugError(
                f"no patch begins with {name!r}: there are {found[0].name} to {found[-1].name},"
                " see chaos/bugs"
            )
    return [bug for bug in found if not names or any(bug.name.startswith(name) for name in names)]


def _read(path: Path) -> Bug:
    head = path.read_text("utf-8").partition("\n--- ")[0]
    lines = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    missing = {"Bug", "Origin", "Breaks"} - set(lines)
    if missing:
        raise BugError(f"{path.name}: its header lacks {', '.join(sorted(missing))}")
    tests = tuple(lines.get("Tests", "").split())
    return Bug(
        path.stem,
        path,
        lines["Bug"],
        lines["Origin"],
        lines["Breaks"],
        tests,
        lines.get("Crate", ""),
    )


# ---------------------------------------------------------------- a tree of its own


def copy_tree(into: Path) -> None:
    """Everything of this tree that git would keep, and the compiled crate."""
    listed = _run(["git", "ls-files", "-co", "--exclude-standard", "-z"], ROOT).stdout
    for name in listed.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for built in (ROOT / "engines").glob("_engines*.so"):
        shutil.copyfile(built, into / "engines" / built.name)


def raft_source() -> Path:
    """The raft crate as cargo unpacked it.

    Raises:
        BugError: cargo has never built this project here.

    """
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = next((home / "registry" / "src").glob(f"*/{RAFT}"), None)
    if found is None:
        raise BugError(f"{RAFT} is not in cargo's registry: build the project first (make test)")
    return found


def apply(bug: Bug, tree: Path, *, check: bool = False) -> str:
    """Apply a patch to a tree (or only see whether it would); returns git's complaint."""
    command = ["git", "apply", f"-C{CONTEXT}", *(["--check"] if check else []), str(bug.path)]
    done = _run(command, tree, GIT_CEILING_DIRECTORIES=str(tree.parent))
    return "" if done.returncode == 0 else done.stderr.strip()


def _build(tree: Path) -> str:
    """Compile the crate of a patched tree; returns what is wrong."""
    command = ["cargo", "build", "--release", "--lib", "--offline", "--quiet"]
    command += ["--manifest-path", "engines/Cargo.toml", "--config", "profile.release.debug=0"]
    raft = tree / "raft"  # also for patches of engines/: so all share one build of the rest
    if not raft.exists():
        shutil.copytree(raft_source(), raft)
    command += ["--config", f'patch.crates-io.raft.path="{raft}"']
    binaries = Path(sys.executable).parent
    done = _run(
        command,
        tree,
        CARGO_TARGET_DIR=str(TARGET),
        PATH=f"{binaries}:{os.environ['PATH']}",
        PYO3_PYTHON=sys.executable,
        PYO3_BUILD_EXTENSION_MODULE="1",
        VIRTUAL_ENV=str(binaries.parent),
    )
    if done.returncode:
        return done.stderr.strip()[-300:]
    for old in (tree / "engines").glob("_engines*.so"):
        old.unlink()
    shutil.copyfile(TARGET / "release" / "lib_engines.so", tree / "engines" / "_engines.abi3.so")
    return ""


def _run(
    command: list[str], where: Path, *, timeout: float = STAGE_S, **environment: str
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=where,
            env=os.environ | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as expired:
        said = expired.stdout or b""
        text = said.decode() if isinstance(said, bytes) else said
        return subprocess.CompletedProcess(command, 124, text, f"no end within {timeout:.0f} s")


# ---------------------------------------------------------------- the checks

_SEEDS = """
import json, sys
from chaos.sim.run import run_seed
for seed in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
    print(json.dumps([seed, ""]), flush=True)
    verdict = run_seed(seed)
    if verdict.broken:
        print(json.dumps([seed, verdict.broken[0]]), flush=True)
        break
"""


def simulate(tree: Path, row: Row, seeds: int) -> bool:
    """Seeds of the simulator; true when one complained."""
    command = [sys.executable, "-c", _SEEDS, "1", str(seeds)]
    done = _run(command, tree, timeout=seeds * SEED_S, PYTHONPATH=str(tree))
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    last, said = lines[-1] if lines else (0, "")
    row.seeds = last
    if not said and done.returncode:
        words = _last_line(done.stderr)
        if done.returncode > 0 and not any(name in words for name in STOPS):
            row.wrong = f"seed {last} could not be run: {words}"
            return True
        said = f"stopped: {words}"
    if not said:
        return False
    row.caught, row.where = f"simulator: {said.partition(':')[0]}", f"seed {last}"
    row.said = said
    return True


def ask_tests(tree: Path, row: Row, kind: str, paths: Sequence[str]) -> bool:
    """Tests until the first that fails; true when one did."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += ["-m", "not system", "--deselect", "tests/chaos/test_bugbank.py", *paths]
    done = _run(command, tree, PYTHONPATH=str(tree))
    if done.returncode == 0:
        return False
    failed = [
        line.removeprefix("FAILED ").removeprefix("ERROR ")
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    first = failed[0] if failed else _last_line(done.stdout + done.stderr)
    where, _, said = first.partition(" - ")
    row.caught, row.where, row.said = kind, where, said
    return True


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "without a word"


def scenarios(tree: Path) -> list[str]:
    """The tests in the simulated world, written as sentences."""
    return sorted(str(each.relative_to(tree)) for each in (tree / SCENARIOS).glob("test_sched*.py"))


def tried(bug: Bug | None, seeds: int, *, simulator_only: bool = False) -> Row:
    """One bug through all checks; None is the control."""
    row = Row("control", "") if bug is None else Row(bug.name, bug.breaks)
    with tempfile.TemporaryDirectory(prefix="bugbank-") as scratch:
        tree = Path(scratch)
        copy_tree(tree)
        if bug is not None:
            row.wrong = _patched(bug, tree)
        if not row.wrong:
            began = time.monotonic()
            _ = simulate(tree, row, seeds) or simulator_only or _tests(tree, row, bug)
            row.seconds = time.monotonic() - began
    return row


def _tests(tree: Path, row: Row, bug: Bug | None) -> bool:
    """The tests that a bug names; the control asks those of all bugs; a bug without any, all."""
    named = bug.tests if bug is not None else sorted({t for each in bugs() for t in each.tests})
    scenes = [each for each in named if each.startswith(SCENARIOS)]
    units = [each for each in named if not each.startswith(SCENARIOS)]
    if not named:
        scenes, units = scenarios(tree), list(UNITS)
    return bool(
        (scenes and ask_tests(tree, row, "scenario test", scenes))
        or (units and ask_tests(tree, row, "unit test", units))
    )


def _patched(bug: Bug, tree: Path) -> str:
    where = tree
    if bug.crate:
        where = tree / "raft"
        shutil.copytree(raft_source(), where)
    wrong = apply(bug, where)
    if not wrong and bug.compiled:
        wrong = _build(tree)
    return wrong


# ---------------------------------------------------------------- the table


def table(rows: Sequence[Row], known: dict[str, Bug], seeds: int) -> str:
    """The result as Markdown."""
    lines = [
        "# The bug bank",
        "",
        "Made by `make bug-bank`. Each row is a known bug that a patch in `chaos/bugs/` brings",
        "back, and the first check that complained. Order of asking: the simulator (seeds 1 to",
        f"{seeds}), the scenario tests, the unit tests. The control is the tree without a patch.",
        "",
        "| bug | origin | rule | caught by | where | seeds | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bug = known.get(row.name)
        text = "the tree as it is" if bug is None else bug.text
        caught = row.caught or row.wrong or ("nothing, as it must be" if bug is None else "NOTHING")
        where = row.where.replace("|", " ")
        origin = "" if bug is None else bug.origin
        lines.append(
            f"| **{row.name}** {text} | {origin} | {row.breaks} | {caught} | {where} |"
            f" {row.seeds} | {row.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def good(row: Row) -> bool:
    """The control is silent; every bug is caught."""
    return bool(row.caught) is (row.name != "control") and not row.wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bank; 1 when a bug survives, a patch does not apply, or the control complains."""
    parser = argparse.ArgumentParser(prog="bugbank", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of patch names; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="bugs at a time")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="simulator seeds per bug")
    parser.add_argument(
        "--no-control", action="store_true", help="leave the control row out, as with names"
    )
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--simulator-only", action="store_true", help="ask no tests")
    options = parser.parse_args(arguments)
    try:
        chosen = bugs(options.names)
    except BugError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    todo: list[Bug | None] = [*([] if options.no_control or options.names else [None]), *chosen]
    sys.stderr.write(f"{len(todo)} rows, {options.jobs} at a time; one may take five minutes\n")
    rows: list[Row] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [
            pool.submit(tried, bug, options.seeds, simulator_only=options.simulator_only)
            for bug in todo
        ]
        for future in as_completed(running):
            row = future.result()
            rows.append(row)
            mark = "ok " if good(row) else "BAD"
            words = row.wrong or f"{row.caught or 'nothing'} {row.where} ({row.seconds:.0f} s)"
            sys.stdout.write(f"{mark} {row.name:<40} {words}\n      {row.said[:200]}\n")
            sys.stdout.flush()
    rows.sort(key=lambda row: (bool(row.breaks), row.name))
    if options.write:
        TABLE.write_text(table(rows, {bug.name: bug for bug in chosen}, options.seeds), "utf-8")
    bad = [row.name for row in rows if not good(row)]
    sys.stdout.write(f"{len(rows)} rows, {len(bad)} bad: {' '.join(bad)}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
