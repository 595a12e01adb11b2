"""Turn the operator's connection file into the one that clients on the Docker host use.

The creation knows the nodes' addresses on the mesh; a client on the host reaches each node on
published loopback ports instead, which stay open while the node's data center is cut off. Nodes
have no pid that means anything there; `restart` is the command that restarts one at once.
"""
# ruff: noqa: INP001 - a script of the image, in no package

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def on_loopback(
    connection: dict[str, Any], folder: str, ports: str, project: str
) -> dict[str, Any]:
    """Node N: client 1N443, admin 1N444, ops 1N090, as docker-compose.yml publishes them.

    `folder` is where the files that it names will be on the host, `ports` the first digit of the
    ports, `project` what the containers' names begin with.
    """
    for entry in connection["endpoints"]:
        entry["url"] = f"https://127.0.0.1:{ports}{entry['node']}443"
        entry["ops_url"] = f"http://127.0.0.1:{ports}{entry['node']}090"
    for node in connection["nodes"]:
        node["restart"] = ["docker", "restart", "-t", "0", f"{project}-node-{node['id']}"]
    connection["ca_file"] = f"{folder}/ca.pem"
    connection["tenant"] = {
        "iss": "demo",
        "kid": None,
        "alg": "EdDSA",
        "private_key_file": f"{folder}/tenant/private.pem",
    }
    connection["admin"] = {
        "urls": [f"https://127.0.0.1:{ports}{node['id']}444" for node in connection["nodes"]],
        "cert_file": f"{folder}/operator/cert.pem",
        "key_file": f"{folder}/operator/key.pem",
    }
    return connection


created, *place = sys.argv[1:]
connection = on_loopback(json.loads(Path(created).read_text()), *place)
sys.stdout.write(json.dumps(connection, indent=2) + "\n")
