"""A provider lays down names with large numbers: no device is ever led to miss its backups."""

from __future__ import annotations

from pathlib import Path

import pytest
from phones import World, whole

from quorumvault.backup.create import Made
from quorumvault.backup.errors import RolledBack
from quorumvault.backup.keys import MAX_GENERATION, Keys


def manifests(world: World) -> Path:
    key = world.key()
    assert key is not None
    return world.storage / Keys.of(key).folder / "manifests"


def forge(world: World, generation: int) -> Path:
    path = manifests(world) / f"{generation:016x}-{'ab' * 16}"
    path.write_bytes(b"")
    return path


def enabled(world: World) -> str:
    with world.phone() as phone:
        digits = phone.make_digits()
        phone.enable_with_digits(digits)
        phone.create([world.data])
    return digits


def create(world: World, name: str = "phone") -> Made:
    with world.phone(name) as phone:
        return phone.create([world.data])


@pytest.mark.parametrize("generation", [1, 5, 2**62 - 1, 2**62, MAX_GENERATION])
def test_backups_go_on_after_a_forged_number_and_are_counted(ground: Path, generation: int) -> None:
    world = World(ground)
    enabled(world)
    last = 1
    for _ in range(3):
        forge(world, generation)
        made = create(world)
        assert made.generation > last
        last = made.generation
        assert len(list(manifests(world).iterdir())) == 1
    with world.phone() as phone:
        assert whole(phone)


@pytest.mark.parametrize("generation", [9, 2**62 - 1, MAX_GENERATION])
def test_a_new_phone_remembers_no_number_that_is_only_a_name(ground: Path, generation: int) -> None:
    world = World(ground)
    digits = enabled(world)
    forged = forge(world, generation)
    with world.phone("new") as phone:
        assert phone.recover_with_digits(digits).generation == 1
        forged.unlink()
        assert whole(phone)
    assert create(world, "new").generation == 2


def test_a_forged_number_does_not_make_a_phone_forget_the_one_that_it_knows(ground: Path) -> None:
    world = World(ground)
    digits = enabled(world)
    (old,) = manifests(world).iterdir()
    kept = old.read_bytes()
    create(world)
    for path in manifests(world).iterdir():
        path.unlink()
    old.write_bytes(kept)
    forge(world, 7)
    with world.phone() as phone, pytest.raises(RolledBack, match="shows backup 1 as the newest"):
        phone.recover_with_digits(digits)
