"""One release of the chart, and the Pods of its Deployments as processes."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import yaml

from dev.controlplane.binaries import helm
from dev.controlplane.plane import ControlPlane
from tests.chart.cluster import Cluster
from tests.chart.pods import Pod
from tests.integration.harness.api import JSON, ApiError, eventually
from tests.integration.harness.crds import CRDS
from tests.upgrade.versions import Version

RELEASE, SYSTEM = "wz", "wz-system"
OPERATOR = f"system:serviceaccount:{SYSTEM}:{RELEASE}-controller"
DEPLOYMENTS = f"apis/apps/v1/namespaces/{SYSTEM}/deployments"
SERVICE = f"api/v1/namespaces/{SYSTEM}/services/{RELEASE}-webhook"
LEASE = f"apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{RELEASE}"
MERGE = "application/merge-patch+json"
REINITIALIZED = 5.0
"""Seconds after a change of the CRDs in which the API server may refuse lists (429)."""

PATIENCE = 120.0
"""Seconds until a webhook is ready: its CA is trusted for 30 s before its certificate is served."""


class Replica(Pod):
    """A Pod of one version, which the audit log identifies by a group of its name."""

    def __init__(self, version: Version, spec: JSON, name: str, release: "Release") -> None:
        super().__init__(release.cluster, spec, name, SYSTEM, release.directory)
        self.programs = version.programs

    def _kubeconfig(self) -> Path:
        account = f"system:serviceaccount:{SYSTEM}:{self.spec['serviceAccountName']}"
        return self.cluster.plane.kubeconfig_for(account, [self.name])


class Release:
    """A release that helm installs, upgrades and rolls back."""

    def __init__(self, plane: ControlPlane, directory: Path, values: Sequence[str]) -> None:
        self.plane, self.cluster, self.directory = plane, Cluster(plane), directory
        self.api = self.cluster.api
        self.leader: Replica
        self.standby: Replica | None = None
        self.webhook: Replica | None = None
        self.pods: list[Replica] = []
        """All that were ever started."""

        self._crd_changes: list[tuple[float, float]] = []
        self._values = values
        self._kubeconfig = str(plane.kubeconfig)
        self._specs: dict[tuple[str, str], JSON] = {}
        """The Pods' specifications by version and component."""

    def helm(self, *words: str) -> None:
        """Run helm without the user's configuration."""
        home = str(self.directory)
        subprocess.run(
            [helm(), *words, f"--namespace={SYSTEM}"],
            env={
                **os.environ,
                "HOME": home,
                "HELM_CACHE_HOME": home,
                "HELM_CONFIG_HOME": home,
                "KUBECONFIG": self._kubeconfig,
            },
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @contextmanager
    def _changes_crds(self) -> Iterator[None]:
        begun = time.time()
        yield
        self._crd_changes.append((begun, time.time() + REINITIALIZED))

    def may_refuse_lists(self, moment: float) -> bool:
        """Return whether the CRDs had just changed at this moment."""
        return any(begun <= moment <= end for begun, end in self._crd_changes)

    def install(self, version: Version) -> None:
        """Install the release, with the version's CRDs."""
        self.cluster.namespace(SYSTEM)
        self._apply("install", version)
        eventually(lambda: self.cluster.serves("WazzupAccount", "WazzupChannel"), "the kinds")

    def upgrade(self, version: Version, *values: str) -> None:
        """Upgrade the release with additional values."""
        self._apply("upgrade", version, *values)

    def _apply(self, action: str, version: Version, *values: str) -> None:
        words = [f"--set={value}" for value in (*self._values, *values)]
        with self._changes_crds():
            self.helm(action, RELEASE, str(version.chart), *words)
        for component in ("controller", "webhook"):
            body = self.api.request("GET", f"{DEPLOYMENTS}/{RELEASE}-{component}")
            self._specs[version.name, component] = body["spec"]["template"]["spec"]

    def rollback(self) -> None:
        """Return to the revision before this one."""
        with self._changes_crds():
            self.helm("rollback", RELEASE)

    def apply_crds(self, version: Version) -> None:
        """Apply the version's CRDs as kubectl does."""
        bodies = [yaml.safe_load(file.read_text()) for file in sorted(version.crds.glob("*.yaml"))]
        query = {"fieldManager": "kubectl", "force": "true"}
        with self._changes_crds():
            for body in bodies:
                path = f"{CRDS}/{body['metadata']['name']}"
                self.api.request("PATCH", path, body, "application/apply-patch+yaml", **query)

    def lead(self, version: Version) -> None:
        """Start the first replica."""
        self.leader = self._start(version, "controller")
        self._wait_leads(self.leader)

    def stand_by(self, version: Version) -> None:
        """Start a standby; the present one is stopped."""
        if self.standby:
            self.standby.stop()
        self.standby = self._start(version, "controller")
        self.standby.wait_for("readinessProbe")

    def stop_leader(self) -> None:
        """Stop the leader in order; the standby takes over."""
        self.leader.stop()
        self._take_over()

    def kill_leader(self) -> None:
        """Kill the leader; the standby takes over."""
        self.leader.kill()
        self._take_over()

    def _take_over(self) -> None:
        assert self.standby
        self._wait_leads(self.standby)
        self.leader, self.standby = self.standby, None

    def _wait_leads(self, replica: Replica) -> None:
        def look() -> bool:
            with suppress(ApiError):  # the first leader creates the Lease
                holder = self.api.request("GET", LEASE)["spec"].get("holderIdentity") or ""
                return holder.split("_")[0] == replica.name
            return False

        eventually(look, f"{replica.name} leads", 40)

    def review(self, version: Version) -> None:
        """Replace the webhook, as soon as the new one is ready."""
        webhook = self._start(version, "webhook")
        webhook.wait_for("readinessProbe", PATIENCE)
        spec = {"type": "ExternalName", "externalName": webhook.address}
        cleared = {"clusterIP": None, "clusterIPs": None}
        self.api.request("PATCH", SERVICE, {"spec": spec | cleared}, MERGE)
        if self.webhook:
            self.webhook.stop()
        self.webhook = webhook

    def _start(self, version: Version, component: str) -> Replica:
        number = sum(each.name.startswith(f"{version.name}-{component}") for each in self.pods)
        spec = self._specs[version.name, component]
        replica = Replica(version, spec, f"{version.name}-{component}-{number}", self)
        replica.start()
        self.pods.append(replica)
        return replica

    @contextmanager
    def kubelet(self) -> Iterator[None]:
        """Keep mounted Secrets current until the block ends, then stop all Pods."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(1):
                for pod in list(self.pods):
                    with suppress(ApiError, OSError, HTTPException):  # tried again
                        if pod.runs:
                            pod.refresh()

        thread = threading.Thread(target=run, name="kubelet", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for pod in self.pods:
                pod.stop()
