"""The keys and certificates of a control plane, and the files that its servers read them from."""

from pathlib import Path

from dev.controlplane.certificates import Authority, KeyPair, key_pem, private_key


class Pki:
    """All key material of one control plane, made anew for each; `write` puts it on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority("kube-apiserver")
        # Of its own, since a certificate for a user of the API server must not open etcd.
        self._etcd_authority = Authority("etcd")
        self.admin = self.client("admin", ("system:masters",))

    @property
    def authority(self) -> bytes:
        """The certificate, PEM, that the API server is verified against."""
        return self._authority.certificate

    def client(self, user: str, groups: tuple[str, ...]) -> KeyPair:
        """A new certificate for a `user` of the API server who is in `groups`."""
        return self._authority.client(user, groups)

    def file(self, name: str) -> Path:
        """The file called `name`: a certificate (.crt) or a private key (.key), PEM."""
        return self._directory / name

    def write(self) -> None:
        """Writes the servers' and the administrator's; nobody else may look into the directory."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self.file("ca.crt").write_bytes(self._authority.certificate)
        self.file("etcd-ca.crt").write_bytes(self._etcd_authority.certificate)
        self.file("service-account.key").write_bytes(key_pem(private_key()))
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        self._write_pair("kube-apiserver", self._authority.serving(*names))
        self._write_pair("admin", self.admin)
        self._write_pair("etcd", self._etcd_authority.serving("localhost"))
        self._write_pair("etcd-client", self._etcd_authority.client("kube-apiserver"))

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        self.file(f"{name}.crt").write_bytes(pair.certificate)
        self.file(f"{name}.key").write_bytes(pair.key)
