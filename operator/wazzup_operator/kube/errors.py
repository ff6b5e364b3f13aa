"""What can go wrong with the API server."""


class KubeError(Exception):
    """The API server gave no usable answer; the message is one sentence."""


class ConnectionFailed(KubeError):
    """It could not be reached, or did not answer in time."""


class Refused(KubeError):
    """It answered with an error. `status` is the HTTP code, `retry_after` in seconds or None."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Expired(KubeError):
    """The resourceVersion is too old (410): list again."""


class Deposed(KubeError):
    """Nothing was sent, as this replica may not act any more."""


class LeadershipLost(Exception):
    """The replica was the leader and may not act any more; the message says why."""


class ConfigurationMissing(KubeError):
    """There is neither a cluster around the process nor a kubeconfig."""
