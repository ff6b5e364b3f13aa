"""The hostile tenant's namespace, rights and process."""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dev.controlplane.plane import ControlPlane
from dev.processes.process import Process
from tests.drills.tenant import NAMESPACE, USER
from tests.drills.traffic import UNREACHABLE
from tests.integration.harness.api import Api, ApiError, eventually, secret
from tests.integration.harness.release import RIGHTS
from tests.integration.harness.webhook import RELEASE
from tests.integration.harness.world import ROOT

GROUP, UNWATCHED = "wazzup.dev", "unwatched.dev"
PATIENCE = 300.0
EDIT = ("system:aggregate-to-edit", f"{RELEASE}-edit", f"{RELEASE}-view", UNWATCHED)
"""What the ClusterRole `edit` consists of, without the controller that aggregates it."""


class Tenancy:
    """A namespace in which the hostile tenant may work."""

    def __init__(self, plane: ControlPlane, directory: Path, channel_id: str) -> None:
        self._api = Api(plane.kubeconfig, NAMESPACE)
        self._kubeconfig = plane.kubeconfig_for(USER)
        self._directory = directory
        self._channel_id = channel_id
        self._attacks = itertools.count(1)

    def make(self, key: str) -> None:
        """Create the namespace, the tenant's rights in it, and its Secret."""
        self._api.request("POST", "api/v1/namespaces", {"metadata": {"name": self._api.namespace}})
        rules = {"apiGroups": [UNWATCHED], "resources": ["*"], "verbs": ["*"]}
        role = {"metadata": {"name": UNWATCHED}, "rules": [rules]}
        self._api.request("POST", f"{RIGHTS}/clusterroles", role)
        for name in EDIT:
            self._api.request(
                "POST",
                f"{RIGHTS}/namespaces/{self._api.namespace}/rolebindings",
                {
                    "metadata": {"name": name},
                    "subjects": [{"kind": "User", "name": USER}],
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "ClusterRole",
                        "name": name,
                    },
                },
            )
        self._api.create(secret(key))

    @contextlib.contextmanager
    def working(self, group: str) -> Iterator[dict[str, int]]:
        """Let the tenant work during the block; yield what it did, which is complete afterwards."""
        process = Process("the tenant", self._directory / f"tenant-{next(self._attacks)}.log")
        words = [sys.executable, "-m", "tests.drills.tenant", str(self._kubeconfig)]
        process.launch([*words, group, self._channel_id], os.environ, ROOT)
        done: dict[str, int] = {}
        try:
            process.wait_until(lambda: "{" in process.log(), "the tenant does not work", PATIENCE)
            yield done
            assert process.runs, process.log()
        finally:
            process.kill()
        done |= json.loads(process.log().splitlines()[-1])

    def clean(self, group: str) -> None:
        """Delete its objects."""
        for plural in ("wazzupchannels", "wazzupaccounts"):
            path = f"apis/{group}/v1/namespaces/{self._api.namespace}/{plural}"
            eventually(partial(self._is_empty, path), "the tenant's objects are deleted", PATIENCE)

    def _is_empty(self, path: str) -> bool:
        """Delete what the path has; return whether there was nothing."""
        with contextlib.suppress(ApiError, *UNREACHABLE):  # deleting thousands takes several tries
            if not self._api.request("GET", path, limit="1")["items"]:
                return True
            self._api.request("DELETE", path)
        return False
