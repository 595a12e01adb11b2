"""One round of `quorumvault probe`: a whole life of a key through every node, timed and checked.

Each node is made to serve every step itself: looking, a wrong guess, the right one and deleting go
to it alone; registering needs three data centers, it and the next two that answer. A wrong guess
is one attempt, the right one after it empties the list, and the record is deleted after each node,
so a probe can never come near a lock (I1), whatever fails on the way.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from quorumvault.cli.exits import Exit
from quorumvault.cli.vault_exits import exit_code
from quorumvault.errors import Unavailable, VaultError, WrongPassword
from quorumvault.vault import AsyncVault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from quorumvault._core import Endpoint
    from quorumvault.connection import Reach

SEATS: Final = 3
"""Data centers that a registration takes."""
CLEANING_S: Final = 10.0
"""For the last delete, also after Ctrl-C."""

_SHORT: Final = {
    "unreachable": "does not answer",
    "timeout": "did not answer in time",
    "no-quorum": "has no quorum",
    "hsm-unavailable": "finds fewer than three working HSMs",
    "ledger-full": "finds a ledger full",
    "draining": "is drained",
    "busy": "is busy",
}


class Step(StrEnum):
    """In the order in which they are taken."""

    LOOK = "look"
    REGISTER = "register"
    WRONG = "wrong guess"
    RIGHT = "right guess"
    DELETE = "delete"


class WrongAnswer(Exception):  # noqa: N818 - it is what was seen, not a fault of this program
    """The vault answered, and not what it must."""


@dataclass
class Line:
    """How one node did."""

    node: int
    dc: str
    times_ms: dict[Step, float] = field(default_factory=dict)
    """Of the steps that went well."""
    failed: Step | None = None
    why: str = ""
    detail: str = ""
    code: Exit = Exit.OK

    @property
    def well(self) -> bool:
        """Every step went well."""
        return self.failed is None

    def fail(self, step: Step, error: VaultError | WrongAnswer) -> None:
        """Note what ended this node's round."""
        self.failed, self.detail = step, str(error)
        if isinstance(error, WrongAnswer):
            self.why, self.code = f"WRONG ANSWER: {error}", Exit.UNEXPECTED
        else:
            self.code = exit_code(error)
            short = _SHORT.get(error.reason) if isinstance(error, Unavailable) else None
            self.why = short or str(error)


def verdict(lines: Iterable[Line]) -> Exit:
    """The exit code for all lines together: a wrong answer over everything, some failed: 4."""
    codes = [line.code for line in lines]
    bad = [code for code in codes if code is not Exit.OK]
    if not bad:
        return Exit.OK
    if Exit.UNEXPECTED in bad:
        return Exit.UNEXPECTED
    if len(bad) < len(codes):
        return Exit.DEGRADED
    return Exit.NO_QUORUM if Exit.NO_QUORUM in bad else max(bad, key=bad.count)


class Probe:
    """The probe's account at one vault."""

    def __init__(self, reach: Reach, account: str, timeout_s: float) -> None:
        self._reach = reach
        self.account = account
        self._timeout_s = timeout_s
        self._left = False
        """A record may be left: nobody has said that it was deleted."""

    def _vault(self, *endpoints: Endpoint, timeout_s: float | None = None) -> AsyncVault:
        return AsyncVault(
            endpoints,
            ca_file=self._reach.ca_file,
            token=lambda: self._reach.token(self.account),
            state_file=None,
            cluster_id=self._reach.cluster_id,
            timeout_s=timeout_s or self._timeout_s,
            hazmat_identity_ksf=True,  # it measures the vault; the key is random and worthless
        )

    async def round(self) -> AsyncIterator[Line]:
        """Every node in turn, each as soon as it is done."""
        endpoints = self._reach.endpoints
        lines = [Line(each.node or 0, each.dc or "") for each in endpoints]
        vaults = [self._vault(each) for each in endpoints]
        try:
            # All at once: the dead ones cost one timeout together.
            limits = await asyncio.gather(*map(self._look, vaults, lines))
            answering = [e for e, line in zip(endpoints, lines, strict=True) if line.well]
            for endpoint, vault, line, limit in zip(endpoints, vaults, lines, limits, strict=True):
                if line.well:
                    at = answering.index(endpoint)
                    three = [*answering[at:], *answering[:at]][:SEATS]
                    await self._through(vault, three, line, limit)
                yield line
        finally:
            for vault in vaults:
                await vault.close()

    async def _look(self, vault: AsyncVault, line: Line) -> int:
        """The limit, from a look that costs nothing."""
        began = time.monotonic()
        try:
            seen = await vault.status()
        except VaultError as error:
            line.fail(Step.LOOK, error)
            return 0
        line.times_ms[Step.LOOK] = _ms(began)
        return seen.limit

    async def _through(
        self, vault: AsyncVault, three: list[Endpoint], line: Line, limit: int
    ) -> None:
        """One node's round; the first step that fails ends it."""
        password, key = secrets.token_bytes(16), secrets.token_bytes(32)
        for step in (Step.REGISTER, Step.WRONG, Step.RIGHT, Step.DELETE):
            began = time.monotonic()
            try:
                match step:
                    case Step.REGISTER:
                        self._left = True
                        await self._register(three, password, key)
                    case Step.WRONG:
                        await _guess_wrong(vault, limit)
                    case Step.RIGHT:
                        await _guess_right(vault, password, key)
                    case _:
                        await vault.delete()
                        self._left = False
            except (VaultError, WrongAnswer) as error:
                line.fail(step, error)
                return
            line.times_ms[step] = _ms(began)

    async def _register(self, three: list[Endpoint], password: bytes, key: bytes) -> None:
        if len(three) < SEATS:
            raise Unavailable(
                f"{len(three)} data centers answer, and a registration takes {SEATS}",
                reason="no-quorum",
                charged="no",
            )
        phone = self._vault(*three)
        try:
            await phone.register(password, key)
        finally:
            await phone.close()

    async def clean(self) -> str | None:
        """Delete what a failed round left; why that did not work, or None."""
        if not self._left:
            return None
        phone = self._vault(*self._reach.endpoints, timeout_s=CLEANING_S)
        try:
            await phone.delete()
        except VaultError as error:
            return str(error)
        finally:
            with suppress(asyncio.CancelledError):
                await phone.close()
        self._left = False
        return None


async def _guess_wrong(vault: AsyncVault, limit: int) -> None:
    """One wrong guess: counted once, and told so."""
    try:
        await vault.recover(secrets.token_bytes(16))
    except WrongPassword as wrong:
        if wrong.remaining != limit - 1:
            raise WrongAnswer(
                f"{wrong.remaining} guesses are left after the first wrong one of {limit}"
            ) from wrong
        return
    raise WrongAnswer("a wrong password was accepted")


async def _guess_right(vault: AsyncVault, password: bytes, key: bytes) -> None:
    if await vault.recover(password) != key:
        raise WrongAnswer("another key than was registered came back")


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
