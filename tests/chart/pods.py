"""Pods of rendered manifests, as processes of this machine.

Command, arguments, environment, ports and probes come from the manifest. As a kubelet does, this
gives each Pod an address (in 127.0.0.0/8), a service account's token, the downward API and mounted
Secrets. Arguments are changed only to name that address and the directories of the mounts.
"""

import base64
import subprocess

from dev.processes.operator import BIN, bound, get, pod_address
from dev.processes.process import Process
from tests.integration.harness.api import ApiError


class Pod(Process):
    """The one container of a Pod, as a process."""

    programs = BIN
    """The directory of the image's programs."""

    def __init__(self, cluster, spec, name, namespace, directory):
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        super().__init__(name, self.directory / "log")
        self.cluster, self.spec, self.namespace = cluster, spec, namespace
        (self.container,) = spec["containers"]
        self.address = pod_address()

    def start(self):
        self.refresh()
        program, *command = self.container.get("command", ["wazzup-operator"])
        arguments = [self._localized(word) for word in self.container.get("args", [])]
        self.launch([self.programs / program, *command, *arguments], self.environment(), "/")

    def run(self, command):
        """Run a command in the container until it exits."""
        program, *words = command
        return subprocess.run(
            [self.programs / program, *words],
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
        )

    def environment(self):
        """Return the variables that manifest and kubelet set."""
        found = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": "/"}
        if "serviceAccountName" in self.spec:
            found["KUBECONFIG"] = str(self._kubeconfig())
        for variable in self.container.get("env", []):
            found[variable["name"]] = self._value(variable)
        return found

    def _value(self, variable):
        if "value" in variable:
            return variable["value"]
        fields = {"metadata.name": self.name, "metadata.uid": f"uid-of-{self.name}"}
        return fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]

    def secret(self, name):
        path = f"api/v1/namespaces/{self.namespace}/secrets/{name}"
        data = self.cluster.api.request("GET", path).get("data", {})
        return {key: base64.b64decode(value) for key, value in data.items()}

    def refresh(self):
        """Mount the current Secrets, each file atomically; a missing key has no file."""
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            source = volumes[mount["name"]]["secret"]
            directory = self._mounted(mount["mountPath"])
            directory.mkdir(exist_ok=True)
            try:
                data = self.secret(source["secretName"])
            except ApiError as error:
                if error.status != 404 or not source.get("optional"):
                    raise
                data = {}
            for item in source["items"]:
                file = directory / item["path"]
                if item["key"] in data:
                    new = directory / ".new"
                    new.write_bytes(data[item["key"]])
                    new.rename(file)
                else:
                    file.unlink(missing_ok=True)

    def _mounted(self, path):
        return self.directory / path.strip("/").replace("/", "-")

    def _localized(self, word):
        for variable, value in self.environment().items():
            word = word.replace(f"$({variable})", value)
        for path in [mount["mountPath"] for mount in self.container.get("volumeMounts", [])]:
            word = word.replace(path, str(self._mounted(path)))
        return bound(word, self.address)

    def _kubeconfig(self):
        account = self.spec["serviceAccountName"]
        return self.cluster.plane.kubeconfig_for_account(self.namespace, account)

    def port(self, name):
        (port,) = [each for each in self.container["ports"] if each["name"] == name]
        return port["containerPort"]

    def probe(self, which):
        """Return status and text of a probe; status 0: no answer."""
        get = self.container[which]["httpGet"]
        return self.get(get["port"], get["path"])

    def get(self, port, path):
        return get(f"http://{self.address}:{self.port(port)}{path}")

    def wait_for(self, which, seconds=60):
        """Wait until a probe succeeds."""
        self.wait_until(lambda: self.probe(which)[0] == 200, f"{which} fails", seconds)

    def stop(self, grace=None):
        """Stop it within its grace period; return its exit code."""
        return super().stop(grace or self.spec.get("terminationGracePeriodSeconds", 30))


def replicas(cluster, rendered, deployment, directory):
    """Return the Pods of a rendered Deployment."""
    body = rendered.one("Deployment", deployment)
    return [
        Pod(
            cluster,
            body["spec"]["template"]["spec"],
            f"{deployment}-{number}",
            body["metadata"]["namespace"],
            directory,
        )
        for number in range(body["spec"]["replicas"])
    ]
