"""The webhook as a process, its certificates and its configuration."""

import base64
import copy
import http.client
import itertools
import json
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dev.controlplane.plane import ControlPlane
from dev.processes.port import free_port
from tests.admission_cases import IMPOSSIBLE
from tests.integration.harness.api import JSON, Api, ApiError, channel, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.release import ACCOUNTS, Given, given, rendered
from wazzup_operator.certificates.issue import Pair, dump_bundle, make_authority, make_serving

CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RELEASE = "wazzup"
USER = f"{ACCOUNTS}{RELEASE}-webhook"
PATIENCE = 30.0
NINETY_DAYS = timedelta(days=90)


class Authority:
    """A CA that issues certificates for localhost."""

    def __init__(self) -> None:
        self._pair = make_authority(datetime.now(UTC))
        self.certificate = dump_bundle([self._pair.certificate])

    def serving(self) -> Pair:
        return make_serving(self._pair, ["localhost"], datetime.now(UTC), NINETY_DAYS)

    def expired(self) -> Pair:
        """Issue a pair that expired yesterday."""
        then = datetime.now(UTC) - timedelta(days=2)
        return make_serving(self._pair, ["localhost"], then, timedelta(days=1))


class CertificateDirectory:
    """A Secret as the kubelet mounts it: a symbolic link switches all files at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._versions = itertools.count()
        path.mkdir()

    def mount(self, pair: Pair) -> None:
        self.write(dump_bundle([pair.certificate]), pair.key_pem)

    def write(self, certificate: bytes, key: bytes) -> None:
        version = self.path / f"..version-{next(self._versions)}"
        version.mkdir()
        (version / "tls.crt").write_bytes(certificate)
        (version / "tls.key").write_bytes(key)
        link = self.path / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.path / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")

    def clear(self) -> None:
        """Remove both files, as when the Secret has lost its keys."""
        for name in ("tls.crt", "tls.key"):
            (self.path / name).unlink(missing_ok=True)


class Webhook(Controller):
    """One `wazzup-operator webhook`; its log goes to a file.

    It serves the pair in `certificates` for localhost; its clients trust `trusted`.
    """

    def __init__(
        self, given: Given, directory: Path, authority: Authority | None, *flags: str
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.certificates = CertificateDirectory(directory / "certificates")
        # The last of two equal flags wins: these replace the addresses and paths of a Pod.
        super().__init__(
            given.kubeconfig,
            directory / "webhook.log",
            *given.arguments,
            f"--webhook-address=127.0.0.1:{self.port}",
            f"--cert-dir={self.certificates.path}",
            *flags,
            environment=given.environment,
            subcommand="webhook",
        )
        if authority:
            self.certificates.mount(authority.serving())
        self.trusted = authority.certificate if authority else b""

    def stop(self, grace: float = PATIENCE) -> int:
        return super().stop(grace)

    def resident(self) -> int:
        """Return its resident memory in KiB."""
        words = ["ps", "-o", "rss=", "-p", str(self.pid)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    def post(self, path: str, body: object, timeout: float = PATIENCE) -> tuple[int, str]:
        """Post to it directly, over a new connection."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=timeout, context=trusting(self.trusted)
        )
        try:
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def review(self, review: JSON) -> JSON:
        """Send a review; return the response in its answer."""
        kind = review["request"]["resource"]["resource"].removeprefix("wazzup").removesuffix("s")
        status, text = self.post(f"/{kind}", review)
        assert status == 200, text
        answer: JSON = json.loads(text)["response"]
        assert answer["uid"] == review["request"]["uid"]
        return answer


def trusting(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


_reviews = itertools.count()


def review(operation: str, new: JSON | None, old: JSON | None = None, **request: object) -> JSON:
    """Return an AdmissionReview as the API server sends it."""
    body = new or old
    assert body
    uid = f"review-{next(_reviews)}"
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "resource": {
                "group": "wazzup.dev",
                "version": "v1",
                "resource": f"{body['kind'].lower()}s",
            },
            "operation": operation,
            "namespace": body["metadata"]["namespace"],
            "name": body["metadata"]["name"],
            "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": new,
            "oldObject": old,
            "dryRun": False,
            **request,
        },
    }


def stored(body: JSON, namespace: str, **metadata: object) -> JSON:
    """Return an object as the API server sends it in a review."""
    body = copy.deepcopy(body)
    body["metadata"] |= {"namespace": namespace, "uid": f"uid-{next(_reviews)}", **metadata}
    return body


def of_chart(plane: ControlPlane) -> Given:
    """Return what the chart gives the webhook, for all namespaces."""
    return given(plane, RELEASE, "webhook")


def _rendered() -> JSON:
    documents = rendered(RELEASE)
    return next(each for each in documents if each["kind"] == "ValidatingWebhookConfiguration")


@dataclass
class Configuration:
    """The chart's webhook configuration in a cluster, pointed to a local port."""

    api: Api

    def point(
        self, port: int, bundle: bytes, path: str | None = None, policy: str | None = None
    ) -> None:
        """Apply it with the URL of a local port, and optionally another path or failurePolicy."""
        body = copy.deepcopy(_rendered())
        for webhook in body["webhooks"]:
            webhook["failurePolicy"] = policy or webhook["failurePolicy"]
            rendered = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {
                "url": f"https://localhost:{port}{rendered if path is None else path}",
                "caBundle": base64.b64encode(bundle).decode(),
            }
        self.api.request(
            "PATCH",
            f"{CONFIGURATIONS}/{body['metadata']['name']}",
            body,
            "application/apply-patch+yaml",
            fieldManager="tests",
            force="true",
        )

    def remove(self) -> None:
        name = _rendered()["metadata"]["name"]
        self.api.request("DELETE", f"{CONFIGURATIONS}/{name}")

    def wait_refusing(self) -> None:
        """Wait until the API server calls the webhook."""
        eventually(lambda: not self.admits_impossible(), "impossible numbers are refused", PATIENCE)

    def admits_impossible(self) -> bool:
        """Return whether a dry run with an impossible number is admitted."""
        try:
            self.api.request(
                "POST",
                self.api.path("wazzupchannel"),
                channel("impossible", IMPOSSIBLE),
                dryRun="All",
            )
        except ApiError as error:
            return "cannot be a phone number" not in error.message
        return True
