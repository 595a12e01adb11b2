"""`quorumvault backup`: exit codes, the profile's settings, the QR code, bars; no process."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import stat
import sys
import threading

import pytest
import segno
import typer
from rich.console import Console

from quorumvault import errors as vault_errors
from quorumvault.backup import errors
from quorumvault.cli import (
    backup_ask,
    backup_exits,
    backup_profile,
    backup_qr,
    backup_show,
    record_reach,
)
from quorumvault.cli.backup_profile import Settings
from quorumvault.cli.exits import Exit

DIGITS = "0123 4567 89ab cdef\n" * 3 + "fedc ba98 7654 3210"

# ---------------------------------------------------------------- how it ends

ENDS = {
    errors.WrongKey: 6,
    errors.NoBackup: 7,
    errors.Damaged: 4,
    errors.FutureVersion: 8,
    errors.RolledBack: 8,
    errors.AnotherWriter: 8,
    errors.StorageUnreachable: 3,
    errors.StorageDenied: 6,
    errors.StorageFull: 4,
    errors.NotThere: 3,
    errors.StorageError: 3,
    errors.SourceUnreadable: 6,
    errors.SourceChanged: 4,
    errors.SourceRefused: 2,
    errors.TargetExists: 8,
    errors.TargetRefused: 6,
    errors.NameNotPossible: 4,
    errors.NoSpace: 4,
    errors.KeyUnknown: 7,
    errors.NotEnabled: 7,
    errors.NotInBackup: 7,
    errors.AlreadyEnabled: 8,
    errors.InUse: 8,
    errors.DeviceStateError: 8,
    errors.WeakPassword: 2,
    errors.MistypedDigits: 2,
    errors.Cancelled: 130,
}
"""Design: what a script is told."""
BASES = {errors.BackupError, errors.SourceError, errors.TargetError}
"""Never raised themselves."""


def _make(kind):
    return kind("what happened", score=1) if kind is errors.WeakPassword else kind("what happened")


def test_the_table_has_every_error_of_the_library():
    assert set(ENDS) == {getattr(errors, name) for name in errors.__all__} - BASES


@pytest.mark.parametrize("kind", ENDS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_exit_code(kind):
    assert backup_exits.exit_code(_make(kind)) == Exit(ENDS[kind])


def test_errors_of_the_vault_end_as_they_do_for_record():
    assert backup_exits.exit_code(vault_errors.WrongPassword(3, verified=True)) == Exit.DENIED
    away = vault_errors.Unavailable("x", reason="no-quorum", charged="no")
    assert backup_exits.exit_code(away) == Exit.NO_QUORUM


@pytest.mark.parametrize(
    ("error", "tells"),
    [
        (
            errors.Damaged("m", objects=("a",), files=("b", "c")),
            {"objects": ["a"], "files": ["b", "c"]},
        ),
        (errors.WeakPassword("m", score=1, advice=("x",)), {"score": 1, "advice": ["x"]}),
        (errors.MistypedDigits("m", positions=(3, 9)), {"positions": [3, 9]}),
        (
            vault_errors.WrongPassword(2, verified=False),
            {"guesses_remaining": 2, "verified": False, "charged": "yes"},
        ),
        (
            vault_errors.Unavailable("m", reason="busy", charged="unknown", retry_after=2.0),
            {"reason": "busy", "retry_after": 2.0, "charged": "unknown"},
        ),
    ],
)
def test_json_tells_what_an_error_knows(error, tells):
    told = json.loads(json.dumps(backup_exits.facts(error)))
    assert told["error"] == type(error).__name__
    assert told["message"] == str(error)
    assert {name: told[name] for name in tells} == tells


def test_a_message_is_one_line_without_control_characters():
    assert backup_exits.one_line("a\nb\x1b[31mc\x07\udc80") == "a b?[31mc??"


# ---------------------------------------------------------------- what the profile keeps


def test_settings_come_back_as_they_were_whatever_bytes_a_path_has(tmp_path):
    profile = tmp_path / "a" / "b"
    kept = Settings(storage="s3://x", paths=("/x/\udcff", "/ü"), exclude=("*.tmp",), account="bob")
    backup_profile.save(profile, kept)
    assert backup_profile.load(profile) == kept
    assert stat.S_IMODE(profile.stat().st_mode) == 0o700
    assert stat.S_IMODE((profile / "app-settings.json").stat().st_mode) == 0o600
    assert [each.name for each in profile.iterdir()] == ["app-settings.json"]


def test_a_new_profile_has_nothing(tmp_path):
    assert backup_profile.load(tmp_path / "none") == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"paths": 5}', "damaged"),
        ('{"format": "x"}', "damaged"),
        ("\xff", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"format": 2}', "newer version"),
    ],
)
def test_a_profile_that_cannot_be_read_is_told_with_its_file(tmp_path, text, says):
    path = tmp_path / "app-settings.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(errors.DeviceStateError, match=says) as told:
        backup_profile.load(tmp_path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 65, "-x"])
def test_a_profile_has_a_name_that_is_no_path(name):
    with pytest.raises(typer.BadParameter, match="--profile"):
        backup_profile.folder(name)


def test_a_disk_that_refuses_leaves_the_settings_as_they_were(tmp_path, monkeypatch):
    backup_profile.save(tmp_path, Settings(account="old"))

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(errors.DeviceStateError, match="No space left"):
        backup_profile.save(tmp_path, Settings(account="new"))
    assert backup_profile.load(tmp_path).account == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["app-settings.json"]


# ---------------------------------------------------------------- options of the storage


def test_options_of_the_storage_are_words_or_json_and_secrets_come_from_files(tmp_path):
    (tmp_path / "word").write_text("12345\n")
    (tmp_path / "pair").write_text('["bob", "pa\\u0073s"]\n')
    given = [
        "anon:=false",
        "region=eu-west-1",
        'client_kwargs:={"endpoint_url": "http://author.example"}',
        f"secret=@{tmp_path / 'word'}",
        f"auth:=@{tmp_path / 'pair'}",
    ]
    kept = backup_profile.storage_options(given)
    assert "12345" not in str(kept)
    assert backup_profile.option_values(kept) == {
        "anon": False,
        "region": "eu-west-1",
        "client_kwargs": {"endpoint_url": "http://author.example"},
        "secret": "12345",
        "auth": ["bob", "pass"],
    }


@pytest.mark.parametrize(
    "given",
    [
        "secret=hunter2",
        "aws_secret_access_key=hunter2",
        "PASSWORD=hunter2",
        'auth:=["bob", "hunter2"]',
        'x:={"deep": {"password": "hunter2"}}',
        'client_kwargs:={"aws_secret_access_key": "hunter2"}',
        "token=hunter2",
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(given):
    with pytest.raises(typer.BadParameter, match="@FILE") as told:
        backup_profile.storage_options([given])
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("given", ["word", "=x", ":=5", "a b=c"])
def test_an_option_of_the_storage_has_a_name_and_a_value(given):
    with pytest.raises(typer.BadParameter, match="KEY=TEXT"):
        backup_profile.storage_options([given])


def test_a_file_of_an_option_that_is_not_there_is_named(tmp_path):
    kept = backup_profile.storage_options([f"secret=@{tmp_path}/none"])
    with pytest.raises(typer.BadParameter, match=r"--storage-option secret .*none"):
        backup_profile.option_values(kept)


def test_a_file_of_an_option_that_is_no_text_is_not_quoted(tmp_path):
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    with pytest.raises(typer.BadParameter, match="not UTF-8") as told:
        backup_profile.option_values(backup_profile.storage_options([f"secret=@{tmp_path}/binary"]))
    assert "hunter2" not in str(told.value)


def test_a_url_with_a_password_is_refused_and_not_repeated():
    with pytest.raises(typer.BadParameter, match="password") as told:
        backup_profile.check_url("webdav://bob:hunter2@example.org/x")
    assert "hunter2" not in str(told.value)
    backup_profile.check_url("webdav://bob@example.org/x")
    backup_profile.check_url("/mnt/stick")


# ---------------------------------------------------------------- the QR code


def _terminal(*, width=80, colour=False, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(
        file=file, width=width, force_terminal=True, no_color=not colour,
        color_system="standard" if colour else None,
    )  # fmt: skip


def _scanned(lines):
    """What a camera sees: True is light."""
    light = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    rows = []
    for line in lines:
        pairs = [light[each] for each in line]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    return rows


@pytest.mark.parametrize("colour", [False, True])
def test_the_qr_code_is_that_of_the_64_digits_with_a_light_edge(colour):
    *lines, empty = backup_qr.qr_lines(DIGITS, _terminal(colour=colour))
    assert empty == ""
    assert all(("\x1b[" in line) is colour for line in lines)
    seen = _scanned([re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines])
    wanted = segno.make("".join(DIGITS.split()).upper(), error="l", micro=False)
    rows = [[int(not dark) for dark in row] for row in wanted.matrix_iter(border=2)]
    assert seen[: len(rows)] == rows
    assert all(all(row) for row in seen[len(rows) :])
    assert len(lines) < 24


@pytest.mark.parametrize(
    ("terminal", "says"),
    [(_terminal(width=20), "narrow"), (_terminal(encoding="latin-1"), "character set")],
)
def test_a_terminal_that_cannot_show_the_qr_code_says_why(terminal, says):
    assert says in " ".join(backup_qr.qr_lines(DIGITS, terminal))


# ---------------------------------------------------------------- bars and figures


@pytest.mark.parametrize(("width", "has_size"), [(100, True), (40, False)])
def test_bars_fit_the_terminal_and_leave_nothing_behind(width, has_size):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    with backup_show.Bars(console) as bars:
        bars.phase("upload", 1000)
        bars.advance(400)
        bars._drawn.refresh()
        shown = console.file.getvalue()
        bars.phase("check", None)
        bars.advance(10)
    assert "Uploading" in shown
    assert "40%" in shown
    assert ("400 B of 1000 B" in shown) is has_size
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")
    assert max(len(line) for line in lines) <= width
    assert bars.moved == {"upload": 400, "check": 10}
    assert console.file.getvalue().endswith("\x1b[2K")


def test_without_a_terminal_no_bar_is_drawn():
    console = Console(file=io.StringIO(), force_terminal=False)
    with backup_show.Bars(console) as bars:
        bars.phase("restore", 10)
        bars.advance(10)
    assert console.file.getvalue() == ""
    assert bars.moved == {"restore": 10}


def test_sizes_and_times_are_for_people():
    assert [backup_show.size(n) for n in (0, 1023, 1536, 1 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
    ]
    assert backup_show.plural(1, "file") == "1 file"
    assert backup_show.plural(12345, "file") == "12,345 files"
    assert backup_show.moment(1e300).startswith("@1")


def test_the_first_ctrl_c_asks_the_work_to_stop():
    before = signal.getsignal(signal.SIGINT)
    with backup_show.stoppable(Console(file=io.StringIO())) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_the_process_even_while_threads_wait_for_a_provider(second):
    child = os.fork()
    if not child:
        threading.Thread(target=threading.Event().wait).start()  # joined at an orderly end
        with backup_show.stoppable(Console(file=io.StringIO())):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(second)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == Exit.CANCELLED


def test_a_long_list_is_one_json_object(capsys):
    backup_show.list_stream("files", ({"n": n} for n in range(3)))
    assert json.loads(capsys.readouterr().out) == {"files": [{"n": 0}, {"n": 1}, {"n": 2}]}
    backup_show.list_stream("files", ())
    assert json.loads(capsys.readouterr().out) == {"files": []}


def test_a_name_that_stdout_cannot_show_is_escaped(monkeypatch):
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding="ascii"))
    backup_show.print_line("Zoë")
    sys.stdout.flush()
    assert held.getvalue() == b"Zo\\xeb\n"


def _broken_off(rows):
    yield from ({"n": n} for n in range(rows))
    raise errors.Damaged("cut off", objects=("x",))


def test_a_list_that_breaks_off_is_one_object_that_says_so(capsys):
    with pytest.raises(backup_exits.Told, match="cut off") as ended:
        backup_show.list_stream("files", _broken_off(2))
    assert ended.value.exit_code == Exit.DEGRADED
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [{"n": 0}, {"n": 1}]
    assert (told["error"], told["objects"]) == ("Damaged", ["x"])


def test_a_list_that_never_begins_writes_nothing_itself(capsys):
    with pytest.raises(errors.Damaged):
        backup_show.list_stream("files", _broken_off(0))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "option",
    ["account_key=x", "connection_string=x", "passphrase=x", "pwd=x", 'kwargs:={"api_key": "x"}'],
)
def test_options_that_hold_a_secret_come_from_a_file_only(option):
    with pytest.raises(typer.BadParameter, match="can be read by others"):
        backup_profile.storage_options([option])


def test_a_command_that_holds_secrets_leaves_no_core_and_asks_not_for_a_guess_that_is_refused(
    capsys, monkeypatch
):
    record_reach.leave_no_core()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    asked = []
    monkeypatch.setattr(backup_ask, "confirmed", lambda question: asked.append(question) or True)
    backup_ask.think_first(0, can_ask=True, yes=False)
    assert asked == ["Repeat that guess now?"]
    assert "the last one of this device got no answer" in " ".join(capsys.readouterr().err.split())
