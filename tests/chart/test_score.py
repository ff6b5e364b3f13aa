"""kube-score on the rendered objects; kube-score.yaml has the accepted findings, with reasons.

kubeconform is not used: the API server itself validates in test_apiserver.py.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.controlplane.binaries import kube_score
from tests.chart.rendered import VALUES

REASONS = yaml.safe_load(Path(__file__).with_name("kube-score.yaml").read_text())
NETWORK_POLICY = "networkPolicy.enabled=true"


@pytest.fixture(scope="module")
def found(render):
    """Yield check and object of each finding."""

    def found(*values, files=()):
        command = [
            kube_score(),
            "score",
            "-",
            "--output-format=json",
            "--kubernetes-version=v1.32",
            "--enable-optional-test=container-seccomp-profile",
            # A throttled leader might not renew its Lease in time.
            "--ignore-container-cpu-limit",
        ]
        text = render(*values, files=files).text
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert done.stdout, done.stderr
        for each in json.loads(done.stdout):
            for check in each["checks"]:
                if check["grade"] < 10 and not check["skipped"]:
                    yield check["check"]["id"], each["object_meta"]["name"]

    return found


def reason(check, name):
    """Return the entry of kube-score.yaml that accepts a finding, or None."""
    return next((suffix for suffix in REASONS.get(check, ()) if name.endswith(suffix)), None)


def test_every_finding_has_a_reason_and_every_reason_a_finding(found):
    used = set()
    for file in VALUES:
        for check, name in found(NETWORK_POLICY, files=(file,)):
            suffix = reason(check, name)
            assert suffix is not None, f"{file.name}: {check} of {name}"
            used.add((check, suffix))
    assert used == {(check, suffix) for check, each in REASONS.items() for suffix in each}


def test_missing_hardening_is_found(found):
    worse = "securityContext.readOnlyRootFilesystem=false"
    check = "container-security-context-readonlyrootfilesystem"
    assert (check, "wz-controller") in set(found(worse))
