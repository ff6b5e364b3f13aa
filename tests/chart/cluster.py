"""A cluster's administrator, who creates objects of any kind."""

import contextlib

from tests.chart.rendered import annotations
from tests.integration.harness.api import Api, ApiError, eventually


class Cluster:
    """Creates objects of any kind."""

    def __init__(self, plane):
        self.plane, self.api = plane, Api(plane.kubeconfig)
        self._known = {}

    def serves(self, *kinds):
        if not set(kinds) <= set(self._known):
            with contextlib.suppress(ApiError):  # a group is listed before it is served
                self._known = self._resources()
        return set(kinds) <= set(self._known)

    def namespace(self, name, **labels):
        with contextlib.suppress(ApiError):  # it exists
            self.api.request(
                "POST", "api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}
            )

    def create(self, body, **query):
        return self.api.request("POST", self.path(body), body, fieldValidation="Strict", **query)

    def path(self, body):
        assert self.serves(body["kind"])
        root, plural = self._known[body["kind"]]
        namespace = body["metadata"].get("namespace")
        return "/".join([root, *(["namespaces", namespace] if namespace else []), plural])

    def install(self, rendered):
        """Create the rendered objects, CRDs first, without the hooks of `helm test`."""
        own = [each for each in rendered.objects if "helm.sh/hook" not in annotations(each)]
        for body in sorted(own, key=lambda each: each["kind"] != "CustomResourceDefinition"):
            namespace = body["metadata"].get("namespace")
            if namespace:
                self.namespace(namespace)
            try:
                self.create(body)
            except ApiError as error:
                if not (error.status == 409 and body["kind"] == "CustomResourceDefinition"):
                    raise
        eventually(lambda: self.serves("WazzupAccount", "WazzupChannel"), "the kinds are served")

    def _resources(self):
        """Return path and plural of each served kind."""
        versions = ["api/v1"] + [
            f"apis/{version['groupVersion']}"
            for group in self.api.request("GET", "apis")["groups"]
            for version in group["versions"]
        ]
        return {
            each["kind"]: (version, each["name"])
            for version in reversed(versions)
            for each in self.api.request("GET", version)["resources"]
            if "/" not in each["name"]
        }
