"""`Backup` and `AsyncBackup`, by one suite: a user's life with backups, and what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from typing import Any
from uuid import uuid4

import pytest
from client import Client, Killed
from grounds import PASSWORD as WEBDAV_PASSWORD
from grounds import USER, s3_options
from honest_vault import problem
from phones import (
    MESSAGES,
    OTHER_PASSWORD,
    PASSWORD,
    FlowVault,
    World,
    restored,
    whole,
)

import quorumvault.backup
import quorumvault.backup.client_profile
import quorumvault.vault
from quorumvault import errors as vault_errors
from quorumvault.backup import (
    AsyncBackup,
    Backup,
    MemoryKeyStore,
    errors,
)
from quorumvault.backup.client_key import MAX_PASSWORD_BYTES
from quorumvault.backup.keys import Keys


class Blocking:
    """`AsyncBackup` as a blocking caller sees it: each call runs in an event loop."""

    def __init__(self, twin: AsyncBackup, loop: asyncio.AbstractEventLoop) -> None:
        self._twin = twin
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._twin, name)

        def call(*args: Any, **options: Any) -> Any:
            made = method(*args, **options)
            return self._loop.run_until_complete(collected(made) if name == "files" else made)

        return call


async def collected(items):
    return [item async for item in items]


class TwinWorld(World):
    """Phones whose app is written for an event loop."""

    loop: asyncio.AbstractEventLoop

    def phone(self, name: str = "phone", **options: Any) -> Any:
        options.setdefault("vault", lambda path: FlowVault(self.vault, path, self.reaper))
        storage = options.pop("storage", str(self.storage))
        return Blocking(AsyncBackup(storage, self.root / name, **options), self.loop)


@pytest.fixture(params=["blocking", "async"])
def world(request, ground):
    if request.param == "blocking":
        yield World(ground)
        return
    world = TwinWorld(ground)
    with asyncio.Runner() as runner:
        world.loop = runner.get_loop()
        yield world


OPPOSITE = {letter: f"{15 - int(letter, 16):x}" for letter in "0123456789abcdef"}


def unwanted(path):
    raise AssertionError("the vault was opened")


def enabled(world: World) -> Any:
    phone = world.phone()
    phone.enable_with_password(PASSWORD)
    phone.create([world.data])
    return phone


def with_digits(world: World) -> Any:
    phone = world.phone(vault=unwanted)
    phone.enable_with_digits(phone.make_digits())
    phone.create([world.data])
    return phone


def objects(world: World) -> dict[str, tuple[int, int]]:
    """The storage's objects, with size and time."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in world.storage.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------- a life by password


def test_backups_are_off_until_turned_on_and_nobody_is_asked(world):
    phone = world.phone(vault=unwanted)
    status = phone.status()
    assert (status.mode, status.generation, status.key_present) == ("off", 0, False)
    assert (status.unfinished, status.last_created_s) == (None, None)
    for call in (
        lambda: phone.create([world.data]),
        phone.list,
        phone.verify,
        lambda: phone.restore(world.fresh("back")),
        lambda: phone.disable(delete_copies=True),
    ):
        with pytest.raises(errors.NotEnabled, match="off on this device"):
            call()
    assert not world.storage.exists()


def test_a_lost_phone_comes_back_with_the_password_alone(world):
    phone = world.phone()
    secured = phone.enable_with_password(PASSWORD)
    assert (secured.mode, secured.doubts) == ("password", ())
    assert "has lost the backup" in secured.warning
    made = phone.create([world.data])
    assert (made.files, made.generation) == (2, 1)
    assert phone.verify().files == 2
    assert [one.generation for one in phone.list()] == [1]
    assert {item.path for item in phone.files()} >= {"data/messages.db", "data/photos/one.jpg"}
    assert phone.status().last_created_s == made.created_s
    shutil.rmtree(world.root / "phone")  # lost

    new = world.phone("new")
    assert new.guesses() == 10
    status = new.recover_with_password(PASSWORD)
    assert (status.mode, status.generation, status.key_present) == ("password", 1, True)
    assert restored(new, world.fresh("back")) == MESSAGES
    assert new.create([world.data]).generation == 2


def test_one_file_comes_back_alone(world):
    phone = enabled(world)
    phone.restore(target := world.fresh("back"), only=["data/photos/one.jpg"])
    found = [path.name for path in target.rglob("*") if path.is_file()]
    assert found == ["one.jpg"]


def test_what_the_profile_remembers_need_not_be_given_again(world):
    enabled(world)
    again = Backup(None, world.root / "phone")
    assert again.status().storage == str(world.storage)
    assert again.create([world.data]).generation == 2
    with pytest.raises(ValueError, match="no storage"):
        Backup(None, world.root / "elsewhere", vault=unwanted).recover_with_digits("0" * 64)


def test_a_weak_password_is_refused_before_anybody_is_asked(world):
    phone = world.phone(vault=unwanted)
    for call in (phone.enable_with_password, phone.change_password, phone.switch_to_password):
        with pytest.raises(errors.WeakPassword):
            call("password1")
    with pytest.raises(errors.WeakPassword):
        phone.enable_with_password("Yourcenar-1903", hints=["Marguerite", "Yourcenar"])
    with pytest.raises(errors.WeakPassword):
        phone.new_key([world.data], password="iloveyou")
    assert not (world.root / "phone").exists()


def test_the_minimum_can_be_left_to_whoever_checked_the_password_before(world):
    assert world.phone().enable_with_password("1234", check_strength=False).mode == "password"


@pytest.mark.parametrize("password", ["half \ud83d canary", b"", "x" * 5000])
def test_an_impossible_password_changes_nothing(world, password):
    phone = world.phone()
    with pytest.raises(ValueError, match="password") as caught:
        phone.enable_with_password(password, check_strength=False)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any("canary" in repr(each) + repr(vars(each)) for each in chain if each)
    assert not any(isinstance(each, UnicodeError) for each in chain)
    assert phone.status().unfinished is None
    assert (world.key(), world.next_key()) == (None, None)


def test_backups_are_not_turned_on_twice(world):
    phone = enabled(world)
    key = world.key()
    for call in (
        lambda: phone.enable_with_password(OTHER_PASSWORD),
        phone.make_digits,
        lambda: phone.enable_with_digits("0" * 64),
        lambda: phone.switch_to_password(OTHER_PASSWORD),
        lambda: phone.recover_with_digits("0" * 64),
    ):
        with pytest.raises(errors.AlreadyEnabled):
            call()
    assert world.key() == key


def test_a_key_that_the_vault_keeps_already_is_not_destroyed_unasked(world):
    enabled(world)
    new = world.phone("new")
    with pytest.raises(errors.AlreadyEnabled, match="recover it with its password"):
        new.enable_with_password(OTHER_PASSWORD)
    assert new.status().unfinished is None
    assert new.recover_with_password(PASSWORD).generation == 1
    other = world.phone("other")
    other.enable_with_password(OTHER_PASSWORD, replace=True)
    with pytest.raises(vault_errors.WrongPassword):
        world.phone("third").recover_with_password(PASSWORD)


# ---------------------------------------------------------------- guesses


def test_a_wrong_password_says_how_many_guesses_remain(world):
    enabled(world)
    new = world.phone("new")
    with pytest.raises(vault_errors.WrongPassword) as caught:
        new.recover_with_password(OTHER_PASSWORD)
    assert (caught.value.remaining, new.guesses()) == (9, 9)
    assert new.status().mode == "off"
    new.recover_with_password(PASSWORD)
    assert new.guesses() == 10


@pytest.mark.parametrize("password", [PASSWORD, OTHER_PASSWORD])
def test_a_guess_of_unknown_outcome_is_repeated_not_counted_twice(world, password):
    enabled(world)
    lost = {"on": True}

    def lose(call, answer):
        if call.path == "/v1/attempts" and lost["on"]:
            answer()  # counted; nobody hears of it
            return None
        return answer()

    world.vault.interfere = lose
    new = world.phone("new")
    with pytest.raises(vault_errors.Unavailable) as caught:
        new.recover_with_password(password)
    assert caught.value.charged == "unknown"
    lost["on"] = False
    if password == PASSWORD:
        assert world.phone("new").recover_with_password(password).key_present
    else:
        with pytest.raises(vault_errors.WrongPassword) as wrong:
            world.phone("new").recover_with_password(password)
        assert wrong.value.remaining == 9
    assert len({attempt for attempt, _, _ in world.vault.evaluated}) == 1


def test_no_guess_is_spent_while_the_storage_cannot_be_reached(world):
    enabled(world)
    moved = world.storage.rename(world.root / "away")
    world.storage.write_text("not a folder")
    new = world.phone("new")
    with pytest.raises(errors.StorageError):
        new.recover_with_password(OTHER_PASSWORD)
    assert new.guesses() == 10
    world.storage.unlink()
    moved.rename(world.storage)
    new.recover_with_password(PASSWORD)


def test_ten_wrong_guesses_destroy_the_key_but_the_phone_can_register_it_again(world):
    phone = enabled(world)
    thief = world.phone("thief")
    for left in range(9, -1, -1):
        with pytest.raises(vault_errors.WrongPassword) as caught:
            thief.recover_with_password(f"a wrong guess {left}")
        assert caught.value.remaining == left
    with pytest.raises(vault_errors.Exhausted):
        thief.recover_with_password(PASSWORD)
    world.vault.expire()
    with pytest.raises(vault_errors.Locked):
        thief.recover_with_password(PASSWORD)
    assert phone.create([world.data]).generation == 2
    phone.change_password(OTHER_PASSWORD)
    assert world.phone("new").recover_with_password(OTHER_PASSWORD).generation == 2


def test_the_right_password_for_a_foreign_storage_is_told_and_nothing_is_adopted(world):
    enabled(world)
    stranger = World(world.root / "stranger")
    with_digits(stranger)
    new = world.phone("new")
    shutil.rmtree(world.storage)
    shutil.copytree(stranger.storage, world.storage)
    with pytest.raises(errors.WrongKey):
        new.recover_with_password(PASSWORD)
    assert (new.status().mode, world.key("new")) == ("off", None)


def test_a_phone_lost_before_its_first_backup_can_be_recovered_and_go_on(world):
    world.phone().enable_with_password(PASSWORD)
    new = world.phone("new")
    assert new.recover_with_password(PASSWORD).generation == 0
    assert new.create([world.data]).generation == 1


# ---------------------------------------------------------------- the vault is away


def test_a_vault_that_is_away_is_told_and_nothing_is_begun(world):
    world.vault.down = {1, 2, 3, 4, 5}
    phone = world.phone()
    with pytest.raises(vault_errors.Unavailable):
        phone.enable_with_password(PASSWORD)
    assert phone.status() == world.phone("another").status()
    assert world.next_key() is None


def test_a_vault_that_goes_away_in_the_middle_leaves_what_the_next_call_finishes(world):
    down = {"at": "activation"}

    def fail(call, answer):
        return None if call.path.endswith(down["at"]) else answer()

    world.vault.interfere = fail
    phone = world.phone()
    with pytest.raises(vault_errors.Unavailable):
        phone.enable_with_password(PASSWORD)
    status = phone.status()
    assert status.mode == "off"
    assert "interrupted" in status.unfinished
    with pytest.raises(vault_errors.Unavailable):
        phone.create([world.data])
    with pytest.raises(errors.NotEnabled, match="interrupted"):
        phone.verify()
    down["at"] = "nothing"
    assert phone.create([world.data]).generation == 1
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_a_refused_token_leaves_the_old_password_and_no_unfinished_work(world):
    phone = enabled(world)
    world.vault.interfere = lambda call, answer: (
        problem(401, "token") if call.method == "POST" else answer()
    )
    with pytest.raises(vault_errors.Denied):
        phone.change_password(OTHER_PASSWORD)
    assert phone.status().unfinished is None
    world.vault.interfere = None
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_a_lying_vault_can_be_given_up(world):
    phone = enabled(world)

    def lie(call, answer):
        reply = answer()
        if call.path == "/v1/record" and "pending" in reply.json() and reply.json()["pending"]:
            pending = {**reply.json()["pending"], "content": "A" * 43}
            return reply.but(pending=pending)
        return reply

    world.vault.interfere = lie
    with pytest.raises(vault_errors.Tampered):
        phone.change_password(OTHER_PASSWORD)
    with pytest.raises(vault_errors.Tampered):
        phone.finish()
    assert phone.abandon().unfinished is None
    world.vault.interfere = None
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_a_new_key_that_the_vault_has_already_is_not_given_up(world):
    phone = enabled(world)

    def lie(call, answer):
        reply = answer()
        if call.path == "/v1/record" and call.node == 2 and not reply.json()["pending"]:
            return reply.but(content="A" * 43)
        return reply

    world.vault.interfere = lie
    with pytest.raises(vault_errors.Tampered):
        phone.new_key([world.data], password=OTHER_PASSWORD)
    with pytest.raises(vault_errors.Tampered):  # the old one is gone there
        phone.abandon()
    phone.create([world.data])
    new = world.phone("new")
    new.recover_with_password(OTHER_PASSWORD)
    assert restored(new, world.fresh("back")) == MESSAGES
    world.vault.interfere = None
    assert phone.finish().unfinished is None
    assert restored(phone, world.fresh("back")) == MESSAGES


# ---------------------------------------------------------------- a life by digits


def test_with_digits_the_vault_is_never_opened_in_a_whole_life(world):
    phone = world.phone(vault=unwanted)
    shown = phone.make_digits()
    assert phone.status().mode == "off"
    assert phone.make_digits() == shown
    wrong = shown.replace(shown[0], "f" if shown[0] != "f" else "e", 1)
    with pytest.raises(errors.MistypedDigits, match="group 1, digit 1 is wrong") as caught:
        phone.enable_with_digits(wrong)
    assert caught.value.positions == (1,)
    secured = phone.enable_with_digits(shown.upper().replace("\n", "-"))
    assert (secured.mode, "64 digits" in secured.warning) == ("digits", True)
    phone.create([world.data])
    assert phone.guesses() is None
    assert whole(phone) if isinstance(phone, Backup) else phone.verify().files == 2
    phone.finish()
    with pytest.raises(errors.NotEnabled, match="switch to a password"):
        phone.change_password(PASSWORD)

    new = world.phone("new", vault=unwanted)
    with pytest.raises(errors.MistypedDigits, match="group 1, digit 1 is wrong"):
        new.recover_with_digits(wrong)
    with pytest.raises(errors.MistypedDigits, match="is missing"):
        new.recover_with_digits(shown[:-1])
    if isinstance(phone, Backup):  # some seconds of trying
        with pytest.raises(errors.WrongKey, match="nor nearly"):
            new.recover_with_digits("".join(OPPOSITE.get(letter, letter) for letter in shown))
    assert new.status().mode == "off"
    assert new.recover_with_digits(shown).generation == 1
    assert restored(new, world.fresh("back")) == MESSAGES

    fresh = new.make_digits()
    assert fresh != shown
    with pytest.raises(errors.MistypedDigits):
        new.new_key([world.data], digits=shown)
    new.new_key([world.data], digits=fresh)
    assert len(world.key_folders()) == 1
    assert world.phone("third", vault=unwanted).recover_with_digits(fresh).generation == 1
    gone = new.disable(delete_copies=True)
    assert (gone.record_deleted, gone.kept) == (False, ())
    assert world.key_folders() == []
    assert world.requests() == []


def test_digits_that_nobody_asked_for_are_not_taken(world):
    phone = world.phone(vault=unwanted)
    with pytest.raises(errors.NotEnabled, match="make and show them first"):
        phone.enable_with_digits("0" * 64)
    with pytest.raises(errors.NotEnabled, match="were not shown"):
        phone.confirm_digits("0" * 64)
    with pytest.raises(errors.NoBackup, match="check the address"):
        phone.recover_with_digits("0" * 64)


def test_digits_where_all_is_of_a_later_format_ask_for_an_update(world):
    (world.storage / f"qv2-{'a' * 32}" / "manifests").mkdir(parents=True)
    with pytest.raises(errors.FutureVersion, match="update quorumvault"):
        world.phone().recover_with_digits("0" * 64)


def test_digits_that_were_shown_can_be_given_up(world):
    phone = world.phone(vault=unwanted)
    shown = phone.make_digits()
    assert "typed back" in phone.status().unfinished
    assert phone.abandon().unfinished is None
    assert world.next_key() is None
    assert phone.make_digits() != shown


# ---------------------------------------------------------------- another lock


def test_a_changed_password_uploads_nothing_and_the_old_one_is_dead(world):
    phone = enabled(world)
    key, before = world.key(), objects(world)
    phone.change_password(OTHER_PASSWORD)
    assert (world.key(), objects(world)) == (key, before)
    new = world.phone("new")
    with pytest.raises(vault_errors.WrongPassword):
        new.recover_with_password(PASSWORD)
    assert new.recover_with_password(OTHER_PASSWORD).generation == 1


def test_switching_to_digits_deletes_the_vaults_record(world):
    phone = enabled(world)
    key, before = world.key(), objects(world)
    shown = phone.switch_to_digits()
    assert phone.switch_to_digits() == shown
    assert world.phone("new").recover_with_password(PASSWORD).mode == "password"  # not yet
    with pytest.raises(errors.MistypedDigits):
        phone.confirm_digits(shown[::-1])
    assert phone.confirm_digits(shown).mode == "digits"
    assert phone.status().mode == "digits"
    assert (world.key(), objects(world)) == (key, before)
    with pytest.raises(vault_errors.NotRegistered):
        world.phone("third").recover_with_password(PASSWORD)
    quiet = len(world.requests())
    assert world.phone("fourth").recover_with_digits(shown).generation == 1
    phone.create([world.data])
    assert len(world.requests()) == quiet


def test_switching_to_a_password_leaves_a_vault_record_and_the_same_key(world):
    phone = with_digits(world)
    key = world.key()
    phone = world.phone()
    assert phone.switch_to_password(PASSWORD).mode == "password"
    assert world.key() == key
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_shown_digits_that_are_not_confirmed_change_nothing(world):
    phone = enabled(world)
    phone.switch_to_digits()
    assert phone.create([world.data]).generation == 2
    phone.change_password(OTHER_PASSWORD)
    assert phone.status().unfinished is None
    with pytest.raises(errors.NotEnabled, match="were not shown"):
        phone.confirm_digits(world.key().hex())


def test_a_new_key_replaces_copies_password_and_old_key(world):
    phone = enabled(world)
    old, old_folders = world.key(), world.key_folders()
    phone.create([world.data])
    made = phone.new_key([world.data], password=OTHER_PASSWORD)
    assert made.generation == 1
    assert world.key() != old
    assert world.key_folders() == [Keys.of(world.key()).folder] != old_folders
    assert phone.status().generation == 1
    new = world.phone("new")
    with pytest.raises(vault_errors.WrongPassword):
        new.recover_with_password(PASSWORD)
    new.recover_with_password(OTHER_PASSWORD)
    assert restored(new, world.fresh("back")) == MESSAGES


def test_a_new_key_that_fails_leaves_the_old_one_and_goes_on_later(world):
    phone = enabled(world)
    old = world.key()
    world.vault.down = {1, 2, 3, 4, 5}
    with pytest.raises(vault_errors.Unavailable):
        phone.new_key([world.data], password=OTHER_PASSWORD)
    assert world.key() == old
    assert "old one still counts" in phone.status().unfinished
    assert phone.create([world.data]).generation == 2
    with pytest.raises(errors.AlreadyEnabled, match="finish or abandon"):
        world.phone(vault=unwanted).switch_to_digits()
    world.vault.down = set()
    again = phone.new_key([world.data], password=OTHER_PASSWORD)
    assert again.uploaded_bytes < sum(map(len, MESSAGES.values()))  # it was there already
    assert world.key() != old


@pytest.mark.parametrize("given", [{}, {"digits": "0" * 64}, {"password": PASSWORD, "digits": ""}])
def test_a_new_key_asks_for_the_kind_of_lock_that_there_is(world, given):
    phone = enabled(world)
    with pytest.raises(ValueError, match="password"):
        phone.new_key([world.data], **given)
    assert phone.status().unfinished is None


# ---------------------------------------------------------------- other devices, other storage


def test_another_device_of_the_account_is_not_run_over(world):
    phone = enabled(world)
    tablet = world.phone("tablet")
    tablet.recover_with_password(PASSWORD)
    tablet.change_password(OTHER_PASSWORD)
    with pytest.raises(errors.AlreadyEnabled, match="another device"):
        phone.change_password(PASSWORD)
    gone = world.phone().disable(delete_copies=False)
    assert not gone.record_deleted  # it is the tablet's by now
    assert world.phone("new").recover_with_password(OTHER_PASSWORD).generation == 1


def test_a_device_learns_of_anothers_new_password_by_recovering_with_it(world):
    phone = enabled(world)
    tablet = world.phone("tablet")
    tablet.recover_with_password(PASSWORD)
    tablet.change_password(OTHER_PASSWORD)
    assert phone.recover_with_password(OTHER_PASSWORD).key_present
    phone.change_password(PASSWORD)
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_a_storage_that_went_back_in_time_is_told(world):
    phone = enabled(world)
    old = world.fresh("old-storage")
    shutil.copytree(world.storage, old)
    phone.create([world.data])
    shutil.rmtree(world.storage)
    shutil.copytree(old, world.storage)
    for call in (
        phone.verify,
        lambda: phone.restore(world.fresh("back")),
        lambda: phone.create([world.data]),
        lambda: list(phone.files()),
    ):
        with pytest.raises(errors.RolledBack):
            call()
    assert world.phone("new").recover_with_password(PASSWORD).generation == 1


def test_a_storage_folder_that_is_gone_is_not_made_anew_on_the_disk_below_its_mount_point(world):
    phone = enabled(world)
    away = world.storage.rename(world.fresh("unplugged"))
    with pytest.raises(errors.StorageUnreachable, match="connected"):
        phone.create([world.data])
    with pytest.raises(errors.StorageUnreachable, match="connected"):
        phone.new_key([world.data], password=OTHER_PASSWORD)
    assert not world.storage.exists()
    world.storage.mkdir()  # the mount point itself is the storage
    with pytest.raises(errors.StorageUnreachable, match="connected"):
        phone.create([world.data])
    assert not list(world.storage.iterdir())
    world.storage.rmdir()
    away.rename(world.storage)
    assert phone.new_key([world.data], password=OTHER_PASSWORD).generation == 1  # of the new key
    [folder] = world.storage.iterdir()
    shutil.rmtree(folder)
    folder.mkdir()  # the owner wants to begin anew there
    assert phone.create([world.data]).generation == 2


def test_another_storage_begins_anew_and_is_remembered(world):
    enabled(world)
    other = world.fresh("other-storage")
    moved = Backup(str(other), world.root / "phone")
    assert moved.create([world.data]).generation == 1
    assert Backup(None, world.root / "phone").create([world.data]).generation == 2
    assert whole(Backup(None, world.root / "phone"))


def test_the_profile_itself_is_never_backed_up(world):
    phone = enabled(world)
    with pytest.raises(errors.SourceRefused):
        phone.create([world.root])


# ---------------------------------------------------------------- keys and locks of the device


def test_a_lost_key_store_is_told_and_recovering_fills_it(world):
    phone = enabled(world)
    (world.root / "phone" / "key.current").unlink()
    assert not phone.status().key_present
    for call in (lambda: phone.create([world.data]), phone.verify, phone.switch_to_digits):
        with pytest.raises(errors.KeyUnknown, match="recover"):
            call()
    assert phone.recover_with_password(PASSWORD).key_present
    assert phone.create([world.data]).generation == 2


def test_a_key_whose_profile_is_gone_is_not_written_over(world):
    enabled(world)
    (world.root / "phone" / "profile.json").unlink()
    key = world.key()
    for call in (world.phone().enable_with_password, lambda _: world.phone().make_digits()):
        with pytest.raises(errors.DeviceStateError, match="its profile is gone"):
            call(OTHER_PASSWORD)
    assert world.key() == key
    assert world.phone().recover_with_password(PASSWORD).generation == 1


def test_an_app_plugs_in_its_own_key_store(world):
    store = MemoryKeyStore()
    phone = world.phone(key_store=store)
    phone.enable_with_password(PASSWORD)
    phone.create([world.data])
    assert len(store.load("current")) == 32
    assert not list((world.root / "phone").glob("key*"))
    with pytest.raises(errors.KeyUnknown):
        world.phone(key_store=MemoryKeyStore()).verify()
    phone.disable(delete_copies=False)
    assert store.load("current") is None


def test_two_calls_at_once_on_one_profile_are_not_let_in(world):
    phone, other = enabled(world), Backup(str(world.storage), world.root / "phone")
    with other._device.locked():
        for call in (lambda: phone.create([world.data]), phone.finish, phone.verify):
            with pytest.raises(errors.InUse, match="wait until it is over"):
                call()
        assert phone.status().mode == "password"
        assert len(phone.list()) == 1
    assert phone.create([world.data]).generation == 2


@pytest.mark.parametrize(("delete_copies", "left"), [(True, 0), (False, 1)])
def test_turning_off_deletes_record_and_key_and_the_copies_if_asked(world, delete_copies, left):
    phone = enabled(world)
    folders = world.key_folders()
    gone = phone.disable(delete_copies=delete_copies)
    assert gone.record_deleted
    assert (gone.removed_objects > 0) is delete_copies
    assert gone.kept == (() if delete_copies else tuple(folders))
    assert len(world.key_folders()) == left
    assert phone.status() == world.phone("never-used").status()
    assert (world.key(), world.vault.record.active) == (None, None)
    phone.enable_with_password(PASSWORD)
    assert phone.create([world.data]).generation == 1


def with_new_key_unheard(world):
    """A phone whose new key the vault has, but the answer to its activation never came."""
    phone = enabled(world)

    def fail(call, answer):
        reply = answer()
        return None if call.path.endswith("activation") else reply  # done, and nobody hears of it

    world.vault.interfere = fail
    with pytest.raises(vault_errors.Unavailable):
        phone.new_key([world.data], password=OTHER_PASSWORD)
    world.vault.interfere = None
    return phone


def test_what_a_lost_state_file_hides_never_costs_the_backup_that_counts(world):
    phone = with_new_key_unheard(world)
    (world.root / "phone" / "vault.json").unlink()
    phone = world.phone()
    assert "old one still counts" in phone.finish().unfinished
    with pytest.raises(errors.AlreadyEnabled, match="another device"):
        phone.new_key([world.data], password=PASSWORD)
    assert phone.recover_with_password(OTHER_PASSWORD).unfinished is None
    phone.create([world.data])
    assert world.key_folders() == [Keys.of(world.key()).folder]  # the old copies are gone
    assert restored(world.phone(), world.fresh("back")) == MESSAGES
    phone.new_key([world.data], password=PASSWORD)
    assert restored(world.phone(), world.fresh("back")) == MESSAGES


def test_what_is_backed_up_while_a_new_key_may_count_already_is_got_back_by_it(world):
    phone = with_new_key_unheard(world)
    world.vault.down = {1, 2, 3, 4, 5}
    (world.data / "messages.db").write_bytes(b"a new message")
    made = world.phone().create([world.data])
    assert made.generation == 2
    assert world.phone().create([world.data]).generation == 3
    world.vault.down = set()
    new = world.phone("new")  # the phone is lost, and the vault has the new key
    new.recover_with_password(OTHER_PASSWORD)
    now = MESSAGES | {"messages.db": b"a new message"}
    assert restored(new, world.fresh("back")) == now
    assert phone.finish().unfinished is None
    assert restored(phone, world.fresh("back")) == now


def test_copies_under_an_old_key_that_is_taken_back_are_not_removed(world, monkeypatch):
    phone = with_digits(world)
    old = world.key()

    def fail(*_):
        raise errors.StorageUnreachable("no")

    with monkeypatch.context() as patch:
        patch.setattr(quorumvault.backup.client_profile, "forget_key", fail)
        with pytest.raises(errors.StorageUnreachable):
            phone.new_key([world.data], digits=phone.make_digits())
    assert len(world.key_folders()) == 2
    assert phone.recover_with_digits(old.hex()).generation == 1
    assert phone.create([world.data]).generation == 2
    assert restored(world.phone(), world.fresh("back")) == MESSAGES
    assert Keys.of(old).folder in world.key_folders()


def test_copies_under_an_old_key_go_later_if_they_could_not_go_at_once(world, monkeypatch):
    phone = enabled(world)

    def fail(*_):
        raise errors.StorageUnreachable("no")

    with monkeypatch.context() as patch:
        patch.setattr(quorumvault.backup.client_profile, "forget_key", fail)
        with pytest.raises(errors.StorageUnreachable):
            phone.new_key([world.data], password=OTHER_PASSWORD)
    assert len(world.key_folders()) == 2
    assert phone.status().unfinished is None
    phone.finish()
    assert world.key_folders() == [Keys.of(world.key()).folder]


def test_a_new_key_that_the_key_store_lost_on_its_way_is_made_anew(world):
    phone = with_digits(world)
    shown = phone.make_digits()
    (world.root / "phone" / "key.next").unlink()
    again = phone.make_digits()
    assert again != shown
    phone.new_key([world.data], digits=again)
    assert len(world.key_folders()) == 1

    phone = world.phone("second", storage=str(world.fresh("storage")))
    phone.enable_with_password(PASSWORD)
    world.vault.down = {1, 2, 3, 4, 5}
    with pytest.raises(vault_errors.Unavailable):
        phone.new_key([world.data], password=OTHER_PASSWORD)
    (world.root / "second" / "key.next").unlink()
    world.vault.down = set()
    phone.new_key([world.data], password=OTHER_PASSWORD)
    assert phone.verify().files == 2
    assert phone.finish().unfinished is None


def test_digits_that_were_shown_stay_while_a_password_could_not_be_set(world):
    phone = world.phone()
    shown = phone.make_digits()
    world.vault.down = {1, 2, 3, 4, 5}
    with pytest.raises(vault_errors.Unavailable):
        phone.enable_with_password(PASSWORD)
    assert phone.make_digits() == shown


@pytest.mark.parametrize("kind", ["s3", "webdav"])
def test_a_whole_life_in_a_real_storage_leaves_nothing_there(request, world, kind):
    server = request.getfixturevalue(f"{kind}_server")
    name = uuid4().hex
    if kind == "s3":
        options = {**s3_options(server), "session": None}
        where = {"storage": f"s3://phones/{name}", "storage_options": options}
    else:
        host = server.removeprefix("http://")
        where = {"storage": f"webdav://{USER}:{WEBDAV_PASSWORD}@{host}/{name}"}
    phone = world.phone(**where)
    phone.enable_with_password(PASSWORD)
    phone.create([world.data])
    again = world.phone(storage=None)  # the profile has address and credentials
    assert again.create([world.data]).uploaded_objects == 1
    again.new_key([world.data], password=OTHER_PASSWORD)
    new = world.phone("new", **where)
    new.recover_with_password(OTHER_PASSWORD)
    assert restored(new, world.fresh("back")) == MESSAGES
    shown = new.switch_to_digits()
    new.confirm_digits(shown)
    third = world.phone("third", vault=unwanted, **where)
    with pytest.raises(errors.MistypedDigits, match="is missing"):
        third.recover_with_digits(shown[:5] + shown[6:])
    assert third.recover_with_digits(shown).generation == 1
    assert third.disable(delete_copies=True).removed_objects == 2
    fourth = world.phone("fourth", vault=unwanted, **where)
    with pytest.raises(errors.NoBackup):
        fourth.recover_with_digits(shown)
    for each in (phone, again, new, third, fourth):
        each.close()


def test_options_that_the_profile_could_not_hold_are_refused_at_once(world):
    with pytest.raises(TypeError):
        world.phone(storage_options={"session": object()})


# ---------------------------------------------------------------- twins, and names


def test_both_clients_have_the_same_calls_with_the_same_arguments():
    calls = {n for n, _ in inspect.getmembers(Backup, callable) if not n.startswith("_")}
    twins = {n for n, _ in inspect.getmembers(AsyncBackup, callable) if not n.startswith("_")}
    assert calls == twins
    for name in (*calls, "__init__"):
        ours = dict(inspect.signature(getattr(Backup, name)).parameters)
        ours.pop("stop", None)  # there a task is cancelled
        assert ours == inspect.signature(getattr(AsyncBackup, name)).parameters, name


def test_everything_public_is_there():
    assert all(hasattr(quorumvault.backup, name) for name in quorumvault.backup.__all__)
    assert set(errors.__all__) <= set(quorumvault.backup.__all__)
    assert MAX_PASSWORD_BYTES == quorumvault.vault.MAX_PASSWORD_BYTES
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        quorumvault.backup.nonsense  # noqa: B018 - the access is the test


def test_a_client_that_was_killed_between_charge_and_proof_needs_no_second_guess(tmp_path):
    world = World(tmp_path)
    enabled(world)
    folder = world.root / "new"
    folder.mkdir()
    client = Client(world.vault, folder / "vault.json", kill_at=3)
    with pytest.raises(Killed):
        client.recover(PASSWORD.encode())
    assert world.phone("new").recover_with_password(PASSWORD).key_present
    assert world.phone("new").guesses() == 10
