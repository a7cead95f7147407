"""The consortium's own certificate authority and the coordinator's server certificate. NIST P-256 (FIPS 186-5), X.509 v3 (RFC 5280).

The sites trust this authority alone, which they get in the invitation; no public authority can vouch for another machine here.
The same certificate stands at the proxy, for the coordinator's name, and at the SuperLink behind it, for the loopback address.

Protects against: a machine in between that shows any other certificate, one from a public authority included; a certificate that
lapses unnoticed (it is renewed while RENEW_DAYS are left, by `up`).
Does not protect against: whoever takes keys/ca.key; then make a new deployment and invite the sites anew.
"""

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import StorageError
from common.storage import write_atomic
from server.deploy.folder import Deployment

CA_DAYS, SERVER_DAYS, RENEW_DAYS = 3650, 397, 30
BACKDATED = timedelta(minutes=10)
"""A site whose clock runs a little behind must not see a certificate of the future."""


def make_authority(deployment: Deployment, *, now: datetime) -> None:
    """A new authority in keys/ca.key and tls/ca.crt, and the server certificate it signs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"wardround {deployment.settings.consortium}")
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomic(deployment.keys / "ca.key", _private_pem(key))
    write_atomic(deployment.ca_certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    renew_server(deployment, now=now)


def renew_server(deployment: Deployment, *, now: datetime) -> None:
    """A fresh key and certificate for the coordinator's host and the loopback address. Raises StorageError when the authority is missing."""
    try:
        authority = x509.load_pem_x509_certificate(deployment.ca_certificate.read_bytes())
        signer = serialization.load_pem_private_key((deployment.keys / "ca.key").read_bytes(), None)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{deployment.keys / 'ca.key'}: the certificate authority cannot be read ({type(error).__name__}); restore it from its backup"
        ) from None
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    names.append(_general_name(deployment.settings.host))
    certificate = (
        _builder(_name(deployment.settings.host), authority.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    write_atomic(deployment.keys / "server.key", _private_pem(key))
    write_atomic(deployment.tls / "server.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def days_left(deployment: Deployment, *, now: datetime) -> int:
    """Whole days until the server certificate lapses; negative when it has."""
    try:
        certificate = x509.load_pem_x509_certificate((deployment.tls / "server.crt").read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"{deployment.tls / 'server.crt'}: cannot be read ({type(error).__name__}); delete it, then run `up`") from None
    return (certificate.not_valid_after_utc - now).days


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int) -> x509.CertificateBuilder:
    start = now.astimezone(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(start + timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=sign_certificates, crl_sign=sign_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
