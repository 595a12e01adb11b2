"""What a node's configuration comes to is shown with where each value is from, and comes back."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from node_toml import node_toml
from typer.testing import CliRunner

from node.config import load
from quorumvault.cli import config
from quorumvault.cli.exits import Exit, Failure

FILE = node_toml(
    """[limits]
body_bytes = 9000
[peers]
2 = "10.0.0.2:7443"
[[tenants]]
iss = "two"
kid = "2026"
alg = "EdDSA"
public_key_file = "tenant.pem"
""",
    node_id=7,
    data_dir='a "quoted" \\ \u00e9\U0001f511 folder',
    iss="one",
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "tenant.pem").write_bytes(pem)
    (tmp_path / "pin").write_text("a secret PIN")
    (tmp_path / "node.toml").write_text(FILE)
    monkeypatch.setenv("QUORUMVAULT_LOG_LEVEL", "debug")
    monkeypatch.setenv("QUORUMVAULT_PEERS_3", "proxy:1")
    return tmp_path / "node.toml"


def run(*arguments):
    return CliRunner().invoke(config.app, [str(each) for each in arguments])


def test_the_effective_configuration_comes_to_the_same_elsewhere(file, tmp_path):
    (tmp_path / "other").mkdir()
    shown = run("show", "--config", file, "--effective")
    assert shown.exit_code == 0
    other = tmp_path / "other" / "node.toml"
    other.write_text(shown.stdout)
    assert load(other, {}) == load(file)
    assert 'level = "debug"  # environment QUORUMVAULT_LOG_LEVEL\n' in shown.stdout
    assert "body_bytes = 9000  # file\n" in shown.stdout
    assert "concurrent_requests = 1024  # default\n" in shown.stdout
    assert "a secret PIN" not in shown.stdout


def test_json_has_each_value_and_where_it_is_from(file, tmp_path):
    shown = json.loads(run("show", "--config", file, "--effective", "-o", "json").stdout)
    assert shown["hsm.pin_file"] == {"value": str(tmp_path / "pin"), "from": "file"}
    assert shown["peers.2"] == {"value": "10.0.0.2:7443", "from": "file"}
    assert shown["peers.3"] == {"value": "proxy:1", "from": "environment QUORUMVAULT_PEERS_3"}
    assert shown["drain_s"] == {"value": 10.0, "from": "default"}
    assert shown["tenants.0.kid"] == {"value": "2026", "from": "file"}
    set_only = json.loads(run("show", "--config", file, "-o", "json").stdout)
    assert set_only == {key: each for key, each in shown.items() if each["from"] != "default"}


def test_a_good_file_is_valid_and_a_bad_one_is_one_line(file):
    good = run("validate", "--config", file)
    assert (good.exit_code, good.stdout) == (0, "")
    file.write_text(FILE.replace("body_bytes", "bodybytes"))
    for command in ("validate", "show"):
        bad = run(command, "--config", file)
        assert isinstance(bad.exception, Failure)
        assert bad.exception.exit_code == Exit.USAGE
        assert "unknown field `bodybytes` - at `$.limits`" in str(bad.exception)
        assert "\n" not in str(bad.exception)
