"""etcd, for one API server and without care for a power cut."""

import json
from functools import cached_property
from pathlib import Path

from dev.controlplane.connection import Connection
from dev.controlplane.errors import ControlPlaneError
from dev.controlplane.pki import Pki
from dev.controlplane.server import Server

_GRPC_OUT_OF_RANGE = 11


class Etcd(Server):
    """A cluster of one, with its data in `directory`."""

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
            # Nobody ever speaks to it there, so any port will do.
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

    def compact(self) -> None:
        """Drops all history: only the newest version of each key is left."""
        _, status = self._connection.request("/v3/maintenance/status", "{}")
        revision = json.loads(status)["header"]["revision"]
        body = json.dumps({"revision": revision, "physical": True})
        code, answer = self._connection.request("/v3/kv/compaction", body)
        # Out of range: nothing was written since the last time.
        if code != 200 and json.loads(answer)["code"] != _GRPC_OUT_OF_RANGE:
            raise ControlPlaneError(f"etcd did not compact its history: {answer}")

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
