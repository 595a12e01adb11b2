"""What tests of replacement look at: the operator's command, the nodes' status, a node's end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import sodium_client as opaque
from accounts import Guess
from harness import wait_until
from plain_client import RefusedError

from quorumvault.cli.admin import Access, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from accounts import Account
    from harness import Vault5

    from chaos.processes import ProcessNode


LOOK_S = 0.5
"""Each look is five TLS connections, on the machine that runs the nodes."""
PATIENCE_S = 60.0

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> T:
    """What a client does with an answer that says `retryable`: it asks again."""

    def told() -> tuple[T] | None:
        try:
            return (call(),)
        except RefusedError as error:
            if not error.answer.body["retryable"]:
                raise
            return None

    return wait_until(told, "an answer that is not to be asked for again", PATIENCE_S)[0]


def guess_patiently(account: Account, node: int, password: bytes) -> Guess:
    """One typed password, the same attempt until it is answered."""
    guess = Guess(opaque.login_start(password), password)

    def answered() -> bool:
        answer = account.attempt(node, guess)
        assert answer.status == 200 or answer.body["retryable"], answer
        return answer.status == 200

    wait_until(answered, "the attempt is answered", PATIENCE_S)
    return guess


def directory(vault: Vault5) -> Path:
    """The operator's."""
    return vault.root / "cluster"


def member(vault: Vault5, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`quorumvault member …` as it is typed."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "quorumvault.cli", "member", *arguments),
            *("--cluster", str(directory(vault))),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a refusal."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def statuses(vault: Vault5) -> dict[int, dict[str, Any]]:
    """What every member says of itself; those that do not answer are left out."""
    access = Access.from_directory(directory(vault), vault.cluster.book.nodes)
    return {
        int(node): status
        for node, status in access.statuses().items()
        if not isinstance(status, Unreachable)
    }


def until_whole(vault: Vault5, timeout_s: float = 120.0) -> None:
    """Every member is up and a voter of every shard, everywhere, with a complete ledger.

    The time is a bound, not a measurement: a learner whose disk is slow is not promoted.
    """
    members = sorted(vault.ids)

    def whole() -> bool:
        threading.Event().wait(LOOK_S)
        seen = statuses(vault)
        return sorted(seen) == members and all(
            (group["voters"], group["learners"], group["ledger_complete"]) == (members, [], True)
            for status in seen.values()
            for group in status["groups"]
        )

    wait_until(whole, f"{members} are voters with complete ledgers everywhere", timeout_s)


def files(*folders: Path) -> dict[str, str]:
    """Every file below, with a hash of its bytes."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ended(vault: Vault5, node: ProcessNode, timeout_s: float = 60.0) -> tuple[int, str]:
    """Exit code and last words of a node that ends by itself."""

    async def over() -> int:
        async with asyncio.timeout(timeout_s):
            return await node.process.wait()

    code = vault.call(over())
    plain = [line for line in last_life(node) if not line.startswith("{")]
    assert len(plain) == 1, plain  # one line for people, whatever the log says
    return code, plain[0]


def last_life(node: ProcessNode) -> list[str]:
    """The log of the node's last process."""
    lines = node.log.read_text(errors="replace").splitlines()
    starts = [n for n, line in enumerate(lines) if _event(line) == "started"]
    ends = [n for n, line in enumerate(lines) if line.startswith("quorumvault:")]
    before = [end for end in ends if end < len(lines) - 1]
    return lines[max([0, *(n + 1 for n in before), *starts]) :]


def _event(line: str) -> str:
    try:
        return str(json.loads(line).get("event"))
    except ValueError:
        return ""
