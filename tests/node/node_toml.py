"""A node.toml with everything that it must have, for a test to change one thing in it."""

from __future__ import annotations

import json

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
DEFAULTS = {
    "node_id": 1,
    "cluster_file": "cluster.json",
    "data_dir": "data",
    "module": SOFTHSM,
    "token_label": "seat-1",
    "pin_file": "pin",
    "ca_file": "ca.pem",
    "cert_file": "cert.pem",
    "key_file": "key.pem",
    "client": "127.0.0.1:8443",
    "peer": "[::1]:7443",
    "admin": "127.0.0.1:9443",
    "ops": "127.0.0.1:9090",
    "iss": "demo",
}


def node_toml(tables: str = "", **changes: object) -> str:
    """The text, with `tables` before its only tenant; `changes` are values by their key."""
    assert changes.keys() <= DEFAULTS.keys()
    shown = {
        key: json.dumps(value, ensure_ascii=False)  # a string of JSON is one of TOML
        for key, value in (DEFAULTS | changes).items()
    }
    return TEXT.format(**shown, tables=tables)


TEXT = """
node_id = {node_id}
cluster_file = {cluster_file}
data_dir = {data_dir}
[hsm]
module = {module}
token_label = {token_label}
pin_file = {pin_file}
[tls]
ca_file = {ca_file}
cert_file = {cert_file}
key_file = {key_file}
[listen]
client = {client}
peer = {peer}
admin = {admin}
ops = {ops}
{tables}
[[tenants]]
iss = {iss}
alg = "EdDSA"
public_key_file = "tenant.pem"
"""
