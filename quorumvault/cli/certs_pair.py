"""A pair of certificate and key on disk: read, judged by its dates, exchanged for a newer one.

Two files cannot be exchanged at once. So both new ones are complete and durable beside the old
before either takes its place, and the old pair stays as `.old`: whoever reads in between finds two
files that do not fit, which every TLS context here refuses whole (cluster.certificates), and
whoever stops in between loses nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from quorumvault._files import sync_folder, write_new
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.hsm import read_small

if TYPE_CHECKING:
    from cluster.certificates import Issued

CERT_NAME = "cert.pem"
KEY_NAME = "key.pem"


def certificate(path: Path) -> x509.Certificate:
    """Read one certificate.

    Raises:
        Failure: missing, unreadable, or not a certificate in PEM.

    """
    try:
        return x509.load_pem_x509_certificate(read_small(path, "certificate"))
    except ValueError as error:
        raise Failure(f"{path} is not a PEM certificate; name a cert.pem", Exit.USAGE) from error


def exchange(folder: Path, issued: Issued) -> None:
    """Put a new pair in the place of the folder's; a whole old one is kept as `.old`.

    Raises:
        OSError: the folder cannot be written; the old pair is still there.

    """
    cert, key = folder / CERT_NAME, folder / KEY_NAME
    new_cert = _beside(cert, issued.cert_pem, 0o644)
    new_key = _beside(key, issued.key_pem, 0o600)
    if _fit(cert, key):  # half of a pair, left by an exchange that was cut, must not replace one
        for path in (cert, key):
            _keep(path)
    new_key.replace(key)
    new_cert.replace(cert)
    sync_folder(folder)


def _beside(path: Path, data: bytes, mode: int) -> Path:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    write_new(new, data, mode)
    return new


def _fit(cert: Path, key: Path) -> bool:
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
        public = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    except (OSError, ValueError, TypeError):
        return False
    return private.public_key() == public


def _keep(path: Path) -> None:
    old = path.with_name(f"{path.name}.old")
    old.unlink(missing_ok=True)
    old.hardlink_to(path)
