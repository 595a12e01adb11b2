"""`quorumvault backup` as a person meets it: the real command on a terminal."""

from __future__ import annotations

import filecmp
import re

import pytest
from honest_vault import HonestVault
from served_vault import Served
from terminal import CTRL_C, Terminal

PASSWORD = "rowing-umbrella-83-tangent"
GROUPS = re.compile(r"(?:[0-9a-f]{4} ){3}[0-9a-f]{4}")


class Person:
    """Somebody with files, a storage, and one phone after the other."""

    def __init__(self, served: Served, folder) -> None:
        self.served = served
        self.folder = folder
        self.storage = folder / "cloud"
        self.environment = {
            "QUORUMVAULT_CONNECTION": str(served.connection_file()),
            "QUORUMVAULT_STORAGE": str(self.storage),
            "XDG_STATE_HOME": str(folder / "phone-1"),
        }
        self.files = folder / "Messages"
        (self.files / "voice").mkdir(parents=True)
        (self.files / "msgstore.db").write_bytes(b"hello " * 5000)
        (self.files / "voice" / "note 1.opus").write_bytes(bytes(range(256)) * 40)

    def at(self, *arguments: str, columns: int = 100, **environment: str) -> Terminal:
        return Terminal(
            "backup", *arguments, columns=columns, **{**self.environment, **environment}
        )

    def new_phone(self) -> None:
        self.environment["XDG_STATE_HOME"] = str(self.folder / "phone-2")

    def create(self) -> None:
        with self.at("create", str(self.files)) as screen:
            screen.expect("is complete and verified: 2 files")
            assert screen.end() == 0

    def same(self, target) -> bool:
        compared = filecmp.dircmp(self.files, target / "Messages")
        assert not compared.left_only
        assert not compared.right_only
        pairs = ["msgstore.db", "voice/note 1.opus"]
        equal, *_ = filecmp.cmpfiles(self.files, target / "Messages", pairs, shallow=False)
        return equal == pairs


@pytest.fixture
def person(served, tmp_path):
    return Person(served, tmp_path)


def test_a_password_is_chosen_typed_twice_and_opens_the_backup_on_a_new_phone(person):
    with person.at("enable", "--account", "alice") as screen:
        screen.expect("How is the backup's key to be locked?")
        screen.expect("Which (password or key): ")
        screen.type("pass")
        screen.expect("has lost the backup")
        screen.hidden("New password: ", "alice2026")
        screen.expect("too easy to guess")
        screen.hidden("New password: ", PASSWORD)
        screen.expect("strong")
        screen.hidden("The same again: ", "something else")
        screen.expect("not the same")
        screen.hidden("New password: ", PASSWORD)
        screen.hidden("The same again: ", PASSWORD)
        screen.expect("Backups are on, by password.")
        assert screen.end() == 0
        assert PASSWORD not in screen.screen
    person.create()
    person.new_phone()
    target = person.folder / "Restored"
    with person.at("restore", str(target), "--account", "alice") as screen:
        screen.expect("Which (password or key): ")
        screen.type("password")
        screen.hidden("Password: ", "wrong-umbrella-83-tangent")
        screen.expect("9 guesses remain")
        screen.hidden("Password: ", PASSWORD)
        screen.expect("is restored: 2 files")
        assert screen.end() == 0
        assert PASSWORD not in screen.screen
    assert person.same(target)


def _digits(shown: str) -> list[str]:
    found = GROUPS.findall(shown)
    assert len(found) == 4
    return found


def _mistyped(lines: list[str], at: int) -> list[str]:
    """One digit of the first line is another."""
    wrong = lines[0][:at] + ("0" if lines[0][at] != "0" else "1") + lines[0][at + 1 :]
    return [wrong, *lines[1:]]


def test_64_digits_are_typed_back_a_slip_is_located_and_the_vault_sees_nothing(person):
    with person.at("enable", "--key") as screen:
        lines = _digits(screen.expect("Type them back"))
        assert "█" in screen.screen
        for line in _mistyped(lines, 7):  # "0123 4x67 …": the third digit of group 2
            screen.expect(": ")
            screen.type(line)
        screen.expect("group 2, digit 3 is wrong")
        screen.expect(f"  {lines[0]}\n         ^\n")
        screen.expect("Digits: ")
        screen.type("-".join(lines).upper())
        screen.expect("Clear them off the screen? [y/N]: ")
        screen.type("y")
        screen.expect("Backups are on, by digits.")
        assert screen.end() == 0
        assert "\x1b[2J" in screen.raw
    person.create()
    person.new_phone()
    target = person.folder / "Restored"
    with person.at("restore", str(target), "--key") as screen:
        screen.expect("Digits: ")
        screen.type(" ".join(_mistyped(lines, 7)))
        screen.expect("group 2, digit 3 is wrong")
        screen.expect("Digits: ")
        screen.type(" ".join(lines))
        screen.expect("is restored: 2 files")
        assert screen.end() == 0
    assert person.same(target)
    assert person.served.tokens == []
    assert person.served.vault.calls == []


@pytest.fixture
def few(tmp_path, tmp_path_factory):
    """A vault that allows three guesses."""
    served = Served(HonestVault(limit=3), tmp_path_factory.mktemp("vault"))
    served.start()
    yield Person(served, tmp_path)
    served.stop()


def test_before_the_last_guesses_it_asks_to_think_and_a_no_costs_nothing(few):
    with few.at("enable", "--password", "--account", "alice") as screen:
        screen.hidden("New password: ", PASSWORD)
        screen.hidden("The same again: ", PASSWORD)
        assert screen.end() == 0
    few.create()
    few.new_phone()
    target = few.folder / "Restored"
    with few.at("restore", str(target), "--password", "--account", "alice") as screen:
        screen.expect("3 guesses remain; at 0 the key is destroyed for ever")
        screen.expect("Try a password now? [y/N]: ")
        screen.type("y")
        screen.hidden("Password: ", "wrong-umbrella-83-tangent")
        screen.expect("2 guesses remain; at 0 the key is destroyed for ever")
        screen.expect("Try a password now? [y/N]: ")
        screen.type("")
        screen.expect("nothing was tried")
        assert screen.end() == 130
    assert not target.exists()
    with few.at("status", "--guesses", "--account", "alice") as screen:
        screen.expect("guesses left: 2")
        assert screen.end() == 0


def test_ctrl_c_at_a_question_ends_it_with_130_and_says_what_comes_next(person):
    with person.at("enable", "--password", "--account", "alice") as screen:
        screen.expect("New password: ")
        screen.press(CTRL_C)
        screen.expect("\nquorumvault: stopped. The same command")
        assert screen.end() == 130
        assert "Traceback" not in screen.screen
    assert person.served.vault.record is None


def test_a_message_is_broken_between_words(person):
    with person.at("create", str(person.files), columns=60) as screen:
        screen.expect("on this device: `quorumvault\nbackup enable` first")
        assert screen.end() == 7


def test_a_key_of_another_phone_in_the_vault_is_not_destroyed_unasked(person):
    with person.at("enable", "--password", "--account", "alice") as screen:
        screen.hidden("New password: ", PASSWORD)
        screen.hidden("The same again: ", PASSWORD)
        assert screen.end() == 0
    record = person.served.vault.record
    person.new_phone()
    with person.at("enable", "--password", "--account", "alice") as screen:
        screen.expect("The vault keeps a key for this account already")
        screen.expect("Destroy it? [y/N]: ")
        screen.type("n")
        assert screen.end() == 130
    assert person.served.vault.record == record


def test_a_narrow_terminal_without_colours_has_no_colours_and_the_digits_whole(person):
    with person.at("enable", "--key", columns=30, NO_COLOR="1") as screen:
        shown = screen.expect("Digits: ")
        lines = _digits(shown)
        assert "narrow" in screen.screen
        assert max(len(row) for row in shown.splitlines()) <= 30, "a word is cut at the edge"
        screen.type(" ".join(lines))
        screen.expect("[y/N]: ")
        screen.type("")
        assert screen.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*m", screen.raw)
    with person.at("create", str(person.files), columns=30, NO_COLOR="1") as screen:
        assert screen.end() == 0
        assert not re.search(r"\x1b\[(?:3|4|9)[0-9;]*m", screen.raw)


def test_ctrl_c_in_a_long_backup_ends_it_where_the_same_command_goes_on(person):
    with person.at("enable", "--key", "--digits-file", str(person.folder / "digits")) as screen:
        assert screen.end() == 0
    video = person.files / "video.mp4"
    with video.open("wb") as file:
        file.truncate(64 << 30)  # holes: no disk, but a minute's work
    with person.at("create", str(person.files)) as screen:
        screen.expect("Uploading")
        screen.expect("iB/s")
        screen.press(CTRL_C)
        screen.expect("Stopping ...")
        screen.expect("stopped. The older backup is whole. The same command uploads only what")
        assert screen.end() == 130
        assert "Traceback" not in screen.screen
    video.unlink()
    person.create()


def test_after_the_last_guess_it_says_what_is_lost_and_asks_for_no_other(few):
    with few.at("enable", "--password", "--account", "alice") as screen:
        screen.hidden("New password: ", PASSWORD)
        screen.hidden("The same again: ", PASSWORD)
        assert screen.end() == 0
    few.create()
    few.new_phone()
    target = str(few.folder / "Restored")
    with few.at("restore", target, "--password", "--account", "alice", columns=300) as screen:
        for _ in range(3):
            screen.expect("Try a password now? [y/N]: ")
            screen.type("y")
            screen.hidden("Password: ", "wrong-umbrella-83-tangent")
        screen.expect("wrong password; all guesses are used, and the vault destroys the key")
        assert screen.end() == 6
    with few.at("restore", target, "--password", "--account", "alice", columns=300) as screen:
        screen.expect("no device that still knows it has lost the backup")
        assert "[y/N]" not in screen.screen
        assert screen.end() == 6
    with few.at("status", "--guesses", "--account", "alice", columns=300) as screen:
        screen.expect("guesses left: 0; all guesses are used")
        assert screen.end() == 0
