"""A self-signed certificate made at run time, for a stand-in that speaks TLS."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificate(folder: Path, host: str = "localhost") -> Path:
    """Write key and certificate for this machine into one PEM file, and return its path.

    ``host`` is one more name that the certificate is good for.

    The certificate is its own authority: clients that are to trust it take the same file.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / "standin.pem"
    path.write_bytes(_signed(key, host).public_bytes(serialization.Encoding.PEM) + _private(key))
    path.chmod(0o600)
    return path


def _signed(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    """Return a certificate for the loopback names and another, good for a day."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "geodes-standin")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [_name_of(name) for name in sorted({"localhost", "127.0.0.1", host})]
    # Python 3.13 verifies strictly, and then wants key identifiers (RFC 5280 section 4.2.1).
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(hours=1),
        not_valid_after=now + datetime.timedelta(days=1),
    )
    return (
        builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(subject_key, critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(key, hashes.SHA256())
    )


def _name_of(host: str) -> x509.GeneralName:
    """Return a host as certificates have it: an address is not a name (RFC 5280 4.2.1.6)."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private key as PEM, unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def server_context(certificate: Path) -> ssl.SSLContext:
    """Return the settings of a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
