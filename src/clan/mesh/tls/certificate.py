"""A relay's certificate: one that it made itself, known to others by its hash in the map.

Its name and dates say nothing, and nobody looks at them: a machine whose clock stands at 1970 has
to get through, and who scans port 443 is not told what this is.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 (a dataclass)

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from clan.machine.layout import sync, write
from clan.mesh.errors import MeshError

FILE = "certificate.pem"
_FROM, _UNTIL = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""RFC 5280, section 4.1.2.5, has the latter for no end."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A file with the private key and the certificate, and the latter's SHA-256."""

    path: Path
    hash: bytes

    def context(self) -> ssl.SSLContext:
        """Return what a relay speaks TLS with."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.num_tickets = 0  # nobody resumes: each stream is greeted anew
        made.load_cert_chain(self.path)
        return made


def born(folder: Path) -> Certificate:
    """Return the certificate of a folder; made if there is none. Raises MeshError, OSError.

    The agent and the process of streams may both be the first: there is one all the same.
    """
    path = folder / FILE
    if not path.exists():
        made = folder / f".{FILE}.{secrets.token_hex(8)}"
        try:
            write(made, _made(), 0o600)
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(made)
        finally:
            made.unlink(missing_ok=True)
        sync(folder)  # its hash is in the map from now on
    text = path.read_text(encoding="ascii", errors="replace")
    begin = text.find(ssl.PEM_HEADER)
    try:
        shown = ssl.PEM_cert_to_DER_cert(text[max(begin, 0) :])
    except ValueError:
        raise MeshError(
            f"{path}: this is no certificate; remove it, and a new one is made"
        ) from None
    return Certificate(path, hashlib.sha256(shown).digest())


def calling(*, pinned: bool) -> ssl.SSLContext:
    """Return what a relay is called with.

    Where its certificate is pinned, who calls compares the hash: any is taken here.
    """
    if not pinned:
        made = ssl.create_default_context()
        made.set_alpn_protocols(["http/1.1"])
        return made
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _made() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM.replace(tzinfo=None))
        .not_valid_after(_UNTIL.replace(tzinfo=None))
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + made.public_bytes(Encoding.PEM)
