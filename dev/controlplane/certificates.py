"""Keys, certificates and kubeconfigs of a control plane on 127.0.0.1."""

import base64
import datetime
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_VALIDITY = datetime.timedelta(days=365)
# For clients whose clock is behind.
_BACKDATE = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes

    @property
    def credentials(self) -> dict[str, str]:
        """The pair as a kubeconfig's credentials."""
        return {
            "client-certificate-data": _base64(self.certificate),
            "client-key-data": _base64(self.key),
        }


class Pki:
    """All keys and certificates of a control plane, new for each instance."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority("kube-apiserver")
        # A separate CA, so that a user's client certificate does not give access to etcd.
        self._etcd_authority = Authority("etcd")
        self.admin = self.client("admin", ("system:masters",))

    @property
    def authority(self) -> bytes:
        """The CA certificate of the API server, in PEM."""
        return self._authority.certificate

    def client(self, user: str, groups: tuple[str, ...]) -> KeyPair:
        """Return a new client certificate for a user in these groups."""
        return self._authority.client(user, groups)

    def file(self, name: str) -> Path:
        """Return the path of a certificate (.crt) or private key (.key)."""
        return self._directory / name

    def write(self) -> None:
        """Write the servers' and the administrator's files, readable only by the owner."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self.file("ca.crt").write_bytes(self._authority.certificate)
        self.file("etcd-ca.crt").write_bytes(self._etcd_authority.certificate)
        self.file("service-account.key").write_bytes(_key_pem(_private_key()))
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        self._write_pair("kube-apiserver", self._authority.serving(*names))
        self._write_pair("admin", self.admin)
        self._write_pair("etcd", self._etcd_authority.serving("localhost"))
        self._write_pair("etcd-client", self._etcd_authority.client("kube-apiserver"))

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        self.file(f"{name}.crt").write_bytes(pair.certificate)
        self.file(f"{name}.key").write_bytes(pair.key)


def write_kubeconfig(
    path: Path, *, url: str, authority: bytes, user: str, credentials: Mapping[str, str]
) -> None:
    """Write a kubeconfig, readable only by the owner because it holds `credentials`.

    `authority` is the CA certificate of the server, in PEM.
    """
    cluster = {"server": url, "certificate-authority-data": _base64(authority)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": user, "user": dict(credentials)}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def _private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as PEM, in the only format that both servers can read."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


class Authority:
    """A certificate authority; its certificates pass OpenSSL's strict checks.

    `certificate` is its own certificate, in PEM.
    """

    def __init__(self, name: str) -> None:
        self._key = _private_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _key_usage(signs_certificates=True)
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM)

    def serving(self, *names: str) -> KeyPair:
        """Issue a certificate for a server, or a client, on 127.0.0.1 with these DNS names."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [*(x509.DNSName(name) for name in names), x509.IPAddress(_LOOPBACK)]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(subject, usages, x509.SubjectAlternativeName(alternatives))

    def client(self, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """Issue a client certificate for a user in these groups."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        return self._issue(x509.Name(attributes), [ExtendedKeyUsageOID.CLIENT_AUTH])

    def _issue(
        self,
        subject: x509.Name,
        usages: Sequence[x509.ObjectIdentifier],
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> KeyPair:
        key = _private_key()
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(subject, self._name, key.public_key())
            .add_extension(issuer_key, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    start = datetime.datetime.now(datetime.UTC) - _BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
