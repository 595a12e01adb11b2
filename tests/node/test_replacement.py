"""What the directory holds after a replacement: all that is needed and no secret more."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from table_cluster import place
from typer.testing import CliRunner

from cluster.certificates import Authority, CertificateError, NodeIdentity, peer_identity
from cluster.cluster_file import ClusterFile, load, replaced
from node import config, creation, replacement
from quorumvault.cli import certs, hsm
from quorumvault.cli.exits import Failure

if TYPE_CHECKING:
    from pathlib import Path


class Office:
    """A directory of `cluster create`, and the words that only custodians have."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.created = creation.create(
            directory, name="table", nodes=[place(number, number) for number in range(1, 6)]
        )
        self.cluster = self.created.cluster

    @property
    def authority(self) -> Authority:
        return Authority(
            (self.directory / "ca.pem").read_bytes(),
            (self.directory / "offline" / "ca.key").read_bytes(),
        )

    def replace(self, old: int, new: int) -> tuple[ClusterFile, Path]:
        after = replaced(self.cluster, old, place(new, self.cluster.node(old).seat))
        folder = replacement.write_folder(self.directory, after, old, self.authority)
        return after, folder


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "cluster")


def test_one_folder_has_everything_that_the_new_node_needs(office: Office) -> None:
    after, folder = office.replace(4, 6)
    assert folder == office.directory / "nodes" / "6"
    assert sorted(each.name for each in folder.iterdir()) == [
        "STEPS.txt", "ca.pem", "cert.pem", "cluster.json", "key.pem", "node.toml", "seat-4.package"
    ]  # fmt: skip
    assert load(folder / "cluster.json") == after
    der = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    identity = peer_identity(der.public_bytes(Encoding.DER), after.cluster_id)
    assert identity == NodeIdentity(6)
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (folder / "seat-4.package").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_else_changes_before_the_file_is_kept(office: Office) -> None:
    before = (office.directory / "cluster.json").read_bytes()
    after, _ = office.replace(4, 6)
    assert (office.directory / "cluster.json").read_bytes() == before
    replacement.keep(office.directory, after)
    assert load(office.directory / "cluster.json") == after
    connection = json.loads((office.directory / "operator" / "connection.json").read_text())
    assert [each["node"] for each in connection["endpoints"]] == [1, 2, 3, 6, 5]
    assert connection["admin"]["urls"][3] == f"https://{place(6, 4).admin}"


def test_a_second_run_goes_on_with_the_folder_of_the_first(office: Office) -> None:
    _, folder = office.replace(4, 6)
    key = (folder / "key.pem").read_bytes()
    office.replace(4, 6)
    assert (folder / "key.pem").read_bytes() == key


def test_a_folder_that_was_not_finished_is_made_anew(office: Office) -> None:
    half = office.directory / "nodes" / ".6.new"
    half.mkdir()
    (half / "key.pem").write_text("half")
    _, folder = office.replace(4, 6)
    assert b"PRIVATE KEY" in (folder / "key.pem").read_bytes()
    assert not half.exists()


def test_a_folder_of_another_replacement_is_not_taken(office: Office) -> None:
    office.replace(4, 6)
    with pytest.raises(replacement.FolderTaken, match="another replacement: move it away"):
        office.replace(5, 6)
    (office.directory / "nodes" / "7").mkdir()
    with pytest.raises(replacement.FolderTaken, match="does not hold node 7's certificate"):
        office.replace(4, 7)


def test_the_wrong_authority_key_writes_nothing(office: Office, tmp_path: Path) -> None:
    other = Office(tmp_path / "other")
    key = (other.directory / "offline" / "ca.key").read_bytes()
    (office.directory / "offline" / "ca.key").write_bytes(key)
    with pytest.raises(CertificateError, match="not the key of its certificate"):
        office.replace(4, 6)
    assert not (office.directory / "nodes" / "6").exists()


def test_the_configuration_is_whole_once_its_last_part_is_filled_in(office: Office) -> None:
    _, folder = office.replace(4, 6)
    path = folder / "node.toml"
    with pytest.raises(config.ConfigError, match="hsm"):
        config.load(path, {})
    public = Ed25519PrivateKey.generate().public_key()
    (folder / "my-app.pem").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    head, marker, rest = path.read_text().partition("#[hsm]")
    path.write_text(head + marker.removeprefix("#") + re.sub(r"(?m)^#", "", rest))
    read = config.load(path, {})
    assert (read.node_id, read.cluster_file) == (6, folder / "cluster.json")
    assert read.listen.peer == ("127.0.0.1", 10_060)
    assert read.data_dir == folder / "data"


def test_no_word_of_a_custodian_and_no_other_key_is_in_it(office: Office) -> None:
    _, folder = office.replace(4, 6)
    content = b"\n".join(each.read_bytes() for each in sorted(folder.iterdir()))
    for words in office.created.shares.values():
        for mnemonic in words:
            assert mnemonic.encode() not in content
    assert office.authority.key_pem.strip() not in content
    assert content.count(b"PRIVATE KEY-----") == 2  # begin and end of its own one


def test_the_steps_name_what_is_left_to_people(office: Office) -> None:
    _, folder = office.replace(4, 6)
    steps = (folder / "STEPS.txt").read_text()
    for command in ("hsm destroy", "hsm provision", "node run", "member replace 4"):
        assert f"quorumvault {command}" in steps


def test_nothing_is_issued_or_provisioned_for_the_replaced_node_any_more(
    office: Office, tmp_path: Path
) -> None:
    after, _ = office.replace(4, 6)
    replacement.keep(office.directory, after)
    file = str(office.directory / "cluster.json")
    tries = [
        (certs.app, ["issue", str(office.directory), "--out", str(tmp_path / "4"), "--node", "4"]),
        (
            hsm.app,
            [
                *("provision", "--cluster-file", file, "--node", "4", "--package", file),
                *("--module", file, "--token-label", "seat-4", "--pin-file", file),
            ],
        ),
    ]
    for app, arguments in tries:
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, Failure), result.output
        assert "node 4 was replaced by node 6" in str(result.exception)
    assert not (tmp_path / "4").exists()
