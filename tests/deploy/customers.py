"""Users of the SDK who go on while a stack is being hurt, and believe no number but their own.

Each has one account and knows what every answer must say: a wrong password costs exactly one guess
of those that are left since the last right one, and the right password brings the same key. So a
guess that is charged twice, or a call that fails, is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from quorumvault import AsyncVault, WrongPassword

LIMIT = 10
WRONG_IN_A_ROW = 4
THINK_S = 0.1
"""Between two calls: the two cores belong to the nodes first."""
CALL_TIMEOUT_S = 60.0


class Customer:
    """One account: `calls` ended as they must, `broken` says what did not."""

    def __init__(self, vault: AsyncVault, name: str) -> None:
        self.vault = vault
        self.name = name
        self.key = os.urandom(32)
        self.password = os.urandom(8)
        self.calls = 0
        self.spent = 0
        """Wrong guesses since the last right one."""
        self.broken: list[str] = []

    async def register(self) -> None:
        await self.vault.register(self.password, self.key)

    async def go_on(self, done: asyncio.Event) -> None:
        """Three or four wrong guesses, a right one, again and again."""
        while not done.is_set() and not self.broken:
            for _ in range(WRONG_IN_A_ROW):
                await self._guess(self._wrong)
            await self._guess(self._right)

    async def _guess(self, guess: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            await guess()
        except Exception as error:  # noqa: BLE001 - whatever it is, no customer may see it
            self.broken.append(f"{self.name}, call {self.calls}: {type(error).__name__}: {error}")
        self.calls += 1
        await asyncio.sleep(THINK_S)

    async def _wrong(self) -> None:
        self.spent += 1
        try:
            await self.vault.recover(b"wrong " + os.urandom(4))
        except WrongPassword as error:
            if error.remaining != LIMIT - self.spent:
                self.broken.append(
                    f"{self.name}: {error.remaining} guesses left after {self.spent} wrong ones"
                )
        else:
            self.broken.append(f"{self.name}: a wrong password opened the record")

    async def _right(self) -> None:
        if await self.vault.recover(self.password) != self.key:
            self.broken.append(f"{self.name}: another key came back")
        self.spent = 0


class Crowd:
    """Customers at work."""

    def __init__(self, customers: list[Customer]) -> None:
        self.customers = customers

    @property
    def broken(self) -> list[str]:
        return [each for customer in self.customers for each in customer.broken]

    async def served(self, timeout_s: float = 60.0) -> None:
        """Wait until each has made a whole round from now on; a failed call ends it at once."""
        target = {c: c.calls + WRONG_IN_A_ROW + 2 for c in self.customers}
        async with asyncio.timeout(timeout_s):
            while any(customer.calls < calls for customer, calls in target.items()):
                assert self.broken == []
                await asyncio.sleep(0.05)
        assert self.broken == []


@contextlib.asynccontextmanager
async def crowd(connection: Path, folder: Path, count: int = 4) -> AsyncIterator[Crowd]:
    """Customers who registered, and go on until the context ends; nothing may have failed then."""
    done = asyncio.Event()
    async with contextlib.AsyncExitStack() as closing:
        customers = []
        for number in range(count):
            name = f"customer-{number}-{os.urandom(4).hex()}"
            vault = AsyncVault.from_connection(
                connection,
                name,
                state_file=folder / f"{name}.json",
                timeout_s=CALL_TIMEOUT_S,
                hazmat_identity_ksf=True,  # Argon2 is not what this is about
            )
            customers.append(Customer(await closing.enter_async_context(vault), name))
        await asyncio.gather(*(customer.register() for customer in customers))
        async with asyncio.TaskGroup() as tasks:
            for customer in customers:
                tasks.create_task(customer.go_on(done))
            try:
                yield Crowd(customers)
            finally:
                done.set()
    assert [each for customer in customers for each in customer.broken] == []
