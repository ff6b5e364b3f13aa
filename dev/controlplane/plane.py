"""A control plane: etcd and kube-apiserver on 127.0.0.1."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from dev.controlplane.binaries import ensure
from dev.controlplane.build import Progress, lock_now
from dev.controlplane.certificates import Pki, write_kubeconfig
from dev.controlplane.servers import ApiServer, Etcd
from dev.processes.process import StartError


class ControlPlane:
    """etcd and kube-apiserver with RBAC, TLS and the default admission plugins.

    All files are in `directory`, which only one control plane may use at a time. Objects survive
    `stop`, certificates do not. `with` starts and stops it; an instance cannot be restarted. Both
    processes are killed when the parent dies.
    """

    def __init__(
        self, directory: Path | str, *, audit: bool = True, progress: Progress | None = None
    ) -> None:
        self._directory = Path(directory).resolve()
        self._progress = progress
        self._lock: IO[str] | None = None
        self._snapshots = 0
        self._pki = Pki(self._directory / "pki")
        self._etcd = Etcd(self._directory, self._pki)
        self._apiserver = ApiServer(self._directory, self._pki, self._etcd.url, audit=audit)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both; return once the API server is ready and has its default namespace.

        Builds the programs first if necessary. If one does not start, stops the other and raises
        StartError.
        """
        try:
            binaries = ensure(self._progress)
            self._take_directory()
            self._pki.write()
            self._write_kubeconfig(self.kubeconfig, "admin", self._pki.admin.credentials)
            self._etcd.start(binaries.etcd)
            self._apiserver.start(binaries.kube_apiserver)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both with SIGTERM, after some seconds with SIGKILL."""
        self._etcd.process.resume()  # the API server stops faster while etcd answers
        for server in (self._apiserver, self._etcd):
            server.stop()
            server.port.release()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def start_apiserver(self) -> None:
        """Restart the API server, at the same address and with the same objects."""
        self._apiserver.start(ensure(self._progress).kube_apiserver)

    def stop_apiserver(self) -> None:
        """Stop the API server with SIGTERM, as a rolling update does."""
        self._apiserver.stop()

    def kill_apiserver(self) -> None:
        """Kill the API server with SIGKILL, like a crash."""
        self._apiserver.process.kill()

    def suspend_etcd(self) -> None:
        """Suspend etcd until `resume_etcd`: requests that need it hang, connections stay open."""
        self._etcd.process.suspend()

    def resume_etcd(self) -> None:
        """Resume etcd after `suspend_etcd`."""
        self._etcd.process.resume()

    def compact(self) -> None:
        """Drop etcd's history: only the newest version of each object is left.

        A running API server still serves from its watch cache. A restarted one answers 410 to a
        list at an older resource version and to its continuation. (It answers 410 to a watch from
        an older resource version even without this, because its watch cache starts empty.)
        """
        self._etcd.compact()

    def save_etcd(self) -> Path:
        """Return a new snapshot of etcd's data, for `restore_etcd`."""
        self._snapshots += 1
        snapshot = self._directory / f"snapshot-{self._snapshots}"
        self._etcd.save(snapshot)
        return snapshot

    def restore_etcd(self, snapshot: Path) -> int:
        """Restore a snapshot, as after a disaster; return the newest resource version in it.

        The API server must not run, or serves what it knew before.
        """
        self._etcd.stop()
        self._etcd.replace_data(snapshot)
        self._etcd.start(ensure(self._progress).etcd)
        return self._etcd.revision()

    def store(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Put objects into etcd, by key, as the API server would store them.

        This is ten times as fast as creating them.
        """
        remaining = iter(objects)
        while batch := list(islice(remaining, 100)):
            self._etcd.put(batch)

    def erase(self, prefix: str) -> None:
        """Delete objects from etcd by the beginning of their keys, which must end with a slash."""
        self._etcd.delete(prefix)

    def failure(self) -> str | None:
        """Return a sentence about a server that exited unexpectedly; None while both run."""
        for server in (self._etcd, self._apiserver):
            if failure := server.process.failure():
                return f"{failure}; its log is {server.process.log_file}."
        return None

    @property
    def url(self) -> str:
        """The address of the API server."""
        return self._apiserver.url

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._directory / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """All answered requests, as lines of audit.k8s.io/v1 Events (see audit-policy.yaml)."""
        return self._apiserver.audit_log

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a user in these groups, with the permissions that RBAC grants."""
        name = "+".join(quote(part, safe="") for part in (user, *groups))
        path = self._directory / f"kubeconfig-{name}"
        self._write_kubeconfig(path, user, self._pki.client(user, tuple(groups)).credentials)
        return path

    def kubeconfig_for_account(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig for a service account, with a token like a kubelet's."""
        path = self._directory / f"kubeconfig-{namespace}-{name}"
        self._write_kubeconfig(path, name, {"token": self.token(namespace, name)})
        return path

    def token(self, namespace: str, name: str) -> str:
        """Return a new token of a service account."""
        return self._apiserver.token(namespace, name)

    def _write_kubeconfig(self, path: Path, user: str, credentials: Mapping[str, str]) -> None:
        authority = self._pki.authority
        write_kubeconfig(
            path, url=self.url, authority=authority, user=user, credentials=credentials
        )

    def _take_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self._directory / "lock").open("w")
        except OSError as error:
            raise StartError(
                f"{self._directory} cannot be used as the directory: {error.strerror}."
            ) from error
        if not lock_now(self._lock):
            raise StartError(
                f"Another control plane uses {self._directory}: stop it or name another directory."
            )
