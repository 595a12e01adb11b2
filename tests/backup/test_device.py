"""What stays on the device: private, whole, and nothing that a password could be guessed with."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import stat
import threading
import traceback
from pathlib import Path

import pytest
from client import Killed
from phones import OTHER_PASSWORD, PASSWORD, FlowVault, World

from quorumvault import errors as vault_errors
from quorumvault.backup import AsyncBackup, Backup, FileKeyStore, MemoryKeyStore, errors
from quorumvault.backup.device import Device, Profile
from quorumvault.backup.keys import Keys
from quorumvault.backup.vault_door import VaultDoor
from quorumvault.backup.work import NewKey

KEY = bytes(range(32))


# ---------------------------------------------------------------- files


def test_everything_on_the_device_is_the_owners_alone(tmp_path):
    world = World(tmp_path)
    old = os.umask(0)
    try:
        phone = world.phone("a/b/phone")
        phone.enable_with_password(PASSWORD)
        phone.create([world.data])
    finally:
        os.umask(old)
    folder = world.root / "a/b/phone"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(files) == {"profile.json", "vault.json", "lock", "key.current"}
    assert set(files.values()) == {0o600}


def test_a_profile_comes_back_as_it_was_saved(tmp_path):
    device = Device(tmp_path)
    assert device.load() == Profile()
    work = NewKey("00" * 16, "password", generation=3, asking=True, before="11" * 32)
    saved = Profile(
        mode="password", key_id="22" * 16, storage="s3://b", storage_options={"a": [1]}, work=work
    )
    device.save(saved)
    assert device.load() == saved


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b'{"format":1,"mode":"on"}', "damaged"),
        (b'{"format":1,"secret":"canary"}', "damaged"),
        (b'{"format":1,"work":{"type":"canary"}}', "damaged"),
        (b"x" * (1 << 21), "damaged"),
        (b'{"format":2,"mode":"pin"}', "format 2, this version knows 1: update"),
    ],
)
def test_a_profile_that_is_none_is_refused_and_left_alone(tmp_path, text, says):
    path = tmp_path / "profile.json"
    path.write_bytes(text)
    with pytest.raises(errors.DeviceStateError, match=says) as caught:
        Backup(None, tmp_path).status()
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(errors.DeviceStateError, match=says):
        Backup("x", tmp_path).make_digits()
    assert path.read_bytes() == text


def test_a_profile_that_cannot_be_read_or_written_names_the_file(tmp_path):
    (tmp_path / "profile.json").mkdir()
    with pytest.raises(errors.DeviceStateError, match=r"profile\.json"):
        Device(tmp_path).load()
    with pytest.raises(errors.DeviceStateError, match="it is unchanged"):
        Device(tmp_path).save(Profile())
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DeviceStateError, match="folder"), Device(tmp_path / "file").locked():
        pass


@pytest.mark.parametrize("name", ["profile.json", "key.current", "lock"])
def test_a_symbolic_link_in_the_profile_is_not_followed(tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_bytes(KEY)
    folder = tmp_path / "phone"
    folder.mkdir()
    (folder / name).symlink_to(outside)
    with pytest.raises(errors.DeviceStateError):
        Backup("x", folder).make_digits()
    assert outside.read_bytes() == KEY


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "profile.json"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.DeviceStateError, match="No space left"):
        Device(tmp_path).save(Profile())
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        ("profile.json", b"old")
    ]


# ---------------------------------------------------------------- key stores


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_key_store_keeps_two_keys(tmp_path, kind):
    store = FileKeyStore(tmp_path) if kind == "file" else MemoryKeyStore()
    assert (store.load("current"), store.load("next")) == (None, None)
    store.save("next", KEY)
    store.save("current", KEY[::-1])
    assert (store.load("current"), store.load("next")) == (KEY[::-1], KEY)
    store.erase("next")
    store.erase("next")
    assert (store.load("current"), store.load("next")) == (KEY[::-1], None)
    with pytest.raises(ValueError, match="32 bytes"):
        store.save("next", KEY[1:])
    assert KEY.hex() not in repr(store)


@pytest.mark.parametrize("text", [b"", KEY[1:], KEY + b"\n"])
def test_a_damaged_key_file_is_told(tmp_path, text):
    (tmp_path / "key.current").write_bytes(text)
    with pytest.raises(errors.DeviceStateError, match=r"key\.current is damaged"):
        FileKeyStore(tmp_path).load("current")


def test_a_key_file_that_cannot_be_used_is_named(tmp_path):
    store = FileKeyStore(tmp_path)
    (tmp_path / "key.current").mkdir()
    (tmp_path / "key.current" / "x").touch()
    for call in (
        lambda: store.load("current"),
        lambda: store.save("current", KEY),
        lambda: store.erase("current"),
    ):
        with pytest.raises(errors.DeviceStateError, match=r"key\.current"):
            call()


# ---------------------------------------------------------------- secrets


def every_file(root: Path) -> bytes:
    paths = (path for path in root.rglob("*") if path.is_file() and "key." not in path.name)
    return b"\n".join(path.read_bytes() for path in paths)


def forms(secret: bytes) -> list[bytes]:
    """As somebody would look for it."""
    return [
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        repr(secret).encode(),
    ]


def test_no_secret_is_in_any_file_log_or_error(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    world = World(tmp_path)
    secrets = [PASSWORD.encode(), OTHER_PASSWORD.encode()]
    told: list[str] = []

    def noting(call, *arguments, **options):
        try:
            told.append(repr(call(*arguments, **options)))
        except (errors.BackupError, vault_errors.VaultError, ValueError) as error:
            told.extend([str(error), repr(error), repr(vars(error))])
            told.append("".join(traceback.format_exception(error)))
        secrets.extend(key for key in (world.key(), world.next_key(), world.key("new")) if key)
        found = every_file(world.root) + world.storage.name.encode()
        for secret in secrets:
            assert not any(form in found for form in forms(secret))

    phone, new = world.phone(), world.phone("new")
    noting(phone.enable_with_password, "password")
    noting(phone.enable_with_password, PASSWORD)
    noting(phone.enable_with_password, OTHER_PASSWORD)
    noting(phone.create, [world.data])
    noting(phone.status)
    noting(new.recover_with_password, OTHER_PASSWORD)
    noting(new.recover_with_password, PASSWORD)
    noting(phone.change_password, OTHER_PASSWORD)
    noting(phone.new_key, [world.data], password=PASSWORD)
    shown = phone.switch_to_digits()
    mangled = shown.replace("\n", " ")[3:] + "0"
    noting(phone.confirm_digits, mangled)
    noting(phone.confirm_digits, shown)
    noting(world.phone("third").recover_with_digits, mangled)
    noting(world.phone("fourth").recover_with_digits, shown[:-1] + "zz")
    noting(phone.new_key, [world.data], digits=mangled)
    next_digits = phone.make_digits()
    noting(phone.new_key, [world.data], digits=next_digits)
    (world.root / "phone" / "key.current").write_bytes(KEY)
    noting(phone.create, [world.data])
    noting(phone.switch_to_password, PASSWORD)
    noting(phone.disable, delete_copies=True)
    told.append(repr(vars(phone)) + repr(Keys.of(KEY)))
    told.extend(record.getMessage() for record in caplog.records)
    told.extend(capfd.readouterr())
    text = "\n".join(told).lower()
    lines = [
        "".join(group)
        for key in {s for s in secrets if len(s) == 32}
        for group in itertools.pairwise(key.hex()[at : at + 8] for at in range(0, 64, 8))
    ]
    assert len(lines) > 20
    for secret in (*(form.decode("latin-1").lower() for s in secrets for form in forms(s)), *lines):
        assert secret not in text


def test_where_the_backups_are_is_told_without_credentials(tmp_path):
    url = "webdavs://alice:canary@dav.example/phone"
    backup = Backup(url, tmp_path / "phone", storage_options={"password": "canary"})
    backup.make_digits()
    for phone in (backup, Backup(None, tmp_path / "phone")):
        told = phone.status().storage
        assert "dav.example/phone" in told
        assert "canary" not in told + repr(phone.status()) + repr(phone)
    assert Backup(None, tmp_path / "another").status().storage is None


def test_a_vault_that_is_not_given_is_asked_for_only_when_needed(tmp_path):
    world = World(tmp_path)
    phone = world.phone(vault=None)
    assert phone.guesses() is None
    phone.enable_with_digits(phone.make_digits())
    with pytest.raises(ValueError, match="vault="):
        phone.switch_to_password(PASSWORD)
    assert phone.status().unfinished is None
    assert phone.create([world.data]).generation == 1


def test_the_vault_is_opened_once_with_the_profiles_state_file_and_closed(tmp_path):
    world = World(tmp_path)
    made: list[Path] = []
    closed: list[Path] = []

    class Closing(FlowVault):
        def close(self) -> None:
            closed.append(made[-1])

    def make(path: Path) -> FlowVault:
        made.append(path)
        return Closing(world.vault, path, world.reaper)

    with world.phone(vault=make) as phone:
        phone.enable_with_password(PASSWORD)
        phone.change_password(OTHER_PASSWORD)
        assert made == [world.root / "phone" / "vault.json"]
    phone.close()
    assert closed == made
    VaultDoor(None, tmp_path).close()


# ---------------------------------------------------------------- cancelling


class Watch:
    """Progress that says when a phase is reached, and waits there until it may go on."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def phase(self, name: str, total: int | None) -> None:
        if name == self._phase:
            self.reached.set()
            assert self.go_on.wait(20)

    def advance(self, count: int) -> None:
        pass


@pytest.mark.parametrize("impatient", [False, True])
async def test_a_cancelled_call_stops_and_is_waited_for(tmp_path, impatient):
    world = World(tmp_path)
    for at in range(200):
        (world.data / f"{at}").write_bytes(os.urandom(20_000))
    folder = world.root / "phone"
    async with AsyncBackup(str(world.storage), folder, vault=None) as backup:
        await backup.enable_with_digits(await backup.make_digits())
        watch = Watch("upload")
        task = asyncio.ensure_future(backup.create([world.data], progress=watch))
        await asyncio.to_thread(watch.reached.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        if impatient:
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()  # it waits for its thread
        with pytest.raises(errors.InUse):
            await backup.finish()
        watch.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await backup.status()).generation == 0
        assert (await backup.create([world.data])).generation == 1


async def test_what_ends_just_before_it_is_cancelled_is_as_done(tmp_path):
    world = World(tmp_path)
    async with AsyncBackup(str(world.storage), world.root / "phone", vault=None) as backup:
        task = asyncio.ensure_future(backup.make_digits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "typed back" in (await backup.status()).unfinished


def test_a_kill_during_a_write_of_the_key_itself_loses_neither_key(tmp_path, monkeypatch):
    store = FileKeyStore(tmp_path)
    store.save("current", KEY)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(Killed):
            store.save("current", KEY[::-1])
    assert store.load("current") == KEY
    store.erase("current")
    assert list(tmp_path.iterdir()) == []
