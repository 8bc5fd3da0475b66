"""The authorities that a client of the tests trusts, and servers that they vouch for."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_END = "-----END CERTIFICATE-----\n"


def one_authority(folder: Path) -> Path:
    """Write a bundle with one public authority: a client that reads all of them costs 20 ms."""
    bundle = folder / "one.pem"
    bundle.write_text(Path(certifi.where()).read_text("ascii").partition(_END)[0] + _END, "ascii")
    return bundle


@dataclass(frozen=True)
class Certificates:
    """An authority of our own, and a server that it vouches for."""

    bundle: str
    server: ssl.SSLContext
    #: The same, for the host elsewhere.test.
    elsewhere: ssl.SSLContext


def make_certificates(folder: Path) -> Certificates:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    bundle = folder / "bundle.pem"
    bundle.write_bytes(
        certificate(authority, authority, authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, SHA256())
        .public_bytes(Encoding.PEM)
    )

    def server(name: str, host: x509.GeneralName) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = (
            certificate(subject, authority, key, authority_key)
            .add_extension(x509.SubjectAlternativeName([host]), critical=False)
            .sign(authority_key, SHA256())
        )
        file = folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + signed.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    return Certificates(
        str(bundle),
        server("server", x509.IPAddress(ip_address("127.0.0.1"))),
        server("elsewhere", x509.DNSName("elsewhere.test")),
    )


def certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
