"""Certificates as no command makes them: other dates, another kind of key, no host."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cluster.certificates import Authority, Issued, issue

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = dt.timedelta(days=1)


def reissue(
    authority: Authority,
    uri: str,
    hosts: Sequence[str],
    *,
    begins_in: dt.timedelta = -DAY,
    ends_in: dt.timedelta = 30 * DAY,
    key=None,
) -> Issued:
    """A node's pair like that of `issue`, but for its dates and, if given, its key."""
    plain = issue(authority, uri=uri, hosts=hosts, days=30, server=True, client=True)
    model = x509.load_pem_x509_certificate(plain.cert_pem)
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = load_pem_private_key(authority.key_pem, None)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(model.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins_in)
        .not_valid_after(now + ends_in)
    )
    for each in model.extensions:
        if each.oid != x509.SubjectKeyIdentifier.oid:
            builder = builder.add_extension(each.value, each.critical)
    cert = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(cert, pem)
