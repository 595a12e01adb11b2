"""`quorumvault record`: what it prints where, and how it ends."""

from __future__ import annotations

import json

import pytest
from honest_vault import problem
from typer.testing import CliRunner

from engines.encoding import b64u_decode, b64u_encode
from quorumvault import errors
from quorumvault.cli import record
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.vault_exits import exit_code


class Shell:
    def __init__(self, served, folder, monkeypatch):
        self.served, self.folder = served, folder
        monkeypatch.setenv("QUORUMVAULT_CONNECTION", str(served.connection_file()))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "xdg"))
        monkeypatch.setenv("NO_COLOR", "1")

    def run(self, *arguments, password="right"):  # noqa: S107
        command = [arguments[0], "--account", "alice", "-o", "json", *arguments[1:]]
        if arguments[0] in {"register", "recover"}:
            command += ["--password-file", "-"]
        return CliRunner().invoke(record.app, command, input=f"{password}\n")

    def code(self, *arguments, password="right"):  # noqa: S107
        error = self.run(*arguments, password=password).exception
        assert isinstance(error, Failure), error
        return error.exit_code


@pytest.fixture
def shell(served, tmp_path, monkeypatch):
    return Shell(served, tmp_path, monkeypatch)


def test_register_recover_status_delete(shell):
    registered = json.loads(shell.run("register").stdout)
    assert registered["confirmed"] is True
    assert len(b64u_decode(registered["backup_key"])) == 32
    recovered = json.loads(shell.run("recover").stdout)
    assert recovered == {"backup_key": registered["backup_key"]}
    status = json.loads(shell.run("status").stdout)
    assert (status["state"], status["guesses_remaining"]) == ("active", 10)
    assert json.loads(shell.run("delete", "--yes").stdout) == {"state": "none"}
    assert shell.code("recover") == Exit.NOT_FOUND


def test_in_text_only_the_key_is_on_stdout(shell):
    key = b64u_encode(b"my own key")
    (shell.folder / "key").write_text(key + "\n")
    result = shell.run("register", "-o", "text", "--key-file", str(shell.folder / "key"))
    assert result.stdout == key + "\n"
    assert "Registered" in result.stderr
    assert shell.run("recover", "-o", "text").stdout == key + "\n"
    assert "state: active" in shell.run("status", "-o", "text").stdout


def test_a_second_registration_destroys_a_key_only_when_told_to(shell):
    first = json.loads(shell.run("register").stdout)["backup_key"]
    assert shell.code("register") == Exit.CONFLICT
    assert json.loads(shell.run("recover").stdout)["backup_key"] == first
    second = json.loads(shell.run("register", "--replace").stdout)["backup_key"]
    assert second != first
    assert json.loads(shell.run("recover").stdout)["backup_key"] == second


def test_a_wrong_password_says_what_remains_and_ends_with_6(shell):
    shell.run("register")
    result = shell.run("recover", password="wrong")
    assert result.exception.exit_code == Exit.DENIED
    told = json.loads(result.stdout)
    assert told["error"] == "WrongPassword"
    assert told["guesses_remaining"] == 9
    assert told["charged"] == "yes"
    assert "9 guesses remain" in str(result.exception)


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        (423, "locked", Exit.DENIED),
        (401, "token", Exit.DENIED),
        (404, "not-registered", Exit.NOT_FOUND),
        (409, "superseded", Exit.CONFLICT),
        (400, "malformed", Exit.UNEXPECTED),
    ],
)
def test_every_final_refusal_has_its_exit_code(shell, status, code, ends):
    shell.served.vault.interfere = lambda call, answer: (
        problem(status, code) if call.path == "/v1/attempts" else answer()
    )
    assert shell.code("recover") == ends


def test_no_connection_ends_with_3(shell):
    for node in range(1, 6):
        shell.served.kill(node)
    assert shell.code("status", "--timeout", "2.5") == Exit.CONNECTION


def test_no_quorum_ends_with_5_and_says_that_nothing_was_counted(shell):
    shell.served.vault.interfere = lambda call, answer: (
        problem(503, "no-quorum") if call.path == "/v1/attempts" else answer()
    )
    result = shell.run("recover", "--timeout", "3")
    assert result.exception.exit_code == Exit.NO_QUORUM
    assert json.loads(result.stdout)["charged"] == "no"


@pytest.mark.parametrize(
    ("reason", "ends"),
    [
        ("unreachable", Exit.CONNECTION),
        ("timeout", Exit.TIMEOUT),
        ("no-quorum", Exit.NO_QUORUM),
        ("hsm-unavailable", Exit.NO_QUORUM),
        ("ledger-full", Exit.DEGRADED),
        ("draining", Exit.DEGRADED),
        ("busy", Exit.DEGRADED),
    ],
)
def test_every_reason_of_unavailability_has_its_exit_code(reason, ends):
    assert exit_code(errors.Unavailable("x", reason=reason, charged="no")) == ends


def test_every_error_of_the_sdk_has_an_exit_code():
    for kind in errors.VaultError.__subclasses__():
        if kind not in {errors.WrongPassword, errors.Unavailable}:
            assert exit_code(kind("x")) in Exit


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status"], "--account"),
        (["status", "--endpoint", "https://x"], "--ca"),
        (["recover", "--account", "a"], "--password-file"),
        (["recover", "--account", "a", "--password-file", "/nowhere"], "/nowhere"),
        (["recover", "--account", "a", "--password-file", "/dev/null"], "password"),
        (["delete", "--account", "a"], "--yes"),
        (["register", "--account", "a", "--resume", "--abandon"], "exclude"),
        (["register", "--account", "a", "--resume"], "no interrupted"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(shell, arguments, says):
    assert shell.folder.exists()
    result = CliRunner().invoke(record.app, arguments)
    assert result.exit_code == Exit.USAGE
    assert says in result.stderr


def test_a_broken_connection_file_is_usage(shell, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{}")
    assert shell.code("status", "--connection", str(path)) == Exit.USAGE
    assert shell.code("status", "--connection", str(tmp_path / "none")) == Exit.USAGE


def test_endpoint_and_token_file_work_without_the_tenants_key(shell, served):
    from quorumvault import connection

    token = connection.load(served.folder / "connection.json").token("alice")
    (shell.folder / "token").write_text(token)
    command = ["status", "-o", "json", "--ca", str(served.ca)]
    command += ["--token-file", str(shell.folder / "token")]
    for url in served.urls.values():
        command += ["--endpoint", url]
    assert json.loads(CliRunner().invoke(record.app, command).stdout)["state"] == "none"


def test_the_state_file_names_no_account(shell):
    shell.run("register")
    names = [p.name for p in (shell.folder / "xdg").rglob("*")]
    assert names
    assert not [name for name in names if "alice" in name]
