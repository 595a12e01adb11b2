"""What one phone does to the vault or the storage costs no other phone its backup in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from phones import OTHER_PASSWORD, PASSWORD, World, whole

from quorumvault.backup.errors import AlreadyEnabled, DeviceStateError, RolledBack


@pytest.fixture
def world(ground: Path) -> World:
    made = World(ground)
    with made.phone() as phone:
        phone.enable_with_password(PASSWORD)
        phone.create([made.data])
    return made


def test_a_key_whose_backup_is_still_there_is_not_forgotten_for_the_one_in_the_vault(
    world: World,
) -> None:
    with world.phone("other") as other:
        other.enable_with_password(OTHER_PASSWORD, replace=True)
        other.create([world.data])
    before = world.key()
    with world.phone() as phone:
        with pytest.raises(AlreadyEnabled, match="perhaps the only one"):
            phone.recover_with_password(OTHER_PASSWORD)
        assert whole(phone)
    assert world.key() == before
    with world.phone("another-profile") as again:
        again.recover_with_password(OTHER_PASSWORD)
        assert whole(again)


def test_a_key_without_its_profile_is_not_forgotten_while_its_backup_is_there(
    world: World,
) -> None:
    with world.phone("other") as other:
        digits = other.make_digits()
        other.enable_with_digits(digits)
        other.create([world.data])
    (world.root / "phone" / "profile.json").unlink()
    before = world.key()
    with world.phone() as phone:
        with pytest.raises(AlreadyEnabled, match="perhaps the only one"):
            phone.recover_with_digits(digits)
        assert world.key() == before
        phone.recover_with_password(PASSWORD)  # of that very key
        assert whole(phone)


def test_the_new_key_of_another_phone_takes_the_place_of_the_old_one(world: World) -> None:
    with world.phone("other") as other:
        other.recover_with_password(PASSWORD)
        other.new_key([world.data], password=OTHER_PASSWORD)
    with world.phone() as phone:
        phone.recover_with_password(OTHER_PASSWORD)
        assert whole(phone)
    assert world.key() == world.key("other")


def test_digits_say_so_when_another_phones_password_still_opens_the_key(world: World) -> None:
    with world.phone("other") as other:
        other.recover_with_password(PASSWORD)
        other.change_password(OTHER_PASSWORD)
    with world.phone() as phone:
        assert phone.confirm_digits(phone.switch_to_digits()).others
    with world.phone("third") as third:
        third.recover_with_password(OTHER_PASSWORD)
        assert whole(third)


def test_digits_end_the_own_password(world: World) -> None:
    with world.phone() as phone:
        assert not phone.confirm_digits(phone.switch_to_digits()).others
    with world.phone("third") as third:
        assert third.guesses() is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_profile_that_others_can_write_to_is_not_used(world: World, mode: int) -> None:
    (world.root / "phone").chmod(mode)
    with world.phone() as phone:
        for call in (phone.status, phone.list, lambda: phone.create([world.data])):
            with pytest.raises(DeviceStateError, match="others may write to"):
                call()
    (world.root / "phone").chmod(0o700)
    with world.phone() as phone:
        assert whole(phone)


def test_a_new_key_tells_what_the_vault_could_not_confirm(world: World) -> None:
    world.vault.down = {2, 4}
    with world.phone() as phone:
        made = phone.new_key([world.data], password=OTHER_PASSWORD)
    assert "fewer than four" in made.doubts[0]
    world.vault.down = set()
    with world.phone() as phone:
        assert phone.create([world.data]).doubts == ()


def test_a_storage_named_by_a_relative_path_is_the_same_from_everywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.root)
    with world.phone("mine", storage="mine-copies") as phone:
        digits = phone.make_digits()
        phone.enable_with_digits(digits)
        assert phone.create([world.data]).generation == 1
    kept = {path: path.read_bytes() for path in Path("mine-copies").rglob("*") if path.is_file()}
    with world.phone("mine", storage="./mine-copies/") as phone:
        assert phone.create([world.data]).generation == 2
    for path in (world.root / "mine-copies").glob("qv*/manifests/*"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    with (
        world.phone(
            "mine", storage="../ground/mine-copies".replace("ground", world.root.name)
        ) as p,
        pytest.raises(RolledBack),
    ):
        p.create([world.data])
    monkeypatch.chdir(world.data)
    with world.phone("mine", storage=None) as phone, pytest.raises(RolledBack):
        phone.verify()


@pytest.mark.parametrize("reads", ["verify", "restore"])
def test_a_phone_that_has_read_a_newer_backup_of_another_one_notices_an_older_one(
    world: World, reads: str
) -> None:
    old = {path: path.read_bytes() for path in world.storage.rglob("*") if path.is_file()}
    with world.phone("other") as other:
        other.recover_with_password(PASSWORD)
        other.create([world.data])
    with world.phone() as phone:
        if reads == "verify":
            phone.verify()
        else:
            phone.restore(world.fresh("target"))
        assert phone.status().generation == 2
        for path in world.storage.glob("qv*/manifests/*"):
            path.unlink()
        for path, content in old.items():
            path.write_bytes(content)
        with pytest.raises(RolledBack):
            phone.verify()
