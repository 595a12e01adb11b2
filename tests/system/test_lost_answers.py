"""Answers that never arrive, and messages that arrive again (design I3, I5, I6; crypto.md, OPAQUE).

The client may ask again anywhere and loses nothing; whoever has recorded a whole life of an account
and says all of it again, in any order, to all nodes, gains nothing.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import sodium_client as opaque
from accounts import Account, Guess, Look
from harness import wait_until
from losing import LOSSES, swallow
from plain_client import b64

from chaos import witness

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from harness import Vault5
    from plain_client import Registration

pytestmark = pytest.mark.system

RIGHT, WRONG, NEXT = b"right", b"wrong", b"next"


@pytest.fixture
def account(shared_vault: Vault5) -> Iterator[Account]:
    account = Account(shared_vault, "lost")
    yield account
    account.close()


def on_the_last_guess(account: Account, key: bytes) -> Guess:
    """A registered account with one guess left, and the right password typed but not sent."""
    account.register(1, RIGHT, key)
    for number in range(9):
        account.guess(account.nodes[number % 5], WRONG)
    assert account.seen().guesses_remaining == 1
    return Guess(opaque.login_start(RIGHT), RIGHT)


@pytest.mark.parametrize("lose", LOSSES)
def test_the_right_last_guess_whose_answer_was_lost_is_answered_again_at_every_node(
    account: Account, lose: Callable[..., None]
) -> None:
    key = os.urandom(32)
    guess = on_the_last_guess(account, key)
    lose(account.client, account.url(2), "POST", "/v1/attempts", guess.body)
    again = [account.attempt(node, guess) for node in account.nodes]
    assert [each.status for each in again] == [200] * 5
    assert [each.body["guesses_remaining"] for each in again] == [0] * 5
    assert [each.body["replayed"] for each in again][1:] == [True] * 4
    assert again[0].body["replayed"] or lose is not swallow
    assert account.seen().state == "exhausted"
    for node in account.nodes:  # a new guess is refused, also with the right password
        refused = account.attempt(node, Guess(opaque.login_start(RIGHT), RIGHT))
        assert (refused.status, refused.code) == (423, "exhausted")
        assert refused.body["charged"] == "no"
    for answer, node in zip(again, account.nodes, strict=True):  # each answer alone is enough
        each = Guess(guess.login, RIGHT, answer.body)
        account.sign(node, each)
    assert account.key_in(each, account.prove(4, each)) == key
    after = account.seen()
    assert (after.state, after.era, after.guesses_remaining) == (
        "active",
        again[0].body["era"] + 1,
        10,
    )


@pytest.mark.parametrize("lose", LOSSES)
def test_a_proof_whose_answer_was_lost_gives_the_key_at_every_node_and_resets_once(
    account: Account, lose: Callable[..., None]
) -> None:
    key = os.urandom(32)
    account.register(3, RIGHT, key)
    account.guess(1, WRONG)
    guess = account.guess(2, RIGHT)
    before = account.seen()
    path, body = account.sign(2, guess)
    lose(account.client, account.url(5), "POST", path, body)
    keys = [account.key_in(guess, account.prove(node, guess)) for node in account.nodes]
    assert keys == [key] * 5
    proven = account.seen()
    assert (proven.era, proven.guesses_remaining) == (before.era + 1, 10)
    assert proven.version == before.version + 1
    account.guess(3, WRONG)
    for node in account.nodes:  # still the last proof: still the key, and no second reset
        assert account.key_in(guess, account.prove(node, guess)) == key
    assert account.seen().guesses_remaining == 9
    for node in account.nodes:  # but the attempt itself is over
        assert (again := account.attempt(node, guess)).code == "superseded", again
        assert again.body["charged"] == "no"
    assert account.seen().guesses_remaining == 9


def test_one_proof_sent_to_all_nodes_at_once_resets_once(account: Account) -> None:
    account.register(1, RIGHT, b"k")
    guess = account.guess(1, RIGHT)
    path, body = account.sign(1, guess)

    def send(node: int) -> int:
        with type(account.client)(account.client.ca_file, account.client.token) as own:
            return own.ask(account.url(node), "POST", path, body).status

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(send, account.nodes * 2)) == [200] * 10
    assert account.seen().era == guess.answer["era"] + 1


def test_a_proof_of_an_earlier_era_resets_nothing_and_releases_nothing(account: Account) -> None:
    account.register(1, RIGHT, b"first")
    first = account.guess(1, RIGHT)
    assert account.key_in(first, account.prove(1, first)) == b"first"
    second = account.guess(2, RIGHT)
    assert account.key_in(second, account.prove(2, second)) == b"first"
    wrong = account.guess(3, WRONG)
    before = account.seen()
    path, body = first.proof
    moved = {**body, "era": before.era}  # the same signature, said to be of the present era
    onto = {**body, "ke1": b64(wrong.login.ke1), "era": before.era}
    other_path = f"/v1/attempts/{wrong.answer['attempt_id']}/proof"
    for node in account.nodes:
        url = account.url(node)
        assert account.prove(node, first).code == "superseded"
        assert account.client.ask(url, "POST", path, moved).code == "superseded"
        assert account.client.ask(url, "POST", other_path, onto).code == "proof-rejected"
    assert account.seen() == before


# ------------------------------------------------------------------ everything, again

LIMIT = 4
"""Of the cluster that these lives are led in."""


@dataclass(frozen=True)
class Message:
    """One recorded request."""

    what: str
    method: str
    path: str
    body: dict[str, Any] | None


class Life:
    """A life of one account, stage by stage, with every request recorded."""

    def __init__(self, vault: Vault5, name: str) -> None:
        self.account = Account(vault, name)
        self.tape: list[Message] = []
        self.made: dict[str, Registration] = {}
        self.password = b""

    def say(self, what: str, node: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.tape.append(Message(what, method, path, body))
        return self.account.client.must(self.account.url(node), method, path, body)

    def start(self, name: str, password: bytes) -> None:
        made = self.account.prepare(1, password, name.encode())
        self.tape.append(Message(f"start {name}", "POST", "/v1/registrations", made.start))
        self.made[name] = made

    def put(self, name: str) -> None:
        made = self.made[name]
        self.say(
            f"put {name}", 2, "PUT", f"/v1/registrations/{b64(made.registration_id)}", made.upload
        )

    def activate(self, name: str) -> None:
        made = self.made[name]
        path = f"/v1/registrations/{b64(made.registration_id)}/activation"
        self.say(f"activate {name}", 3, "POST", path, made.activation)

    def register(self, name: str, password: bytes) -> None:
        self.start(name, password)
        self.put(name)
        self.activate(name)
        self.password = password

    def guess(self, password: bytes, node: int) -> Guess:
        guess = self.account.guess(node, password)
        self.tape.append(Message(f"guess {password!r}", "POST", "/v1/attempts", guess.body))
        return guess

    def recover(self, password: bytes) -> None:
        guess = self.guess(password, 4)
        path, body = self.account.sign(4, guess)
        self.say("proof", 5, "POST", path, body)

    def delete(self) -> None:
        era = self.account.look(1).era
        self.say("delete", 1, "DELETE", f"/v1/record?era={era}")

    def lock(self) -> None:
        remaining = self.account.look(1).guesses_remaining
        for _ in range(remaining):
            self.guess(WRONG, 2)
        wait_until(lambda: self.account.look(3).state == "locked", "locked after its grace", 20)


def registered(life: Life) -> None:
    life.register("A", RIGHT)


def guessed_wrong(life: Life) -> None:
    registered(life)
    life.guess(WRONG, 1)


def proven(life: Life) -> None:
    guessed_wrong(life)
    life.recover(RIGHT)


def guessed_wrong_in_the_next_era(life: Life) -> None:
    proven(life)
    life.guess(WRONG, 3)


def pending(life: Life) -> None:
    guessed_wrong_in_the_next_era(life)
    life.start("B", NEXT)
    life.put("B")


def replaced(life: Life) -> None:
    pending(life)
    life.activate("B")
    life.password = NEXT


def proven_twice(life: Life) -> None:
    replaced(life)
    life.guess(WRONG, 1)
    life.recover(NEXT)
    life.recover(NEXT)
    life.guess(WRONG, 2)


def deleted(life: Life) -> None:
    proven_twice(life)
    life.delete()


def registered_after_deletion(life: Life) -> None:
    deleted(life)
    life.register("C", RIGHT)
    life.guess(WRONG, 4)


def locked(life: Life) -> None:
    registered_after_deletion(life)
    life.lock()


def registered_after_the_lock(life: Life) -> None:
    locked(life)
    life.register("D", NEXT)
    life.recover(NEXT)
    life.guess(WRONG, 5)


def deleted_after_the_lock(life: Life) -> None:
    locked(life)
    life.delete()


STAGES = [
    registered,
    guessed_wrong,
    proven,
    guessed_wrong_in_the_next_era,
    pending,
    replaced,
    proven_twice,
    deleted,
    registered_after_deletion,
    locked,
    registered_after_the_lock,
    deleted_after_the_lock,
]


@pytest.fixture(scope="module")
def lives(short_grace_vault: Vault5) -> Iterator[dict[str, Life]]:
    """One life up to each stage, led at the same time."""

    def lead(stage: Callable[[Life], None]) -> Life:
        life = Life(short_grace_vault, stage.__name__)
        stage(life)
        return life

    with ThreadPoolExecutor(len(STAGES)) as pool:
        led = dict(zip((s.__name__ for s in STAGES), pool.map(lead, STAGES), strict=True))
    yield led
    for life in led.values():
        life.account.close()


def gained(before: Look, after: Look) -> str | None:
    """What the account gained, which must be nothing; a replay may at most cost guesses."""
    if before.state in {"none", "locked"}:
        return None if after == before else "something came back to life"
    if after.state == "locked":  # its guesses ran out: the one way to a next era
        held = after.era == before.era + 1 and after.pending == before.pending
        return None if held else "locked, and something else"
    if (after.era, after.registration_id, after.content, after.pending) != (
        before.era,
        before.registration_id,
        before.content,
        before.pending,
    ):
        return "another era or registration"
    if after.state not in {"active", "exhausted"}:
        return f"state {after.state}"
    cost = before.guesses_remaining - after.guesses_remaining
    if cost < 0:
        return f"{-cost} guesses"
    return None if after.version == before.version + cost else "a change that cost nothing"


@pytest.mark.parametrize("stage", [stage.__name__ for stage in STAGES])
def test_a_recorded_life_said_again_in_any_order_gains_nothing(
    lives: dict[str, Life], stage: str, seeded: random.Random
) -> None:
    life = lives[stage]
    account = life.account
    before = account.seen()
    again = [(message, node) for message in life.tape for node in account.nodes]
    seeded.shuffle(again)
    backwards = [(message, seeded.choice(account.nodes)) for message in reversed(life.tape)]
    forwards = [(message, seeded.choice(account.nodes)) for message in life.tape]
    released = set()

    def send(each: tuple[Message, int]) -> None:
        message, node = each
        with type(account.client)(account.client.ca_file, account.client.token) as own:
            answer = own.ask(account.url(node), message.method, message.path, message.body)
        assert answer.status in {200, 404, 409, 423}, (message, answer)
        if message.what == "proof" and answer.status == 200:
            released.add(message.path)

    for turn in (backwards, forwards):
        for each in turn:
            send(each)
        assert gained(before, account.seen()) is None, (before, account.seen())
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(send, again))
    after = account.seen()
    assert gained(before, after) is None, (before, after)
    assert len(released) <= 1, "only the last proof may be answered again"
    if after.state == "active" and life.password:
        assert account.recover(2, life.password)
    testimony = witness.read(account.vault.witnesses)
    assert testimony.violations(LIMIT) == []


def test_what_is_recorded_of_one_account_means_nothing_for_another(
    lives: dict[str, Life], short_grace_vault: Vault5
) -> None:
    other = Account(short_grace_vault, "other")
    other.register(1, b"other", b"key")
    other.guess(2, WRONG)
    before = other.seen()
    for message in lives["registered_after_the_lock"].tape:
        if message.path == "/v1/attempts" or message.method == "DELETE":
            continue  # these carry no id: they would be this account's own
        answer = other.client.ask(other.url(3), message.method, message.path, message.body)
        assert message.what.startswith("start") or answer.status in {400, 409}, (message, answer)
    assert other.seen() == before
    assert other.recover(4, b"other") == b"key"
    other.close()
