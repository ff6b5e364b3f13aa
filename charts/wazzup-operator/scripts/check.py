"""Create channels in a dry run: valid ones must be accepted, invalid ones refused.

Stores nothing. If the check still fails after a minute, exits with 1 and the reason.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE = os.environ["NAMESPACE"]
PATIENCE = 60
TIMEOUT = 40
"""Seconds for one answer: the API server waits up to 30 s for the webhook."""

PROBLEMS = {
    0: f"The API server does not answer within {TIMEOUT} s: check that it reaches the webhook.",
    401: "The API server does not know this Pod's service account.",
    403: f"This Pod may not create WazzupChannels in {NAMESPACE}: set rbac.create=true.",
    404: "The API server does not serve WazzupChannels: install the CRDs (crds.enabled=true).",
}


def create(phone: str) -> tuple[int, str]:
    """Return status and message of the API server's answer; status 0 without an answer."""
    host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    channel = {
        "apiVersion": "wazzup.dev/v1",
        "kind": "WazzupChannel",
        "metadata": {"generateName": "check-"},
        "spec": {"phoneNumber": phone},
    }
    request = urllib.request.Request(
        f"https://{host}/apis/wazzup.dev/v1/namespaces/{NAMESPACE}/wazzupchannels?dryRun=All",
        json.dumps(channel).encode(),
        {
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/json",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(  # noqa: S310 - https
            request, context=context, timeout=TIMEOUT
        ) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal).get("message", "")
    except OSError as error:
        return 0, str(error)


def check() -> str | None:
    """Return what is wrong, or None."""
    status, message = create("+12025550199")
    if status != 201:
        return PROBLEMS.get(status, f"A valid channel is refused ({status}): {message}")
    status, message = create("no number")
    if status != 422:
        return f"A wrong phone number is accepted ({status}): apply this chart's CRDs."
    if os.environ["WEBHOOK"] != "true":
        return None
    status, message = create("+99912345678")
    if status != 422 or "admission webhook" not in message:
        return (
            f"An impossible number is accepted ({status}): the webhook is not called."
            " Check that it is ready and its configuration has a caBundle."
        )
    return None


deadline = time.monotonic() + PATIENCE
while problem := check():
    if time.monotonic() > deadline:
        sys.exit(problem)
    time.sleep(1)
print("Valid WazzupChannels are accepted, and invalid ones are refused.")  # noqa: T201
