"""However hard it is asked, an account has ten guesses and a guess is one (I1, I5, I12)."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from judgement import judge, leader

from chaos import witness
from chaos.client import Client, Endpoints
from chaos.history import History
from engines.encoding import b64u_decode
from engines.identifiers import shard_of

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from harness import Vault5

    from chaos.client import Guess, Reply

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

LIMIT = 10
GUESSES = 500
REPEATS = 200
LEADERS_KILLED = 3
SHARDS = 16


async def registered(endpoints: Endpoints, seeded: random.Random, account: str) -> Client:
    client = Client(endpoints, 0, History(), seeded, account)
    await client.register(b"right")
    return client


def hexed(text: str) -> str:
    return b64u_decode(text, 32).hex()


async def witnessed(vault: Vault5, client: Client) -> tuple[set[str], set[str], set[str]]:
    """Of the client's era: attempts with any share, attempts evaluated, element hashes."""
    found = await asyncio.to_thread(witness.read, vault.witnesses)
    assert found.violations(LIMIT) == []
    book = client.expect.book
    where = (hexed(book.registration_id), book.era)
    given = {a.attempt_id for a in found.given if (a.registration_id, a.era) == where}
    elements = [h for a, h in found.elements.items() if (a.registration_id, a.era) == where]
    return given, found.evaluated().get(where, set()), set().union(*elements)


async def test_of_500_guesses_at_once_over_all_nodes_ten_are_evaluated_and_490_refused(
    stormy_vault: Vault5, seeded: random.Random
) -> None:
    async with await Endpoints.connect(stormy_vault.connection_file) as endpoints:
        client = await registered(endpoints, seeded, "five hundred")
        guesses = [client.guess(b"guess %d" % number) for number in range(GUESSES)]
        nodes = [stormy_vault.ids[number % 5] for number in range(GUESSES)]
        replies = await asyncio.gather(
            *(client.attempt(n, g, alone=False) for n, g in zip(nodes, guesses, strict=True))
        )
        told = Counter((reply.status, reply.code, reply.charged) for reply in replies)
        assert told == {(200, "", ""): LIMIT, (423, "exhausted", "no"): GUESSES - LIMIT}
        answers = [reply.body for reply in replies if reply.ok]
        assert sorted(answer["guesses_remaining"] for answer in answers) == list(range(LIMIT))
        assert not any(answer["replayed"] for answer in answers)
        given, evaluated, elements = await witnessed(stormy_vault, client)
        assert evaluated == given == {hexed(answer["attempt_id"]) for answer in answers}
        assert len(elements) == LIMIT
        for node in stormy_vault.ids:
            look = await client.send(node, "observe", "GET", "/v1/record")
            assert (look.body["state"], look.body["guesses_remaining"]) == ("exhausted", 0)


def one_charge(client: Client, guess: Guess, replies: Sequence[Reply]) -> None:
    """Of all sends of one attempt at most one charged; every answer opens and shows one guess."""
    answers = [reply.body for reply in replies if reply.ok]
    fresh = [answer for answer in answers if not answer["replayed"]]
    charged = [reply for reply in replies if reply.charged == "yes"]
    assert len(fresh) + len(charged) <= 1
    assert {answer["guesses_remaining"] for answer in answers} == {LIMIT - 1}
    assert {answer["era"] for answer in answers} == {client.expect.book.era}
    keys = {guess.opens(answer) for answer in answers}
    assert len(keys) == 1
    assert None not in keys
    for reply in replies:
        assert reply.ok or reply.again, reply
    if not fresh:
        assert any(reply.charged in {"yes", "unknown"} for reply in replies)


async def test_one_guess_sent_200_times_at_once_to_all_nodes_is_charged_once(
    stormy_vault: Vault5, seeded: random.Random
) -> None:
    async with await Endpoints.connect(stormy_vault.connection_file) as endpoints:
        client = await registered(endpoints, seeded, "the same again")
        guess = client.guess(b"right")
        replies = await asyncio.gather(
            *(client.attempt(1 + n % 5, guess, alone=False) for n in range(REPEATS))
        )
        assert Counter(reply.status for reply in replies) == {200: REPEATS}
        assert sum(not reply.body["replayed"] for reply in replies) == 1
        one_charge(client, guess, replies)
        given, evaluated, elements = await witnessed(stormy_vault, client)
        assert evaluated == given == {hexed(guess.attempt_id)}
        assert len(elements) == 1
        await client.login()  # the proof of another attempt gives all guesses back
        assert (await client.observe())["guesses_remaining"] == LIMIT


async def test_one_guess_sent_200_times_while_leaders_are_killed_is_charged_once(
    stormy_vault: Vault5, seeded: random.Random
) -> None:
    vault = stormy_vault
    async with await Endpoints.connect(vault.connection_file) as endpoints:
        client = await registered(endpoints, seeded, "the same, leaders dying")
        shard = shard_of(client.record_id, SHARDS)
        guess = client.guess(b"right")
        replies: list[Reply] = []
        killing = True

        async def ask() -> None:
            while killing or len(replies) < REPEATS:
                reply = await client.attempt(client.any_node(), guess, alone=False)
                replies.append(reply)
                if not reply.left:  # its node is down: not a send
                    replies.pop()
                    await asyncio.sleep(0.05)

        asking = [asyncio.create_task(ask()) for _ in range(10)]
        for _ in range(LEADERS_KILLED):
            victim = await asyncio.to_thread(
                wait_until, lambda: leader(vault, shard), f"a leader of shard {shard}"
            )
            await asyncio.to_thread(vault.kill, victim)
            await asyncio.to_thread(
                wait_until, lambda: leader(vault, shard), f"another leader of shard {shard}"
            )
            await asyncio.to_thread(vault.restart, victim)
        killing = False
        await asyncio.gather(*asking)
        sys.stdout.write(f"{Counter((r.status, r.code, r.charged) for r in replies)}\n")
        one_charge(client, guess, replies)
        client.expect.attempted(guess.attempt_id, "yes")
        last = await client.answered(guess)
        assert last["replayed"]
        given, evaluated, elements = await witnessed(vault, client)
        assert evaluated == given == {hexed(guess.attempt_id)}
        assert len(elements) == 1
        await judge(vault, [client])
