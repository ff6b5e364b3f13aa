"""Errors of requests to the API server."""


class KubeError(Exception):
    """A request to the API server failed; the message is one sentence."""


class ConnectionFailed(KubeError):
    """The API server is unreachable, or did not answer in time."""


class Refused(KubeError):
    """The API server returned the HTTP error `status`. `retry_after` is in seconds."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Deposed(KubeError):
    """The request was not sent, because this replica is no longer the leader."""


class LeadershipLost(Exception):
    """The leader could not keep its Lease; the message says why."""


class EtcdRestored(Exception):
    """Versions went back, so this process may know objects that are gone."""


class ConfigurationMissing(KubeError):
    """The process runs outside a cluster and has no usable kubeconfig."""
