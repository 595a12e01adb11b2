"""Clients that go on by themselves, so that faults hit a vault at work.

Progress is counted in whole operations: a test kills nodes after so many more of them, and then
waits until everybody has been served again, instead of sleeping.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from chaos.client import Client
from chaos.history import History

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from chaos.client import Endpoints
    from chaos.expectation import Expectation


class Load:
    """Clients that go on by themselves until they are told to stop, or the context ends.

    Args:
        vault: what they use.
        count: how many.
        random: what they do, and where.
        prefix: of their accounts' names.
        think_s: how long each waits between two operations; 0 presses as hard as it can.

    """

    def __init__(
        self,
        vault: Endpoints,
        count: int,
        random: random.Random,
        prefix: str,
        *,
        think_s: float = 0.0,
    ) -> None:
        self.history = History()
        self.clients = [
            Client(vault, number, self.history, random, f"{prefix}-{number}")
            for number in range(count)
        ]
        self.done = [0] * count
        """Whole operations per client."""
        self._random = random
        self._think_s = think_s
        self._stopping = False
        self._progress = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Whoever still goes on is cut off; after `stop` nobody does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self) -> None:
        """Register every account, then go on in the background."""
        await asyncio.gather(
            *(client.register(b"right %d" % client.number) for client in self.clients)
        )
        self._tasks = [asyncio.create_task(self._go_on(client)) for client in self.clients]

    async def _go_on(self, client: Client) -> None:
        try:
            while not self._stopping:
                await self._one(client)
                self.done[client.number] += 1
                async with self._progress:
                    self._progress.notify_all()
                await asyncio.sleep(self._think_s)
        finally:
            async with self._progress:  # whoever waits for progress sees why there is none
                self._progress.notify_all()

    async def _one(self, client: Client) -> None:
        draw = self._random.random()
        if draw < 0.1:
            await client.register(b"right %d %d" % (client.number, self._random.getrandbits(32)))
        elif draw < 0.4 and client.may_guess:
            await client.guess_wrong()
        elif draw < 0.5:
            await client.observe()
        else:
            await client.login()

    async def progress(self, operations: int, timeout_s: float) -> None:
        """Wait until so many more whole operations are done.

        Raises:
            TimeoutError: they were not.

        """
        target = sum(self.done) + operations
        await self._until(lambda: sum(self.done) >= target, timeout_s)

    async def everybody(self, timeout_s: float, clients: Sequence[Client] | None = None) -> None:
        """Wait until each client has begun and ended an operation from now on.

        Raises:
            TimeoutError: somebody has not.

        """
        chosen = self.clients if clients is None else clients
        target = {client.number: self.done[client.number] + 2 for client in chosen}
        await self._until(
            lambda: all(self.done[number] >= count for number, count in target.items()), timeout_s
        )

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s), self._progress:
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()  # raises what ended the client
                await self._progress.wait()

    async def stop(self) -> None:
        """Let every client end its operation; raises what ended one before."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def expectations(self) -> list[Expectation]:
        """What each client believes."""
        return [client.expect for client in self.clients]
