"""Certificates of one cluster: its authority, what it issues, and the TLS contexts made of them.

Who a peer is stands in its certificate alone, as one URI: `quorumvault://<cluster>/node/<id>` for
a node, `quorumvault://<cluster>/operator/<name>` for a person. Raft's `from` and the right to ask
for shares hang on it (I2, I9), so a certificate with no such URI, with two, or with another
cluster's is nobody. All listeners speak TLS 1.3 only (I11).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.types import NodeId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

AUTHORITY_DAYS: Final = 3650
MAX_LEAF_DAYS: Final = 3650
CLOCK_SKEW: Final = dt.timedelta(minutes=10)
"""Certificates are valid from a little before now: five data centers have five clocks."""

_NODE_URI = re.compile(r"quorumvault://([0-9a-f-]{36})/node/([1-9][0-9]{0,15})")
_OPERATOR_URI = re.compile(r"quorumvault://([0-9a-f-]{36})/operator/([A-Za-z0-9._-]{1,63})")


class CertificateError(Exception):
    """A certificate or key is missing, wrong or somebody else's; one line with the next step."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The cluster's certificate authority (PEM). The key stays with the operator, off the nodes."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate and its key (PEM)."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Role `peer`: one node of this cluster."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """Role `operator`: a person with access to the admin listeners."""

    name: str


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a node finds its authority's certificate, its own certificate and its key."""

    ca: Path
    cert: Path
    key: Path


def node_uri(cluster_id: UUID, node_id: int) -> str:
    """What names a node in its certificate."""
    return f"quorumvault://{cluster_id}/node/{node_id}"


def operator_uri(cluster_id: UUID, name: str) -> str:
    """What names an operator in a certificate."""
    return f"quorumvault://{cluster_id}/operator/{name}"


def create_authority(cluster_name: str, *, days: int = AUTHORITY_DAYS) -> Authority:
    """A new ECDSA P-256 authority that may sign leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Quorumvault {cluster_name}"[:64])
    not_before, not_after = _validity(days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue(
    authority: Authority,
    *,
    uri: str,
    hosts: Sequence[str],
    days: int,
    server: bool,
    client: bool,
) -> Issued:
    """A leaf for `uri`, reachable as each of `hosts` (addresses or names; only servers need any).

    Raises:
        CertificateError: not an URI of this scheme, no purpose, or the authority cannot be read.

    """
    if not (_NODE_URI.fullmatch(uri) or _OPERATOR_URI.fullmatch(uri)):
        raise CertificateError(f"{uri!r} names neither a node nor an operator: use node_uri()")
    if not 1 <= days <= MAX_LEAF_DAYS:
        raise CertificateError(f"certificate for {uri}: days must be 1 to {MAX_LEAF_DAYS}")
    purposes = [
        *([ExtendedKeyUsageOID.SERVER_AUTH] if server else []),
        *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else []),
    ]
    if not purposes:
        raise CertificateError(f"certificate for {uri}: it must serve as server, client or both")
    ca_cert, ca_key = _read_authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    not_before, not_after = _validity(days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(uri.rpartition("/")[2]))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(min(not_after, ca_cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(uri), *(_alternative(host) for host in hosts)],
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def peer_identity(der: bytes, cluster_id: UUID) -> NodeIdentity | OperatorIdentity:
    """Who the holder of this certificate is; TLS has already verified chain, dates and key.

    Raises:
        CertificateError: no URI of ours, more than one, or another cluster's.

    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertificateError("the certificate has no readable alternative names") from error
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise CertificateError(f"the certificate has {len(uris)} URIs; exactly one names its role")
    node = _NODE_URI.fullmatch(uris[0])
    operator = _OPERATOR_URI.fullmatch(uris[0])
    match = node or operator
    if match is None:
        raise CertificateError(f"the certificate's URI {uris[0][:128]!r} names no role")
    if match[1] != str(cluster_id):
        raise CertificateError(f"the certificate belongs to cluster {match[1]}, not {cluster_id}")
    return NodeIdentity(NodeId(int(match[2]))) if node else OperatorIdentity(match[2])


def server_context(files: TlsFiles, *, require_client: bool) -> ssl.SSLContext:
    """A listener's context: TLS 1.3 only; with `require_client`, nobody without a certificate.

    Raises:
        CertificateError: a file is missing, malformed, or key and certificate do not match.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A resumed session would skip the certificate that names the peer.
    context.num_tickets = 0
    if require_client:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authority(context, files.ca)
    _load_chain(context, files.cert, files.key)
    return context


def client_context(
    ca: Path,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """A caller's context: TLS 1.3 only, only this authority.

    `check_hostname` is off for peer links alone: they check the node id in the URI, which is
    stricter than an address and survives proxies.

    Raises:
        CertificateError: a file is missing, malformed, or key and certificate do not match.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = check_hostname
    context.verify_mode = ssl.CERT_REQUIRED
    _load_authority(context, ca)
    if cert is not None and key is not None:
        _load_chain(context, cert, key)
    elif cert is not None or key is not None:
        raise CertificateError("a client certificate needs both its certificate and its key file")
    return context


def put_pair(contexts: Sequence[ssl.SSLContext], cert_pem: bytes, key_pem: bytes) -> None:
    """Put a renewed pair into live contexts; new handshakes use it, open connections go on.

    By its bytes and not by its files: what was judged is what is used, whoever writes meanwhile.
    A pair that does not load leaves the contexts as they were.

    Raises:
        CertificateError: certificate and key do not load together.
        OSError: no memory, or no file descriptor is left.

    """
    with _in_memory(cert_pem) as cert, _in_memory(key_pem) as key:
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *contexts):
            _load_chain(context, cert, key)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[Path]:
    """A file that no disk has: OpenSSL takes the two by name alone."""
    descriptor = os.memfd_create("pair")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _load_authority(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise CertificateError(
            f"authority file {ca} holds no readable certificate ({error.reason}): "
            "take ca.pem of 'quorumvault cluster create'",
        ) from error
    except OSError as error:
        raise _unreadable(ca, error) from error


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    for path in (cert, key):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise _unreadable(path, error) from error

    def no_password() -> str:
        raise CertificateError(f"key file {key} is encrypted: give the node one that is not")

    try:
        context.load_cert_chain(certfile=cert, keyfile=key, password=no_password)
    except (ssl.SSLError, OSError) as error:
        raise CertificateError(
            f"certificate {cert} and key {key} do not load together "
            f"({getattr(error, 'reason', None) or error}): issue them again with "
            "'quorumvault certs'",
        ) from error


def _unreadable(path: Path, error: OSError) -> CertificateError:
    return CertificateError(
        f"TLS file {path} cannot be read ({error.strerror}): check path and permissions",
    )


def _read_authority(
    authority: Authority,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.cert_pem)
        key = serialization.load_pem_private_key(authority.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError("the authority's certificate or key is not readable PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not an elliptic-curve key")
    if key.public_key() != certificate.public_key():
        raise CertificateError("the authority's key is not the key of its certificate")
    return certificate, key


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _validity(days: int) -> tuple[dt.datetime, dt.datetime]:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return now - CLOCK_SKEW, now + dt.timedelta(days=days)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
