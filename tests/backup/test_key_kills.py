"""Killed at any durable step of any work on the key: what was whole still is.

For each operation, the app is killed between any two steps in turn. Afterwards either the old
state holds or the new one, the app finishes or says what is left, and no key is gone while a whole
backup exists under it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import Killed
from phones import (
    MESSAGES,
    OTHER_PASSWORD,
    PASSWORD,
    Reaper,
    World,
    restored,
    whole,
)

from quorumvault import errors as vault_errors
from quorumvault.backup.client import Backup
from quorumvault.backup.errors import NotEnabled

THIRD_PASSWORD = "lantern quartz eleven meadows"


class Lives:
    """The same operation again and again in fresh worlds, killed one step later each time."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._monkeypatch = monkeypatch

    def each(
        self,
        begin: Callable[[World], object],
        work: Callable[[Backup], object],
        *,
        least: int = 10,
    ) -> Iterator[tuple[World, str]]:
        """Worlds after a kill, with the step it came at; `begin` is not killed."""
        at, more = 0, True
        while more:
            world = World(self._root / f"life-{at}", reaper=Reaper())
            with self._monkeypatch.context() as patch:
                world.reaper.watch(patch)
                begin(world)
                world.reaper.steps.clear()
                world.reaper.at = at
                more = False
                try:
                    work(world.phone())
                except Killed:
                    more = True
                world.reaper.at = None
                if more:
                    yield world, world.reaper.steps[-1]
            at += 1
        assert at > least, "hardly a step was seen"


@pytest.fixture
def lives(ground, monkeypatch):
    return Lives(ground, monkeypatch)


def nothing(world: World) -> None:
    """A fresh phone."""


def by_password(world: World) -> None:
    phone = world.phone()
    phone.enable_with_password(PASSWORD)
    phone.create([world.data])


def by_digits(world: World) -> None:
    phone = world.phone()
    phone.enable_with_digits(phone.make_digits())
    phone.create([world.data])


def opens(world: World, *passwords: str) -> list[str]:
    """Which of these passwords bring the backup back on a new phone, with every byte."""
    good = []
    for password in passwords:
        new = world.phone(world.fresh("new").name)
        with contextlib.suppress(vault_errors.WrongPassword, vault_errors.NotRegistered):
            new.recover_with_password(password)
            assert whole(new)
            good.append(password)
    return good


def digits_open(world: World, digits: str) -> bool:
    new = world.phone(world.fresh("by-digits").name, vault=unwanted)
    new.recover_with_digits(digits)
    return whole(new)


def unwanted(path: Path):
    raise AssertionError("the vault was opened")


def registrations(world: World) -> int:
    """How many different ones the vault has been sent."""
    return len({c.body["record"] for c in world.vault.calls if c.method == "PUT"})


# ---------------------------------------------------------------- enabling


def test_enabling_by_password_is_finished_or_was_never_begun(lives):
    ends = set()
    for world, step in lives.each(nothing, lambda phone: phone.enable_with_password(PASSWORD)):
        told = world.phone().status()
        after = world.phone().finish()
        assert after.unfinished is None, step
        assert registrations(world) <= 1, step
        ends.add((told.unfinished is not None, after.mode))
        if after.mode == "off":
            assert (world.key(), world.next_key()) == (None, None), step
            assert world.vault.record is None or world.vault.record.active is None, step
            world.phone().enable_with_password(PASSWORD)
        assert world.next_key() is None
        world.phone().create([world.data])
        assert opens(world, PASSWORD) == [PASSWORD], step
    assert ends == {(False, "off"), (True, "off"), (True, "password"), (False, "password")}


def test_after_an_interrupted_enabling_the_password_typed_last_counts(lives):
    for world, step in lives.each(nothing, lambda phone: phone.enable_with_password(PASSWORD)):
        if world.phone().status().mode == "password":  # only the goodbye was lost
            continue
        world.phone().enable_with_password(OTHER_PASSWORD)
        world.phone().create([world.data])
        assert opens(world, PASSWORD, OTHER_PASSWORD) == [OTHER_PASSWORD], step


def test_a_backup_after_an_interrupted_enabling_finishes_it_first_if_it_came_through(lives):
    for world, step in lives.each(nothing, lambda phone: phone.enable_with_password(PASSWORD)):
        with contextlib.suppress(NotEnabled):
            world.phone().create([world.data])
        status = world.phone().status()
        assert (status.mode, status.generation) in {("off", 0), ("password", 1)}, step
        if status.generation:
            assert opens(world, PASSWORD) == [PASSWORD], step


def test_enabling_by_digits_goes_on_with_the_same_digits(lives):
    shown = []

    def enable(phone: Backup) -> None:
        shown.append(phone.make_digits())
        phone.enable_with_digits(shown[-1])

    for world, step in lives.each(nothing, enable, least=5):
        phone = world.phone(vault=unwanted)
        phone.finish()
        if phone.status().mode == "off":
            if shown:  # on paper already
                assert phone.make_digits() == shown[-1], step
            phone.enable_with_digits(phone.make_digits())
        assert world.next_key() is None
        phone.create([world.data])
        assert digits_open(world, world.key().hex()), step
        assert world.requests() == []
        shown.clear()


# ---------------------------------------------------------------- the lock


def test_of_two_passwords_exactly_one_opens_the_backup(lives):
    found = set()
    for world, step in lives.each(by_password, lambda phone: phone.change_password(OTHER_PASSWORD)):
        key = world.key()
        assert world.phone().finish().unfinished is None
        assert world.key() == key
        good = opens(world, PASSWORD, OTHER_PASSWORD)
        assert len(good) == 1, step
        found.add(good[0])
        assert registrations(world) <= 2, step
        world.phone().create([world.data])
        world.phone().change_password(THIRD_PASSWORD)
        assert opens(world, *good, THIRD_PASSWORD) == [THIRD_PASSWORD], step
    assert found == {PASSWORD, OTHER_PASSWORD}


def test_a_nightly_backup_needs_no_vault_though_a_change_of_password_is_unfinished(lives):
    for world, step in lives.each(by_password, lambda phone: phone.change_password(OTHER_PASSWORD)):
        world.vault.down = {1, 2, 3, 4, 5}
        assert world.phone(vault=None).create([world.data]).generation == 2, step
        assert world.phone().create([world.data]).generation == 3, step


def test_switching_to_digits_leaves_password_or_digits_but_never_a_forgotten_record(lives):
    def switch(phone: Backup) -> None:
        phone.confirm_digits(phone.switch_to_digits())

    ends = set()
    for world, step in lives.each(by_password, switch):
        key = world.key()
        after = world.phone().finish()
        ends.add(after.mode)
        assert world.key() == key
        if after.mode == "digits":
            assert after.unfinished is None
            assert world.vault.record.active is None, step
        else:
            assert opens(world, PASSWORD) == [PASSWORD], step
        assert digits_open(world, key.hex()), step
        world.phone().create([world.data])
    assert ends == {"password", "digits"}


def test_switching_to_a_password_leaves_digits_or_a_password(lives):
    ends = set()
    for world, step in lives.each(by_digits, lambda phone: phone.switch_to_password(PASSWORD)):
        key = world.key()
        after = world.phone().finish()
        ends.add(after.mode)
        assert after.unfinished is None
        assert world.key() == key
        if after.mode == "digits":
            assert world.vault.record is None or world.vault.record.active is None, step
            world.phone().switch_to_password(PASSWORD)
        assert opens(world, PASSWORD) == [PASSWORD], step
        assert digits_open(world, key.hex()), step
    assert ends == {"password", "digits"}


# ---------------------------------------------------------------- a new key


def test_a_new_key_by_password_never_leaves_a_backup_without_a_way_in(lives):
    keys, ends = set(), set()
    for world, step in lives.each(
        by_password, lambda phone: phone.new_key([phone_data(phone)], password=OTHER_PASSWORD)
    ):
        old = world.key_folders()
        assert whole(world.phone()), step  # this phone
        world.phone().finish()
        assert opens(world, PASSWORD, OTHER_PASSWORD), step  # and a new one
        assert whole(world.phone()), step
        status = world.phone().status()
        ends.add(status.unfinished is None)
        if status.unfinished is not None:
            assert opens(world, PASSWORD, OTHER_PASSWORD) == [PASSWORD], step
            world.phone().create([world.data])  # under the old key, as ever
            world.phone().new_key([world.data], password=OTHER_PASSWORD)
            assert opens(world, PASSWORD, OTHER_PASSWORD) == [OTHER_PASSWORD], step
        assert world.phone().status().unfinished is None
        assert len(world.key_folders()) == 1, (step, old)
        assert world.next_key() is None
        keys.add(world.key())
    assert ends == {True, False}


def phone_data(phone: Backup) -> Path:
    return phone._device.folder.parent / "data"


def test_a_new_key_can_be_given_up_while_it_is_not_locked(lives):
    for world, step in lives.each(
        by_password, lambda phone: phone.new_key([phone_data(phone)], password=OTHER_PASSWORD)
    ):
        world.phone().abandon()
        assert world.phone().status().unfinished is None
        assert len(opens(world, PASSWORD, OTHER_PASSWORD)) == 1, step
        world.phone().finish()
        assert len(world.key_folders()) == 1, step
        assert world.next_key() is None


def test_a_new_key_by_digits_never_leaves_a_backup_without_a_way_in(lives):
    def work(phone: Backup) -> None:
        phone.new_key([phone_data(phone)], digits=phone.make_digits())

    for world, step in lives.each(by_digits, work):
        before = world.key()
        phone = world.phone(vault=unwanted)
        assert whole(phone), step
        phone.finish()
        assert digits_open(world, world.key().hex()), step
        if world.key() == before:
            phone.new_key([world.data], digits=phone.make_digits())
        assert len(world.key_folders()) == 1, step
        assert digits_open(world, world.key().hex()), step
        assert (world.next_key(), world.requests()) == (None, [])


# ---------------------------------------------------------------- turning off


@pytest.mark.parametrize("delete_copies", [True, False])
def test_turning_off_is_done_or_was_never_begun(lives, delete_copies):
    ends = set()
    for world, step in lives.each(
        by_password, lambda phone: phone.disable(delete_copies=delete_copies)
    ):
        after = world.phone().finish()
        ends.add(after.mode)
        if after.mode == "password":
            assert opens(world, PASSWORD) == [PASSWORD], step
            continue
        assert after.unfinished is None
        assert (world.key(), world.next_key()) == (None, None), step
        assert world.vault.record.active is None, step
        assert len(world.key_folders()) == (0 if delete_copies else 1), step
    assert ends == {"off", "password"}


def test_an_interrupted_enabling_can_be_turned_off_and_leaves_nothing(lives):
    for world, step in lives.each(nothing, lambda phone: phone.enable_with_password(PASSWORD)):
        status = world.phone().status()
        if status.mode == "off" and status.unfinished is None:
            world.phone().finish()
        else:
            world.phone().disable(delete_copies=True)
        assert (world.key(), world.next_key()) == (None, None), step
        assert world.vault.record is None or world.vault.record.active is None, step


# ---------------------------------------------------------------- recovering


def test_recovering_may_be_repeated_and_costs_no_guess(lives):
    def begin(world: World) -> None:
        old = world.phone("old")
        old.enable_with_password(PASSWORD)
        old.create([world.data])

    for world, step in lives.each(begin, lambda phone: phone.recover_with_password(PASSWORD)):
        phone = world.phone()
        assert phone.recover_with_password(PASSWORD).key_present, step
        assert phone.guesses() == 10, step
        assert restored(phone, world.fresh("back")) == MESSAGES
        assert phone.create([world.data]).generation == 2


def test_recovering_by_digits_may_be_repeated(lives):
    def begin(world: World) -> None:
        old = world.phone("old")
        old.enable_with_digits(old.make_digits())
        old.create([world.data])

    def recover(phone: Backup) -> None:
        digits = (phone._device.folder.parent / "old" / "key.current").read_bytes().hex()
        phone.recover_with_digits(digits)

    for world, step in lives.each(begin, recover, least=2):
        recover(world.phone(vault=unwanted))
        assert restored(world.phone(), world.fresh("back")) == MESSAGES, step
