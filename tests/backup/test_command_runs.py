"""`quorumvault backup` without a terminal: what it prints where, and how it ends."""

from __future__ import annotations

import filecmp
import json
import os
import shutil

import pytest
from grounds import PASSWORD as DAV_PASSWORD
from grounds import S3_KEY, S3_SECRET, USER
from honest_vault import problem
from typer.testing import CliRunner

from quorumvault.backup.digits import read_digits
from quorumvault.backup.keys import Keys
from quorumvault.cli import backup
from quorumvault.cli.exits import Exit, Failure

PASSWORD = "rowing-umbrella-83-tangent"


class Shell:
    """A script's view: no terminal, JSON, a folder for storage."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        self.storage = folder / "cloud"
        self.files = folder / "Photos"
        self.files.mkdir()
        (self.files / "one.jpg").write_bytes(os.urandom(3000))
        (self.files / "zwei \x1b[31m\n.jpg").write_bytes(b"two")
        monkeypatch.setenv("QUORUMVAULT_STORAGE", str(self.storage))
        monkeypatch.delenv("QUORUMVAULT_CONNECTION", raising=False)
        self.device("phone-1")

    def device(self, name: str) -> None:
        self.monkeypatch.setenv("XDG_STATE_HOME", str(self.folder / name))

    def run(self, *arguments, text=False, typed=""):
        output = () if text else ("-o", "json")
        return CliRunner().invoke(backup.app, [*arguments, *output], input=typed)

    def ok(self, *arguments, typed=""):
        result = self.run(*arguments, typed=typed)
        assert result.exception is None, (result.exception, result.output)
        return json.loads(result.stdout)

    def fails(self, *arguments, typed=""):
        """Exit code, and the object on stdout."""
        result = self.run(*arguments, typed=typed)
        code = result.exception.exit_code if isinstance(result.exception, Failure) else None
        return code or result.exit_code, json.loads(result.stdout)

    def with_digits(self):
        self.ok("enable", "--key", "--digits-file", str(self.folder / "digits"))
        return self.folder / "digits"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    return Shell(tmp_path, monkeypatch)


@pytest.fixture
def vaulted(shell, served, monkeypatch):
    monkeypatch.setenv("QUORUMVAULT_CONNECTION", str(served.connection_file()))
    shell.served = served
    return shell


def _enable(shell):
    return shell.ok("enable", "--account", "alice", "--password-file", "-", typed=f"{PASSWORD}\n")


# ---------------------------------------------------------------- a life, by digits


def test_by_digits_a_script_can_do_it_all_and_every_answer_is_one_object(shell):
    digits = shell.with_digits()
    assert digits.stat().st_mode & 0o777 == 0o600
    made = shell.ok("create", str(shell.files), "--exclude", "*.tmp")
    assert (made["generation"], made["files"], made["skipped"]) == (1, 2, [])
    (shell.files / "x.tmp").write_bytes(b"left out")
    again = shell.ok("create")  # the same paths, the same exclusions
    assert (again["generation"], again["files"]) == (2, 2)
    [listed] = shell.ok("list")["backups"]
    assert (listed["generation"], listed["files"], listed["bytes"]) == (2, 2, 3003)
    names = {each["path"] for each in shell.ok("list", "--files")["files"]}
    assert names == {"Photos", "Photos/one.jpg", r"Photos/zwei \x1b[31m\x0a.jpg"}
    assert shell.ok("verify")["files"] == 2
    status = shell.ok("status")
    assert (status["mode"], status["generation"], status["key_present"]) == ("digits", 2, True)
    assert status["paths"] == [str(shell.files)]
    shell.device("phone-2")
    target = shell.folder / "new"
    restored = shell.ok("restore", str(target), "--digits-file", str(digits))
    assert (restored["files"], restored["bytes"]) == (2, 3003)
    assert not filecmp.dircmp(shell.files, target / "Photos", ignore=["x.tmp"]).diff_files
    one = shell.folder / "one"
    assert shell.ok("restore", str(one), "--only", "Photos/one.jpg")["files"] == 1
    assert (one / "Photos" / "one.jpg").read_bytes() == (shell.files / "one.jpg").read_bytes()
    ended = shell.ok("disable", "--delete-copies", "--yes")
    assert (ended["record_deleted"], ended["kept"]) == (False, [])
    assert ended["removed_objects"] == 2
    assert not [each for each in shell.storage.rglob("*") if each.is_file()]


def test_in_text_data_is_on_stdout_talk_on_stderr_and_names_are_harmless(shell):
    shell.with_digits()
    made = shell.run("create", str(shell.files), text=True)
    assert made.stdout == ""
    assert "Backup 1 is complete and verified: 2 files, 2.9 KiB" in made.stderr
    listed = shell.run("list", "--files", text=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == [
        "Photos/",
        "Photos/one.jpg",
        r"\x1b[31m\x0a.jpg",
    ]
    assert "\x1b" not in listed.stdout
    shown = shell.run("status", text=True).stdout
    assert "on, by 64 digits" in shown
    assert "last backup:  " in shown


def test_new_key_makes_new_digits_and_the_old_ones_open_nothing(shell):
    old = shell.with_digits()
    shell.ok("create", str(shell.files))
    new = shell.folder / "new digits"
    made = shell.ok("new-key", "--yes", "--digits-file", str(new))
    assert made["files"] == 2
    assert new.read_text() != old.read_text()
    [folder] = shell.storage.iterdir()
    assert folder.name == Keys.of(read_digits(new.read_text())).folder
    shell.device("phone-2")
    target = shell.folder / "restored"
    assert shell.ok("restore", str(target), "--digits-file", str(new))["files"] == 2


def test_a_new_key_that_is_not_complete_can_be_given_up(shell):
    old = shell.with_digits()
    shell.ok("create", str(shell.files))
    missing = str(shell.folder / "none")
    new = str(shell.folder / "new")
    code, _ = shell.fails("new-key", missing, "--yes", "--digits-file", new)
    assert code == Exit.DENIED
    assert "new key" in shell.ok("status")["unfinished"]
    code, _ = shell.fails("new-key", missing, "--yes", "--digits-file", new)  # the same goes on
    assert code == Exit.DENIED
    assert shell.ok("new-key", "--abandon")["unfinished"] is None
    assert shell.ok("create")["generation"] == 2
    shell.device("phone-2")
    target = shell.folder / "restored"
    assert shell.ok("restore", str(target), "--digits-file", str(old))["files"] == 2


# ---------------------------------------------------------------- storages of other kinds


def test_s3_with_its_secret_in_a_file(shell, s3_server):
    (shell.folder / "secret").write_text(f"{S3_SECRET}\n")
    shell.monkeypatch.setenv("QUORUMVAULT_STORAGE", f"s3://phones/{shell.folder.name}")
    options = [f"key={S3_KEY}", f"secret=@{shell.folder / 'secret'}", f"endpoint_url={s3_server}"]
    given = [word for each in options for word in ("--storage-option", each)]
    digits = str(shell.folder / "digits")
    shell.ok("enable", "--key", "--digits-file", digits, *given)
    assert shell.ok("create", str(shell.files))["files"] == 2
    shell.device("phone-2")
    target = shell.folder / "new"
    assert shell.ok("restore", str(target), "--digits-file", digits, *given)["files"] == 2
    (shell.folder / "secret").unlink()
    code, told = shell.fails("verify")
    assert (code, told["error"]) == (2, "Usage")


def test_webdav_with_its_password_in_a_file(shell, webdav_server):
    (shell.folder / "word").write_text(f"{DAV_PASSWORD}\n")
    host = webdav_server.removeprefix("http://")
    shell.monkeypatch.setenv("QUORUMVAULT_STORAGE", f"webdav://{host}/{shell.folder.name}")
    user = ("--storage-option", f"username={USER}", "--storage-option")
    shell.ok(
        "enable", "--key", "--digits-file", str(shell.folder / "digits"),
        *user, f"password=@{shell.folder / 'word'}",
    )  # fmt: skip
    assert shell.ok("create", str(shell.files))["files"] == 2
    (shell.folder / "word").write_text("another\n")
    result = shell.run("create", str(shell.files))
    assert (result.exception.exit_code, json.loads(result.stdout)["error"]) == (6, "StorageDenied")
    assert DAV_PASSWORD not in result.output
    assert "another" not in result.output


# ---------------------------------------------------------------- a life, by password


def test_by_password_change_switch_and_back(vaulted):
    enabled = _enable(vaulted)
    assert (enabled["mode"], enabled["doubts"]) == ("password", [])
    assert "has lost the backup" in enabled["warning"]
    vaulted.ok("create", str(vaulted.files))
    stored = sorted(vaulted.storage.rglob("*"))
    vaulted.ok("change-password", "--password-file", "-", typed="another-Umbrella-83-lake\n")
    vaulted.device("phone-2")
    guess = ("restore", str(vaulted.folder / "a"), "--account", "alice", "--password-file", "-")
    code, told = vaulted.fails(*guess, typed=f"{PASSWORD}\n")
    assert (code, told["error"], told["guesses_remaining"]) == (6, "WrongPassword", 9)
    assert told["charged"] == "yes"
    assert vaulted.ok(*guess, typed="another-Umbrella-83-lake\n")["files"] == 2
    digits = vaulted.folder / "digits"
    assert vaulted.ok("switch", "--digits-file", str(digits))["mode"] == "digits"
    assert vaulted.served.vault.record.active is None
    vaulted.device("phone-3")
    code, told = vaulted.fails(*guess, typed="another-Umbrella-83-lake\n")
    assert (code, told["error"]) == (7, "NotRegistered")
    assert vaulted.ok("restore", str(vaulted.folder / "b"), "--digits-file", str(digits))
    back = vaulted.ok("switch", "--account", "alice", "--password-file", "-", typed=f"{PASSWORD}\n")
    assert back["mode"] == "password"
    assert sorted(vaulted.storage.rglob("*")) == stored
    ended = vaulted.ok("disable", "--keep-copies", "--yes")
    assert (ended["record_deleted"], ended["removed_objects"]) == (True, 0)
    assert ended["kept"] == [each.name for each in vaulted.storage.iterdir()]
    assert vaulted.served.vault.record.active is None
    assert sorted(vaulted.storage.rglob("*")) == stored


def test_with_three_guesses_left_a_script_must_say_that_it_is_sure(vaulted):
    vaulted.served.vault.rules = type(vaulted.served.vault.rules)(
        vaulted.served.vault.rules.cluster_id, 3
    )
    vaulted.served.vault.limit = 3
    _enable(vaulted)
    vaulted.ok("create", str(vaulted.files))
    vaulted.device("phone-2")
    guess = ("restore", str(vaulted.folder / "a"), "--account", "alice", "--password-file", "-")
    code, told = vaulted.fails(*guess, typed="wrong-Umbrella-83-lake\n")
    assert code == Exit.DENIED
    assert "--yes" in told["message"]
    assert vaulted.ok("status", "--account", "alice", "--guesses")["guesses_remaining"] == 3
    code, told = vaulted.fails(*guess, "--yes", typed="wrong-Umbrella-83-lake\n")
    assert (code, told["guesses_remaining"]) == (Exit.DENIED, 2)


def test_an_unknown_outcome_says_that_the_same_password_repeats_the_same_attempt(vaulted):
    _enable(vaulted)
    vaulted.ok("create", str(vaulted.files))
    vaulted.device("phone-2")

    def lose_the_answer(call, answer):
        reply = answer()
        return None if call.path == "/v1/attempts" else reply

    vaulted.served.vault.interfere = lose_the_answer
    guess = ("restore", str(vaulted.folder / "a"), "--account", "alice", "--password-file", "-")
    code, told = vaulted.fails(*guess, "--timeout", "2", typed=f"{PASSWORD}\n")
    assert code in {Exit.CONNECTION, Exit.TIMEOUT}
    assert told["charged"] == "unknown"
    assert "the same password again repeats the same attempt" in told["message"]
    vaulted.served.vault.interfere = None
    assert vaulted.ok(*guess, typed=f"{PASSWORD}\n")["files"] == 2


def test_a_key_in_the_vault_is_replaced_only_when_told_to(vaulted):
    _enable(vaulted)
    first = vaulted.served.vault.record.active
    vaulted.device("phone-2")
    enable = ("enable", "--account", "alice", "--password-file", "-")
    code, told = vaulted.fails(*enable, typed=f"{PASSWORD}\n")
    assert code == Exit.CONFLICT
    assert "--replace" in told["message"]
    assert vaulted.served.vault.record.active == first
    assert vaulted.ok(*enable, "--replace", typed=f"{PASSWORD}\n")["mode"] == "password"
    assert vaulted.served.vault.record.active != first


def test_no_quorum_ends_with_5(vaulted):
    vaulted.served.vault.interfere = lambda call, answer: (
        problem(503, "no-quorum") if call.path != "/v1/vault" else answer()
    )
    enable = ("enable", "--account", "alice", "--password-file", "-", "--timeout", "2")
    code, told = vaulted.fails(*enable, typed=f"{PASSWORD}\n")
    assert (code, told["reason"]) == (Exit.NO_QUORUM, "no-quorum")


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("enable",), "--password or --key"),
        (("enable", "--key"), "--digits-file"),
        (("enable", "--password"), "--connection"),
        (("enable", "--password", "--account", "x", "--connection", "/nowhere"), "/nowhere"),
        (("enable", "--password-file", "-", "--digits-file", "x"), "exclude"),
        (("enable", "--key", "--storage", "dav://a:b@c/d"), "password"),
        (("enable", "--key", "--storage-option", "secret=x"), "@FILE"),
        (("enable", "--key", "--profile", "../x"), "--profile"),
        (("restore", "x"), "--password-file or --digits-file"),
        (("restore", "x", "--key"), "--digits-file"),
        (("restore", "x", "--digits-file", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(shell, arguments, says):
    code, told = shell.fails(*arguments)
    assert code == Exit.USAGE
    assert says in told["message"]
    assert not (shell.storage / "chunks").exists()


def test_options_that_exclude_each_other_are_refused(shell):
    for arguments in (
        ("enable", "--key", "--password"),
        ("disable", "--delete-copies", "--keep-copies"),
    ):
        result = shell.run(*arguments)
        assert result.exit_code == Exit.USAGE
        assert "exclude" in result.stderr


def test_without_a_storage_it_says_how_to_name_one(shell, monkeypatch):
    monkeypatch.delenv("QUORUMVAULT_STORAGE")
    code, told = shell.fails("create", str(shell.files))
    assert code == Exit.USAGE
    assert "--storage" in told["message"]


@pytest.mark.parametrize(
    "arguments",
    [("create",), ("list",), ("verify",), ("change-password",), ("switch",), ("new-key", "--yes"),
     ("disable", "--keep-copies", "--yes")],
)  # fmt: skip
def test_while_backups_are_off_everything_says_so(shell, arguments):
    code, told = shell.fails(*arguments)
    assert (code, told["error"]) in {(7, "NotEnabled"), (7, "KeyUnknown")}


def test_what_would_destroy_something_needs_yes(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    for arguments in (
        ("disable", "--delete-copies"),
        ("new-key", "--digits-file", str(shell.folder / "n")),
    ):
        code, told = shell.fails(*arguments)
        assert code == Exit.USAGE
        assert "--yes" in told["message"]
    code, told = shell.fails("disable", "--yes")
    assert "--keep-copies" in told["message"]
    assert shell.ok("verify")["files"] == 2


def test_enabling_twice_is_refused_with_the_commands_that_change_it(shell):
    shell.with_digits()
    code, told = shell.fails("enable", "--key", "--digits-file", str(shell.folder / "more"))
    assert (code, told["error"]) == (8, "AlreadyEnabled")
    assert "switch" in told["message"]


def test_a_weak_password_from_a_file_is_refused_before_the_vault_is_asked_to_keep_it(vaulted):
    enable = ("enable", "--account", "alice", "--password-file", "-")
    code, told = vaulted.fails(*enable, typed="alice1234\n")
    assert (code, told["error"]) == (2, "WeakPassword")
    assert told["score"] < 3
    assert vaulted.served.vault.record is None


def test_a_digits_file_that_is_there_is_not_overwritten(shell):
    there = shell.folder / "digits"
    there.write_text("mine")
    code, told = shell.fails("enable", "--key", "--digits-file", str(there))
    assert (code, "already" in told["message"]) == (Exit.USAGE, True)
    assert there.read_text() == "mine"
    there.write_text("00" * 32)
    code, told = shell.fails("enable", "--key", "--digits-file", str(there))
    assert (code, "something else" in told["message"]) == (Exit.USAGE, True)
    assert there.read_text() == "00" * 32
    assert shell.ok("status")["mode"] == "off"


def test_mistyped_digits_of_a_file_are_located(shell):
    digits = shell.with_digits()
    shell.ok("create", str(shell.files))
    text = digits.read_text()
    digits.write_text(("1" if text[0] == "0" else "0") + text[1:])
    shell.device("phone-2")
    code, told = shell.fails("restore", str(shell.folder / "a"), "--digits-file", str(digits))
    assert (code, told["error"], told["positions"]) == (2, "MistypedDigits", [1])


def test_damage_names_the_files_in_json_and_in_text(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    [chunk] = (each for each in shell.storage.glob("qv1-*/chunks/*/*"))
    raw = bytearray(chunk.read_bytes())
    raw[100] ^= 1
    chunk.write_bytes(raw)
    code, told = shell.fails("verify")
    assert (code, told["error"]) == (4, "Damaged")
    assert told["objects"]
    assert any("one.jpg" in each for each in told["files"])
    result = shell.run("verify", text=True)
    assert "damaged: Photos/one.jpg" in result.stderr
    assert "\x1b" not in result.stderr
    code, told = shell.fails("restore", str(shell.folder / "x"))
    assert (code, told["error"]) == (4, "Damaged")
    assert not (shell.folder / "x").exists()


def test_create_that_checks_all_mends_what_is_damaged(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    [chunk] = (each for each in shell.storage.glob("qv1-*/chunks/*/*"))
    chunk.write_bytes(bytes(chunk.stat().st_size))
    assert shell.ok("create", "--check", "all")["uploaded_objects"] == 2
    assert shell.ok("verify")["files"] == 2


def test_another_storage_is_told_and_gets_everything(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    shell.monkeypatch.delenv("QUORUMVAULT_STORAGE")
    result = shell.run("create", "--storage", str(shell.folder / "second"), text=True)
    assert "Another storage than last time" in result.stderr
    assert shell.ok("verify")["files"] == 2  # of the second, which is the profile's now
    assert shell.ok("status")["storage"] == str(shell.folder / "second")
    assert list(shell.storage.glob("qv1-*/manifests/*"))


def test_a_storage_that_went_back_in_time_is_refused_and_can_be_looked_at(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    shutil.copytree(shell.storage, shell.folder / "old")
    (shell.files / "three").write_text("3")
    shell.ok("create")
    shutil.rmtree(shell.storage)
    (shell.folder / "old").rename(shell.storage)
    for command in (("create",), ("verify",), ("restore", str(shell.folder / "x"))):
        code, told = shell.fails(*command)
        assert (code, told["error"]) == (8, "RolledBack")
    [found] = shell.ok("list")["backups"]
    older = ("restore", str(shell.folder / "x"), "--backup", str(found["generation"]))
    assert shell.ok(*older)["files"] == 2


def test_no_key_is_made_for_a_storage_that_does_not_exist(shell):
    digits = shell.folder / "digits"
    enable = ("enable", "--key", "--digits-file", str(digits), "--storage", "nonsense://phone")
    code, told = shell.fails(*enable)
    assert (code, told["error"]) == (3, "StorageError")
    assert "nonsense://" in told["message"]
    assert not digits.exists()
    assert shell.ok("status")["mode"] == "off"


def test_a_mistyped_account_does_not_stand_in_the_way_of_the_right_one(vaulted, monkeypatch):
    _enable(vaulted)
    vaulted.ok("create", str(vaulted.files))
    vaulted.device("phone-2")
    guess = ("restore", str(vaulted.folder / "a"), "--password-file", "-")
    with monkeypatch.context() as elsewhere:  # another account, another shard
        elsewhere.setattr("honest_vault.SHARD", 3)
        elsewhere.setattr(vaulted.served.vault, "record", None)
        code, told = vaulted.fails(*guess, "--account", "alcie", typed=f"{PASSWORD}\n")
        assert (code, told["error"]) == (7, "NotRegistered")
    assert vaulted.ok(*guess, "--account", "alice", typed=f"{PASSWORD}\n")["files"] == 2
    assert vaulted.ok("status", "--guesses")["account"] == "alice"


def test_a_profile_with_a_password_is_of_one_account(vaulted):
    _enable(vaulted)
    code, told = vaulted.fails("status", "--guesses", "--account", "bob")
    assert code == 8
    assert "alice" in told["message"]
    assert "--profile" in told["message"]


def test_a_name_that_is_not_in_the_backup_is_told(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    code, told = shell.fails("restore", str(shell.folder / "x"), "--only", "Photos/none")
    assert (code, told["error"]) == (7, "NotInBackup")
    assert not (shell.folder / "x").exists()


def test_an_empty_storage_has_no_backup(shell):
    shell.with_digits()
    code, told = shell.fails("verify")
    assert code == 7
    assert "check its address, and that its disk is connected" in told["message"]
    assert shell.fails("list")[0] in {0, 7}
    assert shell.fails("restore", str(shell.folder / "x"))[0] == 7


def test_a_symlink_is_named_and_can_be_left_out(shell):
    shell.with_digits()
    (shell.files / "link").symlink_to("/etc/passwd")
    code, told = shell.fails("create", str(shell.files))
    assert (code, told["error"]) == (2, "SourceRefused")
    assert "link" in told["message"]
    made = shell.ok("create", str(shell.files), "--skip-unreadable")
    assert len(made["skipped"]) == 1
    assert shell.ok("create")["skipped"] == made["skipped"]
    assert shell.ok("status")["skip_unreadable"]
    assert "what can't be read" in shell.run("status", text=True).stdout


def test_an_unreadable_file_stops_the_backup(shell):
    if os.geteuid() == 0:
        code, told = _without_rights(shell)
    else:
        shell.with_digits()
        (shell.files / "one.jpg").chmod(0)
        code, told = shell.fails("create", str(shell.files))
    assert (code, told["error"]) == (6, "SourceUnreadable")


def _without_rights(shell):
    """Root reads everything; a name that is not there is as unreadable."""
    shell.with_digits()
    return shell.fails("create", str(shell.folder / "not there"))


def test_a_target_with_something_in_it_is_not_touched(shell):
    shell.with_digits()
    shell.ok("create", str(shell.files))
    target = shell.folder / "full"
    (target / "Photos").mkdir(parents=True)
    (target / "Photos" / "one.jpg").write_bytes(b"mine")
    code, told = shell.fails("restore", str(target))
    assert (code, told["error"]) == (8, "TargetExists")
    assert (target / "Photos" / "one.jpg").read_bytes() == b"mine"


def test_a_storage_that_is_a_file_is_told(shell):
    shell.with_digits()
    (shell.folder / "file").write_text("x")
    code, told = shell.fails("create", str(shell.files), "--storage", str(shell.folder / "file"))
    assert code in {2, 3, 6}
    assert "file" in told["message"]


# ---------------------------------------------------------------- secrets


def test_no_password_digits_or_option_secret_is_in_what_is_printed_or_kept(vaulted, tmp_path):
    shown = [
        vaulted.run(
            "enable", "--account", "alice", "--password-file", "-", typed=f"{PASSWORD}\n"
        ).output,
        vaulted.run("create", str(vaulted.files), text=True).output,
        vaulted.run("status", text=True).output,
        vaulted.run("switch", "--digits-file", str(tmp_path / "digits")).output,
        vaulted.run("restore", str(tmp_path / "r"), text=True).output,
    ]
    digits = "".join((tmp_path / "digits").read_text().split())
    state = tmp_path / "phone-1"
    kept = [each for each in state.rglob("*") if each.is_file() and "key" not in each.name]
    assert kept
    texts = [*(each.encode() for each in shown), *(each.read_bytes() for each in kept)]
    needles = (PASSWORD.encode(), digits.encode(), digits[:16].encode(), bytes.fromhex(digits))
    for text in texts:
        assert not [each for each in needles if each in text]
