"""One line for every mistake in a configuration file; the environment over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from node_toml import SOFTHSM, node_toml

from node.config import ConfigError, load, load_public_key

GOOD = node_toml()


def pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tenant.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    (tmp_path / "node.toml").write_text(GOOD)
    return tmp_path


def refused(folder: Path, text: str | None = None, environment=None) -> str:
    if text is not None:
        (folder / "node.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(folder / "node.toml", environment or {})
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_good_file_has_absolute_paths_and_defaults(folder):
    config = load(folder / "node.toml", {})
    assert config.cluster_file == folder / "cluster.json"
    assert config.hsm_module == Path(SOFTHSM)
    assert config.listen.peer == ("::1", 7443)
    assert (config.limits.concurrent_requests, config.limits.account_per_minute) == (1024, 600)
    assert (config.drain_s, config.log_level, config.witness_file) == (10.0, "info", None)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("node_id = 1", "node_id = 1\nspeed = 9", "unknown field `speed`"),
        ("[hsm]", "[hsm]\npin = '1234'", "unknown field `pin` - at `$.hsm`"),
        ("[hsm]", "[hsmm]", "`hsmm`"),
        ("node_id = 1", "", "missing required field `node_id`"),
        ("node_id = 1", "node_id = 0", "$.node_id"),
        ("node_id = 1", "node_id = '1'", "$.node_id"),
        ("node_id = 1", "node_id = 1\ndrain_s = -1", "$.drain_s"),
        ('client = "127.0.0.1:8443"', 'client = "127.0.0.1"', "listen.client must be host:port"),
        ('client = "127.0.0.1:8443"', 'client = "h:70000"', "listen.client the port"),
        ('alg = "EdDSA"', 'alg = "HS256"', "$.tenants[0].alg"),
        ('alg = "EdDSA"', 'alg = "none"', "$.tenants[0].alg"),
        ('alg = "EdDSA"', 'alg = "RS256"', "does not fit alg RS256"),
        ('public_key_file = "tenant.pem"', 'public_key_file = "none.pem"', "none.pem"),
        ("[[tenants]]", "[limits]\nbody_bytes = 10\n[[tenants]]", "$.limits.body_bytes"),
        ("[[tenants]]", "[peers]\ntwo = 'h:1'\n[[tenants]]", "peers.two must be a node id"),
        ("[[tenants]]", "[peers]\n2 = 'h'\n[[tenants]]", "peers.2 must be host:port"),
        ("[[tenants]]", "[log]\nlevel = 'loud'\n[[tenants]]", "$.log.level"),
        ("[hsm]", "[hsm", "is not TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(folder, old, new, named):
    assert old in GOOD
    assert named in refused(folder, GOOD.replace(old, new))


def test_a_missing_file_is_named(folder):
    (folder / "node.toml").unlink()
    assert str(folder / "node.toml") in refused(folder)


def test_a_tenant_twice_without_key_ids_is_refused(folder):
    tenant = GOOD[GOOD.index("[[tenants]]") :]
    assert "its own kid" in refused(folder, GOOD + tenant)
    (folder / "node.toml").write_text(GOOD + tenant + 'kid = "b"\n')
    assert len(load(folder / "node.toml", {}).tenants) == 2


def test_no_tenant_at_all_is_refused(folder):
    assert "tenants" in refused(folder, GOOD[: GOOD.index("[[tenants]]")])


def test_the_environment_goes_over_the_file(folder):
    environment = {
        "QUORUMVAULT_NODE_ID": "3",
        "QUORUMVAULT_DATA_DIR": "/var/lib/vault",
        "QUORUMVAULT_HSM_PIN_FILE": "/run/secrets/pin",
        "QUORUMVAULT_LIMITS_CONCURRENT_REQUESTS": "7",
        "QUORUMVAULT_PEERS_2": "proxy:17002",
        "QUORUMVAULT_LOG_LEVEL": "debug",
        "QUORUMVAULT_CONNECTION": "somebody else's",
        "PATH": "/bin",
    }
    config = load(folder / "node.toml", environment)
    assert config.node_id == 3
    assert config.data_dir == Path("/var/lib/vault")
    assert config.hsm_pin_file == Path("/run/secrets/pin")
    assert config.limits.concurrent_requests == 7
    assert config.peer_addresses == {2: "proxy:17002"}
    assert config.log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("QUORUMVAULT_HSM_PIN", "1234", "has no key 'pin'"),
        ("QUORUMVAULT_LIMITS_SPEED", "1", "has no key 'speed'"),
        ("QUORUMVAULT_NODE_ID", "one", "must be a number"),
        ("QUORUMVAULT_NODE_ID", "0", "$.node_id"),
    ],
)
def test_a_mistake_in_the_environment_is_named(folder, name, value, said):
    message = refused(folder, None, {name: value})
    assert said in message
    assert "1234" not in message


@pytest.mark.parametrize(
    ("key", "alg", "said"),
    [
        (ed448.Ed448PrivateKey.generate(), "EdDSA", "does not fit"),
        (ec.generate_private_key(ec.SECP384R1()), "ES256", "needs P-256"),
        (ec.generate_private_key(ec.SECP256R1()), "EdDSA", "does not fit"),
        (rsa.generate_private_key(65537, 1024), "RS256", "needs 2048"),  # noqa: S505
    ],
)
def test_a_tenant_key_of_the_wrong_kind_is_refused(tmp_path, key, alg, said):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    with pytest.raises(ConfigError, match=said):
        load_public_key(path, alg)


def test_a_tenant_key_that_is_no_public_key_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nnot\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ConfigError, match="not a public key"):
        load_public_key(path, "EdDSA")
