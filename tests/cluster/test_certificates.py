"""Who a peer is stands in its certificate; nobody else gets in."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.certificates import (
    Authority,
    CertificateError,
    Issued,
    NodeIdentity,
    OperatorIdentity,
    TlsFiles,
    client_context,
    create_authority,
    issue,
    node_uri,
    operator_uri,
    peer_identity,
    put_pair,
    server_context,
)

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER = UUID("ffeeddcc-bbaa-9988-7766-554433221100")
HOSTS = ["127.0.0.1", "::1", "localhost"]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority("demo")


def node(authority: Authority, node_id: int = 1, *, days: int = 30) -> Issued:
    uri = node_uri(CLUSTER, node_id)
    return issue(authority, uri=uri, hosts=HOSTS, days=days, server=True, client=True)


def operator(authority: Authority) -> Issued:
    uri = operator_uri(CLUSTER, "ada")
    return issue(authority, uri=uri, hosts=[], days=30, server=False, client=True)


def files(directory: Path, authority: Authority, issued: Issued) -> TlsFiles:
    directory.mkdir(exist_ok=True)
    paths = TlsFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    paths.ca.write_bytes(authority.cert_pem)
    paths.cert.write_bytes(issued.cert_pem)
    paths.key.write_bytes(issued.key_pem)
    return paths


def der(issued: Issued) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_pem.decode())


def test_a_node_and_an_operator_are_told_apart(authority: Authority) -> None:
    assert peer_identity(der(node(authority, 4)), CLUSTER) == NodeIdentity(4)
    assert peer_identity(der(operator(authority)), CLUSTER) == OperatorIdentity("ada")


def test_another_clusters_certificate_is_nobody(authority: Authority) -> None:
    with pytest.raises(CertificateError, match=f"belongs to cluster {CLUSTER}, not {OTHER}"):
        peer_identity(der(node(authority)), OTHER)


def forged(names: list[x509.GeneralName] | None) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    template = x509.load_pem_x509_certificate(create_authority("x").cert_pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_uri(CLUSTER, 1)[:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("uris", "message"),
    [
        (None, "no readable alternative names"),
        ([], "0 URIs"),
        ([node_uri(CLUSTER, 1), node_uri(CLUSTER, 2)], "2 URIs"),
        ([node_uri(CLUSTER, 1), operator_uri(CLUSTER, "ada")], "2 URIs"),
        (["https://example.org/node/1"], "names no role"),
        ([f"quorumvault://{CLUSTER}/node/0"], "names no role"),
        ([f"quorumvault://{CLUSTER}/node/01"], "names no role"),
        ([f"quorumvault://{CLUSTER}/node/1/2"], "names no role"),
        ([f"quorumvault://{CLUSTER}/node/1\n"], "names no role"),
        ([f"quorumvault://{str(CLUSTER).upper()}/node/1"], "names no role"),
        ([f"quorumvault://{CLUSTER}/operator/"], "names no role"),
        ([f"quorumvault://{OTHER}/node/1"], "belongs to cluster"),
    ],
)
def test_a_certificate_without_exactly_one_role_is_nobody(
    uris: list[str] | None, message: str
) -> None:
    names = (
        None
        if uris is None
        else [x509.DNSName("localhost"), *(x509.UniformResourceIdentifier(uri) for uri in uris)]
    )
    with pytest.raises(CertificateError, match=message):
        peer_identity(forged(names), CLUSTER)


def test_garbage_is_nobody() -> None:
    with pytest.raises(CertificateError, match="no readable"):
        peer_identity(b"\x30\x03\x02\x01\x00", CLUSTER)


def test_the_authority_signs_leaves_only(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.cert_pem)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    leaf = x509.load_pem_x509_certificate(node(authority).cert_pem)
    leaf.verify_directly_issued_by(certificate)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_leaf_outlives_its_authority(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.cert_pem)
    leaf = x509.load_pem_x509_certificate(node(authority, days=3650).cert_pem)
    assert leaf.not_valid_after_utc <= certificate.not_valid_after_utc


def test_keys_do_not_appear_in_a_repr(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority)
    assert "PRIVATE" not in repr(node(authority))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uri": "https://x"}, "names neither"),
        ({"days": 0}, "days must be"),
        ({"days": 10**6}, "days must be"),
        ({"server": False, "client": False}, "server, client or both"),
    ],
)
def test_nothing_senseless_is_issued(authority: Authority, change: dict, message: str) -> None:
    wanted = {
        "uri": node_uri(CLUSTER, 1),
        "hosts": HOSTS,
        "days": 1,
        "server": True,
        "client": True,
    } | change
    with pytest.raises(CertificateError, match=message):
        issue(authority, **wanted)


def test_an_authority_with_another_key_signs_nothing(authority: Authority) -> None:
    mixed = Authority(authority.cert_pem, create_authority("other").key_pem)
    with pytest.raises(CertificateError, match="not the key of its certificate"):
        node(mixed)
    with pytest.raises(CertificateError, match="not readable PEM"):
        node(Authority(b"nonsense", b"nonsense"))


async def greeting(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> str:
    """One connection; returns what the server said after it saw the client."""
    handlers: list[asyncio.Task] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        writer.write(writer.get_extra_info("cipher")[1].encode() + b"\n")
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()
            await asyncio.gather(*handlers)
            with_error = asyncio.gather(writer.wait_closed(), return_exceptions=True)
            await with_error


async def test_two_nodes_talk_tls_1_3(tmp_path: Path, authority: Authority) -> None:
    paths = files(tmp_path, authority, node(authority))
    server = server_context(paths, require_client=True)
    client = client_context(paths.ca, paths.cert, paths.key)
    for name in HOSTS:
        assert await greeting(server, client, name) == "TLSv1.3"


async def test_a_stranger_is_refused(tmp_path: Path, authority: Authority) -> None:
    paths = files(tmp_path / "a", authority, node(authority))
    server = server_context(paths, require_client=True)
    other = create_authority("other")
    strange = files(tmp_path / "b", authority, node(other))
    for client in (
        client_context(paths.ca),  # no certificate at all
        client_context(paths.ca, strange.cert, strange.key),  # another authority's
    ):
        try:
            assert await greeting(server, client) == ""
        except (ssl.SSLError, ConnectionError):
            continue


async def test_an_operators_certificate_cannot_serve(tmp_path: Path, authority: Authority) -> None:
    paths = files(tmp_path, authority, operator(authority))
    server = server_context(paths, require_client=False)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greeting(server, client_context(paths.ca, check_hostname=False))


async def test_a_name_that_the_certificate_lacks_is_refused(
    tmp_path: Path, authority: Authority
) -> None:
    paths = files(tmp_path, authority, node(authority))
    server = server_context(paths, require_client=False)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greeting(server, client_context(paths.ca), "vault.example")


async def test_tls_1_2_is_refused(tmp_path: Path, authority: Authority) -> None:
    paths = files(tmp_path, authority, node(authority))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(paths.ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await greeting(server_context(paths, require_client=False), client)


async def test_a_renewed_certificate_is_served_without_restart(
    tmp_path: Path, authority: Authority
) -> None:
    paths = files(tmp_path / "a", authority, node(authority))
    server = server_context(paths, require_client=False)
    client = client_context(paths.ca)
    uri = node_uri(CLUSTER, 1)
    renewed = issue(authority, uri=uri, hosts=["new.test"], days=1, server=True, client=True)
    put_pair([server], renewed.cert_pem, renewed.key_pem)
    assert await greeting(server, client, "new.test") == "TLSv1.3"
    with pytest.raises(CertificateError, match="do not load together"):
        put_pair([server], renewed.cert_pem, paths.key.read_bytes())
    assert await greeting(server, client, "new.test") == "TLSv1.3"


def test_missing_and_damaged_files_are_named(tmp_path: Path, authority: Authority) -> None:
    paths = files(tmp_path, authority, node(authority))
    with pytest.raises(CertificateError, match=r"ca2\.pem cannot be read \(No such file"):
        client_context(tmp_path / "ca2.pem")
    with pytest.raises(CertificateError, match="needs both"):
        client_context(paths.ca, paths.cert)
    paths.key.unlink()
    with pytest.raises(CertificateError, match=r"key\.pem cannot be read"):
        server_context(paths, require_client=True)
    paths.ca.write_bytes(b"nonsense")
    with pytest.raises(CertificateError, match=r"ca\.pem holds no readable certificate"):
        client_context(paths.ca)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(
    tmp_path: Path, authority: Authority
) -> None:
    paths = files(tmp_path, authority, node(authority))
    key = serialization.load_pem_private_key(paths.key.read_bytes(), None)
    paths.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    with pytest.raises(CertificateError, match=r"key\.pem is encrypted"):
        server_context(paths, require_client=False)
