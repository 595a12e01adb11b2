"""Five real nodes, two kinds of phone: the product's, and one written from its pages alone.

They share accounts, records and backups: what one registers and stores, the other recovers through
other nodes and restores. The second kind knows docs/mobile.md and docs/format.md, no code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import second_reader
import second_writer
from second_bytes import from_text
from second_client import SecondClient
from second_client import WrongPassword as SecondWrongPassword

from quorumvault import Vault, WrongPassword
from quorumvault.backup.client import Backup

if TYPE_CHECKING:
    from harness import Vault5

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

OLD = "cobalt ferry underneath nine"
PASSWORD = "amber violin seventeen harböurs"


def seen(top: Path) -> dict[tuple[bytes, ...], bytes | None]:
    return {path: data for path, _, data in second_writer.walk(top)}


class Person:
    """An account of its own, and as many phones as it likes."""

    def __init__(self, vault: Vault5, folder: Path) -> None:
        self.vault, self.folder = vault, folder
        self.account = f"two-clients-{os.urandom(4).hex()}"
        self.phones = 0
        self.messages = folder / "messages"
        (self.messages / "photos").mkdir(parents=True)
        (self.messages / "messages.db").write_bytes(os.urandom(100_000))
        (self.messages / "photos" / "Größe.jpg").write_bytes(os.urandom(20_000))

    def _state(self) -> Path:
        self.phones += 1
        return self.folder / f"phone-{self.phones}"

    def vault_at(self, state: Path) -> Vault:
        file = self.vault.connection_file
        return Vault.from_connection(file, self.account, state_file=state)

    def sdk(self) -> Vault:
        return self.vault_at(self._state())

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


def test_a_phone_of_the_second_kind_restores_the_backup_of_the_first_kind(person: Person) -> None:
    """Registered and stored by `quorumvault.backup`, under a password that was changed since."""
    storage = person.folder / "storage"
    with Backup(str(storage), person.folder / "profile", vault=person.vault_at) as backup:
        backup.enable_with_password(OLD)
        backup.create([person.messages])
        backup.change_password(PASSWORD)
    second = person.second(2, 3)
    with pytest.raises(SecondWrongPassword):
        second.recover(OLD)
    second_reader.restore(storage, second.recover(PASSWORD), person.folder / "new phone")
    assert seen(person.folder / "new phone" / "messages") == seen(person.messages)


def test_a_phone_of_the_first_kind_restores_the_backup_of_the_second_kind(person: Person) -> None:
    storage, key = person.folder / "storage", os.urandom(32)
    second = person.second()
    second.register(OLD, os.urandom(32))
    second.register(PASSWORD, key)
    second_writer.write(storage, key, person.messages)
    with Backup(str(storage), person.folder / "profile", vault=person.vault_at) as backup:
        assert backup.guesses() == 10
        backup.recover_with_password(PASSWORD)
        backup.restore(person.folder / "new phone")
        assert seen(person.folder / "new phone") == seen(person.messages)
        assert backup.create([person.messages]).generation == 2
        backup.disable(delete_copies=False)
    assert second.status()["state"] == "none"
