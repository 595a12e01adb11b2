"""Files that people and other machines hand over: one line that names the file, or a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fuzz_kit import decoded, foreign_json, fuzz, judged, spoiled, twisted, valid
from hypothesis import given
from hypothesis import strategies as st
from test_cluster_file import GOOD

from cluster import cluster_file
from hsm.errors import PackageBroken, WordsWrong
from hsm.names import KEY_BYTES, held_names
from hsm.package import Header, close_package, open_package, read_header
from node import config
from quorumvault import _state, _wire, connection

NODES = st.permutations(GOOD["nodes"])
CLUSTERS = NODES.map(lambda nodes: GOOD | {"nodes": nodes})


@fuzz(150)
@given(foreign_json(CLUSTERS))
def test_a_cluster_file_is_refused_in_one_line_or_saved_as_it_was_read(foreign):
    cluster, error = judged(cluster_file.parse, cluster_file.ClusterFileError, foreign)
    if error is not None:
        assert "\n" not in str(error)
        return
    assert cluster_file.parse(_json(cluster)) == cluster


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


# ------------------------------------------------------------------ node.toml

TEXTS = st.sampled_from(
    ["~nobody-here/x", "a\0b", "", "~", "../..", "\ud7ff", "x" * 5000, "[::1]:1"]
)
NODE: dict[str, Any] = {
    "node_id": 1,
    "cluster_file": "cluster.json",
    "data_dir": "data",
    "drain_s": 1.5,
    "hsm": {"module": "m.so", "token_label": "seat-1", "pin_file": "pin"},
    "tls": {"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"},
    "listen": {
        "client": "127.0.0.1:8443", "peer": "[::1]:7443", "admin": "a:9443", "ops": "a:9090",
    },
    "peers": {"2": "127.0.0.1:7444"},
    "limits": {"body_bytes": 8192},
    "log": {"level": "info", "file": "log"},
    "tenants": [{"iss": "demo", "alg": "EdDSA", "public_key_file": "tenant.pem"}],
}  # fmt: skip


def toml(value: Any) -> str:
    """A tree as TOML, inline; what TOML cannot say stands as a string."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = (f"{json.dumps(str(key))} = {toml(each)}" for key, each in value.items())
            return f"{{{', '.join(pairs)}}}"
        case bytes():
            return json.dumps(value.decode("latin-1"))
        case _:
            return json.dumps(str(value))


def toml_file(tree: Any) -> bytes:
    if not isinstance(tree, dict):
        return toml(tree).encode()
    lines = (f"{json.dumps(str(key))} = {toml(each)}" for key, each in tree.items())
    return "\n".join(lines).encode()


def _with_text(tree: Any, place: tuple[str, ...], text: str) -> Any:
    copy = json.loads(json.dumps(tree))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = text
    return copy


PLACES = [
    ("cluster_file",), ("data_dir",), ("hsm", "module"), ("hsm", "pin_file"), ("tls", "ca_file"),
    ("listen", "ops"), ("peers", "2"), ("peers", "9" * 5000), ("peers", "²"), ("log", "file"),
    ("tenants", 0, "public_key_file"), ("tenants", 0, "kid"), ("tenants", 0, "iss"),
]  # fmt: skip
TREES = st.one_of(
    st.just(NODE),
    twisted(st.just(NODE)),
    st.builds(_with_text, st.just(NODE), st.sampled_from(PLACES), TEXTS),
)
WHOLE = TREES.map(toml_file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fuzzed-node")
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (made / "tenant.pem").write_bytes(pem)
    return made


def test_the_configuration_that_is_fuzzed_is_a_good_one(folder):
    path = folder / "good.toml"
    path.write_bytes(toml_file(NODE))
    assert config.load(path, {}).listen.peer == ("::1", 7443)


@fuzz(150)
@given(
    st.one_of(
        WHOLE, WHOLE, spoiled(WHOLE), st.binary(max_size=100),
        st.sampled_from([b"a=" + b"[" * 5000, b"a=" + b"{a=" * 5000, b"node_id=" + b"9" * 5000,
                         b"node_id = 1979-05-27T07:32:00Z", b"drain_s = nan", b"a.b.c.d = 1"]),
    )
)  # fmt: skip
def test_a_node_configuration_is_refused_in_one_line_or_has_absolute_paths(folder, foreign):
    path = folder / "node.toml"
    path.write_bytes(foreign)
    loaded, error = judged(lambda each: config.load(each, {}), config.ConfigError, path)
    if error is not None:
        assert "\n" not in str(error)
        return
    assert loaded.data_dir.is_absolute()
    assert 0 <= loaded.drain_s <= 600


VARIABLES = st.dictionaries(
    st.sampled_from(
        ["NODE_ID", "DRAIN_S", "DATA_DIR", "PEERS_2", "PEERS_x", "LIMITS_BODY_BYTES", "HSM_PIN",
         "LOG_LEVEL", "LISTEN_OPS", "STORE_MAP_BYTES", "TENANTS_ISS", "LOG_FILE", "HSM_MODULE"]
    ).map("QUORUMVAULT_{}".format),
    st.one_of(TEXTS, st.sampled_from(["1", "9" * 5000, "nan", "1e400", "-1", "info"])),
    max_size=3,
)  # fmt: skip


@fuzz(90)
@given(VARIABLES)
def test_an_environment_is_refused_in_one_line_or_taken(folder, environment):
    path = folder / "good.toml"
    path.write_bytes(toml_file(NODE))
    loaded, error = judged(lambda each: config.load(path, each), config.ConfigError, environment)
    assert loaded is not None or "\n" not in str(error)


# ------------------------------------------------------------------ the SDK's files

REACH: dict[str, Any] = {
    "cluster_id": GOOD["cluster_id"],
    "name": "demo",
    "endpoints": [{"node": 1, "seat": 1, "dc": "a", "url": "https://a:1", "ops_url": None}],
    "ca_file": "ca.pem",
    "tenant": {"iss": "demo", "kid": None, "alg": "EdDSA", "private_key_file": "key.pem"},
}
PATHS = TEXTS.map(lambda t: REACH | {"tenant": REACH["tenant"] | {"private_key_file": t}})
CAS = TEXTS.map(lambda t: REACH | {"ca_file": t})


@fuzz(150)
@given(foreign_json(st.one_of(st.just(REACH), PATHS, CAS)))
def test_a_connection_file_is_refused_in_one_line_or_reaches_its_endpoints(folder, foreign):
    (folder / "key.pem").write_text("a key")
    path = folder / "connection.json"
    path.write_bytes(foreign)
    reach, error = judged(connection.load, connection.ConnectionFileError, path)
    if error is not None:
        assert "\n" not in str(error)
        return
    assert isinstance(reach.cluster_id, UUID)


def _plain(value: Any) -> Any:
    return json.loads(_wire.encode(value))


@fuzz(150)
@given(foreign_json(valid(_state.State).map(_plain)))
def test_a_state_file_is_refused_without_quoting_it_or_saved_as_it_was_read(folder, foreign):
    path = folder / "state.json"
    path.write_bytes(foreign)
    file = _state.StateFile(path)
    state = decoded(lambda _: file.load(), _state.StateFileError, foreign)
    if state is not None:
        file.save(state)
        assert file.load() == state


# ------------------------------------------------------------------ seat packages

HEADER = Header(UUID(GOOD["cluster_id"]), 2, 5, 3)
SEAT_KEY = bytes(range(32))
KEYS = {name: bytes([n]) * KEY_BYTES for n, name in enumerate(held_names(2, 5, 3))}
PACKAGE = close_package(HEADER, SEAT_KEY, KEYS)


@fuzz(150)
@given(st.one_of(spoiled(st.just(PACKAGE)), st.binary(max_size=200), st.just(PACKAGE)))
def test_a_package_opens_whole_or_is_refused(foreign):
    header = decoded(read_header, PackageBroken, foreign)
    assert header is None or header.pack() == foreign[: len(header.pack())]
    keys = decoded(lambda d: open_package(d, SEAT_KEY), (PackageBroken, WordsWrong), foreign)
    assert (keys is not None) == (foreign == PACKAGE)


BODIES = st.one_of(
    st.lists(
        st.tuples(st.sampled_from([*KEYS, "x", "oprf/", "é"]), st.sampled_from([63, 64, 65])),
        max_size=10,
    ),
)


@fuzz(90)
@given(st.data())
def test_a_package_with_other_contents_under_the_right_key_is_refused(data):
    """Whoever made it knew the seat key: still only exactly that seat's keys are taken."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from hsm.package import _aad

    inside = b"".join(
        bytes([len(name.encode())]) + name.encode() + bytes(size)
        for name, size in data.draw(BODIES)
    )
    count = bytes([data.draw(st.integers(0, 12))])
    body = data.draw(st.one_of(st.just(count + inside), st.binary(max_size=100)))
    clear, nonce = HEADER.pack(), bytes(12)
    package = clear + nonce + AESGCM(SEAT_KEY).encrypt(nonce, body, _aad(clear))
    assert decoded(lambda d: open_package(d, SEAT_KEY), PackageBroken, package) is None
