"""Everybody who uses the vault during a run: phones that do things, and probes that keep looking.

A phone goes on by itself, one operation after the other (chaos.phone). A probe asks one node for
one record again and again, so that for every shard and node there is a moment-by-moment answer to
"is there service?". What ends a phone is kept as a sentence; the others go on.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, Self

from chaos.client import Client, Endpoints, OutOfPatienceError, RefusedError
from chaos.history import History
from chaos.phone import TOKEN_AGE_S, Phone
from engines.identifiers import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chaos.expectation import Expectation

PHONE_REQUEST_S: Final = 8.0
PROBE_REQUEST_S: Final = 2.0
PROBE_EVERY_S: Final = 0.4
THINK_S: Final = 0.1
PROBES_FROM: Final = 1_000
FINAL_FROM: Final = 5_000
CANDIDATES: Final = 400
"""Accounts tried until every shard has one; with 16 shards 60 are enough on average."""


class Crowd:
    """The users of one run; use `async with`, `start`, and then `stop`.

    Args:
        connection_file: of the vault.
        count: phones.
        seed: of everything that they draw.
        shards: of the vault; each gets probes.
        limit: guesses per registration.

    """

    def __init__(
        self, connection_file: Path, *, count: int, seed: int, shards: int, limit: int
    ) -> None:
        self._file = connection_file
        self._count = count
        self._seed = seed
        self._shards = shards
        self._limit = limit
        self.history = History()
        self.phones: list[Phone] = []
        self.shards: dict[str, int] = {}
        """Account → its shard."""
        self.ended: list[str] = []
        """Why a phone gave up; each is a broken rule or a vault that was away for too long."""
        self._vaults: list[Endpoints] = []
        self._phone_tasks: list[asyncio.Task[None]] = []
        self._probe_tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._probed: dict[int, Client] = {}
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Open the connections."""
        for request_s in (PHONE_REQUEST_S, PROBE_REQUEST_S):
            self._vaults.append(
                await Endpoints.connect(
                    self._file, limit=self._limit, request_s=request_s, token_age_s=TOKEN_AGE_S
                )
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut off whoever still goes on."""
        tasks = [*self._phone_tasks, *self._probe_tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for vault in self._vaults:
            await vault.session.close()

    @property
    def _vault(self) -> Endpoints:
        return self._vaults[0]

    @property
    def expectations(self) -> list[Expectation]:
        """What each phone believes."""
        return [phone.expect for phone in self.phones]

    # ---------------------------------------------------------------- at work

    async def start(self) -> None:
        """Register every account and let everybody go on in the background."""
        self.phones = [
            Phone(
                self._vault,
                number,
                self.history,
                random.Random(f"{self._seed} phone {number}"),  # noqa: S311 - a seed reproduces
                f"phone-{number}",
            )
            for number in range(self._count)
        ]
        await asyncio.gather(*(phone.register(b"right") for phone in self.phones))
        for phone in self.phones:
            self.shards[phone.account] = shard_of(phone.record_id, self._shards)
        await self._register_probed()
        self._phone_tasks = [asyncio.create_task(self._go_on(phone)) for phone in self.phones]
        self.follow(self._vault.urls)

    async def _register_probed(self) -> None:
        """One record in every shard that nobody changes, for the probes to look at."""
        draws = random.Random(f"{self._seed} probes")  # noqa: S311 - a seed reproduces
        for number in range(CANDIDATES):
            if len(self._probed) == self._shards:
                return
            account = f"probed-{number}"
            client = Client(self._vault, PROBES_FROM, self.history, draws, account)
            await client.register(b"probed")
            shard = shard_of(client.record_id, self._shards)
            self.shards[account] = shard
            self._probed.setdefault(shard, client)

    def follow(self, urls: Mapping[int, str]) -> None:
        """Use these nodes from now on: a new one is probed, a lost one is left alone."""
        for vault in self._vaults:
            vault.urls = dict(urls)
        for node in urls:
            for shard, client in self._probed.items():
                if (shard, node) not in self._probe_tasks:
                    number = PROBES_FROM + 1 + len(self._probe_tasks)
                    probe = Client(
                        self._vaults[1], number, self.history, client.random, client.account
                    )
                    task = asyncio.create_task(self._probe(probe, node))
                    self._probe_tasks[shard, node] = task

    async def _probe(self, probe: Client, node: int) -> None:
        while not self._stopping and node in probe.vault.urls:
            await probe.send(node, "observe", "GET", "/v1/record")
            await asyncio.sleep(PROBE_EVERY_S)

    async def _go_on(self, phone: Phone) -> None:
        try:
            while not self._stopping:
                await phone.one()
                await asyncio.sleep(THINK_S)
        except OutOfPatienceError as error:
            self.ended.append(f"liveness: {phone.account} gave up: {error}")
        except RefusedError as error:
            self.ended.append(f"I4: {phone.account} was refused for good: {error}")

    async def everybody(self, timeout_s: float) -> None:
        """Wait until each phone that still goes on has ended two operations from now on.

        Raises:
            TimeoutError: somebody has not; the message says who.

        """
        target = {phone.account: phone.done + 2 for phone in self.phones}
        deadline = time.monotonic() + timeout_s
        while True:
            waiting = [
                phone.account
                for phone, task in zip(self.phones, self._phone_tasks, strict=True)
                if not task.done() and phone.done < target[phone.account]
            ]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{', '.join(waiting)} not served within {timeout_s:g} s")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Let everybody end what is under way; raises what nobody foresaw."""
        self._stopping = True
        await asyncio.gather(*self._phone_tasks, *self._probe_tasks.values())

    # ---------------------------------------------------------------- after healing

    async def look_everywhere(self) -> None:
        """One look at each account through each node, all answered or an error.

        Raises:
            OutOfPatienceError: a node did not answer for an account.

        """
        await asyncio.gather(*(self._look(number) for number in range(len(self.shards))))

    async def _look(self, number: int) -> None:
        account = sorted(self.shards)[number]
        draws = random.Random(number)  # noqa: S311 - it draws nothing
        looker = Client(self._vault, FINAL_FROM + number, self.history, draws, account)
        for node in self._vault.urls:
            deadline = time.monotonic() + PHONE_REQUEST_S * 3
            while not (await looker.send(node, "observe", "GET", "/v1/record")).ok:
                if time.monotonic() > deadline:
                    raise OutOfPatienceError(f"node {node} does not show {account}")
                await asyncio.sleep(0.2)
