"""Two of five nodes die at any moment, under load; then three (design I1, I2, I4, I5, I9, I12)."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest
from judgement import judge

from chaos.client import Client, Endpoints
from chaos.load import Load

if TYPE_CHECKING:
    import random

    from harness import Vault5

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

MOMENTS = 20
DARK_MOMENTS = 3
THINK_S = 0.1
"""Leaves the processors room to start nodes: the moments count, not the requests between them."""
SERVED_AGAIN_S = 30.0
"""A bound, not a measurement: an election is over in about two seconds on an idle machine."""


async def test_any_two_killed_at_any_moment_cost_no_key_no_count_and_no_service(
    stormy_vault: Vault5, seeded: random.Random
) -> None:
    vault = stormy_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 6, seeded, "storm", think_s=THINK_S) as load,
    ):
        await load.start()
        for moment in range(MOMENTS):
            await load.progress(seeded.randrange(1, 30), SERVED_AGAIN_S)
            victims = seeded.sample(vault.ids, 2)
            began = time.monotonic()
            await asyncio.to_thread(vault.kill, *victims)
            await load.everybody(SERVED_AGAIN_S)
            seconds = time.monotonic() - began
            sys.stdout.write(f"{moment}: killed {victims}, all served after {seconds:.2f} s\n")
            await asyncio.to_thread(vault.restart, *victims)
        await load.stop()
        await judge(vault, load.clients)


async def test_with_three_dead_every_attempt_gets_503_and_the_truth_about_its_charge(
    stormy_vault: Vault5, seeded: random.Random
) -> None:
    vault = stormy_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, "dark", think_s=THINK_S) as load,
    ):
        await load.start()
        asking = [
            Client(endpoints, 100 + number, load.history, seeded, f"asking-{number}")
            for number in range(12)
        ]
        for client in asking:
            await client.register(b"right")
        for _ in range(DARK_MOMENTS):
            await load.progress(seeded.randrange(1, 20), SERVED_AGAIN_S)
            victims = seeded.sample(vault.ids, 3)
            left = [node for node in vault.ids if node not in victims]
            guesses = {client.number: client.guess(b"right") for client in asking}
            # They die while attempts are under way: some are answered, some told, some cut off.
            during = [
                asyncio.create_task(each.attempt(seeded.choice(vault.ids), guesses[each.number]))
                for each in asking
            ]
            early = asyncio.as_completed(during)
            for _ in range(seeded.randrange(len(during) // 2)):
                await next(early)
            await asyncio.to_thread(vault.kill, *victims)
            first = await asyncio.gather(*during)
            assert {reply.status for reply in first} <= {0, 200, 503}
            # And when they are dead: no attempt is answered.
            second = await asyncio.gather(
                *(each.attempt(seeded.choice(left), guesses[each.number]) for each in asking)
            )
            assert {reply.status for reply in second} == {503}
            for name, replies in (("while", first), ("after", second)):
                told = sorted(reply.charged or "answered" for reply in replies)
                sys.stdout.write(f"{name} {victims} died: {told}\n")
            await asyncio.to_thread(vault.restart, *victims)
            await load.everybody(SERVED_AGAIN_S)
            for client in asking:
                answer = await client.answered(guesses[client.number])
                export_key = guesses[client.number].opens(answer)
                assert export_key is not None
                await client.prove(guesses[client.number], answer, export_key)
        await load.stop()
        await judge(vault, [*load.clients, *asking])
