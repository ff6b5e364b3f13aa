"""Issues and checks certificates. Pure: the clock is an argument.

They pass Go's verifier and OpenSSL's strict checks (RFC 5280), so they carry key identifiers, key
usage, extended key usage and alternative names. Times are UTC, in whole seconds.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATE = timedelta(days=1)
"""How far notBefore lies in the past, for clients whose clock is behind."""

AUTHORITY_VALIDITY = timedelta(days=3650)

_AUTHORITY_NAME = "wazzup-operator webhook CA"
# Not the Service's name, which may exceed a common name's 64 characters. Clients no longer read
# names here (RFC 9525, 2).
_SERVING_NAME = "wazzup-operator webhook"
_END = b"-----END CERTIFICATE-----"
# The parser raises some of these only when a part is accessed.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,  # not a ValueError
    CryptographyDeprecationWarning,
)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def key_pem(self) -> bytes:
        """The private key as PKCS #8."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Return a Service's DNS names; the API server uses `<service>.<namespace>.svc`."""
    name = f"{service}.{namespace}"
    return (service, name, f"{name}.svc", f"{name}.svc.cluster.local")


def make_authority(now: datetime) -> Pair:
    """Issue a CA that may sign serving certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(_AUTHORITY_NAME)
    certificate = (
        _builder(name, name, key, now, now + AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def make_serving(authority: Pair, names: Sequence[str], now: datetime, validity: timedelta) -> Pair:
    """Issue a serving pair for the DNS names. It expires no later than its CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    end = min(now + validity, issuer.not_valid_after_utc)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    certificate = (
        _builder(_name(_SERVING_NAME), issuer.subject, key, now, end)
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def load_pair(certificate: bytes, key: bytes) -> Pair | None:
    """Parse a certificate and its key from PEM; None if they are damaged or no such pair."""
    try:
        loaded = _load_certificate(certificate)
        public = loaded.public_key()
        private = serialization.load_pem_private_key(key, None)
    except _UNREADABLE:
        return None
    if certificate.strip() != dump_bundle([loaded]).strip():
        # OpenSSL would parse the rest as a chain, and refuse all of it if that is damaged.
        return None
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.public_key() == public:
        return Pair(loaded, private)
    return None


def load_bundle(bundle: bytes) -> tuple[x509.Certificate, ...]:
    """Return every certificate in the PEM bundle once, skipping what cannot be parsed."""
    found: list[x509.Certificate] = []
    for part in bundle.split(_END)[:-1]:
        try:
            certificate = _load_certificate(part + _END)
        except _UNREADABLE:
            continue
        if certificate not in found:
            found.append(certificate)
    return tuple(found)


def dump_bundle(certificates: Sequence[x509.Certificate]) -> bytes:
    """Encode the certificates as PEM, always as the same bytes."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def authority_problem(authority: Pair, now: datetime) -> str | None:
    """Return why the CA must be rotated, in words that follow "the CA"."""
    try:
        extensions = authority.certificate.extensions
        signs = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        signs = False
    if not signs or not signed_by(authority.certificate, authority.certificate):
        return "is not a CA"
    return _age_problem(authority.certificate, now)


def serving_problem(
    pair: Pair, authority: x509.Certificate, names: Sequence[str], now: datetime
) -> str | None:
    """Return why the pair must be replaced, in words that follow "the serving certificate"."""
    if not signed_by(pair.certificate, authority):
        return "is signed by another CA"
    if not set(names) <= _dns_names(pair.certificate):
        return "is for another Service"
    return _age_problem(pair.certificate, now)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key signed the certificate, expired or not."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def expired(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether the certificate has expired."""
    return certificate.not_valid_after_utc < now


def renewal(certificate: x509.Certificate) -> datetime:
    """Return when to renew the certificate: after two thirds of its life since it was issued."""
    issued = certificate.not_valid_before_utc + BACKDATE
    return issued + (certificate.not_valid_after_utc - issued) * 2 / 3


def _load_certificate(pem: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # The parser only warns about some violations of RFC 5280; treat them as damage.
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificate(pem)


def _age_problem(certificate: x509.Certificate, now: datetime) -> str | None:
    if expired(certificate, now):
        return "has expired"
    if certificate.not_valid_before_utc > now:
        return "is not valid yet"
    if renewal(certificate) <= now:
        return "is past two thirds of its life"
    return None


def _dns_names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return set()
    return set(names.value.get_values_for_type(x509.DNSName))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(identifier, critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
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
