"""kube-apiserver, alone."""

from functools import cached_property
from pathlib import Path

from dev.controlplane.connection import Connection
from dev.controlplane.pki import Pki
from dev.controlplane.server import Server

_AUDIT_POLICY = Path(__file__).with_name("audit-policy.yaml")
# Above what any run writes: a log that rolls over would no longer be complete.
_AUDIT_LOG_MEGABYTES = 10_000


class ApiServer(Server):
    """An API server that keeps its objects in the etcd at `etcd_url`."""

    name = "kube-apiserver"

    def __init__(self, directory: Path, pki: Pki, etcd_url: str, *, audit: bool) -> None:
        super().__init__(directory)
        self.audit_log = directory / "audit.log"
        self._pki = pki
        self._etcd_url = etcd_url
        self._audit = audit

    def command(self, program: Path) -> list[str]:
        """See Server."""
        file = self._pki.file
        command = [
            str(program),
            "--bind-address=127.0.0.1",
            # Else it looks for an address that others reach, and ends when the machine has none.
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port.number}",
            "--permit-port-sharing=true",
            f"--tls-cert-file={file('kube-apiserver.crt')}",
            f"--tls-private-key-file={file('kube-apiserver.key')}",
            f"--client-ca-file={file('ca.crt')}",
            f"--etcd-servers={self._etcd_url}",
            f"--etcd-cafile={file('etcd-ca.crt')}",
            f"--etcd-certfile={file('etcd-client.crt')}",
            f"--etcd-keyfile={file('etcd-client.key')}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={file('service-account.key')}",
            f"--service-account-signing-key-file={file('service-account.key')}",
            "--service-cluster-ip-range=10.0.0.0/24",
            # Endpoints may not be on loopback, and it would try to publish its own for ever.
            "--endpoint-reconciler-type=none",
        ]
        if self._audit:
            command += [
                f"--audit-policy-file={_AUDIT_POLICY}",
                f"--audit-log-path={self.audit_log}",
                f"--audit-log-maxsize={_AUDIT_LOG_MEGABYTES}",
            ]
        return command

    def is_ready(self) -> bool:
        """See Server; it makes its first namespaces only after it says that it is ready."""
        paths = ("/readyz", "/api/v1/namespaces/default")
        return all(self._connection.request(path)[0] == 200 for path in paths)

    @cached_property
    def _connection(self) -> Connection:
        file = self._pki.file
        return Connection(
            self.port.number,
            authority=file("ca.crt"),
            certificate=file("admin.crt"),
            key=file("admin.key"),
        )
