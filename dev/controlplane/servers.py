"""etcd and kube-apiserver as child processes, each on its own port."""

import contextlib
import http.client
import json
import os
import shutil
import ssl
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from dev.controlplane.certificates import Pki
from dev.processes.port import Port
from dev.processes.process import Process, StartError

_START_DEADLINE = 60.0
_STOP_GRACE = 5.0
_GRPC_OUT_OF_RANGE = 11
_AUDIT_POLICY = Path(__file__).with_name("audit-policy.yaml")
# More than any run writes, so that the log is never rotated.
_AUDIT_LOG_MEGABYTES = 10_000


class Connection:
    """HTTPS requests to a port of 127.0.0.1.

    `authority`, `certificate` and `key` are PEM files: the server's CA and the client's pair.
    """

    def __init__(self, port: int, *, authority: Path, certificate: Path, key: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(authority))
        # The default from Python 3.13 on, which all clients must accept.
        self._context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._context.load_cert_chain(certificate, key)

    def request(self, path: str, body: str | None = None) -> tuple[int, str]:
        """Send a GET, or a POST if there is a JSON `body`; return status and body.

        Raises OSError or HTTPException if no answer comes within 5 seconds.
        """
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._port, context=self._context, timeout=5
        )
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


class Server(ABC):
    """A server on its own port, with its log in `directory`."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.port = Port()
        self.process = Process(self.name, directory / f"{self.name}.log")

    @property
    def url(self) -> str:
        """Its URL, which survives restarts."""
        return f"https://127.0.0.1:{self.port.number}"

    @abstractmethod
    def command(self, program: Path) -> list[str]:
        """Return the command that runs `program` as this server."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it is ready. Raises OSError while nothing answers."""

    def start(self, program: Path) -> None:
        """Run `program` and return once it is ready.

        Raises StartError if it exits first or is not ready within a minute.
        """
        # etcd reads every ETCD_* variable as a setting.
        env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        self.process.launch(self.command(program), env)
        self.process.wait_until(self._answers, f"{self.name} is not ready", _START_DEADLINE)

    def stop(self) -> None:
        """Stop it with SIGTERM, after some seconds with SIGKILL."""
        self.process.stop(_STOP_GRACE)

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except (OSError, http.client.HTTPException):
            return False


class Etcd(Server):
    """A single-member etcd cluster, with its data in `directory`."""

    name = "etcd"

    def __init__(self, directory: Path, pki: Pki) -> None:
        super().__init__(directory)
        self._data = directory / "etcd"
        self._pki = pki

    def command(self, program: Path) -> list[str]:
        """See Server."""
        return [
            str(program),
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            "--socket-reuse-port=true",
            # There are no peers, so any port will do.
            "--listen-peer-urls=https://127.0.0.1:0",
            *self._tls("--"),
            *self._tls("--peer-"),
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ]

    def is_ready(self) -> bool:
        """See Server."""
        status, _ = self._connection.request("/health")
        return status == 200

    def revision(self) -> int:
        """Return the revision of the last write: the highest resource version so far."""
        _, status = self._connection.request("/v3/maintenance/status", "{}")
        return int(json.loads(status)["header"]["revision"])

    def compact(self) -> None:
        """Drop the history: only the newest version of each key is left."""
        body = json.dumps({"revision": self.revision(), "physical": True})
        code, answer = self._connection.request("/v3/kv/compaction", body)
        # Out of range means that nothing was written since the last compaction.
        if code != 200 and json.loads(answer)["code"] != _GRPC_OUT_OF_RANGE:
            raise StartError(f"etcd cannot compact its history: {answer}")

    def put(self, values: Sequence[tuple[str, bytes]]) -> None:
        """Store values by key, at most 128 at once."""
        puts = [
            {"requestPut": {"key": _base64(key.encode()), "value": _base64(value)}}
            for key, value in values
        ]
        self._post("/v3/kv/txn", {"success": puts})

    def delete(self, prefix: str) -> None:
        """Delete all keys with this prefix, which must end with a slash."""
        after = prefix.removesuffix("/") + "0"  # the next character
        ends = {"key": _base64(prefix.encode()), "range_end": _base64(after.encode())}
        self._post("/v3/kv/deleterange", ends)

    def _post(self, path: str, body: object) -> None:
        def accepted() -> bool:
            try:
                code, answer = self._connection.request(path, json.dumps(body))
            except (OSError, http.client.HTTPException):
                return False  # busy; what is sent here may be sent again
            if code != 200:
                raise StartError(f"etcd refused a request: {answer}")
            return True

        self.process.wait_until(accepted, "etcd does not answer", _START_DEADLINE)

    def save(self, snapshot: Path) -> None:
        """Copy the data to a new directory, as a crash at this moment would leave it."""
        self.process.suspend()
        try:
            shutil.copytree(self._data, snapshot)
        finally:
            self.process.resume()

    def replace_data(self, snapshot: Path) -> None:
        """Replace the data by a snapshot; call it while etcd is stopped."""
        shutil.rmtree(self._data)
        shutil.copytree(snapshot, self._data)

    def _tls(self, prefix: str) -> list[str]:
        return [
            f"{prefix}cert-file={self._pki.file('etcd.crt')}",
            f"{prefix}key-file={self._pki.file('etcd.key')}",
            f"{prefix}trusted-ca-file={self._pki.file('etcd-ca.crt')}",
            f"{prefix}client-cert-auth=true",
        ]

    @cached_property
    def _connection(self) -> Connection:
        file = self._pki.file
        return Connection(
            self.port.number,
            authority=file("etcd-ca.crt"),
            certificate=file("etcd-client.crt"),
            key=file("etcd-client.key"),
        )


class ApiServer(Server):
    """An API server that stores its objects in the etcd at `etcd_url`."""

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
            # Otherwise it looks for a public address, and exits if the machine has none.
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
            # It would retry forever to publish its endpoint, which must not be a loopback address.
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
        """See Server. The default namespace is created only after /readyz succeeds."""
        paths = ("/readyz", "/api/v1/namespaces/default")
        return all(self._connection.request(path)[0] == 200 for path in paths)

    def token(self, namespace: str, account: str) -> str:
        """Return a new token of a service account. Raises StartError if the request fails."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        code, answer = self._connection.request(path, json.dumps(body))
        if code != 201:
            raise StartError(f"No token was issued for {namespace}/{account}: {answer}")
        return str(json.loads(answer)["status"]["token"])

    @cached_property
    def _connection(self) -> Connection:
        file = self._pki.file
        return Connection(
            self.port.number,
            authority=file("ca.crt"),
            certificate=file("admin.crt"),
            key=file("admin.key"),
        )
