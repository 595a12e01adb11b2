"""Renewing keeps the identity, changes the key, and never leaves half a pair behind."""

from __future__ import annotations

import json
import shutil
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from link_mesh import free_ports
from typer.testing import CliRunner

from cluster import certificates
from cluster.certificates import NodeIdentity, OperatorIdentity, peer_identity
from cluster.cluster_file import NodeEntry
from node import creation
from quorumvault.cli import certs, certs_pair
from quorumvault.cli.exits import Failure


@pytest.fixture(scope="module")
def created(tmp_path_factory):
    ports = iter(free_ports(20))
    nodes = [
        NodeEntry(n, n, f"dc-{n}", *(f"127.0.0.1:{next(ports)}" for _ in range(4)))
        for n in range(1, 6)
    ]
    root = tmp_path_factory.mktemp("certs") / "cluster"
    return root, creation.create(root, name="demo", nodes=nodes).cluster


@pytest.fixture
def directory(created, tmp_path):
    return shutil.copytree(created[0], tmp_path / "cluster")


def run(*arguments, said=""):
    result = CliRunner().invoke(certs.app, [str(each) for each in arguments])
    if said:
        assert isinstance(result.exception, Failure)
        assert said in str(result.exception)
    return result


def identity(folder, cluster):
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    return peer_identity(certificate.public_bytes(Encoding.DER), cluster.cluster_id)


def fits(folder, suffix="") -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(folder / f"cert.pem{suffix}", folder / f"key.pem{suffix}")
    except ssl.SSLError:
        return False
    return True


def test_a_renewed_node_is_the_same_node_with_another_key(created, directory):
    folder = directory / "nodes" / "2"
    before = {name: (folder / name).read_bytes() for name in ("cert.pem", "key.pem")}
    assert run("renew", directory, "--node", 2).exit_code == 0
    assert identity(folder, created[1]) == NodeIdentity(2)
    assert (folder / "key.pem").read_bytes() != before["key.pem"]
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert {name: (folder / f"{name}.old").read_bytes() for name in before} == before
    assert fits(folder)
    assert fits(folder, ".old")
    assert len(list(folder.iterdir())) == 4
    other = directory / "nodes" / "1"
    assert not (other / "key.pem.old").exists()


def test_all_renews_every_node_and_the_operator(created, directory):
    assert run("renew", directory, "--all", "--days", 50).exit_code == 0
    assert identity(directory / "operator", created[1]) == OperatorIdentity("operator")
    listed = json.loads(run("list", directory, "-o", "json").stdout)["certificates"]
    days = {row["name"]: row["days_left"] for row in listed}
    assert days.pop("authority") > 3000
    assert days == dict.fromkeys(["operator", *(f"node {n}" for n in range(1, 6))], 49)


@pytest.mark.parametrize("cut_at", ["key.pem", "cert.pem"])
def test_a_renewal_that_is_cut_anywhere_loses_no_whole_pair(directory, monkeypatch, cut_at):
    folder = directory / "nodes" / "1"
    original = (folder / "key.pem").read_bytes()
    real = certs_pair.Path.replace

    def cut(path, target):
        if target.name == cut_at:
            raise OSError(5, "cut here")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(certs_pair.Path, "replace", cut)
        assert run("renew", directory, "--node", 1).exit_code != 0
    assert fits(folder) or fits(folder, ".old")
    assert original in [(folder / name).read_bytes() for name in ("key.pem", "key.pem.old")]
    assert run("renew", directory, "--node", 1).exit_code == 0
    assert fits(folder)
    assert fits(folder, ".old")


def test_list_says_which_end_soon_and_what_is_not_here(directory):
    assert run("list", directory).exit_code == 0
    run("renew", directory, "--node", 3, "--days", 20)
    shutil.rmtree(directory / "nodes" / "4")
    listed = run("list", directory)
    assert listed.exit_code == 4
    assert "node 3          19 days left" in listed.stdout
    assert "node 4              not here" in listed.stdout


def test_what_cannot_be_renewed_is_named(created, directory):
    run("renew", directory, said="--node, --operator and --all")
    run("renew", directory, "--node", 1, "--all", said="give one of")
    run("renew", directory, "--node", 0, said="node 0 is not in the cluster file")
    run("renew", directory, "--node", 9, said="node 9 is not in the cluster file")
    run("renew", directory, "--operator", "eve", said="not of operator eve")
    (directory / "offline" / "ca.key").unlink()
    run("renew", directory, "--all", said="authority key")
    assert not list(directory.rglob("*.old"))


def test_an_authority_that_ended_issues_nothing(directory, monkeypatch):
    later = certs.dt.datetime.now(certs.dt.UTC) + certs.dt.timedelta(
        days=certificates.AUTHORITY_DAYS + 1
    )

    class Later(certs.dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return later

    monkeypatch.setattr(certs.dt, "datetime", Later)
    run("renew", directory, "--all", said="can issue nothing valid")
