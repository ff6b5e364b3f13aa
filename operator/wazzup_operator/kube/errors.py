"""Errors of requests to the API server."""

import re

_REFUSED_BY = re.compile(
    r"""(?:[a-z.]+ "[a-z0-9.-]+" is forbidden: )?"""
    r"""((?:admission webhook|ValidatingAdmissionPolicy) ["'][a-z0-9.-]{1,253}["'])""",
    re.ASCII,
)
"""How the API server begins to say who refused. Later in a text, it may quote a user's words."""

APPLY_CRDS = (
    'apply the CRDs of this version (chart value crds.enabled, or the output of "wazzup-operator'
    ' crds")'
)


class KubeError(Exception):
    """A request to the API server failed; the message is one sentence that may be logged."""


class ConnectionFailed(KubeError):
    """The API server is unreachable, or did not answer in time."""


class TooLarge(KubeError):
    """The answer is larger than any that the operator needs."""


class Refused(KubeError):
    """The API server returned the HTTP error `status`. `retry_after` is in seconds.

    `text` is the API server's own sentence. It may quote the object, and so a phone number: it may
    go into a status, not into a log.
    """

    def __init__(self, status: int, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"the API server refused ({status}{_culprit(text)})")
        self.status = status
        self.text = text
        self.retry_after = retry_after


def _culprit(text: str) -> str:
    """Return the name of the admission webhook or policy that refused, if any."""
    found = _REFUSED_BY.match(text)
    return f", by {found[1]}" if found else ""


class Deposed(KubeError):
    """The request was not sent, because this replica is no longer the leader."""


class LeadershipLost(Exception):
    """The leader could not keep its Lease; the message says why."""


class EtcdRestored(Exception):
    """Versions went back, so this process may know objects that are gone."""


class ConfigurationMissing(KubeError):
    """The process runs outside a cluster and has no usable kubeconfig."""
