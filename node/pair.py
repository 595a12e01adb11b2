"""The certificate, key and authority that a node uses: read at once, judged, and kept as they are.

What counts is what the node shows its peers and clients, not what lies on disk by now. A pair that
is to take the place of another must do all that the other did: it is tried in a real handshake with
itself, in memory, by the rules that peers and clients go by.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cluster.certificates import CertificateError, NodeIdentity, peer_identity, put_pair
from cluster.cluster_file import split_address
from node.certificates_left import Held, held
from node.config import ConfigError

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from cluster.certificates import TlsFiles
    from cluster.cluster_file import ClusterFile, NodeEntry

MAX_PEM_BYTES: Final = 1 << 20
MAX_FLIGHTS: Final = 8
"""A handshake of TLS 1.3 takes three; more means that it stands still."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One certificate with its chain, its key, and the authorities that peers are judged by."""

    files: TlsFiles
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    """The node's own first."""
    authorities: tuple[x509.Certificate, ...]

    @property
    def own(self) -> x509.Certificate:
        """The node's own certificate."""
        return self.chain[0]

    @property
    def held(self) -> tuple[Held, ...]:
        """What is told of how long they are good."""
        return held(self.own, self.authorities)


def read(files: TlsFiles) -> Pair:
    """Read the three files; nothing is judged but that they are certificates.

    Raises:
        ConfigError: a file cannot be read, or holds no certificate.

    """
    cert, authority = _bytes("tls.cert_file", files.cert), _bytes("tls.ca_file", files.ca)
    return Pair(
        files=files,
        cert_pem=cert,
        key_pem=_bytes("tls.key_file", files.key),
        chain=_certificates("tls.cert_file", files.cert, cert),
        authorities=_certificates("tls.ca_file", files.ca, authority),
    )


def _bytes(key: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{key} {path} cannot be read ({error.strerror}); correct the path"
        ) from None
    if len(data) > MAX_PEM_BYTES:
        raise ConfigError(f"{key} {path} is over 1 MiB; give a PEM file")
    return data


def _certificates(key: str, path: Path, data: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise ConfigError(
            f"{key} {path} is not a certificate in PEM; put the right one there"
        ) from None


def check_holder(pair: Pair, cluster: ClusterFile, entry: NodeEntry) -> None:
    """Peers would refuse another node's certificate, again and again, and only they would know.

    Raises:
        ConfigError: it is not this node's.

    """
    path = pair.files.cert
    try:
        identity = peer_identity(pair.own.public_bytes(Encoding.DER), cluster.cluster_id)
    except CertificateError as error:
        raise ConfigError(
            f"tls.cert_file {path}: {error}; take the files of nodes/{entry.id}"
        ) from None
    if identity != NodeIdentity(entry.id):
        named = f"node {identity.node_id}" if isinstance(identity, NodeIdentity) else "an operator"
        raise ConfigError(
            f"tls.cert_file {path} is of {named}, and this is node {entry.id}: "
            f"take the files of nodes/{entry.id}"
        )


def check_key(pair: Pair) -> None:
    """The key is the certificate's.

    Raises:
        ConfigError: it is not, or cannot be used.

    """
    path = pair.files.key
    try:
        key = load_pem_private_key(pair.key_pem, password=None)
    except TypeError:
        raise ConfigError(f"tls.key_file {path} is encrypted: give one that is not") from None
    except ValueError:
        raise ConfigError(
            f"tls.key_file {path} is not a private key in PEM; put it there"
        ) from None
    if key.public_key() != pair.own.public_key():
        raise ConfigError(
            f"tls.key_file {path} is not the key of tls.cert_file {pair.files.cert}: "
            "take cert.pem and key.pem of one folder"
        )


def check_successor(
    new: Pair, used: Pair, cluster: ClusterFile, entry: NodeEntry, now: dt.datetime
) -> None:
    """The pair `new` can take the place of `used` while the node runs, at `now` (with a time zone).

    Raises:
        ConfigError: it would lock this node out, or clients, or weaken what the node shows.

    """
    path, own = new.files.cert, new.own
    check_holder(new, cluster, entry)
    check_key(new)
    if now < own.not_valid_before_utc:
        begins = f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"tls.cert_file {path} is not valid before {begins}; check the clock")
    if now >= own.not_valid_after_utc:
        ended = f"{own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"tls.cert_file {path} expired {ended}; issue it anew")
    if type(own.public_key()) is not type(used.own.public_key()):
        # OpenSSL would go on showing the old one beside it.
        raise ConfigError(
            f"tls.cert_file {path} has another kind of key than the one in use: "
            "restart the node for that, or issue it with 'quorumvault certs renew'"
        )
    wanted = {split_address(address)[0] for address in (entry.client, entry.admin)}
    missing = sorted(wanted & _hosts(used.own) - _hosts(own))
    if missing:
        raise ConfigError(
            f"tls.cert_file {path} lacks {', '.join(missing)}, by which this node is reached: "
            "issue it with 'quorumvault certs renew'"
        )
    try:
        _shake_hands(new, used)
    except (ssl.SSLError, CertificateError) as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
        raise ConfigError(
            f"tls.cert_file {path} would be refused by the other nodes ({reason}): "
            f"take the files of nodes/{entry.id} of this cluster"
        ) from None


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def _shake_hands(pair: Pair, used: Pair) -> None:
    """Serve and call with `pair` under the authorities in use: chain, dates, purposes, key."""
    sides = []
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    for kind, read_from, write_to in (
        (ssl.PROTOCOL_TLS_SERVER, to_server, to_client),
        (ssl.PROTOCOL_TLS_CLIENT, to_client, to_server),
    ):
        context = ssl.SSLContext(kind)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        trusted = b"".join(each.public_bytes(Encoding.PEM) for each in used.authorities)
        context.load_verify_locations(cadata=trusted.decode("ascii"))
        put_pair([context], pair.cert_pem, pair.key_pem)
        is_server = kind is ssl.PROTOCOL_TLS_SERVER
        sides.append(context.wrap_bio(read_from, write_to, server_side=is_server))
    for _ in range(MAX_FLIGHTS):
        done = [_step(side) for side in sides]
        if all(done):
            return
    raise CertificateError("the handshake does not come to an end")


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
