"""Five real nodes, two clients: the SDK, and one that was written from docs/mobile.md alone.

They share accounts and records; what one registers, the other recovers, through other nodes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from second_bytes import from_text
from second_client import SecondClient
from second_client import WrongPassword as SecondWrongPassword

from quorumvault import Vault, WrongPassword

if TYPE_CHECKING:
    from harness import Vault5

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

PASSWORD = "correct horse battery stäple"


class Person:
    """An account of its own, and as many phones as it likes."""

    def __init__(self, vault: Vault5, folder: Path) -> None:
        self.vault, self.folder = vault, folder
        self.account = f"two-clients-{os.urandom(4).hex()}"
        self.phones = 0

    def _state(self) -> Path:
        self.phones += 1
        return self.folder / f"phone-{self.phones}"

    def sdk(self) -> Vault:
        file = self.vault.connection_file
        return Vault.from_connection(file, self.account, state_file=self._state())

    def second(self, *nodes: int) -> SecondClient:
        urls = [self.vault.url(node) for node in nodes or self.vault.ids]
        token = self.vault.token(self.account)
        return SecondClient(urls, self.vault.ca_file, lambda: token, self._state(), {})


@pytest.fixture
def person(shared_vault: Vault5, tmp_path: Path) -> Person:
    return Person(shared_vault, tmp_path)


def test_what_the_sdk_registers_the_second_client_recovers_and_both_see_one_record(
    person: Person,
) -> None:
    with person.sdk() as sdk:
        made = sdk.register(PASSWORD)
        second = person.second(5, 4, 3, 2, 1)
        assert second.recover(PASSWORD) == made.backup_key
        with pytest.raises(SecondWrongPassword) as caught:
            second.recover("wrong")
        assert (caught.value.guesses_remaining, caught.value.certain) == (9, True)
        with pytest.raises(WrongPassword) as told:
            sdk.recover("wrong, too")
        assert told.value.remaining == 8
        seen, look = sdk.status(), second.status()
        assert seen.guesses_remaining == look["guesses_remaining"] == 8
        assert (seen.era, seen.registration_id) == (
            look["era"],
            from_text(look["registration_id"], 32),
        )


def test_the_second_client_recovers_with_the_new_password_that_the_sdk_set(person: Person) -> None:
    with person.sdk() as sdk:
        key = sdk.register("the old one").backup_key
        sdk.register(PASSWORD, key)
    second = person.second(2, 3)
    with pytest.raises(SecondWrongPassword):
        second.recover("the old one")
    assert second.recover(PASSWORD) == key


def test_what_the_second_client_registers_the_sdk_recovers_and_deletes(person: Person) -> None:
    key = os.urandom(32)
    second = person.second()
    second.register("the old one", os.urandom(32))
    second.register(PASSWORD, key)
    with person.sdk() as sdk:
        assert sdk.recover(PASSWORD) == key
        sdk.delete()
    assert second.status()["state"] == "none"
