"""Registering through lost answers, other nodes and killed phones (design I1, I4, I6).

Until the activation the old key and its count stand; after it the old key is gone, and nothing
that was ever said about it brings it or its guesses back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sodium_client as opaque
from accounts import Account, Guess, Look
from harness import wait_until
from losing import LOSSES
from plain_client import Registration, b64

from chaos import witness
from quorumvault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Vault5

pytestmark = pytest.mark.system

OLD, NEW, WRONG = b"old", b"new", b"wrong"


@pytest.fixture
def account(shared_vault: Vault5) -> Iterator[Account]:
    """Registered under OLD, with two guesses gone."""
    account = Account(shared_vault, "steps")
    account.register(1, OLD, b"old key")
    account.guess(2, WRONG)
    account.guess(3, WRONG)
    yield account
    account.close()


def path_of(made: Registration, step: str = "") -> str:
    return f"/v1/registrations/{b64(made.registration_id)}{step}"


def say_all(account: Account, made: Registration, node: int) -> list[str]:
    """Every message of a registration again; the codes, `ok` for 200."""
    url = account.url(node)
    answers = [
        account.client.ask(url, "POST", "/v1/registrations", made.start),
        account.client.put(url, made),
        account.client.activate(url, made),
    ]
    return [each.code or "ok" for each in answers]


def same_but(before: Look, after: Look, *, version: int = 0, pending: str | None) -> None:
    assert after == Look(
        before.state,
        before.era,
        before.version + version,
        before.guesses_remaining,
        before.registration_id,
        before.content,
        pending,
    )


# ------------------------------------------------------------------ by hand, step by step


@pytest.mark.parametrize("lose", LOSSES)
def test_a_start_whose_answer_was_lost_is_the_same_at_every_node_and_stores_nothing(
    account: Account, lose: Callable[..., None]
) -> None:
    before = account.seen()
    _, request = opaque.registration_start(NEW)
    start = {"request": b64(request), "proof_key": b64(opaque.proof_public_key(os.urandom(32)))}
    lose(account.client, account.url(2), "POST", "/v1/registrations", start)
    answers = [
        account.client.must(account.url(node), "POST", "/v1/registrations", start)
        for node in account.nodes
    ]
    assert all(each == answers[0] for each in answers), answers
    assert answers[0]["era"] == before.era
    assert account.seen() == before


@pytest.mark.parametrize("lose", LOSSES)
def test_a_put_whose_answer_was_lost_is_repeated_anywhere_and_touches_no_count(
    account: Account, lose: Callable[..., None]
) -> None:
    before = account.seen()
    made = account.prepare(1, NEW, b"new key")
    lose(account.client, account.url(2), "PUT", path_of(made), made.upload)
    for node in account.nodes:
        again = account.client.put(account.url(node), made)
        assert (again.status, again.body["state"]) == (200, "pending"), again
    after = account.seen()
    same_but(before, after, version=1, pending=b64(made.registration_id))
    assert account.recover(4, OLD) == b"old key"
    with pytest.raises(opaque.DoesNotOpenError):
        account.recover(5, NEW)


@pytest.mark.parametrize("lose", LOSSES)
def test_an_activation_whose_answer_was_lost_is_repeated_anywhere_and_gives_one_budget(
    account: Account, lose: Callable[..., None]
) -> None:
    before = account.seen()
    made = account.prepare(1, NEW, b"new key")
    account.client.put(account.url(3), made)
    activation = path_of(made, "/activation")
    lose(account.client, account.url(2), "POST", activation, made.activation)
    for node in account.nodes:
        again = account.client.activate(account.url(node), made)
        assert (again.status, again.body["state"]) == (200, "active"), again
    after = account.seen()
    assert (after.state, after.era, after.guesses_remaining) == ("active", before.era + 1, 10)
    assert (after.registration_id, after.pending) == (b64(made.registration_id), None)
    for node in (1, 2, 3):
        account.guess(node, WRONG)
    counted = account.seen()
    assert counted.guesses_remaining == 7
    for node in account.nodes:  # said again after guesses: still one budget
        assert say_all(account, made, node) == ["ok", "ok", "ok"]
    assert account.seen() == counted
    assert account.recover(4, NEW) == b"new key"
    with pytest.raises(opaque.DoesNotOpenError):
        account.recover(5, OLD)


def test_a_lost_first_registration_leaves_nothing_to_guess(shared_vault: Vault5) -> None:
    account = Account(shared_vault, "first")
    made = account.prepare(1, NEW, b"new key")
    for node in account.nodes:
        assert account.client.put(account.url(node), made).body["state"] == "pending"
        assert account.attempt(node, Guess(opaque.login_start(NEW), NEW)).code == "not-registered"
    seen = account.seen()
    assert (seen.state, seen.guesses_remaining, seen.version) == ("none", None, 1)
    account.close()


def test_a_proof_between_start_and_put_makes_the_put_stale_and_between_put_and_activation_not(
    account: Account,
) -> None:
    made = account.prepare(1, NEW, b"new key")
    assert account.recover(2, OLD) == b"old key"  # the era moves on
    before = account.seen()
    for node in account.nodes:
        assert account.client.put(account.url(node), made).code == "stale"
        assert account.client.activate(account.url(node), made).code == "conflict"
    assert account.seen() == before
    made = account.prepare(1, NEW, b"new key")
    assert account.client.put(account.url(2), made).status == 200
    assert account.recover(3, OLD) == b"old key"
    account.guess(4, WRONG)
    assert account.seen().pending == b64(made.registration_id)
    assert account.client.activate(account.url(5), made).status == 200
    assert account.seen().guesses_remaining == 10
    assert account.recover(1, NEW) == b"new key"


def test_an_activation_needs_the_signature_of_its_own_proof_key(account: Account) -> None:
    made = account.prepare(1, NEW, b"new key")
    other = account.prepare(1, NEW, b"new key")
    account.client.put(account.url(2), made)
    before = account.seen()
    for node in account.nodes:
        answer = account.client.ask(
            account.url(node), "POST", path_of(made, "/activation"), other.activation
        )
        assert (answer.status, answer.code) == (403, "proof-rejected")
        assert account.client.activate(account.url(node), other).code == "conflict"
    assert account.seen() == before


def test_a_put_under_a_pending_or_active_id_with_other_bytes_is_a_conflict(
    account: Account,
) -> None:
    made = account.prepare(1, NEW, b"new key")
    account.client.put(account.url(1), made)
    changed = {**made.upload, "wrapped_key": b64(b"\x01" + os.urandom(60))}
    for state in ("pending", "active"):
        before = account.seen()
        for node in account.nodes:
            answer = account.client.ask(account.url(node), "PUT", path_of(made), changed)
            assert answer.code == "conflict", (state, answer)
        assert account.seen() == before
        account.client.activate(account.url(2), made)
    assert account.recover(3, NEW) == b"new key"


# ------------------------------------------------------------------ old messages afterwards


def test_an_old_registration_said_again_after_replacement_changes_nothing(
    shared_vault: Vault5,
) -> None:
    account = Account(shared_vault, "replaced")
    old = account.register(1, OLD, b"old key")
    account.register(2, NEW, b"new key")
    account.guess(3, WRONG)
    before = account.seen()
    for node in account.nodes:
        assert say_all(account, old, node) == ["ok", "stale", "conflict"]
    assert account.seen() == before
    assert account.recover(4, NEW) == b"new key"
    account.close()


def test_an_old_registration_said_again_after_deletion_changes_nothing(
    shared_vault: Vault5,
) -> None:
    account = Account(shared_vault, "deleted")
    old = account.register(1, OLD, b"old key")
    pending = account.prepare(2, NEW, b"new key")
    account.client.put(account.url(2), pending)
    account.client.must(account.url(3), "DELETE", f"/v1/record?era={account.look(3).era}")
    before = account.seen()
    assert (before.state, before.pending) == ("none", None)
    for node in account.nodes:
        assert say_all(account, old, node) == ["ok", "stale", "conflict"]
        assert say_all(account, pending, node) == ["ok", "stale", "conflict"]
    assert account.seen() == before
    account.close()


def test_after_a_lock_old_messages_change_nothing_and_a_pending_one_may_still_be_activated(
    short_grace_vault: Vault5,
) -> None:
    account = Account(short_grace_vault, "locked")
    old = account.register(1, OLD, b"old key")
    pending = account.prepare(2, NEW, b"new key")
    never_put = account.prepare(3, NEW, b"another key")
    account.client.put(account.url(2), pending)
    guesses = [account.guess(node, WRONG) for node in (1, 2, 3, 4)]
    wait_until(lambda: account.look(5).state == "locked", "locked after its grace", 20)
    before = account.seen()
    assert before.pending == b64(pending.registration_id)
    for node in account.nodes:
        assert say_all(account, old, node) == ["ok", "stale", "conflict"]
        assert say_all(account, never_put, node) == ["ok", "stale", "conflict"]
        assert account.client.put(account.url(node), pending).body["state"] == "pending"
        for guess in guesses:
            assert account.attempt(node, guess).code == "locked"
    assert account.seen() == before
    assert account.client.activate(account.url(4), pending).body["state"] == "active"
    after = account.seen()
    assert (after.state, after.guesses_remaining) == ("active", 4)
    account.guess(1, WRONG)
    counted = account.seen()
    for node in account.nodes:
        assert say_all(account, old, node) == ["ok", "stale", "conflict"]
        assert account.client.activate(account.url(node), pending).body["state"] == "active"
    assert account.seen() == counted
    assert account.recover(2, NEW) == b"new key"
    assert witness.read(short_grace_vault.witnesses).violations(4) == []
    account.close()


# ------------------------------------------------------------------ the SDK, killed and resumed

CLIENT = Path(__file__).with_name("killed_client.py")
REGISTER_STEPS, RECOVER_STEPS = 9, 7
"""What each call takes when nothing goes wrong; with retries it takes more."""


class Phone:
    """An account used through the SDK, in processes that may die."""

    def __init__(self, vault: Vault5, folder: Path, name: str) -> None:
        self.connection = str(vault.connection_file)
        self.name = f"{name}-{os.urandom(4).hex()}"
        self.state_file = folder / f"{name}.state"
        self.key = os.urandom(32)

    def open(self) -> Vault:
        return Vault.from_connection(
            self.connection, self.name, state_file=self.state_file, hazmat_identity_ksf=True
        )

    def run(self, call: str, password: str, die_after: int) -> int | None:
        """Run one call in a process; the steps that it took, or None when it died."""
        order: dict[str, Any] = {
            "connection": self.connection,
            "account": self.name,
            "state_file": str(self.state_file),
            "call": call,
            "password": password,
            "backup_key": self.key.hex(),
            "die_after": die_after,
        }
        done = subprocess.run(
            [sys.executable, str(CLIENT), json.dumps(order)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        return int(done.stdout)


def killed_registering(vault: Vault5, folder: Path, die_after: int) -> bool:
    """One phone that dies after that step and is switched on again; False when it had finished."""
    phone = Phone(vault, folder, f"register-{die_after}")
    with phone.open() as sdk:
        old = sdk.register("old", b"old key").registration_id
        before = sdk.status()
    phone.state_file.unlink()  # the next registration is another phone's
    died = phone.run("register", "new", die_after) is None
    with phone.open() as sdk:
        status = sdk.status()
        resumed = sdk.resume_registration()
        replaced = resumed is not None or status.registration_id != old
        if status.registration_id == old:
            assert status.guesses_remaining == before.guesses_remaining
            assert status.era == before.era
        if replaced:
            assert sdk.recover("new") == phone.key
            assert sdk.status().era == before.era + 2  # one activation, one proof
        else:
            assert sdk.recover("old") == b"old key"
            assert sdk.status().era == before.era + 1
        assert sdk.resume_registration() is None
        assert replaced or died
    return died


def killed_recovering(vault: Vault5, folder: Path, die_after: int) -> bool:
    """The same for a recovery: one typed password is one guess, through the kill."""
    phone = Phone(vault, folder, f"recover-{die_after}")
    with phone.open() as sdk:
        registration = sdk.register("old", b"old key").registration_id.hex()
        before = sdk.status()
    died = phone.run("recover", "old", die_after) is None
    with phone.open() as sdk:
        assert sdk.status().guesses_remaining >= before.guesses_remaining - 1
        assert sdk.recover("old") == b"old key"
        era = sdk.status().era
        # A kill after the proof's answer forgot nothing but may have to prove a second time.
        assert era in ({before.era + 1, before.era + 2} if died else {before.era + 2})
    given = witness.read(vault.witnesses).given
    attempts = {each.attempt_id for each in given if each.registration_id == registration}
    assert len(attempts) == era - before.era, "each guess was proven: none was charged and left"
    return died


@pytest.mark.parametrize(
    ("life", "steps"), [(killed_registering, REGISTER_STEPS), (killed_recovering, RECOVER_STEPS)]
)
def test_the_sdk_killed_at_any_step_goes_on_from_its_state_file(
    shared_vault: Vault5, tmp_path: Path, life: Callable[[Vault5, Path, int], bool], steps: int
) -> None:
    with ThreadPoolExecutor(4) as pool:
        died = pool.map(lambda step: life(shared_vault, tmp_path, step), range(1, steps + 2))
        assert all(list(died)[:steps])
    assert witness.read(shared_vault.witnesses).violations(10) == []
